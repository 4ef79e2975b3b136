package checks

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/resolvconf"
)

// fault is one problem on a host that has no other problems.
type fault struct {
	id, name string
	state    hp.State
	edit     func(*facts.Facts, *hp.Requirements)
}

func faults() []fault {
	return slices.Concat(machineFaults(), kernelFaults(), diskFaults(), networkFaults(), balancerFaults(), portFaults(), existingFaults(), runtimeFaults(),
		settingsFaults(), measuredFaults(), onlineFaults(), guardFaults(), peerFaults())
}

func machineFaults() []fault {
	return []fault{
		{"root", "a normal user", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Privilege.UID = 1000 }},
		{"capabilities", "a container", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Privilege.Missing = []string{"net_admin", "sys_admin"} }},
		{"capabilities", "an unprivileged container", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Privilege.UserNamespace = true }},
		{"capabilities", "without sys_resource", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Privilege.Missing = []string{"sys_resource"} }},
		{"systemd", "another init system", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Systemd = facts.Systemd{} }},
		{"systemd", "still booting", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Systemd.State = "starting" }},
		{"systemd", "in rescue mode", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Systemd.State = "maintenance" }},
		{"systemd", "shutting down", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Systemd.State = "stopping" }},
		{"systemd", "does not respond", hp.Unknown, func(f *facts.Facts, _ *hp.Requirements) {
			f.Unknown = []facts.Unknown{{Fact: facts.FactSystemd, Reason: "no answer within 3s"}}
		}},
		{"os", "not on the list", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.OS = facts.OS{ID: "fedora", Version: "41", Name: "Fedora Linux 41 (Server Edition)", Arch: "amd64"}
		}},
		{"os", "Ubuntu, between two LTS releases", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.OS = facts.OS{ID: "ubuntu", Version: "24.10", Name: "Ubuntu 24.10", Arch: "amd64"}
		}},
		{"os", "Ubuntu LTS", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) {
			f.OS = facts.OS{ID: "ubuntu", Version: "22.04", Name: "Ubuntu 22.04.5 LTS", Arch: "amd64"}
		}},
		{"os", "too old", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.OS = facts.OS{ID: "centos", Version: "7", Name: "CentOS Linux 7 (Core)", Arch: "amd64"}
		}},
		{"architecture", "another architecture", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.OS.Arch = "arm64" }},
		{"cpu", "one processor", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.CPU.Count = 1 }},
		{"cpu", "one processor, worker", hp.Warn, func(f *facts.Facts, req *hp.Requirements) { f.CPU.Count, req.Role = 1, hp.Worker }},
		{"cpu", "below the vendor's minimum", hp.Fail, func(_ *facts.Facts, req *hp.Requirements) { req.MinCPUs = 8 }},
		{"cpu-level", "an old processor", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.CPU.Level = 1 }},
		{"memory", "too little", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Memory.Total = 1.9e9 }},
		{"memory", "little", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Memory.Total = 2.07e9 }},
		{"memory", "little, worker", hp.Fail, func(f *facts.Facts, req *hp.Requirements) { f.Memory.Total, req.Role = 4e8, hp.Worker }},
		{"memory", "cannot be read", hp.Unknown, func(f *facts.Facts, _ *hp.Requirements) {
			f.Unknown = []facts.Unknown{{Fact: facts.FactMemory, Reason: "open /proc/meminfo: permission denied"}}
		}},
		{"swap", "on", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.Memory.SwapOn = []facts.Swap{{Path: "/swap.img", Size: 2147479552}}
		}},
		{"swap", "on zram", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.Memory.SwapOn = []facts.Swap{{Path: "/dev/zram0", Size: 4294963200}}
		}},
		{"machine-id", "none", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.MachineID = "" }},
		{"machine-id", "of an image that was never booted", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.MachineID = "uninitialized" }},
		{"machine-id", "only zeros", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.MachineID = strings.Repeat("0", 32) }},
		{"clock", "clock battery empty", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Clock.Now = time.Unix(3600, 0) }},
		{"clock", "before the bundle", hp.Fail, func(_ *facts.Facts, req *hp.Requirements) {
			req.NotBefore = time.Date(2027, 1, 2, 3, 4, 0, 0, time.UTC)
		}},
		{"clock", "far ahead", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Clock.Now = f.Clock.Now.AddDate(40, 0, 0) }},
		{"clock-sync", "not synchronized", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Clock.Synced = false }},
		{"selinux", "enforcing", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Security.SELinux = "enforcing" }},
		{"command-mount", "none", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { delete(f.Commands, "mount") }},
		{"command-umount", "none", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { delete(f.Commands, "umount") }},
		{"command-useradd", "none", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			delete(f.Commands, "useradd")
			delete(f.Commands, "adduser")
		}},
	}
}

