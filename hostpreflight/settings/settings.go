// Package settings owns the checks of the kernel's settings, the limits of
// services, and the clock. It refuses to look; every check is a pure function
// of facts.
package settings

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// Checks are those of settings and limits.
func Checks() []hp.Check {
	return []hp.Check{
		{ID: "sysctl-forwarding", Group: "Settings", Title: "Forwarding at boot", Severity: hp.Warn,
			Wants: "no file of sysctl.d that is read after " + ours + " and switches off net.ipv4.ip_forward or net.bridge.bridge-nf-call-iptables",
			Why:   "the install switches both on; a hardening file that is read later switches them off at the next boot, and pods lose their network (k0s's worker profile needs both).",
			Run:   hp.Told(facts.FactSettings, takenBack(map[string]int{"net.ipv4.ip_forward": 1, "net.ipv4.conf.all.forwarding": 1, "net.bridge.bridge-nf-call-iptables": 1}))},
		{ID: "sysctl-inotify", Group: "Settings", Title: "Limits of inotify", Severity: hp.Warn,
			Wants: "at least 512 instances and 524288 watches a user, or no file of sysctl.d that is read after " + ours + " and lowers them",
			Why:   "kubelet, containerd and log readers end with too many open files (kind's known issues name these figures); the install raises them.",
			Run:   hp.Told(facts.FactSettings, takenBack(map[string]int{"fs.inotify.max_user_instances": 512, "fs.inotify.max_user_watches": 524288}))},
		{ID: "sysctl-rp-filter", Group: "Settings", Title: "Reverse path filter", Severity: hp.Warn,
			Wants: "the greater of net.ipv4.conf.all.rp_filter and .default.rp_filter 0 or 2",
			Why:   "1 drops packets of pods that come back another way than they went, as on hosts with several interfaces (Embedded Cluster asks for it; of the two the greater holds, by the kernel's ip-sysctl page).",
			Run:   hp.Told(facts.FactSettings, rpFilter)},
		{ID: "sysctl-arp", Group: "Settings", Title: "ARP filter", Severity: hp.Warn,
			Wants: "net.ipv4.conf.{all,default}.arp_filter and .arp_ignore 0",
			Why:   "otherwise hosts do not answer for the addresses of their pods (Embedded Cluster asks for it).",
			Run: hp.Told(facts.FactSettings, off(
				"net.ipv4.conf.all.arp_filter", "net.ipv4.conf.default.arp_filter", "net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.default.arp_ignore"))},
		{ID: "limits", Group: "Settings", Title: "Limits of services", Severity: hp.Warn,
			Wants: "at least 65536 open files and 8192 processes as the hard limits of process 1",
			Why:   "services cannot be given more than that where process 1 may not raise it, as in a container; k0s's own check asks for 65536 files.",
			Run:   hp.Told(facts.FactSettings, limits)},
		{ID: "hugepages", Group: "Settings", Title: "Transparent huge pages", Severity: hp.Warn,
			Wants: "not always with defrag always",
			Why:   "programs then stop for as long as the kernel shifts memory; databases such as Redis and MongoDB ask for madvise or never.",
			Run:   hp.Told(facts.FactSettings, hugepages)},
		{ID: "entropy", Group: "Settings", Title: "Random numbers", Severity: hp.Warn,
			Wants: "at least 200 bits of entropy",
			Why:   "before Linux 5.18 programs that make keys wait for it, and starting takes minutes (Red Hat's guide calls below 200 low).",
			Run:   hp.Told(facts.FactSettings, entropy)},
	}
}

// ours is the file that an install writes; those with a later name overrule it.
const ours = "90-plinth.conf"

// Sysctls are the settings to look at.
func Sysctls() []string {
	return []string{
		"net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net.bridge.bridge-nf-call-iptables",
		"fs.inotify.max_user_instances", "fs.inotify.max_user_watches",
		"net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter",
		"net.ipv4.conf.all.arp_filter", "net.ipv4.conf.default.arp_filter", "net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.default.arp_ignore",
		"net.ipv4.ip_local_port_range",
	}
}

