// Package compose owns how an install is put together: bundle, manifests and
// host become the cluster whose steps package plan lists. It refuses to look at
// the host and to run anything.
package compose

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/images"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/plan/entry"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
)

// Site is where an install happens.
type Site struct {
	Host     host.Host
	Journal  *journal.Journal
	Now      func() time.Time
	DataDir  string     // Plinth's own folder
	Node     string     // Kubernetes name of this host
	Address  netip.Addr // of this host, towards other hosts
	API      string     // further name or address of the API; "" for none
	AddOns   []addons.AddOn
	Leftover leftover.Cluster // what the cluster may leave on this host
	Self     node.Artifact    // this program, at the place from which the agent runs
	Worker   bool             // the role of this host; false for controller
	Joins    bool             // into a cluster that is there
}

// Install puts site, bundle and manifests together into the steps of an
// install.
func Install(ctx context.Context, s Site, b *airgap.Bundle, m manifest.Set, skipKotsCheck bool) ([]step.Step, error) {
	in := m.Installer
	parts, err := withCharts(ctx, b, s.AddOns)
	if err != nil {
		return nil, err
	}
	c, err := cluster(ctx, s, b, in)
	if err != nil {
		return nil, err
	}
	c.AddOns, c.Console = parts, console(s, m, skipKotsCheck)
	return plan.Install(c), nil
}

// Entry is how a host gets into a cluster that is there.
type Entry struct {
	Door entry.Door
	Way  *entry.Way // nil for a controller
}

// Join puts site and bundle together into the steps by which a host joins.
func Join(ctx context.Context, s Site, b *airgap.Bundle, in *spec.Installer, e Entry) ([]step.Step, error) {
	c, err := cluster(ctx, s, b, in)
	if err != nil {
		return nil, err
	}
	if k := in.Spec.Kotsadm; k != nil {
		c.Console.Namespace = k.Namespace
	}
	return plan.Join(c, e.Door, e.Way), nil
}

// cluster is what a host of either role needs to become a node.
func cluster(ctx context.Context, s Site, b *airgap.Bundle, in *spec.Installer) (plan.Cluster, error) {
	set := k0s.SettingsFor(in, s.Address.String(), s.Node)
	set.APIAddress = s.API
	refs, err := k0s.Images(set)
	if err != nil {
		return plan.Cluster{}, problem.New(problem.ExitConfig, "render k0s's configuration", err, "mend spec.k0s.config in the Installer")
	}
	boot, rest, err := splitImages(b, refs)
	if err != nil {
		return plan.Cluster{}, err
	}
	files, err := artifacts(ctx, b)
	if err != nil {
		return plan.Cluster{}, err
	}
	docs, err := b.Documents(ctx)
	if err != nil {
		return plan.Cluster{}, err
	}
	c := plan.Cluster{
		Host: s.Host, Memory: s.Journal, Now: s.Now, DataDir: s.DataDir, Pointer: pointer(s.DataDir), Node: s.Node,
		K0sFile:  files[k0s.Binary],
		Images:   plan.Images{Source: airgap.Unproved{Bundle: b}, Boot: boot, Rest: rest},
		K0s:      k0s.Service{Host: s.Host, Settings: set, Proxy: proxyOf(in, s.Address), Worker: s.Worker, Joins: s.Joins},
		Leftover: s.Leftover,
		Kept:     entry.Kept{Dir: KeptBundle(s.DataDir), Files: docs},
	}
	c.Agent = s.Self
	if !s.Worker {
		c.KotsFile = files[kots.Binary]
	}
	return c, nil
}

// withCharts gives each add-on the chart of the bundle: what was shipped and
// verified is installed, whatever this Plinth was built with.
func withCharts(ctx context.Context, b *airgap.Bundle, parts []addons.AddOn) ([]addons.AddOn, error) {
	out := slices.Clone(parts)
	for i := range out {
		archive, err := b.Chart(ctx, out[i].Chart.Name)
		if err != nil {
			return nil, err
		}
		out[i].Chart.Archive = archive
	}
	return out, nil
}

// console is what an install wants of the console; zero for a cluster
// without one.
func console(s Site, m manifest.Set, skipKotsCheck bool) plan.Console {
	k := m.Installer.Spec.Kotsadm
	if k == nil {
		return plan.Console{}
	}
	c := plan.Console{Namespace: k.Namespace, Want: kots.Console{Slug: k.ApplicationSlug, Version: k.Version},
		// Asked at the node's own address: the host name may lead elsewhere.
		URL:   ConsoleURL(journal.Console{Port: k.UIBindPort}, s.Address.String()),
		Hosts: []string{s.Address.String(), s.Node, "localhost", "127.0.0.1"}}
	if k.Hostname != "" {
		c.Hosts = append([]string{k.Hostname}, c.Hosts...)
	}
	if m.Application != nil {
		c.Want.Application = m.Application.Data
	}
	if m.App != nil {
		app := *m.App
		app.SkipCompat = skipKotsCheck
		c.App, c.AppID = &app, m.AppID
	}
	return c
}

// splitImages parts the bundle's images into those that k0s itself runs, in
// the order of need, and the rest, the largest first: started last, it would be
// imported alone. One that k0s wants and the bundle lacks is a damaged bundle.
func splitImages(b *airgap.Bundle, bootRefs []string) (boot, rest []images.Image, err error) {
	byRef := map[string]images.Image{}
	all := b.Images()
	for _, i := range all {
		byRef[i.Ref] = imageOf(i)
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
	slices.SortStableFunc(rest, func(x, y images.Image) int { return cmp.Compare(y.Size(), x.Size()) })
	return boot, rest, nil
}

func imageOf(i airgap.Image) images.Image {
	return images.Image{Ref: i.Ref, Manifest: i.Manifest, Blobs: append(i.Layers, i.Config)}
}

// HostPaths are the places of a bundle's files for the host, by their names.
func HostPaths() map[string]string {
	return map[string]string{"k0s": k0s.Binary, "kots": kots.Binary}
}

// KeptBundle is where a node keeps the documents of its bundle.
func KeptBundle(dataDir string) string { return dataDir + "/bundle" }

// artifacts are the bundle's files for the host, by their places.
func artifacts(ctx context.Context, b *airgap.Bundle) (map[string]node.Artifact, error) {
	places := HostPaths()
	out := map[string]node.Artifact{}
	for _, f := range b.HostFiles() {
		path, ok := places[f.Name]
		if !ok {
			return nil, problem.Newf(problem.ExitBundle, "use this bundle", "it was made for a newer Plinth: use that one", "it has a file for the host that this Plinth does not know: %s", f.Name)
		}
		out[path] = node.Artifact{Path: path, Mode: f.Mode, Size: f.Size, Digest: f.Digest,
			Open: func() (io.ReadCloser, error) { return b.OpenHostFile(ctx, f.Name) }}
	}
	return out, nil
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

// pointer is the file that names dataDir to later commands; "" where none has
// to.
func pointer(dataDir string) string {
	if dataDir == journal.DefaultDir {
		return ""
	}
	return journal.Pointer
}

// ConsoleURL is where the console answers; address is that of a node.
func ConsoleURL(c journal.Console, address string) string {
	host := c.Hostname
	if host == "" {
		host = address
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(c.Port))
}
