// Package helm installs and upgrades Helm releases: it renders a chart, applies
// its objects to the cluster, waits until they are ready and records the
// release in the format of Helm, so that Helm's own tools see it.
package helm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	helmtime "helm.sh/helm/v3/pkg/time"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
)

// digestLabel is the label that carries Release.Digest on the secret that
// records the release.
const digestLabel = "plinth.dev/digest"

// maxRevisions is the number of revisions that are kept of each release.
const maxRevisions = 5

// Release is a release to install: a chart with values, under a name.
type Release struct {
	Name      string         // name of the release
	Namespace string         // namespace of the release, and of objects without one
	Archive   []byte         // the chart as .tgz
	Values    map[string]any // override the values of the chart

	// External is true for a chart of another author. It can have hooks, CRDs and dependencies, and is rendered as
	// Helm does: a value that is not set is empty.
	External    bool
	APIVersions []string // that charts installed before define, as "GROUP/VERSION" and "GROUP/VERSION/KIND"
	Kubernetes  int      // minor of the cluster: a chart can use other images on another one
}

// Installed is the newest revision of a release in the cluster.
type Installed struct {
	Revision     int    // Helm's revision number, starting at 1
	ChartVersion string // version of the chart
	Digest       string // Release.Digest; empty if it was installed with Helm's own tools
	Status       string // Helm's status: deployed, pending-install, failed, …
}

// Digest returns 32 hexadecimal digits that identify name, namespace, chart,
// values and what templates learn of other charts: two releases with the same digest are equal.
func (r Release) Digest() (string, error) {
	values, err := json.Marshal(r.Values) // keys are sorted
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	parts := [][]byte{[]byte(r.Name), []byte(r.Namespace), r.Archive, values}
	if r.External {
		parts = append(parts, []byte(strings.Join(r.APIVersions, " ")), fmt.Append(nil, r.Kubernetes))
	}
	for _, part := range parts {
		fmt.Fprintf(sum, "%d:", len(part))
		sum.Write(part)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}

// GetInstalled returns the newest revision of a release, or kube.ErrNotFound if
// there is none.
func GetInstalled(ctx context.Context, c *kube.Client, namespace, name string) (Installed, error) {
	history, err := newReleaseStore(c, namespace).listRevisions(name)
	if err != nil {
		return Installed{}, err
	}
	if len(history) == 0 {
		return Installed{}, kube.ErrNotFound
	}
	last := history[len(history)-1]
	in := Installed{Revision: last.Version, Status: last.Info.Status.String(), Digest: last.Labels[digestLabel]}
	if last.Chart != nil && last.Chart.Metadata != nil {
		in.ChartVersion = last.Chart.Metadata.Version
	}
	return in, ctx.Err()
}

// NotReadyReason returns why a release is not ready: it is not installed, its last run is not finished, or a workload
// of its newest revision is not ready. It returns "" if it is ready.
func NotReadyReason(ctx context.Context, c *kube.Client, namespace, name string) (string, error) {
	history, err := newReleaseStore(c, namespace).listRevisions(name)
	if err != nil {
		return "", err
	}
	if len(history) == 0 {
		return "it is not installed", nil
	}
	last := history[len(history)-1]
	objects, err := kube.Decode([]byte(last.Manifest))
	if err != nil {
		return "", err
	}
	for _, ref := range workloadsOf(objects, namespace) {
		if reason, err := c.WorkloadReason(ctx, ref); err != nil || reason != "" {
			return ref.String() + ": " + reason, err
		}
	}
	if last.Info.Status != release.StatusDeployed {
		return "its release is " + last.Info.Status.String(), ctx.Err()
	}
	return "", ctx.Err()
}

// MissingObjects returns the objects of the newest revision of the release r that the cluster does not
// have, such as a NetworkPolicy that was deleted.
func MissingObjects(ctx context.Context, c *kube.Client, r Release) ([]kube.Object, error) {
	history, err := newReleaseStore(c, r.Namespace).listRevisions(r.Name)
	if err != nil || len(history) == 0 {
		return nil, err
	}
	objects, err := lastingObjects(history[len(history)-1].Manifest)
	if err != nil {
		return nil, err
	}
	missing, err := missingObjects(ctx, c, r.Namespace, objects)
	refs := make([]kube.Object, 0, len(missing))
	for _, obj := range missing {
		refs = append(refs, kube.RefOf(obj, r.Namespace))
	}
	return refs, err
}

// lastingObjects returns the objects of a manifest without Jobs, which the cluster can delete when they are done.
func lastingObjects(manifest string) ([]*unstructured.Unstructured, error) {
	objects, err := kube.Decode([]byte(manifest))
	return slices.DeleteFunc(objects, func(obj *unstructured.Unstructured) bool { return obj.GetKind() == "Job" }), err
}

// missingObjects returns those of objects that the cluster does not have.
func missingObjects(ctx context.Context, c *kube.Client, namespace string, objects []*unstructured.Unstructured) (missing []*unstructured.Unstructured, err error) {
	for _, obj := range objects {
		there, err := c.Exists(ctx, kube.RefOf(obj, namespace))
		if err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, obj)
		}
	}
	return missing, nil
}

