package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/velero"
)

// SnapshotRestore is a snapshot of a console with its applications that a new cluster restores.
type SnapshotRestore struct {
	Snapshot         string // its name
	RegistrySnapshot string // name of the one with the content of the registry; "" for none
	RegistryPassword string // by which the applications pull their images; "" for a new one; secret
	// Location is where the snapshots are, without a client and a namespace; nil for the object store of the cluster.
	Location *velero.Location
	Folder   string                // of this host with the files of that object store; "" for that of the Installer
	ReadOnly bool                  // Velero would remove the snapshot: it has expired, or soon does
	KOTS     string                // version of the console in the snapshot
	Rules    []velero.ModifierRule // by which the console gets the images of the bundle
	Apps     []string              // slugs of the applications
	// AppImages are the images that RegistrySnapshot does not have; zero for none.
	AppImages AppImages
	// WaitApps waits until the applications are ready. Without their images, they cannot be.
	WaitApps bool
}

// AppImages are the images of an application in its own bundle.
type AppImages struct {
	Bundle string // path of the .airgap file
	Slug   string
	ID     string // identifies the content of the bundle
}

// RestoreSnapshot returns the steps that make a host without a cluster the first host of a new cluster, with the console,
// the applications and the volumes of a snapshot. They are those of Install in another order: Velero comes before what it
// restores. The console is not installed, but restored.
func RestoreSnapshot(c Cluster, r SnapshotRestore) []step.Step {
	c.Console.App, c.Restored = nil, &r
	part, ok := c.findAddOn(veleroName)
	steps := Install(c)
	if !ok { // the caller has refused it
		return steps
	}
	o := snapshotRestore{c, r, part}
	if r.Location != nil {
		steps = insertBefore(steps, veleroName, o.putCredentials())
		steps = slices.DeleteFunc(steps, func(s step.Step) bool { return s.ID == snapshotLocationID })
		steps = insertAfter(steps, veleroName, o.setLocation())
	}
	restore := []step.Step{o.findSnapshot()}
	registry, hasRegistry := c.findAddOn(registryName)
	if hasRegistry {
		if r.RegistrySnapshot != "" {
			restore = append(restore, o.restoreRegistry(registry))
		}
		restore = append(restore, takeStep(&steps, registryName))
	}
	restore = append(restore, o.restoreConsole())
	for _, id := range []string{"console", "console-certificate", o.proxyID(), "console-answers", "registry-announce"} {
		if i := slices.IndexFunc(steps, func(s step.Step) bool { return s.ID == id }); i >= 0 {
			restore = append(restore, takeStep(&steps, id))
		}
	}
	if hasRegistry && r.AppImages.Bundle != "" {
		restore = append(restore, o.pushImages(registry))
	}
	restore = append(restore, o.restoreApps())
	if r.ReadOnly {
		restore = append(restore, o.allowWrites())
	}
	last := veleroName
	for _, id := range []string{snapshotLocationID, restoreLocationID} {
		if slices.ContainsFunc(steps, func(s step.Step) bool { return s.ID == id }) {
			last = id
		}
	}
	return insertAfter(steps, last, restore...)
}

// insertAfter inserts more after the step id.
func insertAfter(steps []step.Step, id string, more ...step.Step) []step.Step {
	i := slices.IndexFunc(steps, func(s step.Step) bool { return s.ID == id })
	return slices.Insert(steps, i+1, more...)
}

// takeStep removes the step id from steps and returns it.
func takeStep(steps *[]step.Step, id string) step.Step {
	i := slices.IndexFunc(*steps, func(s step.Step) bool { return s.ID == id })
	s := (*steps)[i]
	*steps = slices.Delete(*steps, i, i+1)
	return s
}

// findAddOn returns the add-on name; ok is false if the cluster does not have it.
func (c Cluster) findAddOn(name string) (a addons.AddOn, ok bool) {
	i := slices.IndexFunc(c.AddOns, func(a addons.AddOn) bool { return a.Name == name && !a.External })
	if i < 0 {
		return a, false
	}
	return c.AddOns[i], true
}

