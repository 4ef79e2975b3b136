package checks

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// installedSoftware is software that may be installed already: its name, its
// systemd units, and how its vendor uninstalls it.
type installedSoftware struct {
	software facts.Software
	units    []string
	fix      string
}

// kubernetesDistributions returns the Kubernetes distributions, and etcd, that would
// share ports, directories and packet filter rules with k0s. k0s itself is first.
func kubernetesDistributions() []installedSoftware {
	return []installedSoftware{
		{facts.K0s, []string{"k0scontroller", "k0sworker"}, "sudo k0s stop; sudo k0s reset; sudo rm -f /usr/local/bin/k0s /usr/bin/k0s /etc/k0s/k0s.yaml; sudo reboot"},
		{facts.Kubeadm, nil, "sudo kubeadm reset, then remove its packages"},
		{facts.Kubelet, []string{"kubelet"}, "sudo systemctl disable --now kubelet, then remove its package and /var/lib/kubelet"},
		{facts.K3s, []string{"k3s", "k3s-agent"}, "sudo /usr/local/bin/k3s-uninstall.sh"},
		{facts.RKE2, []string{"rke2-server", "rke2-agent"}, "sudo /usr/local/bin/rke2-uninstall.sh"},
		{facts.MicroK8s, []string{"snap.microk8s.daemon-kubelite"}, "sudo snap remove --purge microk8s"},
		{facts.KURL, nil, "curl -sSL https://kurl.sh/latest/tasks.sh | sudo bash -s reset"},
		{facts.EmbeddedCluster, nil, "run the reset command of the installer that installed it"},
		{facts.Etcd, []string{"etcd"}, "sudo systemctl disable --now etcd, then remove /var/lib/etcd"},
	}
}

// containerRuntimes returns the container runtimes that can run beside k0s's own.
func containerRuntimes() []installedSoftware {
	return []installedSoftware{
		{facts.Docker, []string{"docker"}, "sudo systemctl disable --now docker docker.socket"},
		{facts.Containerd, []string{"containerd"}, "sudo systemctl disable --now containerd"},
		{facts.CRIO, []string{"crio"}, "sudo systemctl disable --now crio"},
	}
}

// conflictUnits returns the systemd units to query.
func conflictUnits() []string {
	var all []string
	for _, d := range append(kubernetesDistributions(), containerRuntimes()...) {
		all = append(all, d.units...)
	}
	return all
}

