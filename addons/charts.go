package addons

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/plinthdev/plinth/internal/spec"
)

// defaultWait is how long an install waits for an add-on of Plinth: longer than the five minutes for which kubelet keeps
// pods from a node whose disk was full (evictionPressureTransitionPeriod).
const defaultWait = 6 * time.Minute

// Wait returns how long an install waits until the add-on is ready.
func (a AddOn) Wait() time.Duration { return cmp.Or(a.Timeout, defaultWait) }

// newExternal returns a chart of a vendor as an add-on, for a Kubernetes minor. Its archive is that of the bundle, which stores it by the
// name of the release.
func newExternal(c spec.Chart, kubernetes int) (AddOn, error) {
	values, err := NormalizeValues(c.Values)
	if err != nil {
		return AddOn{}, fmt.Errorf("values of chart %s: %w", c.Name, err)
	}
	return AddOn{Name: c.Name, Title: "chart " + c.Name, Version: c.Version, Deploy: DeployChart, Namespace: c.Namespace, Release: c.Name,
		Chart: Chart{Name: c.Name, Version: c.Version}, Values: values, External: true, Optional: !c.Strict, Timeout: c.Wait(), Kubernetes: kubernetes}, nil
}

// Charts returns the charts of an Installer as add-ons, without an order. It needs no version of an add-on of Plinth
// that this build knows.
func Charts(in *spec.Installer) ([]AddOn, error) {
	var all []AddOn
	for _, c := range in.Spec.Charts {
		a, err := newExternal(c, spec.KubernetesMinor(in.Spec.K0s.Version))
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// NormalizeValues returns values with the types that Helm gives to those of a file: each number is a float64.
func NormalizeValues(values map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(values)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	if err := json.Unmarshal(raw, &out); err != nil || out == nil {
		return map[string]any{}, err
	}
	return out, nil
}

// insertCharts returns the add-ons chosen with the charts of the Installer in, and their definitions in all. Unless
// after says otherwise, charts follow the storage, the load balancer and the ingress controller, which they can use, and
// precede the console, which can use what they provide.
func insertCharts(in *spec.Installer, all []definition, chosen []AddOn) ([]definition, []AddOn, error) {
	names := map[string]string{} // of add-ons by their key
	for _, d := range all {
		names[d.Key] = d.Name
	}
	charts, err := Charts(in)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range in.Spec.Charts {
		d := definition{Name: c.Name}
		for _, before := range c.After {
			d.After = append(d.After, cmp.Or(names[before], before))
		}
		all = append(all, d)
	}
	before := []string{names["localPathStorage"], names["loadBalancer"], names["ingress"]}
	at := 0
	for at < len(chosen) && slices.Contains(before, chosen[at].Name) {
		at++
	}
	return all, slices.Concat(chosen[:at], charts, chosen[at:]), nil
}

// ValidateCharts returns a violation for each chart of an Installer whose name, or whose release, an add-on of
// Plinth has, and for each in the namespace of an add-on that the Installer has.
func ValidateCharts(in *spec.Installer) []spec.Violation {
	all, err := loadDefinitions(definitionFiles)
	if err != nil {
		return []spec.Violation{{Rule: "chart-name", Path: "spec.charts", Message: err.Error()}}
	}
	taken, spaces := map[string]string{}, map[string]string{} // titles of the add-ons by the names, and the namespaces, that they use
	for _, d := range all {
		if d.Deploy != DeployKOTS && slices.ContainsFunc(in.AddOns(), func(p spec.Pin) bool { return p.Key == d.Key }) {
			spaces[d.Namespace] = d.Title
		}
		for _, name := range []string{d.Name, d.Release, chartName(d.chart)} {
			taken[name] = d.Title
		}
	}
	var out []spec.Violation
	for i, c := range in.Spec.Charts {
		if title, ok := taken[c.Name]; ok {
			out = append(out, spec.Violation{Rule: "chart-name", Path: fmt.Sprintf("spec.charts[%d].name", i),
				Message: fmt.Sprintf("%q is a name of an add-on of Plinth (%s)", c.Name, title), Hint: "choose another name, such as my-" + c.Name})
		}
		if title, ok := spaces[c.Namespace]; ok {
			out = append(out, spec.Violation{Rule: "chart-namespace", Path: fmt.Sprintf("spec.charts[%d].namespace", i),
				Message: fmt.Sprintf("%s is the namespace of Plinth's add-on %s, whose limits and network policies would apply to the pods of the chart", c.Namespace, title),
				Hint:    "use another one, such as my-" + c.Namespace})
		}
	}
	return out
}

// chartName returns the name in the Chart.yaml of a chart, or "".
func chartName(root fs.FS) string {
	var meta struct {
		Name string `yaml:"name"`
	}
	raw, err := fs.ReadFile(root, "Chart.yaml")
	if err != nil || yaml.Unmarshal(raw, &meta) != nil {
		return ""
	}
	return meta.Name
}
