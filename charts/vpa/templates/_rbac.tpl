{{/*
Roles and bindings of a component. Takes a dict: root, component, values, clusterRules (YAML text), and leaseRules (YAML
text; rules on leases in the release's namespace), which may be empty.
*/}}
{{- define "vpa.component.rbac" -}}
{{- if .root.Values.rbac.create }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ include "vpa.component.name" . }}
  labels:
    {{- include "vpa.component.labels" . | nindent 4 }}
rules:
  {{- .clusterRules | trim | nindent 2 }}
  {{- include "vpa.rules.targets" . | nindent 2 }}
  {{- with .root.Values.rbac.extraRules }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "vpa.component.name" . }}
  labels:
    {{- include "vpa.component.labels" . | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "vpa.component.name" . }}
subjects:
  - kind: ServiceAccount
    name: {{ include "vpa.component.name" . }}
    namespace: {{ .root.Release.Namespace }}
{{- with .leaseRules }}
{{ include "vpa.component.namespacedRole" (dict "scope" $ "suffix" "status" "namespace" $.root.Release.Namespace "rules" .) }}
{{- end }}
{{- if eq (include "vpa.component.elects" .) "true" }}
{{ include "vpa.component.namespacedRole" (dict "scope" . "suffix" "leader" "namespace" (include "vpa.component.leaseNamespace" .) "rules" (include "vpa.rules.leaderLease" .)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "vpa.component.namespacedRole" -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ include "vpa.component.name" .scope }}-{{ .suffix }}
  namespace: {{ .namespace }}
  labels:
    {{- include "vpa.component.labels" .scope | nindent 4 }}
rules:
  {{- .rules | trim | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ include "vpa.component.name" .scope }}-{{ .suffix }}
  namespace: {{ .namespace }}
  labels:
    {{- include "vpa.component.labels" .scope | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ include "vpa.component.name" .scope }}-{{ .suffix }}
subjects:
  - kind: ServiceAccount
    name: {{ include "vpa.component.name" .scope }}
    namespace: {{ .scope.root.Release.Namespace }}
{{- end }}

{{/* What it takes to find the pods of a target and the target of a pod. */}}
{{- define "vpa.rules.targets" -}}
- apiGroups: [autoscaling.k8s.io]
  resources: [verticalpodautoscalers]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [replicationcontrollers]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [daemonsets, deployments, replicasets, statefulsets]
  verbs: [get, list, watch]
- apiGroups: [batch]
  resources: [cronjobs, jobs]
  verbs: [get, list, watch]
# Targets of any other kind are read through their scale subresource.
- apiGroups: ["*"]
  resources: ["*/scale"]
  verbs: [get]
{{- end }}

{{- define "vpa.rules.leaderLease" -}}
# A name cannot be set on create.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ .values.leaderElection.resourceName }}]
  verbs: [get, update]
{{- end }}