// setFeature sets the state of one kernel feature.
func setFeature(name string, state facts.FeatureState, how string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) {
		i := slices.IndexFunc(f.Kernel.Features, func(ft facts.Feature) bool { return ft.Name == name })
		f.Kernel.Features[i] = facts.Feature{Name: name, State: state, How: how}
	}
}

// forbidden makes a kernel feature a module that this host forbids to load.
func forbidden(name, how, by string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, req *hp.Requirements) {
		setFeature(name, facts.Forbidden, how)(f, req)
		i := slices.IndexFunc(f.Kernel.Features, func(ft facts.Feature) bool { return ft.Name == name })
		f.Kernel.Features[i].ForbiddenBy = by
	}
}

func kernelFaults() []fault {
	missing := func(name string) func(*facts.Facts, *hp.Requirements) {
		return setFeature(name, facts.Missing, "neither modules.builtin nor modules.dep names it")
	}
	return []fault{
		{"kernel-release", "CentOS 6", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Kernel.Release = "2.6.32-754.el6.x86_64" }},
		{"kernel-release", "CentOS 7", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Kernel.Release = "3.10.0-1160.el7.x86_64" }},
		{"kernel-release", "no number", hp.Unknown, func(f *facts.Facts, _ *hp.Requirements) { f.Kernel.Release = "custom" }},
		{"kernel-overlay", "missing", hp.Fail, missing("overlay")},
		{"kernel-overlay", "missing on Ubuntu", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			f.OS.ID, f.Kernel.Release = "ubuntu", "6.8.0-51-generic"
			missing("overlay")(f, req)
		}},
		{"kernel-overlay", "a module, and no modprobe", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			delete(f.Commands, "modprobe")
			setFeature("overlay", facts.Module, "modules.dep")(f, req)
		}},
		{"kernel-overlay", "not known", hp.Unknown, setFeature("overlay", facts.FeatureUnknown, "this host has neither a kernel configuration nor a list of modules")},
		{"kernel-namespaces", "missing", hp.Fail, missing("pid_ns")},
		{"kernel-bridge", "missing", hp.Fail, missing("br_netfilter")},
		{"kernel-veth", "missing", hp.Fail, missing("veth")},
		{"kernel-overlay", "forbidden by a hardening guide", hp.Fail, forbidden("overlay", "install overlay /bin/false", "/etc/modprobe.d/cis.conf")},
		{"kernel-bridge", "a needed module is forbidden", hp.Fail, forbidden("bridge", "install stp /bin/true, and it needs stp", "/etc/modprobe.d/cis.conf")},
		{"kernel-ipset", "on the kernel command line", hp.Fail, forbidden("ip_set", "module_blacklist=ip_set", facts.KernelCommandLine)},
		{"kernel-conntrack", "no module may be loaded", hp.Fail, forbidden("nf_conntrack", "kernel.modules_disabled is 1", facts.ModulesDisabled)},
		{"kernel-conntrack", "missing", hp.Fail, missing("nf_conntrack")},
		{"kernel-netfilter", "neither set", hp.Fail, func(f *facts.Facts, req *hp.Requirements) { missing("nf_tables")(f, req); missing("ip_tables")(f, req) }},
		{"kernel-netfilter", "legacy only", hp.Pass, missing("nf_tables")},
		{"kernel-xtables", "missing on RHEL", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			f.OS.ID, f.Kernel.Release = "rhel", "5.14.0-570.12.1.el9_6.x86_64"
			missing("xt_statistic")(f, req)
		}},
		{"kernel-ipset", "missing", hp.Fail, missing("ip_set")},
		{"cgroup-version", "none", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Cgroup = facts.Cgroup{} }},
		{"cgroup-version", "1 with Kubernetes 1.33", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) { f.Cgroup.Version, f.Cgroup.Hybrid = 1, false }},
		{"cgroup-version", "1 with Kubernetes 1.35", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			f.Cgroup.Version, req.KubernetesMinor, req.NeedsCgroupV2 = 1, 35, true
		}},
		{"cgroup-controllers", "no memory controller", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Cgroup = facts.Cgroup{Version: 2, Controllers: []string{"cpu", "cpuset", "io", "pids"}}
		}},
	}
}

// editDisks edits all file systems.
func editDisks(edit func(*facts.Disk)) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) {
		for i := range f.Disks {
			edit(&f.Disks[i])
		}
	}
}

// mountTwice mounts the devices a and b with the numbers na and nb at the two largest
// paths. Each has room for the larger one, not for both.
func mountTwice(fsType, a, b, na, nb string) func(*facts.Facts, *hp.Requirements) {
	return editDisks(func(d *facts.Disk) {
		d.Available = 4.1e9
		switch d.Path {
		case "/var/lib/k0s":
			d.Mount, d.Device, d.Number, d.FSType = d.Path, a, na, fsType
		case "/usr/local/bin":
			d.Mount, d.Device, d.Number, d.FSType = d.Path, b, nb, fsType
		}
	})
}

