package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
	checks "github.com/plinthdev/plinth/internal/upgrade"
)

// clusterEnv returns the controller c1 of a cluster with c2 and w1, and the last upgrade that the cluster has recorded.
func clusterEnv(t *testing.T, record kube.UpgradeRecord) (*action.Env, *kube.Client) {
	t.Helper()
	env, client, _ := newClusterEnv(t, record)
	return env, client
}

// newClusterEnv is clusterEnv, with the API server.
func newClusterEnv(t *testing.T, record kube.UpgradeRecord) (*action.Env, *kube.Client, *kubetest.Server) {
	t.Helper()
	env := fakeEnv(t, journal.Receipt{Name: "my-app", Bundle: oldBundle, Node: "c1", Role: token.Controller}, "install", oldBundle, nil)
	api, client := kubetest.New(t)
	srv := httptest.NewServer(api)
	t.Cleanup(srv.Close)
	testkit.Must(t, env.Host.Write(k0s.AdminConf, strings.NewReader(fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"t",
		"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],"users":[{"name":"t","user":{}}],"clusters":[{"name":"t","cluster":{"server":%q}}]}`, srv.URL)), 0o600))
	kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "c1", Role: token.Controller, Address: "10.0.0.1"}, kube.NodeRecord{Node: "c2", Role: token.Controller, Address: "10.0.0.2"},
		kube.NodeRecord{Node: "w1", Role: token.Worker, Address: "10.0.0.3"})
	testkit.Must(t, client.UpdateUpgradeRecord(t.Context(), func(r *kube.UpgradeRecord) error { *r = record; return nil }))
	return env, client, api
}

// unreadableEnvs returns controllers whose nodes cannot be read, by the reason. Each has the snapshot s, unless that is zero,
// and an unfinished run of verb if verb is not empty.
func unreadableEnvs(t *testing.T, s plan.Snapshot, verb string) map[string]*action.Env {
	t.Helper()
	damaged, _, api := newClusterEnv(t, kube.UpgradeRecord{})
	api.Put("/api/v1/namespaces/kube-system/configmaps/plinth-upgrade", map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "plinth-upgrade"}, "data": map[string]any{"upgrade": "{"}})
	down := fakeEnv(t, journal.Receipt{Name: "my-app", Bundle: oldBundle, Node: "c1", Role: token.Controller}, "install", oldBundle, nil)
	envs := map[string]*action.Env{"the record is damaged": damaged, "the API server does not answer": down}
	for _, env := range envs {
		if s.To != "" {
			raw, err := json.Marshal(s)
			testkit.Must(t, err, env.Host.Write(plan.SnapshotDir(dataDir, s.From)+"/snapshot.json", strings.NewReader(string(raw)), 0o600))
		}
		if verb != "" {
			testkit.Must(t, env.Journal().BeginRun(verb, journal.Args{Bundle: newBundle, From: oldBundle}))
		}
	}
	return envs
}

// snapshots of the controller c1: of a cluster with one node, of one with three that c1 upgrades, and of one that another
// controller upgrades.
var (
	snapshotOfOne      = plan.Snapshot{Version: 1, Node: "c1", From: oldBundle, To: newBundle}
	snapshotOfThree    = plan.Snapshot{Version: 1, Node: "c1", From: oldBundle, To: newBundle, Others: []checks.Batch{{{Name: "c2", Controller: true}}, {{Name: "w1"}}}}
	snapshotOfFollower = plan.Snapshot{Version: 1, Node: "c1", From: oldBundle, To: newBundle, Follows: true}
)

