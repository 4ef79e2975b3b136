package restore

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/faulttest"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest/sim"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

// The simulation restores a controller on a simulated host, with the real journal, step runner, engine and
// steps. It stops at every failpoint and before every change of the host: the state at that moment is what a
// kill would leave. From each of them the same command has to finish.

const (
	dataDir = "/var/lib/plinth"
	etcdDB  = k0s.EtcdMemberDir + "/snap/db"
	lostKey = "lost" // object of the simulated cluster: the controllers that it knows beside this one
)

// simulation is what all cases share.
type simulation struct {
	t        *testing.T
	in       *spec.Installer
	points   []failpoint.Point
	opts     Options
	survivor sim.State
}

// newSimulation returns a simulation with a controller that has lost its quorum.
func newSimulation(t *testing.T, opts Options) *simulation {
	t.Helper()
	raw, err := os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatal(findings)
	}
	points, err := faulttest.Points()
	testkit.Must(t, err)
	s := &simulation{t: t, in: in, points: points, opts: opts}
	env, m := s.newRun("install", sim.NewHost(), nil)
	j, err := env.OpenJournal()
	testkit.Must(t, err, j.BeginRun("install", journal.Args{Cluster: "my-app"}))
	keep := []string{"data-dir", "kernel", "k0s-config", "k0s-service", "k0s-start"}
	steps := slices.DeleteFunc(plan.Install(s.cluster(env)), func(st step.Step) bool { return !slices.Contains(keep, st.ID) })
	_, err = env.StepRunner("install", j).Run(t.Context(), steps)
	testkit.Must(t, err, j.EndRun(nil), journal.WriteReceipt(env.Host, dataDir, journal.Receipt{Name: "my-app", Role: "controller", Node: "n1",
		Versions: map[string]string{"k0s": "v1.33.8+k0s.1"}}))
	testkit.Must(t, env.Host.Write(etcdDB, strings.NewReader("three members"), 0o600))
	m.State[lostKey] = sim.Object{Data: "n2 n3"}
	m.StartPod("pod")
	s.survivor = m.State
	return s
}

// cluster returns the cluster of the simulated host.
func (s *simulation) cluster(env *action.Env) plan.Cluster {
	settings := k0s.NewSettings(s.in, "10.0.0.5", "n1")
	return plan.Cluster{Host: env.Host, StateStore: env.Journal(), Now: env.Now, DataDir: dataDir, NodeName: "n1", K0s: k0s.Service{Host: env.Host,
		Settings: settings}, CleanupScope: env.CleanupScope(),
		APIAnswers: func(ctx context.Context) string {
			why, err := (k0s.Service{Host: env.Host}).DownReason(ctx)
			if err != nil {
				return err.Error()
			}
			if raw, _ := env.Host.ReadFile(etcdDB); why == "" && strings.Contains(string(raw), "three members") && !strings.Contains(string(raw), "raised") {
				return "etcd has no leader"
			}
			return why
		}}
}

// newRun returns a run of verb on a machine that continues from state, with see called for every moment.
func (s *simulation) newRun(verb string, state sim.State, see func(string, sim.State)) (*action.Env, *sim.Machine) {
	m := sim.New(s.t, state)
	var failpoints *failpoint.Set
	if see != nil {
		m.OnChange = func(what string) { see("before "+what, maps.Clone(m.State)) }
		failpoints = failpoint.Observe(s.points, func(p failpoint.Point) { see(p.String(), maps.Clone(m.State)) })
	}
	env := &action.Env{Host: m.Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Failpoints: failpoints,
		Events: func(step.Event) {}, Note: func(string) {}, Confirm: func(context.Context, string) error { return nil }, Now: sim.Now}}
	env.ArmFailpoints(verb)
	return env, m
}

// fakeLost are the other controllers of the simulated cluster.
type fakeLost struct{ *sim.Machine }

func (f fakeLost) Names(context.Context) ([]string, error) {
	return strings.Fields(f.State[lostKey].Data), nil
}

func (f fakeLost) Remove(_ context.Context, name string) error {
	names := strings.Fields(f.State[lostKey].Data)
	f.State[lostKey] = sim.Object{Data: strings.Join(slices.DeleteFunc(names, func(n string) bool { return n == name }), " ")}
	return nil
}