// withImageDisk mounts a disk at the directory of images, which need most of the space.
func withImageDisk(edit func(*facts.Disk)) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, req *hp.Requirements) {
		req.WritePaths[0].Bytes = 5e8
		images := hp.WritePath{Path: "/var/lib/k0s/containerd", Purpose: "images and containers", Bytes: 35e8, Exec: true, Pods: true}
		req.WritePaths = append(req.WritePaths, images)
		d, _ := f.Disk("/var/lib/k0s")
		d.Path, d.Exists, d.Mount, d.Number, d.Device = images.Path, images.Path, images.Path, "8:65", "/dev/sde1"
		edit(&d)
		f.Disks = append(f.Disks, d)
	}
}

// withBackup adds a schedule of backups to folder, and the results of the programs that check it.
func withBackup(folder string, calendar int, text string, exists int) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, req *hp.Requirements) {
		req.Backup = hp.Backup{Calendar: "daily", Folder: folder, DataDir: "/data/plinth"}
		f.Runs = []facts.CommandResult{{Name: runCalendar, Code: calendar, Error: text}, {Name: runBackupFolder, Code: exists}}
	}
}

// withSnapshotFolder adds a folder for snapshots, and the result of the program that reads its mode.
func withSnapshotFolder(mode, text string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, req *hp.Requirements) {
		req.SnapshotFolder = "/srv/my snapshots"
		r := facts.CommandResult{Name: runSnapshotFolder, Output: mode + "\n"}
		if text != "" {
			r = facts.CommandResult{Name: runSnapshotFolder, Code: 1, Error: text}
		}
		f.Runs = append(f.Runs, r)
	}
}

