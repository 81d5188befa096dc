{{/* Names, labels and values that several templates share. */}}

{{- define "unisd.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "unisd.fullname" -}}
{{- $name := include "unisd.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "unisd.selector" -}}
app.kubernetes.io/name: {{ include "unisd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* No label with the value that the operator watches its children by: managed-by is Helm's own word here. */}}
{{- define "unisd.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "unisd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: unisd
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "unisd.metadata" -}}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "unisd.labels" . | nindent 2 }}
{{- with .Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "unisd.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "unisd.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ required "serviceAccount.name: give the name of an existing ServiceAccount, or set serviceAccount.create" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "unisd.keySecret" -}}
{{- if .Values.keySecret.create -}}
{{ default (printf "%s-key" (include "unisd.fullname" .)) .Values.keySecret.name }}
{{- else -}}
{{ required "keySecret.name: give the name of an existing Secret, or set keySecret.create" .Values.keySecret.name }}
{{- end }}
{{- end }}

{{/* An image by its role: (list $ "trainer"). A digest wins over a tag. */}}
{{- define "unisd.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.image (index . 1) -}}
{{- $name := printf "%s/%s" (trimSuffix "/" $root.Values.image.registry) $image.name -}}
{{- if $image.digest -}}
{{ $name }}@{{ $image.digest }}
{{- else -}}
{{ $name }}:{{ default $root.Chart.AppVersion $image.tag }}
{{- end }}
{{- end }}
