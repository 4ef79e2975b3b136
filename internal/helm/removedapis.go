package helm

import (
	"context"
	"errors"
	"fmt"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/upgrade"
)

// FindAPIUses returns the objects of removed APIs in the manifests of all Helm releases that are deployed, by any
// program. At its next upgrade of such a release, Helm would fail to read the old manifest.
func FindAPIUses(ctx context.Context, c *kube.Client, removed []upgrade.RemovedAPI) (uses []upgrade.APIUse, err error) {
	if len(removed) == 0 {
		return nil, nil
	}
	releases, err := newReleaseStore(c, "").ListDeployed()
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, fmt.Errorf("read the records of all releases: %w", err)
	}
	for _, r := range releases {
		uses = append(uses, usesIn(r, removed)...)
	}
	return uses, ctx.Err()
}

// usesIn returns the objects of removed APIs in the manifest of a release. A manifest that is not YAML is skipped: it
// was not Helm that wrote it.
func usesIn(r *release.Release, removed []upgrade.RemovedAPI) (uses []upgrade.APIUse) {
	objects, err := kube.Decode([]byte(r.Manifest))
	if err != nil {
		return nil
	}
	for _, obj := range objects {
		if _, ok := upgrade.FindRemoved(removed, obj.GetAPIVersion(), obj.GetKind()); ok {
			uses = append(uses, upgrade.APIUse{APIVersion: obj.GetAPIVersion(), Kind: obj.GetKind(), Namespace: obj.GetNamespace(), Name: obj.GetName(),
				Release: r.Namespace + "/" + r.Name})
		}
	}
	return uses
}
