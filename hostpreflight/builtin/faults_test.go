package builtin

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/network"
	"github.com/plinthdev/plinth/internal/facts"
)

// fault is one thing that is wrong with a host that is otherwise fine.
type fault struct {
	id, name string
	state    hp.State
	edit     func(*facts.Facts, *hp.Want)
}

func faults() []fault {
	return slices.Concat(machineFaults(), kernelFaults(), diskFaults(), networkFaults(), portFaults(), existingFaults(),
		settingsFaults(), measuredFaults(), onlineFaults(), guardFaults(), peerFaults())
}

func machineFaults() []fault {
	return []fault{
		{"root", "a normal user", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Privilege.UID = 1000 }},
		{"capabilities", "a container", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Privilege.Missing = []string{"net_admin", "sys_admin"} }},
		{"capabilities", "without sys_resource", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.Privilege.Missing = []string{"sys_resource"} }},
		{"systemd", "another init", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Systemd = facts.Systemd{} }},
		{"systemd", "still booting", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.Systemd.State = "starting" }},
		{"systemd", "does not answer", hp.Unknown, func(f *facts.Facts, _ *hp.Want) {
			f.Unknown = []facts.Unknown{{Fact: facts.FactSystemd, Why: "no answer within 3s"}}
		}},
		{"os", "not on the list", hp.Warn, func(f *facts.Facts, _ *hp.Want) {
			f.OS = facts.OS{ID: "fedora", Version: "41", Name: "Fedora Linux 41 (Server Edition)", Arch: "amd64"}
		}},
		{"os", "too old", hp.Warn, func(f *facts.Facts, _ *hp.Want) {
			f.OS = facts.OS{ID: "centos", Version: "7", Name: "CentOS Linux 7 (Core)", Arch: "amd64"}
		}},
		{"architecture", "another one", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.OS.Arch = "arm64" }},
		{"cpu", "one processor", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.CPU.Count = 1 }},
		{"cpu", "one processor, worker", hp.Warn, func(f *facts.Facts, w *hp.Want) { f.CPU.Count, w.Role = 1, hp.Worker }},
		{"cpu", "the vendor wants more", hp.Fail, func(_ *facts.Facts, w *hp.Want) { w.MinCPUs = 8 }},
		{"cpu-level", "an old model", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.CPU.Level = 1 }},
		{"memory", "too little", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Memory.Total = 1.9e9 }},
		{"memory", "little", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.Memory.Total = 2.07e9 }},
		{"memory", "little, worker", hp.Fail, func(f *facts.Facts, w *hp.Want) { f.Memory.Total, w.Role = 4e8, hp.Worker }},
		{"memory", "cannot be read", hp.Unknown, func(f *facts.Facts, _ *hp.Want) {
			f.Unknown = []facts.Unknown{{Fact: facts.FactMemory, Why: "open /proc/meminfo: permission denied"}}
		}},
		{"swap", "on", hp.Warn, func(f *facts.Facts, _ *hp.Want) {
			f.Memory.SwapOn = []facts.Swap{{Path: "/swap.img", Size: 2147479552}}
		}},
		{"machine-id", "none", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.MachineID = "" }},
		{"clock", "battery empty", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Clock.Now = time.Unix(3600, 0) }},
		{"clock", "before the bundle", hp.Fail, func(_ *facts.Facts, w *hp.Want) { w.NotBefore = time.Date(2027, 1, 2, 3, 4, 0, 0, time.UTC) }},
		{"clock", "far ahead", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Clock.Now = f.Clock.Now.AddDate(40, 0, 0) }},
		{"clock-sync", "not steered", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.Clock.Synced = false }},
		{"selinux", "enforcing", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.Security.SELinux = "enforcing" }},
		{"command-mount", "none", hp.Fail, func(f *facts.Facts, _ *hp.Want) { delete(f.Commands, "mount") }},
		{"command-umount", "none", hp.Fail, func(f *facts.Facts, _ *hp.Want) { delete(f.Commands, "umount") }},
		{"command-useradd", "none", hp.Warn, func(f *facts.Facts, _ *hp.Want) {
			delete(f.Commands, "useradd")
			delete(f.Commands, "adduser")
		}},
	}
}

