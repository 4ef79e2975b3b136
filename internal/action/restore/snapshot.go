package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/install"
	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
	"github.com/plinthdev/plinth/internal/velero"
)

// RestoredSnapshot is the snapshot that a new cluster got. Its JSON format is public.
type RestoredSnapshot struct {
	Name     string            `json:"name"`
	From     string            `json:"from"` // URL or folder of the store
	Registry string            `json:"registry,omitempty"`
	Images   string            `json:"images,omitempty"` // application bundle whose images the registry got
	Apps     map[string]string `json:"apps"`             // versions by slug
	KOTS     string            `json:"kots"`             // version of the console in it
	Bytes    int64             `json:"bytes"`            // of the volumes
}

// snapshotRestore is a restore of a snapshot on a host that had no cluster.
type snapshotRestore struct {
	opts     Options
	access   func(objectstore.Access) error // refuses what the cluster cannot use
	store    snapshotStore
	all      []velero.Snapshot
	snapshot velero.Snapshot
	contents velero.Contents
	registry velero.Snapshot // with the content of the registry; zero for none
	bytes    int64           // of the volumes, with that of the registry
	images   plan.AppImages  // of the application, if the store does not have them; zero for none
	app      kots.AppBundle  // of Options.AppBundle
	warnings []string        // what will be missing
}

// expiresSoon is how long before it expires a snapshot is protected from Velero, which removes expired ones as soon as it
// sees them.
const expiresSoon = 24 * time.Hour

// runSnapshot makes a host without a cluster the first host of a new one, with the console, the applications and the
// volumes of a snapshot. Nothing but the log changes until the snapshot, the bundle and the host are verified.
func runSnapshot(ctx context.Context, env *action.Env, opts Options) (Result, error) {
	s := snapshotRestore{opts: opts, access: checkAccess}
	if err := s.requireFreshHost(env); err != nil {
		return Result{}, err
	}
	if err := s.readSnapshot(ctx, env); err != nil {
		return Result{}, err
	}
	done, err := install.RestoreOnNewHost(ctx, env, opts.Install, install.Restoration{From: s.id(), AppID: s.images.ID, Check: s.check, Question: s.question,
		Steps: s.steps, Paths: s.writePaths(env.DataDir), Folder: s.store.folder})
	res := Result{Changed: done.Changed, Plan: done.Plan, Log: done.Log, TakenAt: &s.snapshot.TakenAt,
		Snapshot: &RestoredSnapshot{Name: s.snapshot.Name, From: s.store.name, Registry: s.registry.Name, Images: s.images.Bundle, Apps: s.snapshot.Apps, KOTS: s.snapshot.KOTS, Bytes: s.bytes},
		NewHost:  &NewHost{ConsoleURL: done.ConsoleURL, Kubeconfig: done.Kubeconfig, Preflights: done.Preflights, Warnings: append(s.warnings, done.Warnings...)}}
	return res, err
}

// writePaths returns where the restore writes beside an install. KOTS unpacks the images of an application bundle before it
// pushes them.
func (s *snapshotRestore) writePaths(dataDir string) []hostpreflight.WritePath {
	all := []hostpreflight.WritePath{{Path: path.Join(dataDir, "volumes"), Purpose: "the volumes of the snapshot", Bytes: uint64(s.bytes)}}
	if s.images.Bundle != "" {
		all = append(all, hostpreflight.WritePath{Path: path.Join(dataDir, "kots"), Purpose: "the images of the application, unpacked and in the registry", Bytes: 2 * uint64(s.app.Size)})
	}
	return all
}

// doingSnapshot is what fails, for messages.
const doingSnapshot = "restore a snapshot"

// requireFreshHost refuses a host with a cluster, and a command without a bundle.
func (s *snapshotRestore) requireFreshHost(env *action.Env) error {
	_, installed, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err != nil {
		return err
	}
	if installed {
		return problem.New(problem.ExitUsage, doingSnapshot, errors.New("this host has a cluster"),
			"restore it in the console, on the page Snapshots, or with: plinth kots restore --from-backup NAME; or use a host without a cluster; nothing was changed")
	}
	return requireBundle(s.opts, doingSnapshot, "name the bundle of the cluster with --bundle FILE")
}

