package checks

import (
	"net/netip"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// setSysctl sets a kernel setting.
func setSysctl(key, value string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) { f.Settings.Sysctls[key] = value }
}

// withSysctlFile adds a line of a file in sysctl.d.
func withSysctlFile(path, key, value string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) {
		f.Settings.Files = append(f.Settings.Files, facts.SysctlFile{Path: path, Key: key, Value: value})
	}
}

// withSysctlPattern adds a line of a file in sysctl.d that sets key by a pattern.
func withSysctlPattern(key, pattern, value string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) {
		f.Settings.Files = append(f.Settings.Files, facts.SysctlFile{Path: "/etc/sysctl.d/99-cis.conf", Key: key, Value: value, Pattern: pattern})
	}
}

func settingsFaults() []fault {
	return []fault{
		{"clock-offset", "1 h behind an online source", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			req.Sources = []string{"https://registry.example.com"}
			f.Sources = []facts.Source{{URL: "https://registry.example.com", TookMS: 40, Offset: time.Hour}}
		}},
		{"clock-offset", "1 h ahead of the hardware, not synchronized", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Clock.RTC = f.Clock.Now.Add(-time.Hour) }},
		{"clock-offset", "1 h ahead of the hardware, synchronized", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) {
			f.Clock.RTC, f.Clock.Synced = f.Clock.Now.Add(-time.Hour), true
		}},
		{"clock-source", "a slow one", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Clock.Source = "acpi_pm" }},
		{"time-zone", "a broken link", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Clock.Zone = "" }},
		{"sysctl-forwarding", "hardened by CIS", hp.Warn, withSysctlFile("/etc/sysctl.d/99-cis.conf", "net.ipv4.ip_forward", "0")},
		{"sysctl-forwarding", "hardened, read before the install's file", hp.Pass, withSysctlFile("/etc/sysctl.d/60-cis.conf", "net.ipv4.ip_forward", "0")},
		{"sysctl-forwarding", "a pattern for a key that the install names", hp.Pass, withSysctlPattern("net.ipv4.ip_forward", "net.ipv4.ip_*", "0")},
		{"sysctl-forwarding", "a pattern for another key", hp.Warn, withSysctlPattern("net.ipv4.conf.all.forwarding", "net.ipv4.conf.*.forwarding", "0")},
		{"sysctl-inotify", "lowered", hp.Warn, withSysctlFile("/etc/sysctl.d/99-sysctl.conf", "fs.inotify.max_user_instances", "128")},
		{"sysctl-rp-filter", "strict", hp.Warn, func(f *facts.Facts, req *hp.Requirements) {
			setSysctl("net.ipv4.conf.all.rp_filter", "1")(f, req)
			setSysctl("net.ipv4.conf.default.rp_filter", "1")(f, req)
		}},
		{"sysctl-rp-filter", "strict by a file that is read late", hp.Warn, func(f *facts.Facts, req *hp.Requirements) {
			setSysctl("net.ipv4.conf.all.rp_filter", "1")(f, req)
			setSysctl("net.ipv4.conf.default.rp_filter", "1")(f, req)
			withSysctlFile("/etc/sysctl.d/99-sysctl.conf", "net.ipv4.conf.all.rp_filter", "1")(f, req)
		}},
		{"sysctl-rp-filter", "strict for all, loose by default", hp.Pass, setSysctl("net.ipv4.conf.all.rp_filter", "1")},
		{"sysctl-arp", "arp_ignore set", hp.Warn, setSysctl("net.ipv4.conf.all.arp_ignore", "1")},
		{"limits", "limits of a container", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.Settings.OpenFiles, f.Privilege.Missing = 4096, []string{"sys_resource"}
		}},
		{"limits", "a host with 2 GB", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) { f.Settings.Processes, f.Privilege.Missing = 7823, nil }},
		{"limits", "unlimited", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) { f.Settings.OpenFiles = -1 }},
		{"hugepages", "always with defrag", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Settings.Hugepages, f.Settings.Defrag = "always", "always" }},
		{"hugepages", "not in the kernel", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) { f.Settings.Hugepages = "" }},
		{"entropy", "low, Linux 4.18", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.Settings.Entropy, f.Kernel.Release = 60, "4.18.0-553.el8_10.x86_64"
		}},
		{"entropy", "low, Linux 5.10", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) { f.Settings.Entropy, f.Kernel.Release = 60, "5.10.0-35-amd64" }},
		{"entropy", "not reported", hp.Unknown, func(f *facts.Facts, _ *hp.Requirements) {
			f.Settings.Entropy, f.Kernel.Release = 0, "4.18.0-553.el8_10.x86_64"
		}},
	}
}