// feature puts one kernel feature into a state.
func feature(name string, state facts.FeatureState, how string) func(*facts.Facts, *hp.Want) {
	return func(f *facts.Facts, _ *hp.Want) {
		i := slices.IndexFunc(f.Kernel.Features, func(ft facts.Feature) bool { return ft.Name == name })
		f.Kernel.Features[i] = facts.Feature{Name: name, State: state, How: how}
	}
}

func kernelFaults() []fault {
	missing := func(name string) func(*facts.Facts, *hp.Want) {
		return feature(name, facts.Missing, "neither modules.builtin nor modules.dep names it")
	}
	return []fault{
		{"kernel-release", "CentOS 6", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Kernel.Release = "2.6.32-754.el6.x86_64" }},
		{"kernel-release", "CentOS 7", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.Kernel.Release = "3.10.0-1160.el7.x86_64" }},
		{"kernel-release", "no number", hp.Unknown, func(f *facts.Facts, _ *hp.Want) { f.Kernel.Release = "custom" }},
		{"kernel-overlay", "missing", hp.Fail, missing("overlay")},
		{"kernel-overlay", "missing on Ubuntu", hp.Fail, func(f *facts.Facts, w *hp.Want) {
			f.OS.ID, f.Kernel.Release = "ubuntu", "6.8.0-51-generic"
			missing("overlay")(f, w)
		}},
		{"kernel-overlay", "a module, and no modprobe", hp.Fail, func(f *facts.Facts, w *hp.Want) {
			delete(f.Commands, "modprobe")
			feature("overlay", facts.Module, "modules.dep")(f, w)
		}},
		{"kernel-overlay", "nothing tells", hp.Unknown, feature("overlay", facts.FeatureVague, "this host has neither a kernel configuration nor a list of modules")},
		{"kernel-namespaces", "missing", hp.Fail, missing("pid_ns")},
		{"kernel-bridge", "missing", hp.Fail, missing("br_netfilter")},
		{"kernel-veth", "missing", hp.Fail, missing("veth")},
		{"kernel-conntrack", "missing", hp.Fail, missing("nf_conntrack")},
		{"kernel-netfilter", "neither", hp.Fail, func(f *facts.Facts, w *hp.Want) { missing("nf_tables")(f, w); missing("ip_tables")(f, w) }},
		{"kernel-netfilter", "legacy only", hp.Pass, missing("nf_tables")},
		{"kernel-xtables", "missing on RHEL", hp.Fail, func(f *facts.Facts, w *hp.Want) {
			f.OS.ID, f.Kernel.Release = "rhel", "5.14.0-570.12.1.el9_6.x86_64"
			missing("xt_statistic")(f, w)
		}},
		{"kernel-ipset", "missing", hp.Fail, missing("ip_set")},
		{"cgroup-version", "none", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Cgroup = facts.Cgroup{} }},
		{"cgroup-version", "1 with Kubernetes 1.33", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.Cgroup.Version, f.Cgroup.Hybrid = 1, false }},
		{"cgroup-version", "1 with Kubernetes 1.35", hp.Fail, func(f *facts.Facts, w *hp.Want) { f.Cgroup.Version, w.KubernetesMinor = 1, 35 }},
		{"cgroup-controllers", "no memory controller", hp.Fail, func(f *facts.Facts, _ *hp.Want) {
			f.Cgroup = facts.Cgroup{Version: 2, Controllers: []string{"cpu", "cpuset", "io", "pids"}}
		}},
	}
}

// onDisk changes the file system that everything lies on.
func onDisk(edit func(*facts.Disk)) func(*facts.Facts, *hp.Want) {
	return func(f *facts.Facts, _ *hp.Want) {
		for i := range f.Disks {
			edit(&f.Disks[i])
		}
	}
}

