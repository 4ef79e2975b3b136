package upgrade_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/upgrade"
)

func TestCompareInstallers_NamesCharts(t *testing.T) {
	base := spec.Chart{Name: "a", Chart: "./a", Version: "1.0.0", Namespace: "n", Values: map[string]any{"x": map[string]any{"y": 1, "password": "hunter2"}}}
	with := func(change func(*spec.Chart)) []spec.Chart {
		c := base
		change(&c)
		return []spec.Chart{c}
	}
	many := map[string]any{}
	for _, key := range strings.Fields("a b c d e f g h i j") {
		many[key] = true
	}
	for name, tc := range map[string]struct {
		was, is []spec.Chart
		want    string
		refused string
	}{
		"the same":      {was: []spec.Chart{base}, is: []spec.Chart{base}},
		"another order": {was: []spec.Chart{base, {Name: "b"}}, is: []spec.Chart{{Name: "b"}, base}},
		"added":         {is: []spec.Chart{base}, want: "spec.charts.a: (none) → 1.0.0 (k0s is not restarted)"},
		"removed":       {was: []spec.Chart{base}, want: "spec.charts.a: 1.0.0 → (none) (k0s is not restarted); its CRDs, their objects and its volumes are kept"},
		"another version": {was: []spec.Chart{base}, is: with(func(c *spec.Chart) { c.Version = "1.1.0" }),
			want: "spec.charts.a.version: 1.0.0 → 1.1.0 (k0s is not restarted)"},
		"other values": {was: []spec.Chart{base}, is: with(func(c *spec.Chart) {
			c.Values = map[string]any{"x": map[string]any{"y": 1, "password": "hunter3"}, "z": nil, "w": true}
		}), want: "spec.charts.a.values: its hidden part differs (k0s is not restarted); differing: w, x.password"},
		"many values": {was: with(func(c *spec.Chart) { c.Values = nil }), is: with(func(c *spec.Chart) { c.Values = many }),
			want: "spec.charts.a.values: its hidden part differs (k0s is not restarted); differing: a, b, c, d, e, f, g, h, …"},
		"another namespace": {was: []spec.Chart{base}, is: with(func(c *spec.Chart) { c.Namespace = "m" }),
			refused: "spec.charts.a.namespace: was n, is m: cannot be changed because the release and its volumes are in it"},
	} {
		t.Run(name, func(t *testing.T) {
			was, is := &spec.Installer{Spec: spec.Spec{Charts: tc.was}}, &spec.Installer{Spec: spec.Spec{Charts: tc.is}}
			changes, refusals := upgrade.CompareInstallers(was, is)
			var texts []string
			for _, c := range changes {
				texts = append(texts, c.String())
			}
			if strings.Join(texts, "\n") != tc.want {
				t.Errorf("%q, want %q", texts, tc.want)
			}
			refused := slices.ContainsFunc(refusals, func(r upgrade.Refusal) bool { return strings.HasPrefix(r.String(), tc.refused) })
			if refused != (tc.refused != "") || len(refusals) > 1 {
				t.Errorf("%v", refusals)
			}
			if raw, _ := json.Marshal(changes); strings.Contains(string(raw), "hunter") {
				t.Errorf("a secret is in %s", raw)
			}
		})
	}
}
