package k0s

import (
	"maps"

	"github.com/k0sproject/k0s/pkg/apis/k0s/v1beta1"

	"github.com/plinthdev/plinth/internal/spec"
)

// AuditLogPath is the path of the audit log of the API server. Its folder belongs to the user of the
// API server; reset removes it with DataDir.
const AuditLogPath = auditLogDir + "/audit.log"

const (
	auditLogDir     = DataDir + "/audit"
	auditPolicyPath = "/etc/k0s/plinth-audit.yaml"
	apiServerUser   = "kube-apiserver" // k0s 1.33.8, pkg/constant: ApiserverUser
)

// defaultFlags are the flags of kube-apiserver that the Installer's spec.k0s.config may override. The
// audit log is at most 5 files of 50 MB, none older than 30 days.
var defaultFlags = map[string]string{
	"audit-log-path":      AuditLogPath,
	"audit-log-maxage":    "30", // days
	"audit-log-maxbackup": "4",  // files, besides the current one
	"audit-log-maxsize":   "50", // MB
	"audit-policy-file":   auditPolicyPath,
}

// setDefaultFlags sets those of defaultFlags that the Installer's configuration does not set.
func setDefaultFlags(api *v1beta1.APISpec) {
	args := maps.Clone(defaultFlags)
	for name := range api.ExtraArgs {
		delete(args, spec.FlagName(name))
	}
	maps.Copy(args, api.ExtraArgs)
	api.ExtraArgs = args
}

// auditPolicy is the audit policy of the API server: who did what to which object and when, without
// the bodies of requests, which may contain secrets. It leaves out what the components of the cluster
// repeat all the time.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
  # Health checks, discovery, events and leases.
  - level: None
    nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi/*", "/api", "/api/*", "/apis", "/apis/*"]
  - level: None
    resources:
      - {group: "", resources: [events]}
      - {group: events.k8s.io, resources: [events]}
      - {group: coordination.k8s.io, resources: [leases]}
  # Secrets, credentials and remote commands: also when they are read, and by anyone.
  - level: Metadata
    resources:
      - {group: "", resources: [secrets, serviceaccounts/token, pods/exec, pods/attach, pods/portforward, nodes/proxy, pods/proxy, services/proxy]}
  # Whether a client may do something: asked by each component for each of its own clients.
  - level: None
    users: ["system:apiserver"]
  - level: None
    userGroups: ["system:nodes", "system:serviceaccounts:kube-system"]
    verbs: [create]
    resources:
      - {group: authentication.k8s.io, resources: [tokenreviews]}
      - {group: authorization.k8s.io, resources: [subjectaccessreviews]}
  # Reads and status reports of the components of the cluster; k0s and Plinth are in system:masters.
  - level: None
    users: ["system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy"]
    verbs: [get, list, watch]
  - level: None
    userGroups: ["system:masters", "system:nodes", "system:serviceaccounts:kube-system", "system:serviceaccounts:local-path-storage"]
    verbs: [get, list, watch]
  - level: None
    userGroups: ["system:nodes"]
    verbs: [update, patch]
    resources:
      - {group: "", resources: [nodes/status, pods/status]}
  # Everything else.
  - level: Metadata
`

// apiServerDropIn is a systemd drop-in that gives the user of the API server the folder of its audit
// log and the keys that encrypt Secrets, before each start of k0s: the user exists only after k0s is
// registered. If that fails, k0s starts, and the API server reports which file it cannot use.
const apiServerDropIn = `[Service]
ExecStartPre=-/bin/chown ` + apiServerUser + ` ` + EncryptionConfPath + `
ExecStartPre=-/bin/sh -c 'mkdir -p ` + auditLogDir + ` && chmod 0700 ` + auditLogDir + ` && chown ` + apiServerUser + ` ` + auditLogDir + `'
`
