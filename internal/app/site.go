package app

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/builtin"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// site is all that is known of this host before an install changes it.
type site struct {
	journal    *journal.Journal
	receipt    journal.Receipt // zero when nothing is installed
	address    netip.Addr      // of this host, towards other hosts
	node       string          // Kubernetes name of this host
	preflights hostpreflight.Report
	parts      []addons.AddOn
	warnings   []string // what was skipped or ignored on request, for the receipt
}

// readOnly is an App that can only look.
func (a *App) readOnly() *App {
	run := *a
	run.host = host.ReadOnly(a.host)
	return &run
}

// survey looks at the host and proves that the install can go on: the gate,
// then the preflights. It changes nothing.
func (a *App) survey(ctx context.Context, b *airgap.Bundle, m manifests, req InstallRequest) (s site, err error) {
	if s.journal, err = journal.Open(a.host, a.DataDir, a.Now); err != nil {
		return s, err
	}
	var installed bool
	if s.receipt, installed, err = journal.ReadReceipt(a.host, a.DataDir); err != nil {
		return s, err
	}
	if installed {
		if err := sameInstall(s.receipt, b, m); err != nil {
			return s, err
		}
	}
	if s.warnings, err = a.gate(m, !installed && !a.consoleExists(ctx, m), req.SkipKotsCheck); err != nil {
		return s, err
	}
	if s.parts, err = addons.Resolve(m.installer, a.DataDir); err != nil {
		return s, err
	}
	want := a.wanted(b, m, s)
	found := probe.Gather(ctx, a.host, builtin.Request(want))
	if err := ctx.Err(); err != nil {
		return s, context.Cause(ctx)
	}
	s.node = strings.ToLower(found.Hostname)
	s.address = primary(found.Network)
	if s.preflights, err = hostpreflight.Run(builtin.Checks(), found, want, req.IgnorePreflights); err != nil {
		return s, err
	}
	for _, id := range s.preflights.Ignored() {
		s.warnings = append(s.warnings, "host preflight "+id+" failed and was ignored on request")
	}
	if err := s.preflights.Err("install"); err != nil {
		return s, err
	}
	if !s.address.IsValid() {
		return s, problem.New(problem.ExitPreflight, "install", errors.New("this host has no IPv4 address that others could reach"), "give the host an address and a default route")
	}
	return s, nil
}

// sameInstall refuses a bundle of another cluster, or another version of what
// runs: that is an upgrade, with checks of its own.
func sameInstall(r journal.Receipt, b *airgap.Bundle, m manifests) error {
	hint := "use the bundle that was installed (" + r.Bundle + "), or take the cluster away with `plinth reset cluster`; nothing on this host was changed"
	if r.Name != m.installer.Metadata.Name {
		return problem.Newf(problem.ExitUsage, "install "+m.installer.Metadata.Name, hint, "this host already has %s", r.Name)
	}
	if have, want := r.Versions["k0s"], m.installer.Spec.K0s.Version; have != want {
		return problem.Newf(problem.ExitUsage, "install k0s "+want, hint, "this host runs k0s %s", have)
	}
	if k := m.installer.Spec.Kotsadm; k != nil && r.Versions["kotsadm"] != "" && r.Versions["kotsadm"] != k.Version {
		return problem.Newf(problem.ExitUsage, "install KOTS "+k.Version, hint, "this host runs KOTS %s", r.Versions["kotsadm"])
	}
	return nil
}

// consoleExists reports whether the cluster on this host, if there is one, has
// KOTS in it already.
func (a *App) consoleExists(ctx context.Context, m manifests) bool {
	conf, err := a.host.ReadFile(k0s.AdminConf)
	if err != nil || m.installer.Spec.Kotsadm == nil {
		return false
	}
	client, err := kube.New(conf)
	if err != nil {
		return false
	}
	console, err := plan.KOTS(a.host, client, m.installer.Spec.Kotsadm.Namespace, a.DataDir).State(ctx)
	return err == nil && console.Version != ""
}

// wanted says what this install wants of the host.
func (a *App) wanted(b *airgap.Bundle, m manifests, s site) hostpreflight.Want {
	in := m.installer
	size := b.ContentSize()
	w := hostpreflight.Want{
		Verb: "install", Role: hostpreflight.Controller,
		KubernetesMinor: k0s.Minor(in.Spec.K0s.Version),
		PodCIDR:         netip.MustParsePrefix(in.Spec.Network.PodCIDR),     // lint has parsed it
		ServiceCIDR:     netip.MustParsePrefix(in.Spec.Network.ServiceCIDR), // likewise
		Ours:            ours(s.journal, a.DataDir),
		Disks: []hostpreflight.Disk{
			{Path: k0s.DataDir, Use: "images, containers and the cluster's state", Bytes: uint64(size.Stored + size.Unpacked), Exec: true, Pods: true},
			{Path: "/usr/local/bin", Use: "the programs k0s and kots", Bytes: uint64(size.Host), Exec: true},
			{Path: a.DataDir, Use: "volumes and Plinth's own state", Bytes: volumeBytes},
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

// proxyOf is the service's proxy, with the cluster's own networks excepted.
func proxyOf(in *spec.Installer, address netip.Addr) k0s.Proxy {
	p := in.Spec.Proxy
	if p.HTTPProxy == "" && p.HTTPSProxy == "" {
		return k0s.Proxy{}
	}
	own := []string{"localhost", "127.0.0.1", address.String(), in.Spec.Network.PodCIDR, in.Spec.Network.ServiceCIDR, ".svc", ".cluster.local"}
	return k0s.Proxy{HTTP: p.HTTPProxy, HTTPS: p.HTTPSProxy, NoProxy: append(own, p.NoProxy...)}
}
