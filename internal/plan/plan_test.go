package plan

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

// example returns the cluster of the repository's installer.yaml on a bare fake host.
func example(t *testing.T) (Cluster, *hosttest.Fake) {
	t.Helper()
	raw, err := os.ReadFile("../../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatal(findings)
	}
	parts, err := addons.Resolve(in, "/var/lib/plinth")
	if err != nil {
		t.Fatal(err)
	}
	f := hosttest.New(t)
	h := f.Host()
	now := func() time.Time { return time.Unix(0, 0) }
	j, err := journal.Open(h, "/var/lib/plinth", now)
	if err != nil {
		t.Fatal(err)
	}
	return Cluster{Host: host.ReadOnly(h), StateStore: j, Now: now, DataDir: "/var/lib/plinth", NodeName: "n1", AddOns: parts,
		K0sFile: node.Artifact{Path: k0s.BinaryPath}, ProgramFile: node.Artifact{Path: node.ProgramPath}, KotsFile: node.Artifact{Path: kots.BinaryPath},
		K0s:          k0s.Service{Host: host.ReadOnly(h), Settings: k0s.NewSettings(in, "10.0.0.5", "n1")},
		CleanupScope: cleanup.DefaultScope(),
		Console:      Console{Namespace: "kotsadm", App: &kots.App{Slug: "my-app"}},
	}, f
}

func TestInstall_OnBareHostMatchesGolden(t *testing.T) {
	c, _ := example(t)
	goldenPlan(t, "testdata/install.golden", c, Install(c))
}

// goldenPlan compares the plan of steps with a golden file.
func goldenPlan(t *testing.T, golden string, c Cluster, steps []step.Step) {
	t.Helper()
	planned, err := step.Runner{Verb: "install", Now: c.Now}.Plan(t.Context(), steps)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range planned {
		fmt.Fprintf(&b, "%-8s %-20s %s\n", p.State, p.Step, p.Title)
		for _, affected := range p.Affects {
			fmt.Fprintf(&b, "         changes %s\n", affected)
		}
	}
	testkit.Golden(t, golden, []byte(b.String()))
}

func TestSteps_AreCompleteAndHaveUniqueIDs(t *testing.T) {
	c, _ := example(t)
	seen := map[string]bool{}
	for _, s := range append(Install(c), Reset(node.Leftovers(c.Host, c.CleanupScope))...) {
		if s.ID == "" || s.Title == "" || s.Check == nil || s.Apply == nil || seen[s.ID] {
			t.Errorf("step %q (%s) is incomplete or not unique", s.ID, s.Title)
		}
		seen[s.ID] = true
	}
}
