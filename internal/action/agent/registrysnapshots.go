package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/velero"
)

// registrySnapshotInterval is how often a controller looks for new snapshots of the console, and the time limit of a look.
const registrySnapshotInterval = 30 * time.Second

// registrySnapshots takes snapshots of the registry, which KOTS leaves out of its own ones: without its images, an
// application that is restored in a new cluster does not start.
type registrySnapshots struct{ *action.Env }

// watch takes what is missing at each tick.
func (r registrySnapshots) watch(ctx context.Context, tick <-chan time.Time) {
	last := "" // error of the last look, which is noted once
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick:
			err := r.take(ctx)
			if err != nil && ctx.Err() == nil && err.Error() != last {
				r.Note("cannot take snapshots of the registry: " + err.Error())
			}
			if last = ""; err != nil {
				last = err.Error()
			}
		}
	}
}

// take takes the snapshots that are missing. A cluster without Velero or a registry has none.
func (r registrySnapshots) take(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, registrySnapshotInterval)
	defer cancel()
	in := desired.ReadInstalledInstaller(ctx, r.Host, r.DataDir)
	if in == nil || in.Spec.Velero == nil || in.Spec.Registry == nil || in.Spec.Kotsadm == nil {
		return nil
	}
	parts, err := addons.Resolve(in, r.DataDir)
	if err != nil {
		return err
	}
	namespace := func(name string) string {
		return parts[slices.IndexFunc(parts, func(a addons.AddOn) bool { return a.Name == name })].Namespace
	}
	client, err := r.KubeClient()
	if err != nil {
		return nil // k0s starts, or is stopped
	}
	begun, err := velero.Operator{Kube: client, Namespace: namespace("velero")}.EnsureRegistrySnapshots(ctx, namespace("registry"), r.Now())
	if len(begun) > 0 {
		r.Note("taking snapshots of the registry: " + strings.Join(begun, ", "))
	}
	return err
}