// takenBack warns of files that overrule what the install sets: of the lines
// for a key the last counts.
func takenBack(least map[string]int) func(facts.Facts, hp.Want) hp.Result {
	return func(f facts.Facts, _ hp.Want) hp.Result {
		var now, bad, fixes []string
		last := map[string]facts.SysctlFile{}
		for _, set := range f.Settings.Files {
			if path.Base(set.Path) > ours { // sysctl.conf sorts behind it, too, and is read last
				last[set.Key] = set
			}
		}
		for _, key := range Sysctls() {
			want, wanted := least[key]
			if !wanted {
				continue
			}
			if value, ok := f.Settings.Sysctls[key]; ok {
				now = append(now, key+" "+value)
			}
			if set, ok := last[key]; ok && number(set.Value) < want {
				bad = append(bad, fmt.Sprintf("%s sets %s to %s", set.Path, key, set.Value))
				fixes = append(fixes, fmt.Sprintf("take the line of %s out of %s", key, set.Path))
			}
		}
		if bad != nil {
			return hp.Warned(strings.Join(fixes, "\n"), "%s", strings.Join(bad, "; "))
		}
		return hp.Passed("no file takes back what the install sets (now: %s)", orNone(now))
	}
}

// number is a setting's value, 0 for one that is none.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}

// off warns of keys that are not 0. A kernel without the key is fine.
func off(keys ...string) func(facts.Facts, hp.Want) hp.Result {
	return func(f facts.Facts, _ hp.Want) hp.Result {
		var bad, fixes, fine []string
		for _, key := range keys {
			value, ok := f.Settings.Sysctls[key]
			switch {
			case !ok:
			case value == "0":
				fine = append(fine, key+" "+value)
			default:
				bad = append(bad, key+" is "+value)
				fixes = append(fixes, fmt.Sprintf("echo '%s = 0' | sudo tee -a /etc/sysctl.d/91-plinth-host.conf", key))
			}
		}
		if bad != nil {
			return hp.Warned(strings.Join(fixes, "\n")+"\nsudo sysctl --system", "%s", strings.Join(bad, ", "))
		}
		return hp.Passed("%s", orNone(fine))
	}
}

func rpFilter(f facts.Facts, _ hp.Want) hp.Result {
	all, other := f.Settings.Sysctls["net.ipv4.conf.all.rp_filter"], f.Settings.Sysctls["net.ipv4.conf.default.rp_filter"]
	found := fmt.Sprintf("all %s, default %s", all, other)
	if max(number(all), number(other)) == 1 {
		return hp.Warned("echo 'net.ipv4.conf.all.rp_filter = 2' | sudo tee -a /etc/sysctl.d/91-plinth-host.conf && sudo sysctl --system", "%s", found)
	}
	return hp.Passed("%s", found)
}

func limits(f facts.Facts, _ hp.Want) hp.Result {
	files, processes := f.Settings.OpenFiles, f.Settings.Processes
	found := fmt.Sprintf("%s open files, %s processes", limit(files), limit(processes))
	if files >= 0 && files < 65536 || processes >= 0 && processes < 8192 {
		return hp.Warned("raise DefaultLimitNOFILE and DefaultLimitNPROC in /etc/systemd/system.conf, or the limits of the container that this host is", "%s", found)
	}
	return hp.Passed("%s", found)
}

func limit(n int64) string {
	if n < 0 {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

func hugepages(f facts.Facts, _ hp.Want) hp.Result {
	s := f.Settings
	switch {
	case s.Hugepages == "":
		return hp.Passed("the kernel has none")
	case s.Hugepages == "always" && s.Defrag == "always":
		return hp.Warned("echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/defrag", "always, with defrag always")
	}
	return hp.Passed("%s, with defrag %s", s.Hugepages, s.Defrag)
}

func entropy(f facts.Facts, _ hp.Want) hp.Result {
	switch n := f.Settings.Entropy; {
	case n == 0:
		return hp.CannotTell("the kernel does not say how much it has")
	case n < 200:
		return hp.Warned("install rng-tools or haveged, or give the machine a virtio-rng device", "%d bits", n)
	default:
		return hp.Passed("%d bits", n)
	}
}

func orNone(all []string) string {
	if len(all) == 0 {
		return "none of them"
	}
	return strings.Join(all, ", ")
}
