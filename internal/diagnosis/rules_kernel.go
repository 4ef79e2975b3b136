package diagnosis

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// ownPrograms matches the names of programs of k0s and Plinth in messages of security software.
const ownPrograms = `(k0s|kubelet|containerd|containerd-shim|runc|plinth|plinth-agent|iptables|xtables|kube-router|etcd|pause)`

func kernelRules() []Rule {
	return []Rule{
		{ID: "selinux-denial", Area: areaKernel, Culprit: "SELinux denies an access to a program of the cluster",
			Symptom: "permission denied, although the modes of the files allow it",
			Fix:     "show the denials: sudo ausearch -m avc -ts recent\nrestore the labels: sudo restorecon -RFv /var/lib/k0s /usr/local/bin /opt/cni; to try without: sudo setenforce 0, afterwards: sudo setenforce 1",
			Logs: []LogPattern{{Source: LogKernel,
				Match: `avc:\s+denied .*(comm="` + ownPrograms + `"|scontext=\S*:container_(t|runtime_t)|scontext=\S*unconfined_service_t)`}}},
		{ID: "apparmor-denial", Area: areaKernel, Culprit: "AppArmor denies an access to a program of the cluster",
			Symptom: "permission denied, although the modes of the files allow it",
			Fix:     "show the profiles: sudo aa-status\nset the profile that the line names to complain mode: sudo aa-complain PROFILE",
			Logs:    []LogPattern{{Source: LogKernel, Match: `apparmor="DENIED".*(comm="` + ownPrograms + `"|profile="cri-containerd)`}}},
		{ID: "program-forbidden", Area: areaKernel, Culprit: "security software or a mount option forbids to run a program of k0s",
			Symptom: "operation not permitted, permission denied",
			Fix:     "allow programs below /var/lib/k0s, /usr/local/bin and /opt/cni/bin in fapolicyd or the endpoint protection; mount those disks without noexec",
			Logs:    []LogPattern{{Source: LogK0s, Match: `fork/exec \S+: (operation not permitted|permission denied)`}}, Find: findForbiddenPrograms},
		{ID: "kernel-module-missing", Area: areaKernel, Culprit: "a module of the kernel is missing",
			Symptom: "network or containers do not start after an update of the kernel",
			Fix:     "reboot into the installed kernel; install linux-modules-extra (Ubuntu) or kernel-modules-extra (RHEL)\nsudo plinth preflight lists what is missing",
			Logs: []LogPattern{{Source: LogK0s,
				Match: `missing kernel module|[Mm]odule \S+ not found|can't initialize iptables table|overlay.*no such device|modprobe: FATAL|Extension \S+ revision \d+ not supported`}}},
		{ID: "cgroup-controllers", Area: areaKernel, Culprit: "a controller of the control groups is missing", Symptom: "kubelet or containers do not start",
			Fix: "remove cgroup_disable=… from the kernel's command line (in /etc/default/grub, then sudo update-grub; RHEL: sudo grubby --update-kernel=ALL --remove-args=cgroup_disable), and reboot",
			Logs: []LogPattern{{Source: LogK0s,
				Match: `(missing|failed to find|not enabled|no such) .*cgroup|cgroup.*(memory|cpuset|cpu|pids).*(missing|not found|not enabled)`}},
			Find: findMissingControllers},
		{ID: "cgroup-driver", Area: areaKernel, Culprit: "kubelet and containerd use different cgroup drivers",
			Symptom: "pods do not start: expected cgroupsPath to be of format slice:prefix:name",
			Fix:     "remove the cgroup driver (SystemdCgroup, cgroupDriver) from /etc/k0s/containerd.d and from spec.k0s.config, then restart k0s",
			Logs: []LogPattern{{Source: LogK0s, Match: `expected cgroupsPath to be of format|cgroup driver: .* is different from`},
				{Source: LogPods, Match: `expected cgroupsPath to be of format`}},
			Find: func(s Snapshot) []Evidence { return eventsWith(s, "expected cgroupsPath to be of format") }},
		{ID: "inotify-limit", Area: areaKernel, Culprit: "the limit of inotify is reached",
			Symptom: "too many open files, although few are open; pods with file watchers crash",
			Fix:     "sudo sysctl -w fs.inotify.max_user_instances=8192 fs.inotify.max_user_watches=524288, and the same in a file of /etc/sysctl.d",
			Logs: []LogPattern{
				{Source: LogK0s, Match: `(?i)(inotify|fsnotify|watcher).*(too many open files|no space left on device)|too many open files.*(inotify|fsnotify)`},
				{Source: LogPods, Match: `(?i)(inotify|fsnotify|watcher).*(too many open files|no space left on device)|too many open files.*(inotify|fsnotify)`}}},
		{ID: "open-files-limit", Area: areaKernel, Culprit: "the limit of open files is reached", Symptom: "too many open files",
			Fix:  "raise the limit: sudo sysctl -w fs.file-max=2097152; of k0s: LimitNOFILE= in its unit (sudo systemctl edit k0scontroller)",
			Logs: []LogPattern{{Source: LogK0s, Match: `too many open files`, Unless: `(?i)inotify|fsnotify|watcher`}}},
		{ID: "host-stalls", Area: areaKernel, Culprit: "the host stands still for seconds", Symptom: "etcd loses its leader, nodes become NotReady for a moment",
			Fix:  "give the virtual machine its processors for itself: no overcommitment, no snapshots or migrations while it runs",
			Logs: []LogPattern{{Source: LogKernel, Match: `soft lockup|rcu_\w+ (self-)?detected stall|hrtimer: interrupt took`}}},
	}
}

func findForbiddenPrograms(s Snapshot) (found []Evidence) {
	for _, d := range s.Host.Disks {
		if slices.Contains(d.Options, "noexec") && (strings.HasPrefix(d.Path, "/var/lib/k0s") || d.Path == "/usr/local/bin" || d.Path == "/opt/cni/bin") {
			found = append(found, Evidence{Text: fmt.Sprintf("%s, with %s, is mounted with noexec", d.Mount, d.Path),
				Fix: "sudo mount -o remount,exec " + d.Mount + ", and remove noexec from its line in /etc/fstab"})
		}
	}
	return append(found, checkResults(s, "fapolicyd")...)
}

func findMissingControllers(s Snapshot) (found []Evidence) {
	if s.Host.Cgroup.Version == 0 || s.Host.UnknownReason(facts.FactCgroup) != "" {
		return nil
	}
	for _, name := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(s.Host.Cgroup.Controllers, name) {
			found = append(found, Evidence{Text: fmt.Sprintf("control groups version %d have no controller %s", s.Host.Cgroup.Version, name)})
		}
	}
	return found
}

// checkResults returns the failures of host preflights, with their fixes.
func checkResults(s Snapshot, ids ...string) (found []Evidence) {
	for _, e := range s.Preflights.Results {
		if slices.Contains(ids, e.ID) && (e.State == hostpreflight.Fail || e.State == hostpreflight.Warn) {
			found = append(found, Evidence{Text: e.Found, Fix: e.Fix, Warning: e.State == hostpreflight.Warn || !s.impaired()})
		}
	}
	return found
}

// sysctl returns the value of a kernel setting as a number, and false if it is not one.
func (s Snapshot) sysctl(key string) (int, bool) {
	n, err := strconv.Atoi(s.Host.Settings.Sysctls[key])
	return n, err == nil
}
