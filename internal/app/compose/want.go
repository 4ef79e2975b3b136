package compose

import (
	"net/netip"
	"strings"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
)

// Want says what an install wants of its host.
func Want(b *airgap.Bundle, m manifest.Set, j *journal.Journal, dataDir string) hostpreflight.Want {
	in := m.Installer
	size := b.ContentSize()
	w := hostpreflight.Want{
		Verb: "install", Role: hostpreflight.Controller,
		KubernetesMinor: k0s.Minor(in.Spec.K0s.Version),
		PodCIDR:         netip.MustParsePrefix(in.Spec.Network.PodCIDR),     // lint has parsed it
		ServiceCIDR:     netip.MustParsePrefix(in.Spec.Network.ServiceCIDR), // likewise
		Ours:            ours(j, dataDir),
		Disks: []hostpreflight.Disk{
			{Path: k0s.DataDir, Use: "images, containers and the cluster's state", Bytes: uint64(size.Stored + size.Unpacked), Exec: true, Pods: true},
			{Path: "/usr/local/bin", Use: "the programs k0s and kots", Bytes: uint64(size.Host), Exec: true},
			{Path: dataDir, Use: "volumes and Plinth's own state", Bytes: volumeBytes},
		},
	}
	if _, arch, ok := strings.Cut(b.Platform(), "/"); ok {
		w.Arch = arch
	}
	if in.Spec.Kotsadm != nil {
		w.ConsolePort = in.Spec.Kotsadm.UIBindPort
	}
	return w
}

// volumeBytes is what the console's volumes ask for: 4 GiB and 1 GiB (KOTS).
const volumeBytes = 5 << 30

// ours is what earlier runs on this host, finished or not, have put there.
func ours(j *journal.Journal, dataDir string) hostpreflight.Ours {
	o := hostpreflight.Ours{Paths: []string{dataDir}}
	for _, run := range j.Runs() {
		for _, s := range run.Steps {
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
		o.Units = []string{strings.TrimSuffix(k0s.Unit, ".service")}
	}
	return o
}