func TestInspectNodes_NeverTakesAClusterThatCannotBeReadForOneNode(t *testing.T) {
	for name, c := range map[string]struct {
		snapshot plan.Snapshot
		resumed  bool
		from     string
		want     string // batches; "" if refused
	}{
		"an upgrade":                           {plan.Snapshot{}, false, oldBundle, ""},
		"with the snapshot of an earlier one":  {snapshotOfThree, false, oldBundle, ""},
		"resumed without a snapshot":           {plan.Snapshot{}, true, oldBundle, ""},
		"resumed where another one began it":   {snapshotOfFollower, true, oldBundle, ""},
		"resumed with several nodes":           {snapshotOfThree, true, oldBundle, "[[{c2  true}] [{w1  false}]]"},
		"resumed with one node":                {snapshotOfOne, true, oldBundle, "[]"},
		"a killed repair, which needs no data": {plan.Snapshot{}, true, newBundle, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			for why, env := range unreadableEnvs(t, c.snapshot, "") {
				o := operation{node: "c1", from: c.from, to: newBundle}
				o.readCluster(t.Context(), env)
				o.resumed = c.resumed
				err := o.inspectNodes(t.Context(), env)
				if refused := problem.ExitCode(err) == problem.ExitUsage; refused != (c.want == "") || !refused && (err != nil || fmt.Sprint(o.nodes.batches) != c.want) {
					t.Errorf("%s: %v, batches %v", why, err, o.nodes.batches)
				}
			}
		})
	}
}

func TestRollbackInspectNodes_RestoresEtcdOnlyOfASingleController(t *testing.T) {
	for name, c := range map[string]struct {
		snapshot  plan.Snapshot
		alone     bool
		want      string // batches; "" if refused
		keepsEtcd bool
	}{
		"one node":                            {snapshotOfOne, false, "[]", false},
		"several nodes":                       {snapshotOfThree, false, "[[{c2  true}] [{w1  false}]]", true},
		"only this one of several":            {snapshotOfThree, true, "[]", true},
		"another one coordinated the upgrade": {snapshotOfFollower, false, "", true},
		"the same, only this node":            {snapshotOfFollower, true, "[]", true},
	} {
		t.Run(name, func(t *testing.T) {
			for why, env := range unreadableEnvs(t, c.snapshot, Verb) {
				r := rollback{alone: c.alone, snapshot: c.snapshot, installed: desired.InstalledBundle{Installer: testInstaller(t)}}
				err := r.inspectNodes(t.Context(), env)
				if refused := problem.ExitCode(err) == problem.ExitUsage; refused != (c.want == "") || !refused && (err != nil || fmt.Sprint(r.nodes.batches) != c.want) {
					t.Errorf("%s: %v, batches %v", why, err, r.nodes.batches)
				}
				if r.keepsEtcd() != c.keepsEtcd {
					t.Errorf("%s: keeps etcd: %v", why, !c.keepsEtcd)
				}
			}
		})
	}
}

func TestCommitNodes_RefusesIfItCannotFindThem(t *testing.T) {
	for name, c := range map[string]struct {
		snapshot plan.Snapshot
		refused  bool
	}{
		"nothing to commit":                   {plan.Snapshot{}, false},
		"one node":                            {snapshotOfOne, false},
		"another one coordinated the upgrade": {snapshotOfFollower, true},
	} {
		t.Run(name, func(t *testing.T) {
			for why, env := range unreadableEnvs(t, c.snapshot, "") {
				steps, err := commitNodes(t.Context(), env)
				if refused := problem.ExitCode(err) == problem.ExitUsage; refused != c.refused || !refused && err != nil || len(steps) > 0 {
					t.Errorf("%s: %v, %d steps", why, err, len(steps))
				}
			}
		})
	}
}