// readSnapshot chooses the snapshot, and reads and verifies what the store has of it.
func (s *snapshotRestore) readSnapshot(ctx context.Context, env *action.Env) (err error) {
	if s.store, err = openSnapshotStore(env, s.opts.From, s.opts.Store, s.access); err != nil {
		return err
	}
	if s.all, err = velero.ListSnapshots(ctx, s.store.objects); err != nil {
		return s.storeProblem(ctx, err)
	}
	name := cmp.Or(s.opts.Snapshot, s.unfinished(env))
	for {
		if s.snapshot, err = chooseSnapshot(s.all, name, s.store.name); err != nil {
			return err
		}
		s.contents, err = velero.ReadContents(ctx, s.store.objects, s.snapshot)
		if err == nil {
			break
		}
		if !errors.Is(err, velero.ErrDamaged) {
			return s.storeProblem(ctx, err)
		}
		i := slices.IndexFunc(s.all, func(x velero.Snapshot) bool { return x.Name == s.snapshot.Name })
		s.all[i].Problem = err.Error() // without a name, an older one is chosen
	}
	s.bytes = s.contents.Bytes()
	s.warnNewer(env)
	if len(s.contents.Missing) > 0 {
		s.warnings = append(s.warnings, "the snapshot has no data of "+strings.Join(s.contents.Missing, ", ")+": Velero leaves out volumes of the type hostPath, and those "+
			"that an annotation names with a space beside the comma; they will be empty")
	}
	if err := s.readAppBundle(); err != nil {
		return err
	}
	if err := s.readRegistry(ctx, env); err != nil {
		return err
	}
	for _, w := range s.warnings {
		env.Note("warning: " + w)
	}
	return nil
}

// unfinished returns the name of the snapshot that an unfinished restore from the same store restores, "" for none: a
// newer one may have been added since.
func (s *snapshotRestore) unfinished(env *action.Env) string {
	j, err := journal.Open(env.ReadOnly().Host, env.DataDir, env.Now)
	if err != nil {
		return ""
	}
	last, ok := j.LastUnfinished()
	if !ok || last.Verb != Verb {
		return ""
	}
	rest, _ := strings.CutPrefix(last.Args.From, idPrefix)
	name, ok := strings.CutSuffix(rest, " "+s.store.name)
	if !ok {
		return ""
	}
	return name
}

// warnNewer notes what is in the store, and why newer snapshots are not restored.
func (s *snapshotRestore) warnNewer(env *action.Env) {
	env.Note("snapshots in " + s.store.name + ":")
	for _, line := range describeSnapshots(s.all) {
		env.Note("  " + line)
	}
	for _, x := range s.all {
		if x.TakenAt.After(s.snapshot.TakenAt) && x.RegistryOf == "" {
			text := fmt.Sprintf("the snapshot %s of %s is newer", x.Name, x.TakenAt.Format(time.RFC3339))
			if x.Problem != "" {
				text += ", and cannot be restored: " + x.Problem
			}
			s.warnings = append(s.warnings, text)
		}
	}
}

// readAppBundle reads and verifies the application bundle that the user has named.
func (s *snapshotRestore) readAppBundle() (err error) {
	name := s.opts.AppBundle
	if name == "" {
		return nil
	}
	if s.app, err = kots.ReadAppBundle(name); err != nil {
		return err
	}
	refuse := func(hint, format string, args ...any) error {
		return problem.Newf(problem.ExitUsage, "use the application bundle "+name, hint+"; nothing was changed", format, args...)
	}
	version, ok := s.snapshot.Apps[s.app.Slug]
	switch {
	case s.snapshot.Registry == "":
		return refuse("omit --app-bundle", "the applications of the snapshot %s do not pull their images from the built-in registry", s.snapshot.Name)
	case !ok:
		return refuse("name the .airgap file of that application", "it is of the application %s, and the snapshot %s of %s", s.app.Slug, s.snapshot.Name, cmp.Or(describeApps(s.snapshot.Apps), "none"))
	case version != "" && version != s.app.VersionLabel:
		return refuse("name the .airgap file of that version: another one has other images", "it has the version %s, and the snapshot %s the version %s", s.app.VersionLabel, s.snapshot.Name, version)
	}
	s.images = plan.AppImages{Bundle: name, Slug: s.app.Slug, ID: strings.TrimSpace(s.app.Slug + " " + s.app.VersionLabel + " " + s.app.UpdateCursor)}
	return nil
}

// hasImages reports whether the images of all applications are in the application bundle.
func (s *snapshotRestore) hasImages() bool { return s.images.Bundle != "" && len(s.snapshot.Apps) == 1 }

// readRegistry finds the content of the registry from which the applications pull their images. An application bundle is
// used if the store does not have all of it.
func (s *snapshotRestore) readRegistry(ctx context.Context, env *action.Env) error {
	if s.snapshot.Registry == "" {
		return nil
	}
	if s.contents.RegistryPassword == "" {
		s.warnings = append(s.warnings, "the snapshot has no pull secret for "+s.snapshot.Registry+": the registry gets a new password, which the application does not know")
	}
	found, ok := velero.RegistrySnapshot(s.all, s.snapshot)
	var have velero.Contents
	var err error
	if ok {
		have, err = velero.ReadContents(ctx, s.store.objects, found)
	}
	switch {
	case err != nil && !errors.Is(err, velero.ErrDamaged):
		return s.storeProblem(ctx, err)
	case !ok || err != nil || len(have.Volumes) == 0:
		s.warnMissingImages("the store has no content of the registry: without --app-bundle, the application does not start before its .airgap file is uploaded in the console")
		return nil
	case found.RegistryOf != s.snapshot.Name:
		s.warnMissingImages(fmt.Sprintf("the content of the registry is that of %s, of another snapshot: images may be missing; --app-bundle adds them", found.TakenAt.Format(time.RFC3339)))
	case s.images.Bundle != "":
		env.Note("the store has the images of the application: " + s.images.Bundle + " is not needed, and not used")
		s.images = plan.AppImages{}
	}
	s.registry, s.bytes = found, s.bytes+have.Bytes()
	return nil
}

