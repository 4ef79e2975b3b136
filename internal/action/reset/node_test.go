package reset

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"

	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
)

func TestLeaveCluster_StopsTheResetUnlessForced(t *testing.T) {
	no := step.Step{ID: plan.LeaveStepID, Title: "Leave the cluster",
		Check: func(context.Context) (step.State, error) { return step.Needed("w is still a member"), nil },
		Apply: func(context.Context, step.Report) error { return errors.New("no quorum") }}
	for name, force := range map[string]bool{"by default": false, "forced": true} {
		t.Run(name, func(t *testing.T) {
			o, _ := newOperation(t, "/data/plinth")
			j, err := o.OpenJournal()
			testkit.Must(t, err)
			testkit.Must(t, j.BeginRun("reset", journal.Args{}))
			r := operation{leave: LeavePlan{Name: "w", Cluster: "my-app", Force: force}}
			err = r.leaveCluster(t.Context(), o.Env, o.StepRunner("reset", j), []step.Step{no})
			switch {
			case force && (err != nil || len(r.res.FollowUp) != 1):
				t.Errorf("forced: %v, %+v", err, r.res)
			case !force && (problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "no quorum") || !strings.Contains(problem.Hint(err), "sudo plinth node remove w") || HasLeft(j)):
				t.Errorf("%v (%s)", err, problem.Hint(err))
			}
		})
	}
}

func TestResetNode_ExplainsWhatToDoOnAnIncompleteHost(t *testing.T) {
	reset := func(t *testing.T, prepare func(o resetHost, f *hosttest.Fake)) (Result, error) {
		o, f := newOperation(t, "/data/plinth")
		if prepare != nil {
			prepare(o, f)
		}
		return o.resetNode(t.Context(), NodeOptions{Options: Options{DryRun: true}})
	}
	t.Run("nothing is installed", func(t *testing.T) {
		if res, err := reset(t, nil); err != nil || res.Changed || res.Plan != nil {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("an install without an end", func(t *testing.T) {
		_, err := reset(t, func(o resetHost, f *hosttest.Fake) { installed(t, o, f) })
		if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(problem.Hint(err), "reset cluster --cluster my-app") {
			t.Errorf("%v (%s)", err, problem.Hint(err))
		}
	})
	t.Run("a join without an end", func(t *testing.T) {
		res, err := reset(t, func(o resetHost, _ *hosttest.Fake) {
			j, err := o.OpenJournal()
			testkit.Must(t, err)
			testkit.Must(t, j.BeginRun("join", journal.Args{Cluster: "my-app"}))
			testkit.Must(t, o.Host.Write(k0s.EtcdMemberDir, strings.NewReader(""), 0o600))
		})
		if err != nil || len(res.FollowUp) != 1 || len(res.Plan) == 0 {
			t.Errorf("%+v, %v", res, err)
		}
	})
	for name, prepare := range map[string]func(*testing.T, resetHost){
		"a cluster that does not answer": func(t *testing.T, o resetHost) {
			testkit.Must(t, newIssued(t, token.Controller).identity.Write(o.Host, o.DataDir))
		},
		"a node without its identity": func(*testing.T, resetHost) {},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := reset(t, func(o resetHost, f *hosttest.Fake) {
				testkit.Must(t, installed(t, o, f).BeginRun("install", journal.Args{Cluster: "my-app"}))
				testkit.Must(t, journal.WriteReceipt(o.Host, o.DataDir, journal.Receipt{Name: "my-app", Node: "a"}))
				testkit.Must(t, o.Host.Write(k0s.KubeletConf, strings.NewReader(kubeletConf), 0o600))
				prepare(t, o)
			})
			if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), "no other controller of the cluster answers") || !strings.Contains(problem.Hint(err), "plinth node remove a") {
				t.Errorf("%v (%s)", err, problem.Hint(err))
			}
		})
	}
}

// kubeletConf is the kubeconfig of a node for an API address without a server.
const kubeletConf = `{"apiVersion":"v1","kind":"Config","current-context":"x","clusters":[{"name":"x","cluster":{"server":"https://127.0.0.1:1","certificate-authority-data":"eA=="}}],
"contexts":[{"name":"x","context":{"cluster":"x","user":"x"}}],"users":[{"name":"x","user":{}}]}`

func TestOtherNodesWarning_NamesTheNodesThatStop(t *testing.T) {
	alone := nodes.ClusterView{Nodes: []nodes.Node{{Name: "a"}}}
	if got := otherNodesWarning(alone, "a"); got != "" {
		t.Errorf("a cluster of one host: %q", got)
	}
	both := nodes.ClusterView{Nodes: []nodes.Node{{Name: "a"}, {Name: "b"}, {Name: "c"}}}
	if got := otherNodesWarning(both, "a"); !strings.Contains(got, "other nodes, which may stop working: b, c;") {
		t.Errorf("%q", got)
	}
}
