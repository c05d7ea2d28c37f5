{{- /* What jobs need and the cluster does not have. Nothing without a cluster, as in `helm template`. */}}
{{- define "model-garden.missing" -}}
{{- $claims := compact (list .Values.storage.dataClaim .Values.storage.modelsClaim .Values.storage.cacheClaim) | uniq }}
{{- $create := .Values.storage.create }}
{{- $problems := list }}
{{- /* With watchNamespaces, or roles of others, the person who installs may not list nodes, and a lookup that is refused fails the release. */}}
{{- $nodes := list }}
{{- if and .Values.rbac.create (not .Values.watchNamespaces) }}{{ $nodes = (lookup "v1" "Node" "" "").items }}{{ end }}
{{- if $nodes }}
{{- $gpus := list }}
{{- range $nodes }}
{{- range $name, $amount := .status.allocatable }}
{{- if and (regexMatch "^(nvidia\\.com/(gpu|gpu\\.shared|mig-.*)|amd\\.com/gpu)$" $name) (ne (toString $amount) "0") }}{{ $gpus = append $gpus $name }}{{ end }}
{{- end }}
{{- end }}
{{- if not $gpus }}
{{- $problems = append $problems "No node offers GPUs (nvidia.com/gpu). Install the GPU operator or the device plugin of your GPUs." }}
{{- end }}
{{- $default := list }}
{{- range (lookup "storage.k8s.io/v1" "StorageClass" "" "").items }}
{{- if eq "true" (dig "storageclass.kubernetes.io/is-default-class" "" (.metadata.annotations | default dict)) }}{{ $default = append $default .metadata.name }}{{ end }}
{{- end }}
{{- if not $default }}
{{- $problems = append $problems "The cluster has no default storage class. Name one for each claim (storage.create.storageClass); kubectl get storageclass lists them." }}
{{- end }}
{{- $by := "--set storage.create.enabled=true" }}
{{- if not (or .Values.jobNamespaces .Values.watchNamespaces) }}{{ $by = printf "%s,jobNamespaces={research} for jobs in research" $by }}{{ end }}
{{- range $namespace := include "model-garden.jobNamespaces" . | fromJsonArray }}
{{- range $claims }}
{{- if not (or $create.enabled (lookup "v1" "PersistentVolumeClaim" $namespace .)) }}
{{- $problems = append $problems (printf "Namespace %s has no PersistentVolumeClaim %s. Create it, or let the chart do it: %s" $namespace . $by) }}
{{- end }}
{{- end }}
{{- end }}
{{- else if $claims }}
{{- $problems = append $problems (printf "The namespace of each job needs the PersistentVolumeClaims %s, or those that the job names in spec.storage." (join ", " $claims)) }}
{{- end }}
{{- if $problems }}

Still missing:
{{- range $problems }}
  - {{ . }}
{{- end }}
{{- end }}
{{- end }}
