// Package charts reads the Helm charts that an Installer adds, checks what they render to, and finds the images
// that they need.
package charts

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/spec"
)

// ErrNotStored means that a chart is not on this machine.
var ErrNotStored = errors.New("the chart is not on this machine")

// Source is where the content of charts comes from.
type Source struct {
	Dir    string                           // folder of the Installer
	Remote func(spec.Chart) ([]byte, error) // returns the archive of a chart that is not beside the Installer; an error with ErrNotStored if it is not on this machine
}

// Chart is a chart of an Installer with its content.
type Chart struct {
	spec.Chart        // with all its values in Values
	Archive    []byte // .tgz
	Images     []Image
}

// Image is an image that a chart needs.
type Image struct {
	Ref      string // full reference, with registry and tag or digest
	Template string // that names it; "additionalImages" for one of the Installer
}

// Inspect reads and renders the charts of an Installer without errors, and checks what they render to. It returns
// those that could be rendered, in the order of installation, and what is wrong with all.
func Inspect(in *spec.Installer, src Source) (charts []Chart, violations []spec.Violation) {
	x := inspection{in: in, src: src, kubernetes: KubernetesVersion(in.Spec.K0s.Version), owners: map[string]objectOwner{}, portUsers: map[string][]portUser{}, ownAPIs: map[string][]string{}, counts: map[[2]string]int{}}
	if len(in.Spec.Charts) > 0 {
		x.addSystemObjects()
		x.addOwn()
	}
	for _, c := range in.Spec.SortedCharts() {
		if x.spent { // templates that do not end still take time and memory: no other chart is rendered beside them
			break
		}
		i := slices.IndexFunc(in.Spec.Charts, func(other spec.Chart) bool { return other.Name == c.Name })
		x.path = fmt.Sprintf("spec.charts[%d]", i)
		if done, ok := x.inspect(c); ok {
			charts = append(charts, done)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(x.counts), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		if more := x.counts[key] - maxOfRule; more > 0 {
			x.violations = append(x.violations, spec.Violation{Rule: key[1], Path: key[0], Message: fmt.Sprintf("%d more like these", more)})
		}
	}
	return charts, x.violations
}

// Inlined returns the Installer with the values of all files in it, and reports whether there are such files. charts
// are those that Inspect returned for it.
func Inlined(in *spec.Installer, charts []Chart) (*spec.Installer, bool) {
	out, changed := *in, false
	out.Spec.Charts = slices.Clone(in.Spec.Charts)
	for i, c := range out.Spec.Charts {
		j := slices.IndexFunc(charts, func(done Chart) bool { return done.Name == c.Name })
		if c.ValuesFile != "" && j >= 0 {
			out.Spec.Charts[i].Values, out.Spec.Charts[i].ValuesFile, changed = charts[j].Values, "", true
		}
	}
	return &out, changed
}

// KubernetesVersion returns the version that the API server of a k0s release reports: v1.33.8+k0s for v1.33.8+k0s.1.
func KubernetesVersion(k0s string) string {
	version, _, _ := strings.Cut(k0s, "+k0s.")
	return version + "+k0s"
}

// DefinedAPIs returns the APIs that the CRDs of a chart define. APIVersions of a must be set.
func DefinedAPIs(a addons.AddOn, k0sVersion string) ([]string, error) {
	rendered, err := newRelease(a).RenderParts(KubernetesVersion(k0sVersion), false)
	if err != nil {
		return nil, err
	}
	objects, err := decodeAll(rendered.All())
	return definedAPIs(objects), err
}

// newRelease returns the Helm release of a chart.
func newRelease(a addons.AddOn) helm.Release {
	return helm.Release{Name: a.Release, Namespace: a.Namespace, Archive: a.Chart.Archive, Values: a.Values, External: true, APIVersions: a.APIVersions}
}

// inspection inspects the charts of an Installer, one after the other.
type inspection struct {
	in         *spec.Installer
	src        Source
	kubernetes string
	path       string                 // of the chart that is inspected, such as spec.charts[0]
	apis       []string               // that the charts so far define
	owners     map[string]objectOwner // of objects, by their key
	portUsers  map[string][]portUser  // users of ports of the hosts by port and protocol
	ownAPIs    map[string][]string    // that the add-ons of Plinth before a chart define, by its name
	metricsAPI bool                   // a chart so far serves the metrics that autoscalers read
	spent      bool                   // a chart takes more to render than a chart may
	violations []spec.Violation
	counts     map[[2]string]int // violations by path and rule
}

// maxOfRule is how many violations of a rule are reported at one place: a chart can have hundreds of objects.
const maxOfRule = 20

// report adds a violation of a rule at a field of the chart; "" for the whole chart.
func (x *inspection) report(rule, field, message, hint string) {
	path := x.path
	if field != "" {
		path += "." + field
	}
	key := [2]string{path, rule}
	if x.counts[key]++; x.counts[key] > maxOfRule {
		return
	}
	x.violations = append(x.violations, spec.Violation{Rule: rule, Path: path, Message: message, Hint: hint})
}

// inspect inspects one chart. ok is false if it cannot be rendered.
func (x *inspection) inspect(c spec.Chart) (done Chart, ok bool) {
	values, ok := x.readValues(c)
	if !ok {
		return done, false
	}
	c.Values = values
	archive, ok := x.readArchive(c)
	if !ok {
		return done, false
	}
	release := helm.Release{Name: c.Name, Namespace: c.Namespace, Archive: archive, Values: values, External: true, APIVersions: slices.Clone(x.apis)}
	if !x.checkChart(c, release) {
		return done, false
	}
	install, ok := x.render(release, false)
	if !ok {
		return done, false
	}
	upgrade, ok := x.render(release, true)
	if !ok {
		return done, false
	}
	if size, err := release.RecordSize(x.kubernetes); err == nil && size > helm.MaxRecord {
		x.report("chart-size", "", fmt.Sprintf("its release takes %d bytes, and the Secret in which Helm stores it has at most %d", size, helm.MaxRecord), "remove files that its templates do not use, with .helmignore")
	}
	x.apis = append(x.apis, definedAPIs(install)...)
	x.checkObjects(c, install)
	found := FindImages(slices.Concat(install, upgrade))
	x.checkImages(c, found)
	done = Chart{Chart: c, Archive: archive, Images: found.Images}
	for _, ref := range c.AdditionalImages {
		done.Images = append(done.Images, Image{Ref: normalizeReference(ref), Template: "additionalImages"})
	}
	return done, true
}

// render returns the objects of a release.
func (x *inspection) render(release helm.Release, upgrade bool) ([]Object, bool) {
	rendered, err := release.RenderParts(x.kubernetes, upgrade)
	var objects []Object
	if err == nil {
		objects, err = decodeAll(rendered.All())
	}
	if errors.Is(err, helm.ErrTooExpensive) {
		x.spent = true
		x.report("chart-render", "", "the chart does not render: "+err.Error(), "check its templates and values for endless loops and large counts")
		return nil, false
	}
	if err != nil {
		x.report("chart-render", "", "the chart does not render: "+oneLine(err.Error()), "correct its values; `helm template` shows the same")
		return nil, false
	}
	return objects, true
}

// checkChart checks the chart itself and its values. It reports whether it can be rendered.
func (x *inspection) checkChart(c spec.Chart, release helm.Release) bool {
	ch, err := helm.LoadChart(release.Archive)
	if err != nil {
		x.report("chart-read", "chart", "is not a chart: "+oneLine(err.Error()), "package it with `helm package`")
		return false
	}
	before := len(x.violations)
	if v := ch.Metadata.Version; v != c.Version {
		x.report("chart-read", "version", fmt.Sprintf("is %s, but the Chart.yaml of %s has %s", c.Version, ch.Name(), v), "write version: "+v+", or use the chart of that version")
	}
	if ch.Metadata.Type == "library" {
		x.report("chart-read", "chart", ch.Name()+" is a library chart, which cannot be installed", "use the chart that depends on it")
	}
	for _, missing := range missingDependencies(ch) {
		x.report("chart-read", "chart", "the dependency "+missing+" is not in the chart", "vendor it: run `helm dependency build` in the folder of the chart, and keep its charts/")
	}
	switch err := release.ValidateValues(); {
	case errors.Is(err, helm.ErrSchemaNotFollowed):
		x.report("chart-unchecked", "values", "are not checked: "+oneLine(err.Error()), "to have them checked, copy the referenced document into the schema, under $defs")
	case err != nil:
		x.reportSchema(ch, err)
	}
	return !slices.ContainsFunc(x.violations[before:], func(v spec.Violation) bool { return v.Rule == "chart-read" })
}

// missingDependencies returns the dependencies of a chart, and of its dependencies, that are not in it, or only in a version
// that it does not accept. Helm would render such a one, and ignore its condition and its alias.
func missingDependencies(ch *chart.Chart) (missing []string) {
	for _, d := range ch.Metadata.Dependencies {
		if d != nil && !slices.ContainsFunc(ch.Dependencies(), func(sub *chart.Chart) bool {
			return sub.Name() == d.Name && chartutil.IsCompatibleRange(cmp.Or(d.Version, "*-0"), sub.Metadata.Version)
		}) {
			missing = append(missing, fmt.Sprintf("%s %s of %s", d.Name, d.Version, ch.Name()))
		}
	}
	for _, sub := range ch.Dependencies() {
		missing = append(missing, missingDependencies(sub)...)
	}
	return missing
}

// oneLine returns text on one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
