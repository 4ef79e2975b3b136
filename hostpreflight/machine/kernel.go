package machine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// KernelChecks are those of the kernel and its control groups.
func KernelChecks() []hp.Check {
	all := []hp.Check{{
		ID: "kernel-release", Group: "Kernel", Title: "Kernel version", Severity: hp.Fail,
		Wants: "at least 3.10, warns below 4.19",
		Why:   "k0s asks for 3.10; Kubernetes's own host validators recommend 4.19 or newer.",
		Run:   hp.Told(facts.FactKernel, kernelRelease),
	}}
	for _, n := range needs() {
		all = append(all, hp.Check{ID: n.id, Group: "Kernel", Title: n.title, Severity: hp.Fail,
			Wants: n.wants() + ", built in or as a module that can be loaded", Why: n.why,
			Run: hp.Told(facts.FactKernel, n.run)})
	}
	return append(all,
		hp.Check{ID: "cgroup-version", Group: "Kernel", Title: "Control groups", Severity: hp.Fail,
			Wants: "version 2; version 1 warns, and fails from Kubernetes 1.35 on",
			Why:   "Kubernetes keeps version 1 in maintenance mode since 1.31, and kubelet refuses it by default since 1.35.",
			Run:   hp.Told(facts.FactCgroup, cgroupVersion)},
		hp.Check{ID: "cgroup-controllers", Group: "Kernel", Title: "Control group controllers", Severity: hp.Fail,
			Wants: "version 2: cpu, cpuset, memory, pids; version 1 also cpuacct, devices, freezer",
			Why:   "kubelet and runc cannot start containers without them (k0s's external dependencies); version 2 has the last three built in.",
			Run:   hp.Told(facts.FactCgroup, cgroupControllers)},
	)
}

// need is a thing that the kernel must be able to do: all features of one of
// the sets.
type need struct {
	id, title string
	sets      [][]string
	why       string
}

func needs() []need {
	return []need{
		{"kernel-overlay", "Overlay file system", [][]string{{"overlay"}},
			"containerd keeps image layers with it."},
		{"kernel-namespaces", "Name spaces", [][]string{{"net_ns", "pid_ns", "ipc_ns", "uts_ns"}},
			"containers are made of them (k0s's external dependencies)."},
		{"kernel-bridge", "Network bridge", [][]string{{"bridge", "br_netfilter"}},
			"pods hang on the bridge kube-bridge; services are reached through it only when bridged packets pass netfilter."},
		{"kernel-veth", "Virtual network cables", [][]string{{"veth"}},
			"each pod has one."},
		{"kernel-conntrack", "Connection tracking", [][]string{{"nf_conntrack", "nf_nat"}},
			"kube-proxy fails without (k0s's external dependencies)."},
		{"kernel-netfilter", "Packet filter", [][]string{{"nf_tables", "nft_compat"}, {"ip_tables"}},
			"kube-proxy and kube-router write iptables rules, through nf_tables or the older ip_tables."},
		{"kernel-xtables", "Packet filter extensions", [][]string{{"xt_comment", "xt_conntrack", "xt_mark", "xt_statistic", "xt_MASQUERADE"}},
			"the rules of kube-proxy and kube-router use them."},
		{"kernel-ipset", "IP sets", [][]string{{"ip_set", "xt_set"}},
			"kube-router's network policies are made of them."},
	}
}

func (n need) wants() string {
	var sets []string
	for _, s := range n.sets {
		sets = append(sets, strings.Join(s, ", "))
	}
	return strings.Join(sets, "; or ")
}

// run takes the set that is best off.
func (n need) run(f facts.Facts, _ hp.Want) hp.Result {
	var all []hp.Result
	for _, set := range n.sets {
		r := featureSet(f, set)
		if r.State == hp.Pass {
			return r
		}
		all = append(all, r)
	}
	return hp.Worst(all)
}

