package app

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/images"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// installSteps puts host, bundle, manifests and journal together into the
// steps of an install.
func (a *App) installSteps(ctx context.Context, s site, b *airgap.Bundle, m manifests, req InstallRequest) ([]step.Step, error) {
	in := m.installer
	set := settings(in, s.address.String(), s.node)
	refs, err := k0s.Images(set)
	if err != nil {
		return nil, problem.New(problem.ExitConfig, "render k0s's configuration", err, "mend spec.k0s.config in the Installer")
	}
	boot, rest, err := splitImages(b, refs)
	if err != nil {
		return nil, err
	}
	files, err := artifacts(ctx, b)
	if err != nil {
		return nil, err
	}
	podCIDR := netip.MustParsePrefix(in.Spec.Network.PodCIDR) // lint has parsed it
	return plan.Install(plan.Cluster{
		Host: a.host, Memory: s.journal, Now: a.Now, DataDir: a.DataDir, Node: s.node, Files: files, AddOns: s.parts,
		Images:   plan.Images{Source: b, Boot: boot, Rest: rest},
		K0s:      k0s.Controller{Host: a.host, Settings: set, Proxy: proxyOf(in, s.address)},
		Leftover: a.cluster(podCIDR),
		Console:  consolePlan(s, m, req),
	}), nil
}

// consolePlan is what an install wants of the console; zero for a cluster
// without one.
func consolePlan(s site, m manifests, req InstallRequest) plan.Console {
	k := m.installer.Spec.Kotsadm
	if k == nil {
		return plan.Console{}
	}
	c := plan.Console{Namespace: k.Namespace, Want: kots.Console{Slug: k.ApplicationSlug, Version: k.Version},
		// Asked at the node's own address: the host name may lead elsewhere.
		URL:   consoleURL(journal.Console{Port: k.UIBindPort}, s.address.String()),
		Hosts: []string{s.address.String(), s.node, "localhost", "127.0.0.1"}}
	if k.Hostname != "" {
		c.Hosts = append([]string{k.Hostname}, c.Hosts...)
	}
	if m.application != nil {
		c.Want.Application = m.application.Data
	}
	if m.app != nil {
		app := *m.app
		app.SkipCompat = req.SkipKotsCheck
		c.App, c.AppID = &app, m.appID
	}
	return c
}

// splitImages parts the bundle's images into those that k0s itself runs and
// the rest; one that k0s wants and the bundle lacks is a damaged bundle.
func splitImages(b *airgap.Bundle, bootRefs []string) (boot, rest []images.Image, err error) {
	byRef := map[string]images.Image{}
	all := b.Images()
	for _, i := range all {
		byRef[i.Ref] = images.Image{Ref: i.Ref, Manifest: i.Manifest, Blobs: append(i.Layers, i.Config)}
	}
	for _, ref := range bootRefs {
		img, ok := byRef[ref]
		if !ok {
			return nil, nil, problem.New(problem.ExitBundle, "use this bundle", errors.New("it lacks the image "+ref), "build the bundle again from the same Installer")
		}
		boot = append(boot, img)
		delete(byRef, ref)
	}
	for _, i := range all {
		if img, ok := byRef[i.Ref]; ok {
			rest = append(rest, img)
		}
	}
	return boot, rest, nil
}

// artifacts are the bundle's files for the host, at their places.
func artifacts(ctx context.Context, b *airgap.Bundle) ([]node.Artifact, error) {
	places := map[string]string{"k0s": k0s.Binary, "kots": kots.Binary}
	var out []node.Artifact
	for _, f := range b.HostFiles() {
		path, ok := places[f.Name]
		if !ok {
			return nil, problem.Newf(problem.ExitBundle, "use this bundle", "it was made for a newer Plinth: use that one", "it has a file for the host that this Plinth does not know: %s", f.Name)
		}
		out = append(out, node.Artifact{Path: path, Mode: f.Mode, Size: f.Size, Digest: f.Digest,
			Open: func() (io.ReadCloser, error) { return b.OpenHostFile(ctx, f.Name) }})
	}
	return out, nil
}

// primary is the address under which other hosts reach this one: an IPv4
// address of the interface that has the default route, the one in the
// gateway's network first.
func primary(n facts.Network) netip.Addr {
	for _, r := range n.Routes {
		if !r.Default() || !r.Destination.Addr().Is4() {
			continue
		}
		var first netip.Addr
		for _, i := range n.Interfaces {
			for _, p := range i.Addresses {
				switch {
				case i.Name != r.Interface || !p.Addr().Is4():
				case p.Contains(r.Gateway):
					return p.Addr()
				case !first.IsValid():
					first = p.Addr()
				}
			}
		}
		if first.IsValid() {
			return first
		}
	}
	return netip.Addr{}
}
