package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/velero"
)

// veleroName is the name of the add-on whose object store needs a certificate, credentials and a volume.
const veleroName = "velero"

// snapshotStore returns the object store of the add-on a without a client of the cluster; nil if a has none.
func snapshotStore(a addons.AddOn) *velero.Store {
	values, _ := a.Values["objectStore"].(map[string]any)
	if enabled, _ := values["enabled"].(bool); !enabled {
		return nil
	}
	ip, _ := values["clusterIP"].(string)
	folder, _ := values["folder"].(string)
	return &velero.Store{Namespace: a.Namespace, IP: ip, Domain: a.ClusterDomain, Folder: folder}
}

// storeStep returns s with a Check and an Apply that call check and apply with the object store of the add-on a.
func (c Cluster) storeStep(a addons.AddOn, s step.Step, check func(context.Context, velero.Store) (string, error),
	apply func(context.Context, velero.Store, step.Report) error) step.Step {
	store := func(ctx context.Context) (velero.Store, error) {
		client, err := c.kubeClient(ctx)
		at := *snapshotStore(a)
		at.Kube, at.Node = client, c.NodeName
		if c.Restored != nil {
			at.Folder, at.ReadOnly = cmp.Or(c.Restored.Folder, at.Folder), c.Restored.ReadOnly
		}
		return at, err
	}
	s.Check = func(ctx context.Context) (step.State, error) {
		at, err := store(ctx)
		if err != nil {
			return step.Unknown("k0s-start"), nil
		}
		why, err := check(ctx, at)
		if err != nil {
			return step.Needed(err.Error()), ctx.Err()
		}
		return stepState(why, nil)
	}
	s.Apply = func(ctx context.Context, report step.Report) error {
		at, err := store(ctx)
		if err != nil {
			return err
		}
		return apply(ctx, at, report)
	}
	return s
}

// prepareStore returns the step that creates what the object store needs before it starts. Its folder on this host
// belongs to the user: a reset leaves it, so that it is not among the paths that the step changes.
func (c Cluster) prepareStore(a addons.AddOn) step.Step {
	affects := []string{"namespace " + a.Namespace}
	folder := snapshotStore(a).Folder
	if c.Restored != nil {
		folder = cmp.Or(c.Restored.Folder, folder)
	}
	if folder != "" {
		affects = append(affects, "folder "+folder+", which a reset leaves")
	}
	return c.storeStep(a, step.Step{ID: "object-store", Title: "Prepare the object store for snapshots", Affects: affects},
		func(ctx context.Context, s velero.Store) (string, error) { return s.PrepareNeeded(ctx, c.Now()) },
		func(ctx context.Context, s velero.Store, _ step.Report) error {
			there, err := s.HasClaim(ctx)
			if err == nil && !there && s.Folder != "" {
				err = c.ensureFolder(s.Folder)
			}
			if err != nil {
				return err
			}
			return s.Prepare(ctx, c.Now())
		})
}

// ensureFolder creates a folder of this host with mode 0700. The mode of an existing one, such as a mount, stays, but it is
// refused if other users could replace what is in it. They cannot read what an earlier store has left there: the pod of the
// store protects what it creates, but not what belongs to another user since it was copied.
func (c Cluster) ensureFolder(folder string) error {
	info, err := c.Host.Lstat(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c.Host.MkdirAll(folder, 0o700)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder: remove it, or set another spec.velero.objectStore.folder", folder)
	case info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("all users can write to %s (mode %04o), and snapshots contain secrets: run sudo chmod o-w %s, or mount it so that only root can write to it",
			folder, info.Mode().Perm(), problem.QuoteWord(folder))
	}
	for _, name := range []string{"objects", "metadata"} {
		if err := c.hideFromOthers(path.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}

// hideFromOthers takes the rights of other users from a folder, if it exists.
func (c Cluster) hideFromOthers(folder string) error {
	info, err := c.Host.Lstat(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o007 == 0 {
		return err
	}
	return c.Host.MkdirAll(folder, info.Mode()&(fs.ModePerm|fs.ModeSetgid)&^0o007)
}

// snapshotLocationID is the id of the step that sets the location of snapshots.
const snapshotLocationID = "snapshot-location"

// configureLocation returns the step that configures Velero and the console to keep snapshots in the object store.
func (c Cluster) configureLocation(a addons.AddOn) step.Step {
	return c.storeStep(a, step.Step{ID: snapshotLocationID, Title: "Configure Velero to use the object store",
		Affects: []string{"BackupStorageLocation " + a.Namespace + "/default", "secret " + a.Namespace + "/cloud-credentials"}},
		func(ctx context.Context, s velero.Store) (string, error) { return s.LocationNeeded(ctx) },
		func(ctx context.Context, s velero.Store, report step.Report) error {
			return s.EnsureLocation(ctx, kube.Wait{Timeout: 3 * time.Minute, Report: report, Diagnose: c.K0s.Diagnose})
		})
}