func TestReadCluster_TakesOverTheSameUpgradeOfAnotherController(t *testing.T) {
	running := kube.UpgradeRecord{From: oldBundle, To: newBundle, Phase: kube.UpgradeNodes, Coordinator: "c2"}
	with := func(change func(*kube.UpgradeRecord)) kube.UpgradeRecord { r := running; change(&r); return r }
	for name, c := range map[string]struct {
		record kube.UpgradeRecord
		want   bool
	}{
		"of another controller":           {running, true},
		"being rolled back there":         {with(func(r *kube.UpgradeRecord) { r.Phase = kube.UpgradeRollingBack }), true},
		"of this one":                     {with(func(r *kube.UpgradeRecord) { r.Coordinator = "c1" }), false},
		"finished":                        {with(func(r *kube.UpgradeRecord) { r.Phase = kube.UpgradeDone }), false},
		"to another bundle":               {with(func(r *kube.UpgradeRecord) { r.To = "sha256:3" }), false},
		"a cluster that was not upgraded": {kube.UpgradeRecord{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			env, _ := clusterEnv(t, c.record)
			o := operation{node: "c1", to: newBundle}
			o.readCluster(t.Context(), env)
			if o.nodes.takeOver != c.want || o.resumed != c.want || len(o.nodes.all) != 3 || o.nodes.controllers() != 2 {
				t.Errorf("takes over %v, resumed %v, nodes %v", o.nodes.takeOver, o.resumed, o.nodes.all)
			}
		})
	}
	t.Run("its API server does not answer", func(t *testing.T) {
		o := operation{node: "c1", to: newBundle}
		o.readCluster(t.Context(), fakeEnv(t, journal.Receipt{}, Verb, newBundle, nil))
		if o.nodes.takeOver || o.nodes.all != nil {
			t.Errorf("%+v", o.nodes)
		}
	})
}

func TestLockCluster_RecordsTheNewCoordinator(t *testing.T) {
	running := kube.UpgradeRecord{From: oldBundle, To: newBundle, Phase: kube.UpgradeNodes, Coordinator: "c2", Nodes: map[string]kube.UpgradeNode{"w1": {State: kube.NodeUpgraded}}}
	for name, takeOver := range map[string]bool{"takes over": true, "does not": false} {
		t.Run(name, func(t *testing.T) {
			env, client := clusterEnv(t, running)
			c := plan.Cluster{Host: env.Host, NodeName: "c1", DataDir: dataDir, Now: env.Now}
			lock := plan.Upgrade(c, plan.Transition{From: oldBundle, To: newBundle, TakeOver: takeOver, Health: noHealth{},
				Records: func(context.Context) (plan.UpgradeRecords, error) { return client, nil }})[0]
			err := lock.Apply(t.Context(), nil)
			r, readErr := client.UpgradeRecord(t.Context())
			testkit.Must(t, readErr)
			if (err == nil) != takeOver || (r.Coordinator == "c1") != takeOver || r.Nodes["w1"].State != kube.NodeUpgraded {
				t.Errorf("%v, %+v", err, r)
			}
			if !takeOver && (problem.ExitCode(err) != problem.ExitLocked || !strings.Contains(err.Error(), "node c2")) {
				t.Errorf("the first upgrade is not named: %v", err)
			}
		})
	}
}

// fakeAgents answers for nodes by their address.
type fakeAgents map[string]agent.UpgradeState

func (f fakeAgents) State(_ context.Context, at netip.Addr) (agent.UpgradeState, error) {
	s, ok := f[at.String()]
	if !ok {
		return s, errors.New("no route to host")
	}
	return s, nil
}

func (f fakeAgents) Start(context.Context, netip.Addr, agent.UpgradeRequest) error { return nil }

func TestAskNodes_NamesThoseThatDoNotAnswer(t *testing.T) {
	nodes := []checks.Node{{Name: "c1", Address: "10.0.0.1"}, {Name: "c2", Address: "10.0.0.2"}, {Name: "w1", Address: "10.0.0.3"}}
	got := askNodes(t.Context(), fakeAgents{"10.0.0.2": {Installed: oldBundle, Program: "sha256:p", Busy: "reset"}}, nodes, "c1")
	if got[0].Unreachable != "" || got[1].Installed != oldBundle || got[1].Program != "sha256:p" || got[1].Busy != "reset" || got[2].Unreachable == "" {
		t.Errorf("%+v", got)
	}
}

