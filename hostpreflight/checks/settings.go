package checks

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// settingsChecks returns the checks of kernel settings and service limits.
func settingsChecks() []hp.Check {
	return []hp.Check{
		{ID: "sysctl-forwarding", Group: "Settings", Title: "Forwarding at boot", Severity: hp.Warn,
			Expected:  "no file in sysctl.d that is read after " + installSysctlFile + " and disables net.ipv4.ip_forward or net.bridge.bridge-nf-call-iptables",
			Rationale: "the install enables both; a hardening file that is read later disables them at the next boot, and pods lose their network (k0s's worker profile needs both).",
			Run:       hp.RequireFact(facts.FactSettings, checkSysctlOverrides(map[string]int{"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.forwarding": 1, "net.bridge.bridge-nf-call-iptables": 1}))},
		{ID: "sysctl-inotify", Group: "Settings", Title: "inotify limits", Severity: hp.Warn,
			Expected:  "at least 512 instances and 524288 watches per user, and no file in sysctl.d that is read after " + installSysctlFile + " and lowers them",
			Rationale: "kubelet, containerd and log readers fail with \"too many open files\" (kind's known issues recommend these values); the install raises them.",
			Run:       hp.RequireFact(facts.FactSettings, checkSysctlOverrides(map[string]int{"fs.inotify.max_user_instances": 512, "fs.inotify.max_user_watches": 524288}))},
		{ID: "sysctl-rp-filter", Group: "Settings", Title: "Reverse path filter", Severity: hp.Warn,
			Expected:  "0 or 2 as the larger of net.ipv4.conf.all.rp_filter and .default.rp_filter",
			Rationale: "1 drops packets of pods that return on another interface, as on hosts with several interfaces (Embedded Cluster requires it; the kernel uses the larger of the two, by its ip-sysctl page).",
			Run:       hp.RequireFact(facts.FactSettings, checkRPFilter)},
		{ID: "sysctl-arp", Group: "Settings", Title: "ARP filter", Severity: hp.Warn,
			Expected:  "0 for net.ipv4.conf.{all,default}.arp_filter and .arp_ignore",
			Rationale: "otherwise hosts do not answer ARP requests for the addresses of their pods (Embedded Cluster requires it).",
			Run: hp.RequireFact(facts.FactSettings, checkSysctlsZero(
				"net.ipv4.conf.all.arp_filter", "net.ipv4.conf.default.arp_filter", "net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.default.arp_ignore"))},
		{ID: "limits", Group: "Settings", Title: "Service limits", Severity: hp.Warn,
			Expected:  "at least 65536 open files and 8192 processes as the hard limits of process 1, or the capability to raise them (sys_resource)",
			Rationale: "services cannot get more if process 1 may not raise its limits, as in a container; k0s's own check requires 65536 files.",
			Run:       hp.RequireFact(facts.FactSettings, hp.RequireFact(facts.FactPrivilege, checkServiceLimits))},
		{ID: "hugepages", Group: "Settings", Title: "Transparent huge pages", Severity: hp.Warn,
			Expected:  "not always together with defrag always",
			Rationale: "programs then stall while the kernel compacts memory; databases such as Redis and MongoDB require madvise or never.",
			Run:       hp.RequireFact(facts.FactSettings, checkHugePages)},
		{ID: "entropy", Group: "Settings", Title: "Random numbers", Severity: hp.Warn,
			Expected:  "at least 200 bits of entropy before Linux 5.6",
			Rationale: "before Linux 5.6, programs that read /dev/random wait for entropy, and starting takes minutes (Red Hat's guide calls less than 200 low).",
			Run:       hp.RequireFact(facts.FactSettings, hp.RequireFact(facts.FactKernel, checkEntropy))},
	}
}

// installSysctlFile is the file that an install writes; files with a later name
// override it.
const installSysctlFile = "90-plinth.conf"

// sysctlKeys returns the kernel settings to read.
func sysctlKeys() []string {
	return []string{
		"net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.bridge.bridge-nf-call-iptables",
		"fs.inotify.max_user_instances", "fs.inotify.max_user_watches",
		"net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter",
		"net.ipv4.conf.all.arp_filter", "net.ipv4.conf.default.arp_filter", "net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.default.arp_ignore",
		"net.ipv4.ip_local_port_range",
	}
}

// checkSysctlOverrides returns a check that warns of files that override what the
// install sets with a value below the minimum in least. The last line for a key
// counts.
func checkSysctlOverrides(least map[string]int) func(facts.Facts, hp.Requirements) hp.Result {
	return func(f facts.Facts, _ hp.Requirements) hp.Result {
		var now, bad, fixes []string
		last := map[string]facts.SysctlFile{}
		for _, set := range f.Settings.Files {
			patternLoses := set.Pattern != "" && set.Key != "net.ipv4.conf.all.forwarding" // the install names the others
			if path.Base(set.Path) > installSysctlFile && !patternLoses {
				last[set.Key] = set
			}
		}
		for _, key := range sysctlKeys() {
			want, wanted := least[key]
			if !wanted {
				continue
			}
			if value, ok := f.Settings.Sysctls[key]; ok {
				now = append(now, key+" "+value)
			}
			if set, ok := last[key]; ok && parseIntOrZero(set.Value) < want {
				bad = append(bad, fmt.Sprintf("%s sets %s to %s", set.Path, key, set.Value))
				fixes = append(fixes, removeSysctlFix(set))
			}
		}
		if bad != nil {
			return hp.Warned(strings.Join(fixes, "\n"), "%s", strings.Join(bad, "; "))
		}
		return hp.Passed("no file overrides what the install sets (now: %s)", joinSysctls(now))
	}
}

