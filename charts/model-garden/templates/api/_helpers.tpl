{{- define "model-garden.api.selector" -}}
app.kubernetes.io/name: model-garden
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: api
{{- end }}

{{- define "model-garden.api.labels" -}}
{{ include "model-garden.api.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* The host of api.url, for Ingress and HTTPRoute. */}}
{{- define "model-garden.api.host" -}}
{{- required "api.url is empty; api.ingress and api.httpRoute need the address that people open, such as https://garden.example.com" .Values.api.url | urlParse | dig "hostname" "" }}
{{- end }}