func diskFaults() []fault {
	return []fault{
		{"snapshot-folder", "that all users can write to", hp.Fail, withSnapshotFolder("41ff", "")},
		{"snapshot-folder", "with the sticky bit", hp.Fail, withSnapshotFolder("43ff", "")},
		{"snapshot-folder", "of an earlier store, with its group", hp.Pass, withSnapshotFolder("45fd", "")},
		{"snapshot-folder", "that is a file", hp.Fail, withSnapshotFolder("81a4", "")},
		{"snapshot-folder", "that is a link", hp.Fail, withSnapshotFolder("a1ff", "")},
		{"snapshot-folder", "that is missing", hp.Pass, withSnapshotFolder("", "stat: cannot statx '/srv/my snapshots': No such file or directory")},
		{"snapshot-folder", "that cannot be read", hp.Unknown, withSnapshotFolder("", "stat: cannot statx '/srv/my snapshots': Stale file handle")},
		{"snapshot-folder", "not checked", hp.Unknown, func(_ *facts.Facts, req *hp.Requirements) { req.SnapshotFolder = "/srv/s" }},
		{"disk-space", "too small for the sum", hp.Fail, editDisks(func(d *facts.Disk) { d.Available = 4.1e9 })},
		{"disk-space", "a small disk for images", hp.Fail, withImageDisk(func(d *facts.Disk) { d.Available = 3e9 })},
		{"disk-space", "a small disk beside that for images", hp.Pass, func(f *facts.Facts, req *hp.Requirements) {
			editDisks(func(d *facts.Disk) { d.Available = 1e9 })(f, req)
			withImageDisk(func(d *facts.Disk) { d.Available = 5e9 })(f, req)
		}},
		{"disk-filesystem", "NFS for images", hp.Fail, withImageDisk(func(d *facts.Disk) { d.FSType = "nfs4" })},
		{"backup-schedule", "not known to this systemd", hp.Fail, withBackup("/mnt/backup/my-app", 1, "Failed to parse calendar specification 'daily': Invalid argument", 0)},
		{"backup-schedule", "a systemd that cannot tell", hp.Unknown, withBackup("/mnt/backup/my-app", 1, "Unknown operation calendar.", 0)},
		{"backup-schedule", "a folder that is missing", hp.Warn, withBackup("/mnt/backup/my-app", 0, "", 1)},
		{"backup-schedule", "in the data folder", hp.Fail, withBackup("/data/plinth/backup", 0, "", 0)},
		{"backup-schedule", "a good one", hp.Pass, withBackup("/mnt/backup/my-app", 0, "", 0)},
		{"backup-schedule", "an object store without settings", hp.Warn, func(f *facts.Facts, req *hp.Requirements) {
			withBackup("", 0, "", 0)(f, req)
			req.Backup.EnvFile = "/etc/plinth-backup.env"
			f.Runs = append(f.Runs, facts.CommandResult{Name: runBackupEnv, Code: 1})
		}},
		{"backup-schedule", "not checked", hp.Unknown, func(f *facts.Facts, req *hp.Requirements) {
			withBackup("/mnt/backup/my-app", 0, "", 0)(f, req)
			f.Runs = nil
		}},
		{"disk-symlink", "for images", hp.Fail, withImageDisk(func(d *facts.Disk) { d.Symlink, d.Target = d.Path, "/data/images" })},
		{"disk-space", "one file system, mounted twice", hp.Fail, mountTwice("ext4", "/dev/sdb1", "/dev/sdb1", "8:17", "8:17")},
		{"disk-space", "two file systems of the same size", hp.Pass, mountTwice("ext4", "/dev/sdb1", "/dev/sdc1", "8:17", "8:33")},
		{"disk-space", "two datasets of one ZFS pool", hp.Fail, mountTwice("zfs", "tank/k0s", "tank/bin", "0:51", "0:52")},
		{"disk-mount-options", "one of two mounts is read-only", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			mountTwice("ext4", "/dev/sdb1", "/dev/sdb1", "8:17", "8:17")(f, req)
			editDisks(func(d *facts.Disk) {
				if d.Path == "/usr/local/bin" {
					d.Options = []string{"ro"}
				}
			})(f, req)
		}},
		{"disk-space", "a disk that does not respond", hp.Unknown, func(f *facts.Facts, _ *hp.Requirements) {
			f.Disks = f.Disks[:2]
			f.Unknown = []facts.Unknown{{Fact: "disk:/var/lib/k0s", Reason: "no answer within 3s"}}
		}},
		{"disk-eviction", "nearly full", hp.Fail, editDisks(func(d *facts.Disk) { d.Available = 8e9 })},
		{"disk-eviction", "close to the limit", hp.Warn, editDisks(func(d *facts.Disk) { d.Available = 11.5e9 })},
		{"disk-eviction", "nearly full, with lower eviction threshold", hp.Pass, func(f *facts.Facts, req *hp.Requirements) {
			req.EvictBelow = 1
			editDisks(func(d *facts.Disk) { d.Available = 8e9 })(f, req)
		}},
		{"disk-inodes", "few", hp.Fail, editDisks(func(d *facts.Disk) { d.InodesFree = d.Inodes / 25 })},
		{"disk-inodes", "not many", hp.Warn, editDisks(func(d *facts.Disk) { d.InodesFree = d.Inodes / 12 })},
		{"disk-mount-options", "read-only", hp.Fail, editDisks(func(d *facts.Disk) { d.Options = []string{"ro", "relatime"} })},
		{"disk-mount-options", "noexec", hp.Fail, editDisks(func(d *facts.Disk) {
			if d.Path == "/var/lib/k0s" {
				d.Mount, d.Options = "/var", []string{"rw", "noexec"}
			}
		})},
		{"disk-filesystem", "NFS", hp.Fail, editDisks(func(d *facts.Disk) { d.FSType = "nfs4" })},
		{"disk-filesystem", "ZFS", hp.Warn, editDisks(func(d *facts.Disk) { d.FSType = "zfs" })},
		{"disk-symlink", "to another disk", hp.Fail, editDisks(func(d *facts.Disk) {
			if d.Path == "/var/lib/k0s" {
				d.Symlink, d.Target, d.Exists = "/var/lib/k0s", "/data/k0s", "/data/k0s"
			}
		})},
		{"disk-symlink", "of a parent directory", hp.Fail, editDisks(func(d *facts.Disk) {
			if d.Path == "/var/lib/k0s" {
				d.Symlink, d.Target, d.Exists = "/var", "/mnt/var", "/mnt/var/lib/k0s"
			}
		})},
		{"disk-symlink", "of a directory without pods", hp.Pass, editDisks(func(d *facts.Disk) {
			if d.Path == "/usr/local/bin" {
				d.Symlink, d.Target = "/usr/local", "/data/local"
			}
		})},
	}
}

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// withFilter adds an input chain that drops by default, of a firewall that is on.
func withFilter(table, owner string, rules ...facts.FilterRule) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, req *hp.Requirements) {
		f.Filters = []facts.FilterChain{{Table: table, Name: "INPUT", Hook: "input", Policy: "drop", Rules: rules}}
		if f.Security.UFW = owner == "ufw"; !f.Security.UFW {
			withActiveUnit(owner)(f, req)
		}
	}
}

// withHalves replaces the default route by routes on the interface link.
func withHalves(link string, networks ...string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) {
		f.Network.Routes = f.Network.Routes[1:]
		for _, n := range networks {
			f.Network.Routes = append(f.Network.Routes, facts.Route{Destination: mustPrefix(n), Interface: link})
		}
	}
}