// InstallOrUpgrade installs the release r, or upgrades it, and waits until its
// workloads are ready. If the cluster already has the same release, it only
// creates missing objects and waits. A release that an earlier run left unfinished is applied again;
// objects of older revisions that r does not have are removed. If the workloads
// do not become ready, the error is a Problem with exit code 7 that names the
// cause.
func InstallOrUpgrade(ctx context.Context, c *kube.Client, r Release, w kube.Wait) error {
	err := installOrUpgrade(ctx, c, r, w)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitStep, "install release "+r.Name+" in namespace "+r.Namespace, err,
		"inspect its pods: plinth kubectl get pods -n "+r.Namespace+"; then run the same command again")
}

// Uninstall removes a release: the objects of all its revisions, with the hooks of the newest, then its records.
// Its PersistentVolumeClaims, CustomResourceDefinitions and Namespaces, and so its data, are kept, and so is what the chart
// keeps. A release that does not exist is not an error.
func Uninstall(ctx context.Context, c *kube.Client, namespace, name string, w kube.Wait) error {
	rec := newReleaseStore(c, namespace)
	history, err := rec.listRevisions(name)
	if err == nil && len(history) > 0 {
		err = removeObjects(ctx, c, history, w)
	}
	for _, revision := range history {
		if err != nil {
			break
		}
		if _, gone := rec.Delete(name, revision.Version); !errors.Is(gone, driver.ErrReleaseNotFound) {
			err = gone
		}
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitStep, "remove release "+name+" in namespace "+namespace, err, "run the same command again")
}

// removeObjects removes the objects of all revisions of a release, between the hooks of the newest.
func removeObjects(ctx context.Context, c *kube.Client, history []*release.Release, w kube.Wait) error {
	last := history[len(history)-1]
	claims, err := claimsOf(history, last.Namespace)
	if err != nil {
		return err
	}
	hooks := hookRun{c, last, w}
	if err := hooks.run(ctx, release.HookPreDelete); err != nil {
		return err
	}
	if err := pruneObjects(ctx, c, last.Namespace, history, claims); err != nil {
		return err
	}
	return hooks.run(ctx, release.HookPostDelete)
}

// claimsOf returns the PersistentVolumeClaims in the revisions of a release.
func claimsOf(history []*release.Release, namespace string) (claims []kube.Object, err error) {
	for _, revision := range history {
		objects, err := kube.Decode([]byte(revision.Manifest))
		if err != nil {
			return nil, fmt.Errorf("revision %d: %w", revision.Version, err)
		}
		for _, obj := range objects {
			if ref := kube.RefOf(obj, namespace); ref.Kind == "PersistentVolumeClaim" {
				claims = append(claims, ref)
			}
		}
	}
	return claims, nil
}

