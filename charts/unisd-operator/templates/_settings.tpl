{{/* The operator's settings, in the shape of unisd_operator.settings.Settings. */}}

{{- define "unisd.childEnvironment" -}}
{{- $env := dict -}}
{{- with .Values.huggingFaceEndpoint }}{{ $_ := set $env "HF_ENDPOINT" . }}{{ end -}}
{{- with .Values.proxy -}}
{{- if or .http .https -}}
{{- $exceptions := prepend (compact (splitList "," .exceptions)) "localhost,127.0.0.1,.svc,.cluster.local" | join "," -}}
{{- range $name, $value := dict "HTTP_PROXY" .http "HTTPS_PROXY" .https "NO_PROXY" $exceptions -}}
{{- if $value }}{{ $_ := set $env $name $value }}{{ $_ := set $env (lower $name) $value }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.caBundle.configMap -}}
{{- range list "SSL_CERT_FILE" "REQUESTS_CA_BUNDLE" "CURL_CA_BUNDLE" -}}
{{- $_ := set $env . "/etc/unisd-ca/ca.crt" -}}
{{- end -}}
{{- end -}}
{{ toYaml (mergeOverwrite $env .Values.settings.env) }}
{{- end }}

{{- define "unisd.childPod" -}}
{{- $pod := deepCopy .Values.settings.pod -}}
{{- with .Values.caBundle -}}
{{- if .configMap -}}
{{- $items := list (dict "key" .key "path" "ca.crt") -}}
{{- $volume := dict "name" "unisd-ca" "configMap" (dict "name" .configMap "items" $items) -}}
{{- $mount := dict "name" "unisd-ca" "mountPath" "/etc/unisd-ca" "readOnly" true -}}
{{- $_ := set $pod "volumes" (append (default list $pod.volumes) $volume) -}}
{{- $_ := set $pod "volumeMounts" (append (default list $pod.volumeMounts) $mount) -}}
{{- end -}}
{{- end -}}
{{ toYaml $pod }}
{{- end }}

{{- define "unisd.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- $_ := set $settings "version" .Chart.AppVersion -}}
{{- $_ := set $settings "namespaces" .Values.namespaces -}}
{{- $_ := set $settings "images" (dict
      "trainer" (include "unisd.image" (list . "trainer"))
      "rollout" (include "unisd.image" (list . "rollout"))
      "pullPolicy" .Values.image.pullPolicy) -}}
{{- $_ := set $settings "env" (include "unisd.childEnvironment" . | fromYaml) -}}
{{- $_ := set $settings "pod" (include "unisd.childPod" . | fromYaml) -}}
{{- range $field := list "runAsUser" "fsGroup" -}}{{- /* Helm drops null from values: 0 stands for it */ -}}
{{- $_ := set $settings.security $field (ternary (int64 (get $settings.security $field)) nil (get $settings.security $field | int64 | ne 0)) -}}
{{- end -}}
{{- $_ := set $settings.network "operatorNamespace" .Release.Namespace -}}
{{- $_ := set $settings "port" 8080 -}}
{{- $_ := set $settings "healthPort" 8081 -}}
{{- $_ := set $settings "leaderElection" true -}}
{{- $_ := set $settings "leaseName" (include "unisd.fullname" .) -}}
{{- $_ := set $settings "leaseNamespace" .Release.Namespace -}}
{{- $_ := set $settings "keySecretName" (include "unisd.keySecret" .) -}}
{{- $_ := set $settings "keySecretCreate" .Values.keySecret.create -}}
{{ toYaml $settings }}
{{- end }}
