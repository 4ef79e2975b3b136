// Package addons owns the components that Plinth puts into a cluster: which
// versions are known, which images they run, with which chart and values, and
// in which order. Each is a folder of data, addons/<name>/{addon.yaml, chart/}.
// It refuses to talk to a cluster.
package addons

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

//go:embed */addon.yaml all:*/chart
var data embed.FS

// Ways in which an add-on comes into the cluster.
const (
	DeployChart = "chart" // its chart is all of it
	DeployKOTS  = "kots"  // the pinned kots CLI deploys it, then its chart follows
)

// AddOn is one component, pinned and ready to be installed.
type AddOn struct {
	Name      string            // name of its folder
	Title     string            // for a person
	Version   string            // exact, as the Installer pins it
	Deploy    string            // DeployChart or DeployKOTS
	Namespace string            // where it lives
	Images    map[string]string // image references by role
	Release   string            // name of the Helm release
	Chart     Chart             // what is released
	Values    map[string]any    // with these values
}

// Refs lists the references of the add-on's images, sorted.
func (a AddOn) Refs() []string {
	refs := make([]string, 0, len(a.Images))
	for _, ref := range a.Images {
		refs = append(refs, ref)
	}
	slices.Sort(refs)
	return refs
}

// Resolve pins the add-ons that the Installer asks for, in the order in which
// they must be installed. dataDir is Plinth's data folder on every host. A
// version or an add-on that this build does not know is a Problem with exit
// code 3 that names those it knows; all of them are reported at once.
func Resolve(in *spec.Installer, dataDir string) ([]AddOn, error) {
	all, err := load(data)
	if err != nil {
		return nil, fmt.Errorf("read the built-in add-ons: %w", err)
	}
	var (
		chosen  []AddOn
		unknown []string
	)
	for _, pin := range in.AddOns() {
		d, r, why := choose(all, pin)
		if why != "" {
			unknown = append(unknown, why)
			continue
		}
		a, err := d.pin(in, dataDir, r)
		if err != nil {
			return nil, fmt.Errorf("pin add-on %s: %w", d.Name, err)
		}
		chosen = append(chosen, a)
	}
	if len(unknown) > 0 {
		return nil, problem.Newf(problem.ExitConfig, "resolve the add-ons",
			"choose a version that this build of plinth knows, or use a plinth release that knows this one",
			"%s", strings.Join(unknown, "; "))
	}
	return order(all, chosen), nil
}

// Known lists the versions that this build knows, by the add-on's key in the
// Installer's spec; versions are in the order of the add-on's data.
func Known() (map[string][]string, error) {
	all, err := load(data)
	if err != nil {
		return nil, err
	}
	known := make(map[string][]string, len(all))
	for _, d := range all {
		known[d.Key] = d.versions()
	}
	return known, nil
}

// Judge objects to every add-on that this build does not know.
func Judge(in *spec.Installer) []spec.Objection {
	all, err := load(data)
	if err != nil {
		return []spec.Objection{{Rule: "add-on-known", Path: "spec", Message: err.Error()}}
	}
	var out []spec.Objection
	for _, pin := range in.AddOns() {
		if _, _, why := choose(all, pin); why != "" {
			path, message, _ := strings.Cut(why, ": ")
			out = append(out, spec.Objection{Rule: "add-on-known", Path: path, Message: message,
				Hint: "choose one that this build of plinth knows, or use a plinth that knows this one"})
		}
	}
	return out
}

// choose finds a pin's definition and release; why says what is unknown.
func choose(all []definition, pin spec.Pin) (d definition, r release, why string) {
	i := slices.IndexFunc(all, func(d definition) bool { return d.Key == pin.Key })
	if i < 0 {
		return d, r, fmt.Sprintf("spec.%s: this build of plinth has no such add-on", pin.Key)
	}
	d = all[i]
	j := slices.IndexFunc(d.Versions, func(r release) bool { return r.Version == pin.Version })
	if j < 0 {
		return d, r, fmt.Sprintf("spec.%s.version: %s is not known (known: %s)", pin.Key, pin.Version, strings.Join(d.versions(), ", "))
	}
	return d, d.Versions[j], ""
}

// order sorts the chosen add-ons so that each comes after those that it names;
// otherwise they keep their places. load has refused circles.
func order(all []definition, chosen []AddOn) []AddOn {
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

// load reads every add-on's definition below root, sorted by name.
func load(root fs.FS) ([]definition, error) {
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
		d, err := parse(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if d.Name != path.Dir(file) {
			return nil, fmt.Errorf("%s: name is %q, not that of its folder", file, d.Name)
		}
		if d.chart, err = fs.Sub(root, path.Join(d.Name, "chart")); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, checkOrder(all)
}

// Every lists all that this build knows, by what does not depend on an
// Installer: Name, Title, Deploy and Release.
func Every() ([]AddOn, error) {
	all, err := load(data)
	if err != nil {
		return nil, err
	}
	parts := make([]AddOn, 0, len(all))
	for _, d := range all {
		parts = append(parts, AddOn{Name: d.Name, Title: d.Title, Deploy: d.Deploy, Release: d.Release})
	}
	return order(all, parts), nil
}
