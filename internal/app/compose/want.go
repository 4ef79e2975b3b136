package compose

import (
	"net/netip"
	"strings"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/spec"
)

// Requirements of an install whose bundle is not known. They are those of the
// installer.yaml in the root of the repository: its defaults (spec.Network,
// spec.Kotsadm), and the size of its bundle on a host, rounded up (measured: 2.1 GB
// and 0.3 GB).
const (
	defaultPods     = "10.244.0.0/16"
	defaultServices = "10.96.0.0/12"
	defaultPort     = 8800
	defaultFirst    = 80
	defaultLast     = 32767
	defaultData     = 3e9
	defaultPrograms = 4e8
)

// DefaultRequirements returns the requirements of an install on its host while the
// bundle is not known.
func DefaultWant(j *journal.Journal, dataDir string) hostpreflight.Want {
	return hostpreflight.Want{
		Verb: hostpreflight.Install, Role: hostpreflight.Controller,
		PodCIDR: netip.MustParsePrefix(defaultPods), ServiceCIDR: netip.MustParsePrefix(defaultServices),
		ConsolePort: defaultPort, NodePorts: [2]int{defaultFirst, defaultLast},
		Ours:  ours(j, dataDir),
		Disks: disks(dataDir, defaultData, defaultPrograms),
	}
}

// requiredDisks returns the paths to which an install writes; data and programs are
// sizes in bytes. The folders for logs, settings and network plug-ins need little
// space but must be writable.
func disks(dataDir string, data, programs uint64) []hostpreflight.Disk {
	return []hostpreflight.Disk{
		{Path: k0s.DataDir, Use: "images, containers and the cluster's state", Bytes: data, Exec: true, Pods: true},
		{Path: "/usr/local/bin", Use: "the programs k0s and kots", Bytes: programs, Exec: true},
		{Path: dataDir, Use: "volumes and Plinth's own state", Bytes: volumeBytes},
		{Path: "/etc", Use: "configuration and service units", Bytes: 1e6},
		{Path: "/opt/cni/bin", Use: "network plug-ins", Bytes: 1e8, Exec: true},
		{Path: "/var/log", Use: "logs of pods and of Plinth", Bytes: 1e9},
	}
}

// InstallRequirements returns the requirements of an install of b on its host.
func Want(b *airgap.Bundle, in *spec.Installer, j *journal.Journal, dataDir string) hostpreflight.Want {
	size := b.ContentSize()
	w := hostpreflight.Want{
		Verb: hostpreflight.Install, Role: hostpreflight.Controller,
		KubernetesMinor: k0s.Minor(in.Spec.K0s.Version),
		PodCIDR:         netip.MustParsePrefix(in.Spec.Network.PodCIDR),     // lint has parsed it
		ServiceCIDR:     netip.MustParsePrefix(in.Spec.Network.ServiceCIDR), // likewise
		Ours:            ours(j, dataDir),
		Disks:           disks(dataDir, uint64(size.Stored+size.Unpacked), uint64(size.Host)),
	}
	w.NodePorts[0], w.NodePorts[1] = in.Spec.Network.NodePorts()
	w.Proxy = in.Spec.Proxy.HTTPSProxy
	if fetched := b.AbsentSize(); fetched > 0 {
		w.Disks = append(w.Disks, hostpreflight.Disk{Path: run.FetchDir, Use: "downloads, until the install is done", Bytes: uint64(fetched)})
	}
	if _, arch, ok := strings.Cut(b.Platform(), "/"); ok {
		w.Arch = arch
	}
	if in.Spec.Kotsadm != nil {
		w.ConsolePort = in.Spec.Kotsadm.UIBindPort
	}
	return w
}

// JoinRequirements returns the requirements of a join as role on its host. A worker
// holds no volumes of the console: volumes stay on the node that created them.
func WantToJoin(b *airgap.Bundle, in *spec.Installer, j *journal.Journal, dataDir string, role hostpreflight.Role) hostpreflight.Want {
	w := Want(b, in, j, dataDir)
	w.Verb, w.Role = "join", role
	return w
}

// volumeBytes is the size that the volumes of the console request: 4 GiB and 1 GiB (KOTS).
const volumeBytes = 5 << 30

// findOwned returns what earlier runs, finished or not, installed on this host.
func ours(j *journal.Journal, dataDir string) hostpreflight.Ours {
	o := hostpreflight.Ours{Paths: []string{dataDir}}
	for _, past := range j.Runs() {
		for _, s := range past.Steps {
			for _, touched := range s.Touches {
				if strings.HasPrefix(touched, "/") {
					o.Paths = append(o.Paths, touched)
				}
			}
			if s.ID == "k0s-start" {
				o.Installed = true
			}
		}
	}
	if len(j.Runs()) > 0 {
		o.Units = []string{k0s.Unit, k0s.WorkerUnit}
	}
	return o
}
