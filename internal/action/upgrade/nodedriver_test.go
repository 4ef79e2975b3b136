package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	checks "github.com/plinthdev/plinth/internal/upgrade"
)

// simNode is a node other than the coordinator. Its phases continue by themselves.
type simNode struct {
	checks.Node
	state    agent.UpgradeState
	polls    int  // until the phase ends
	sick     bool // the cluster is not healthy once it runs the new version
	breaks   bool // it cannot run the new version, and restores the old one
	off      int  // phases that are killed
	fetched  bool // it has the Plinth that upgrades it
	cordoned bool
}

// end ends the phase of the node.
func (n *simNode) end(from, to string) {
	n.state.Running = false
	if n.off > 0 {
		n.off--
		return
	}
	n.state.Ended = time.Unix(1, 0)
	switch n.state.Phase {
	case agent.UpgradeProgram:
		n.fetched = true
	case agent.UpgradeDeliver:
		n.state.Snapshot = to
	case agent.UpgradeSwitch:
		if n.breaks {
			n.state.Failed, n.state.Exit, n.state.Undone, n.state.Snapshot = "k0s does not start", problem.ExitStep, true, ""
			return
		}
		n.state.Installed, n.state.Program = to, simProgram
	case agent.UpgradeRollback:
		n.state.Installed, n.state.Snapshot = from, ""
	case agent.UpgradeCommit:
		n.state.Snapshot = ""
	}
}

// simCluster is a cluster of several nodes. Every call of the coordinator is a moment at which it could be killed: from
// then on, no call has an effect.
type simCluster struct {
	t        *testing.T
	mu       sync.Mutex
	nodes    []*simNode
	saved    kube.UpgradeRecord
	calls    int
	killAt   int // 0 for never
	kill     context.CancelFunc
	dead     bool
	blocked  string // node that cannot be drained
	max      int    // workers at the same time
	switched []string
}

var errKilled = errors.New("the coordinator was killed")

func newSimCluster(t *testing.T) *simCluster {
	t.Helper()
	s := &simCluster{t: t, max: 2, saved: kube.UpgradeRecord{From: oldBundle, To: string(simTo), Phase: kube.UpgradeNodes, Coordinator: "c1"}}
	for i, n := range []checks.Node{{Name: "c2", Controller: true}, {Name: "c3", Controller: true}, {Name: "w1"}, {Name: "w2"}, {Name: "w3"}} {
		n.Address = fmt.Sprintf("10.0.0.%d", i+2)
		s.nodes = append(s.nodes, &simNode{Node: n, state: agent.UpgradeState{Node: n.Name, Installed: oldBundle}})
	}
	return s
}

var (
	simTo      = digest.FromString("new")
	simProgram = digest.FromString("the Plinth of the coordinator")
)

// call is one call of the coordinator. The caller holds the lock.
func (s *simCluster) call() error {
	if s.dead {
		return errKilled
	}
	if s.calls++; s.calls == s.killAt {
		s.dead = true
		s.kill()
		return errKilled
	}
	return nil
}

func (s *simCluster) find(name string) *simNode {
	i := slices.IndexFunc(s.nodes, func(n *simNode) bool { return n.Name == name || n.Address == name })
	return s.nodes[i]
}

func (s *simCluster) State(_ context.Context, at netip.Addr) (agent.UpgradeState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call(); err != nil {
		return agent.UpgradeState{}, err
	}
	n := s.find(at.String())
	if n.polls--; n.state.Running && n.polls <= 0 {
		n.end(oldBundle, simTo.String())
	}
	return n.state, nil
}

func (s *simCluster) Start(_ context.Context, at netip.Addr, q agent.UpgradeRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call(); err != nil {
		return err
	}
	n := s.find(at.String())
	if n.state.Running {
		if n.state.Phase == q.Phase {
			return nil
		}
		return &agent.BusyError{Reason: "it does something else"}
	}
	switch q.Phase {
	case agent.UpgradeCheck, agent.UpgradeDeliver, agent.UpgradeSwitch:
		if q.Program != simProgram || !n.fetched {
			s.t.Errorf("%s is to run the phase %s with the program %q before it has it", n.Name, q.Phase, q.Program)
		}
	}
	n.state.Phase, n.state.Bundle, n.state.Running, n.state.Failed, n.state.Undone, n.state.Ended, n.polls = q.Phase, q.Bundle, true, "", false, time.Time{}, 2
	if q.Phase == agent.UpgradeSwitch {
		s.checkSwitch(n)
	}
	return nil
}

