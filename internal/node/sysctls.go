package node

import "github.com/plinthdev/plinth/internal/host"

// AffectedSysctls returns every kernel setting that an install may change: those of DefaultKernel
// and those that the cluster's own programs set when they start. Their values before the install
// are recorded, so that a reset can restore them.
func TouchedSysctls() []Sysctl {
	return append(DefaultKernel(host.Host{}).Sysctls, clusterSysctls()...)
}

// clusterSysctls returns the settings that Kubernetes 1.33 and k0s 1.33 change themselves. Sources:
// k0s pkg/component/worker/kernelsetup_linux.go; kubelet pkg/kubelet/cm/container_manager_linux.go
// (setupKernelTunables); kube-proxy cmd/kube-proxy/app/conntrack.go and
// pkg/proxy/iptables/proxier.go.
func clusterSysctls() []Sysctl {
	return []Sysctl{
		{Key: "net.ipv4.conf.all.forwarding", Value: "1", Why: "k0s"},
		{Key: "net.ipv4.conf.default.forwarding", Value: "1", Why: "k0s"},
		{Key: "net.ipv6.conf.all.forwarding", Value: "1", Why: "k0s"},
		{Key: "net.ipv6.conf.default.forwarding", Value: "1", Why: "k0s"},
		// The kernel changes this setting whenever forwarding changes.
		{Key: "net.ipv4.conf.all.accept_redirects", Why: "kernel"},
		{Key: "vm.overcommit_memory", Value: "1", Why: "kubelet"},
		{Key: "vm.panic_on_oom", Value: "0", Why: "kubelet"},
		{Key: "kernel.panic", Value: "10", Why: "kubelet"},
		{Key: "kernel.panic_on_oops", Value: "1", Why: "kubelet"},
		{Key: "kernel.keys.root_maxkeys", Value: "1000000", Why: "kubelet"},
		{Key: "kernel.keys.root_maxbytes", Value: "25000000", Why: "kubelet"},
		{Key: "net.ipv4.conf.all.route_localnet", Value: "1", Why: "kube-proxy"},
		{Key: "net.netfilter.nf_conntrack_max", Why: "kube-proxy"},
		{Key: "net.netfilter.nf_conntrack_buckets", Why: "kube-proxy"},
		{Key: "net.netfilter.nf_conntrack_tcp_timeout_established", Why: "kube-proxy"},
		{Key: "net.netfilter.nf_conntrack_tcp_timeout_close_wait", Why: "kube-proxy"},
	}
}
