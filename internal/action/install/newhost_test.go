package install

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/faulttest"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest/sim"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestCheckNewHostRuns_ResumesOnlyTheSameRestore(t *testing.T) {
	same := journal.Args{Cluster: "my-app", Bundle: "sha256:b", From: "sha256:1", APIAddress: "10.0.0.100"}
	other := same
	other.From = "sha256:2"
	otherBundle := same
	otherBundle.Bundle = "sha256:c"
	for name, c := range map[string]struct {
		verb  string // of the unfinished run; "" for none
		was   journal.Args
		step  string // that it has begun
		want  string // "" if it is not refused
		ended bool
	}{
		"no run":              {},
		"the same":            {verb: "restore", was: same, step: "restore-save"},
		"only its end":        {verb: "restore", was: same, step: plan.RestoreEndID, ended: true},
		"another backup":      {verb: "restore", was: other, want: "restores other data (sha256:2)"},
		"another bundle":      {verb: "restore", was: otherBundle, want: "the bundle was sha256:c and is now sha256:b"},
		"an install":          {verb: "install", was: same, want: "the install started at"},
		"an unfinished reset": {verb: "reset", want: "the reset started at"},
	} {
		t.Run(name, func(t *testing.T) {
			env, _ := fakeEnv(t)
			j, err := env.OpenJournal()
			testkit.Must(t, err)
			if c.verb != "" {
				testkit.Must(t, j.BeginRun(c.verb, c.was))
			}
			if c.step != "" {
				testkit.Must(t, j.BeginStep(c.step, nil))
			}
			o := operation{restored: &Restoration{}, args: same}
			o.args.APIAddress = ""
			err = o.checkNewHostRuns(env)
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || problem.ExitCode(err) != problem.ExitUsage) || o.ended != c.ended {
				t.Errorf("%v, ended %v", err, o.ended)
			}
		})
	}
}

func TestInspectNewHost_RefusesAHostWithACluster(t *testing.T) {
	env, _ := fakeEnv(t)
	_, err := env.OpenJournal()
	testkit.Must(t, err, journal.WriteReceipt(env.Host, dataDir, journal.Receipt{Name: "my-app"}))
	o := operation{restored: &Restoration{}}
	if err := o.inspectNewHost(t.Context(), env); problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), "this host has a cluster") {
		t.Error(err)
	}
	testkit.Must(t, env.Host.Write(journal.ReceiptPath(dataDir), strings.NewReader("{"), 0o600))
	if err := o.inspectNewHost(t.Context(), env); err == nil || strings.Contains(err.Error(), "this host has a cluster") {
		t.Errorf("of a damaged receipt: %v", err)
	}
}

// The simulation restores a backup on a simulated host without a cluster, with the real journal, step runner, engine and
// steps. It stops at every failpoint and before every change of the host: the state at that moment is what a kill would
// leave. From each of them the same command has to finish.

// etcdDB is the database of etcd, lostKey the object of the simulated cluster with the controllers that it knows.
const (
	etcdDB  = k0s.EtcdMemberDir + "/snap/db"
	lostKey = "lost"
)

// newHostSimulation is what all runs share.
type newHostSimulation struct {
	t      *testing.T
	in     *spec.Installer
	points []failpoint.Point
	keys   map[string][]byte
}

func newNewHostSimulation(t *testing.T) *newHostSimulation {
	t.Helper()
	raw, err := os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatal(findings)
	}
	points, err := faulttest.Points()
	testkit.Must(t, err)
	ca, err := pki.NewClusterCA(sim.Now())
	testkit.Must(t, err)
	old := sim.New(t, sim.NewHost()).Host()
	testkit.Must(t, k0s.PlaceCA(old, ca), k0s.EnsureEncryptionKeys(old))
	s := &newHostSimulation{t, in, points, map[string][]byte{}}
	for _, f := range k0s.SharedFiles() {
		if s.keys[f.Path], err = old.ReadFile(f.Path); err != nil {
			s.keys[f.Path] = []byte("of the backup: " + f.Path)
		}
	}
	return s
}

