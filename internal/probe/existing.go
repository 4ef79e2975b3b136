package probe

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/probe/parse"
)

// sign is a path that some software leaves. A folder counts when it is not empty.
type sign struct {
	path string
	of   facts.Software
	kind string
}

// signs are where Kubernetes distributions, their parts and other container
// runtimes keep their things by default.
func signs() []sign {
	return []sign{
		{"/usr/local/bin/k0s", facts.K0s, "file"},
		{"/usr/bin/k0s", facts.K0s, "file"},
		{"/etc/k0s/k0s.yaml", facts.K0s, "file"}, // not the folder: drop-ins for containerd may be put there beforehand
		{"/var/lib/k0s", facts.K0s, "data"},
		{"/usr/bin/kubeadm", facts.Kubeadm, "file"},
		{"/etc/kubernetes", facts.Kubeadm, "data"},
		{"/usr/bin/kubelet", facts.Kubelet, "file"},
		{"/usr/local/bin/kubelet", facts.Kubelet, "file"},
		{"/var/lib/kubelet/pki", facts.Kubelet, "data"}, // not the folder: k0s's kubelet leaves device-plugins there
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

func (l look) traces(context.Context) answer {
	all := signs()
	for _, dir := range l.req.DataDirs {
		if !slices.ContainsFunc(all, func(s sign) bool { return s.path == dir }) {
			all = append(all, sign{dir, facts.K0s, "data"})
		}
	}
	var traces []facts.Trace
	var unknown []facts.Unknown
	for _, s := range all {
		there, err := l.there(s.path)
		if err != nil {
			unknown = append(unknown, facts.Unknown{Fact: facts.FactTraces + ":" + s.path, Why: err.Error()})
		} else if there {
			traces = append(traces, facts.Trace{Of: s.of, Kind: s.kind, Path: s.path})
		}
	}
	traces = append(traces, l.cniConfigs()...)
	traces = append(traces, l.clusterLinks()...)
	return answer{unknown: unknown, note: func(f *facts.Facts) { f.Traces = append(f.Traces, traces...) }}
}

// there reports whether p is a file, or a folder with something in it.
func (l look) there(p string) (bool, error) {
	info, err := l.m.Lstat(p)
	if missing(err) {
		return false, nil
	}
	if err != nil || !info.IsDir() {
		return err == nil, err
	}
	entries, err := l.m.ReadDir(p)
	// A disk of its own, freshly made, is as good as empty.
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == "lost+found" })
	return len(entries) > 0, err
}

// cniConfigs are the files that a container runtime would take for its network.
func (l look) cniConfigs() []facts.Trace {
	const dir = "/etc/cni/net.d"
	entries, err := l.m.ReadDir(dir)
	if err != nil {
		return nil
	}
	var all []facts.Trace
	for _, e := range entries {
		if slices.Contains([]string{".conf", ".conflist", ".json"}, path.Ext(e.Name())) {
			all = append(all, facts.Trace{Of: facts.CNI, Kind: "cni-config", Path: path.Join(dir, e.Name())})
		}
	}
	return all
}

// clusterLinks are links that a cluster network made: their addresses stay
// behind and keep the next network from taking its own.
func (l look) clusterLinks() []facts.Trace {
	links, err := l.k.Links()
	if err != nil {
		return nil // network says so
	}
	prefixes := []string{"kube-bridge", "cni0", "flannel.", "cilium_", "vxlan.calico", "cali", "weave", "kube-ipvs0"}
	var all []facts.Trace
	for _, i := range links {
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(i.Name, p) }) {
			continue
		}
		t := facts.Trace{Of: facts.CNI, Kind: "link", Path: i.Name}
		if len(i.Addresses) > 0 {
			t.Detail = i.Addresses[0].String()
		}
		all = append(all, t)
	}
	return all
}

// iptables counts the rules of Kubernetes with what the host has for that.
// Legacy tables are only asked when they exist: asking would create them.
func (l look) iptables(ctx context.Context) answer {
	total, asked := 0, 0
	for _, argv := range [][]string{{"iptables-nft-save"}, {"iptables-legacy-save"}, {"iptables-save"}, {"nft", "list", "chains"}} {
		legacy := strings.Contains(argv[0], "legacy")
		other := asked > 0 && !legacy // it would tell the same once more
		if other || !l.exists("/usr/sbin/"+argv[0]) || legacy && l.text("/proc/net/ip_tables_names") == "" {
			continue
		}
		out, err := l.m.Run(ctx, host.Cmd{Argv: argv, Timeout: commandLimit, Look: true})
		if err != nil {
			return found(facts.FactIptables, err, nil)
		}
		asked++
		total += parse.KubeRules(out)
	}
	if asked == 0 {
		return found(facts.FactIptables, errors.New("this host has neither iptables-save nor nft to ask"), nil)
	}
	if total == 0 {
		return answer{}
	}
	t := facts.Trace{Of: facts.KubeProxy, Kind: "iptables", Detail: "lines with KUBE-: " + strconv.Itoa(total)}
	return found(facts.FactIptables, nil, func(f *facts.Facts) { f.Traces = append(f.Traces, t) })
}

// systemd asks for the manager and all units in two calls: each costs some
// 10 ms, and one call per unit would be most of the probe's time.
func (l look) systemd(ctx context.Context) answer {
	// sd_booted(3): this folder is there only when systemd is the service manager.
	if !l.exists("/run/systemd/system") {
		return found(facts.FactSystemd, nil, func(*facts.Facts) {})
	}
	s := facts.Systemd{Booted: true}
	units, err := l.units(ctx)
	manager, errManager := l.show(ctx, "Version,SystemState")
	for _, properties := range manager {
		s.Version, s.State = properties["Version"], properties["SystemState"]
	}
	a := found(facts.FactSystemd, errors.Join(err, errManager), nil)
	a.note = func(f *facts.Facts) { f.Systemd, f.Units = s, units }
	return a
}

func (l look) units(ctx context.Context) ([]facts.Unit, error) {
	if len(l.req.Units) == 0 {
		return nil, nil
	}
	shown, err := l.show(ctx, "Id,LoadState,ActiveState,FragmentPath,MainPID", l.req.Units...)
	if err != nil {
		return nil, err
	}
	var units []facts.Unit
	for _, p := range shown {
		if p["LoadState"] == "not-found" {
			continue
		}
		pid, _ := strconv.Atoi(p["MainPID"]) // 0 when it does not run
		units = append(units, facts.Unit{Name: strings.TrimSuffix(p["Id"], ".service"), Active: p["ActiveState"], Path: p["FragmentPath"], MainPID: pid})
	}
	return units, nil
}

func (l look) show(ctx context.Context, properties string, units ...string) ([]map[string]string, error) {
	argv := append([]string{"systemctl", "show", "--no-pager", "--property=" + properties}, units...)
	out, err := l.m.Run(ctx, host.Cmd{Argv: argv, Timeout: commandLimit, Look: true})
	if err != nil {
		return nil, err
	}
	return parse.Show(out), nil
}