// snapshotRestore is the restore of one snapshot.
type snapshotRestore struct {
	Cluster
	SnapshotRestore
	velero addons.AddOn
}

// restoreLocationID is the id of the step that sets where the snapshots are.
const restoreLocationID = "restore-location"

// proxyID returns the id of the step that puts the console behind TLS.
func (o snapshotRestore) proxyID() string {
	i := slices.IndexFunc(o.AddOns, func(a addons.AddOn) bool { return a.Deploy == addons.DeployKOTS })
	if i < 0 {
		return ""
	}
	return o.AddOns[i].Release
}

// inCluster returns s with a Check and an Apply that call check and apply with clients of the cluster.
func (o snapshotRestore) inCluster(s step.Step, check func(context.Context, velero.Operator) (string, error),
	apply func(context.Context, velero.Operator, kube.Wait) error) step.Step {
	s.Check = func(ctx context.Context) (step.State, error) {
		client, err := o.kubeClient(ctx)
		if err != nil {
			return step.Unknown("k0s-start"), nil
		}
		why, err := check(ctx, velero.Operator{Kube: client, Namespace: o.velero.Namespace, Now: o.Now})
		if err != nil {
			return step.Needed(err.Error()), ctx.Err()
		}
		return stepState(why, nil)
	}
	s.Apply = func(ctx context.Context, report step.Report) error {
		client, err := o.kubeClient(ctx)
		if err != nil {
			return err
		}
		return apply(ctx, velero.Operator{Kube: client, Namespace: o.velero.Namespace, Now: o.Now}, kube.Wait{Timeout: 5 * time.Minute, Report: report, Diagnose: o.K0s.Diagnose})
	}
	return s
}

// location returns the location of the snapshots in a store outside of the cluster.
func (o snapshotRestore) location(v velero.Operator) velero.Location {
	l := *o.Location
	l.Kube, l.Namespace, l.ReadOnly = v.Kube, v.Namespace, o.ReadOnly
	return l
}

// putCredentials returns the step that stores the credentials of the store before Velero starts.
func (o snapshotRestore) putCredentials() step.Step {
	return o.inCluster(step.Step{ID: "restore-credentials", Title: "Store the credentials of the object store for Velero", Affects: []string{"secret " + o.velero.Namespace + "/cloud-credentials"}},
		func(ctx context.Context, v velero.Operator) (string, error) {
			return o.location(v).CredentialsNeeded(ctx)
		},
		func(ctx context.Context, v velero.Operator, _ kube.Wait) error {
			return o.location(v).PutCredentials(ctx)
		})
}

// setLocation returns the step that configures Velero and the console to use the store with the snapshots, also for new ones.
func (o snapshotRestore) setLocation() step.Step {
	return o.inCluster(step.Step{ID: restoreLocationID, Title: "Configure Velero to use the store with the snapshots", Affects: []string{"BackupStorageLocation " + o.velero.Namespace + "/default"}},
		func(ctx context.Context, v velero.Operator) (string, error) { return o.location(v).Needed(ctx) },
		func(ctx context.Context, v velero.Operator, w kube.Wait) error { return o.location(v).Ensure(ctx, w) })
}

// snapshots returns the names of the snapshots that are restored.
func (o snapshotRestore) snapshots() []string {
	if o.RegistrySnapshot == "" {
		return []string{o.Snapshot}
	}
	return []string{o.Snapshot, o.RegistrySnapshot}
}

func (o snapshotRestore) findSnapshot() step.Step {
	return o.inCluster(step.Step{ID: "restore-find", Title: "Wait until Velero finds the snapshot"},
		func(ctx context.Context, v velero.Operator) (why string, err error) {
			for _, name := range o.snapshots() {
				if why, err = v.SnapshotReason(ctx, name); why != "" || err != nil {
					break
				}
			}
			return why, err
		},
		func(ctx context.Context, v velero.Operator, w kube.Wait) error {
			return v.FindSnapshots(ctx, w, o.snapshots()...)
		})
}