// conflictChecks returns the checks of other software, of what an earlier cluster
// left, and of changes since the last run.
func conflictChecks() []hp.Check {
	return []hp.Check{
		{ID: "existing-k0s", Group: "Already on this host", Title: "Another k0s", Severity: hp.Fail,
			Expected:  "no k0s that was installed by another installer or by hand",
			Rationale: "Plinth does not overwrite it: its cluster would be lost.",
			Run: hp.RequireFact(facts.FactTraces, func(f facts.Facts, req hp.Requirements) hp.Result {
				return checkInstalledSoftware(f, req, kubernetesDistributions()[:1], hp.Fail)
			})},
		{ID: "existing-kubernetes", Group: "Already on this host", Title: "Another Kubernetes", Severity: hp.Fail,
			Expected:  "no kubelet, kubeadm, k3s, RKE2, MicroK8s, kURL, Embedded Cluster or etcd, and no leftovers of them",
			Rationale: "two Kubernetes distributions conflict over ports, directories and packet filter rules.",
			Run: hp.RequireFact(facts.FactTraces, func(f facts.Facts, req hp.Requirements) hp.Result {
				return checkInstalledSoftware(f, req, kubernetesDistributions()[1:], hp.Fail)
			})},
		{ID: "existing-container-runtime", Group: "Already on this host", Title: "Another container runtime", Severity: hp.Warn,
			Expected:  "none running",
			Rationale: "k0s includes its own containerd; a second runtime uses memory and disk, and Docker drops forwarded packets by default.",
			Run: hp.RequireFact(facts.FactTraces, func(f facts.Facts, req hp.Requirements) hp.Result {
				return checkInstalledSoftware(f, req, containerRuntimes(), hp.Warn)
			})},
		{ID: "leftover-cni", Group: "Already on this host", Title: "Network configuration of an earlier cluster", Severity: hp.Fail,
			Expected:  "no files in /etc/cni/net.d; warns of those of podman, nerdctl and CRI-O that are read after " + kubeRouterCNIConfig,
			Rationale: "containerd uses the first file there, and pods get the old cluster's network or none.",
			Run:       hp.RequireFact(facts.FactTraces, checkLeftoverCNI)},
		{ID: "leftover-links", Group: "Already on this host", Title: "Network links of an earlier cluster", Severity: hp.Fail,
			Expected:  "no kube-bridge, cni0, flannel, Calico, Cilium or Weave links",
			Rationale: "a bridge with its old address makes every new pod fail.",
			Run:       hp.RequireFact(facts.FactTraces, checkLeftoverLinks)},
		{ID: "leftover-mounts", Group: "Already on this host", Title: "Mounts of an earlier cluster", Severity: hp.Warn,
			Expected:  "no mounts that kubelet or a container runtime created for pods",
			Rationale: "they keep volumes busy, prevent the removal of directories, and hide what a new cluster writes there.",
			Run:       hp.RequireFact(facts.FactTraces, checkLeftoverMounts)},
		{ID: "leftover-iptables", Group: "Already on this host", Title: "Packet filter rules of an earlier cluster", Severity: hp.Warn,
			Expected:  "no KUBE- chains in iptables",
			Rationale: "old rules send traffic for service addresses to pods that no longer exist.",
			Run:       hp.RequireFact(facts.FactIptables, checkLeftoverIptables)},
		{ID: "data-folder", Group: "Already on this host", Title: "Data folder of Plinth", Severity: hp.Fail, Strict: true,
			Expected:  "a folder that only Plinth uses, or none yet",
			Rationale: "an install changes the folder's mode, and a reset removes its content.",
			Run:       func(_ facts.Facts, req hp.Requirements) hp.Result { return resultOfRefusal(req.DataDir) }},
		{ID: "earlier-run", Group: "Already on this host", Title: "Earlier runs of Plinth", Severity: hp.Fail, Strict: true,
			Expected:  "no unfinished reset, and a readable journal",
			Rationale: "what is left of an earlier cluster would become a part of the new one.",
			Run:       func(_ facts.Facts, req hp.Requirements) hp.Result { return resultOfRefusal(req.EarlierRun) }},
		{ID: "host-identity", Group: "Already on this host", Title: "Identity of the node", Severity: hp.Fail, Strict: true,
			Expected:  "name, machine id and address as they were when this host was installed or joined",
			Rationale: "the cluster knows this host by them: under another name k0s would register a second node, without the volumes and certificates of this one.",
			Run:       checkHostIdentity},
		{ID: "host-changed", Group: "Already on this host", Title: "Changes since the last install or join", Severity: hp.Warn,
			Expected:  "kernel, processors, memory, architecture, distribution, control groups, SELinux, time zone and MTU unchanged since the last run",
			Rationale: "earlier checks are only valid for the host as it was then.",
			Run:       checkHostChanged},
	}
}

func resultOfRefusal(r hp.Refusal) hp.Result {
	if r.Found != "" {
		return hp.Failed(r.Fix, "%s", r.Found)
	}
	return hp.Passed("nothing prevents an install")
}

// checkHostIdentity compares this host with what its install or join recorded.
func checkHostIdentity(f facts.Facts, req hp.Requirements) hp.Result {
	if req.Recorded == (facts.Identity{}) {
		return hp.Skip("install", "nothing is installed")
	}
	if found, fix := hp.IdentityChanges(f, req.Recorded); found != "" {
		return hp.Failed(fix, "%s", found)
	}
	for _, fact := range []string{facts.FactHostname, facts.FactMachineID, facts.FactNetwork} {
		if reason := f.UnknownReason(fact); reason != "" {
			return hp.Undetermined(reason)
		}
	}
	return hp.Passed("node %s, as recorded", req.Recorded.Node)
}

// checkHostChanged reports the facts that differ from those of the last run.
func checkHostChanged(f facts.Facts, req hp.Requirements) hp.Result {
	if req.Previous.Reason != "" {
		return hp.Undetermined(req.Previous.Reason)
	}
	if req.Previous.Facts == nil {
		return hp.Skip("install", "no earlier install or join stored facts of this host")
	}
	was := *req.Previous.Facts
	var all []string
	for _, d := range f.DifferencesSince(was) {
		all = append(all, fmt.Sprintf("%s is %s, was %s", d.What, d.Here, d.Other))
	}
	since := was.Clock.Now.UTC().Format("2006-01-02 15:04 MST")
	if all == nil {
		return hp.Passed("none since %s", since)
	}
	return hp.Warned("undo changes that were not intended; intended changes can stay", "since %s: %s", since, strings.Join(all, "; "))
}

