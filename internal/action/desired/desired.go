// Package desired computes the desired cluster from a bundle, its configuration and
// the facts of a host.
package desired

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/charts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/images"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
)

// Target is the host on which an install or a join runs.
type Target struct {
	Host    host.Host
	Journal *journal.Journal
	Now     func() time.Time
	DataDir string     // the data folder of Plinth
	Node    string     // Kubernetes name of this host
	Address netip.Addr // address at which other hosts reach this one
	API     string     // additional name or address of the Kubernetes API; "" for none
	AddOns  []addons.AddOn
	Cleanup cleanup.Scope // what the cluster may leave on this host
	Agent   node.Artifact // this executable, as the file from which the agent runs
	Worker  bool          // the role of this host; false for controller
	Joining bool          // the host joins an existing cluster
	Vendor  VendorSignature
	Origin  BundleOrigin      // of the origin of the bundle of an upgrade, for other nodes
	Warn    func(text string) // receives what failed and is tolerated; nil for none

	Firewall plan.FirewallState // rules for the firewalls of the host; zero to leave them alone
}

// InstallSteps returns the steps that install bundle b with configuration m on
// target s.
func InstallSteps(ctx context.Context, target Target, b *airgap.Bundle, cfg config.Config, skipKotsCheck bool) ([]step.Step, error) {
	c, err := firstController(ctx, target, b, cfg, skipKotsCheck)
	if err != nil {
		return nil, err
	}
	return plan.Install(c), nil
}

// UpgradeSteps returns the steps that move the cluster of target s to bundle b with configuration m.
func UpgradeSteps(ctx context.Context, target Target, b *airgap.Bundle, cfg config.Config, t plan.Transition) ([]step.Step, error) {
	c, err := firstController(ctx, target, b, cfg, true)
	if err != nil {
		return nil, err
	}
	return plan.Upgrade(c, t), nil
}

// UpgradeNodeSteps returns the steps that move the node of target s alone to bundle b with configuration m.
func UpgradeNodeSteps(ctx context.Context, target Target, b *airgap.Bundle, cfg config.Config, t plan.Transition) ([]step.Step, error) {
	c, err := upgradedNode(ctx, target, b, cfg)
	if err != nil {
		return nil, err
	}
	return plan.UpgradeNode(c, t), nil
}

// DeliverNodeSteps returns the steps that give the node of target s everything that UpgradeNodeSteps needs.
func DeliverNodeSteps(ctx context.Context, target Target, b *airgap.Bundle, cfg config.Config, t plan.Transition) ([]step.Step, error) {
	c, err := upgradedNode(ctx, target, b, cfg)
	if err != nil {
		return nil, err
	}
	stage, err := StageBundle(ctx, target.Host, b, target.Origin)
	if err != nil {
		return nil, err
	}
	return plan.DeliverNode(c, t, stage), nil
}

// upgradedNode returns the cluster as one of its nodes sees it after an upgrade.
func upgradedNode(ctx context.Context, target Target, b *airgap.Bundle, cfg config.Config) (plan.Cluster, error) {
	c, err := buildCluster(ctx, target, b, cfg.Installer)
	if err != nil {
		return c, err
	}
	if k := cfg.Installer.Spec.Kotsadm; k != nil {
		c.Console.Namespace = k.Namespace
	}
	return c, nil
}

// RollbackNodeSteps returns the steps that restore the state before an upgrade on the node of target s alone.
func RollbackNodeSteps(target Target, was InstalledBundle, r plan.Reversal) []step.Step {
	return plan.RollbackNode(installedCluster(target, was), r)
}

// InstalledBundle is what is known of the bundle that is, or was, installed on a host.
type InstalledBundle struct {
	Installer *spec.Installer
	Images    []string // references of its images
}

// ReadInstalledBundle returns what the documents in dataDir contain of a bundle; ok is false if they cannot be read.
func ReadInstalledBundle(ctx context.Context, h host.Files, dataDir string) (b InstalledBundle, ok bool) {
	if b.Installer = ReadInstalledInstaller(ctx, h, dataDir); b.Installer == nil {
		return b, false
	}
	bundle, err := OpenInstalledBundle(ctx, h, dataDir)
	if err != nil {
		return b, false
	}
	for _, i := range bundle.Images() {
		b.Images = append(b.Images, i.Ref)
	}
	return b, bundle.Close() == nil
}