func diskFaults() []fault {
	return []fault{
		{"disk-space", "too small for the sum", hp.Fail, onDisk(func(d *facts.Disk) { d.Available = 4.1e9 })},
		{"disk-space", "a disk that does not answer", hp.Unknown, func(f *facts.Facts, _ *hp.Want) {
			f.Disks = f.Disks[:2]
			f.Unknown = []facts.Unknown{{Fact: "disk:/var/lib/k0s", Why: "no answer within 3s"}}
		}},
		{"disk-eviction", "nearly full", hp.Fail, onDisk(func(d *facts.Disk) { d.Available = 8e9 })},
		{"disk-eviction", "close to the limit", hp.Warn, onDisk(func(d *facts.Disk) { d.Available = 11.5e9 })},
		{"disk-eviction", "nearly full, kubelet configured for that", hp.Pass, func(f *facts.Facts, w *hp.Want) {
			w.EvictBelow = 1
			onDisk(func(d *facts.Disk) { d.Available = 8e9 })(f, w)
		}},
		{"disk-inodes", "few", hp.Fail, onDisk(func(d *facts.Disk) { d.InodesFree = d.Inodes / 25 })},
		{"disk-inodes", "not many", hp.Warn, onDisk(func(d *facts.Disk) { d.InodesFree = d.Inodes / 12 })},
		{"disk-mount-options", "read-only", hp.Fail, onDisk(func(d *facts.Disk) { d.Options = []string{"ro", "relatime"} })},
		{"disk-mount-options", "noexec", hp.Fail, onDisk(func(d *facts.Disk) {
			if d.Path == "/var/lib/k0s" {
				d.Mount, d.Options = "/var", []string{"rw", "noexec"}
			}
		})},
		{"disk-filesystem", "NFS", hp.Fail, onDisk(func(d *facts.Disk) { d.FSType = "nfs4" })},
		{"disk-filesystem", "ZFS", hp.Warn, onDisk(func(d *facts.Disk) { d.FSType = "zfs" })},
		{"disk-symlink", "to another disk", hp.Warn, onDisk(func(d *facts.Disk) {
			if d.Path == "/var/lib/k0s" {
				d.Symlink, d.Exists = "/var/lib/k0s", "/data/k0s"
			}
		})},
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func address(s string) netip.Addr { return netip.MustParseAddr(s) }

// named gives the host another name, which resolves.
func named(name string) func(*facts.Facts, *hp.Want) {
	return func(f *facts.Facts, _ *hp.Want) { f.Hostname, f.Lookups[0].Name = name, name }
}

// lookup changes how the host's own name resolves.
func lookup(edit func(*facts.Lookup)) func(*facts.Facts, *hp.Want) {
	return func(f *facts.Facts, _ *hp.Want) { edit(&f.Lookups[0]) }
}

func networkFaults() []fault {
	return []fault{
		{"hostname", "upper case", hp.Fail, named("Node-1.Example.com")},
		{"hostname", "underscore", hp.Fail, named("node_1")},
		{"hostname", "too long", hp.Fail, named(strings.Repeat("a", 64))},
		{"hostname", "localhost", hp.Fail, named("localhost.localdomain")},
		{"hostname-resolves", "no such name", hp.Warn, lookup(func(l *facts.Lookup) { l.Addresses, l.Error = nil, "no such name" })},
		{"hostname-resolves", "DNS drops packets", hp.Warn, lookup(func(l *facts.Lookup) { l.Addresses, l.Error, l.TookMS = nil, "no answer within 1.5s", 1500 })},
		{"hostname-resolves", "slow", hp.Warn, lookup(func(l *facts.Lookup) { l.TookMS = 1234 })},
		{"hostname-resolves", "to another host", hp.Warn, lookup(func(l *facts.Lookup) { l.Addresses = []netip.Addr{address("203.0.113.9")} })},
		{"localhost-resolves", "no such name", hp.Fail, func(f *facts.Facts, _ *hp.Want) {
			f.Lookups[1] = facts.Lookup{Name: "localhost", Error: "no such name"}
		}},
		{"localhost-resolves", "to an address", hp.Fail, func(f *facts.Facts, _ *hp.Want) {
			f.Lookups[1].Addresses = []netip.Addr{address("192.0.2.7")}
		}},
		{"nameserver", "none", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.Network.Nameservers = nil }},
		{"nameserver", "loopback", hp.Warn, func(f *facts.Facts, _ *hp.Want) { f.Network.Nameservers = []netip.Addr{address("127.0.0.1")} }},
		{"default-route", "none", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Network.Routes = f.Network.Routes[1:] }},
		{"node-address", "none", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Network.Interfaces = f.Network.Interfaces[:1] }},
		{"node-address", "not on this host", hp.Fail, func(_ *facts.Facts, w *hp.Want) { w.NodeIP = address("10.77.108.99") }},
		{"cidr-pods", "the host's own network", hp.Fail, func(_ *facts.Facts, w *hp.Want) { w.PodCIDR = prefix("10.77.0.0/16") }},
		{"cidr-pods", "only a link of an earlier cluster", hp.Pass, func(f *facts.Facts, w *hp.Want) {
			f.Network.Routes = append(f.Network.Routes, facts.Route{Destination: prefix("10.244.0.0/24"), Interface: "kube-bridge"})
			left(facts.Trace{Of: facts.CNI, Kind: "link", Path: "kube-bridge"})(f, w)
		}},
		{"cidr-services", "the name server's", hp.Fail, func(f *facts.Facts, _ *hp.Want) { f.Network.Nameservers = []netip.Addr{address("10.96.0.53")} }},
		{"firewalld", "on", hp.Warn, func(f *facts.Facts, _ *hp.Want) {
			f.Units = append(f.Units, facts.Unit{Name: "firewalld", Active: "active"})
		}},
		{"ufw", "on, worker", hp.Warn, func(f *facts.Facts, w *hp.Want) { f.Security.UFW, w.Role = true, hp.Worker }},
	}
}

