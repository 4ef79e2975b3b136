// Package chart owns Helm releases: it renders a chart, puts it into the
// cluster, waits until it is up and records it as Helm does, so that helm's own
// tools see the release. It refuses hooks, dependencies and look-ups, because a
// release must depend on its chart and values alone.
//
// Of the Helm SDK it uses the loader, the renderer and the release storage. The
// SDK's own install and upgrade actions bring kubectl, kustomize and SQL drivers
// with them (16 MB of binary, and 28 MB more resident memory before main has
// begun, for every command), and refuse to go on after a killed run; objects go
// into the cluster by server-side apply instead, which may be repeated.
package chart

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	helmtime "helm.sh/helm/v3/pkg/time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/problem"
)

// digestLabel carries Release.Digest on the secret that records the release.
const digestLabel = "plinth.dev/digest"

// keepRevisions is how many revisions of a release are recorded.
const keepRevisions = 5

// Release is what is wanted: a chart with values under a name.
type Release struct {
	Name      string         // of the release
	Namespace string         // of the release and of what the chart leaves open
	Archive   []byte         // the chart as .tgz
	Values    map[string]any // over the chart's own
}

// Installed is what the cluster has of a release.
type Installed struct {
	Revision     int    // Helm's number, from 1
	ChartVersion string // of its chart
	Digest       string // Release.Digest of what was installed; empty if Helm's own tools did it
	Status       string // Helm's word: deployed, pending-install, failed, …
}

// Digest names chart, values and place in 32 hexadecimal digits: two releases
// with the same digest are the same.
func (r Release) Digest() (string, error) {
	values, err := json.Marshal(r.Values) // keys are sorted
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, part := range [][]byte{[]byte(r.Name), []byte(r.Namespace), r.Archive, values} {
		fmt.Fprintf(sum, "%d:", len(part))
		sum.Write(part)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16]), nil
}

// Look reports the newest revision of a release; kube.ErrNotFound if there is none.
func Look(ctx context.Context, c *kube.Client, namespace, name string) (Installed, error) {
	history, err := records(c, namespace).history(name)
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

// Converge makes the cluster have the release, and waits until its workloads
// are up. A release that is there and the same is only waited for. One that an
// earlier run left half-way is done again; what older revisions had and this
// one has not is removed. It is a Problem with exit code 7 that names the
// culprit when the workloads do not come up.
func Converge(ctx context.Context, c *kube.Client, r Release, w kube.Wait) error {
	err := converge(ctx, c, r, w)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return problem.New(problem.ExitStep, "install release "+r.Name+" in namespace "+r.Namespace, err,
		"see what its pods say: plinth kubectl get pods -n "+r.Namespace+"; then run the same command again")
}

func converge(ctx context.Context, c *kube.Client, r Release, w kube.Wait) error {
	digest, err := r.Digest()
	if err != nil {
		return err
	}
	rec := records(c, r.Namespace)
	history, err := rec.history(r.Name)
	if err != nil {
		return err
	}
	next, err := r.build(c, history)
	if err != nil {
		return err
	}
	wanted, err := kube.Decode([]byte(next.Manifest))
	if err != nil {
		return err
	}
	var refs []kube.Object
	for _, obj := range wanted {
		refs = append(refs, kube.Ref(obj, r.Namespace))
	}
	if same(history, digest) {
		return c.WaitWorkloads(ctx, w, refs...)
	}
	if err := c.EnsureNamespace(ctx, r.Namespace); err != nil {
		return err
	}
	next.Labels = map[string]string{digestLabel: digest}
	if err := rec.Create(next); err != nil {
		return fmt.Errorf("record the release: %w", err)
	}
	if err := c.Apply(ctx, r.Namespace, wanted...); err != nil {
		return err
	}
	if err := prune(ctx, c, r.Namespace, history, refs); err != nil {
		return err
	}
	if err := c.WaitWorkloads(ctx, w, refs...); err != nil {
		return err
	}
	return rec.finish(next, history)
}

// same reports whether the newest revision is up and has this digest.
func same(history []*release.Release, digest string) bool {
	if len(history) == 0 {
		return false
	}
	last := history[len(history)-1]
	return last.Info.Status == release.StatusDeployed && last.Labels[digestLabel] == digest
}

// prune removes what earlier revisions had and the new one has not.
func prune(ctx context.Context, c *kube.Client, namespace string, history []*release.Release, keep []kube.Object) error {
	for _, old := range history {
		objects, err := kube.Decode([]byte(old.Manifest))
		if err != nil {
			return fmt.Errorf("revision %d: %w", old.Version, err)
		}
		for _, obj := range objects {
			ref := kube.Ref(obj, namespace)
			if slices.Contains(keep, ref) {
				continue
			}
			if err := c.Delete(ctx, ref); err != nil {
				return fmt.Errorf("remove %s: %w", ref, err)
			}
		}
	}
	return nil
}

// build renders the release as the revision that follows history.
func (r Release) build(c *kube.Client, history []*release.Release) (*release.Release, error) {
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
		next.Info.Status = release.StatusPendingUpgrade
		next.Info.FirstDeployed = history[0].Info.FirstDeployed
	}
	return next, r.render(next, version)
}

// Render returns the release's manifests, sorted in the order of installation,
// as a Kubernetes of the given version ("v1.33.8") would get them.
func (r Release) Render(kubeVersion string) ([]byte, error) {
	out := &release.Release{Version: 1}
	err := r.render(out, kubeVersion)
	return []byte(out.Manifest), err
}

func (r Release) render(into *release.Release, kubeVersion string) error {
	ch, err := loader.LoadArchive(bytes.NewReader(r.Archive))
	if err != nil {
		return fmt.Errorf("read the chart: %w", err)
	}
	if len(ch.Metadata.Dependencies) > 0 || len(ch.CRDObjects()) > 0 {
		return errors.New("the chart has dependencies or CRDs, which are not supported")
	}
	caps := chartutil.DefaultCapabilities.Copy()
	version, err := chartutil.ParseKubeVersion(kubeVersion)
	if err != nil {
		return err
	}
	caps.KubeVersion = *version
	values, err := chartutil.ToRenderValues(ch, r.Values, chartutil.ReleaseOptions{
		Name: r.Name, Namespace: r.Namespace, Revision: into.Version,
		IsInstall: into.Version == 1, IsUpgrade: into.Version > 1,
	}, caps)
	if err != nil {
		return err
	}
	files, err := engine.Engine{Strict: true}.Render(ch, values)
	if err != nil {
		return err
	}
	hooks, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return err
	}
	if len(hooks) > 0 {
		return errors.New("the chart has hooks, which are not supported")
	}
	var out strings.Builder
	for _, m := range manifests {
		fmt.Fprintf(&out, "---\n# Source: %s\n%s\n", m.Name, m.Content)
	}
	into.Chart, into.Manifest = ch, out.String()
	return nil
}

// store records releases of one namespace in secrets, in Helm's own form.
type store struct{ *storage.Storage }

func records(c *kube.Client, namespace string) store {
	s := storage.Init(driver.NewSecrets(c.Core().Secrets(namespace)))
	s.MaxHistory = keepRevisions
	return store{s}
}

// history lists a release's revisions, oldest first; none is no error.
func (s store) history(name string) ([]*release.Release, error) {
	all, err := s.History(name)
	if err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, fmt.Errorf("read the records of release %s: %w", name, err)
	}
	releaseutil.SortByRevision(all)
	return all, nil
}

// finish records that next is up and that every earlier revision, those that a
// killed run left pending included, is not the current one any more.
func (s store) finish(next *release.Release, history []*release.Release) error {
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
