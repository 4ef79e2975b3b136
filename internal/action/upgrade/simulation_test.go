package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/faulttest"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host/hosttest/sim"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

// The simulation upgrades and rolls back on a simulated host, with the real journal, step
// runner, engine and operations, and the real steps but those that need a real cluster. It
// stops at every failpoint and before every change of the host: the state at that moment is
// what a kill would leave. From each such state it continues with every command that a user
// could run.

const (
	dataDir   = "/var/lib/plinth"
	etcdDB    = k0s.EtcdMemberDir + "/snap/db"          // the data of the simulated cluster
	consoleDB = dataDir + "/" + node.VolumesDir + "/db" // the database of the simulated console
	oldBundle = "sha256:0000000000000000"
	newBundle = "sha256:1111111111111111"
)

// simulation is what all cases share.
type simulation struct {
	t         *testing.T
	in        *spec.Installer
	parts     []addons.AddOn
	points    []failpoint.Point
	fail      string    // id of a step of the upgrade that fails after it was applied; "" for none
	changes   changes   // what the upgrade changes
	installed sim.State // before the upgrade
	upgraded  sim.State // after it
}

// changes is what an upgrade changes, beside the documents of the bundle.
type changes struct {
	programs  bool // k0s, the kots CLI, plinth and its agent
	config    bool // configuration of k0s
	arguments bool // of k0s, which is stopped for that
	addOns    bool // an add-on and the console
}

// newSimulation returns a simulation with a host on which the old bundle is installed, and with one that
// was upgraded without faults.
func newSimulation(t *testing.T, c changes) *simulation {
	t.Helper()
	if raceDetector {
		t.Skip("a simulated host is single-threaded: make test-unit runs this without the race detector, which takes ten times as long")
	}
	raw, err := os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatal(findings)
	}
	parts, err := addons.Resolve(in, dataDir)
	testkit.Must(t, err)
	points, err := faulttest.Points()
	testkit.Must(t, err)
	s := &simulation{t: t, in: in, parts: parts, points: points, changes: c}
	s.installed = s.install()
	s.upgraded, err = s.upgrade(s.installed, nil, nil)
	testkit.Must(t, err)
	return s
}

// install returns a host on which the old bundle is installed: by the steps of an install that need no cluster.
func (s *simulation) install() sim.State {
	env, m := s.newRun("install", sim.NewHost(), nil, nil)
	j, err := env.OpenJournal()
	testkit.Must(s.t, err)
	testkit.Must(s.t, j.BeginRun("install", journal.Args{Cluster: "my-app", Bundle: oldBundle}))
	keep := []string{"data-dir", "plinth-binary", "keep-bundle", "kernel", "k0s-binary", "k0s-config", "k0s-service", "k0s-start", "kots-binary", "agent-binary", "agent"}
	steps := slices.DeleteFunc(plan.Install(s.cluster(env, oldBundle)), func(st step.Step) bool { return !slices.Contains(keep, st.ID) })
	_, err = env.StepRunner("install", j).Run(s.t.Context(), steps)
	testkit.Must(s.t, err, journal.WriteReceipt(env.Host, dataDir, receiptOf(oldBundle)), j.EndRun(nil))
	c := fakeCluster{env: env}
	testkit.Must(s.t, c.write(clusterState{AddOns: "old"}), env.Host.Write(consoleDB, strings.NewReader("old"), 0o600))
	m.StartPod("pod")
	return m.State
}

// receiptOf returns the receipt of a host with the bundle.
func receiptOf(bundle string) journal.Receipt {
	return journal.Receipt{Name: "my-app", Role: "controller", Node: "n1", MachineID: "1", Address: "10.0.0.5", Bundle: bundle, Versions: map[string]string{"kotsadm": "1"}}
}