// checkInstalledSoftware reports the units and files of all that do not belong to
// this install. bad is the state of the result when there are any; with Warn only
// active units count.
func checkInstalledSoftware(f facts.Facts, req hp.Requirements, all []installedSoftware, bad hp.State) hp.Result {
	var signs, fixes []string
	for _, d := range all {
		before := len(signs)
		for _, name := range d.units {
			u, ok := f.Unit(name)
			if bad == hp.Warn && u.Active != "active" {
				continue // installed and not running: it uses no resources
			}
			if ok && !req.Owned.HasUnit(name) {
				signs = append(signs, fmt.Sprintf("unit %s (%s)", name, u.Active))
			}
		}
		for _, t := range f.Traces {
			if t.Software == d.software && t.Kind != "mount" && !req.Owned.HasPath(t.Path) {
				signs = append(signs, t.Path)
			}
		}
		if len(signs) > before {
			fixes = append(fixes, d.fix)
		}
	}
	if signs == nil {
		if req.Owned.Installed {
			return hp.Passed("only those of this installation")
		}
		return hp.Passed("none")
	}
	found := strings.Join(signs, ", ")
	if bad == hp.Fail {
		found += "; it does not belong to this installation and will not be overwritten"
	}
	return hp.Result{State: bad, Found: found, Fix: "if it is no longer needed: " + strings.Join(fixes, "\n")}
}

// kubeRouterCNIConfig is the name of the file that kube-router writes under k0s.
const kubeRouterCNIConfig = "10-kuberouter.conflist"

func checkLeftoverCNI(f facts.Facts, req hp.Requirements) hp.Result {
	files := map[facts.Software][]string{}
	for _, t := range f.Traces {
		mine := req.Owned.Installed && path.Base(t.Path) == kubeRouterCNIConfig
		if t.Kind == "cni-config" && !mine && !req.Owned.HasPath(t.Path) {
			files[t.Software] = append(files[t.Software], t.Path)
		}
	}
	var all []hp.Result
	for _, of := range slices.Sorted(maps.Keys(files)) {
		paths := files[of]
		dir, setting := cniConfigDir(of)
		if dir == "" {
			all = append(all, hp.Failed("sudo rm "+strings.Join(paths, " "), "%s", strings.Join(paths, ", ")))
			continue
		}
		r := hp.Warned(fmt.Sprintf("to keep the networks of %s: sudo mkdir -p %[2]s && sudo mv %[3]s %[2]s/\nand set %[4]s", of, dir, strings.Join(paths, " "), setting),
			"%s of %s", strings.Join(paths, ", "), of)
		if slices.ContainsFunc(paths, func(p string) bool { return path.Base(p) < kubeRouterCNIConfig }) {
			r.State = hp.Fail
		}
		all = append(all, r)
	}
	if all != nil {
		return hp.WorstResult(all)
	}
	return hp.Passed("none")
}

// cniConfigDir returns another directory for the network configuration of a container
// tool, and the setting that makes the tool use it; "" for other software.
func cniConfigDir(of facts.Software) (dir, setting string) {
	switch of {
	case facts.Podman:
		return "/etc/containers/cni", `network_config_dir = "/etc/containers/cni" below [network] in /etc/containers/containers.conf`
	case facts.Nerdctl:
		return "/etc/nerdctl/cni", `cni_netconfpath = "/etc/nerdctl/cni" in /etc/nerdctl/nerdctl.toml`
	case facts.CRIO:
		return "/etc/crio/cni", `network_dir = "/etc/crio/cni" below [crio.network] in /etc/crio/crio.conf`
	}
	return "", ""
}

func checkLeftoverLinks(f facts.Facts, req hp.Requirements) hp.Result {
	var links, fixes []string
	for _, t := range f.Traces {
		if t.Kind != "link" || req.Owned.Installed {
			continue
		}
		s := t.Path
		if t.Detail != "" {
			s += " (" + t.Detail + ")"
		}
		links, fixes = append(links, s), append(fixes, "sudo ip link delete "+t.Path)
	}
	if links != nil {
		return hp.Failed(strings.Join(fixes, "\n"), "%s", strings.Join(links, ", "))
	}
	return hp.Passed("none")
}

func checkLeftoverMounts(f facts.Facts, req hp.Requirements) hp.Result {
	var mounts, fixes []string
	for _, t := range f.Traces {
		if t.Kind == "mount" && !req.Owned.Installed {
			mounts, fixes = append(mounts, t.Path), append(fixes, "sudo umount "+t.Path)
		}
	}
	slices.Reverse(fixes) // a mount below another one is unmounted first
	if len(mounts) > 5 {
		mounts, fixes = append(mounts[:4], fmt.Sprintf("%d more", len(mounts)-4)), []string{"sudo reboot"}
	}
	if mounts != nil {
		return hp.Warned(strings.Join(fixes, "\n"), "%s", strings.Join(mounts, ", "))
	}
	return hp.Passed("none")
}

func checkLeftoverIptables(f facts.Facts, req hp.Requirements) hp.Result {
	for _, t := range f.Traces {
		if t.Kind == "iptables" && !req.Owned.Installed {
			return hp.Warned("sudo reboot (which removes the rules), or: sudo iptables-save | grep -v KUBE- | sudo iptables-restore", "%s", t.Detail)
		}
	}
	return hp.Passed("none")
}