// restoreRegistry returns the step that restores the volume of the registry, before the registry itself is installed.
// Velero fills a volume while a pod that it has created waits for it. That pod is removed then: the one of the chart uses
// the volume.
func (o snapshotRestore) restoreRegistry(registry addons.AddOn) step.Step {
	r := velero.Restore{Name: o.Snapshot + ".plinth-registry", Snapshot: o.RegistrySnapshot, Namespaces: []string{registry.Namespace}, Resources: velero.RegistryResources()}
	pods := func(ctx context.Context, client *kube.Client) ([]string, error) {
		return client.Pods(ctx, registry.Namespace, "velero.io/restore-name="+r.Name)
	}
	remove := func(ctx context.Context, client *kube.Client, kind, name string) error {
		return client.Delete(ctx, kube.Object{APIVersion: "v1", Kind: kind, Namespace: registry.Namespace, Name: name})
	}
	return o.inCluster(step.Step{ID: "restore-registry", Title: "Restore the images in the registry", Affects: []string{"namespace " + registry.Namespace}},
		func(ctx context.Context, v velero.Operator) (string, error) {
			s, err := v.RestoreState(ctx, r.Name)
			if err != nil || !s.Done {
				return s.Reason(), err
			}
			left, err := pods(ctx, v.Kube)
			if err != nil || len(left) == 0 {
				return "", err
			}
			return "pod " + left[0] + " of the restore still exists", nil
		},
		func(ctx context.Context, v velero.Operator, w kube.Wait) error {
			removePods := func(ctx context.Context) error {
				names, err := pods(ctx, v.Kube)
				for _, name := range names {
					err = errors.Join(err, remove(ctx, v.Kube, "Pod", name))
				}
				if err != nil {
					return err
				}
				return v.WaitGone(ctx, w, "the pods of the restore", func(ctx context.Context) ([]string, error) { return pods(ctx, v.Kube) })
			}
			clean := func(ctx context.Context) error {
				return errors.Join(removePods(ctx), remove(ctx, v.Kube, "PersistentVolumeClaim", registryName))
			}
			if err := v.EnsureRestored(ctx, w, r, clean); err != nil {
				return err
			}
			return removePods(ctx)
		})
}

// console returns the client of the console.
func (o snapshotRestore) console(v velero.Operator) *kots.Client {
	return NewKOTS(o.Host, v.Kube, o.Console.Namespace, o.DataDir)
}

// restoreConsole returns the step that restores the console: its objects, its keys and passwords, its database and its
// releases.
func (o snapshotRestore) restoreConsole() step.Step {
	name := kots.ConsoleRestoreName(o.Snapshot)
	return o.inCluster(step.Step{ID: "restore-console", Title: "Restore the KOTS admin console", Affects: []string{"namespace " + o.Console.Namespace}},
		func(ctx context.Context, v velero.Operator) (string, error) {
			s, err := v.RestoreState(ctx, name)
			if err != nil || !s.Done {
				return s.Reason(), err
			}
			return o.console(v).RestoredNeeded(ctx)
		},
		func(ctx context.Context, v velero.Operator, w kube.Wait) error {
			k := o.console(v)
			err := v.EnsureRestored(ctx, w, velero.Restore{Name: name, Snapshot: o.Snapshot, Labels: kots.ConsoleLabels(), Rules: o.Rules, Annotations: k.RestoreAnnotations()},
				func(ctx context.Context) error { return k.RemoveConsole(ctx, w.Report) })
			if err != nil {
				return err
			}
			w.Timeout = 10 * time.Minute
			return k.FinishRestore(ctx, o.Console.Desired, o.KOTS, w)
		})
}

