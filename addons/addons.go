// Package addons defines the components that Plinth installs into a cluster:
// their versions, images, charts, values and install order. Each add-on is a
// folder of data, addons/<name>/{addon.yaml, chart/}.
package addons

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

//go:embed */addon.yaml all:*/chart
var definitionFiles embed.FS

// Values of AddOn.Deploy.
const (
	DeployChart = "chart" // the add-on consists of its Helm chart only
	DeployKOTS  = "kots"  // the pinned KOTS CLI deploys it, then its chart is installed
)

// AddOn is one add-on with all its versions and values resolved, ready to be
// installed.
type AddOn struct {
	Name        string            // name of its folder
	Title       string            // display name
	Version     string            // exact version, as in the Installer
	Deploy      string            // DeployChart or DeployKOTS
	Namespace   string            // namespace of its objects
	PodSecurity PodSecurity       // what pods in Namespace may do
	Images      map[string]string // image references by role; "" if only the component itself knows it
	Release     string            // name of the Helm release
	Chart       Chart             // chart of that release
	Values      map[string]any    // values of that release

	// Of a chart of the vendor, see charts.go.
	External    bool          // it is one: it comes from spec.charts, and its archive from the bundle
	Optional    bool          // an install continues if it does not become ready
	Timeout     time.Duration // how long to wait for it; 0 for the default
	APIVersions []string      // that the charts installed before it define; helm.Release has the format
	Kubernetes  int           // minor of the cluster

	ClusterDomain string // DNS domain of the cluster's services
}

// ImageRefs returns the known references of the add-on's images, sorted.
func (a AddOn) ImageRefs() []string {
	refs := make([]string, 0, len(a.Images))
	for _, ref := range a.Images {
		if ref != "" {
			refs = append(refs, ref)
		}
	}
	slices.Sort(refs)
	return refs
}

// Resolve returns the add-ons that the Installer requests, in the order in
// which they must be installed. dataDir is Plinth's data folder on every host.
// An unsupported add-on or version is a Problem with exit code 3 that lists the
// supported versions; all of them are reported at once.
func Resolve(in *spec.Installer, dataDir string) ([]AddOn, error) {
	all, err := loadDefinitions(definitionFiles)
	if err != nil {
		return nil, fmt.Errorf("cannot read the built-in add-ons: %w", err)
	}
	var (
		chosen  []AddOn
		unknown []string
	)
	for _, pin := range in.AddOns() {
		d, r, why := findVersion(all, pin)
		if why != "" {
			unknown = append(unknown, why)
			continue
		}
		a, err := d.resolveVersion(in, dataDir, r)
		if err != nil {
			return nil, fmt.Errorf("cannot resolve add-on %s: %w", d.Name, err)
		}
		chosen = append(chosen, a)
	}
	if len(unknown) > 0 {
		return nil, problem.Newf(problem.ExitConfig, "resolve the add-ons",
			"choose a version that this build of plinth supports, or use a plinth release that supports the requested one",
			"%s", strings.Join(unknown, "; "))
	}
	if all, chosen, err = insertCharts(in, all, chosen); err != nil {
		return nil, problem.New(problem.ExitConfig, "resolve the add-ons", err, "correct spec.charts")
	}
	return sortByDependency(all, chosen), nil
}

// Validate returns an objection for every add-on in the Installer that this
// build does not support.
func Validate(in *spec.Installer) []spec.Violation {
	all, err := loadDefinitions(definitionFiles)
	if err != nil {
		return []spec.Violation{{Rule: "add-on-known", Path: "spec", Message: err.Error()}}
	}
	var out []spec.Violation
	for _, pin := range in.AddOns() {
		if _, _, why := findVersion(all, pin); why != "" {
			path, message, _ := strings.Cut(why, ": ")
			out = append(out, spec.Violation{Rule: "add-on-known", Path: path, Message: message,
				Hint: "choose a version that this build of plinth supports, or use a plinth release that supports the requested one"})
		}
	}
	return out
}

// findVersion returns the definition and the version that a pin names; why is
// empty, or the reason why there is none.
func findVersion(all []definition, pin spec.Pin) (d definition, r addOnVersion, why string) {
	i := slices.IndexFunc(all, func(d definition) bool { return d.Key == pin.Key })
	if i < 0 {
		return d, r, fmt.Sprintf("spec.%s: this build of plinth has no such add-on", pin.Key)
	}
	d = all[i]
	r, ok := d.find(pin.Version)
	if base, rest, pre := strings.Cut(pin.Version, "-"); !ok && pre && rest != "" {
		if _, known := d.find(base); known {
			return d, r, fmt.Sprintf("spec.%s.version: %s is a pre-release, which plinth does not install (supported: %s)", pin.Key, pin.Version, d.supported())
		}
	}
	if !ok {
		return d, r, fmt.Sprintf("spec.%s.version: %s is not supported (supported: %s)", pin.Key, pin.Version, d.supported())
	}
	return d, r, ""
}

// NewestVersions returns the newest version of each add-on whose versions this build lists one by
// one, by its key below spec of an Installer. An add-on with a range of versions has none.
func NewestVersions() (map[string]string, error) {
	all, err := loadDefinitions(definitionFiles)
	newest := map[string]string{}
	for _, d := range all {
		if last := d.Versions[len(d.Versions)-1]; last.Version != "" {
			newest[d.Key] = last.Version
		}
	}
	return newest, err
}

// sortByDependency returns the chosen add-ons sorted so that each one follows
// those that its "after" list names, and otherwise in their given order. There
// are no cycles: loadDefinitions rejects them.
func sortByDependency(all []definition, chosen []AddOn) []AddOn {
	after := make(map[string][]string, len(all))
	for _, d := range all {
		after[d.Name] = d.After
	}
	var (
		out  []AddOn
		done = map[string]bool{}
		add  func(name string)
	)
	add = func(name string) {
		if done[name] {
			return
		}
		done[name] = true
		for _, before := range after[name] {
			add(before)
		}
		if i := slices.IndexFunc(chosen, func(a AddOn) bool { return a.Name == name }); i >= 0 {
			out = append(out, chosen[i])
		}
	}
	for _, a := range chosen {
		add(a.Name)
	}
	return out
}

// loadDefinitions returns the definitions of all add-ons below root, sorted by
// name.
func loadDefinitions(root fs.FS) ([]definition, error) {
	files, err := fs.Glob(root, "*/addon.yaml")
	if err != nil {
		return nil, err
	}
	var all []definition
	for _, file := range files {
		b, err := fs.ReadFile(root, file)
		if err != nil {
			return nil, err
		}
		d, err := parseDefinition(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if d.Name != path.Dir(file) {
			return nil, fmt.Errorf("%s: name is %q, but must be the name of its folder", file, d.Name)
		}
		if d.chart, err = fs.Sub(root, path.Join(d.Name, "chart")); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, checkDependencies(all)
}

// All returns every add-on that this build supports, with those fields only
// that do not depend on an Installer: Name, Title, Deploy and Release.
func All() ([]AddOn, error) {
	all, err := loadDefinitions(definitionFiles)
	if err != nil {
		return nil, err
	}
	parts := make([]AddOn, 0, len(all))
	for _, d := range all {
		parts = append(parts, AddOn{Name: d.Name, Title: d.Title, Deploy: d.Deploy, Release: d.Release})
	}
	return sortByDependency(all, parts), nil
}