func TestRollbackInspectNodes_RestoresWhatTheUpgradeReached(t *testing.T) {
	state := func(s kube.UpgradeNodeState) kube.UpgradeNode { return kube.UpgradeNode{State: s} }
	record := kube.UpgradeRecord{From: oldBundle, To: newBundle, Phase: kube.UpgradeNodes, Coordinator: "c1", Nodes: map[string]kube.UpgradeNode{"c2": state(kube.NodeUpgraded), "w1": state(kube.NodeDelivered)}}
	for name, c := range map[string]struct {
		node   string
		alone  bool
		change func(*kube.UpgradeRecord)
		want   string
	}{
		"on the coordinator":      {"c1", false, func(*kube.UpgradeRecord) {}, "[w1 c2]"},
		"on another controller":   {"c2", false, func(*kube.UpgradeRecord) {}, "[w1 c1]"},
		"a node that was skipped": {"c1", false, func(r *kube.UpgradeRecord) { r.SetNode("w1", state(kube.NodeSkipped)) }, "[c2]"},
		"only this node":          {"c1", true, func(*kube.UpgradeRecord) {}, "[]"},
		"of another upgrade":      {"c1", false, func(r *kube.UpgradeRecord) { r.To = "sha256:3" }, "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := record
			c.change(&changed)
			env, _ := clusterEnv(t, changed)
			r := rollback{alone: c.alone, snapshot: plan.Snapshot{Node: c.node, From: oldBundle, To: newBundle}, installed: desired.InstalledBundle{Installer: testInstaller(t)}}
			if c.alone {
				r.skip = []string{"w1"}
			}
			testkit.Must(t, r.inspectNodes(t.Context(), env))
			if fmt.Sprint(r.nodes.skip) != fmt.Sprint(r.skip) {
				t.Errorf("leaves %v out of its waits, want %v", r.nodes.skip, r.skip)
			}
			var names []string
			for _, n := range checks.Reversed(r.nodes.batches) {
				names = append(names, n.Name)
			}
			if fmt.Sprint(names) != c.want || !r.keepsEtcd() {
				t.Errorf("%v, keeps etcd: %v", names, r.keepsEtcd())
			}
		})
	}
}

func TestRollbackInspectNodes_LeavesOutNodes(t *testing.T) {
	upgraded := map[string]kube.UpgradeNode{"c2": {State: kube.NodeUpgraded}, "w1": {State: kube.NodeUpgraded}}
	record := kube.UpgradeRecord{From: oldBundle, To: newBundle, Phase: kube.UpgradeDone, Coordinator: "c1", Nodes: upgraded}
	for name, c := range map[string]struct {
		node string
		skip []string
		want string // nodes that are restored, or a part of the refusal
		exit int
	}{
		"a worker":              {"c1", []string{"w1"}, "[c2]", 0},
		"an unknown one":        {"c1", []string{"w9"}, "node w9", problem.ExitUsage},
		"this one":              {"c1", []string{"c1"}, "another controller", problem.ExitUsage},
		"a controller of two":   {"c1", []string{"c2"}, "etcd needs 2", problem.ExitPreflight},
		"the coordinator of it": {"c2", []string{"c1"}, "etcd needs 2", problem.ExitPreflight},
	} {
		t.Run(name, func(t *testing.T) {
			env, _ := clusterEnv(t, record)
			r := rollback{skip: c.skip, snapshot: plan.Snapshot{Node: c.node, From: oldBundle, To: newBundle}, installed: desired.InstalledBundle{Installer: testInstaller(t)}}
			err := r.inspectNodes(t.Context(), env)
			if problem.ExitCode(err) != c.exit || err != nil && !strings.Contains(err.Error()+problem.Hint(err), c.want) {
				t.Fatalf("%v", err)
			}
			var names []string
			for _, n := range checks.Reversed(r.nodes.batches) {
				names = append(names, n.Name)
			}
			if err == nil && (fmt.Sprint(names) != c.want || fmt.Sprint(r.nodes.skip) != fmt.Sprint(c.skip)) {
				t.Errorf("%v, skipped %v", names, r.nodes.skip)
			}
		})
	}
	t.Run("without reading the cluster", func(t *testing.T) {
		for why, env := range unreadableEnvs(t, snapshotOfThree, Verb) {
			r := rollback{skip: []string{"w1"}, snapshot: snapshotOfThree, installed: desired.InstalledBundle{Installer: testInstaller(t)}}
			if err := r.inspectNodes(t.Context(), env); err != nil || fmt.Sprint(r.nodes.batches) != "[[{c2  true}]]" {
				t.Errorf("%s: %v, %v", why, r.nodes.batches, err)
			}
		}
	})
}

