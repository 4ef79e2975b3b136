package checks

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// kernelChecks returns the checks of the kernel and its control groups.
func kernelChecks() []hp.Check {
	all := []hp.Check{{
		ID: "kernel-release", Group: "Kernel", Title: "Kernel version", Severity: hp.Fail,
		Expected:  "at least 3.10; warns below 4.19",
		Rationale: "k0s requires 3.10; Kubernetes's own host validators recommend 4.19 or newer.",
		Run:       hp.RequireFact(facts.FactKernel, checkKernelRelease),
	}}
	for _, n := range kernelRequirements() {
		all = append(all, hp.Check{ID: n.id, Group: "Kernel", Title: n.title, Severity: hp.Fail,
			Expected: n.describeFeatures() + ", built in or as a loadable module", Rationale: n.why,
			Run: hp.RequireFact(facts.FactKernel, n.runCheck)})
	}
	return append(all,
		hp.Check{ID: "cgroup-version", Group: "Kernel", Title: "Control groups", Severity: hp.Fail,
			Expected:  "version 2; version 1 warns, and fails with Kubernetes 1.35 or later",
			Rationale: "version 1 is in maintenance mode since Kubernetes 1.31; kubelet rejects it by default since 1.35, and k0s itself since 1.35.4 and 1.36.1.",
			Run:       hp.RequireFact(facts.FactCgroup, checkCgroupVersion)},
		hp.Check{ID: "cgroup-controllers", Group: "Kernel", Title: "Control group controllers", Severity: hp.Fail,
			Expected:  "version 2: cpu, cpuset, memory, pids; version 1 also cpuacct, devices, freezer",
			Rationale: "kubelet and runc cannot start containers without them (k0s's external dependencies); version 2 has the last three built in.",
			Run:       hp.RequireFact(facts.FactCgroup, checkCgroupControllers)},
	)
}

// kernelRequirement is a capability that the kernel must have: all features of one
// of the sets.
type kernelRequirement struct {
	id, title string
	sets      [][]string
	why       string
}

// kernelRequirements returns what k0s and its parts require of the kernel.
func kernelRequirements() []kernelRequirement {
	return []kernelRequirement{
		{"kernel-overlay", "Overlay file system", [][]string{{"overlay"}},
			"containerd uses it for image layers."},
		{"kernel-namespaces", "Namespaces", [][]string{{"net_ns", "pid_ns", "ipc_ns", "uts_ns"}},
			"containers need them (k0s's external dependencies)."},
		{"kernel-bridge", "Network bridge", [][]string{{"bridge", "br_netfilter"}},
			"pods are attached to the bridge kube-bridge; they reach services through it only when bridged packets pass netfilter."},
		{"kernel-veth", "Virtual Ethernet devices", [][]string{{"veth"}},
			"each pod uses one."},
		{"kernel-conntrack", "Connection tracking", [][]string{{"nf_conntrack", "nf_nat"}},
			"kube-proxy fails without it (k0s's external dependencies)."},
		{"kernel-netfilter", "Packet filter", [][]string{{"nf_tables", "nft_compat"}, {"ip_tables"}},
			"kube-proxy and kube-router write iptables rules, with nf_tables or the older ip_tables."},
		{"kernel-xtables", "Packet filter extensions", [][]string{{"xt_comment", "xt_conntrack", "xt_mark", "xt_statistic", "xt_MASQUERADE"}},
			"the rules of kube-proxy and kube-router use them."},
		{"kernel-ipset", "IP sets", [][]string{{"ip_set", "xt_set"}},
			"kube-router implements network policies with them."},
	}
}

// describeFeatures returns the feature sets of n in one line.
func (n kernelRequirement) describeFeatures() string {
	var sets []string
	for _, s := range n.sets {
		sets = append(sets, strings.Join(s, ", "))
	}
	return strings.Join(sets, "; or ")
}

// runCheck returns a pass when one set is complete, otherwise the worst result of
// all sets.
func (n kernelRequirement) runCheck(f facts.Facts, _ hp.Requirements) hp.Result {
	var all []hp.Result
	for _, set := range n.sets {
		r := checkFeatureSet(f, set)
		if r.State == hp.Pass {
			return r
		}
		all = append(all, r)
	}
	return hp.WorstResult(all)
}

// describeFeatureState returns in which form a feature is available.
func describeFeatureState(s facts.FeatureState) string {
	switch s {
	case facts.Builtin:
		return "built in"
	case facts.Module:
		return "as a module"
	}
	return string(s)
}

