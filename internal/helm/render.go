package helm

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/releaseutil"
	"k8s.io/client-go/kubernetes/scheme"
)

// renderOptions are what a rendering depends on besides the release.
type renderOptions struct {
	kubeVersion string                // such as "v1.33.8"
	upgrade     bool                  // an earlier revision is deployed
	cluster     engine.ClientProvider // for the function lookup; nil for none, which finds nothing
}

// Manifest is the text of one or more objects that a template of a chart rendered to.
type Manifest struct {
	Template string // its path, beginning with the name of the chart: "toy/templates/a.yaml"
	Text     string // YAML
}

// Rendered is what a chart renders to.
type Rendered struct {
	CRDs    []Manifest // of crds/, which are installed once and never changed
	Hooks   []Manifest // objects that run before or after an operation, without tests
	Objects []Manifest // in the order of installation
}

// All returns all manifests.
func (r Rendered) All() []Manifest { return slices.Concat(r.CRDs, r.Hooks, r.Objects) }

// Render returns the manifests of the release in install order, rendered for a
// Kubernetes version such as "v1.33.8".
func (r Release) Render(kubeVersion string) ([]byte, error) {
	out := &release.Release{Version: 1}
	err := r.renderInto(out, renderOptions{kubeVersion: kubeVersion})
	return []byte(out.Manifest), err
}

// RenderParts returns the manifests of an external chart without a cluster, as an install or an upgrade renders them.
func (r Release) RenderParts(kubeVersion string, upgrade bool) (Rendered, error) {
	ch, hooks, manifests, err := r.renderChart(renderOptions{kubeVersion: kubeVersion, upgrade: upgrade}, 1)
	if err != nil {
		return Rendered{}, err
	}
	var all Rendered
	for _, crd := range ch.CRDObjects() {
		all.CRDs = append(all.CRDs, Manifest{crd.Filename, string(crd.File.Data)})
	}
	for _, h := range hooks {
		if !isTest(h) {
			all.Hooks = append(all.Hooks, Manifest{h.Path, h.Manifest})
		}
	}
	for _, m := range manifests {
		all.Objects = append(all.Objects, Manifest{m.Name, m.Content})
	}
	return all, nil
}

// isTest reports whether a hook runs only for `helm test`.
func isTest(h *release.Hook) bool {
	return !slices.ContainsFunc(h.Events, func(e release.HookEvent) bool {
		return e != release.HookTest && string(e) != "test-success" && string(e) != "test-failure"
	})
}

// renderInto sets the chart, the hooks and the manifests of a revision.
func (r Release) renderInto(into *release.Release, o renderOptions) error {
	ch, hooks, manifests, err := r.renderChart(o, into.Version)
	if err != nil {
		return err
	}
	var out strings.Builder
	for _, m := range manifests {
		fmt.Fprintf(&out, "---\n# Source: %s\n%s\n", m.Name, m.Content)
	}
	into.Chart, into.Manifest, into.Hooks = ch, out.String(), hooks
	return nil
}

// notesSuffix is the end of the path of a template whose text is for users.
const notesSuffix = "NOTES.txt"

// renderChart returns the chart and what it renders to: its hooks and its objects, in the order of installation.
func (r Release) renderChart(o renderOptions, revision int) (ch *chart.Chart, hooks []*release.Hook, manifests []releaseutil.Manifest, err error) {
	defer recoverRender(&err)
	if ch, err = LoadChart(r.Archive); err != nil {
		return nil, nil, nil, err
	}
	if !r.External && (len(ch.Metadata.Dependencies) > 0 || len(ch.CRDObjects()) > 0) {
		return nil, nil, nil, errors.New("the chart has dependencies or CRDs, which are not supported")
	}
	caps, err := r.capabilities(o.kubeVersion)
	if err != nil {
		return nil, nil, nil, err
	}
	if want := ch.Metadata.KubeVersion; want != "" && !chartutil.IsCompatibleRange(want, caps.KubeVersion.String()) {
		return nil, nil, nil, fmt.Errorf("the chart needs Kubernetes %s, and this is %s", want, caps.KubeVersion.Version)
	}
	given := maps.Clone(r.Values)
	if given == nil {
		given = map[string]any{}
	}
	if err := chartutil.ProcessDependenciesWithMerge(ch, given); err != nil {
		return nil, nil, nil, err
	}
	// ValidateValues checks the schema, where the bundle is built.
	values, err := chartutil.ToRenderValuesWithSchemaValidation(ch, given, chartutil.ReleaseOptions{
		Name: r.Name, Namespace: r.Namespace, Revision: revision, IsInstall: !o.upgrade, IsUpgrade: o.upgrade}, caps, true)
	if err != nil {
		return nil, nil, nil, err
	}
	files, err := limited(defaultLimits, func() (map[string]string, error) {
		switch {
		case !r.External:
			return engine.Engine{Strict: true}.Render(ch, values)
		case o.cluster != nil:
			return engine.RenderWithClientProvider(ch, values, o.cluster)
		default:
			return engine.Render(ch, values)
		}
	})
	if err != nil {
		return nil, nil, nil, err
	}
	maps.DeleteFunc(files, func(name, _ string) bool { return strings.HasSuffix(name, notesSuffix) })
	hooks, manifests, err = releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err == nil && len(hooks) > 0 && !r.External {
		err = errors.New("the chart has hooks, which are not supported")
	}
	return ch, hooks, manifests, err
}

