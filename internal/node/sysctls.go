package node

import "github.com/plinthdev/plinth/internal/host"

// AffectedSysctls returns every kernel setting that an install may change: those of DefaultKernel
// and those that the cluster's own programs set when they start. Their values before the install
// are recorded, so that a reset can restore them.
func AffectedSysctls() []Sysctl {
	return append(DefaultKernel(host.Host{}).Sysctls, clusterSysctls()...)
}

// clusterSysctls returns the settings that Kubernetes 1.33 and k0s 1.33 change themselves. Sources:
// k0s pkg/component/worker/kernelsetup_linux.go; kubelet pkg/kubelet/cm/container_manager_linux.go
// (setupKernelTunables); kube-proxy cmd/kube-proxy/app/conntrack.go and
// pkg/proxy/iptables/proxier.go.
func clusterSysctls() []Sysctl {
	return []Sysctl{
		{Key: "net.ipv4.conf.all.forwarding", Value: "1", Reason: "k0s"},
		{Key: "net.ipv4.conf.default.forwarding", Value: "1", Reason: "k0s"},
		{Key: "net.ipv6.conf.all.forwarding", Value: "1", Reason: "k0s"},
		{Key: "net.ipv6.conf.default.forwarding", Value: "1", Reason: "k0s"},
		// The kernel changes this setting whenever forwarding changes.
		{Key: "net.ipv4.conf.all.accept_redirects", Reason: "kernel"},
		{Key: "vm.overcommit_memory", Value: "1", Reason: "kubelet"},
		{Key: "vm.panic_on_oom", Value: "0", Reason: "kubelet"},
		{Key: "kernel.panic", Value: "10", Reason: "kubelet"},
		{Key: "kernel.panic_on_oops", Value: "1", Reason: "kubelet"},
		{Key: "kernel.keys.root_maxkeys", Value: "1000000", Reason: "kubelet"},
		{Key: "kernel.keys.root_maxbytes", Value: "25000000", Reason: "kubelet"},
		{Key: "net.ipv4.conf.all.route_localnet", Value: "1", Reason: "kube-proxy"},
		{Key: "net.netfilter.nf_conntrack_max", Reason: "kube-proxy"},
		{Key: "net.netfilter.nf_conntrack_buckets", Reason: "kube-proxy"},
		{Key: "net.netfilter.nf_conntrack_tcp_timeout_established", Reason: "kube-proxy"},
		{Key: "net.netfilter.nf_conntrack_tcp_timeout_close_wait", Reason: "kube-proxy"},
	}
}
