package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/host/hosttest/sim"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
	checks "github.com/plinthdev/plinth/internal/upgrade"
)

// fakeEnv returns a host with the receipt, and the last run in its journal; a run that failed if failed.
func fakeEnv(t *testing.T, receipt journal.Receipt, verb, bundle string, failed error) *action.Env {
	t.Helper()
	env := &action.Env{Host: hosttest.New(t).Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: sim.Now, Note: func(string) {}}}
	j, err := env.OpenJournal()
	testkit.Must(t, err, j.BeginRun(verb, journal.Args{Bundle: bundle}), j.EndRun(failed), journal.WriteReceipt(env.Host, dataDir, receipt))
	return env
}

func TestIsNeeded_ForAnotherBundleOfTheSameProduct(t *testing.T) {
	var in spec.Installer
	in.Metadata.Name = "my-app"
	failed := problem.Newf(problem.ExitStep, "start k0s", "", "no memory")
	for name, c := range map[string]struct {
		receipt journal.Receipt
		verb    string
		failed  error
		want    bool
	}{
		"the same bundle":            {journal.Receipt{Name: "my-app", Bundle: "sha256:2"}, "install", nil, false},
		"another bundle":             {journal.Receipt{Name: "my-app", Bundle: "sha256:1"}, "install", nil, true},
		"another product":            {journal.Receipt{Name: "other", Bundle: "sha256:1"}, "install", nil, false},
		"a worker":                   {journal.Receipt{Name: "my-app", Bundle: "sha256:1", Role: token.Worker}, "join", nil, false},
		"an upgrade at its very end": {journal.Receipt{Name: "my-app", Bundle: "sha256:2"}, Verb, failed, true},
		"a finished upgrade":         {journal.Receipt{Name: "my-app", Bundle: "sha256:2"}, Verb, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			env := fakeEnv(t, c.receipt, c.verb, "sha256:2", c.failed)
			if got, err := IsNeeded(env, "sha256:2", config.Config{Installer: &in}); err != nil || got != c.want {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestCheckRuns_RefusesWhileAnotherRunIsUnfinished(t *testing.T) {
	failed := problem.Newf(problem.ExitStep, "start k0s", "", "no memory")
	for name, c := range map[string]struct {
		verb, bundle string
		failed       error
		resumed      bool
		want         string // in the refusal; "" for none
	}{
		"all is finished":          {"install", "sha256:1", nil, false, ""},
		"the same upgrade":         {Verb, "sha256:2", failed, true, ""},
		"an upgrade to another":    {Verb, "sha256:3", failed, false, "the upgrade started at"},
		"a rollback":               {RollbackVerb, "sha256:2", failed, false, "the rollback started at"},
		"an install":               {"install", "sha256:1", failed, false, "the install started at"},
		"a finished other upgrade": {Verb, "sha256:3", nil, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			env := fakeEnv(t, journal.Receipt{Name: "my-app"}, c.verb, c.bundle, c.failed)
			o := operation{to: "sha256:2"}
			err := o.checkRuns(env)
			if o.resumed != c.resumed || (err == nil) != (c.want == "") || err != nil && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("resumed %v, %v", o.resumed, err)
			}
		})
	}
}

func TestCheckRecord_RefusesASecondUpgrade(t *testing.T) {
	for name, c := range map[string]struct {
		record kube.UpgradeRecord
		exit   int
	}{
		"none":               {kube.UpgradeRecord{}, 0},
		"finished":           {kube.UpgradeRecord{To: "sha256:3", Phase: kube.UpgradeDone}, 0},
		"rolled back":        {kube.UpgradeRecord{To: "sha256:3", Phase: kube.UpgradeRolledBack}, 0},
		"the same":           {kube.UpgradeRecord{To: "sha256:2", Phase: kube.UpgradeNodes}, 0},
		"another is running": {kube.UpgradeRecord{To: "sha256:3", Phase: kube.UpgradeNodes, Coordinator: "n7"}, problem.ExitLocked},
	} {
		t.Run(name, func(t *testing.T) {
			_, client := kubetest.New(t)
			testkit.Must(t, client.UpdateUpgradeRecord(t.Context(), func(r *kube.UpgradeRecord) error { *r = c.record; return nil }))
			o := operation{to: "sha256:2"}
			err := o.checkRecord(t.Context(), client)
			if problem.ExitCode(err) != c.exit || c.exit != 0 && !strings.Contains(err.Error(), "node n7") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestUpgradeSteps_AreThoseSinceTheLastRollback(t *testing.T) {
	env := fakeEnv(t, journal.Receipt{}, "install", "sha256:1", nil)
	j := env.Journal()
	begin := func(verb string, steps ...string) {
		t.Helper()
		testkit.Must(t, j.BeginRun(verb, journal.Args{Bundle: newBundle, From: oldBundle}))
		for _, id := range steps {
			testkit.Must(t, j.BeginStep(id, nil), j.EndStep(id, nil))
		}
		testkit.Must(t, j.EndRun(nil))
	}
	begin(Verb, "snapshot-files", "console")
	begin(RollbackVerb, "rollback-files")
	begin(Verb, "snapshot-files", "k0s-upgrade")
	begin(Verb, "agent")
	s := plan.Snapshot{From: oldBundle, To: newBundle}
	if got := strings.Join(upgradeSteps(j, s), " "); got != "snapshot-files k0s-upgrade agent" {
		t.Errorf("%q", got)
	}
}

func TestVerifyPlan_DependsOnWhatIsDoneWithOtherNodes(t *testing.T) {
	facts := func(noDrain bool, batches ...checks.Batch) string {
		o := operation{opts: Options{NoDrain: noDrain}, facts: map[string]string{"host name": "c1"}, from: oldBundle, to: newBundle, nodes: clusterNodes{batches: batches}}
		found := o.planFacts()
		if len(o.facts) != 1 {
			t.Error("the facts of the host were changed")
		}
		return fmt.Sprint(found)
	}
	c2, w1 := checks.Batch{{Name: "c2"}}, checks.Batch{{Name: "w1"}}
	drained := facts(false, c2, w1)
	for name, other := range map[string]string{"without a drain": facts(true, c2, w1), "another order": facts(false, w1, c2), "fewer nodes": facts(false, c2)} {
		t.Run(name, func(t *testing.T) {
			if other == drained {
				t.Errorf("the same plan: %s", other)
			}
		})
	}
	if one := facts(false); one != facts(true) {
		t.Errorf("one node, which is never drained: %s", one)
	}
}

// A run that has failed before it had saved anything has left only its record. A node with such a run has to check and
// fetch like the others, also if another controller upgrades it.
func TestHasBegun_OnlyOnceSomethingCanHaveChanged(t *testing.T) {
	failed := problem.Newf(problem.ExitStep, "record the upgrade", "", "no answer")
	for name, c := range map[string]struct {
		verb     string
		snapshot *plan.Snapshot
		takeOver bool
		from     string
		want     bool
	}{
		"a new upgrade":                 {"install", nil, false, oldBundle, false},
		"failed before anything":        {Verb, nil, false, oldBundle, false},
		"failed while it saved files":   {Verb, &plan.Snapshot{Version: 1, From: oldBundle, To: newBundle}, false, oldBundle, false},
		"failed after that":             {Verb, &plan.Snapshot{Version: 1, From: oldBundle, To: newBundle, Data: &plan.SnapshotData{}}, false, oldBundle, true},
		"the snapshot of another one":   {Verb, &plan.Snapshot{Version: 1, From: "sha256:0", To: oldBundle, Data: &plan.SnapshotData{}}, false, oldBundle, false},
		"finishes that of another node": {Verb, nil, true, oldBundle, true},
		"a repair, which saves nothing": {Verb, nil, false, newBundle, true},
	} {
		t.Run(name, func(t *testing.T) {
			receipt := journal.Receipt{Name: "my-app", Bundle: c.from}
			env := fakeEnv(t, receipt, c.verb, newBundle, failed)
			if c.verb != Verb {
				env = fakeEnv(t, receipt, c.verb, oldBundle, nil)
			}
			if c.snapshot != nil {
				raw, err := json.Marshal(c.snapshot)
				testkit.Must(t, err, env.Host.Write(plan.SnapshotDir(dataDir, c.snapshot.From)+"/snapshot.json", strings.NewReader(string(raw)), 0o600))
			}
			o := operation{to: newBundle, receipt: receipt, nodes: clusterNodes{takeOver: c.takeOver}}
			testkit.Must(t, o.checkRuns(env))
			_, err := o.findFrom(env)
			testkit.Must(t, err)
			if o.hasBegun() != c.want {
				t.Errorf("resumed %v, saved %v, from %s", o.resumed, o.saved, o.from)
			}
		})
	}
}

func TestCheckBundle_AppliesTheGateToEveryApplication(t *testing.T) {
	const installed = "1.131.2" // that of the repository's Installer
	apps := func(min, target string) []*spec.Application {
		return []*spec.Application{{Title: "Toy", MinKotsVersion: min, TargetKotsVersion: target}}
	}
	for name, c := range map[string]struct {
		own, given []*spec.Application
		skip       bool
		exit       int
		note       string
	}{
		"no Application":            {nil, nil, false, 0, ""},
		"that of the bundle":        {apps("1.132.0", ""), nil, false, problem.ExitGate, ""},
		"the given one":             {apps(installed, ""), apps("1.132.0", ""), false, problem.ExitGate, ""},
		"the given one, skipped":    {apps(installed, ""), apps("1.132.0", ""), true, 0, "the KOTS version gate was skipped on request"},
		"a target below":            {apps("", "1.130.9"), nil, false, 0, "note: KOTS 1.131.2 is later than the targetKotsVersion of Toy, 1.130.9"},
		"a target of the given one": {nil, apps("", "1.130.9"), false, 0, "note: KOTS 1.131.2 is later"},
		"both allow this version":   {apps(installed, installed), apps(installed, ""), false, 0, ""},
		"bounds that were not read": {apps(installed, ""), []*spec.Application{{File: "wrong.yaml"}}, true, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			env := fakeEnv(t, journal.Receipt{Name: "my-app", Bundle: oldBundle}, "install", oldBundle, nil)
			var notes []string
			env.Note = func(text string) { notes = append(notes, text) }
			b, _ := served(t, 1, nil)
			bundle, err := b.open(t.Context())
			testkit.Must(t, err)
			in := testInstaller(t)
			o := operation{installed: in, bundle: bundle, from: oldBundle, to: newBundle, config: config.Config{Installer: in, Conflicting: c.given}}
			o.config.LintReport.Applications, o.opts.SkipKotsCheck = c.own, c.skip
			err = o.checkBundle(env)
			if got := strings.Join(notes, "\n"); problem.ExitCode(err) != c.exit || (got == "") != (c.note == "") || !strings.Contains(got, c.note) {
				t.Errorf("%v, notes %q", err, got)
			}
		})
	}
}

func TestWithHint_KeepsTheNameOfTheNode(t *testing.T) {
	onNode := problem.Newf(problem.ExitStep, "upgrade this node", "look there", "k0s does not start")
	for name, c := range map[string]struct {
		failed     error
		want, hint string
	}{
		"of this host":              {problem.Newf(problem.ExitStep, "start k0s", "", "no memory"), "cannot start k0s: no memory", "more"},
		"as the journal returns it": {errors.Join(problem.Newf(problem.ExitStep, "start k0s", "", "no memory"), nil), "cannot start k0s: no memory", "more"},
		"of another node": {errors.Join(fmt.Errorf("node w1: %w", &undoneError{onNode}), nil),
			"cannot upgrade: node w1: cannot upgrade this node: k0s does not start", "look there\nmore"},
		"without a problem":           {errors.New("no memory"), "cannot upgrade: no memory", "more"},
		"of a node, in the same word": {&undoneError{onNode}, "cannot upgrade this node: k0s does not start", "look there\nmore"},
	} {
		t.Run(name, func(t *testing.T) {
			err := withHint(c.failed, "more")
			if err.Error() != c.want || problem.Hint(err) != c.hint || problem.ExitCode(err) != problem.ExitStep {
				t.Errorf("%q, hint %q", err, problem.Hint(err))
			}
		})
	}
}
