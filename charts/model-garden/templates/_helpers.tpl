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

{{- /* What the operator may do with the objects of a namespace that it serves. */}}
{{- define "model-garden.rules" -}}
- apiGroups: [model-garden.dev]
  resources: [trainingjobs]
  verbs: [get, list, watch]
- apiGroups: [model-garden.dev]
  resources: [trainingjobs/status]
  verbs: [patch]
- apiGroups: [model-garden.dev]
  resources: [trainingjobs/finalizers] # so that owner references may block deletion where the cluster checks it
  verbs: [update]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch] # patch: a person's wish to stop and save travels as an annotation
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
- apiGroups: [""]
  resources: [services] # the headless one by which the pods of several nodes find each other
  verbs: [get, create]
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end }}