// restoreSteps are the steps that the simulated host can run.
var restoreSteps = []string{"data-dir", "kernel", "k0s-config", "restore-save", "restore-keys", "identity", "k0s-service", "restore-stop", "restore-etcd",
	"k0s-start", "restore-lost", plan.RestoreEndID}

// restore runs the restore from state, with see called for every moment, and returns the state at its end.
func (s *newHostSimulation) restore(state sim.State, see func(string, sim.State)) (sim.State, error) {
	m := sim.New(s.t, state)
	var failpoints *failpoint.Set
	if see != nil {
		m.OnChange = func(what string) { see("before "+what, maps.Clone(m.State)) }
		failpoints = failpoint.Observe(s.points, func(p failpoint.Point) { see(p.String(), maps.Clone(m.State)) })
	}
	o, op := simulatedOperation("sha256:1")
	op.Steps = func(ctx context.Context, env *action.Env) ([]step.Step, error) {
		if o.ended {
			return o.newHostSteps(ctx, env)
		}
		c := plan.Cluster{Host: env.Host, StateStore: env.Journal(), Now: env.Now, DataDir: dataDir, NodeName: "n9", CleanupScope: env.CleanupScope(),
			K0s: k0s.Service{Host: env.Host, Settings: k0s.NewSettings(s.in, "10.0.0.9", "n9")}, APIAnswers: func(context.Context) string { return "" }}
		steps := plan.RestoreOnNewHost(c, plan.Restoration{Source: "sha256:1", TakenAt: sim.Now(), Keys: s.keys,
			Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(etcd.AppendHash(strings.NewReader("the backup"))), nil
			},
			Bump: func(p string) error {
				raw, err := env.Host.ReadFile(p)
				if err != nil || strings.Contains(string(raw), "raised") {
					return fmt.Errorf("%s: %q %w", p, raw, err)
				}
				return env.Host.Write(p, strings.NewReader(string(raw)+" raised"), 0o600)
			},
			Lost: func(plan.Cluster) plan.LostMembers { return fakeLost{m} }})
		return slices.DeleteFunc(steps, func(st step.Step) bool { return !slices.Contains(restoreSteps, st.ID) }), nil
	}
	_, err := action.ExecuteLocked(s.t.Context(), simulatedEnv(m.Host(), failpoints), op)
	return m.State, err
}

// simulatedEnv returns the environment of a restore on a simulated host.
func simulatedEnv(h host.Host, failpoints *failpoint.Set) *action.Env {
	env := &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: dataDir, Failpoints: failpoints,
		Events: func(step.Event) {}, Note: func(string) {}, Confirm: func(context.Context, string) error { return nil }, Now: sim.Now}}
	env.ArmFailpoints(restoreVerb)
	return env
}

// simulatedOperation returns a restore of the data from, without what needs a real bundle and a real host. The caller sets
// its steps.
func simulatedOperation(from string) (*operation, action.Operation) {
	o := &operation{restored: &Restoration{}, args: journal.Args{Cluster: "my-app", From: from}}
	op := o.newHostOperation()
	op.Preflights, op.Fetch, op.Prepare, op.Confirm = nil, nil, nil, nil
	op.Inspect = func(_ context.Context, env *action.Env) error { return o.checkNewHostRuns(env) }
	op.JournalArgs = func(*action.Env, int) *journal.Args { return &o.args }
	op.Record = func(env *action.Env) error {
		return journal.WriteReceipt(env.Host, dataDir, journal.Receipt{Name: "my-app", Role: "controller", Node: "n9"})
	}
	return o, op
}

// fakeLost are the lost controllers of the simulated cluster, which its etcd knows.
type fakeLost struct{ *sim.Machine }

func (f fakeLost) Names(context.Context) ([]string, error) {
	if _, removed := f.State[lostKey]; removed || !strings.HasPrefix(f.State[etcdDB].Data, "the backup") {
		return nil, nil
	}
	return []string{"n1"}, nil
}

func (f fakeLost) Remove(_ context.Context, name string) error {
	f.State[lostKey] = sim.Object{Data: name}
	return nil
}