// how says how a feature is there.
func how(s facts.FeatureState) string {
	switch s {
	case facts.Builtin:
		return "built in"
	case facts.Module:
		return "as a module"
	}
	return string(s)
}

func featureSet(f facts.Facts, names []string) hp.Result {
	var all []hp.Result
	for _, name := range names {
		ft := f.Kernel.Feature(name)
		switch {
		case ft.State == facts.FeatureVague:
			all = append(all, hp.CannotTell(name+": "+ft.How))
		case !ft.Present():
			all = append(all, hp.Failed(moduleFix(f), "the kernel has no %s (%s)", name, ft.How))
		case ft.State == facts.Module && f.Commands["modprobe"] == "" && f.Why(facts.FactCommands) == "":
			all = append(all, hp.Failed("install the package kmod", "%s is a module, and there is no modprobe to load it", name))
		default:
			all = append(all, hp.Passed("%s %s", name, how(ft.State)))
		}
	}
	return hp.Worst(all)
}

// moduleFix names the package in which the distribution keeps its rarer modules.
func moduleFix(f facts.Facts) string {
	switch {
	case f.OS.ID == "ubuntu":
		return "sudo apt-get install linux-modules-extra-" + f.Kernel.Release
	case f.OS.ID == "rhel", strings.Contains(f.OS.Like, "rhel"), strings.Contains(f.OS.Like, "fedora"):
		return "sudo dnf install kernel-modules-extra-" + f.Kernel.Release
	}
	return "boot a kernel of the distribution that has it"
}

func kernelRelease(f facts.Facts, _ hp.Want) hp.Result {
	major, minor, ok := version(f.Kernel.Release)
	n := major*1000 + minor
	switch {
	case !ok:
		return hp.CannotTell(fmt.Sprintf("%q does not look like a kernel version", f.Kernel.Release))
	case n < 3010:
		return hp.Failed("use a newer release of the distribution", "%s", f.Kernel.Release)
	case n < 4019:
		return hp.Warned("use a newer release of the distribution", "%s", f.Kernel.Release)
	}
	return hp.Passed("%s", f.Kernel.Release)
}

// version is the first two numbers of a kernel release: 6.1.0-28-amd64 → 6, 1.
func version(release string) (major, minor int, ok bool) {
	parts := strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return major, minor, err1 == nil && err2 == nil
}

const cgroupFix = "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line"

func cgroupVersion(f facts.Facts, w hp.Want) hp.Result {
	hybrid := ""
	if f.Cgroup.Hybrid {
		hybrid = ", with version 2 beside it"
	}
	switch {
	case f.Cgroup.Version == 0:
		return hp.Failed(cgroupFix, "no control groups are mounted")
	case f.Cgroup.Version == 2:
		return hp.Passed("version 2")
	case w.KubernetesMinor >= 35:
		return hp.Failed(cgroupFix, "version 1%s", hybrid).Wanting("version 2 for Kubernetes 1.%d", w.KubernetesMinor)
	}
	return hp.Warned(cgroupFix, "version 1%s", hybrid).Wanting("version 2")
}

func cgroupControllers(f facts.Facts, _ hp.Want) hp.Result {
	wanted := []string{"cpu", "cpuset", "memory", "pids"}
	switch f.Cgroup.Version {
	case 0:
		return hp.CannotTell("no control groups are mounted")
	case 1:
		wanted = append(wanted, "cpuacct", "devices", "freezer")
	}
	lacks := slices.DeleteFunc(wanted, func(c string) bool { return slices.Contains(f.Cgroup.Controllers, c) })
	if len(lacks) > 0 {
		return hp.Failed("boot with cgroup_enable="+strings.Join(lacks, " cgroup_enable=")+" on the kernel's command line, or a kernel that has it", "missing: %s", strings.Join(lacks, ", "))
	}
	return hp.Passed("%s", strings.Join(f.Cgroup.Controllers, ", "))
}