// checkFeatureSet returns a pass when all features in names are available.
func checkFeatureSet(f facts.Facts, names []string) hp.Result {
	var all []hp.Result
	for _, name := range names {
		ft := f.Kernel.Feature(name)
		switch {
		case ft.State == facts.FeatureUnknown:
			all = append(all, hp.Undetermined(name+": "+ft.How))
		case ft.State == facts.Forbidden:
			all = append(all, hp.Failed(allowModuleFix(ft), "%s is a module, and this host forbids to load it: %s (%s)", name, ft.How, ft.ForbiddenBy))
		case !ft.Present():
			all = append(all, hp.Failed(kernelModuleFix(f), "the kernel has no %s (%s)", name, ft.How))
		case ft.State == facts.Module && f.Commands["modprobe"] == "" && f.UnknownReason(facts.FactCommands) == "":
			all = append(all, hp.Failed("install the package kmod", "%s is a module, and there is no modprobe to load it", name))
		default:
			all = append(all, hp.Passed("%s %s", name, describeFeatureState(ft.State)))
		}
	}
	return hp.WorstResult(all)
}

// allowModuleFix returns how to let the module of ft be loaded.
func allowModuleFix(ft facts.Feature) string {
	switch ft.ForbiddenBy {
	case facts.ModulesDisabled:
		return "remove " + facts.ModulesDisabled + " from the files in /etc/sysctl.d and reboot; a running kernel does not allow to change it back"
	case facts.KernelCommandLine:
		return "remove the module from the kernel command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then sudo update-grub or sudo grub2-mkconfig -o /boot/grub2/grub.cfg) and reboot"
	}
	line, _, _ := strings.Cut(ft.How, ", and it needs ")
	return "remove this line from " + ft.ForbiddenBy + ": " + line
}

// kernelModuleFix returns how to install the distribution's package of less common
// kernel modules.
func kernelModuleFix(f facts.Facts) string {
	switch {
	case f.OS.ID == "ubuntu":
		return "sudo apt-get install linux-modules-extra-" + f.Kernel.Release
	case f.OS.ID == "rhel", strings.Contains(f.OS.Like, "rhel"), strings.Contains(f.OS.Like, "fedora"):
		return "sudo dnf install kernel-modules-extra-" + f.Kernel.Release
	}
	return "boot a kernel that has it"
}

func checkKernelRelease(f facts.Facts, _ hp.Requirements) hp.Result {
	major, minor, ok := parseKernelVersion(f.Kernel.Release)
	n := major*1000 + minor
	switch {
	case !ok:
		return hp.Undetermined(fmt.Sprintf("%q is not a kernel version", f.Kernel.Release))
	case n < 3010:
		return hp.Failed("use a newer release of the distribution", "%s", f.Kernel.Release)
	case n < 4019:
		return hp.Warned("use a newer release of the distribution", "%s", f.Kernel.Release)
	}
	return hp.Passed("%s", f.Kernel.Release)
}

// parseKernelVersion returns the first two numbers of a kernel release:
// 6.1.0-28-amd64 → 6, 1.
func parseKernelVersion(release string) (major, minor int, ok bool) {
	parts := strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return major, minor, err1 == nil && err2 == nil
}

const cgroupV2Fix = "boot with systemd.unified_cgroup_hierarchy=1 on the kernel command line"

func checkCgroupVersion(f facts.Facts, req hp.Requirements) hp.Result {
	hybrid := ""
	if f.Cgroup.Hybrid {
		hybrid = " (hybrid, with version 2)"
	}
	switch {
	case f.Cgroup.Version == 0:
		return hp.Failed(cgroupV2Fix, "no control groups are mounted at /sys/fs/cgroup")
	case f.Cgroup.Version == 2:
		return hp.Passed("version 2")
	case req.NeedsCgroupV2:
		return hp.Failed(cgroupV2Fix, "version 1%s", hybrid).WithExpected("version 2 for Kubernetes 1.%d", req.KubernetesMinor)
	}
	return hp.Warned(cgroupV2Fix, "version 1%s", hybrid).WithExpected("version 2")
}

func checkCgroupControllers(f facts.Facts, _ hp.Requirements) hp.Result {
	wanted := []string{"cpu", "cpuset", "memory", "pids"}
	switch f.Cgroup.Version {
	case 0:
		return hp.Undetermined("no control groups are mounted")
	case 1:
		wanted = append(wanted, "cpuacct", "devices", "freezer")
	}
	missing := slices.DeleteFunc(wanted, func(c string) bool { return slices.Contains(f.Cgroup.Controllers, c) })
	if len(missing) > 0 {
		fix := "remove cgroup_disable=" + strings.Join(missing, ",") + " from the kernel command line (Raspberry Pi: add cgroup_enable=" + strings.Join(missing, " cgroup_enable=") + ") and reboot, or use a kernel that has them"
		if f.Cgroup.Version == 2 {
			fix += "; a program that mounts a controller as version 1 takes it from version 2: findmnt -t cgroup"
		}
		return hp.Failed(fix, "missing: %s", strings.Join(missing, ", "))
	}
	return hp.Passed("%s", strings.Join(f.Cgroup.Controllers, ", "))
}
