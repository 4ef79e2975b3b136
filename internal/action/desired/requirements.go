package desired

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/images"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/spec"
)

// Requirements of an install whose bundle is not known. They are those of the
// installer.yaml in the root of the repository: its defaults (spec.Network,
// spec.Kotsadm), and the size of its bundle on a host, rounded up (measured: 2.1 GB
// and 0.3 GB).
const (
	defaultPodCIDR       = "10.244.0.0/16"
	defaultServiceCIDR   = "10.96.0.0/12"
	defaultConsolePort   = 8800
	defaultFirstNodePort = 80
	defaultLastNodePort  = 32767
	defaultImageBytes    = 3e9
	defaultProgramBytes  = 4e8
)

// DefaultRequirements returns the requirements of an install on its host while the
// bundle is not known.
func DefaultRequirements(j *journal.Journal, dataDir string) hostpreflight.Requirements {
	return hostpreflight.Requirements{
		Verb: hostpreflight.Install, Role: hostpreflight.Controller,
		PodCIDR: netip.MustParsePrefix(defaultPodCIDR), ServiceCIDR: netip.MustParsePrefix(defaultServiceCIDR),
		ConsolePort: defaultConsolePort, NodePorts: [2]int{defaultFirstNodePort, defaultLastNodePort},
		Owned:      findOwned(j, dataDir),
		WritePaths: requiredDisks(dataDir, defaultImageBytes, defaultProgramBytes, 0),
	}
}

// plinthBytes is the size of the two copies of this program, rounded up (measured: 54 MB each).
const plinthBytes = 1.5e8

// requiredDisks returns the paths to which an install writes; images, programs and
// metrics are sizes in bytes. Images have a path of their own, because a disk may be mounted there.
// The folders for logs, settings and network plug-ins need little space but must be
// writable.
func requiredDisks(dataDir string, images, programs, metrics uint64) []hostpreflight.WritePath {
	return []hostpreflight.WritePath{
		{Path: k0s.DataDir, Purpose: "k0s's programs and the cluster's state", Bytes: stateBytes, Exec: true, Pods: true},
		{Path: k0s.DataDir + "/containerd", Purpose: "images and containers", Bytes: images, Exec: true, Pods: true},
		{Path: "/usr/local/bin", Purpose: "the programs k0s, kots and plinth", Bytes: programs + plinthBytes, Exec: true},
		{Path: dataDir, Purpose: "volumes and Plinth's own state", Bytes: volumeBytes + metrics},
		{Path: "/etc", Purpose: "configuration and service units", Bytes: 1e6},
		{Path: "/opt/cni/bin", Purpose: "network plug-ins", Bytes: 1e8, Exec: true},
		{Path: "/var/log", Purpose: "logs of pods and of Plinth", Bytes: 1e9},
	}
}

// InstallRequirements returns the requirements of an install of b on its host.
func InstallRequirements(b *airgap.Bundle, in *spec.Installer, j *journal.Journal, dataDir string) hostpreflight.Requirements {
	size := b.ContentSize()
	w := hostpreflight.Requirements{
		Verb: hostpreflight.Install, Role: hostpreflight.Controller,
		KubernetesMinor: spec.KubernetesMinor(in.Spec.K0s.Version),
		NeedsCgroupV2:   spec.HasChange(in.Spec.K0s.Version, spec.KubeletRefusesCgroupV1),
		Containerd:      hostpreflight.Containerd{Version: k0s.ContainerdConfigVersion(in.Spec.K0s.Version), DropIn: k0s.ContainerdDropInPath},
		PodCIDR:         netip.MustParsePrefix(in.Spec.Network.PodCIDR),     // lint has parsed it
		ServiceCIDR:     netip.MustParsePrefix(in.Spec.Network.ServiceCIDR), // lint has parsed it
		Owned:           findOwned(j, dataDir),
		WritePaths:      requiredDisks(dataDir, uint64(size.Stored+size.Unpacked), uint64(size.Host), metricsBytes(in)),
	}
	w.NodePorts[0], w.NodePorts[1] = in.Spec.Network.NodePorts()
	w.Proxy = in.Spec.Proxy.HTTPSProxy
	if fetched := b.MissingSize(); fetched > 0 {
		w.WritePaths = append(w.WritePaths, hostpreflight.WritePath{Path: action.FetchDir, Purpose: "downloads, until the install is done", Bytes: uint64(fetched)})
	}
	if _, arch, ok := strings.Cut(b.Platform(), "/"); ok {
		w.Arch = arch
	}
	if b := in.Spec.Backup; b != nil {
		s, _ := spec.ParseSchedule(b.Schedule) // lint has parsed it
		w.Backup = hostpreflight.Backup{Calendar: s.Calendar, Folder: b.To, DataDir: dataDir}
		if strings.HasPrefix(b.To, "s3://") {
			w.Backup.Folder, w.Backup.EnvFile = "", node.BackupEnvFile
		}
	}
	if v := in.Spec.Velero; v != nil && v.ObjectStore.Mode != spec.ObjectStoreNone {
		w.SetSnapshotFolder(v.ObjectStore.Folder)
	}
	if in.Spec.Kotsadm != nil {
		w.ConsolePort = in.Spec.Kotsadm.UIBindPort
	}
	w.Ports = addOnPorts(in)
	if in.Spec.LoadBalancer != nil {
		for _, value := range in.Spec.LoadBalancer.Addresses {
			a, _ := spec.ParseAddressRange(value) // lint has parsed it
			w.LoadBalancer = append(w.LoadBalancer, hostpreflight.AddressRange(a))
		}
	}
	return w
}

