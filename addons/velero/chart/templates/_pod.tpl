{{/* Environment that velero and the node agent share. HOME is where Kopia keeps its configuration and cache. The console
     adds the variables and the volume of the credentials if they are missing: they are here, so that it changes nothing. */}}
{{- define "env" }}
- {name: VELERO_SCRATCH_DIR, value: /scratch}
- {name: HOME, value: /scratch}
- name: VELERO_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- {name: GOOGLE_APPLICATION_CREDENTIALS, value: /credentials/cloud}
- {name: AWS_SHARED_CREDENTIALS_FILE, value: /credentials/cloud}
- {name: AZURE_CREDENTIALS_FILE, value: /credentials/cloud}
- {name: ALIBABA_CLOUD_CREDENTIALS_FILE, value: /credentials/cloud}
{{- if .Values.trustedCAs }}
- {name: SSL_CERT_DIR, value: "/etc/ssl/certs:/trusted-cas"}
{{- end }}
{{- end }}
{{- define "mounts" }}
- {name: scratch, mountPath: /scratch}
- {name: tmp, mountPath: /tmp}
- {name: cloud-credentials, mountPath: /credentials}
{{- if .Values.trustedCAs }}
- {name: trusted-cas, mountPath: /trusted-cas}
{{- end }}
{{- end }}
{{- define "volumes" }}
- name: scratch
  emptyDir: {}
- name: tmp
  emptyDir: {}
- name: cloud-credentials
  secret:
    secretName: cloud-credentials
    defaultMode: 0440
    optional: true
{{- if .Values.trustedCAs }}
- name: trusted-cas
  configMap:
    name: trusted-cas
{{- end }}
{{- end }}
{{- define "proxied" }}{{ if or .Values.proxy.httpProxy .Values.proxy.httpsProxy }}true{{ end }}{{ end }}
{{/* Annotations that change with what the programs read only when they start. */}}
{{- define "checksums" }}
{{- if include "proxied" . }}
checksum/proxy: {{ include (print $.Template.BasePath "/proxy.yaml") . | sha256sum }}
{{- end }}
{{- if .Values.trustedCAs }}
checksum/trusted-cas: {{ .Values.trustedCAs | sha256sum }}
{{- end }}
{{- end }}
{{- define "envFrom" }}
{{- if include "proxied" . }}
envFrom:
  - secretRef: {name: proxy}
{{- end }}
{{- end }}
