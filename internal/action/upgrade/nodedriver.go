package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	checks "github.com/plinthdev/plinth/internal/upgrade"
	"github.com/plinthdev/plinth/internal/wait"
)

// nodeAPI is the part of the agents of other nodes that an upgrade uses; agent.UpgradeClient implements it.
type nodeAPI interface {
	State(ctx context.Context, node netip.Addr) (agent.UpgradeState, error)
	Start(ctx context.Context, node netip.Addr, q agent.UpgradeRequest) error
}

// clusterAPI is the part of the Kubernetes API that an upgrade of other nodes uses.
type clusterAPI interface {
	plan.UpgradeRecords
	// IsCordoned reports whether no new pods are placed on a node.
	IsCordoned(ctx context.Context, node string) (bool, error)
	// SetSchedulable uncordons a node if allowed is true, and cordons it if not.
	SetSchedulable(ctx context.Context, node string, allowed bool) error
	// Drain moves the pods of a node to others, if there are any that can take them.
	Drain(ctx context.Context, node string, report step.Report) error
}

// nodeDriver upgrades the nodes besides the coordinator.
type nodeDriver struct {
	from, to string        // digests of the bundles
	program  digest.Digest // of the plinth executable that runs the phases; "" for that of each node
	agents   nodeAPI
	open     func() (clusterAPI, error) // for each use: the API server on this host is restarted meanwhile
	drain    bool                       // move pods before k0s is restarted
	now      func() time.Time
	unready  func(ctx context.Context) (string, error) // why no controller must be restarted now, or ""
	worse    func(ctx context.Context) (string, error) // what is worse than before the upgrade, or ""
	limits   phaseLimits

	mu sync.Mutex // of changes of the record: many nodes at the same time would only conflict
}

// phaseLimits are the times that other nodes get.
type phaseLimits struct {
	poll                       time.Duration // between two questions
	start                      time.Duration // until a phase can be started
	deliver, node, ready, sick time.Duration // for a delivery; for another phase; until controllers are ready; until the cluster is healthy
}

// defaultLimits: a delivery moves gigabytes, and a phase has steps with limits of their own.
var defaultLimits = phaseLimits{poll: time.Second, start: 3 * time.Minute, deliver: time.Hour, node: 30 * time.Minute, ready: 3 * time.Minute, sick: 5 * time.Minute}

var _ plan.NodeAgents = (*nodeDriver)(nil)

// address returns the address of a node's agent; the records of admitted nodes have a valid one.
func address(n checks.Node) netip.Addr {
	a, _ := netip.ParseAddr(n.Address)
	return a
}

// Needed returns why a phase has to run on a node, or "".
func (d *nodeDriver) Needed(ctx context.Context, n checks.Node, phase plan.NodePhase) (string, error) {
	st, err := d.agents.State(ctx, address(n))
	if err != nil {
		return "", fmt.Errorf("its agent does not answer: %w", err)
	}
	switch phase {
	case plan.DeliverPhase:
		q := agent.UpgradeRequest{Phase: agent.UpgradeDeliver, Bundle: digest.Digest(d.to)}
		began := st.Phase == agent.UpgradeSwitch && st.Bundle == q.Bundle
		if st.Installed == d.to || st.Snapshot == d.to && (st.Finished(q) || began) {
			return "", nil
		}
		return "it does not have the new version", nil
	case plan.SwitchPhase:
		if st.Installed != d.to || st.Running {
			return "it runs the old version", nil
		}
		return d.unfinished(ctx, n)
	case plan.RollbackPhase:
		if st.Installed == d.from && st.Snapshot != d.to && !st.Running {
			return "", nil
		}
		return "it has the new version, or a part of it", nil
	case plan.CommitPhase:
		if st.Snapshot == "" {
			return "", nil
		}
		return "it has a snapshot", nil
	}
	return "", fmt.Errorf("unknown phase %q", phase)
}

// unfinished returns why the switch of a node that runs the new version is not finished, or "".
func (d *nodeDriver) unfinished(ctx context.Context, n checks.Node) (string, error) {
	cluster, err := d.open()
	if err != nil {
		return "", err
	}
	r, err := cluster.UpgradeRecord(ctx)
	if err != nil || d.from == d.to || r.Nodes[n.Name].State == kube.NodeUpgraded {
		return "", err
	}
	return "whether the cluster is healthy with it is not known", nil
}