// withoutTransient returns state for a comparison: also without the folder of the kots CLI, which its next run removes, and
// without keys that are new in each run.
func withoutTransient(state sim.State) sim.State {
	return sim.WithoutTransient(state, dataDir, func(key string) bool {
		return key == dataDir+"/kots/tmp" || key == k0s.KubeletConf || strings.HasPrefix(key, k0s.KubeletPKIDir) || key == node.IdentityPath(dataDir)
	})
}

func TestAddRequirements_RefusesAClockBeforeTheBackup(t *testing.T) {
	built := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct{ taken, want time.Time }{
		"a backup after the bundle was built":    {built.Add(time.Hour), built.Add(time.Hour)},
		"a bundle with a build date of its own":  {built.Add(-time.Hour), built},
		"a backup whose time is not known (old)": {time.Time{}, built},
	} {
		t.Run(name, func(t *testing.T) {
			want := hostpreflight.Requirements{NotBefore: built}
			Restoration{TakenAt: c.taken, Paths: []hostpreflight.WritePath{{Path: "/data", Bytes: 20}}}.addRequirements(&want)
			if !want.NotBefore.Equal(c.want) || len(want.WritePaths) != 1 || want.WritePaths[0].Bytes != 20 {
				t.Errorf("%+v", want)
			}
		})
	}
}

func TestSimulation_RestoreOnNewHostRecoversFromAKillBeforeAnyChange(t *testing.T) {
	s := newNewHostSimulation(t)
	end, err := s.restore(sim.NewHost(), nil)
	testkit.Must(t, err)
	if got := end[etcdDB].Data; !strings.HasPrefix(got, "the backup raised") || end[lostKey].Data != "n1" {
		t.Fatalf("etcd has %q, removed is %q", got, end[lostKey].Data)
	}
	for p, want := range s.keys {
		if end[p].Data != string(want) {
			t.Errorf("%s is not that of the backup", p)
		}
	}
	if _, ok := end["running "+k0s.ControllerUnit]; !ok {
		t.Error("k0s does not run")
	}
	if _, ok := end[plan.RestoreDir(dataDir)]; ok {
		t.Error("the stored data is left behind")
	}
	var names []string
	var states []sim.State
	_, err = s.restore(sim.NewHost(), func(moment string, left sim.State) {
		if n := len(states); n == 0 || !maps.Equal(states[n-1], left) {
			names, states = append(names, moment), append(states, left)
		}
	})
	testkit.Must(t, err)
	for i, left := range states {
		if _, recorded := left[journal.ReceiptPath(dataDir)]; recorded { // the same command is refused: the host has a cluster
			continue
		}
		again, err := s.restore(left, nil)
		if d := sim.Differences(withoutTransient(end), withoutTransient(again)); err != nil || len(d) > 0 {
			t.Errorf("%s: %v\n%s", names[i], err, strings.Join(d, "\n"))
		}
	}
	if len(states) < 50 {
		t.Errorf("only %d states", len(states))
	}
	t.Logf("%d states", len(states))
}

func TestSimulation_RestoreOnNewHostReplacesAClusterThatABootHasCreated(t *testing.T) {
	s := newNewHostSimulation(t)
	end, err := s.restore(sim.NewHost(), nil)
	testkit.Must(t, err)
	var left sim.State
	_, err = s.restore(sim.NewHost(), func(moment string, state sim.State) {
		if moment == "restore/restore-etcd:begun" {
			left = state
		}
	})
	testkit.Must(t, err)
	if left == nil {
		t.Fatal("etcd was not restored")
	}
	// systemd starts k0s at boot, which k0s enables; without data, etcd becomes a new cluster.
	m := sim.New(t, left)
	testkit.Must(t, m.Host().StartUnit(t.Context(), k0s.ControllerUnit))
	m.State.PutFile(etcdDB, "an empty cluster", 0o600)
	m.State.PutFile(path.Join(k0s.EtcdMemberDir, "wal/0.wal"), "new", 0o600)
	again, err := s.restore(m.State, nil)
	if d := sim.Differences(withoutTransient(end), withoutTransient(again)); err != nil || len(d) > 0 {
		t.Errorf("%v\n%s", err, strings.Join(d, "\n"))
	}
}
