package spec

import "strings"

// ReservedField is a field of k0s's ClusterConfig that spec.k0s.config must not set.
type ReservedField struct {
	Path   string // in the ClusterConfig; everything below it is reserved too; "*" at the end of a flag stands for any rest
	Reason string // why it is reserved, or where to set it instead
}

// ReservedFields returns the fields of the ClusterConfig that only Plinth sets.
func ReservedFields() []ReservedField {
	const (
		fixed  = "Plinth sets it"
		host   = "it differs between hosts; Plinth uses the address of the node"
		ports  = "preflights and hosts that join rely on the default port of k0s"
		images = "the bundle pins every image by digest"
		router = "the bundle contains kube-router, for IPv4"
		trust  = "it decides whom the cluster trusts"
	)
	return []ReservedField{
		{"apiVersion", fixed}, {"kind", fixed}, {"metadata", fixed}, {"status", fixed},
		{"spec.api.address", host},
		{"spec.api.port", ports}, {"spec.api.k0sApiPort", ports}, {"spec.api.extraArgs.secure-port", ports},
		{"spec.api.extraArgs.advertise-address", host},
		{"spec.api.extraArgs.service-node-port-range", "set spec.network.nodePortRange of the Installer"},
		{"spec.api.extraArgs.service-cluster-ip-range", "set spec.network.serviceCIDR of the Installer"},
		{"spec.api.ca.expiresAfter", "Plinth creates the cluster's authority, for ten years"},
		{"spec.api.extraArgs.enable-bootstrap-token-auth", "a bootstrap token could get the certificate of any node"},
		{"spec.api.extraArgs.anonymous-auth", trust},
		{"spec.api.extraArgs.min-request-timeout", "it limits how long a node that was removed keeps reading"},
		{"spec.api.extraArgs.authentication-*", trust}, {"spec.api.extraArgs.authorization-*", trust},
		{"spec.api.extraArgs.token-auth-file", trust},
		{"spec.api.extraArgs.encryption-provider-*", "Plinth encrypts Secrets in etcd, with a key that all controllers share"},
		{"spec.api.extraArgs.client-ca-file", trust}, {"spec.api.extraArgs.requestheader-*", trust},
		{"spec.api.extraArgs.kubelet-certificate-authority", trust},
		{"spec.api.extraArgs.kubelet-client-*", trust}, {"spec.api.extraArgs.proxy-client-*", trust},
		{"spec.api.extraArgs.tls-cert-file", trust}, {"spec.api.extraArgs.tls-private-key-file", trust},
		{"spec.api.extraArgs.service-account-key-file", trust}, {"spec.api.extraArgs.service-account-signing-key-file", trust},
		{"spec.api.extraArgs.enable-admission-plugins", "it would turn off NodeRestriction, which keeps nodes apart"},
		{"spec.api.extraArgs.disable-admission-plugins", trust}, {"spec.api.extraArgs.admission-control-config-file", trust},
		{"spec.api.extraArgs.feature-gates", "set spec.featureGates of the ClusterConfig"},
		{"spec.controllerManager.extraArgs.cluster-signing-*", trust}, {"spec.controllerManager.extraArgs.root-ca-file", trust},
		{"spec.controllerManager.extraArgs.cluster-cidr", "set spec.network.podCIDR of the Installer"},
		{"spec.controllerManager.extraArgs.service-cluster-ip-range", "set spec.network.serviceCIDR of the Installer"},
		{"spec.network.podCIDR", "set spec.network.podCIDR of the Installer"},
		{"spec.network.serviceCIDR", "set spec.network.serviceCIDR of the Installer"},
		{"spec.network.provider", router}, {"spec.network.calico", router}, {"spec.network.dualStack", router},
		{"spec.network.kuberouter.extraArgs.run-loadbalancer", "kube-router may only read, because root on each worker has its credential"},
		{"spec.network.nodeLocalLoadBalancing", "it needs an image that is not in the bundle"},
		{"spec.konnectivity.adminPort", ports}, {"spec.konnectivity.agentPort", ports},
		{"spec.images", images},
		{"spec.storage.type", "the state of the cluster is stored in the etcd of k0s"}, {"spec.storage.kine", "the state of the cluster is stored in the etcd of k0s"},
		{"spec.storage.etcd.externalCluster", "the state of the cluster is stored in the etcd of k0s"},
		{"spec.storage.etcd.peerAddress", host},
		{"spec.storage.etcd.extraArgs.wal-dir", "Plinth checks etcd's write-ahead log in its default directory to see whether a host has joined"},
		{"spec.storage.etcd.extraArgs.data-dir", "Plinth checks etcd's write-ahead log in its default directory to see whether a host has joined"},
	}
}

// ReservedGates returns the feature gates of Kubernetes that spec.k0s.config must not set, because the
// trust between hosts needs their defaults: the UID in the certificates of nodes, and the policies
// that compare it.
func ReservedGates() []string {
	return []string{"AllowParsingUserUIDFromCertAuth", "ValidatingAdmissionPolicy"}
}

// FlagName returns the name of the flag of a Kubernetes component that the key of extraArgs sets.
// k0s passes "--KEY=VALUE", and the components replace underscores by hyphens (component-base,
// cli/flag/flags.go: WordSepNormalizeFunc).
func FlagName(key string) string {
	name, _, _ := strings.Cut(key, "=")
	return strings.ReplaceAll(name, "_", "-")
}

// matchesReserved reports whether a key is the reserved name, or one of those that a name with "*" at
// its end stands for. isFlag: the key is one of extraArgs.
func matchesReserved(reserved, key string, isFlag bool) bool {
	if isFlag {
		key = FlagName(key)
	}
	if prefix, ok := strings.CutSuffix(reserved, "*"); ok {
		return strings.HasPrefix(key, prefix)
	}
	return key == reserved
}