// warnMissingImages adds a warning, unless the images come from the application bundle.
func (s *snapshotRestore) warnMissingImages(text string) {
	if !s.hasImages() {
		s.warnings = append(s.warnings, text)
	}
}

// storeProblem returns the problem of a store that cannot be used. Nothing was changed.
func (s *snapshotRestore) storeProblem(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	hint := "check the folder, and that the whole store was copied"
	switch {
	case objectstore.IsFailure(err):
		hint = problem.Hint(err)
	case errors.Is(err, fs.ErrPermission):
		hint = "let root read all files in the folder; for an NFS share, export it with no_root_squash"
	}
	return problem.New(problem.ExitUsage, "read the snapshots in "+s.opts.From, err, hint+"; nothing was changed")
}

// chooseSnapshot returns the snapshot with a name or, without one, the newest that can be restored.
func chooseSnapshot(all []velero.Snapshot, name, store string) (velero.Snapshot, error) {
	refuse := func(text, hint string) (velero.Snapshot, error) {
		return velero.Snapshot{}, problem.New(problem.ExitUsage, doingSnapshot, errors.New(text), hint+"; nothing was changed")
	}
	hint := "name another one with --snapshot; there are: " + strings.Join(describeSnapshots(all), "; ")
	if len(all) == 0 {
		return refuse("there are no snapshots in "+store, "check the bucket, the prefix and the folder: below it is a folder backups")
	}
	i := slices.IndexFunc(all, func(s velero.Snapshot) bool { return name == "" && s.Problem == "" || s.Name == name })
	switch {
	case i < 0 && name == "":
		return refuse("none of the snapshots in "+store+" can be restored", "there are: "+strings.Join(describeSnapshots(all), "; "))
	case i < 0:
		return refuse("there is no snapshot "+name+" in "+store, hint)
	case all[i].Problem != "":
		return refuse("the snapshot "+name+" cannot be restored: "+all[i].Problem, hint)
	}
	return all[i], nil
}

// maxDescribed is the number of snapshots in a message.
const maxDescribed = 10

// describeSnapshots returns a line for each of the newest snapshots, without those of registries.
func describeSnapshots(all []velero.Snapshot) (lines []string) {
	for _, s := range all {
		if s.RegistryOf != "" {
			continue
		}
		if len(lines) == maxDescribed {
			return append(lines, "…")
		}
		line := s.Name
		if !s.TakenAt.IsZero() {
			line += " of " + s.TakenAt.Format(time.RFC3339)
		}
		if apps := describeApps(s.Apps); apps != "" {
			line += ", " + apps
		}
		if s.Problem != "" {
			line += " (cannot be restored: " + s.Problem + ")"
		}
		lines = append(lines, line)
	}
	return lines
}

// describeApps returns applications with their versions.
func describeApps(apps map[string]string) string {
	var all []string
	for _, slug := range slices.Sorted(maps.Keys(apps)) {
		all = append(all, strings.TrimSpace(slug+" "+apps[slug]))
	}
	return strings.Join(all, ", ")
}

// idPrefix is the beginning of the id of a snapshot in the journal.
const idPrefix = "snapshot "

// id identifies the snapshot in the journal.
func (s *snapshotRestore) id() string { return idPrefix + s.snapshot.Name + " " + s.store.name }

// check refuses a bundle that does not fit the snapshot.
func (s *snapshotRestore) check(_ context.Context, env *action.Env, c install.Candidate) error {
	parts, err := addons.Resolve(c.Config.Installer, env.DataDir)
	if err != nil {
		return err
	}
	return checkSnapshot(s.snapshot, s.store, c.Config.Installer, plan.RegistryAddress(parts))
}