// withResolvers sets the resolver configuration of the host.
func withResolvers(files ...resolvconf.File) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) {
		f.Network.Resolvers, f.Network.Nameservers = files, nil
		if len(files) > 0 {
			for _, s := range files[0].Servers {
				f.Network.Nameservers = append(f.Network.Nameservers, mustAddr(s))
			}
		}
	}
}

// withHostname gives the host another name, which resolves.
func withHostname(name string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) { f.Hostname, f.Lookups[0].Name = name, name }
}

// editLookup edits the lookup of the host's own name.
func editLookup(edit func(*facts.Lookup)) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) { edit(&f.Lookups[0]) }
}

// withSecondNIC gives the first interface the address first, and adds a second one.
func withSecondNIC(first string) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) {
		f.Network.Interfaces[1].Addresses = []netip.Prefix{mustPrefix(first)}
		f.Network.Interfaces = append(f.Network.Interfaces, facts.Interface{Name: "eth1", Up: true, MTU: 1500, Addresses: []netip.Prefix{mustPrefix("192.0.2.10/24")}})
	}
}

// withRefusedRoute adds a route that refuses packets to all private addresses 10.0.0.0/8.
func withRefusedRoute(f *facts.Facts, _ *hp.Requirements) {
	f.Network.Routes = append(f.Network.Routes, facts.Route{Destination: mustPrefix("10.0.0.0/8"), Unreachable: true})
}

