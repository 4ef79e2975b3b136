package reset

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/testkit"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// newLeaveOperation returns a leaveOperation for a fake host.
func newLeaveOperation(t *testing.T) leaveOperation {
	t.Helper()
	return leaveOperation{&action.Env{Host: hosttest.New(t).Host(), GlobalOptions: action.GlobalOptions{DataDir: "/data/plinth", Now: time.Now, Note: func(string) {}, Events: func(step.Event) {}}}}
}

// members returns a cluster of nodes with these names; an upper-case name is a
// controller.
func members(names ...string) (v nodes.ClusterView) {
	for i, n := range names {
		role := nodes.Worker
		if strings.ToUpper(n) == n {
			role = nodes.Controller
		}
		v.Nodes = append(v.Nodes, nodes.Node{Name: strings.ToLower(n), Role: role, Addresses: []string{"10.0.0." + string(rune('1'+i))}})
	}
	return v
}

func TestCheckQuorum_RefusesTheLastControllerAndTheOnlyNode(t *testing.T) {
	for name, c := range map[string]struct {
		view nodes.ClusterView
		want string // in the error; "" for none
		hint string
	}{
		"the only node":                  {members("A"), "only node of the cluster my-app", "sudo plinth reset cluster --cluster my-app"},
		"the last controller":            {members("A", "b", "c"), "its other nodes (b, c)", "sudo plinth reset node on each of b, c"},
		"one of two controllers":         {members("A", "B"), "", ""},
		"a worker beside one controller": {members("a", "B"), "", ""},
		"a host that was removed":        {members("B", "c"), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkQuorum(LeavePlan{Name: "a", Cluster: "my-app"}, c.view)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want) || !strings.Contains(problem.Hint(err), c.hint) || !strings.Contains(problem.Hint(err), "nothing was changed")):
				t.Errorf("%v (%s)", err, problem.Hint(err))
			}
		})
	}
}

// fakePeers are other controllers that give these answers.
type fakePeers struct {
	farewell agent.LeaveCheck
	err      error
	left     []bool // the force flag of each call of Leave
}

func (c *fakePeers) CheckLeave(context.Context) (agent.LeaveCheck, error) { return c.farewell, c.err }

func (c *fakePeers) Leave(_ context.Context, force bool) error {
	c.left, c.farewell.Known = append(c.left, force), false
	return c.err
}

func TestQueryPeers_PlansByTheAnswerOfTheCluster(t *testing.T) {
	lost := agent.LeaveCheck{Known: true, Refused: []string{"the data of db is on this node alone"}}
	none := errors.New("10.0.0.2:9444: connection refused")
	for name, c := range map[string]struct {
		farewell agent.LeaveCheck
		err      error
		force    bool
		refused  string
		hint     string
		warns    string
		followUp string
		steps    int
	}{
		"no objection":      {farewell: agent.LeaveCheck{Known: true}, steps: 1},
		"a warning":         {farewell: agent.LeaveCheck{Known: true, Losses: []string{"1 controller is left"}}, warns: "1 controller is left", steps: 1},
		"data loss":         {farewell: lost, refused: "the data of db", hint: "--force"},
		"data loss, forced": {farewell: lost, force: true, warns: "the data of db", steps: 1},
		"already removed":   {farewell: agent.LeaveCheck{}, warns: "no longer a member of the cluster"},
		"no answer":         {err: none, refused: "connection refused", hint: "plinth node remove w"},
		"no answer, forced": {err: none, force: true, warns: "connection refused", followUp: "sudo plinth node remove w"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newLeaveOperation(t)
			peers := &fakePeers{farewell: c.farewell, err: c.err}
			p, err := o.queryPeers(t.Context(), LeavePlan{Name: "w", Cluster: "my-app", Force: c.force}, selfClient{peers, nil}, LeaveOptions{Force: c.force})
			if c.refused != "" {
				if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.refused) || !strings.Contains(problem.Hint(err), c.hint) {
					t.Errorf("%v (%s)", err, problem.Hint(err))
				}
				return
			}
			if err != nil || len(p.Steps) != c.steps || !strings.Contains(strings.Join(p.Warnings, "\n"), c.warns) || strings.Join(p.FollowUp, "\n") != c.followUp {
				t.Errorf("%+v, %v", p, err)
			}
			if c.steps > 0 {
				_, err := o.StepRunner("reset", nil).Run(t.Context(), p.Steps)
				testkit.Must(t, err)
				if len(peers.left) != 1 || peers.left[0] != c.force {
					t.Errorf("left %v", peers.left)
				}
			}
		})
	}
}

func TestNewLeavePlan_AsksNobodyOnceTheClusterHasRemovedTheHost(t *testing.T) {
	o := newLeaveOperation(t)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	ca, err := pki.NewCA("kubernetes-ca", now)
	testkit.Must(t, err)
	i, err := node.NewIdentity(now)
	testkit.Must(t, err)
	i, err = i.Issue(nodecert.Identity{Node: "w", UID: "first", Role: "worker", Address: "10.0.0.9"}, ca, now)
	testkit.Must(t, err)
	testkit.Must(t, i.Write(o.Host, o.DataDir))
	testkit.Must(t, node.Removal{Node: "w", UID: "first", By: "an administrator on c1", At: now}.Write(o.Host, o.DataDir))
	j, err := o.OpenJournal()
	testkit.Must(t, err)
	p, err := NewLeavePlan(t.Context(), o.Env, j, LeaveOptions{})
	if err != nil || len(p.Steps) != 0 || len(p.FollowUp) != 0 || !strings.Contains(strings.Join(p.Warnings, ""), "removed from the cluster by an administrator on c1") {
		t.Errorf("%+v %v", p, err)
	}
}

func TestHasLeft_ReportsALeaveSinceTheLastJoin(t *testing.T) {
	o := newLeaveOperation(t)
	j, err := o.OpenJournal()
	testkit.Must(t, err)
	testkit.Must(t, j.BeginRun("install", journal.Args{}))
	if HasLeft(j) {
		t.Error("it has never left")
	}
	testkit.Must(t, j.BeginRun("reset", LeavePlan{Name: "w", Peers: []string{"10.0.0.2"}}.JournalArgs("my-app")))
	testkit.Must(t, j.BeginStep(plan.LeaveStepID, nil))
	if HasLeft(j) {
		t.Error("it was killed before the step ended")
	}
	if got := o.knownPeers(j); len(got) != 1 || got[0] != "10.0.0.2" {
		t.Errorf("knows %q", got)
	}
	testkit.Must(t, j.EndStep(plan.LeaveStepID, nil))
	if !HasLeft(j) {
		t.Error("it has left")
	}
	testkit.Must(t, j.BeginRun("join", journal.Args{}))
	if HasLeft(j) {
		t.Error("it is a node again")
	}
}