// checkSwitch verifies that the cluster tolerates that k0s on n is restarted.
func (s *simCluster) checkSwitch(n *simNode) {
	s.switched = append(s.switched, n.Name)
	workers := 0
	for _, other := range s.nodes {
		switching := other.state.Running && other.state.Phase == agent.UpgradeSwitch
		switch {
		case other.state.Snapshot != simTo.String():
			s.t.Errorf("%s is switched before everything is delivered to %s", n.Name, other.Name)
		case other != n && switching && (n.Controller || other.Controller):
			s.t.Errorf("%s and %s are switched at the same time", n.Name, other.Name)
		case !n.Controller && other.Controller && other.state.Installed != simTo.String():
			s.t.Errorf("worker %s is switched before controller %s", n.Name, other.Name)
		case switching:
			workers++
		}
	}
	if workers > s.max {
		s.t.Errorf("%d workers are switched at the same time", workers)
	}
	if !n.cordoned {
		s.t.Errorf("%s is switched without being drained", n.Name)
	}
}

func (s *simCluster) UpgradeRecord(context.Context) (kube.UpgradeRecord, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved, s.call()
}

func (s *simCluster) UpdateUpgradeRecord(_ context.Context, change func(*kube.UpgradeRecord) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call(); err != nil {
		return err
	}
	return change(&s.saved)
}

func (s *simCluster) IsCordoned(_ context.Context, node string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(node).cordoned, s.call()
}

func (s *simCluster) SetSchedulable(_ context.Context, node string, allowed bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call(); err != nil {
		return err
	}
	s.find(node).cordoned = !allowed
	return nil
}

func (s *simCluster) Drain(_ context.Context, node string, _ step.Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if node == s.blocked {
		return errors.New("pod a/web cannot be evicted: the budget allows none")
	}
	return s.call()
}

func (s *simCluster) worse(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		if n.sick && n.state.Installed == simTo.String() {
			return "Deployment a/web is not Ready", nil
		}
	}
	return "", s.call()
}

// run runs the steps for other nodes, of an upgrade or of a rollback.
func (s *simCluster) run(verb string) error {
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	s.kill, s.dead = cancel, false
	o := &nodeDriver{from: oldBundle, to: simTo.String(), program: simProgram, agents: s, open: func() (clusterAPI, error) { return s, nil }, drain: true, now: time.Now,
		unready: func(context.Context) (string, error) { return "", nil }, worse: s.worse,
		limits: phaseLimits{poll: time.Millisecond, start: 10 * time.Second, deliver: 10 * time.Second, node: 10 * time.Second, ready: 10 * time.Second, sick: 20 * time.Millisecond}}
	var nodes []checks.Node
	for _, n := range s.nodes {
		nodes = append(nodes, n.Node)
	}
	all := plan.OtherNodes{Batches: checks.Batches(nodes, "c1", s.max), Agents: o}
	h := hosttest.New(s.t).Host()
	c := plan.Cluster{Host: h, DataDir: "/data", NodeName: "c1", K0s: k0s.Service{Host: h}, Now: time.Now}
	open := func(context.Context) (plan.UpgradeRecords, error) { return s, nil }
	var steps []step.Step
	switch verb {
	case Verb:
		steps = plan.Upgrade(c, plan.Transition{From: oldBundle, To: simTo.String(), Others: all, Records: open, Health: noHealth{}})
	case RollbackVerb:
		steps = plan.Rollback(c, plan.Reversal{Snapshot: plan.Snapshot{From: oldBundle, To: simTo.String()}, Others: all, Records: open, Health: noHealth{}})
	default:
		steps = plan.CommitNodes(all)
	}
	steps = slices.DeleteFunc(steps, func(st step.Step) bool {
		return !strings.Contains(st.ID, "node-") && !strings.HasPrefix(st.ID, "nodes-") || st.ID == "node-ready"
	})
	_, err := (step.Runner{Verb: verb, Now: time.Now}).Run(ctx, steps)
	return err
}

type noHealth struct{}