// Run runs a phase on a node and waits for its end.
func (d *nodeDriver) Run(ctx context.Context, n checks.Node, phase plan.NodePhase, report step.Report) error {
	report = prefixed(n, report)
	switch phase {
	case plan.DeliverPhase:
		return d.deliver(ctx, n, report)
	case plan.SwitchPhase:
		return d.switchNode(ctx, n, report)
	case plan.RollbackPhase:
		return d.rollBack(ctx, n, report)
	case plan.CommitPhase:
		return d.runPhase(ctx, n, agent.UpgradeCommit, report)
	}
	return fmt.Errorf("unknown phase %q", phase)
}

// prefixed returns report with the node's name.
func prefixed(n checks.Node, report step.Report) step.Report {
	return func(message string, done, total int64) { report(n.Name+": "+message, done, total) }
}

func (d *nodeDriver) deliver(ctx context.Context, n checks.Node, report step.Report) error {
	if err := d.record(ctx, n, kube.NodeDelivering, nil); err != nil {
		return err
	}
	if err := d.runPhase(ctx, n, agent.UpgradeDeliver, report); err != nil {
		return err
	}
	return d.record(ctx, n, kube.NodeDelivered, nil)
}

// switchNode lets a node run the new version. If that fails, the node has restored the version before.
func (d *nodeDriver) switchNode(ctx context.Context, n checks.Node, report step.Report) error {
	st, err := d.agents.State(ctx, address(n))
	if err == nil && st.Installed == d.to && !st.Running { // a killed run has done it
		return d.uncordon(ctx, n)
	}
	if n.Controller {
		if err := d.WaitReady(ctx, report); err != nil {
			return fmt.Errorf("node %s is not upgraded: %w", n.Name, err)
		}
	}
	if d.drain && !st.Running {
		if err := d.drainNode(ctx, n, report); err != nil {
			return err
		}
	}
	if err := d.record(ctx, n, kube.NodeUpgrading, nil); err != nil {
		return err
	}
	failed := d.runPhase(ctx, n, agent.UpgradeSwitch, report)
	if failed == nil {
		return d.uncordon(ctx, n)
	}
	if ctx.Err() != nil { // the node continues
		return failed
	}
	var undone *undoneError
	if !errors.As(failed, &undone) {
		return errors.Join(failed, d.record(ctx, n, kube.NodeFailed, failed))
	}
	return errors.Join(failed, d.uncordon(ctx, n), d.record(ctx, n, kube.NodeRolledBack, failed))
}

// drainNode cordons a node and moves its pods. A node that cannot be drained is uncordoned again.
func (d *nodeDriver) drainNode(ctx context.Context, n checks.Node, report step.Report) error {
	cluster, err := d.open()
	if err != nil {
		return err
	}
	cordoned, err := cluster.IsCordoned(ctx, n.Name)
	if err != nil {
		return err
	}
	if !cordoned { // recorded first: a run that is killed in between must not leave the node cordoned
		err = d.change(ctx, n, func(s *kube.UpgradeNode) { s.State, s.Why, s.Cordoned = kube.NodeDraining, "", true })
		if err == nil {
			err = cluster.SetSchedulable(ctx, n.Name, false)
		}
	}
	if err != nil {
		return err
	}
	report("moving its pods to other nodes", 0, 0)
	if err := cluster.Drain(ctx, n.Name, report); err != nil {
		if ctx.Err() != nil {
			return err
		}
		failed := fmt.Errorf("node %s is not upgraded, because its pods cannot be moved: %w", n.Name, err)
		return errors.Join(problem.New(problem.ExitStep, "drain node "+n.Name, failed, "fix the pod that is named, or use --no-drain: k0s is restarted under running pods then"),
			d.uncordon(ctx, n), d.record(ctx, n, kube.NodeDelivered, failed))
	}
	return nil
}

