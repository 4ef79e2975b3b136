package checks

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// machineChecks returns the checks of user, operating system, processors, memory,
// clock and required programs.
func machineChecks() []hp.Check {
	return append([]hp.Check{
		{ID: "root", Group: "Machine", Title: "User", Severity: hp.Fail, Strict: true,
			Expected:  "root",
			Rationale: "installing writes system files, starts services and changes the network.",
			Run:       hp.RequireFact(facts.FactPrivilege, checkRoot)},
		{ID: "capabilities", Group: "Machine", Title: "Capabilities of root", Severity: hp.Fail,
			Expected:  "all of " + strings.Join(requiredCapabilities(), ", ") + "; warns without sys_resource",
			Rationale: "root in a container may lack some, and then containers cannot be started; kubelet does not start in a user namespace; without sys_resource only pods with a negative oom_score_adj fail.",
			Run:       hp.RequireFact(facts.FactPrivilege, checkCapabilities)},
		{ID: "systemd", Group: "Machine", Title: "Service manager", Severity: hp.Fail, Strict: true,
			Expected:  "systemd, fully started",
			Rationale: "k0s runs as a systemd unit.",
			Run:       hp.RequireFact(facts.FactSystemd, checkSystemd)},
		{ID: "os", Group: "Machine", Title: "Operating system", Severity: hp.Warn,
			Expected:  "one of: " + strings.Join(supportedReleaseNames(), ", "),
			Rationale: "others may work, because k0s requires little; the kernels and control groups of these are known to work.",
			Run:       hp.RequireFact(facts.FactOS, checkOS)},
		{ID: "architecture", Group: "Machine", Title: "Processor architecture", Severity: hp.Fail,
			Expected:  "the architecture of the bundle (default amd64)",
			Rationale: "programs and images of another architecture do not start.",
			Run:       checkArchitecture},
		{ID: "cpu", Group: "Machine", Title: "Processors", Severity: hp.Fail,
			Expected:  "controller: at least 2; worker: at least 1, warns below 2",
			Rationale: "kURL and Embedded Cluster require 2; the control plane and the admin console use one fully while they start.",
			Run:       hp.RequireFact(facts.FactCPU, checkCPUCount)},
		{ID: "cpu-level", Group: "Machine", Title: "Processor instructions", Severity: hp.Warn,
			Expected:  "x86-64-v2",
			Rationale: "programs in images based on RHEL 9 or similar crash with an illegal instruction below that; Plinth's own components do not need it.",
			Run:       hp.RequireFact(facts.FactCPU, checkCPULevel)},
		{ID: "memory", Group: "Machine", Title: "Memory", Severity: hp.Fail,
			Expected:  "controller: at least 2 GB, warns below 4 GB; worker: at least 1 GB, warns below 2 GB",
			Rationale: "measured: control plane, containerd and admin console use 0.9 GB, plus system pods and applications; a machine sold with 2 GiB reports a little less, hence decimal GB.",
			Run:       hp.RequireFact(facts.FactMemory, checkMemory)},
		{ID: "swap", Group: "Machine", Title: "Swap", Severity: hp.Warn,
			Expected:  "off",
			Rationale: "k0s lets kubelet start with swap on, but memory limits and evictions do not work when the kernel swaps pods out.",
			Run:       hp.RequireFact(facts.FactMemory, checkSwap)},
		{ID: "machine-id", Group: "Machine", Title: "Machine id", Severity: hp.Fail, Strict: true,
			Expected:  "32 hexadecimal digits in /etc/machine-id",
			Rationale: "the cluster admits a host by it, and Kubernetes identifies nodes by it.",
			Run:       hp.RequireFact(facts.FactMachineID, checkMachineID)},
		{ID: "clock", Group: "Machine", Title: "Clock", Severity: hp.Fail,
			Expected:  "not before the bundle was built, and not 20 years after",
			Rationale: "certificates created with a wrong clock are not yet valid, or expired, on every other host.",
			Run:       hp.RequireFact(facts.FactClock, checkClock)},
		{ID: "clock-sync", Group: "Machine", Title: "Time synchronization", Severity: hp.Warn,
			Expected:  "a synchronized kernel clock (NTP, PTP or the hypervisor)",
			Rationale: "etcd members and tokens need synchronized clocks.",
			Run:       hp.RequireFact(facts.FactClockSync, checkClockSync)},
		{ID: "selinux", Group: "Machine", Title: "SELinux", Severity: hp.Warn,
			Expected:  "disabled, permissive, or enforcing with container-selinux and labels on k0s's directories",
			Rationale: "without the labels, containers cannot start or read their files (k0s's SELinux guide).",
			Run:       hp.RequireFact(facts.FactSecurity, checkSELinux)},
	}, commandChecks()...)
}