func TestRollbackInspectNodes_FindsTheCoordinatorOfTheUpgradeAgain(t *testing.T) {
	env, client := clusterEnv(t, kube.UpgradeRecord{From: oldBundle, To: newBundle, Phase: kube.UpgradeDone, Coordinator: "c1",
		Nodes: map[string]kube.UpgradeNode{"c2": {State: kube.NodeUpgraded}, "w1": {State: kube.NodeUpgraded}}})
	restored := func() string {
		t.Helper()
		r := rollback{snapshot: plan.Snapshot{Node: "c2", From: oldBundle, To: newBundle}, installed: desired.InstalledBundle{Installer: testInstaller(t)}}
		testkit.Must(t, r.inspectNodes(t.Context(), env))
		return fmt.Sprint(r.nodes.batches)
	}
	before := restored()
	lock := plan.Rollback(plan.Cluster{Host: env.Host, NodeName: "c2", DataDir: dataDir, Now: env.Now, K0s: k0s.Service{Host: env.Host}}, plan.Reversal{Snapshot: plan.Snapshot{From: oldBundle, To: newBundle},
		Health: noHealth{}, Others: plan.OtherNodes{Batches: []checks.Batch{{{Name: "c1"}}}}, Records: func(context.Context) (plan.UpgradeRecords, error) { return client, nil }})[0]
	testkit.Must(t, lock.Apply(t.Context(), nil)) // and is killed then
	if after := restored(); after != before || !strings.Contains(after, "{c1 ") {
		t.Errorf("%s, before %s", after, before)
	}
}

func TestRollbackSteps_RecordNodesThatAreLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		batches []checks.Batch
		skipped []string
		phase   kube.UpgradePhase // of a rollback that was killed
		done    bool
	}{
		"besides others":          {[]checks.Batch{{{Name: "c2"}}}, []string{"w1"}, kube.UpgradeDone, false},
		"the only other one":      {nil, []string{"w1"}, kube.UpgradeDone, false},
		"added to a resumed run":  {nil, []string{"w1"}, kube.UpgradeRollingBack, false},
		"none, and it is resumed": {[]checks.Batch{{{Name: "c2"}}}, nil, kube.UpgradeRollingBack, true},
	} {
		t.Run(name, func(t *testing.T) {
			env, client := clusterEnv(t, kube.UpgradeRecord{From: oldBundle, To: newBundle, Phase: c.phase, Coordinator: "c1", Nodes: map[string]kube.UpgradeNode{"w1": {State: kube.NodeUpgraded}}})
			r := plan.Reversal{Snapshot: plan.Snapshot{From: oldBundle, To: newBundle}, Health: noHealth{}, Others: plan.OtherNodes{Batches: c.batches, Skipped: c.skipped},
				Records: func(context.Context) (plan.UpgradeRecords, error) { return client, nil }}
			lock := plan.Rollback(plan.Cluster{Host: env.Host, NodeName: "c1", DataDir: dataDir, Now: env.Now, K0s: k0s.Service{Host: env.Host}}, r)[0]
			if lock.ID != "rollback-lock" {
				t.Fatal(lock.ID)
			}
			st, err := lock.Check(t.Context())
			testkit.Must(t, err)
			if done := st.Kind == step.KindDone; done != c.done {
				t.Errorf("done: %v", done)
			}
			testkit.Must(t, lock.Apply(t.Context(), nil))
			record, err := client.UpgradeRecord(t.Context())
			if skipped := record.Nodes["w1"].State == kube.NodeSkipped; err != nil || skipped != (c.skipped != nil) || record.Phase != kube.UpgradeRollingBack {
				t.Errorf("%+v, %v", record, err)
			}
		})
	}
}

