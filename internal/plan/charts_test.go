package plan

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/step"
)

// withCharts returns c with charts of a vendor between the storage and the console.
func withCharts(c Cluster) Cluster {
	charts := []addons.AddOn{
		{Name: "traefik", Title: "chart traefik", Deploy: addons.DeployChart, Namespace: "ingress", Release: "traefik", External: true},
		{Name: "kernel", Title: "chart kernel", Deploy: addons.DeployChart, Namespace: "kernel", Release: "kernel", External: true, Optional: true},
	}
	c.AddOns = slices.Concat(c.AddOns[:1], charts, c.AddOns[1:])
	return c
}

func TestInstall_WithChartsMatchesGolden(t *testing.T) {
	c, _ := example(t)
	c = withCharts(c)
	goldenPlan(t, "testdata/install-charts.golden", c, Install(c))
	seen := map[string]bool{}
	for _, s := range Install(c) { // a vendor chooses the names of charts
		if seen[s.ID] {
			t.Errorf("two steps are called %s", s.ID)
		}
		seen[s.ID] = true
	}
}

func TestUpgrade_RemovesDroppedChartsInReverseOrder(t *testing.T) {
	c, _ := example(t)
	var ids []string
	for _, s := range Upgrade(c, Transition{From: "a", To: "b", Dropped: withCharts(c).AddOns[1:3]}) {
		if strings.HasPrefix(s.ID, "remove-") {
			ids = append(ids, s.ID+" "+s.Title)
		}
	}
	want := []string{"remove-chart-kernel Remove chart kernel, but not its CRDs and volumes", "remove-chart-traefik Remove chart traefik, but not its CRDs and volumes"}
	if !slices.Equal(ids, want) {
		t.Errorf("%q, want %q", ids, want)
	}
}

func TestTolerateFailure_WarnsAndContinues(t *testing.T) {
	chart := addons.AddOn{Title: "chart a"}
	for name, tc := range map[string]struct {
		err    error
		killed bool
		want   string // of the warning
	}{
		"success":     {},
		"failure":     {err: errors.New("no pod\nmore"), want: "chart a is not strict, so its failure is tolerated: no pod"},
		"interrupted": {err: context.Canceled, killed: true},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			var warned, reported string
			c := Cluster{Warn: func(text string) { warned = text }}
			applied := false
			s := c.tolerateFailure(step.Step{
				Check: func(context.Context) (step.State, error) {
					if applied && tc.err == nil {
						return step.Done(), nil
					}
					return step.Needed("it is not installed"), nil
				},
				Apply: func(context.Context, step.Report) error {
					if applied = true; tc.killed {
						kill()
					}
					return tc.err
				},
			}, chart)
			if st, _ := s.Check(ctx); st.Kind != step.KindNeeded {
				t.Error("it is not needed before")
			}
			err := s.Apply(ctx, func(text string, _, _ int64) { reported = text })
			if tc.killed != (err != nil) || warned != tc.want || reported != tc.want {
				t.Errorf("%v, warned %q, reported %q", err, warned, reported)
			}
			if st, _ := s.Check(t.Context()); !tc.killed && st.Kind != step.KindDone {
				t.Error("it is needed after")
			}
		})
	}
}