// installOrUpgrade uses only the loader, the renderer and the release storage
// of the Helm SDK. The install and upgrade actions of the SDK import kubectl,
// kustomize and SQL drivers (16 MB of binary, and 28 MB more resident memory
// before main starts, for every command), and do not continue after a killed
// run. Server-side apply can be repeated instead.
func installOrUpgrade(ctx context.Context, c *kube.Client, r Release, w kube.Wait) error {
	digest, err := r.Digest()
	if err != nil {
		return err
	}
	rec := newReleaseStore(c, r.Namespace)
	history, err := rec.listRevisions(r.Name)
	if err != nil {
		return err
	}
	if isDeployed(history, digest) {
		return restoreObjects(ctx, c, history[len(history)-1], w)
	}
	next, err := r.newRevision(c, history)
	if err != nil {
		return err
	}
	if err := c.EnsureNamespace(ctx, r.Namespace); err != nil {
		return err
	}
	next.Labels = map[string]string{digestLabel: digest}
	if err := rec.Create(next); err != nil {
		return fmt.Errorf("record the release: %w", err)
	}
	if err := applyRevision(ctx, c, next, history, w); err != nil {
		return err
	}
	return rec.markDeployed(next, history)
}

// restoreObjects creates the objects of a deployed revision that the cluster does not have, and waits until its
// workloads are ready.
func restoreObjects(ctx context.Context, c *kube.Client, deployed *release.Release, w kube.Wait) error {
	objects, err := lastingObjects(deployed.Manifest)
	if err != nil {
		return err
	}
	missing, err := missingObjects(ctx, c, deployed.Namespace, objects)
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, deployed.Namespace, missing...); err != nil {
		return err
	}
	return c.WaitWorkloads(ctx, w, workloadsOf(objects, deployed.Namespace)...)
}

// applyRevision changes the cluster to the revision next, in the order of Helm: CRDs, hooks before, objects, hooks
// after. Objects of the earlier revisions in history that next does not have are removed.
func applyRevision(ctx context.Context, c *kube.Client, next *release.Release, history []*release.Release, w kube.Wait) error {
	objects, err := kube.Decode([]byte(next.Manifest))
	if err != nil {
		return err
	}
	before, after := release.HookPreInstall, release.HookPostInstall
	if wasDeployed(history) {
		before, after = release.HookPreUpgrade, release.HookPostUpgrade
	}
	if err := applyCRDs(ctx, c, next.Chart, w); err != nil {
		return err
	}
	hooks := hookRun{c, next, w}
	if err := hooks.run(ctx, before); err != nil {
		return err
	}
	if err := applyObjects(ctx, c, next.Namespace, objects, w); err != nil {
		return err
	}
	refs := refsOf(objects, next.Namespace)
	if err := pruneObjects(ctx, c, next.Namespace, history, refs); err != nil {
		return err
	}
	if err := c.WaitWorkloads(ctx, w, workloadsOf(objects, next.Namespace)...); err != nil {
		return err
	}
	return hooks.run(ctx, after)
}