// MaxRecord is the size in bytes of the largest release that a Secret holds (Kubernetes: core/v1, MaxSecretSize).
const MaxRecord = 1 << 20

// RecordSize returns the size in bytes of the record of the release, which Helm stores compressed in a Secret.
func (r Release) RecordSize(kubeVersion string) (int, error) {
	rec := &release.Release{Name: r.Name, Namespace: r.Namespace, Version: 1, Config: r.Values, Info: &release.Info{}}
	if err := r.renderInto(rec, renderOptions{kubeVersion: kubeVersion}); err != nil {
		return 0, err
	}
	raw, err := json.Marshal(rec)
	if err != nil {
		return 0, err
	}
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return 0, err
	}
	_, err = zip.Write(raw)
	err = errors.Join(err, zip.Close())
	return base64.StdEncoding.EncodedLen(packed.Len()), err
}

// recoverRender turns a panic of a template function, which a strange chart can cause, into an error.
func recoverRender(err *error) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("the chart makes its renderer fail: %v", cause)
	}
}

// LoadChart returns the chart in an archive.
func LoadChart(archive []byte) (ch *chart.Chart, err error) {
	defer recoverRender(&err)
	ch, err = loader.LoadArchive(bytes.NewReader(archive))
	if err != nil {
		return nil, fmt.Errorf("read the chart: %w", err)
	}
	return ch, ch.Validate()
}

// capabilities returns what templates learn of the cluster. The list of APIs does not depend on the cluster, so that
// a chart renders to the same images when its bundle is built and when it is installed.
func (r Release) capabilities(kubeVersion string) (*chartutil.Capabilities, error) {
	caps := chartutil.DefaultCapabilities.Copy()
	version, err := chartutil.ParseKubeVersion(kubeVersion)
	if err != nil {
		return nil, err
	}
	caps.KubeVersion = *version
	if r.External {
		caps.APIVersions = append(slices.Clone(ServedAPIs(kubeVersion)), r.APIVersions...)
	}
	return caps, nil
}

// stableVersion matches the versions of APIs that Kubernetes serves by default: since 1.24 no new beta is one
// (Kubernetes enhancement 3136), and the older ones are removed.
var stableVersion = regexp.MustCompile(`^v[0-9]+$`)

// laterAPIs are kinds of stable APIs that newer minors have and the client of this build does not.
var laterAPIs = []struct {
	minor uint64
	kinds []string
}{
	{0, []string{"apiregistration.k8s.io/v1/APIService", "metrics.k8s.io/v1beta1/NodeMetrics", "metrics.k8s.io/v1beta1/PodMetrics"}}, // not in the client: of an aggregator
	{34, []string{"resource.k8s.io/v1/DeviceClass", "resource.k8s.io/v1/ResourceClaim", "resource.k8s.io/v1/ResourceClaimTemplate",
		"resource.k8s.io/v1/ResourceSlice", "storage.k8s.io/v1/VolumeAttributesClass"}},
}

// ServedAPIs returns the APIs that Kubernetes serves by default, sorted, as "GROUP/VERSION" and
// "GROUP/VERSION/KIND", for a version such as "v1.33.8".
func ServedAPIs(kubeVersion string) []string {
	all := map[string]bool{}
	add := func(groupVersion, kind string) { all[groupVersion], all[groupVersion+"/"+kind] = true, true }
	for gvk := range scheme.Scheme.AllKnownTypes() {
		if stableVersion.MatchString(gvk.Version) && gvk.Group != "__internal" {
			add(gvk.GroupVersion().String(), gvk.Kind)
		}
	}
	minor := uint64(0)
	if v, err := chartutil.ParseKubeVersion(kubeVersion); err == nil {
		_, _ = fmt.Sscan(v.Minor, &minor)
	}
	for _, later := range laterAPIs {
		for _, kind := range later.kinds {
			if minor >= later.minor {
				add(path.Dir(kind), path.Base(kind))
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}