// pushImages returns the step that pushes the images of the application from its own bundle. A ConfigMap beside the registry
// records it: to ask the registry for each image, the bundle would have to be unpacked.
func (o snapshotRestore) pushImages(registry addons.AddOn) step.Step {
	pushed := mark{"plinth-pushed-images", "bundle"}
	return o.inCluster(step.Step{ID: "restore-images", Title: "Push the images of the application into the registry", Affects: []string{"namespace " + registry.Namespace}},
		func(ctx context.Context, v velero.Operator) (string, error) {
			if id, ok, err := pushed.read(ctx, v.Kube, registry.Namespace); err != nil || ok && id == o.AppImages.ID {
				return "", err
			}
			return "the images of " + o.AppImages.Bundle + " are not in the registry", nil
		},
		func(ctx context.Context, v velero.Operator, w kube.Wait) error {
			k := o.console(v)
			r := clusterRegistry(k, registry)
			user, password, err := r.Credentials(ctx)
			if err != nil {
				return err
			}
			push := kots.ImagePush{Bundle: o.AppImages.Bundle, Slug: o.AppImages.Slug, Registry: r.Address(), User: user, Password: password}
			if err := k.PushImages(ctx, push, w.Report); err != nil {
				return err
			}
			return pushed.write(ctx, v.Kube, registry.Namespace, o.AppImages.ID)
		})
}

// appStartTimeout is how long the console may take until it has Velero restore an application: it removes what exists of
// it first.
const appStartTimeout = 10 * time.Minute

// restoreApps returns the step that restores the applications with their volumes. The console does it, so that it knows
// which version runs.
func (o snapshotRestore) restoreApps() step.Step {
	return o.inCluster(step.Step{ID: "restore-application", Title: "Restore the application and its volumes", Affects: []string{"namespaces of the application"}},
		func(ctx context.Context, v velero.Operator) (string, error) {
			for _, slug := range o.Apps {
				s, err := v.RestoreState(ctx, kots.AppRestoreName(o.Snapshot, slug))
				if err != nil || !s.Done {
					return slug + ": " + s.Reason(), err
				}
			}
			return "", nil
		},
		func(ctx context.Context, v velero.Operator, w kube.Wait) error {
			if err := o.startApps(ctx, v, w); err != nil {
				return err
			}
			for _, slug := range o.Apps {
				if err := v.WaitRestore(ctx, w, kots.AppRestoreName(o.Snapshot, slug)); err != nil {
					return err
				}
				if !o.WaitApps {
					continue
				}
				if err := o.console(v).WaitApp(ctx, slug, kube.Wait{Timeout: 10 * time.Minute, Report: w.Report}); err != nil {
					return err
				}
			}
			return nil
		})
}

// startApps has the console restore the applications, unless it does so already, and waits until Velero has begun.
// Restores that have failed are removed first: the console would not replace one that exists.
func (o snapshotRestore) startApps(ctx context.Context, v velero.Operator, w kube.Wait) error {
	missing := 0
	for _, slug := range o.Apps {
		name := kots.AppRestoreName(o.Snapshot, slug)
		s, err := v.RestoreState(ctx, name)
		if err == nil && s.Failed != "" {
			err = v.Remove(ctx, w, name)
			s.Exists = false
		}
		if err != nil {
			return err
		}
		if !s.Exists {
			missing++
		}
	}
	if missing == 0 {
		return nil
	}
	if err := o.console(v).StartAppRestore(ctx, o.Snapshot, o.velero.Namespace, w.Report); err != nil {
		return fmt.Errorf("the console does not restore its applications: %w", err)
	}
	w.Timeout = appStartTimeout
	var names []string
	for _, slug := range o.Apps {
		names = append(names, kots.AppRestoreName(o.Snapshot, slug))
	}
	return v.WaitStarted(ctx, w, names...)
}

// allowWrites returns the step that lets Velero write new snapshots, and remove those that have expired.
func (o snapshotRestore) allowWrites() step.Step {
	return o.inCluster(step.Step{ID: "restore-writable", Title: "Let Velero write to the store again", Affects: []string{"BackupStorageLocation " + o.velero.Namespace + "/default"}},
		func(ctx context.Context, v velero.Operator) (string, error) {
			only, err := velero.IsReadOnly(ctx, v.Kube, v.Namespace)
			if err != nil || !only {
				return "", err
			}
			return "Velero may only read", nil
		},
		func(ctx context.Context, v velero.Operator, _ kube.Wait) error {
			return velero.AllowWrites(ctx, v.Kube, v.Namespace)
		})
}