// addOnPorts returns the ports of a host that the add-ons of the Installer use, by their use.
func addOnPorts(in *spec.Installer) map[string]int {
	all := map[string]int{}
	if in.Spec.LoadBalancer != nil {
		all[ports.LoadBalancerState] = ports.SpeakerHealth
	}
	if n := in.Spec.Ingress; n != nil && n.Expose == spec.ExposeHostPorts {
		all[ports.IngressHTTP], all[ports.IngressHTTPS] = n.HTTPPort, n.HTTPSPort
	}
	return all
}

// JoinRequirements returns the requirements of a join as role on its host. A worker
// holds no volumes of the console: volumes stay on the node that created them.
func JoinRequirements(b *airgap.Bundle, in *spec.Installer, j *journal.Journal, dataDir string, role hostpreflight.Role) hostpreflight.Requirements {
	w := InstallRequirements(b, in, j, dataDir)
	w.Verb, w.Role = "join", role
	return w
}

// UpgradeRequirements returns the requirements of an upgrade of the target's host to b: those of an install, less what the host
// has already: the volumes, and the images that are in containerd. staged reports whether the host keeps the bundle's programs
// for later phases or other nodes.
func UpgradeRequirements(ctx context.Context, target Target, b *airgap.Bundle, in *spec.Installer, staged bool) (hostpreflight.Requirements, error) {
	w := InstallRequirements(b, in, target.Journal, target.DataDir)
	w.Verb = hostpreflight.Upgrade
	var all []images.Image
	for _, i := range b.Images() {
		all = append(all, toImage(i))
	}
	missing, err := missingImageBlobs(ctx, target.Host, all)
	programs := uint64(b.ContentSize().Host) + plinthBytes
	for i, p := range w.WritePaths {
		switch p.Path {
		case k0s.DataDir + "/containerd":
			w.WritePaths[i].Bytes = missingImageBytes(b, missing)
		case target.DataDir:
			w.WritePaths[i].Purpose, w.WritePaths[i].Bytes = "the state before the upgrade", programs+savedDataBytes
		}
	}
	if staged {
		w.WritePaths = append(w.WritePaths, hostpreflight.WritePath{Path: action.FetchDir, Purpose: "programs, until the upgrade is done", Bytes: programs})
	}
	return w, err
}

// missingImageBytes returns the space that the images of b need on a host without the blobs in missing. An image that lacks
// one of its layers counts as if all of them had to be unpacked.
func missingImageBytes(b *airgap.Bundle, missing []ocispec.Descriptor) (bytes uint64) {
	lacks, unpacked := map[digest.Digest]bool{}, int64(0)
	for _, d := range missing {
		if !lacks[d.Digest] {
			bytes += uint64(d.Size)
		}
		lacks[d.Digest] = true
	}
	for _, i := range b.Images() {
		if slices.ContainsFunc(i.Layers, func(d ocispec.Descriptor) bool { return lacks[d.Digest] }) {
			unpacked += i.Unpacked
		}
	}
	return bytes + uint64(min(unpacked, b.ContentSize().Unpacked)) // images share layers
}

// savedDataBytes is the size of the copies of etcd and of the console's database, rounded up (measured: 0.1 GB).
const savedDataBytes = 5e8

// volumeBytes is the size that the volumes of the console request: 4 GiB and 1 GiB (KOTS).
const volumeBytes = 5 << 30

// metricsBytes is the size that the metrics of Prometheus may take in a volume of the data folder.
func metricsBytes(in *spec.Installer) uint64 {
	if in.Spec.Prometheus == nil || in.Spec.LocalPathStorage == nil {
		return 0
	}
	return in.Spec.Prometheus.Bytes()
}

// stateBytes is the size of the programs that k0s unpacks (measured: 0.3 GB) and of a new
// cluster's etcd.
const stateBytes = 5e8

// findOwned returns what earlier runs, finished or not, installed on this host.
func findOwned(j *journal.Journal, dataDir string) hostpreflight.Owned {
	o := hostpreflight.Owned{Paths: []string{dataDir}, Installed: startedK0s(j.Runs())}
	for _, past := range j.Runs() {
		for _, s := range past.Steps {
			for _, touched := range s.Affects {
				if strings.HasPrefix(touched, "/") {
					o.Paths = append(o.Paths, touched)
				}
			}
		}
	}
	if len(j.Runs()) > 0 {
		o.Units = []string{k0s.ControllerUnit, k0s.WorkerUnit}
	}
	return o
}