// hostSysctlFile is the file that the fixes of this host's settings write.
const hostSysctlFile = "/etc/sysctl.d/91-plinth-host.conf"

// removeSysctlFix returns how to remove the line of set.
func removeSysctlFix(set facts.SysctlFile) string {
	return fmt.Sprintf("remove the line for %s from %s", cmp.Or(set.Pattern, set.Key), set.Path)
}

// setSysctlFix returns how to set keys to value, now and at boot: files that are read
// after hostSysctlFile must not set another value.
func setSysctlFix(f facts.Facts, value string, keys ...string) string {
	var fixes []string
	for _, key := range keys {
		for _, set := range f.Settings.Files {
			if set.Key == key && set.Pattern == "" && set.Value != value && path.Base(set.Path) >= path.Base(hostSysctlFile) {
				fixes = append(fixes, removeSysctlFix(set))
			}
		}
		fixes = append(fixes, fmt.Sprintf("echo '%s = %s' | sudo tee -a %s", key, value, hostSysctlFile))
	}
	return strings.Join(append(fixes, "sudo sysctl -p "+hostSysctlFile), "\n")
}

// parseIntOrZero returns the value of a setting, or 0 when it is not a number.
func parseIntOrZero(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// checkSysctlsZero returns a check that warns of keys that are not 0. A key that the
// kernel does not have is fine.
func checkSysctlsZero(keys ...string) func(facts.Facts, hp.Requirements) hp.Result {
	return func(f facts.Facts, _ hp.Requirements) hp.Result {
		var bad, wrong, good []string
		for _, key := range keys {
			value, ok := f.Settings.Sysctls[key]
			switch {
			case !ok:
			case value == "0":
				good = append(good, key+" "+value)
			default:
				bad, wrong = append(bad, key+" is "+value), append(wrong, key)
			}
		}
		if bad != nil {
			return hp.Warned(setSysctlFix(f, "0", wrong...), "%s", strings.Join(bad, ", "))
		}
		return hp.Passed("%s", joinSysctls(good))
	}
}

func checkRPFilter(f facts.Facts, _ hp.Requirements) hp.Result {
	all, other := f.Settings.Sysctls["net.ipv4.conf.all.rp_filter"], f.Settings.Sysctls["net.ipv4.conf.default.rp_filter"]
	found := fmt.Sprintf("all %s, default %s", all, other)
	if max(parseIntOrZero(all), parseIntOrZero(other)) == 1 {
		return hp.Warned(setSysctlFix(f, "2", "net.ipv4.conf.all.rp_filter"), "%s", found)
	}
	return hp.Passed("%s", found)
}

func checkServiceLimits(f facts.Facts, _ hp.Requirements) hp.Result {
	files, processes := f.Settings.OpenFiles, f.Settings.Processes
	found := fmt.Sprintf("%s open files, %s processes", formatLimit(files), formatLimit(processes))
	low := files >= 0 && files < 65536 || processes >= 0 && processes < 8192
	switch {
	case low && f.Privilege.UID != 0:
		return hp.Undetermined("only root can find out whether systemd may raise them: " + found)
	case low && (f.Privilege.UserNamespace || slices.Contains(f.Privilege.Missing, "sys_resource")):
		return hp.Warned("raise the limits of the container that this host runs in (LXC: lxc.prlimit.nofile and lxc.prlimit.nproc), or give it the capability sys_resource", "%s", found)
	case low: // on a host with little memory the kernel's own limit of processes is low
		return hp.Passed("%s; systemd raises them for its services", found)
	}
	return hp.Passed("%s", found)
}

// formatLimit returns n, or "unlimited" when n is negative.
func formatLimit(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

func checkHugePages(f facts.Facts, _ hp.Requirements) hp.Result {
	s := f.Settings
	switch {
	case s.Hugepages == "":
		return hp.Passed("not supported by the kernel")
	case s.Hugepages == "always" && s.Defrag == "always":
		return hp.Warned("echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/defrag", "always, with defrag always")
	}
	return hp.Passed("%s, with defrag %s", s.Hugepages, s.Defrag)
}

func checkEntropy(f facts.Facts, _ hp.Requirements) hp.Result {
	major, minor, known := parseKernelVersion(f.Kernel.Release)
	switch n := f.Settings.Entropy; {
	case known && major*1000+minor >= 5006:
		return hp.Passed("Linux %d.%d does not wait for it", major, minor)
	case n == 0:
		return hp.Undetermined("the kernel does not report it")
	case n < 200:
		return hp.Warned("install rng-tools or haveged, or add a virtio-rng device to the machine", "%d bits", n)
	default:
		return hp.Passed("%d bits", n)
	}
}

// joinSysctls returns all separated by commas, or "none of them".
func joinSysctls(all []string) string {
	if len(all) == 0 {
		return "none of them"
	}
	return strings.Join(all, ", ")
}
