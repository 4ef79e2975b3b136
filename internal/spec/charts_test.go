package spec_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

// withCharts returns an Installer with this list of charts.
func withCharts(t testing.TB, charts string) *spec.Installer {
	t.Helper()
	in, findings := spec.ParseInstaller("installer.yaml", []byte(minimal[:len(minimal)-2]+", charts: ["+charts+"]}\n"))
	if in == nil {
		t.Fatal(findings)
	}
	return in
}

func TestSortedCharts_FollowAfter(t *testing.T) {
	const rest = ", chart: ./c, version: 1.0.0, namespace: a"
	for name, tc := range map[string]struct{ charts, want string }{
		"none":                 {"", ""},
		"as written":           {"{name: b" + rest + "}, {name: a" + rest + "}", "b a"},
		"one after another":    {"{name: b" + rest + ", after: [c]}, {name: a" + rest + "}, {name: c" + rest + "}", "c b a"},
		"over several charts":  {"{name: a" + rest + ", after: [b]}, {name: b" + rest + ", after: [c]}, {name: c" + rest + "}", "c b a"},
		"two after the same":   {"{name: a" + rest + ", after: [c]}, {name: b" + rest + ", after: [c]}, {name: c" + rest + "}", "c a b"},
		"the same chart twice": {"{name: a" + rest + "}, {name: a2" + rest + ", after: [a]}", "a a2"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range withCharts(t, tc.charts).Spec.SortedCharts() {
				got = append(got, c.Name)
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("%v, want %s", got, tc.want)
			}
		})
	}
}

func TestOrigin_FollowsTheScheme(t *testing.T) {
	for chart, want := range map[string]spec.ChartOrigin{"oci://a.example/b": spec.RegistryChart, "https://a.example/b/c": spec.RepoChart, "./charts/a": spec.LocalChart, "a.tgz": spec.LocalChart} {
		t.Run(chart, func(t *testing.T) {
			if got := (spec.Chart{Chart: chart}).Origin(); got != want {
				t.Errorf("%v", got)
			}
		})
	}
	if repo, name := (spec.Chart{Chart: "https://a.example/stable/traefik"}).Repository(); repo != "https://a.example/stable" || name != "traefik" {
		t.Errorf("%s %s", repo, name)
	}
}

func TestDiff_HidesValuesOfCharts(t *testing.T) {
	const chart = "{name: a, chart: ./c, version: 1.0.0, namespace: a, values: {password: "
	got, err := spec.Diff(withCharts(t, chart+"hunter2}}"), withCharts(t, chart+"hunter3}}"))
	if want := []string{"spec.charts[0].values.password differs"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// Every add-on that an Installer can have is a name that no chart can take.
func TestAddOnKeys_AreThoseOfThePins(t *testing.T) {
	if got := spec.AddOnKeys(); !slices.Contains(got, "registry") || !slices.Contains(got, "localPathStorage") || !slices.Contains(got, "kotsadm") {
		t.Errorf("%q", got)
	}
}

func FuzzSortedCharts(f *testing.F) {
	f.Add("a", "b", "c")
	f.Add("b", "c", "a")
	f.Add("a", "a", "")
	f.Fuzz(func(t *testing.T, x, y, z string) {
		charts := []spec.Chart{{Name: "a", After: []string{x}}, {Name: "b", After: []string{y}}, {Name: "c", After: []string{z}}}
		if got := (spec.Spec{Charts: charts}).SortedCharts(); len(got) != len(charts) {
			t.Errorf("%d of %d charts", len(got), len(charts))
		}
	})
}
