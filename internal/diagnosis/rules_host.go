package diagnosis

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// Areas: headings of the rules, in the order of causes and effects.
const (
	areaDisks    = "Disks and memory"
	areaClock    = "Clock"
	areaIdentity = "Identity of the host"
	areaKernel   = "Kernel and security software"
	areaNetwork  = "Network"
	areaK0s      = "k0s and containerd"
	areaCerts    = "Certificates"
	areaEtcd     = "etcd and the API"
	areaNodes    = "Nodes"
	areaStorage  = "Storage"
	areaPods     = "Pods"
	areaObjects  = "Objects of the cluster"
	areaPlinth   = "Plinth"
)

const (
	fixFreeSpace = "find what uses the space: sudo du -xhd2 / | sort -h | tail -20\nshorten old logs: sudo journalctl --vacuum-size=500M"
	fixDisk      = "have the disk checked (sudo dmesg -T, smartctl), replace it, or move the machine to other storage"
)

// Thresholds of free disk space, inodes and memory.
const (
	// fullDiskBytes is the free space below which containerd and etcd cannot write.
	fullDiskBytes = 300e6
	// evictionPercent is the free space of the file system of images below which the kubelet evicts pods (kubernetes.io,
	// Node-pressure Eviction, default hard eviction thresholds). Its own file system has 10 %.
	evictionPercent = 15
	// fullInodesPercent is the share of free inodes below which files cannot be created soon.
	fullInodesPercent = 1
	// fewInodesPercent is the share of free inodes below which a warning is reported, and the kubelet evicts pods.
	fewInodesPercent = 5
	// littleMemoryPercent is the share of available memory below which the kernel may kill processes.
	littleMemoryPercent = 4
)

func diskRules() []Rule {
	return []Rule{
		{ID: "filesystem-read-only", Area: areaDisks, Culprit: "a file system is read-only", Symptom: "k0s, etcd or pods cannot write: read-only file system",
			Fix:  "find the cause in the log of the kernel: sudo dmesg -T\nmount it writable: sudo mount -o remount,rw MOUNT; if that fails, reboot, which checks the file system",
			Logs: []LogPattern{{Source: LogKernel, Match: `(?i)remounting filesystem read-only|forced shutdown|shutting down filesystem`}},
			Find: findReadOnlyDisks},
		{ID: "disk-errors", Area: areaDisks, Culprit: "a disk has errors", Symptom: "k0s or pods hang or crash; I/O errors in the log of the kernel", Fix: fixDisk,
			Logs: []LogPattern{{Source: LogKernel,
				Match: `I/O error, dev |Buffer I/O error|critical medium error|EXT4-fs error|XFS \(.*\): .*[Cc]orrupt|nvme\S*: I/O .*timeout|BTRFS error`}}},
		{ID: "disk-full", Area: areaDisks, Culprit: "a disk is full", Symptom: "no space left on device; k0s, etcd or pods stop", Fix: fixFreeSpace,
			Logs: []LogPattern{{Source: LogK0s, Match: `no space left on device`, Unless: `inotify|fsnotify`}}, Find: findFullDisks},
		{ID: "inodes-used-up", Area: areaDisks, Culprit: "a file system has no free inodes", Symptom: "no space left on device, although df shows free space",
			Fix: "find the folder with the most files: sudo du --inodes -xd2 / | sort -n | tail -20", Find: findUsedUpInodes},
		{ID: "disk-pressure", Area: areaDisks, Culprit: "kubelet evicts pods, because too little disk space is free",
			Symptom: "pods Evicted, images removed, node with DiskPressure", Fix: fixFreeSpace, Find: findDiskPressure,
			Logs: []LogPattern{{Source: LogK0s, Level: LevelInfo,
				Match: `(?i)failed to garbage collect required amount of images|eviction manager: (must evict|attempting to reclaim).*ephemeral-storage`}}},
		{ID: "disk-hangs", Area: areaDisks, Culprit: "a disk does not answer for minutes", Symptom: "programs hang; k0s does not stop", Fix: fixDisk,
			Logs: []LogPattern{{Source: LogKernel, Match: `blocked for more than \d+ seconds`}}},
	}
}

// findReadOnlyDisks returns the file systems on which k0s or Plinth writes and cannot.
func findReadOnlyDisks(s Snapshot) (found []Evidence) {
	for _, d := range s.Host.Disks {
		if slices.Contains(d.Options, "ro") {
			found = append(found, Evidence{Text: fmt.Sprintf("%s, with %s, is mounted read-only", d.Mount, d.Path)})
		}
	}
	return found
}

// eachDisk calls fn once for each file system, with the first path that it holds.
func eachDisk(s Snapshot, fn func(d facts.Disk)) {
	seen := map[string]bool{}
	for _, d := range s.Host.Disks {
		if !seen[d.FileSystem()] && d.Size > 0 {
			seen[d.FileSystem()] = true
			fn(d)
		}
	}
}

// describeSpace returns how much of d is free.
func describeSpace(d facts.Disk) string {
	return fmt.Sprintf("%s of %s are free at %s, with %s", hostpreflight.FormatBytes(d.Available), hostpreflight.FormatBytes(d.Size), d.Mount, d.Path)
}