func networkFaults() []fault {
	return []fault{
		{"hostname", "upper case", hp.Fail, withHostname("Node-1.Example.com")},
		{"hostname", "underscore", hp.Fail, withHostname("node_1")},
		{"hostname", "too long", hp.Fail, withHostname(strings.Repeat("a", 64))},
		{"hostname", "localhost", hp.Fail, withHostname("localhost.localdomain")},
		{"hostname-resolves", "no such name", hp.Warn, editLookup(func(l *facts.Lookup) { l.Addresses, l.Error = nil, "no such name" })},
		{"hostname-resolves", "DNS drops packets", hp.Warn, editLookup(func(l *facts.Lookup) { l.Addresses, l.Error, l.TookMS = nil, "no answer within 1.5s", 1500 })},
		{"hostname-resolves", "slow", hp.Warn, editLookup(func(l *facts.Lookup) { l.TookMS = 1234 })},
		{"hostname-resolves", "to another host", hp.Warn, editLookup(func(l *facts.Lookup) { l.Addresses = []netip.Addr{mustAddr("203.0.113.9")} })},
		{"localhost-resolves", "no such name", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Lookups[1] = facts.Lookup{Name: "localhost", Error: "no such name"}
		}},
		{"localhost-resolves", "to an address", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Lookups[1].Addresses = []netip.Addr{mustAddr("192.0.2.7")}
		}},
		{"nameserver", "none", hp.Pass, withResolvers(resolvconf.File{Path: "/etc/resolv.conf"})},
		{"nameserver", "no file", hp.Pass, withResolvers()},
		{"nameserver", "resolved without a server", hp.Pass, withResolvers(resolvconf.File{Path: "/etc/resolv.conf", Servers: []string{"127.0.0.53"}})},
		{"nameserver", "both stubs of resolved", hp.Pass, withResolvers(resolvconf.File{Path: "/etc/resolv.conf", Servers: []string{"127.0.0.53", "127.0.0.54"}},
			resolvconf.File{Path: "/run/systemd/resolve/resolv.conf", Servers: []string{"192.0.2.1"}})},
		{"nameserver", "a local cache beside resolved", hp.Pass, withResolvers(resolvconf.File{Path: "/etc/resolv.conf", Servers: []string{"127.0.0.1"}},
			resolvconf.File{Path: "/run/systemd/resolve/resolv.conf", Servers: []string{"192.0.2.1"}})},
		{"nameserver", "a local cache", hp.Warn, withResolvers(resolvconf.File{Path: "/etc/resolv.conf", Servers: []string{"127.0.0.1"}})},
		{"nameserver", "only IPv6", hp.Warn, withResolvers(resolvconf.File{Path: "/etc/resolv.conf", Servers: []string{"2001:db8::1"}})},
		{"nameserver", "IPv6 and IPv4", hp.Pass, withResolvers(resolvconf.File{Path: "/etc/resolv.conf", Servers: []string{"2001:db8::1", "192.0.2.1"}})},
		{"nameserver", "only IPv6 behind resolved", hp.Warn, withResolvers(resolvconf.File{Path: "/etc/resolv.conf", Servers: []string{"127.0.0.53"}},
			resolvconf.File{Path: "/run/systemd/resolve/resolv.conf", Servers: []string{"2001:db8::1"}})},
		{"nameserver", "a local cache, IPv6", hp.Warn, withResolvers(resolvconf.File{Path: "/etc/resolv.conf", Servers: []string{"::1"}})},
		{"default-route", "none", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Network.Routes = f.Network.Routes[1:] }},
		{"node-address", "none", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Network.Interfaces = f.Network.Interfaces[:1] }},
		{"default-route", "only IPv6", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Network.Routes[0] = facts.Route{Destination: mustPrefix("::/0"), Gateway: mustAddr("fe80::1"), Interface: "eth0"}
		}},
		{"default-route", "a blackhole", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Network.Routes[0] = facts.Route{Destination: mustPrefix("0.0.0.0/0"), Unreachable: true}
		}},
		{"node-address", "not on this host", hp.Fail, func(_ *facts.Facts, req *hp.Requirements) { req.Address.Address = mustAddr("10.77.108.99") }},
		{"node-address", "no such interface", hp.Fail, func(_ *facts.Facts, req *hp.Requirements) { req.Address.Interface = "eth7" }},
		{"node-address", "only an IPv6 default route", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) {
			f.Network.Routes[0] = facts.Route{Destination: mustPrefix("::/0"), Gateway: mustAddr("fe80::1"), Interface: "eth0"}
		}},
		{"node-address", "a bridge br-lan with the default route", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) {
			f.Network.Interfaces[1].Name, f.Network.Routes[0].Interface, f.Network.Routes[1].Interface = "br-lan", "br-lan", "br-lan"
		}},
		{"node-address", "two networks", hp.Warn, withSecondNIC("10.77.108.10/24")},
		{"node-address", "two networks, one requested", hp.Pass, func(f *facts.Facts, req *hp.Requirements) {
			withSecondNIC("10.77.108.10/24")(f, req)
			req.Address.Interface = "eth1"
		}},
		{"node-address", "NAT of VirtualBox and a second network", hp.Warn, func(f *facts.Facts, req *hp.Requirements) {
			withSecondNIC("10.0.2.15/24")(f, req)
			f.Network.Routes[0].Gateway = mustAddr("10.0.2.2")
		}},
		{"node-address", "recorded, and no longer on this host", hp.Skipped, func(_ *facts.Facts, req *hp.Requirements) {
			req.Address.Address, req.Recorded.Address = mustAddr("10.77.108.99"), mustAddr("10.77.108.99")
		}},
		{"cidr-services", "a route that refuses packets", hp.Fail, withRefusedRoute},
		{"cidr-pods", "a route that refuses packets", hp.Pass, withRefusedRoute},
		{"cidr-pods", "the host's own network", hp.Fail, func(_ *facts.Facts, req *hp.Requirements) { req.PodCIDR = mustPrefix("10.77.0.0/16") }},
		{"cidr-pods", "only a link of an earlier cluster", hp.Pass, func(f *facts.Facts, req *hp.Requirements) {
			f.Network.Routes = append(f.Network.Routes, facts.Route{Destination: mustPrefix("10.244.0.0/24"), Interface: "kube-bridge"})
			withTraces(facts.Trace{Software: facts.CNI, Kind: "link", Path: "kube-bridge"})(f, req)
		}},
		{"default-route", "halves by a VPN", hp.Pass, withHalves("tun0", "0.0.0.0/1", "128.0.0.0/1")},
		{"default-route", "one half", hp.Fail, withHalves("tun0", "128.0.0.0/1")},
		{"default-route", "IPv4 and IPv6 halves", hp.Fail, withHalves("tun0", "0.0.0.0/1", "8000::/1")},
		{"cidr-pods", "halves by a VPN", hp.Pass, withHalves("tun0", "0.0.0.0/1", "128.0.0.0/1")},
		{"cidr-pods", "one half", hp.Fail, withHalves("tun0", "0.0.0.0/1")},
		{"cidr-services", "halves by a VPN", hp.Pass, withHalves("tun0", "0.0.0.0/1", "128.0.0.0/1")},
		{"cidr-services", "address of the name server", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) { f.Network.Nameservers = []netip.Addr{mustAddr("10.96.0.53")} }},
		{"firewalld", "on, rules not known", hp.Warn, withActiveUnit("firewalld")},
		{"firewalld", "on, drops", hp.Warn, withFilter("inet firewalld", "firewalld")},
		{"firewalld", "on, accepts", hp.Pass, withFilter("inet firewalld", "firewalld", facts.FilterRule{Verdict: "accept"})},
		{"firewalld", "with rules of iptables", hp.Warn, func(f *facts.Facts, req *hp.Requirements) {
			withFilter("iptables filter", "firewalld")(f, req)
			f.Filters = append(f.Filters, facts.FilterChain{Table: "iptables filter", Name: "INPUT_ZONES"})
		}},
		{"ufw", "on, rules not known, worker", hp.Warn, func(f *facts.Facts, req *hp.Requirements) { f.Security.UFW, req.Role = true, hp.Worker }},
		{"ufw", "on, drops", hp.Warn, withFilter("iptables filter", "ufw")},
		{"ufw", "on, accepts", hp.Pass, withFilter("iptables filter", "ufw", facts.FilterRule{Verdict: "accept"})},
	}
}