func portFaults() []fault {
	var all []fault
	for i, key := range network.Ports(wanted()) {
		check := network.PortChecks()[i]
		all = append(all, fault{check.ID, "taken", hp.Fail, func(f *facts.Facts, _ *hp.Want) {
			takePort(f, key.String(), facts.Owner{PID: 812, Program: "/usr/sbin/nginx", Unit: "nginx"})
		}})
	}
	return append(all,
		fault{"port-kube-apiserver", "taken by a program that is no service", hp.Fail, func(f *facts.Facts, _ *hp.Want) {
			takePort(f, "6443/tcp", facts.Owner{PID: 4711, Program: "/home/me/server"})
		}},
		fault{"port-kube-apiserver", "taken by nobody who can be seen", hp.Fail, func(f *facts.Facts, _ *hp.Want) {
			f.Ports[0] = facts.Port{PortKey: f.Ports[0].PortKey, Error: "EADDRINUSE"}
		}},
		fault{"port-kube-apiserver", "address not there", hp.Fail, func(f *facts.Facts, _ *hp.Want) {
			f.Ports[0] = facts.Port{PortKey: f.Ports[0].PortKey, Error: "EADDRNOTAVAIL"}
		}},
		fault{"port-kube-router-bgp", "may not be bound", hp.Unknown, func(f *facts.Facts, _ *hp.Want) {
			f.Unknown = []facts.Unknown{{Fact: "port:179/tcp", Why: "binding it is not permitted (EACCES)"}}
		}},
		fault{"port-console", "no console", hp.Skipped, func(_ *facts.Facts, w *hp.Want) { w.ConsolePort = 0 }},
		fault{"port-kubelet", "moved to a port that nobody bound", hp.Unknown, func(_ *facts.Facts, w *hp.Want) { w.Ports = map[string]int{"kubelet": 10350} }},
	)
}