// restore runs `plinth restore` from state and returns the state at its end.
func (s *simulation) restore(state sim.State, see func(string, sim.State)) (sim.State, error) {
	env, m := s.newRun(Verb, state, see)
	o := &operation{opts: s.opts, now: sim.Now(), identify: identifyOwn(nil)}
	o.members = func(context.Context, *action.Env) ([]etcd.Member, error) {
		return []etcd.Member{{Name: "n1"}, {Name: "n2", Address: "10.0.0.6"}}, nil
	}
	o.simulate = func(env *action.Env, r plan.Restoration) ([]step.Step, error) {
		r.Bump = func(p string) error { return raise(env.Host, p) }
		r.Lost = func(plan.Cluster) plan.LostMembers { return fakeLost{m} }
		if r.Open != nil {
			r.Open = func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(etcd.AppendHash(strings.NewReader("the backup"))), nil
			}
		}
		return slices.DeleteFunc(plan.Restore(s.cluster(env), r), func(st step.Step) bool { return st.ID == "node-ready" }), nil
	}
	op := o.engineOperation()
	if !s.opts.FromThisNode {
		op.Inspect = func(_ context.Context, env *action.Env) (err error) { // without a real file
			o.source = "sha256:1"
			o.receipt, _, err = journal.ReadReceipt(env.Host, dataDir)
			if err != nil {
				return err
			}
			return o.checkRuns(env)
		}
	}
	_, err := action.ExecuteLocked(s.t.Context(), env, op)
	return m.State, err
}

// raise marks a simulated database as one with a higher revision. A second call, after a kill, is an error: the copy
// has to be a new one.
func raise(h host.Host, p string) error {
	raw, err := h.ReadFile(p)
	if err != nil {
		return err
	}
	if strings.Contains(string(raw), "raised") {
		return fmt.Errorf("%s was raised before", p)
	}
	return h.Write(p, strings.NewReader(string(raw)+" raised"), 0o600)
}

// isUnfinished reports whether the last run in the journal of state is not finished.
func isUnfinished(t *testing.T, state sim.State) bool {
	t.Helper()
	j, err := journal.Open(sim.New(t, state).Host(), dataDir, sim.Now)
	testkit.Must(t, err)
	runs := j.Runs()
	return runs[len(runs)-1].Unfinished()
}

func TestSimulation_RestoreRecoversFromAKillBeforeAnyChange(t *testing.T) {
	for name, c := range map[string]struct {
		opts Options
		data string // of etcd afterwards
		lost string
	}{
		"from a backup":  {Options{ControlPlane: "file"}, "the backup raised", "n2 n3"},
		"from this node": {Options{FromThisNode: true, RemoveLost: true}, "three members raised", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSimulation(t, c.opts)
			end, err := s.restore(s.survivor, nil)
			testkit.Must(t, err)
			if got := end[etcdDB].Data; !strings.HasPrefix(got, c.data) || end[lostKey].Data != c.lost {
				t.Fatalf("etcd has %q, lost are %q", got, end[lostKey].Data)
			}
			if _, ok := end["running "+k0s.ControllerUnit]; !ok || !sim.New(t, end).HasPod("pod") {
				t.Error("k0s or a pod does not run")
			}
			if _, ok := end[plan.RestoreDir(dataDir)]; ok {
				t.Error("the stored data is left behind")
			}
			var names []string
			var states []sim.State
			_, err = s.restore(s.survivor, func(moment string, left sim.State) {
				if n := len(states); n == 0 || !maps.Equal(states[n-1], left) {
					names, states = append(names, moment), append(states, left)
				}
			})
			testkit.Must(t, err)
			for i, left := range states {
				if !isUnfinished(t, left) && i > 0 && left[etcdDB] == end[etcdDB] {
					continue // it has ended: the same command is another restore
				}
				again, err := s.restore(left, nil)
				if d := sim.Differences(sim.WithoutTransient(end, dataDir, nil), sim.WithoutTransient(again, dataDir, nil)); err != nil || len(d) > 0 {
					t.Errorf("%s: %v\n%s", names[i], err, strings.Join(d, "\n"))
					continue
				}
				if !sim.New(t, again).HasPod("pod") {
					t.Errorf("%s: the pod was ended", names[i])
				}
				if isUnfinished(t, again) {
					t.Errorf("%s: the journal has an unfinished run", names[i])
				}
			}
			if len(states) < 30 {
				t.Errorf("only %d states", len(states))
			}
			t.Logf("%d states", len(states))
		})
	}
}