func portFaults() []fault {
	var all []fault
	for _, p := range listenPorts() {
		req := exampleRequirements()
		if p.Nodes == ports.Workers {
			req.Role = hp.Worker
		}
		if p.AddOn != "" {
			req.Ports = map[string]int{p.Use: cmp.Or(p.Number, p.Default)}
		}
		key, _ := p.portKey(req)
		all = append(all, fault{"port-" + p.Use, "in use", hp.Fail, func(f *facts.Facts, r *hp.Requirements) {
			r.Role, r.Ports = req.Role, req.Ports
			if p.Nodes == ports.Workers || p.AddOn != "" { // the fixtures are of controllers without add-ons
				f.Ports = slices.Insert(f.Ports, 0, facts.Port{PortKey: key}) // takePort takes the first that ends so
			}
			takePort(f, key.String(), facts.Owner{PID: 812, Program: "/usr/sbin/nginx", Unit: "nginx"})
		}})
	}
	return append(all,
		fault{"port-kube-apiserver", "in use by a program that is not a service", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			takePort(f, "6443/tcp", facts.Owner{PID: 4711, Program: "/home/me/server"})
		}},
		fault{"port-kube-apiserver", "in use by a process that is not visible", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Ports[0] = facts.Port{PortKey: f.Ports[0].PortKey, Error: "EADDRINUSE"}
		}},
		fault{"port-kube-apiserver", "address does not exist", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Ports[0] = facts.Port{PortKey: f.Ports[0].PortKey, Error: "EADDRNOTAVAIL"}
		}},
		fault{"port-kube-router-bgp", "permission denied", hp.Unknown, func(f *facts.Facts, _ *hp.Requirements) {
			f.Unknown = []facts.Unknown{{Fact: "port:179/tcp", Reason: "binding it is not permitted (EACCES)"}}
		}},
		fault{"port-console", "no console", hp.Skipped, func(_ *facts.Facts, req *hp.Requirements) { req.ConsolePort = 0 }},
		fault{"port-ingress-http", "no ingress controller on the host", hp.Skipped, func(*facts.Facts, *hp.Requirements) {}},
		fault{"port-kubelet", "moved to a port that was not bound", hp.Unknown, func(_ *facts.Facts, req *hp.Requirements) { req.Ports = map[string]int{"kubelet": 10350} }},
	)
}

// withTraces adds traces of other software.
func withTraces(traces ...facts.Trace) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, _ *hp.Requirements) { f.Traces = append(f.Traces, traces...) }
}

// withPrevious sets the facts of the last run: this host's facts, edited by was.
func withPrevious(was func(*facts.Facts)) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, req *hp.Requirements) {
		earlier := *f
		was(&earlier)
		req.Previous.Facts = &earlier
	}
}

// withRecorded sets what an install recorded: this host's identity, edited by was.
func withRecorded(was func(*facts.Identity)) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, req *hp.Requirements) {
		req.Recorded = facts.Identity{Node: f.Hostname, MachineID: f.MachineID, Address: mustAddr("10.77.108.10"), Unit: "k0scontroller"}
		was(&req.Recorded)
	}
}