// uncordon lets pods be placed again on a node that the upgrade has cordoned.
func (d *nodeDriver) uncordon(ctx context.Context, n checks.Node) error {
	cluster, err := d.open()
	if err != nil {
		return err
	}
	r, err := cluster.UpgradeRecord(ctx)
	if err != nil || r.To != d.to || !r.Nodes[n.Name].Cordoned {
		return err
	}
	if err := cluster.SetSchedulable(ctx, n.Name, true); err != nil {
		return err
	}
	return d.change(ctx, n, func(s *kube.UpgradeNode) { s.Cordoned = false })
}

// AdoptCoordinator lets pods be placed again on this node, if another coordinator has cordoned it, and forgets what that has
// recorded of it: a coordinator upgrades itself.
func (d *nodeDriver) AdoptCoordinator(ctx context.Context, self string) error {
	if err := d.uncordon(ctx, checks.Node{Name: self}); err != nil {
		return err
	}
	cluster, err := d.open()
	if err != nil {
		return err
	}
	return cluster.UpdateUpgradeRecord(ctx, func(r *kube.UpgradeRecord) error {
		delete(r.Nodes, self)
		return nil
	})
}

// rollBack restores the state of a node before the upgrade.
func (d *nodeDriver) rollBack(ctx context.Context, n checks.Node, report step.Report) error {
	if err := d.record(ctx, n, kube.NodeRollingBack, nil); err != nil {
		return err
	}
	if err := d.runPhase(ctx, n, agent.UpgradeRollback, report); err != nil {
		err = problem.New(problem.ExitStep, "restore node "+n.Name, err, "repair the node, then run the same command again; if it is lost, leave it out: sudo plinth upgrade --rollback --skip-node "+n.Name)
		return errors.Join(err, d.record(ctx, n, kube.NodeFailed, err))
	}
	return errors.Join(d.uncordon(ctx, n), d.record(ctx, n, kube.NodeRolledBack, nil))
}

// record records the state of a node in the cluster, and why.
func (d *nodeDriver) record(ctx context.Context, n checks.Node, state kube.UpgradeNodeState, why error) error {
	return d.change(ctx, n, func(s *kube.UpgradeNode) {
		if s.State, s.Why = state, ""; why != nil {
			s.Why = why.Error()
		}
	})
}

// change changes what the cluster knows of a node. It has no record of a repair, except of a node that the upgrade to the
// same bundle has left out, and that now gets it: a rollback and a commit must reach it, too.
func (d *nodeDriver) change(ctx context.Context, n checks.Node, change func(*kube.UpgradeNode)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	cluster, err := d.open()
	if err != nil {
		return err
	}
	return cluster.UpdateUpgradeRecord(ctx, func(r *kube.UpgradeRecord) error {
		s, known := r.Nodes[n.Name]
		if d.from == d.to && (!known || r.To != d.to) {
			return nil
		}
		s.Since = d.now().UTC()
		change(&s)
		r.SetNode(n.Name, s)
		return nil
	})
}

// WaitReady waits until the cluster tolerates that a controller is restarted.
func (d *nodeDriver) WaitReady(ctx context.Context, report step.Report) error {
	return d.until(ctx, "all controllers to be ready", d.limits.ready, d.unready, report)
}

// WaitHealthy waits until the cluster is as healthy as before the upgrade, after the nodes of b were restarted.
func (d *nodeDriver) WaitHealthy(ctx context.Context, b checks.Batch, report step.Report) error {
	err := d.until(ctx, "the cluster to be as healthy as before the upgrade of "+b.Names(), d.limits.sick, func(ctx context.Context) (string, error) {
		if why, err := d.unready(ctx); err != nil || why != "" {
			return why, err
		}
		return d.worse(ctx)
	}, report)
	if err != nil {
		return err
	}
	for _, n := range b {
		if err := d.record(ctx, n, kube.NodeUpgraded, nil); err != nil {
			return err
		}
	}
	return nil
}

// until waits until reason returns "".
func (d *nodeDriver) until(ctx context.Context, what string, timeout time.Duration, reason func(context.Context) (string, error), report step.Report) error {
	return wait.Until(ctx, wait.Options{What: what, Timeout: timeout, Interval: d.limits.poll, NextCommand: "sudo plinth status", OnReason: func(reason string) { report(reason, 0, 0) }},
		func(ctx context.Context) (bool, string, error) {
			why, err := reason(ctx)
			if err != nil {
				return false, err.Error(), nil
			}
			return why == "", why, nil
		})
}

