package spec

// ReservedField is a field of k0s's ClusterConfig that spec.k0s.config must not set.
type ReservedField struct {
	Path   string // in the ClusterConfig; everything below it is reserved too
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
	)
	return []ReservedField{
		{"apiVersion", fixed}, {"kind", fixed}, {"metadata", fixed}, {"status", fixed},
		{"spec.api.address", host},
		{"spec.api.port", ports}, {"spec.api.k0sApiPort", ports}, {"spec.api.extraArgs.secure-port", ports},
		{"spec.api.extraArgs.advertise-address", host},
		{"spec.api.extraArgs.service-node-port-range", "set spec.network.nodePortRange of the Installer"},
		{"spec.api.extraArgs.service-cluster-ip-range", "set spec.network.serviceCIDR of the Installer"},
		{"spec.controllerManager.extraArgs.cluster-cidr", "set spec.network.podCIDR of the Installer"},
		{"spec.controllerManager.extraArgs.service-cluster-ip-range", "set spec.network.serviceCIDR of the Installer"},
		{"spec.network.podCIDR", "set spec.network.podCIDR of the Installer"},
		{"spec.network.serviceCIDR", "set spec.network.serviceCIDR of the Installer"},
		{"spec.network.provider", router}, {"spec.network.calico", router}, {"spec.network.dualStack", router},
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
