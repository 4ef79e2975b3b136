// Package taken owns what an Installer may not take for itself: the fields of
// k0s's configuration that Plinth sets, and the ports of the host. It refuses to
// know where in a file they stand.
package taken

// Field is a field of k0s's ClusterConfig that spec.k0s.config may not set.
type Field struct {
	Path string // below the ClusterConfig; all that is below it is owned too
	Why  string // who sets it, or where to set it instead
}

// Fields lists what Plinth owns of the ClusterConfig.
func Fields() []Field {
	const (
		fixed  = "Plinth writes it"
		host   = "it differs from host to host, and Plinth takes the node's address"
		ports  = "preflights and joining hosts count on the port of k0s"
		images = "the bundle names every image by digest"
		router = "the bundle brings kube-router, IPv4"
	)
	return []Field{
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
		{"spec.network.nodeLocalLoadBalancing", "it needs an image that no bundle holds"},
		{"spec.konnectivity.adminPort", ports}, {"spec.konnectivity.agentPort", ports},
		{"spec.images", images},
		{"spec.storage.type", "the cluster's state is in k0s's own etcd"}, {"spec.storage.kine", "the cluster's state is in k0s's own etcd"},
		{"spec.storage.etcd.externalCluster", "the cluster's state is in k0s's own etcd"},
		{"spec.storage.etcd.peerAddress", host},
		{"spec.storage.etcd.extraArgs.wal-dir", "whether a host has joined is told by etcd's log in its usual place"},
		{"spec.storage.etcd.extraArgs.data-dir", "whether a host has joined is told by etcd's log in its usual place"},
	}
}

// Port is a TCP port that something else needs on a host.
type Port struct {
	Port int
	By   string // what needs it
}

// Ports are the TCP ports that something else needs on a host: those of k0s
// 1.33 with kube-router, and ssh.
func Ports() []Port {
	return []Port{
		{22, "ssh"}, {179, "kube-router (BGP)"}, {2379, "etcd"}, {2380, "etcd's peers"}, {6443, "the Kubernetes API"},
		{8080, "kube-router's metrics"}, {9443, "k0s's join API"},
		{10248, "kubelet's health"}, {10249, "kube-proxy's metrics"}, {10250, "kubelet"}, {10256, "kube-proxy's health"},
		{10257, "kube-controller-manager"}, {10259, "kube-scheduler"}, {20244, "kube-router's health"},
	}
}
