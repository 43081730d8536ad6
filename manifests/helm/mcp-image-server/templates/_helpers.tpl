{{- define "mcp-image-server.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mcp-image-server.selectorLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
{{- end -}}

{{- define "mcp-image-server.labels" -}}
{{ include "mcp-image-server.selectorLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "mcp-image-server.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Where clients reach the server. */}}
{{- define "mcp-image-server.publicBaseUrl" -}}
{{- if .Values.publicBaseUrl -}}
{{ .Values.publicBaseUrl }}
{{- else if .Values.gateway.enabled -}}
https://{{ first .Values.gateway.hostnames }}
{{- else if .Values.ingress.enabled -}}
https://{{ .Values.ingress.host }}
{{- else -}}
http://{{ include "mcp-image-server.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}
{{- end -}}

{{/* Every setting that is no secret, as YAML; what stands in `config` goes before what follows from other values. */}}
{{- define "mcp-image-server.config" -}}
{{- $name := include "mcp-image-server.fullname" . -}}
{{- $namespace := .Release.Namespace -}}
{{- $config := dict
      "PUBLIC_BASE_URL" (include "mcp-image-server.publicBaseUrl" .)
      "ALLOWED_HOSTS" (printf "%s,%s.%s,%s.%s.svc.cluster.local" $name $name $namespace $name $namespace)
      "STORAGE_BACKEND" .Values.storage.type -}}
{{- if or .Values.gateway.enabled .Values.ingress.enabled -}}
{{- $_ := set $config "TRUSTED_PROXIES" .Values.trustedProxies -}}
{{- end -}}
{{- if eq .Values.storage.type "file" -}}
{{- $_ := set $config "STORAGE_PATH" "/data" -}}
{{- else if eq .Values.storage.type "s3" -}}
{{- with .Values.storage.s3 -}}
{{- $_ := set $config "S3_BUCKET" .bucket -}}
{{- $_ := set $config "S3_PREFIX" .prefix -}}
{{- $_ := set $config "AWS_REGION" .region -}}
{{- if .endpointUrl -}}
{{- $_ := set $config "S3_ENDPOINT_URL" .endpointUrl -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $config = merge (deepCopy .Values.config) $config -}}
{{- if .Values.kserve.enabled -}}
{{- $_ := set $config "KSERVE_ENDPOINT" (printf "http://%s.%s.svc:8080/v1/models/%s" .Values.kserve.name $namespace .Values.kserve.name) -}}
{{- end -}}
{{- range $key, $value := $config }}
{{ $key }}: {{ $value | toString | quote }}
{{- end -}}
{{- end -}}