func TestFindReached_IsDecidedOnce(t *testing.T) {
	done := kube.UpgradeRecord{From: oldBundle, To: newBundle, Phase: kube.UpgradeDone, Coordinator: "c2"}
	was := journal.Receipt{Versions: map[string]string{"kotsadm": "1.130.9"}}
	for name, c := range map[string]struct {
		record kube.UpgradeRecord
		kots   string
		begun  []string // Restores of an unfinished rollback; nil for none
		want   string
	}{
		"another controller upgraded the console": {done, "1.131.2", nil, "[add-ons console]"},
		"it has the same version":                 {done, "1.130.9", nil, "[add-ons]"},
		"only nodes were upgraded":                {kube.UpgradeRecord{To: newBundle, Phase: kube.UpgradeNodes, Coordinator: "c2"}, "1.131.2", nil, "[]"},
		"this one did, and its journal says it":   {kube.UpgradeRecord{To: newBundle, Phase: kube.UpgradeDone, Coordinator: "c1"}, "1.131.2", nil, "[]"},
		"a rollback is resumed": {kube.UpgradeRecord{To: newBundle, Phase: kube.UpgradeRollingBack, Coordinator: "c1"}, "1.130.9",
			[]string{restoresAddOns, restoresConsole}, "[add-ons console]"},
	} {
		t.Run(name, func(t *testing.T) {
			env := fakeEnv(t, was, "install", oldBundle, nil)
			if c.begun != nil {
				testkit.Must(t, env.Journal().BeginRun(RollbackVerb, journal.Args{Bundle: newBundle, Restores: c.begun}))
			}
			r := rollback{receipt: was, snapshot: plan.Snapshot{Node: "c1", To: newBundle}, nodes: clusterNodes{record: c.record}}
			r.findReached(env, checks.Versions{"kotsadm": c.kots})
			if got := fmt.Sprint(r.restores()); got != c.want {
				t.Error(got)
			}
		})
	}
}

func TestRollBack_StopsOnceAnotherNodeHasTheNewVersion(t *testing.T) {
	env, client := clusterEnv(t, kube.UpgradeRecord{From: oldBundle, To: newBundle, Phase: kube.UpgradeNodes, Coordinator: "c1", Nodes: map[string]kube.UpgradeNode{"c2": {State: kube.NodeUpgraded}}})
	testkit.Must(t, env.Host.Write(plan.SnapshotDir(dataDir, oldBundle)+"/snapshot.json", strings.NewReader(`{"version":1,"from":"`+oldBundle+`","to":"`+newBundle+`"}`), 0o600))
	o := operation{node: "c1", from: oldBundle, to: newBundle, nodes: clusterNodes{batches: []checks.Batch{{{Name: "c2"}}}}}
	o.nodes.record, _ = client.UpgradeRecord(t.Context())
	err := o.rollBack(t.Context(), env, problem.Newf(problem.ExitStep, "upgrade worker w1", "", "node w1: k0s does not start"))
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(problem.Hint(err), "--rollback") || o.rolledBack {
		t.Errorf("%v", err)
	}
	if r, _ := client.UpgradeRecord(t.Context()); !r.Active() || !strings.Contains(r.Why, "node w1") {
		t.Errorf("%+v", r)
	}
}

// An upgrade that fails before it has saved anything has changed nothing. It must not end that of another controller.
func TestRollBack_EndsOnlyTheUpgradeOfThisNode(t *testing.T) {
	step := problem.Newf(problem.ExitStep, "record the upgrade", "", "no answer")
	locked := problem.Newf(problem.ExitLocked, "record the upgrade", "wait", "another one runs")
	for name, c := range map[string]struct {
		coordinator string
		failed      error
		ended       bool
		exit        int
	}{
		"of this node":                   {"c1", step, true, problem.ExitStep},
		"of another one":                 {"c2", step, false, problem.ExitStep},
		"of another one, which has won":  {"c2", locked, false, problem.ExitLocked},
		"of this node, and c2 has begun": {"c1", locked, false, problem.ExitLocked},
	} {
		t.Run(name, func(t *testing.T) {
			env, client := clusterEnv(t, kube.UpgradeRecord{From: oldBundle, To: newBundle, Phase: kube.UpgradeStarted, Coordinator: c.coordinator})
			o := operation{node: "c1", from: oldBundle, to: newBundle}
			err := o.rollBack(t.Context(), env, c.failed)
			r, readErr := client.UpgradeRecord(t.Context())
			testkit.Must(t, readErr)
			if problem.ExitCode(err) != c.exit || r.Active() == c.ended {
				t.Errorf("%v, %+v", err, r)
			}
		})
	}
}