func findFullDisks(s Snapshot) (found []Evidence) {
	eachDisk(s, func(d facts.Disk) {
		if d.Available < min(fullDiskBytes, d.Size/100) {
			found = append(found, Evidence{Text: describeSpace(d), Fix: strings.Replace(fixFreeSpace, "/ |", d.Mount+" |", 1)})
		}
	})
	return found
}

func findUsedUpInodes(s Snapshot) (found []Evidence) {
	eachDisk(s, func(d facts.Disk) {
		if percent := 100 * d.InodesFree / max(d.Inodes, 1); d.Inodes > 0 && percent < fewInodesPercent {
			found = append(found, Evidence{Text: fmt.Sprintf("%d of %d inodes are free at %s, with %s", d.InodesFree, d.Inodes, d.Mount, d.Path),
				Warning: percent >= fullInodesPercent})
		}
	})
	return found
}

// findDiskPressure returns the nodes that report the pressure, and disks of this host on which kubelet soon evicts pods.
func findDiskPressure(s Snapshot) []Evidence {
	found := nodesWith(s, corev1.NodeDiskPressure)
	eachDisk(s, func(d facts.Disk) {
		if strings.HasPrefix(d.Path, "/var/lib/k0s") && 100*d.Available/d.Size < evictionPercent {
			found = append(found, Evidence{Text: fmt.Sprintf("%s; kubelet evicts pods below %d %%", describeSpace(d), evictionPercent), Warning: true})
		}
	})
	return found
}

func memoryRules() []Rule {
	const more = "give the machine more memory, or find what uses it: ps axo rss,comm --sort=-rss | head"
	return []Rule{
		{ID: "out-of-memory", Area: areaDisks, Culprit: "the host ran out of memory, and the kernel ended programs",
			Symptom: "programs end with signal 9; k0s restarts", Fix: more,
			Logs: []LogPattern{{Source: LogKernel, Match: `Out of memory: Killed process`}},
			Find: func(s Snapshot) (found []Evidence) {
				if s.K0s.Result == "oom-kill" {
					found = append(found, Evidence{Text: s.K0s.Name + " was ended, because the host ran out of memory"})
				}
				return found
			}},
		{ID: "memory-pressure", Area: areaDisks, Culprit: "too little memory is free", Symptom: "pods Evicted, node with MemoryPressure", Fix: more,
			Find: func(s Snapshot) []Evidence {
				found := nodesWith(s, corev1.NodeMemoryPressure)
				if m := s.Host.Memory; m.Total > 0 && 100*m.Available/m.Total < littleMemoryPercent {
					found = append(found, Evidence{Text: fmt.Sprintf("%s of %s are available", hostpreflight.FormatBytes(m.Available), hostpreflight.FormatBytes(m.Total)),
						Warning: true})
				}
				return found
			}},
		{ID: "swap-on", Area: areaDisks, Culprit: "kubelet does not start while swap is on", Symptom: "the node never becomes Ready after swap was turned on",
			Fix:  "sudo swapoff -a, and remove the line of the swap from /etc/fstab",
			Logs: []LogPattern{{Source: LogK0s, Match: `running with swap on is not supported`}}},
		{ID: "process-limit", Area: areaDisks, Culprit: "a limit of processes is reached", Symptom: "fork: resource temporarily unavailable; node with PIDPressure",
			Fix: "find the program with the most threads: ps axo nlwp,comm --sort=-nlwp | head\nraise the limits: sudo sysctl -w kernel.pid_max=4194304 kernel.threads-max=1000000, and the same in a file of /etc/sysctl.d",
			Logs: []LogPattern{{Source: LogKernel, Match: `fork rejected by pids controller in /system`},
				{Source: LogK0s, Match: `(fork/exec|clone|pthread_create).*[Rr]esource temporarily unavailable`}},
			Find: func(s Snapshot) []Evidence { return nodesWith(s, corev1.NodePIDPressure) }},
	}
}

// nodesWith returns the nodes that report a pressure.
func nodesWith(s Snapshot, pressure corev1.NodeConditionType) (found []Evidence) {
	if s.Cluster == nil {
		return nil
	}
	for _, n := range s.Cluster.Nodes {
		if c := nodeCondition(n, pressure); c.Status == corev1.ConditionTrue {
			found = append(found, Evidence{Text: fmt.Sprintf("node %s reports %s: %s", n.Name, pressure, c.Message)})
		}
	}
	return found
}

// clockTolerance is how far a clock may be off before rules report it.
const clockTolerance = 5 * time.Minute