// withFsyncP99 sets the 99th percentile of the disk's sync latency.
func withFsyncP99(p99 time.Duration) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) {
		f.Measures.Fsync = &facts.FsyncLatency{Path: "/var/lib", Writes: 340, Rounds: 3, P50: p99 / 3, P99: p99, P999: 2 * p99}
	}
}

func measuredFaults() []fault {
	return []fault{
		{"disk-latency", "a slow disk", hp.Fail, withFsyncP99(12400 * time.Microsecond)},
		{"disk-latency", "near the limit", hp.Warn, withFsyncP99(6 * time.Millisecond)},
		{"disk-latency", "a disk that hangs", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Measures.Fsync = &facts.FsyncLatency{Path: "/var/lib", P50: 9 * time.Second, P99: 9 * time.Second, P999: 9 * time.Second}
		}},
		{"disk-latency", "a slow disk, worker", hp.Skipped, func(f *facts.Facts, req *hp.Requirements) { req.Role = hp.Worker; withFsyncP99(time.Second)(f, req) }},
		{"disk-latency", "a slow disk, before an upgrade", hp.Skipped, func(f *facts.Facts, req *hp.Requirements) { req.Verb = hp.Upgrade; withFsyncP99(time.Second)(f, req) }},
		{"disk-latency", "--quick", hp.Skipped, func(_ *facts.Facts, req *hp.Requirements) { req.Quick = true }},
		{"disk-latency", "permission denied", hp.Unknown, func(f *facts.Facts, _ *hp.Requirements) {
			f.Unknown = []facts.Unknown{{Fact: "measure:fsync", Reason: "cannot create a file in /var/lib: permission denied"}}
		}},
		{"disk-throughput", "a slow disk", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.Measures.Write = &facts.WriteSpeed{Path: "/var/lib", Bytes: 8 << 20, Took: 1300 * time.Millisecond}
		}},
		{"cpu-speed", "overcommitted", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Measures.Core = &facts.CoreSpeed{MBps: 180} }},
		{"disk-ftype", "an old XFS", hp.Fail, editDisks(func(d *facts.Disk) { d.FSType, d.FType = "xfs", "0" })},
		{"disk-ftype", "an XFS without ftype information", hp.Unknown, editDisks(func(d *facts.Disk) { d.FSType, d.FType = "xfs", "" })},
		{"disk-permissions", "a parent directory without o+x", hp.Fail, editDisks(func(d *facts.Disk) { d.Closed = "/var" })},
	}
}

func onlineFaults() []fault {
	return []fault{
		{"dns-answers", "packets are dropped", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.Network.Servers = []facts.NameServer{{Address: mustAddr("192.0.2.53"), TookMS: 1500, Error: "no answer within 1.5s"}}
		}},
		{"dns-answers", "slow", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Network.Servers[0].TookMS = 900 }},
		{"dns-answers", "no server", hp.Skipped, func(f *facts.Facts, _ *hp.Requirements) { f.Network.Servers = nil }},
		{"dns-wildcard", "resolves every name", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.Network.Search = []string{"corp.example.com"}
			f.Lookups[2].Addresses, f.Lookups[2].Error = []netip.Addr{mustAddr("203.0.113.80")}, ""
		}},
		{"dns-wildcard", "no internet", hp.Skipped, func(f *facts.Facts, _ *hp.Requirements) {
			f.Lookups[2].Error = "name server 10.0.0.1:53: read: connection refused"
		}},
		{"dns-wildcard", "no response", hp.Unknown, func(f *facts.Facts, _ *hp.Requirements) { f.Lookups[2].Error = "no answer within 1.5s" }},
		{"sources", "a certificate that is not trusted", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			*req = onlineRequirements()
			f.Sources = []facts.Source{{URL: req.Sources[0], Error: "tls: failed to verify certificate: x509: certificate signed by unknown authority"}}
		}},
		{"sources", "reachable but incomplete", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			*req = onlineRequirements()
			f.Sources = []facts.Source{{URL: req.Sources[0], TookMS: 81}}
			req.MissingBlobs = []string{"sha256:1 is not there", "sha256:2 is not there", "sha256:3 is not there", "sha256:4 is not there"}
		}},
		{"sources", "reachable", hp.Pass, func(f *facts.Facts, req *hp.Requirements) {
			*req = onlineRequirements()
			f.Sources = []facts.Source{{URL: req.Sources[0], TookMS: 81}}
		}},
		{"node-ports", "overlaps with the range of connections", hp.Warn, setSysctl("net.ipv4.ip_local_port_range", "1024 65000")},
		{"node-ports", "no range", hp.Skipped, func(_ *facts.Facts, req *hp.Requirements) { req.NodePorts = [2]int{} }},
	}
}