// checkSnapshot refuses an Installer in with which a snapshot cannot be restored. registry is the address of its built-in
// registry, "" for none.
func checkSnapshot(s velero.Snapshot, from snapshotStore, in *spec.Installer, registry string) error {
	refuse := func(hint, format string, args ...any) error {
		return problem.Newf(problem.ExitUsage, "restore the snapshot "+s.Name, hint+"; nothing was changed", format, args...)
	}
	const other = "use the bundle of the application in the snapshot, or name another snapshot with --snapshot"
	const vendor = "ask the vendor for a bundle that fits: the one with which the cluster was installed, or to which it was upgraded, does"
	k, v := in.Spec.Kotsadm, in.Spec.Velero
	switch {
	case v == nil:
		return refuse(vendor, "the bundle has no Velero: spec.velero is not in its Installer")
	case k == nil:
		return refuse(vendor, "the bundle has no console: spec.kotsadm is not in its Installer")
	case from.folder != "" && v.ObjectStore.Mode == "none":
		return refuse("copy the folder to an object store, and give its URL", "the bundle has no object store that could serve the folder %s: spec.velero.objectStore.mode is none", from.folder)
	case k.Namespace != s.Namespace:
		return refuse(vendor, "its console is in the namespace %s, and that of the bundle in %s", s.Namespace, k.Namespace)
	case len(s.Apps) > 0 && !hasApp(s.Apps, k.ApplicationSlug):
		return refuse(other, "it is of the application %s, and the bundle is of %s", describeApps(s.Apps), k.ApplicationSlug)
	case s.Registry != "" && registry == "":
		return refuse(vendor, "its applications pull their images from the built-in registry, and the bundle has none: spec.registry is not in its Installer")
	case s.Registry != "" && s.Registry != registry:
		return refuse("use a bundle with the spec.network.serviceCIDR of the cluster before", "its applications pull their images from %s, and the registry of the bundle has the address %s, because serviceCIDR is %s",
			s.Registry, registry, in.Spec.Network.ServiceCIDR)
	case isOlder(k.Version, s.KOTS):
		return refuse(vendor, "it is of KOTS %s, and the bundle has the older %s", s.KOTS, k.Version)
	case isOlderMinor(in.Spec.K0s.Version, s.Kubernetes):
		return refuse(vendor, "it is of Kubernetes %s, and the bundle has the older 1.%d", s.Kubernetes, spec.KubernetesMinor(in.Spec.K0s.Version))
	}
	return nil
}

func hasApp(apps map[string]string, slug string) bool {
	_, ok := apps[slug]
	return ok
}

// isOlder reports whether version is older than that of a snapshot. A version that is not one is not compared.
func isOlder(version, was string) bool {
	x, err := compat.ParseVersion(version)
	y, errWas := compat.ParseVersion(was)
	return err == nil && errWas == nil && x.Compare(y) < 0
}

// isOlderMinor reports whether the Kubernetes of a k0s version is of an older minor than was, such as v1.33.13.
func isOlderMinor(k0sVersion, was string) bool {
	var major, minor int
	_, err := fmt.Sscanf(was, "v%d.%d.", &major, &minor)
	return err == nil && spec.KubernetesMinor(k0sVersion) < minor
}

// question returns what the user has to know before the first change.
func (s *snapshotRestore) question(c install.Candidate) string {
	var b strings.Builder
	fmt.Fprintf(&b, "This host becomes the first host of a new cluster, as node %s with the address %s.\n", c.Node, c.Host.Network.NodeAddress)
	fmt.Fprintf(&b, "It gets the console and %s of the snapshot %s of %s, with %d volumes of %s.\n", cmp.Or(describeApps(s.snapshot.Apps), "no application"),
		s.snapshot.Name, s.snapshot.TakenAt.Format(time.RFC3339), len(s.contents.Volumes), ui.FormatBytes(s.bytes))
	if s.images.Bundle != "" {
		fmt.Fprintf(&b, "The images of %s come from %s.\n", s.images.Slug, s.images.Bundle)
	}
	b.WriteString("What was written later is lost. The cluster before must be off for good, or not use " + s.store.name + " any more: the new one keeps its snapshots there.\n")
	return b.String()
}

// steps returns the steps of the restore for a cluster.
func (s *snapshotRestore) steps(c plan.Cluster) []step.Step {
	var refs []string
	for _, i := range append(slices.Clone(c.Images.Boot), c.Images.Rest...) {
		refs = append(refs, i.Ref)
	}
	return plan.RestoreSnapshot(c, plan.SnapshotRestore{Snapshot: s.snapshot.Name, RegistrySnapshot: s.registry.Name, RegistryPassword: s.contents.RegistryPassword,
		Location: s.store.location, Folder: s.store.folder, ReadOnly: !s.snapshot.Expires.IsZero() && s.snapshot.Expires.Before(c.Now().Add(expiresSoon)),
		KOTS: s.snapshot.KOTS, Rules: velero.ReplaceImages(s.contents.Images, refs), Apps: slices.Sorted(maps.Keys(s.snapshot.Apps)),
		AppImages: s.images, WaitApps: s.snapshot.Registry == "" || s.registry.Name != "" || s.hasImages()})
}