func (noHealth) Gather(context.Context) (json.RawMessage, error)          { return nil, nil }
func (noHealth) Worse(context.Context, json.RawMessage) ([]string, error) { return nil, nil }

// finishPhases lets the phases end that nodes still run.
func (s *simCluster) finishPhases() {
	for _, n := range s.nodes {
		if n.state.Running {
			n.end(oldBundle, simTo.String())
		}
	}
}

// verify verifies that all nodes have a bundle, and that none is left cordoned.
func (s *simCluster) verify(history, bundle string, state kube.UpgradeNodeState) {
	s.t.Helper()
	for _, n := range s.nodes {
		if n.state.Installed != bundle || n.cordoned || n.state.Running {
			s.t.Errorf("%s: %s has %.12s, cordoned %v, running %v", history, n.Name, n.state.Installed, n.cordoned, n.state.Running)
		}
		if got := s.saved.Nodes[n.Name].State; state != "" && got != state {
			s.t.Errorf("%s: the record of %s is %q", history, n.Name, got)
		}
	}
}

func TestAdoptCoordinator_UncordonsItself(t *testing.T) {
	s := newSimCluster(t)
	o := &nodeDriver{from: oldBundle, to: simTo.String(), agents: s, open: func() (clusterAPI, error) { return s, nil }, now: time.Now}
	for name, cordoned := range map[string]bool{"by the upgrade": true, "by the administrator": false} {
		t.Run(name, func(t *testing.T) {
			n := s.find("c2")
			n.cordoned = true
			s.saved.SetNode("c2", kube.UpgradeNode{State: kube.NodeUpgrading, Cordoned: cordoned})
			if err := o.AdoptCoordinator(t.Context(), "c2"); err != nil {
				t.Fatal(err)
			}
			if _, known := s.saved.Nodes["c2"]; known || n.cordoned == cordoned {
				t.Errorf("recorded %v, cordoned %v", known, n.cordoned)
			}
		})
	}
}

func TestNodeDriver_UpgradeInOrderAndBack(t *testing.T) {
	s := newSimCluster(t)
	s.saved.Why = "node c2: k0s did not start" // an earlier run has stopped
	if err := s.run(Verb); err != nil {
		t.Fatal(err)
	}
	s.verify("upgrade", simTo.String(), kube.NodeUpgraded)
	if s.saved.Why != "" {
		t.Errorf("the record still says why it stopped: %s", s.saved.Why)
	}
	if slices.Sort(s.switched[2:4]); fmt.Sprint(s.switched) != "[c2 c3 w1 w2 w3]" || s.saved.Phase != kube.UpgradeAddOns {
		t.Errorf("%v, phase %s", s.switched, s.saved.Phase)
	}
	calls := s.calls
	if err := s.run(Verb); err != nil || len(s.switched) != 5 {
		t.Errorf("again: %v %v, %d calls", s.switched, err, s.calls-calls)
	}
	if err := s.run("commit"); err != nil || s.find("w1").state.Snapshot != "" {
		t.Error(err)
	}
	s = newSimCluster(t)
	if err := errors.Join(s.run(Verb), s.run(RollbackVerb)); err != nil {
		t.Fatal(err)
	}
	s.verify("rollback", oldBundle, kube.NodeRolledBack)
}

func TestNodeDriver_KilledCoordinatorConverges(t *testing.T) {
	whole := newSimCluster(t)
	if err := whole.run(Verb); err != nil {
		t.Fatal(err)
	}
	for _, finishes := range []bool{true, false} { // the phases of the nodes, before the command is typed again
		for killAt := 1; killAt <= whole.calls; killAt++ {
			for _, next := range []string{Verb, RollbackVerb} {
				history := fmt.Sprintf("killed at call %d, phases end %v, then %s", killAt, finishes, next)
				s := newSimCluster(t)
				s.killAt = killAt
				if err := s.run(Verb); err == nil {
					continue // it needed fewer calls
				}
				if s.killAt = 0; finishes {
					s.finishPhases()
				}
				if err := s.run(next); err != nil {
					t.Errorf("%s: %v", history, err)
					continue
				}
				if next == Verb {
					s.verify(history, simTo.String(), kube.NodeUpgraded)
				} else {
					s.verify(history, oldBundle, "")
				}
			}
		}
	}
}

