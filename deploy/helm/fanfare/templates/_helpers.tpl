{{- define "fanfare.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "fanfare.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "fanfare.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "fanfare.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "fanfare.selector" -}}
app.kubernetes.io/name: {{ include "fanfare.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fanfare.labels" -}}
{{ include "fanfare.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "fanfare.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "fanfare.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "fanfare.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "fanfare.secret" -}}
{{- .Values.secrets.existing | default (include "fanfare.fullname" .) -}}
{{- end -}}

{{/* The roles that run, as a list of words. */}}
{{- define "fanfare.roles" -}}
{{- $roles := list -}}
{{- if eq .Values.mode "all" -}}
{{- $roles = list "all" -}}
{{- else -}}
{{- range $role := list "api" "ingest" "fanout" "deliver" -}}
{{- if (index $.Values.roles $role).enabled -}}
{{- $roles = append $roles $role -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $roles | join "," -}}
{{- end -}}

{{/* What must be given. */}}
{{- define "fanfare.check" -}}
{{- if not .Values.secrets.existing -}}
{{- if .Values.secrets.natsPerRole -}}
{{- fail "secrets.natsPerRole needs secrets.existing" -}}
{{- end -}}
{{- range $name := list "postgresURL" "natsURL" "secretKeys" "adminKey" -}}
{{- if not (index $.Values.secrets.create $name) -}}
{{- fail (printf "set secrets.existing, or secrets.create.%s" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $role := include "fanfare.roles" . | splitList "," -}}
{{- $scaling := (index $.Values.roles $role).autoscaling -}}
{{- if and $scaling.enabled (lt (int $scaling.max) (int $scaling.min)) -}}
{{- fail (printf "roles.%s.autoscaling.max is less than min" $role) -}}
{{- end -}}
{{- if and $scaling.enabled (eq $scaling.type "keda") -}}
{{- if not (has $role (list "fanout" "deliver")) -}}
{{- fail (printf "roles.%s.autoscaling.type: keda scales fanout and deliver; use hpa" $role) -}}
{{- end -}}
{{- if not $.Values.keda.natsMonitoring -}}
{{- fail "set keda.natsMonitoring" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A variable from the Secret. Called with (dict "root" $ "name" "FANFARE_..." "key" "...") */}}
{{- define "fanfare.fromSecret" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}
{{- end -}}

{{- define "fanfare.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "fanfare.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}