// cluster returns the cluster of the simulated host with the bundle.
func (s *simulation) cluster(env *action.Env, bundle string) plan.Cluster {
	settings := k0s.NewSettings(s.in, "10.0.0.5", "n1")
	proxy, schedule := k0s.Proxy{}, node.BackupSchedule{To: "/mnt/backup", Keep: 1}
	programs := bundle
	if bundle == newBundle {
		if s.changes.config {
			settings.NodePortRange = "80-32000"
			proxy.HTTP = "http://proxy" // with files that did not exist
			schedule.Calendar = "daily"
		}
		if s.changes.arguments {
			settings.WorkerProfile = "other"
		}
		if !s.changes.programs {
			programs = oldBundle
		}
	}
	return plan.Cluster{Host: env.Host, StateStore: env.Journal(), Now: env.Now, DataDir: dataDir, NodeName: "n1", AddOns: s.parts,
		K0s: k0s.Service{Host: env.Host, Settings: settings, Proxy: proxy}, CleanupScope: env.CleanupScope(), Console: plan.Console{Namespace: "kotsadm"},
		K0sFile: programOf(k0s.BinaryPath, programs), KotsFile: programOf(kots.BinaryPath, programs), ProgramFile: programOf(node.ProgramPath, programs), AgentFile: programOf(node.AgentBinary, programs),
		BackupTimer: node.NewBackupTimer(node.AgentBinary, dataDir, schedule),
		BundleCache: plan.BundleCache{Dir: dataDir + "/bundle", Files: map[string][]byte{"index.json": []byte(bundle), "blobs/" + bundle: []byte("{}")}},
		APIAnswers: func(ctx context.Context) string {
			_, err := fakeCluster{env: env}.read(ctx)
			if err != nil {
				return err.Error()
			}
			return ""
		}}
}