// RollbackSteps returns the steps that restore the state before an upgrade on target s. was is the bundle of that
// state.
func RollbackSteps(target Target, was InstalledBundle, r plan.Reversal) []step.Step {
	return plan.Rollback(installedCluster(target, was), r)
}

// RestoreAddOnSteps returns the steps that give the add-ons and the console of target s the versions of bundle b with the
// Installer in, and remove those that only the upgrade has added.
func RestoreAddOnSteps(ctx context.Context, target Target, b *airgap.Bundle, in *spec.Installer, added []addons.AddOn) ([]step.Step, error) {
	c, err := firstController(ctx, target, b, config.Config{Installer: in}, true)
	if err != nil {
		return nil, err
	}
	return plan.RestoreAddOns(c, added), nil
}

// RestoreSteps returns the steps that make target s the only controller of its cluster, on which is is installed.
func RestoreSteps(target Target, is InstalledBundle, r plan.Restoration) []step.Step {
	c := installedCluster(target, is)
	c.AddOns = target.AddOns
	return plan.Restore(c, r)
}

// ReaddressSteps returns the steps that move target s, the only controller of its cluster, on which is is installed, to
// its address.
func ReaddressSteps(target Target, is InstalledBundle) []step.Step {
	c := installedCluster(target, is)
	c.K0s.Settings.Images = is.Images // the configuration is written again, as the install has written it
	return plan.Readdress(c, plan.Readdressing{})
}

// RestoreOnNewHostSteps returns the steps that install bundle b on target s, which has no cluster, with what is restored:
// list returns them for the cluster.
func RestoreOnNewHostSteps(ctx context.Context, target Target, b *airgap.Bundle, cfg config.Config, list func(plan.Cluster) []step.Step) ([]step.Step, error) {
	c, err := firstController(ctx, target, b, cfg, true)
	if err != nil {
		return nil, err
	}
	return list(c), nil
}

// installedCluster returns the cluster as the bundle was has installed it on target s.
func installedCluster(target Target, was InstalledBundle) plan.Cluster {
	in := was.Installer
	set := k0s.NewSettings(in, target.Address.String(), target.Node)
	set.APIAddress = target.API
	c := plan.Cluster{
		Host: target.Host, StateStore: target.Journal, Now: target.Now, DataDir: target.DataDir, PointerFile: pointerPath(target.DataDir), NodeName: target.Node,
		K0s:          k0s.Service{Host: target.Host, Settings: set, Proxy: proxySettings(in, target.Address), TrustedCAs: in.Spec.TrustedCAs(), Worker: target.Worker, JoinsCluster: target.Joining},
		CleanupScope: target.Cleanup,
		Console:      desiredConsole(target, config.Config{Installer: in}, true),
	}
	for _, ref := range was.Images { // their content is not needed
		c.Images.Boot = append(c.Images.Boot, images.Image{Ref: ref})
	}
	return c
}

// firstController returns the cluster as its first controller installs it, with everything that is in bundle b.
func firstController(ctx context.Context, target Target, b *airgap.Bundle, cfg config.Config, skipKotsCheck bool) (plan.Cluster, error) {
	if cfg.Trust.Verified {
		target.Vendor = VendorSignature{Signature: b.Signature(), Key: cfg.Trust.Key}
	}
	parts, err := withCharts(ctx, b, target.AddOns, cfg.Installer.Spec.K0s.Version)
	if err != nil {
		return plan.Cluster{}, err
	}
	c, err := buildCluster(ctx, target, b, cfg.Installer)
	c.AddOns, c.Console, c.Warn = parts, desiredConsole(target, cfg, skipKotsCheck), target.Warn
	return c, err
}

// JoinAccess is the access of a host to an existing cluster.
type JoinAccess struct {
	Admitter  plan.Admitter
	APIAccess *plan.APIAccess // nil for a controller
}

// JoinSteps returns the steps by which target s joins a cluster with bundle b.
func JoinSteps(ctx context.Context, target Target, b *airgap.Bundle, in *spec.Installer, access JoinAccess) ([]step.Step, error) {
	c, err := buildCluster(ctx, target, b, in)
	if err != nil {
		return nil, err
	}
	if k := in.Spec.Kotsadm; k != nil {
		c.Console.Namespace = k.Namespace
	}
	return plan.Join(c, access.Admitter, access.APIAccess), nil
}