func existingFaults() []fault {
	return []fault{
		{"host-changed", "no change", hp.Pass, withPrevious(func(*facts.Facts) {})},
		{"host-changed", "different kernel", hp.Warn, withPrevious(func(was *facts.Facts) { was.Kernel.Release = "6.1.0-1-amd64" })},
		{"data-folder", "another program's", hp.Fail, func(_ *facts.Facts, req *hp.Requirements) {
			req.DataDir = hp.Refusal{Found: "the data folder /srv contains other files, such as www", Fix: "name a folder that only Plinth uses with --data-dir"}
		}},
		{"earlier-run", "an unfinished reset", hp.Fail, func(_ *facts.Facts, req *hp.Requirements) {
			req.EarlierRun = hp.Refusal{Found: "the reset started at 2026-05-01T12:00:00Z is not finished", Fix: "finish it first: sudo plinth reset cluster"}
		}},
		{"host-identity", "unchanged", hp.Pass, withRecorded(func(*facts.Identity) {})},
		{"host-identity", "renamed", hp.Fail, withRecorded(func(id *facts.Identity) { id.Node = "node1" })},
		{"host-identity", "another machine id", hp.Fail, withRecorded(func(id *facts.Identity) { id.MachineID = "89abcdef0123456789abcdef01234567" })},
		{"host-identity", "another address of the same network", hp.Fail, withRecorded(func(id *facts.Identity) { id.Address = mustAddr("10.77.108.99") })},
		{"host-identity", "another address of a controller", hp.Fail, withRecorded(func(id *facts.Identity) { id.Address, id.Controller = mustAddr("10.77.108.99"), true })},
		{"host-identity", "another address while a repair is unfinished", hp.Fail, withRecorded(func(id *facts.Identity) {
			id.Address, id.Controller, id.Repairing = mustAddr("10.77.108.99"), true, true
		})},
		{"host-identity", "another network, before k0s was started", hp.Fail, withRecorded(func(id *facts.Identity) { id.Address, id.Unit = mustAddr("192.0.2.9"), "" })},
		{"host-identity", "a clone", hp.Fail, withRecorded(func(id *facts.Identity) {
			*id = facts.Identity{Node: "node1", MachineID: "89abcdef0123456789abcdef01234567", Address: mustAddr("192.0.2.9"), Unit: "k0sworker"}
		})},
		{"host-changed", "less memory, different zone", hp.Warn, withPrevious(func(was *facts.Facts) { was.Memory.Total, was.Clock.Zone = 64e9, "Europe/Berlin" })},
		{"host-changed", "stored facts are damaged", hp.Unknown, func(_ *facts.Facts, req *hp.Requirements) {
			req.Previous.Reason = "/var/lib/plinth/facts.json was changed: its digest is not the one in the journal"
		}},
		{"existing-k0s", "runs", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Units = append(f.Units, facts.Unit{Name: "k0scontroller", Active: "active"})
			f.Traces = []facts.Trace{{Software: facts.K0s, Kind: "file", Path: "/usr/local/bin/k0s"}, {Software: facts.K0s, Kind: "data", Path: "/var/lib/k0s"}}
		}},
		{"existing-kubernetes", "kubeadm", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Units = append(f.Units, facts.Unit{Name: "kubelet", Active: "activating"})
			f.Traces = []facts.Trace{{Software: facts.Kubeadm, Kind: "data", Path: "/etc/kubernetes"}, {Software: facts.Kubelet, Kind: "file", Path: "/usr/bin/kubelet"}}
		}},
		{"existing-kubernetes", "k3s", hp.Fail, func(f *facts.Facts, _ *hp.Requirements) {
			f.Units = append(f.Units, facts.Unit{Name: "k3s", Active: "inactive"})
			f.Traces = []facts.Trace{{Software: facts.K3s, Kind: "file", Path: "/usr/local/bin/k3s"}}
		}},
		{"existing-container-runtime", "Docker runs", hp.Warn, func(f *facts.Facts, _ *hp.Requirements) {
			f.Units = append(f.Units, facts.Unit{Name: "docker", Active: "active"}, facts.Unit{Name: "containerd", Active: "active"})
		}},
		{"existing-container-runtime", "installed, does not run", hp.Pass, func(f *facts.Facts, _ *hp.Requirements) {
			f.Units = append(f.Units, facts.Unit{Name: "containerd", Active: "inactive"})
		}},
		{"leftover-cni", "two files", hp.Fail, withTraces(
			facts.Trace{Software: facts.CNI, Kind: "cni-config", Path: "/etc/cni/net.d/10-flannel.conflist"},
			facts.Trace{Software: facts.CNI, Kind: "cni-config", Path: "/etc/cni/net.d/10-kuberouter.conflist"})},
		{"leftover-cni", "podman's own", hp.Warn, withTraces(facts.Trace{Software: facts.Podman, Kind: "cni-config", Path: "/etc/cni/net.d/87-podman-bridge.conflist"})},
		{"leftover-cni", "nerdctl's own, read before kube-router's", hp.Fail, withTraces(facts.Trace{Software: facts.Nerdctl, Kind: "cni-config", Path: "/etc/cni/net.d/05-nerdctl.conflist"})},
		{"leftover-cni", "podman's and an earlier cluster's", hp.Fail, withTraces(
			facts.Trace{Software: facts.Podman, Kind: "cni-config", Path: "/etc/cni/net.d/87-podman-bridge.conflist"},
			facts.Trace{Software: facts.CNI, Kind: "cni-config", Path: "/etc/cni/net.d/10-flannel.conflist"})},
		{"leftover-links", "a bridge", hp.Fail, withTraces(facts.Trace{Software: facts.CNI, Kind: "link", Path: "kube-bridge", Detail: "10.244.0.1/24"})},
		{"leftover-iptables", "rules", hp.Warn, withTraces(facts.Trace{Software: facts.KubeProxy, Kind: "iptables", Detail: "lines with KUBE-: 134"})},
		{"leftover-iptables", "cannot be queried", hp.Unknown, func(f *facts.Facts, _ *hp.Requirements) {
			f.Unknown = []facts.Unknown{{Fact: facts.FactIptables, Reason: "this host has neither iptables-save nor nft to ask"}}
		}},
	}
}