func clockRules() []Rule {
	const set = "set the clock: sudo timedatectl set-ntp true, or sudo timedatectl set-time TIME\nthen restart k0s: sudo systemctl restart k0scontroller (worker: k0sworker)"
	return []Rule{
		{ID: "clock-wrong", Area: areaClock, Culprit: "the clock of this host is wrong", Symptom: "certificates are not valid yet; nodes and tokens are refused",
			Fix:  set,
			Logs: []LogPattern{{Source: LogK0s, Match: `certificate has expired or is not yet valid: current time \S+ is before`, Level: LevelWarning}}, Find: findWrongClock},
		{ID: "clock-jumped", Area: areaClock, Culprit: "the clock jumped", Symptom: "nodes become NotReady, leases and tokens end early, logs have gaps", Fix: set,
			Logs: []LogPattern{{Source: LogTime,
				Match: `(Forward|Backward) time jump detected|[Ss]ystem clock (wrong by|was stepped by) -?\d{2,}\.`},
				{Source: LogK0s, Match: `prober found high clock drift|clock difference against peer .* is too high`, Level: LevelWarning}}},
		{ID: "clock-not-synchronized", Area: areaClock, Culprit: "no time server sets the clock", Symptom: "the clocks of the nodes drift apart", Warning: true,
			Fix: "sudo timedatectl set-ntp true, with a time server that this host reaches in /etc/chrony.conf or /etc/systemd/timesyncd.conf",
			Find: func(s Snapshot) (found []Evidence) {
				if !s.Host.Clock.Now.IsZero() && !s.Host.Clock.Synced && s.Host.UnknownReason(facts.FactClockSync) == "" {
					found = append(found, Evidence{Text: "the kernel reports its clock as not synchronized"})
				}
				return found
			}},
	}
}

// findWrongClock compares the clock with times that have passed: those of records and of certificates that were issued.
func findWrongClock(s Snapshot) (found []Evidence) {
	now := s.Time.UTC().Format(time.RFC3339)
	if ahead := s.Install.UpdatedAt.Sub(s.Time); !s.Install.UpdatedAt.IsZero() && ahead > clockTolerance {
		found = append(found, Evidence{Text: fmt.Sprintf("it is %s here, but Plinth worked on this host at %s", now, s.Install.UpdatedAt.UTC().Format(time.RFC3339))})
	}
	for _, c := range s.Certificates {
		if !c.Begins.IsZero() && c.Begins.Sub(s.Time) > clockTolerance {
			found = append(found, Evidence{Text: fmt.Sprintf("it is %s here, but the certificate %s is valid from %s", now, c.Name, c.Begins.UTC().Format(time.RFC3339))})
		}
	}
	if rtc := s.Host.Clock.RTC; !rtc.IsZero() && rtc.Sub(s.Host.Clock.Now).Abs() > time.Hour {
		found = append(found, Evidence{Text: "the hardware clock says " + rtc.Format(time.RFC3339) + ", the system's " + s.Host.Clock.Now.Format(time.RFC3339),
			Warning: true})
	}
	return found
}

func identityRules() []Rule {
	return []Rule{
		{ID: "node-removed", Area: areaIdentity, Culprit: "an administrator removed this host from its cluster", Symptom: "k0s and its pods have stopped on the host",
			Fix: "sudo plinth reset node, then join again with a new token",
			Find: func(s Snapshot) (found []Evidence) {
				if s.Install.Removed != "" {
					found = append(found, Evidence{Text: s.Install.Removed})
				}
				return found
			}},
		{ID: "host-renamed", Area: areaIdentity, Culprit: "the name of this host changed since its install or join",
			Symptom: "its node is NotReady, a second node appears",
			Fix:     "give the host its former name: sudo hostnamectl set-hostname OLD-NAME",
			Find: func(s Snapshot) []Evidence {
				return identityChange(s, facts.Identity{Node: s.Recorded.Node, Unit: s.Recorded.Unit})
			}},
		{ID: "machine-id-changed", Area: areaIdentity, Culprit: "the machine id of this host changed: it may be a clone",
			Symptom: "the cluster refuses the agent of the host",
			Fix:     "restore the machine id: echo OLD-ID | sudo tee /etc/machine-id; a clone, disconnected from the network: sudo plinth reset node",
			Find: func(s Snapshot) []Evidence {
				return identityChange(s, facts.Identity{Node: s.Recorded.Node, MachineID: s.Recorded.MachineID, Unit: s.Recorded.Unit})
			}},
		{ID: "address-changed", Area: areaIdentity, Culprit: "this host lost the address of its node",
			Symptom: "k0s, etcd or the API do not start; other nodes do not reach it",
			Fix:     "give the host its former address, statically or by a reservation on the DHCP server; or on the only controller: sudo plinth repair address",
			Logs:    []LogPattern{{Source: LogK0s, Match: `bind: cannot assign requested address`}},
			Find: func(s Snapshot) []Evidence {
				return identityChange(s, facts.Identity{Address: s.Recorded.Address, Unit: s.Recorded.Unit, Controller: s.Recorded.Controller, Repairing: s.Recorded.Repairing})
			}},
	}
}

// identityChange returns what of was differs on the host now, and how to undo it. A name is
// compared only if it is the only part of was.
func identityChange(s Snapshot, was facts.Identity) []Evidence {
	f := s.Host
	if was.MachineID != "" { // the name is in was for the advice only
		f.Hostname = was.Node
	}
	found, fix := hostpreflight.IdentityChanges(f, was)
	if found == "" {
		return nil
	}
	return []Evidence{{Text: found, Fix: fix}}
}