// buildCluster returns the settings that a host of either role needs to become a node.
func buildCluster(ctx context.Context, target Target, b *airgap.Bundle, in *spec.Installer) (plan.Cluster, error) {
	set := k0s.NewSettings(in, target.Address.String(), target.Node)
	set.APIAddress = target.API
	for _, i := range b.Images() {
		set.Images = append(set.Images, i.Ref)
	}
	refs, err := k0s.Images(set)
	if err != nil {
		return plan.Cluster{}, problem.New(problem.ExitConfig, "render k0s's configuration", err, "fix spec.k0s.config in the Installer")
	}
	boot, rest, err := splitImages(b, refs)
	if err != nil {
		return plan.Cluster{}, err
	}
	files, err := hostArtifacts(ctx, b)
	if err != nil {
		return plan.Cluster{}, err
	}
	docs, err := b.Documents(ctx)
	if err != nil {
		return plan.Cluster{}, err
	}
	maps.Copy(docs, target.Vendor.cacheFiles())
	c := plan.Cluster{
		Host: target.Host, StateStore: target.Journal, Now: target.Now, DataDir: target.DataDir, PointerFile: pointerPath(target.DataDir), NodeName: target.Node,
		K0sFile:      files[k0s.BinaryPath],
		Images:       plan.Images{Source: airgap.Unverified{Bundle: b}, Boot: boot, Rest: rest},
		K0s:          k0s.Service{Host: target.Host, Settings: set, Proxy: proxySettings(in, target.Address), TrustedCAs: in.Spec.TrustedCAs(), Worker: target.Worker, JoinsCluster: target.Joining},
		CleanupScope: target.Cleanup,
		BundleCache:  plan.BundleCache{Dir: BundleCacheDir(target.DataDir), Files: docs},
		Firewall:     target.Firewall,
	}
	c.AgentFile, c.ProgramFile = target.Agent, target.Agent
	c.ProgramFile.Path = node.ProgramPath
	if !target.Worker {
		c.KotsFile = files[kots.BinaryPath]
		c.BackupTimer, err = backupTimer(target.DataDir, in.Spec.Backup)
	}
	return c, err
}

// backupTimer returns the timer that backs the control plane up as b says; none if b is nil.
func backupTimer(dataDir string, b *spec.Backup) (node.BackupTimer, error) {
	if b == nil {
		return node.BackupTimer{}, nil
	}
	s, err := spec.ParseSchedule(b.Schedule)
	if err != nil { // lint refuses it
		return node.BackupTimer{}, problem.Newf(problem.ExitConfig, "schedule backups", "fix spec.backup in the Installer", "%q %w", b.Schedule, err)
	}
	return node.NewBackupTimer(node.AgentBinary, dataDir, node.BackupSchedule{Calendar: s.Calendar, Delay: s.Delay, To: b.To, Keep: b.Keep, Recipients: b.Recipients}), nil
}

// withCharts returns parts with the charts of the bundle, for the version of k0s. The charts that were
// shipped and verified are installed, not those that this executable was built with.
func withCharts(ctx context.Context, b *airgap.Bundle, parts []addons.AddOn, k0sVersion string) ([]addons.AddOn, error) {
	out := slices.Clone(parts)
	var defined []string // APIs of the charts so far
	for i := range out {
		archive, err := b.Chart(ctx, out[i].Chart.Name)
		if err != nil {
			return nil, err
		}
		out[i].Chart.Archive = archive
		if !out[i].External {
			continue
		}
		out[i].APIVersions = slices.Clone(defined)
		more, err := charts.DefinedAPIs(out[i], k0sVersion)
		if err != nil {
			return nil, problem.New(problem.ExitBundle, "use this bundle", fmt.Errorf("its chart %s: %w", out[i].Name, err), "build the bundle again")
		}
		defined = append(defined, more...)
	}
	return out, nil
}

// desiredConsole returns the settings of the console; the zero value for a cluster
// without one.
func desiredConsole(target Target, cfg config.Config, skipKotsCheck bool) plan.Console {
	k := cfg.Installer.Spec.Kotsadm
	if k == nil {
		return plan.Console{}
	}
	c := ConsoleInCluster(cfg, skipKotsCheck)
	// Use the node's own address: the host name may resolve to another one.
	c.URL = ConsoleURL(journal.Console{Port: k.UIBindPort}, target.Address.String())
	c.CertificateHosts = []string{target.Address.String(), target.Node, "localhost", "127.0.0.1"}
	if k.Hostname != "" {
		c.Hostname = k.Hostname
		c.CertificateHosts = append([]string{k.Hostname}, c.CertificateHosts...)
	}
	return c
}