// A rollback on a node whose upgrade has failed before it had saved anything ends that upgrade, but not the same one that
// another node coordinates.
func TestRollback_WithoutASnapshotEndsOnlyTheUpgradeOfThisNode(t *testing.T) {
	for coordinator, ended := range map[string]bool{"c1": true, "c2": false} {
		t.Run(coordinator, func(t *testing.T) {
			env, client := clusterEnv(t, kube.UpgradeRecord{From: oldBundle, To: newBundle, Phase: kube.UpgradeNodes, Coordinator: coordinator})
			env.Events, env.Confirm = func(step.Event) {}, func(context.Context, string) error { return nil }
			testkit.Must(t, env.Journal().BeginRun(Verb, journal.Args{Bundle: newBundle, From: oldBundle}))
			r := rollback{ask: true, records: func(context.Context) (plan.UpgradeRecords, error) { return client, nil }}
			_, err := action.ExecuteLocked(t.Context(), env, r.engineOperation())
			record, readErr := client.UpgradeRecord(t.Context())
			testkit.Must(t, err, readErr)
			if record.Active() == ended {
				t.Errorf("%+v", record)
			}
		})
	}
}

func TestNoteDrains_NamesWhatADrainWaitsFor(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*operation)
		want   string
	}{
		"a worker is drained":              {func(*operation) {}, "warning: a PodDisruptionBudget allows no eviction now, so the drain waits: shop/web (1 healthy, 1 required)"},
		"another node is drained":          {func(o *operation) { o.nodes.batches = []checks.Batch{{{Name: "c2"}}} }, ""},
		"without drains":                   {func(o *operation) { o.opts.NoDrain = true }, ""},
		"a resumed upgrade has warned":     {func(o *operation) { o.resumed, o.saved = true, true }, ""},
		"a cluster of one node":            {func(o *operation) { o.nodes.batches = nil }, ""},
		"a repair restarts k0s under it":   {func(o *operation) { o.from = o.to }, ""},
		"the same command after a refusal": {func(o *operation) { o.resumed = true }, "warning: a PodDisruptionBudget"},
	} {
		t.Run(name, func(t *testing.T) {
			env, _, api := newClusterEnv(t, kube.UpgradeRecord{})
			labels := map[string]any{"app": "web"}
			owner := map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": true}
			api.Put("/api/v1/namespaces/shop/pods/web-1", map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": map[string]any{"nodeName": "w1"},
				"metadata": map[string]any{"name": "web-1", "namespace": "shop", "labels": labels, "ownerReferences": []any{owner}}})
			api.Put("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/web", map[string]any{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
				"metadata": map[string]any{"name": "web", "namespace": "shop"}, "spec": map[string]any{"selector": map[string]any{"matchLabels": labels}}, "status": map[string]any{"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0}})
			var notes []string
			env.Note = func(text string) { notes = append(notes, text) }
			o := operation{node: "c1", from: oldBundle, to: newBundle, nodes: clusterNodes{batches: []checks.Batch{{{Name: "c2"}}, {{Name: "w1"}}}}}
			c.change(&o)
			o.noteDrains(t.Context(), env)
			if got := strings.Join(notes, "; "); (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
				t.Errorf("%q", got)
			}
		})
	}
	t.Run("the API server does not answer", func(t *testing.T) {
		env := fakeEnv(t, journal.Receipt{}, "install", oldBundle, nil)
		var notes []string
		env.Note = func(text string) { notes = append(notes, text) }
		o := operation{node: "c1", from: oldBundle, to: newBundle, nodes: clusterNodes{batches: []checks.Batch{{{Name: "w1"}}}}}
		if o.noteDrains(t.Context(), env); len(notes) != 1 || !strings.Contains(notes[0], "was not checked") {
			t.Errorf("%q", notes)
		}
	})
}

// testInstaller returns the repository's Installer.
func testInstaller(t *testing.T) *spec.Installer {
	t.Helper()
	raw, err := os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatal(findings)
	}
	return in
}