// programOf returns a program of a bundle that takes more than one write.
func programOf(path, bundle string) node.Artifact {
	content := strings.Repeat(path+" of "+bundle+"\n", 150)
	return node.Artifact{Path: path, Mode: 0o755, Size: int64(len(content)), Digest: digest.FromString(content),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

// clusterState is the data of the simulated cluster.
type clusterState struct {
	AddOns string
	Record kube.UpgradeRecord
}

// fakeCluster is the cluster of a simulated host. It answers while k0s runs.
type fakeCluster struct{ env *action.Env }

func (c fakeCluster) read(ctx context.Context) (s clusterState, err error) {
	if why, err := (k0s.Service{Host: c.env.Host}).DownReason(ctx); err != nil || why != "" {
		return s, errors.Join(err, errors.New(why))
	}
	raw, err := c.env.Host.ReadFile(etcdDB)
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

func (c fakeCluster) write(s clusterState) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return c.env.Host.Write(etcdDB, bytes.NewReader(raw), 0o600)
}

func (c fakeCluster) UpgradeRecord(ctx context.Context) (kube.UpgradeRecord, error) {
	s, err := c.read(ctx)
	return s.Record, err
}

func (c fakeCluster) UpdateUpgradeRecord(ctx context.Context, change func(*kube.UpgradeRecord) error) error {
	s, err := c.read(ctx)
	if err != nil {
		return err
	}
	if err := change(&s.Record); err != nil {
		return err
	}
	return c.write(s)
}

func (c fakeCluster) records(context.Context) (plan.UpgradeRecords, error) { return c, nil }

func (c fakeCluster) EtcdSnapshot(ctx context.Context) (io.ReadCloser, error) {
	if _, err := c.read(ctx); err != nil {
		return nil, err
	}
	raw, err := c.env.Host.ReadFile(etcdDB)
	return io.NopCloser(bytes.NewReader(raw)), err
}

func (c fakeCluster) ConsoleBackup(ctx context.Context) (io.ReadCloser, error) {
	raw, err := c.env.Host.ReadFile(consoleDB)
	return io.NopCloser(bytes.NewReader(raw)), err
}

func (c fakeCluster) LoadConsole(ctx context.Context, open func() (io.ReadCloser, error), _ int64, _ kube.Wait) error {
	if _, err := c.read(ctx); err != nil {
		return err
	}
	backup, err := open()
	if err != nil {
		return err
	}
	return c.env.Host.Write(consoleDB, backup, 0o600)
}

func (c fakeCluster) Gather(ctx context.Context) (json.RawMessage, error) {
	_, err := c.read(ctx)
	return json.RawMessage("{}"), err
}

func (c fakeCluster) Worse(ctx context.Context, _ json.RawMessage) ([]string, error) {
	_, err := c.read(ctx)
	return nil, err
}

// observer is called for each moment at which a run could be killed, with the state that it would leave.
type observer func(moment string, left sim.State)

// newRun returns a run of verb on a machine that continues from state, with rules armed; or, when see is set, with see
// called for every moment.
func (s *simulation) newRun(verb string, state sim.State, rules []failpoint.Rule, see observer) (*action.Env, *sim.Machine) {
	m := sim.New(s.t, state)
	failpoints := failpoint.Arm(rules, failpoint.Effects{})
	if see != nil {
		m.OnChange = func(what string) { see("before "+what, maps.Clone(m.State)) }
		failpoints = failpoint.Observe(s.points, func(p failpoint.Point) { see(p.String(), maps.Clone(m.State)) })
	}
	env := &action.Env{Host: m.Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Failpoints: failpoints,
		Events: func(step.Event) {}, Note: func(string) {}, Confirm: func(context.Context, string) error { return nil }, Now: sim.Now}}
	env.ArmFailpoints(verb)
	return env, m
}

// operation returns the upgrade to the new bundle with the functions that read a real bundle and a real host replaced.
func (s *simulation) operation(env *action.Env, m *sim.Machine) action.Operation {
	o := &operation{to: newBundle, records: fakeCluster{env: env}.records}
	o.simulate = func(env *action.Env) ([]step.Step, error) {
		c := fakeCluster{env: env}
		steps := plan.Upgrade(s.cluster(env, newBundle), plan.Transition{From: o.from, To: o.to, Name: "my-app", Versions: o.receipt.Versions,
			Receipt: journal.ReceiptPath(dataDir), Records: c.records, Data: c, Health: c})
		steps = s.simulateSteps(steps, env, m)
		for i, st := range steps {
			if st.ID == s.fail {
				steps[i].Apply = func(ctx context.Context, report step.Report) error {
					return errors.Join(st.Apply(ctx, report), errors.New("it fails"))
				}
			}
		}
		return steps, nil
	}
	o.simulateRollback = s.rollbackSteps(m)
	op := o.engineOperation()
	op.IsUpToDate, op.Preflights, op.Confirm, op.Fetch, op.Prepare = nil, nil, nil, nil, nil
	op.Inspect = func(_ context.Context, env *action.Env) (err error) {
		if o.receipt, _, err = journal.ReadReceipt(env.Host, env.DataDir); err != nil {
			return err
		}
		if err := o.checkRuns(env); err != nil {
			return err
		}
		_, err = o.findFrom(env)
		return err
	}
	op.JournalArgs = func(_ *action.Env, count int) *journal.Args {
		return &journal.Args{Cluster: "my-app", Bundle: o.to, From: o.from, Steps: count}
	}
	op.Record = func(env *action.Env) error { return journal.WriteReceipt(env.Host, env.DataDir, receiptOf(o.to)) }
	return op
}

// rollbackSteps returns the function that returns the steps of a rollback.
func (s *simulation) rollbackSteps(m *sim.Machine) func(*action.Env, plan.Reversal) ([]step.Step, error) {
	return func(env *action.Env, r plan.Reversal) ([]step.Step, error) {
		c := fakeCluster{env: env}
		r.Records, r.Data, r.Health = c.records, c, c
		return s.simulateSteps(plan.Rollback(s.cluster(env, oldBundle), r), env, m), nil
	}
}

// simulateSteps returns steps in which those that need a real cluster are simulated or left out.
func (s *simulation) simulateSteps(steps []step.Step, env *action.Env, m *sim.Machine) (all []step.Step) {
	c := fakeCluster{env: env}
	for _, st := range steps {
		switch st.ID {
		case "images-boot", "images-rest":
			st = s.imageStep(st, env, m)
		case "local-path-storage":
			st = s.clusterStep(st, func(ctx context.Context) (bool, error) {
				state, err := c.read(ctx)
				return state.AddOns == "new", err
			}, func(ctx context.Context) error {
				state, err := c.read(ctx)
				if err != nil {
					return err
				}
				state.AddOns = "new"
				return c.write(state)
			})
		case "console":
			st = s.clusterStep(st, func(ctx context.Context) (bool, error) {
				_, err := c.read(ctx)
				raw, _ := env.Host.ReadFile(consoleDB)
				return string(raw) == "new", err
			}, func(context.Context) error { return env.Host.Write(consoleDB, strings.NewReader("new"), 0o600) })
		case "system-pods": // after a rollback that has ended the pods, the kubelet starts them again
			st.Check = func(ctx context.Context) (step.State, error) {
				if !m.HasPod("pod") {
					return step.Needed("it does not run"), nil
				}
				return step.Done(), nil
			}
			st.Apply = func(context.Context, step.Report) error { m.StartPod("pod"); return nil }
		case "node-ready", "rollback-restarted", "system-images", "system-pods-start", "trust", "namespaces", "console-certificate", "console-proxy", "console-answers", "registry-trust", "registry", "registry-announce":
			continue
		}
		all = append(all, st)
	}
	return all
}

// imageStep returns a step that imports an image into a running containerd, after the check of the real step.
func (s *simulation) imageStep(st step.Step, env *action.Env, m *sim.Machine) step.Step {
	service, key := k0s.Service{Host: env.Host}, "image "+st.ID
	check := st.Check
	st.Check = func(ctx context.Context) (step.State, error) {
		atOnce, cancel := context.WithCancel(ctx)
		cancel() // there is no containerd to wait for
		if real, err := check(atOnce); err == nil && real.Kind == step.KindDone {
			return real, nil
		}
		if why, err := service.DownReason(ctx); err != nil || why != "" {
			return step.Unknown("k0s-start"), err
		}
		if _, ok := m.State[key]; ok {
			return step.Done(), nil
		}
		return step.Needed("it is not in containerd"), nil
	}
	st.Apply = func(ctx context.Context, _ step.Report) error {
		if why, err := service.DownReason(ctx); err != nil || why != "" {
			return errors.Join(err, errors.New(why))
		}
		m.State[key] = sim.Object{}
		return nil
	}
	return st
}

// clusterStep returns a step that changes the cluster, if the upgrade changes add-ons.
func (s *simulation) clusterStep(st step.Step, done func(context.Context) (bool, error), apply func(context.Context) error) step.Step {
	st.Check = func(ctx context.Context) (step.State, error) {
		ok, err := done(ctx)
		switch {
		case ok || !s.changes.addOns:
			return step.Done(), nil
		case err != nil:
			return step.Unknown("k0s-upgrade"), nil
		}
		return step.Needed("it has the old version"), nil
	}
	st.Apply = func(ctx context.Context, _ step.Report) error { return apply(ctx) }
	return st
}

// upgrade runs `plinth upgrade` from state and returns the state at its end.
func (s *simulation) upgrade(state sim.State, rules []failpoint.Rule, see observer) (sim.State, error) {
	env, m := s.newRun(Verb, state, rules, see)
	_, err := action.ExecuteLocked(s.t.Context(), env, s.operation(env, m))
	return m.State, err
}

// rollBack runs `plinth upgrade --rollback` from state and returns the state at its end.
func (s *simulation) rollBack(state sim.State, rules []failpoint.Rule, see observer) (sim.State, error) {
	env, m := s.newRun(RollbackVerb, state, rules, see)
	r := rollback{ask: true, simulate: s.rollbackSteps(m), records: fakeCluster{env: env}.records}
	_, err := action.ExecuteLocked(s.t.Context(), env, r.engineOperation())
	return m.State, err
}

// withoutTransient returns state for a comparison: also without imported images, the record in the cluster and, unless
// withSnapshot is set, the snapshot of an upgrade.
func withoutTransient(state sim.State, withSnapshot bool) sim.State {
	kept := sim.WithoutTransient(state, dataDir, func(key string) bool {
		return strings.HasPrefix(key, "image ") || !withSnapshot && (key == dataDir+"/upgrade" || strings.HasPrefix(key, dataDir+"/upgrade/")) ||
			strings.HasPrefix(key, "/proc/") && strings.HasSuffix(key, "/cgroup") || key == "/etc/systemd/system/k0scontroller.service.d"
	})
	var c clusterState
	if raw, ok := kept[etcdDB]; ok && json.Unmarshal([]byte(raw.Data), &c) == nil {
		c.Record = kube.UpgradeRecord{}
		text, _ := json.Marshal(c)
		kept[etcdDB] = sim.Object{Mode: raw.Mode, Data: string(text)}
	}
	return kept
}

// verifyRunning verifies that k0s and the agent run with the files that are on the host.
func (s *simulation) verifyRunning(history string, state sim.State) {
	for _, unit := range []string{k0s.ControllerUnit, node.AgentUnit} {
		running, ok := state["running "+unit]
		if want := state.ProgramOf(unit); !ok || running.Data != want {
			s.t.Errorf("%s: %s runs with earlier files, or not at all", history, unit)
		}
	}
}

// verifyUpgrade verifies that the same command finishes the upgrade from state.
func (s *simulation) verifyUpgrade(history string, state sim.State) {
	end, err := s.upgrade(state, nil, nil)
	if d := sim.Differences(withoutTransient(s.upgraded, false), withoutTransient(end, false)); err != nil || len(d) > 0 {
		s.t.Errorf("%s, then upgrade: %v\n%s", history, err, strings.Join(d, "\n"))
		return
	}
	s.verifyRunning(history+", then upgrade", end)
	if j := s.openJournal(end); unfinished(j) {
		s.t.Errorf("%s, then upgrade: the journal has an unfinished run", history)
	}
	again, err := s.upgrade(end, nil, func(moment string, _ sim.State) {
		if strings.HasPrefix(moment, "before ") {
			s.t.Errorf("%s, then upgrade, then again: not converged, %s", history, moment)
		}
	})
	if d := sim.Differences(end, again); err != nil || len(d) > 0 {
		s.t.Errorf("%s, then upgrade, then again: %v\n%s", history, err, strings.Join(d, "\n"))
	}
}

// verifyRollBack verifies that a rollback from state restores the host, unless there is nothing to roll back.
func (s *simulation) verifyRollBack(history string, state sim.State) {
	end, err := s.rollBack(state, nil, nil)
	if problem.ExitCode(err) == problem.ExitUsage {
		end = state // nothing to roll back: the state must be that before the upgrade
	} else if err != nil {
		s.t.Errorf("%s, then rollback: %v", history, err)
		return
	}
	if d := sim.Differences(withoutTransient(s.installed, false), withoutTransient(end, false)); len(d) > 0 {
		s.t.Errorf("%s, then rollback (%v):\n%s", history, err, strings.Join(d, "\n"))
		return
	}
	s.verifyRunning(history+", then rollback", end)
	if j := s.openJournal(end); err == nil && unfinished(j) {
		s.t.Errorf("%s, then rollback: the journal has an unfinished run", history)
	}
}

func (s *simulation) openJournal(state sim.State) *journal.Journal {
	j, err := journal.Open(sim.New(s.t, state).Host(), dataDir, sim.Now)
	testkit.Must(s.t, err)
	return j
}

func unfinished(j *journal.Journal) bool {
	runs := j.Runs()
	return len(runs) > 0 && runs[len(runs)-1].Unfinished()
}

// forEachChange runs do for upgrades that change only this host, and for one that changes the cluster.
func forEachChange(t *testing.T, do func(*testing.T, *simulation)) {
	for name, c := range map[string]changes{"programs": {programs: true}, "configuration": {config: true}, "arguments": {arguments: true}, "everything": {true, true, true, true}} {
		t.Run(name, func(t *testing.T) { do(t, newSimulation(t, c)) })
	}
}

// moments returns every state that a run of verb from state passes, each once.
func (s *simulation) moments(verb func(sim.State, []failpoint.Rule, observer) (sim.State, error), from sim.State) (names []string, states []sim.State) {
	var last sim.State
	_, err := verb(from, nil, func(moment string, left sim.State) {
		if last != nil && maps.Equal(last, left) {
			return
		}
		last = left
		names, states = append(names, moment), append(states, left)
	})
	if s.fail == "" {
		testkit.Must(s.t, err)
	} else if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "it fails") {
		s.t.Errorf("exit code %d, %v", problem.ExitCode(err), err)
	}
	return names, states
}