// ConsoleInCluster returns the settings of the console inside the cluster, which do not depend on a host. The
// Installer must have spec.kotsadm.
func ConsoleInCluster(cfg config.Config, skipKotsCheck bool) plan.Console {
	k := cfg.Installer.Spec.Kotsadm
	c := plan.Console{Namespace: k.Namespace, Desired: kots.ConsoleSpec{Slug: k.ApplicationSlug, Version: k.Version, TrustedCAs: cfg.Installer.Spec.TrustedCAs()}}
	if cfg.Application != nil {
		c.Desired.Application = cfg.Application.Data
	}
	if cfg.App != nil {
		app := *cfg.App
		app.SkipCompat = skipKotsCheck
		c.App, c.AppID = &app, cfg.AppID
	}
	return c
}

// splitImages splits the images of b into those that k0s itself runs (bootRefs, in
// the order in which they are needed) and the rest, largest first. If the import of
// the largest image started last, it would run alone at the end. It returns an error
// when b lacks an image that k0s needs: such a bundle is damaged.
func splitImages(b *airgap.Bundle, bootRefs []string) (boot, rest []images.Image, err error) {
	byRef := map[string]images.Image{}
	all := b.Images()
	for _, i := range all {
		byRef[i.Ref] = toImage(i)
	}
	for _, ref := range bootRefs {
		img, ok := byRef[ref]
		if !ok {
			return nil, nil, problem.New(problem.ExitBundle, "use this bundle", errors.New("it does not contain the image "+ref), "build the bundle again from the same Installer")
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

func toImage(i airgap.Image) images.Image {
	return images.Image{Ref: i.Ref, Manifest: i.Manifest, Blobs: append(i.Layers, i.Config)}
}

// HostFilePaths returns the paths at which the host files of a bundle are installed,
// by their names.
func HostFilePaths() map[string]string {
	return map[string]string{"k0s": k0s.BinaryPath, "kots": kots.BinaryPath}
}

// BundleCacheDir returns the folder in which a node keeps the documents of its bundle.
func BundleCacheDir(dataDir string) string { return dataDir + "/bundle" }

// KotsArtifact returns the kots CLI of b, to be written to path.
func KotsArtifact(ctx context.Context, b *airgap.Bundle, path string) (node.Artifact, error) {
	files, err := hostArtifacts(ctx, b)
	f, ok := files[kots.BinaryPath]
	if err == nil && !ok {
		err = problem.New(problem.ExitBundle, "use this bundle", errors.New("it does not contain the kots CLI"), "build the bundle again from an Installer with kotsadm")
	}
	f.Path = path
	return f, err
}

// hostArtifacts returns the host files of b by the paths at which they are installed.
// It returns an error for a file that this version of Plinth does not know.
func hostArtifacts(ctx context.Context, b *airgap.Bundle) (map[string]node.Artifact, error) {
	places := HostFilePaths()
	out := map[string]node.Artifact{}
	for _, f := range b.HostFiles() {
		path, ok := places[f.Name]
		if !ok {
			return nil, problem.Newf(problem.ExitBundle, "use this bundle", "it was built for a newer version of Plinth: use that version", "it contains a host file that this version of Plinth does not know: %s", f.Name)
		}
		out[path] = node.Artifact{Path: path, Mode: f.Mode, Size: f.Size, Digest: f.Digest,
			Open: func() (io.ReadCloser, error) { return b.OpenHostFile(ctx, f.Name) }}
	}
	return out, nil
}

// proxySettings returns the proxy of the k0s service. The networks of the cluster are
// exempt from it.
func proxySettings(in *spec.Installer, address netip.Addr) k0s.Proxy {
	p := in.Spec.Proxy
	if p.HTTPProxy == "" && p.HTTPSProxy == "" {
		return k0s.Proxy{}
	}
	return k0s.Proxy{HTTP: p.HTTPProxy, HTTPS: p.HTTPSProxy, NoProxy: in.Spec.NoProxy(address.String())}
}

// pointerPath returns the path of the file that tells later commands where dataDir
// is, or "" when dataDir is the default and no such file is needed.
func pointerPath(dataDir string) string {
	if dataDir == journal.DefaultDir {
		return ""
	}
	return journal.PointerFile
}

// ConsoleURL returns the URL of the console c. It contains address, the address of a
// node, when c has no host name.
func ConsoleURL(c journal.Console, address string) string {
	host := c.Hostname
	if host == "" {
		host = address
	}
	return "https://" + net.JoinHostPort(host, strconv.Itoa(c.Port))
}