// left adds traces.
func left(traces ...facts.Trace) func(*facts.Facts, *hp.Want) {
	return func(f *facts.Facts, _ *hp.Want) { f.Traces = append(f.Traces, traces...) }
}

// since is a host whose last run found something else.
func since(was func(*facts.Facts)) func(*facts.Facts, *hp.Want) {
	return func(f *facts.Facts, w *hp.Want) {
		earlier := *f
		was(&earlier)
		w.Earlier.Facts = &earlier
	}
}

func existingFaults() []fault {
	return []fault{
		{"host-changed", "nothing has", hp.Pass, since(func(*facts.Facts) {})},
		{"host-changed", "other name and kernel", hp.Warn, since(func(was *facts.Facts) { was.Hostname, was.Kernel.Release = "h0", "6.1.0-1-amd64" })},
		{"host-changed", "less memory, other zone", hp.Warn, since(func(was *facts.Facts) { was.Memory.Total, was.Clock.Zone = 64e9, "Europe/Berlin" })},
		{"host-changed", "what was kept is damaged", hp.Unknown, func(_ *facts.Facts, w *hp.Want) {
			w.Earlier.Why = "/var/lib/plinth/facts.json was changed: its digest is not the one in the journal"
		}},
		{"existing-k0s", "runs", hp.Fail, func(f *facts.Facts, _ *hp.Want) {
			f.Units = append(f.Units, facts.Unit{Name: "k0scontroller", Active: "active"})
			f.Traces = []facts.Trace{{Of: facts.K0s, Kind: "file", Path: "/usr/local/bin/k0s"}, {Of: facts.K0s, Kind: "data", Path: "/var/lib/k0s"}}
		}},
		{"existing-kubernetes", "kubeadm", hp.Fail, func(f *facts.Facts, _ *hp.Want) {
			f.Units = append(f.Units, facts.Unit{Name: "kubelet", Active: "activating"})
			f.Traces = []facts.Trace{{Of: facts.Kubeadm, Kind: "data", Path: "/etc/kubernetes"}, {Of: facts.Kubelet, Kind: "file", Path: "/usr/bin/kubelet"}}
		}},
		{"existing-kubernetes", "k3s", hp.Fail, func(f *facts.Facts, _ *hp.Want) {
			f.Units = append(f.Units, facts.Unit{Name: "k3s", Active: "inactive"})
			f.Traces = []facts.Trace{{Of: facts.K3s, Kind: "file", Path: "/usr/local/bin/k3s"}}
		}},
		{"existing-container-runtime", "Docker runs", hp.Warn, func(f *facts.Facts, _ *hp.Want) {
			f.Units = append(f.Units, facts.Unit{Name: "docker", Active: "active"}, facts.Unit{Name: "containerd", Active: "active"})
		}},
		{"existing-container-runtime", "installed, does not run", hp.Pass, func(f *facts.Facts, _ *hp.Want) {
			f.Units = append(f.Units, facts.Unit{Name: "containerd", Active: "inactive"})
		}},
		{"leftover-cni", "two files", hp.Fail, left(
			facts.Trace{Of: facts.CNI, Kind: "cni-config", Path: "/etc/cni/net.d/10-flannel.conflist"},
			facts.Trace{Of: facts.CNI, Kind: "cni-config", Path: "/etc/cni/net.d/10-kuberouter.conflist"})},
		{"leftover-links", "a bridge", hp.Fail, left(facts.Trace{Of: facts.CNI, Kind: "link", Path: "kube-bridge", Detail: "10.244.0.1/24"})},
		{"leftover-iptables", "rules", hp.Warn, left(facts.Trace{Of: facts.KubeProxy, Kind: "iptables", Detail: "lines with KUBE-: 134"})},
		{"leftover-iptables", "cannot be asked", hp.Unknown, func(f *facts.Facts, _ *hp.Want) {
			f.Unknown = []facts.Unknown{{Fact: facts.FactIptables, Why: "this host has neither iptables-save nor nft to ask"}}
		}},
	}
}