func TestSimulation_UpgradesAndRollsBack(t *testing.T) {
	forEachChange(t, func(t *testing.T, s *simulation) {
		if len(sim.Differences(withoutTransient(s.installed, true), withoutTransient(s.upgraded, true))) == 0 {
			t.Fatal("it changed nothing")
		}
		s.verifyRunning("upgrade", s.upgraded)
		s.verifyUpgrade("upgrade", s.upgraded)
		s.verifyRollBack("upgrade", s.upgraded)
	})
}

func TestSimulation_UpgradeRecoversFromAKillBeforeAnyChange(t *testing.T) {
	forEachChange(t, func(t *testing.T, s *simulation) {
		names, states := s.moments(s.upgrade, s.installed)
		for i, left := range states {
			s.verifyUpgrade(names[i], left)
			s.verifyRollBack(names[i], left)
		}
		t.Logf("%d states", len(states))
	})
}

func TestSimulation_RollbackRecoversFromAKillBeforeAnyChange(t *testing.T) {
	forEachChange(t, func(t *testing.T, s *simulation) {
		names, states := s.moments(s.rollBack, s.upgraded)
		for i, left := range states {
			s.verifyRollBack("rollback: "+names[i], left)
			s.verifyUpgrade("rollback: "+names[i], left)
		}
		t.Logf("%d states", len(states))
	})
}

