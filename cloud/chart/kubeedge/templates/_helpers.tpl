{{- define "kubeedge.name" -}}
kubeedge-cloud
{{- end }}

{{- define "kubeedge.selector" -}}
app.kubernetes.io/name: kubeedge
app.kubernetes.io/component: cloud
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "kubeedge.routesSelector" -}}
app.kubernetes.io/name: kubeedge
app.kubernetes.io/component: routes
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "kubeedge.labels" -}}
{{ include "kubeedge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
app.kubernetes.io/part-of: kubeedge
{{- end }}

{{- define "kubeedge.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "kubeedge.name" .) }}
{{- end }}

{{- define "kubeedge.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* not empty: serving certificates are asked for, and approved by the cloud itself */ -}}
{{- define "kubeedge.approves" -}}
{{- with .Values.kubelets }}
{{- if and .enabled .serverTlsBootstrap .approveCertificates (not .certificateSecret) }}yes{{ end }}
{{- end }}
{{- end }}

{{- /* what would start and not work */ -}}
{{- define "kubeedge.check" -}}
{{- if not .Values.advertise }}
{{- fail "advertise: which names or addresses do nodes use? For example --set advertise={cloud.example.org}" }}
{{- end }}
{{- include "kubeedge.checkOthers" . }}
{{- if and (gt (int .Values.replicas) 1) (not .Values.store.etcd.endpoints) }}
{{- fail "replicas: more than one needs store.etcd.endpoints, for SQLite has one writer" }}
{{- end }}
{{- if and .Values.store.etcd.endpoints (not .Values.authority.secret) }}
{{- fail "authority.secret: replicas on etcd share one certificate authority, so name a Secret with ca.crt and ca.key" }}
{{- end }}
{{- if and (gt (int .Values.replicas) 1) .Values.tun.enabled }}
{{- fail "tun.enabled: its address belongs to one process, so it needs replicas: 1" }}
{{- end }}
{{- if and .Values.kubelets.approveCertificates (or .Values.kubelets.certificateSecret (not .Values.kubelets.serverTlsBootstrap)) }}
{{- fail "kubelets.approveCertificates: there is nothing to approve without serverTlsBootstrap, or with certificateSecret" }}
{{- end }}
{{- if and (gt (int .Values.replicas) 1) .Values.router.enabled }}
{{- fail "router.enabled: one machine is the router, so it needs replicas: 1" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (or (eq .Values.expose.type "HostNetwork") .Values.router.enabled) }}
{{- fail "serviceMonitor.enabled: on the machine's own network the metrics are on loopback of the machine alone" }}
{{- end }}
{{- end }}

{{- /* two would both be the edge nodes' cloud; `kubeedge init` asks the cluster itself */ -}}
{{- define "kubeedge.checkOthers" -}}
{{- if .Values.rbac.create }}
{{- with lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" (include "kubeedge.name" .) }}
{{- $labels := .metadata.labels | default (dict) }}
{{- $where := index $labels "kubeedge.io/installed-in" | default "" }}
{{- $by := index $labels "app.kubernetes.io/managed-by" | default "" }}
{{- $release := index $labels "app.kubernetes.io/instance" | default "" }}
{{- if and $where (ne $by $.Release.Service) }}
{{- fail (printf "this cluster has a cloud side already, installed by `kubeedge init` in namespace %s: change it with `kubeedge upgrade --namespace %s`, or remove it with `kubeedge reset cloud`" $where $where) }}
{{- end }}
{{- if and $where (or (ne $where $.Release.Namespace) (ne $release $.Release.Name)) }}
{{- fail (printf "this cluster has a cloud side already, release %s in namespace %s: one serves all edge nodes, and other clusters as tenants; change it with `helm upgrade %s -n %s`, or remove it first" $release $where $release $where) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
