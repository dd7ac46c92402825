{{/* Name of the chart. */}}
{{- define "vpa.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Prefix of every object's name: the release, with the chart's name where the release does not hold it. */}}
{{- define "vpa.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := include "vpa.name" . }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The templates below take a dict: root (the chart's scope), component (name in objects), values (of the component). */}}
{{- define "vpa.component.name" -}}
{{ include "vpa.fullname" .root }}-{{ .component }}
{{- end }}

{{- define "vpa.component.selectorLabels" -}}
app.kubernetes.io/name: {{ include "vpa.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "vpa.component.labels" -}}
{{ include "vpa.component.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* "true" when the component elects a leader. */}}
{{- define "vpa.component.elects" -}}
{{- with .values.leaderElection }}
{{- if kindIs "invalid" .enabled }}{{ gt (int $.values.replicas) 1 }}{{ else }}{{ .enabled }}{{ end }}
{{- else }}false{{ end }}
{{- end }}

{{- define "vpa.component.leaseNamespace" -}}
{{ .values.leaderElection.resourceNamespace | default .root.Release.Namespace }}
{{- end }}