// applyObjects applies objects in order. It waits for CustomResourceDefinitions among them, because the objects
// that follow can be of their kinds.
func applyObjects(ctx context.Context, c *kube.Client, namespace string, objects []*unstructured.Unstructured, w kube.Wait) error {
	for i, obj := range objects {
		if err := c.ApplyWhenServed(ctx, w, namespace, obj); err != nil {
			return err
		}
		if obj.GetKind() != crdKind || i+1 < len(objects) && objects[i+1].GetKind() == crdKind {
			continue
		}
		for _, crd := range objects[:i+1] { // all of them: kinds are sorted
			if crd.GetKind() == crdKind {
				if err := c.WaitEstablished(ctx, w, kube.RefOf(crd, "")); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// refsOf returns the references of objects; those without a namespace have namespace.
func refsOf(objects []*unstructured.Unstructured, namespace string) (refs []kube.Object) {
	for _, obj := range objects {
		refs = append(refs, kube.RefOf(obj, namespace))
	}
	return refs
}

// workloadsOf returns the references of those objects that become ready: the others exist once they are applied.
func workloadsOf(objects []*unstructured.Unstructured, namespace string) (refs []kube.Object) {
	for _, ref := range refsOf(objects, namespace) {
		if slices.Contains([]string{"Deployment", "StatefulSet", "DaemonSet"}, ref.Kind) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// wasDeployed reports whether a revision of a release was ever deployed: else the release is installed, also by a
// run that resumes a killed one.
func wasDeployed(history []*release.Release) bool {
	return slices.ContainsFunc(history, func(r *release.Release) bool {
		return r.Info.Status == release.StatusDeployed || r.Info.Status == release.StatusSuperseded
	})
}

// isDeployed reports whether the newest revision is deployed and has this
// digest.
func isDeployed(history []*release.Release, digest string) bool {
	if len(history) == 0 {
		return false
	}
	last := history[len(history)-1]
	return last.Info.Status == release.StatusDeployed && last.Labels[digestLabel] == digest
}

// pruneObjects deletes the objects of earlier revisions that are not in keep, in the reverse order of installation.
// It leaves CustomResourceDefinitions and Namespaces, whose deletion would delete all their objects, and what the chart keeps.
func pruneObjects(ctx context.Context, c *kube.Client, namespace string, history []*release.Release, keep []kube.Object) error {
	for _, old := range history {
		objects, err := kube.Decode([]byte(old.Manifest))
		if err != nil {
			return fmt.Errorf("revision %d: %w", old.Version, err)
		}
		for _, obj := range slices.Backward(objects) {
			ref := kube.RefOf(obj, namespace)
			if slices.Contains(keep, ref) || isKept(obj) {
				continue
			}
			if err := c.Delete(ctx, ref); err != nil {
				return fmt.Errorf("remove %s: %w", ref, err)
			}
		}
	}
	return nil
}

// isKept reports whether an object stays when its release is upgraded or removed.
func isKept(obj *unstructured.Unstructured) bool {
	return obj.GetKind() == crdKind || obj.GetKind() == "Namespace" || obj.GetAnnotations()["helm.sh/resource-policy"] == "keep"
}

// newRevision returns the rendered release as the revision that follows
// history.
func (r Release) newRevision(c *kube.Client, history []*release.Release) (*release.Release, error) {
	version, err := c.Version()
	if err != nil {
		return nil, err
	}
	next := &release.Release{
		Name: r.Name, Namespace: r.Namespace, Version: 1, Config: r.Values,
		Info: &release.Info{Status: release.StatusPendingInstall, FirstDeployed: helmtime.Now(), LastDeployed: helmtime.Now()},
	}
	if n := len(history); n > 0 {
		next.Version = history[n-1].Version + 1
		next.Info.FirstDeployed = history[0].Info.FirstDeployed
	}
	if wasDeployed(history) {
		next.Info.Status = release.StatusPendingUpgrade
	}
	return next, r.renderInto(next, renderOptions{kubeVersion: version, upgrade: wasDeployed(history), cluster: c})
}

// releaseStore stores the releases of one namespace in secrets, in the format
// of Helm.
type releaseStore struct{ *storage.Storage }

func newReleaseStore(c *kube.Client, namespace string) releaseStore {
	s := storage.Init(driver.NewSecrets(c.Core().Secrets(namespace)))
	s.MaxHistory = maxRevisions
	return releaseStore{s}
}

// listRevisions returns the revisions of a release, oldest first. No revision
// is not an error.
func (s releaseStore) listRevisions(name string) ([]*release.Release, error) {
	all, err := s.History(name)
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, fmt.Errorf("read the records of release %s: %w", name, err)
	}
	releaseutil.SortByRevision(all)
	return all, nil
}

// markDeployed records that next is deployed and that all earlier revisions are
// superseded, including those that a killed run left pending.
func (s releaseStore) markDeployed(next *release.Release, history []*release.Release) error {
	next.SetStatus(release.StatusDeployed, "Install complete")
	if err := s.Update(next); err != nil {
		return fmt.Errorf("record the release: %w", err)
	}
	for _, old := range history {
		if old.Info.Status == release.StatusSuperseded {
			continue
		}
		old.Info.Status = release.StatusSuperseded
		if err := s.Update(old); err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
			return fmt.Errorf("record revision %d: %w", old.Version, err)
		}
	}
	return nil
}
