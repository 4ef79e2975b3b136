package probe

import (
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// traceSign is a path that a certain software leaves. A directory counts only
// if there is a file in it, a socket only if a program listens on it.
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
		present, err := isPresent(f, s)
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

// isPresent reports whether the software of s has left its path. A data directory
// may be a symbolic link.
func isPresent(f Files, s traceSign) (bool, error) {
	if s.kind == "data" {
		return hasFiles(f, s.path, 4)
	}
	_, err := f.Lstat(s.path)
	if isMissing(err) {
		return false, nil
	}
	if s.kind == "socket" && err == nil {
		sockets, err := f.ReadFile("/proc/net/unix")
		return err != nil || parseListeningSockets(sockets)[s.path], nil
	}
	return err == nil, err
}

// hasFiles reports whether there is a file in dir, up to depth levels below it. Empty
// directories remain after an uninstallation, and are where disks are mounted for a new
// one; a newly formatted file system contains only lost+found.
func hasFiles(f Files, dir string, depth int) (bool, error) {
	entries, err := f.ReadDir(dir)
	if isMissing(err) {
		return false, nil
	}
	for _, e := range entries {
		switch {
		case e.Name() == "lost+found":
			continue
		case !e.IsDir() || depth == 0:
			return true, nil
		}
		if found, err := hasFiles(f, path.Join(dir, e.Name()), depth-1); found || err != nil {
			return found, err
		}
	}
	return false, err
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
			p := path.Join(dir, e.Name())
			all = append(all, facts.Trace{Software: cniConfigOwner(e.Name(), f.ReadText(p)), Kind: "cni-config", Path: p})
		}
	}
	return all
}

// cniConfigOwner returns the software that wrote a network configuration: a container
// tool for its own networks, or facts.CNI for any other.
func cniConfigOwner(name, text string) facts.Software {
	switch {
	case strings.Contains(text, `"nerdctlID"`), strings.HasPrefix(name, "nerdctl-"):
		return facts.Nerdctl
	case strings.Contains(text, `"cni-podman`), strings.Contains(name, "podman"):
		return facts.Podman
	case strings.Contains(name, "crio"):
		return facts.CRIO
	}
	return facts.CNI
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

// findPodMounts returns the mounts that a kubelet or the container runtime of one made
// for pods and that still exist, oldest first: directories below them cannot be
// removed, and their disks stay busy. Disks that are mounted at the directories of k0s
// for a new installation, and the containers of Docker, nerdctl and podman, are none.
func findPodMounts(f Files) []facts.Trace {
	below := []string{
		"/var/lib/kubelet/pods/", "/var/lib/kubelet/plugins/", "/var/lib/k0s/kubelet/pods/", "/var/lib/k0s/kubelet/plugins/",
		"/run/k0s/containerd/", "/run/k3s/containerd/", "/run/containerd/io.containerd.grpc.v1.cri/", "/run/containerd/io.containerd.runtime.v2.task/k8s.io/",
		"/run/netns/cni-",
	}
	var all []facts.Trace
	for _, m := range parseMounts(f.ReadBytes("/proc/self/mountinfo")) {
		if slices.ContainsFunc(below, func(dir string) bool { return strings.HasPrefix(m.Point, dir) }) {
			all = append(all, facts.Trace{Software: facts.Kubelet, Kind: "mount", Path: m.Point, Detail: m.FSType})
		}
	}
	return all
}
