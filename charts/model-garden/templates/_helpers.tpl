{{- define "model-garden.labels" -}}
app.kubernetes.io/name: model-garden
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "model-garden.selector" -}}
app.kubernetes.io/name: model-garden
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- /* The operator's image, which is the API's too. */}}
{{- define "model-garden.image" -}}
{{- include "model-garden.reference" (list .Values.image .Chart.AppVersion) }}
{{- end }}

{{- /* An image's reference: a list of its value and the chart's appVersion. */}}
{{- define "model-garden.reference" -}}
{{- $image := first . -}}
{{ $image.repository }}{{ with $image.digest }}@{{ . }}{{ else }}:{{ $image.tag | default (last $) }}{{ end }}
{{- end }}

{{- /* The namespaces of jobs that the chart makes objects in, as a JSON list. */}}
{{- define "model-garden.jobNamespaces" -}}
{{- .Values.jobNamespaces | default .Values.watchNamespaces | default (list .Release.Namespace) | toJson }}
{{- end }}

{{- /* The names in a list of objects such as [{name: registry}], separated by commas. */}}
{{- define "model-garden.names" -}}
{{- range $at, $one := . }}{{ if $at }},{{ end }}{{ $one.name }}{{ end }}
{{- end }}

{{- /* Egress to DNS, and to the ports of the list. */}}
{{- define "model-garden.egress" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
    {{- range . }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
{{- end }}

{{- /* The bytes of a quantity such as 1.5Ti or 2e12. */}}
{{- define "model-garden.bytes" -}}
{{- $units := dict "" 1 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18
      "Ki" 0x1p10 "Mi" 0x1p20 "Gi" 0x1p30 "Ti" 0x1p40 "Pi" 0x1p50 "Ei" 0x1p60 }}
{{- $number := regexFind "^[0-9.]+([eE][0-9]+)?" . }}
{{- mulf $number (get $units (trimPrefix $number .)) }}
{{- end }}