// TestSimulation_RollsBackAfterAFailedStep lets each boundary of each step of an upgrade fail: the state before is
// restored by the same run, also if it is killed at any moment of that.
func TestSimulation_RollsBackAfterAFailedStep(t *testing.T) {
	forEachChange(t, func(t *testing.T, s *simulation) {
		failed := 0
		for _, p := range s.points {
			if p.Verb != Verb || slices.Contains([]failpoint.Phase{failpoint.Working, failpoint.Started}, p.Phase) || slices.Contains([]string{failpoint.Journal, failpoint.Receipt}, p.Object) {
				continue
			}
			rules := []failpoint.Rule{{Point: p, Nth: 1, Action: failpoint.Fail}}
			end, err := s.upgrade(s.installed, rules, nil)
			if err == nil {
				continue // the point was not reached
			}
			failed++
			if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "failpoint") {
				t.Errorf("%s: exit code %d, %v", p, problem.ExitCode(err), err)
			}
			if d := sim.Differences(withoutTransient(s.installed, false), withoutTransient(end, false)); len(d) > 0 {
				t.Errorf("%s: not rolled back: %v\n%s", p, err, strings.Join(d, "\n"))
				continue
			}
			s.verifyRunning(p.String(), end)
			s.verifyUpgrade(p.String(), end)
		}
		if failed < 20 {
			t.Errorf("only %d upgrades failed", failed)
		}
		t.Logf("%d upgrades failed on purpose", failed)
	})
}

// TestSimulation_KilledWhileItRollsBackByItself kills an upgrade whose step fails at any moment of the rollback that
// follows.
func TestSimulation_KilledWhileItRollsBackByItself(t *testing.T) {
	forEachChange(t, func(t *testing.T, s *simulation) {
		s.fail = plan.UpgradeK0sID
		if s.changes.addOns {
			s.fail = "console"
		}
		names, states := s.moments(s.upgrade, s.installed)
		s.fail = ""
		first := slices.IndexFunc(names, func(name string) bool { return strings.HasPrefix(name, RollbackVerb+"/") })
		if first < 0 {
			t.Fatal("it was not rolled back")
		}
		for i, left := range states[first:] {
			s.verifyRollBack(names[first+i], left)
			s.verifyUpgrade(names[first+i], left)
		}
		t.Logf("%d states", len(states)-first)
	})
}