func TestNodeDriver_StopAtTheNodeThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		change    func(*simCluster)
		node      string
		state     kube.UpgradeNodeState
		want      string
		untouched []string // nodes that still run the old version
	}{
		"a controller that does not start": {func(s *simCluster) { s.find("c3").breaks = true }, "c3", kube.NodeRolledBack, "node c3: cannot upgrade this node: k0s does not start", []string{"c3", "w1", "w2", "w3"}},
		"a worker that does not start":     {func(s *simCluster) { s.find("w1").breaks = true }, "w1", kube.NodeRolledBack, "node w1", []string{"w1", "w3"}},
		"a sick cluster":                   {func(s *simCluster) { s.find("c2").sick = true }, "c2", kube.NodeRolledBack, "controller c2 was restored: waited", []string{"c2", "c3", "w1", "w2", "w3"}},
		"a pod that cannot be moved":       {func(s *simCluster) { s.blocked = "w3" }, "w3", kube.NodeDelivered, "pod a/web cannot be evicted", []string{"w3"}},
		"a node that is killed each time":  {func(s *simCluster) { s.find("c2").off = 9 }, "c2", kube.NodeDelivering, "it was killed 3 times", []string{"c2", "c3", "w1", "w2", "w3"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSimCluster(t)
			c.change(s)
			err := s.run(Verb)
			if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			if got := s.saved.Nodes[c.node]; got.State != c.state {
				t.Errorf("%+v", got)
			}
			if hint := problem.Hint(err); name == "a node that is killed each time" && hint != "inspect the log on node c2: sudo journalctl -u plinth-upgrade-node" {
				t.Error(hint)
			}
			for _, n := range s.nodes {
				if old := n.state.Installed == oldBundle; old != slices.Contains(c.untouched, n.Name) || n.cordoned {
					t.Errorf("%s runs the old version: %v; cordoned: %v", n.Name, old, n.cordoned)
				}
			}
		})
	}
}

func TestNodeDriver_PhaseThatIsKilledOnceIsStartedAgain(t *testing.T) {
	s := newSimCluster(t)
	s.find("w1").off, s.find("c2").off = 1, 2
	if err := s.run(Verb); err != nil {
		t.Error(err)
	}
	s.verify("power cuts", simTo.String(), kube.NodeUpgraded)
}

// A node that an upgrade has left out gets the new version by a repair, which has no record of its own.
func TestNodeDriver_RepairRecordsNodesThatWereLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		recorded bool
		to       string // of the record
		want     kube.UpgradeNode
	}{
		"left out by this upgrade": {true, simTo.String(), kube.UpgradeNode{State: kube.NodeUpgraded}},
		"left out by another one":  {true, "sha256:3", kube.UpgradeNode{State: kube.NodeSkipped, Cordoned: true}},
		"not recorded":             {false, simTo.String(), kube.UpgradeNode{}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSimCluster(t)
			n := s.find("w1")
			n.cordoned, n.fetched, n.state.Snapshot = true, true, simTo.String()
			s.nodes = []*simNode{n}
			s.saved.Phase, s.saved.To = kube.UpgradeDone, c.to
			if c.recorded {
				s.saved.SetNode("w1", kube.UpgradeNode{State: kube.NodeSkipped, Cordoned: true})
			}
			d := &nodeDriver{from: simTo.String(), to: simTo.String(), program: simProgram, agents: s, open: func() (clusterAPI, error) { return s, nil }, now: time.Now,
				unready: func(context.Context) (string, error) { return "", nil }, worse: s.worse,
				limits: phaseLimits{poll: time.Millisecond, start: 10 * time.Second, deliver: 10 * time.Second, node: 10 * time.Second, ready: 10 * time.Second, sick: 20 * time.Millisecond}}
			report := func(string, int64, int64) {}
			testkit.Must(t, d.Run(t.Context(), n.Node, plan.SwitchPhase, report), d.WaitHealthy(t.Context(), checks.Batch{n.Node}, report))
			got := s.saved.Nodes["w1"]
			got.Since = time.Time{}
			if got != c.want || n.cordoned != c.want.Cordoned && c.recorded {
				t.Errorf("%+v, cordoned %v", got, n.cordoned)
			}
		})
	}
}
