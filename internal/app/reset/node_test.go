package reset

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/app/reset/parting"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan/leave"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

func TestAClusterThatDoesNotLetANodeGoStopsItsReset(t *testing.T) {
	no := step.Step{ID: leave.LeaveID, Title: "Leave the cluster",
		Check: func(context.Context) (step.State, error) { return step.Needed("the cluster counts on w"), nil },
		Apply: func(context.Context, step.Report) error { return errors.New("no quorum") }}
	for _, force := range []bool{false, true} {
		a, _ := on(t, "/data/plinth")
		j, err := a.Journal()
		must(t, err)
		must(t, j.Begin("reset", nil))
		var res Result
		err = a.leave(t.Context(), a.Steps("reset", j), parting.Parting{Name: "w", Cluster: "my-app", Force: force, Steps: []step.Step{no}}, &res)
		switch {
		case force && (err != nil || len(res.Remains) != 1 || res.Node != "w"):
			t.Errorf("forced: %v, %+v", err, res)
		case !force && (problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "no quorum") || !strings.Contains(problem.Hint(err), "sudo plinth node remove w") || parting.Departed(j)):
			t.Errorf("%v (%s)", err, problem.Hint(err))
		}
	}
}

func TestAHostOutOfOrderIsToldWhatToDo(t *testing.T) {
	ask := func(t *testing.T, prepare func(a job, f *hosttest.Fake)) (Result, error) {
		a, f := on(t, "/data/plinth")
		if prepare != nil {
			prepare(a, f)
		}
		return a.node(t.Context(), NodeRequest{Request: Request{DryRun: true}})
	}
	if res, err := ask(t, nil); err != nil || res.Changed || res.Plan != nil {
		t.Errorf("nothing is installed: %+v, %v", res, err)
	}
	_, err := ask(t, func(a job, f *hosttest.Fake) { installed(t, a, f) })
	if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(problem.Hint(err), "reset cluster --cluster my-app") {
		t.Errorf("an install without an end: %v (%s)", err, problem.Hint(err))
	}
	res, err := ask(t, func(a job, _ *hosttest.Fake) {
		j, err := a.Journal()
		must(t, err)
		must(t, j.Begin("join", map[string]string{run.ArgName: "my-app"}))
		must(t, a.Host.Write(k0s.EtcdMember, strings.NewReader(""), 0o600))
	})
	if err != nil || len(res.Remains) != 1 || len(res.Plan) == 0 {
		t.Errorf("a join without an end: %+v, %v", res, err)
	}
	_, err = ask(t, func(a job, f *hosttest.Fake) {
		must(t, installed(t, a, f).Begin("install", map[string]string{run.ArgName: "my-app"}))
		must(t, journal.WriteReceipt(a.Host, a.DataDir, journal.Receipt{Name: "my-app", Node: "a"}))
		must(t, a.Host.Write(k0s.KubeletConf, strings.NewReader(kubeletConf), 0o600))
	})
	if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), "no other controller of the cluster answers") || !strings.Contains(problem.Hint(err), "plinth node remove a") {
		t.Errorf("a cluster that does not answer: %v (%s)", err, problem.Hint(err))
	}
}

// kubeletConf is a node's way to an API that nobody serves.
const kubeletConf = `{"apiVersion":"v1","kind":"Config","current-context":"x","clusters":[{"name":"x","cluster":{"server":"https://127.0.0.1:1","certificate-authority-data":"eA=="}}],
"contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],"users":[{"name":"x","user":{}}]}`