// runPhase starts a phase on a node, unless it runs, and waits for its end. A phase that was killed is started again: the
// node was switched off, or its agent could not tell.
func (d *nodeDriver) runPhase(ctx context.Context, n checks.Node, phase agent.UpgradePhase, report step.Report) error {
	const maxStarts = 3
	q := agent.UpgradeRequest{Phase: phase, Bundle: digest.Digest(d.to), Program: d.program}
	switch phase {
	case agent.UpgradeCheck, agent.UpgradeDeliver, agent.UpgradeSwitch:
		if err := d.ensureProgram(ctx, n, report); err != nil {
			return err
		}
	}
	for i := 1; ; i++ {
		if err := d.start(ctx, n, q, report); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
		killed, err := d.waitPhase(ctx, n, q, report)
		switch {
		case err != nil:
			return fmt.Errorf("node %s: %w", n.Name, err)
		case !killed:
			return nil
		case i == maxStarts:
			return problem.Newf(problem.ExitStep, "upgrade node "+n.Name, "inspect the log on node "+n.Name+": sudo journalctl -u plinth-upgrade-node", "it was killed %d times during the phase %s", i, phase)
		}
		report("it was killed; starting it again", 0, 0)
	}
}

// ensureProgram has a node fetch the plinth executable that upgrades it, if it runs another one.
func (d *nodeDriver) ensureProgram(ctx context.Context, n checks.Node, report step.Report) error {
	st, err := d.agents.State(ctx, address(n))
	if err == nil && (d.program == "" || st.Program == d.program || st.Running) {
		return nil
	}
	return d.runPhase(ctx, n, agent.UpgradeProgram, report)
}

// start starts a phase. It waits while the node does not answer, or does something else.
func (d *nodeDriver) start(ctx context.Context, n checks.Node, q agent.UpgradeRequest, report step.Report) error {
	return wait.Until(ctx, wait.Options{What: "its agent to start the phase " + string(q.Phase), Timeout: d.limits.start, Interval: d.limits.poll, NextCommand: "on node " + n.Name + ": sudo plinth status",
		OnReason: func(reason string) { report(reason, 0, 0) }},
		func(ctx context.Context) (bool, string, error) {
			err := d.agents.Start(ctx, address(n), q)
			var no *agent.DeniedError
			if errors.As(err, &no) {
				return false, "", err
			}
			if err != nil {
				return false, err.Error(), nil
			}
			return true, "", nil
		})
}

// waitPhase waits for the end of a phase. killed reports that it has not ended by itself.
func (d *nodeDriver) waitPhase(ctx context.Context, n checks.Node, q agent.UpgradeRequest, report step.Report) (killed bool, err error) {
	timeout := d.limits.node
	if q.Phase == agent.UpgradeDeliver {
		timeout = d.limits.deliver
	}
	var failed error
	err = wait.Until(ctx, wait.Options{What: "the phase " + string(q.Phase) + " to end", Timeout: timeout, Interval: d.limits.poll, NextCommand: "on node " + n.Name + ": sudo plinth status"},
		func(ctx context.Context) (bool, string, error) {
			st, err := d.agents.State(ctx, address(n))
			switch {
			case err != nil: // it is restarted
				report("its agent does not answer yet", 0, 0)
				return false, "its agent does not answer: " + err.Error(), nil
			case st.Running:
				report(cmp.Or(st.Message, st.Step, "starting"), st.Bytes, st.Total)
				return false, st.Step, nil
			case st.Finished(q):
				return true, "", nil
			case st.Phase != q.Phase || st.Bundle != q.Bundle || st.Ended.IsZero():
				killed = true
				return true, "", nil
			}
			failed = phaseError(st)
			return true, "", nil
		})
	return killed, errors.Join(err, failed)
}

// phaseError returns the failure that a node reports.
func phaseError(st agent.UpgradeState) error {
	err := problem.New(cmp.Or(st.Exit, problem.ExitStep), "upgrade this node", errors.New(st.Failed), st.Hint)
	if st.Undone {
		return &undoneError{err}
	}
	return err
}