func checkRoot(f facts.Facts, req hp.Requirements) hp.Result {
	if f.Privilege.UID != 0 {
		return hp.Failed("sudo plinth "+string(req.Verb), "running as user id %d", f.Privilege.UID)
	}
	return hp.Passed("root")
}

// requiredCapabilities returns the capabilities that k0s, containerd and kubelet
// require.
func requiredCapabilities() []string {
	return []string{"chown", "dac_override", "fowner", "kill", "mknod", "net_admin", "net_bind_service", "setgid", "setpcap", "setuid", "sys_admin", "sys_chroot", "sys_ptrace"}
}

func checkCapabilities(f facts.Facts, _ hp.Requirements) hp.Result {
	if f.Privilege.UID != 0 {
		return hp.Skip("root", "does not run without root")
	}
	if f.Privilege.UserNamespace {
		return hp.Failed("run plinth on the host itself, or in a privileged container (LXC: unprivileged off)", "root of a user namespace only, which may not change the kernel's settings")
	}
	missing := slices.DeleteFunc(requiredCapabilities(), func(c string) bool { return !slices.Contains(f.Privilege.Missing, c) })
	switch {
	case len(missing) > 0:
		return hp.Failed("run plinth on the host itself, not in a container, or give the container these capabilities", "root lacks %s", strings.Join(missing, ", "))
	case slices.Contains(f.Privilege.Missing, "sys_resource"):
		return hp.Warned("start containerd with restrict_oom_score_adj = true in its CRI plug-in (a file in /etc/k0s/containerd.d)", "root lacks sys_resource").WithExpected("sys_resource")
	}
	return hp.Passed("all required capabilities")
}

func checkSystemd(f facts.Facts, _ hp.Requirements) hp.Result {
	s := f.Systemd
	found := fmt.Sprintf("systemd %s is %s", s.Version, s.State)
	switch {
	case !s.Booted:
		return hp.Failed("use a host that boots with systemd", "the host does not run under systemd")
	case s.State == "running" || s.State == "degraded":
		return hp.Passed("systemd %s, %s", s.Version, s.State)
	case s.State == "maintenance":
		return hp.Failed("repair what stopped the boot (systemctl --failed), then leave rescue mode: sudo systemctl default", "%s", found)
	case s.State == "stopping":
		return hp.Failed("run the command again after the reboot", "%s", found)
	}
	// A script of cloud-init, or of another unit, that waits for the end of the boot waits for itself.
	return hp.Warned("continue if this command runs in a script that is part of the boot, such as cloud-init's runcmd; otherwise wait until systemctl list-jobs lists none", "%s", found)
}

// supportedRelease is a distribution and the range of its major versions.
type supportedRelease struct {
	name     string
	ids      string // ID in os-release, space separated
	from, to int
}

// supportedReleases returns the releases that their vendor still supports and whose
// kernel and control groups work with Kubernetes 1.33.
func supportedReleases() []supportedRelease {
	return []supportedRelease{
		{"Debian 11–13", "debian", 11, 13},
		{"Ubuntu LTS 22.04–26.04", "ubuntu", 22, 26},
		{"RHEL and its rebuilds 8–10", "rhel centos rocky almalinux ol", 8, 10},
		{"Amazon Linux 2023", "amzn", 2023, 2023},
		{"SLES and openSUSE Leap 15–16", "sles sles_sap opensuse-leap", 15, 16},
	}
}

func supportedReleaseNames() []string {
	var all []string
	for _, r := range supportedReleases() {
		all = append(all, r.name)
	}
	return all
}