// withActiveUnit adds an active unit.
func withActiveUnit(name string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) {
		f.Units = append(f.Units, facts.Unit{Name: name, Active: "active"})
	}
}

func guardFaults() []fault {
	chains := func(table string) []facts.FilterChain {
		return []facts.FilterChain{{Table: table, Name: "INPUT", Hook: "input", Policy: "accept", Rules: []facts.FilterRule{{Text: "-j REJECT", Verdict: "drop"}}},
			{Table: "inet filter", Name: "forward", Hook: "forward", Policy: "drop"}}
	}
	filters := func(f *facts.Facts, _ *hp.Requirements) { f.Filters = chains("iptables filter") }
	return []fault{
		{"apparmor", "without its parser", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Security.AppArmor = true }},
		{"packet-filter", "drops by default", hp.Warn, filters},
		{"packet-filter", "tables of ufw and firewalld", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) {
			f.Filters, f.Security.UFW = append(chains("iptables filter")[:1], chains("inet firewalld")[0]), true
		}},
		{"packet-filter", "already installed", hp.Pass, func(f *facts.Facts, req *hp.Requirements) { filters(f, req); req.Owned.Installed = true }},
		{"iptables-tables", "a table of another program", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.ForeignTables = []string{"ip filter", "ip6 nat"} }},
		{"iptables-tables", "for IPv6 only", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.ForeignTables = []string{"ip6 filter"} }},
		{"fapolicyd", "active", hp.Fail, withActiveUnit("fapolicyd")},
		{"fapolicyd", "with some of the rules", hp.Fail, withFapolicyd("/var/lib/k0s/", "/opt/", "/run/k0s2/")},
		{"fapolicyd", "with the printed rules", hp.Pass, withFapolicyd("/usr/local/bin/", "/var/lib/k0s/", "/run/k0s/", "/opt/cni/")},
		{"fapolicyd", "permissive", hp.Pass, func(f *facts.Facts, req *hp.Requirements) {
			f.Security.FapolicydLogs = true
			withActiveUnit("fapolicyd")(f, req)
		}},
		{"endpoint-security", "an agent", hp.Warn, withActiveUnit("falcon-sensor")},
		{"sudo-path", "default of RHEL", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Security.SudoPath = "/sbin:/bin:/usr/sbin:/usr/bin" }},
		{"proxy", "without cluster networks", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.Proxies = []facts.Proxy{{From: "/etc/environment", HTTPS: "proxy.example.com:3128", NoProxy: []string{"localhost"}}}
		}},
		{"proxy", "only a part of the cluster networks", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.Proxies = []facts.Proxy{{From: "/etc/environment", HTTPS: "proxy.example.com:3128", NoProxy: []string{"10.244.0.0/24", "10.96.0.0/16", "10.77.0.0/16"}}}
		}},
		{"proxy", "complete", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) {
			f.Proxies = []facts.Proxy{{From: "/etc/environment", HTTPS: "proxy.example.com:3128", NoProxy: []string{"10.0.0.0/8"}}}
		}},
		{"leftover-mounts", "of a network namespace", hp.Warn, withTraces(facts.Trace{Software: facts.Kubelet, Kind: "mount", Path: "/run/netns/cni-4711", Detail: "nsfs"})},
		{"leftover-mounts", "one below another", hp.Warn, withTraces(podMounts(1)[0], facts.Trace{Software: facts.Kubelet, Kind: "mount", Path: "/var/lib/kubelet/pods/a/volumes/b"})},
		{"leftover-mounts", "many", hp.Warn, withTraces(podMounts(7)...)},
	}
}

// withFapolicyd adds an active fapolicyd that allows programs in dirs.
func withFapolicyd(dirs ...string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, req *hp.Requirements) {
		f.Security.FapolicydAllows = dirs
		withActiveUnit("fapolicyd")(f, req)
	}
}

// podMounts returns n mounts of pods.
func podMounts(n int) []facts.Trace {
	var all []facts.Trace
	for i := range n {
		all = append(all, facts.Trace{Software: facts.Kubelet, Kind: "mount", Path: "/var/lib/kubelet/pods/" + string(rune('a'+i)), Detail: "tmpfs"})
	}
	return all
}
