{{/*
The Deployment of a component. Takes a dict: root, component, values, port (of the metrics), args (list of flags), and for
the admission controller also containerPorts, volumes and volumeMounts (lists).
*/}}
{{- define "vpa.component.deployment" -}}
{{- $values := .values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "vpa.component.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "vpa.component.labels" . | nindent 4 }}
  {{- with $values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  replicas: {{ $values.replicas }}
  revisionHistoryLimit: {{ $values.revisionHistoryLimit }}
  {{- with $values.updateStrategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "vpa.component.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "vpa.component.selectorLabels" . | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      serviceAccountName: {{ include "vpa.component.name" . }}
      # Longer than a program takes to drain: requests in flight, pending writes, release of the lease.
      terminationGracePeriodSeconds: 30
      {{- with .root.Values.podSecurityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- if $values.hostNetwork }}
      hostNetwork: true
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ printf "%s:%s" $values.image.repository ($values.image.tag | default .root.Chart.AppVersion) | quote }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          env:
            - name: NAMESPACE
              valueFrom:
                fieldRef:
                  fieldPath: metadata.namespace
            {{- if ne .component "admission-controller" }}
            # What a cycle frees goes back to the node, instead of staying in a heap for each thread: a fifth less memory for
            # the same CPU time. The admission controller works on all threads at once and is better off with several heaps.
            - name: MALLOC_ARENA_MAX
              value: "1"
            - name: MALLOC_TRIM_THRESHOLD_
              value: "1000000"
            {{- end }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          args:
            - --log-format={{ $values.logFormat }}
            {{- range .args }}
            - {{ . | quote }}
            {{- end }}
            {{- if eq (include "vpa.component.elects" .) "true" }}
            - --leader-elect=true
            - --leader-elect-resource-namespace={{ include "vpa.component.leaseNamespace" . }}
            - --leader-elect-resource-name={{ $values.leaderElection.resourceName }}
            - --leader-elect-lease-duration={{ $values.leaderElection.leaseDuration }}
            - --leader-elect-renew-deadline={{ $values.leaderElection.renewDeadline }}
            - --leader-elect-retry-period={{ $values.leaderElection.retryPeriod }}
            {{- end }}
            {{- range $values.extraArgs }}
            - {{ . | quote }}
            {{- end }}
          ports:
            - name: prometheus
              containerPort: {{ .port }}
            {{- with .containerPorts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          livenessProbe:
            httpGet:
              path: /health-check
              port: prometheus
            initialDelaySeconds: 5
            periodSeconds: 10
            failureThreshold: 3
          readinessProbe:
            httpGet:
              path: /readyz
              port: prometheus
            periodSeconds: 5
            failureThreshold: 3
          {{- with $values.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with .root.Values.containerSecurityContext }}
          securityContext:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- with .volumeMounts }}
          volumeMounts:
            {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with .volumes }}
      volumes:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      affinity:
        {{- if $values.affinity }}
        {{- toYaml $values.affinity | nindent 8 }}
        {{- else }}
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - weight: 100
              podAffinityTerm:
                topologyKey: kubernetes.io/hostname
                labelSelector:
                  matchLabels:
                    {{- include "vpa.component.selectorLabels" . | nindent 20 }}
        {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}

{{/* ServiceAccount and PodDisruptionBudget of a component. Takes a dict: root, component, values. */}}
{{- define "vpa.component.common" -}}
{{- if .values.serviceAccount.create }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "vpa.component.name" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "vpa.component.labels" . | nindent 4 }}
    {{- with .values.serviceAccount.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with .values.podDisruptionBudget }}
{{- if and .enabled (gt (int $.values.replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "vpa.component.name" $ }}
  namespace: {{ $.root.Release.Namespace }}
  labels:
    {{- include "vpa.component.labels" $ | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" .maxUnavailable) }}
  maxUnavailable: {{ .maxUnavailable }}
  {{- else }}
  minAvailable: {{ .minAvailable }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "vpa.component.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- end }}