func checkOS(f facts.Facts, _ hp.Requirements) hp.Result {
	major, minor, _ := strings.Cut(f.OS.Version, ".")
	n, err := strconv.Atoi(major)
	interim := f.OS.ID == "ubuntu" && (n%2 != 0 || minor != "04") // supported for nine months only
	for _, r := range supportedReleases() {
		if !interim && slices.Contains(strings.Fields(r.ids), f.OS.ID) && err == nil && n >= r.from && n <= r.to {
			return hp.Passed("%s", f.OS.Name)
		}
	}
	return hp.Warned("it may work; continue, or use one of the supported distributions", "%s", f.OS.Name)
}

func checkArchitecture(f facts.Facts, req hp.Requirements) hp.Result {
	arch := req.Arch
	if arch == "" {
		arch = "amd64"
	}
	switch f.OS.Arch {
	case arch:
		return hp.Passed("%s", arch)
	case "":
		return hp.Undetermined(f.UnknownReason(facts.FactOS))
	}
	return hp.Failed("use a bundle for "+f.OS.Arch+", or a host with "+arch, "%s", f.OS.Arch).WithExpected("%s", arch)
}

func checkCPUCount(f facts.Facts, req hp.Requirements) hp.Result {
	least, good := 2, 2
	if req.IsWorker() {
		least = 1
	}
	least = max(least, req.MinCPUs)
	switch n := f.CPU.Count; {
	case n < least:
		return hp.Failed("give the machine more processors", "%s", hp.FormatCount(n, "processor")).WithExpected("at least %d", least)
	case n < good:
		return hp.Warned("give the machine more processors", "%s", hp.FormatCount(n, "processor")).WithExpected("%d", good)
	default:
		return hp.Passed("%s", hp.FormatCount(n, "processor"))
	}
}

func checkCPULevel(f facts.Facts, _ hp.Requirements) hp.Result {
	switch {
	case f.OS.Arch != "amd64":
		return hp.Passed("%s has no such levels", f.OS.Arch)
	case f.CPU.Level == 0:
		return hp.Undetermined("/proc/cpuinfo lists no flags")
	case f.CPU.Level < 2:
		return hp.Warned("configure the hypervisor to expose the host's processor model (KVM: host-model), or use newer hardware", "x86-64-v%d", f.CPU.Level)
	}
	return hp.Passed("x86-64-v%d", f.CPU.Level)
}

func checkMemory(f facts.Facts, req hp.Requirements) hp.Result {
	least, good := uint64(2e9), uint64(4e9)
	if req.IsWorker() {
		least, good = 1e9, 2e9
	}
	least = max(least, req.MinMemory)
	switch n := f.Memory.Total; {
	case n < least:
		return hp.Failed("give the machine more memory", "%s", hp.FormatBytes(n)).WithExpected("at least %s", hp.FormatBytes(least))
	case n < good:
		return hp.Warned("give the machine more memory", "%s", hp.FormatBytes(n)).WithExpected("%s", hp.FormatBytes(good))
	default:
		return hp.Passed("%s", hp.FormatBytes(n))
	}
}

func checkSwap(f facts.Facts, _ hp.Requirements) hp.Result {
	if len(f.Memory.SwapOn) == 0 {
		return hp.Passed("off")
	}
	var on []string
	for _, s := range f.Memory.SwapOn {
		on = append(on, fmt.Sprintf("%s (%s)", s.Path, hp.FormatBytes(s.Size)))
	}
	fix := "sudo swapoff -a, and remove the swap lines from /etc/fstab"
	if slices.ContainsFunc(f.Memory.SwapOn, func(s facts.Swap) bool { return strings.HasPrefix(s.Path, "/dev/zram") }) {
		fix = "sudo swapoff -a; sudo touch /etc/systemd/zram-generator.conf (or remove the package zram-tools), and remove the swap lines from /etc/fstab"
	}
	return hp.Warned(fix, "on: %s", strings.Join(on, ", "))
}

