package probe

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// traceSign is a path that a certain software leaves. A directory counts only
// if it is not empty.
type traceSign struct {
	path     string
	software facts.Software
	kind     string
}

// knownSigns returns the default paths of Kubernetes distributions, their
// components and other container runtimes.
func knownSigns() []traceSign {
	return []traceSign{
		{"/usr/local/bin/k0s", facts.K0s, "file"},
		{"/usr/bin/k0s", facts.K0s, "file"},
		{"/etc/k0s/k0s.yaml", facts.K0s, "file"}, // not the directory: drop-ins for containerd may be placed there before the installation
		{"/var/lib/k0s", facts.K0s, "data"},
		{"/usr/bin/kubeadm", facts.Kubeadm, "file"},
		{"/etc/kubernetes", facts.Kubeadm, "data"},
		{"/usr/bin/kubelet", facts.Kubelet, "file"},
		{"/usr/local/bin/kubelet", facts.Kubelet, "file"},
		{"/var/lib/kubelet/pki", facts.Kubelet, "data"}, // not the directory: k0s's kubelet leaves device-plugins there
		{"/usr/local/bin/k3s", facts.K3s, "file"},
		{"/etc/rancher/k3s", facts.K3s, "data"},
		{"/var/lib/rancher/k3s", facts.K3s, "data"},
		{"/usr/local/bin/rke2", facts.RKE2, "file"},
		{"/etc/rancher/rke2", facts.RKE2, "data"},
		{"/var/lib/rancher/rke2", facts.RKE2, "data"},
		{"/var/snap/microk8s", facts.MicroK8s, "data"},
		{"/var/lib/kurl", facts.KURL, "data"},
		{"/var/lib/embedded-cluster", facts.EmbeddedCluster, "data"},
		{"/var/lib/etcd", facts.Etcd, "data"},
		{"/run/docker.sock", facts.Docker, "socket"},
		{"/run/containerd/containerd.sock", facts.Containerd, "socket"},
		{"/run/crio/crio.sock", facts.CRIO, "socket"},
	}
}

// findTraces returns the traces on a host. dataDirs are possible data
// directories of k0s: one that is not empty is a trace. Paths that cannot be
// read are returned as unknown.
func findTraces(f Files, dataDirs []string, links []facts.Interface) (traces []facts.Trace, unknown []facts.Unknown) {
	all := knownSigns()
	for _, dir := range dataDirs {
		if !slices.ContainsFunc(all, func(s traceSign) bool { return s.path == dir }) {
			all = append(all, traceSign{dir, facts.K0s, "data"})
		}
	}
	for _, s := range all {
		present, err := isPresent(f, s.path)
		if err != nil {
			unknown = append(unknown, facts.Unknown{Fact: facts.FactTraces + ":" + s.path, Reason: err.Error()})
		} else if present {
			traces = append(traces, facts.Trace{Software: s.software, Kind: s.kind, Path: s.path})
		}
	}
	traces = append(traces, findCNIConfigs(f)...)
	traces = append(traces, findPodMounts(f)...)
	return append(traces, findClusterLinks(links)...), unknown
}

// isPresent reports whether p is a file, or a directory that is not empty.
func isPresent(f Files, p string) (bool, error) {
	info, err := f.Lstat(p)
	if isMissing(err) {
		return false, nil
	}
	if err != nil || !info.IsDir() {
		return err == nil, err
	}
	entries, err := f.ReadDir(p)
	// A newly formatted file system contains only lost+found.
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "lost+found" })
	return len(entries) > 0, err
}

// findCNIConfigs returns the files that a container runtime would use as its
// network configuration.
func findCNIConfigs(f Files) []facts.Trace {
	const dir = "/etc/cni/net.d"
	entries, err := f.ReadDir(dir)
	if err != nil {
		return nil
	}
	var all []facts.Trace
	for _, e := range entries {
		if slices.Contains([]string{".conf", ".conflist", ".json"}, path.Ext(e.Name())) {
			all = append(all, facts.Trace{Software: facts.CNI, Kind: "cni-config", Path: path.Join(dir, e.Name())})
		}
	}
	return all
}

// findClusterLinks returns the interfaces that a cluster network created: their
// addresses remain and block the next cluster's network.
func findClusterLinks(links []facts.Interface) []facts.Trace {
	prefixes := []string{"kube-bridge", "cni0", "flannel.", "cilium_", "vxlan.calico", "cali", "weave", "kube-ipvs0"}
	var all []facts.Trace
	for _, i := range links {
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(i.Name, p) }) {
			continue
		}
		t := facts.Trace{Software: facts.CNI, Kind: "link", Path: i.Name}
		if len(i.Addresses) > 0 {
			t.Detail = i.Addresses[0].String()
		}
		all = append(all, t)
	}
	return all
}

// findPodMounts returns the mounts that a kubelet or a container runtime made
// for pods and that still exist: directories below them cannot be removed, and
// their disks stay busy.
func findPodMounts(f Files) []facts.Trace {
	below := []string{"/var/lib/kubelet/", "/var/lib/k0s/", "/run/k0s/", "/run/containerd/", "/run/netns/cni-", "/var/lib/rancher/"}
	var all []facts.Trace
	for _, m := range parseMounts(f.ReadBytes("/proc/self/mountinfo")) {
		if slices.ContainsFunc(below, func(dir string) bool { return strings.HasPrefix(m.Point, dir) }) {
			all = append(all, facts.Trace{Software: facts.Kubelet, Kind: "mount", Path: m.Point, Detail: m.FSType})
		}
	}
	return all
}