func checkMachineID(f facts.Facts, _ hp.Requirements) hp.Result {
	// Images that were never booted contain "uninitialized", machine-id(5).
	if id, err := hex.DecodeString(f.MachineID); err != nil || len(id) != 16 || bytes.Equal(id, make([]byte, 16)) {
		return hp.Failed("sudo rm -f /etc/machine-id && sudo systemd-machine-id-setup", "%s", cmp.Or(f.MachineID, "none"))
	}
	return hp.Passed("%s", f.MachineID)
}

func checkClock(f facts.Facts, req hp.Requirements) hp.Result {
	floor := req.NotBefore
	if oldest := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC); floor.Before(oldest) {
		floor = oldest // a bundle with a reproducible build date does not tell when it was built
	}
	const fix = "sudo timedatectl set-ntp true, or set it manually: sudo timedatectl set-time 'YYYY-MM-DD HH:MM:SS'"
	now := f.Clock.Now.UTC().Format("2006-01-02 15:04 UTC")
	switch {
	case f.Clock.Now.Before(floor.Add(-time.Hour)):
		return hp.Failed(fix, "%s", now).WithExpected("not before %s", floor.UTC().Format("2006-01-02 15:04 UTC"))
	case f.Clock.Now.After(floor.AddDate(20, 0, 0)):
		return hp.Failed(fix, "%s", now)
	}
	return hp.Passed("%s", now)
}

func checkClockSync(f facts.Facts, _ hp.Requirements) hp.Result {
	if !f.Clock.Synced {
		return hp.Warned("sudo timedatectl set-ntp true (needs chrony or systemd-timesyncd, and a reachable time server)", "the clock is not synchronized")
	}
	return hp.Passed("the clock is synchronized")
}

func checkSELinux(f facts.Facts, _ hp.Requirements) hp.Result {
	if f.Security.SELinux == "enforcing" {
		return hp.Warned("install container-selinux (sudo dnf install -y container-selinux) and label k0s's directories as described in k0s's SELinux guide,\nor: sudo setenforce 0, and SELINUX=permissive in /etc/selinux/config", "enforcing")
	}
	return hp.Passed("%s", f.Security.SELinux)
}

// requiredCommand is a program that k0s runs from the host.
type requiredCommand struct {
	names    []string // one of them is enough
	severity hp.State
	roles    []hp.Role
	why, fix string
}

// requiredCommands returns the programs that k0s and kubelet run from the host.
func requiredCommands() []requiredCommand {
	return []requiredCommand{
		{[]string{"mount"}, hp.Fail, nil, "kubelet runs it to mount volumes (k0s's external dependencies).", "install the package util-linux (Debian: mount)"},
		{[]string{"umount"}, hp.Fail, nil, "kubelet runs it to unmount volumes (k0s's external dependencies).", "install the package util-linux (Debian: mount)"},
		{[]string{"useradd", "adduser"}, hp.Warn, []hp.Role{hp.Controller},
			"k0s creates its system users with it; without them its components run as root.", "install the package passwd (RHEL: shadow-utils)"},
	}
}

// machineCommands returns the programs to look for.
func machineCommands() []string {
	all := []string{"modprobe"} // needed only if a kernel feature is a module
	for _, c := range requiredCommands() {
		all = append(all, c.names...)
	}
	return all
}

// commandChecks returns one check per required command.
func commandChecks() []hp.Check {
	var all []hp.Check
	for _, c := range requiredCommands() {
		name := strings.Join(c.names, " or ")
		all = append(all, hp.Check{ID: "command-" + c.names[0], Group: "Machine", Title: "Command " + name, Severity: c.severity, Roles: c.roles,
			Expected: name + " in /usr/sbin, /usr/bin or another standard directory", Rationale: c.why, Run: hp.RequireFact(facts.FactCommands, c.runCheck)})
	}
	return all
}

// runCheck returns a pass with the path of the first of c's names that exists.
func (c requiredCommand) runCheck(f facts.Facts, _ hp.Requirements) hp.Result {
	for _, n := range c.names {
		if p := f.Commands[n]; p != "" {
			return hp.Passed("%s", p)
		}
	}
	return hp.Result{State: c.severity, Found: strings.Join(c.names, " or ") + " is not installed", Fix: c.fix}
}
