package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/upgrade"
)

// OtherNodes are the nodes of a cluster besides the one that coordinates its upgrade.
type OtherNodes struct {
	Batches []upgrade.Batch // in the order in which they get the new version; without those that are skipped
	Skipped []string        // names of nodes that are left out
	Agents  NodeAgents
}

// isEmpty reports whether the cluster has no other node that is upgraded.
func (o OtherNodes) isEmpty() bool { return len(o.Batches) == 0 }

// NodeAgents upgrades other nodes through their agents, and records their state in the cluster. Errors of a node name it.
type NodeAgents interface {
	// Needed returns why a phase has to run on a node, or "".
	Needed(ctx context.Context, n upgrade.Node, phase NodePhase) (string, error)
	// Run runs a phase on a node and waits for its end.
	Run(ctx context.Context, n upgrade.Node, phase NodePhase, report step.Report) error
	// WaitReady waits until the cluster tolerates that a node is restarted.
	WaitReady(ctx context.Context, report step.Report) error
	// AdoptCoordinator undoes what another coordinator has done to the node self, which takes its place.
	AdoptCoordinator(ctx context.Context, self string) error
	// WaitHealthy waits until the cluster is as healthy as before the upgrade, after the nodes of b were restarted.
	WaitHealthy(ctx context.Context, b upgrade.Batch, report step.Report) error
}

// NodePhase is a part of the upgrade of another node.
type NodePhase string

// The phases.
const (
	DeliverPhase  NodePhase = "deliver"  // it gets everything that it needs; nothing that runs changes
	SwitchPhase   NodePhase = "switch"   // drain, run the new version, uncordon; restored at once if that fails
	RollbackPhase NodePhase = "rollback" // the state before is restored
	CommitPhase   NodePhase = "commit"   // the copy of the state before is removed
)

// UpgradeNodePrefix begins the ids of the steps after which a node other than the coordinator may run the new version.
const UpgradeNodePrefix = "upgrade-node-"

// eachNode calls fn for all nodes at the same time, and returns all errors.
func eachNode(nodes []upgrade.Node, report step.Report, fn func(upgrade.Node, step.Report) error) error {
	errs := make([]error, len(nodes))
	var mu sync.Mutex
	var running sync.WaitGroup
	for i, n := range nodes {
		running.Go(func() {
			errs[i] = fn(n, func(message string, done, total int64) {
				mu.Lock()
				defer mu.Unlock()
				report(message, done, total)
			})
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// needing returns the nodes on which a phase has to run, and the first reason.
func (o OtherNodes) needing(ctx context.Context, nodes []upgrade.Node, phase NodePhase) (needing []upgrade.Node, reason string, err error) {
	for _, n := range nodes {
		why, err := o.Agents.Needed(ctx, n, phase)
		if err != nil {
			why = err.Error()
		}
		if why == "" {
			continue
		}
		if reason == "" {
			reason = "node " + n.Name + ": " + why
		}
		needing = append(needing, n)
	}
	return needing, reason, ctx.Err()
}

// nodesStep returns the step id that runs a phase on nodes, at the same time.
func (o OtherNodes) nodesStep(id, title string, nodes []upgrade.Node, phase NodePhase) step.Step {
	var affects []string
	for _, n := range nodes {
		affects = append(affects, "node "+n.Name)
	}
	return step.Step{ID: id, Title: title, Affects: affects,
		Check: func(ctx context.Context) (step.State, error) {
			_, why, err := o.needing(ctx, nodes, phase)
			return stepState(why, err)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			needing, _, err := o.needing(ctx, nodes, phase)
			if err != nil {
				return err
			}
			return eachNode(needing, report, func(n upgrade.Node, report step.Report) error { return o.Agents.Run(ctx, n, phase, report) })
		},
	}
}

// deliverNodes returns the step that delivers everything to all other nodes, before the first k0s is restarted; none if
// there are no others.
func (u nodeUpgrade) deliverNodes() []step.Step {
	if u.Others.isEmpty() {
		return nil
	}
	var nodes []upgrade.Node
	for _, b := range u.Others.Batches {
		nodes = append(nodes, b...)
	}
	return []step.Step{u.unlessSaved(u.Others.nodesStep("nodes-deliver", "Deliver the new version to all nodes", nodes, DeliverPhase))}
}

// upgradeBatches returns the steps after which all nodes run the new version.
func (u nodeUpgrade) upgradeBatches() (steps []step.Step) {
	for _, b := range u.Others.Batches {
		s := u.Others.nodesStep(UpgradeNodePrefix+b[0].Name, "Upgrade "+describeBatch(b), b, SwitchPhase)
		restart := s.Apply
		s.Apply = func(ctx context.Context, report step.Report) error {
			if err := restart(ctx, report); err != nil {
				return err
			}
			sick := u.Others.Agents.WaitHealthy(ctx, b, report)
			if sick == nil || ctx.Err() != nil {
				return sick
			}
			report("restoring "+b.Names()+": "+sick.Error(), 0, 0)
			back := eachNode(b, report, func(n upgrade.Node, report step.Report) error {
				return u.Others.Agents.Run(ctx, n, RollbackPhase, report)
			})
			if back != nil {
				return NotRestored(sick, back)
			}
			return fmt.Errorf("%s was restored: %w", describeBatch(b), sick)
		}
		steps = append(steps, s)
	}
	if len(steps) > 0 {
		steps = append(steps, u.recordNodesUpgraded())
	}
	return steps
}

func describeBatch(b upgrade.Batch) string {
	role := "worker"
	if b[0].Controller {
		role = "controller"
	}
	if len(b) > 1 {
		role += "s"
	}
	return role + " " + b.Names()
}

// recordNodesUpgraded returns the step that records in the cluster that all nodes run the new version.
func (u nodeUpgrade) recordNodesUpgraded() step.Step {
	return u.recordPhase(step.Step{ID: "nodes-upgraded", Title: "Record that all nodes have the new version"},
		"the cluster does not know that", kube.UpgradeAddOns, kube.UpgradeDone)
}

// waitReadyBefore returns the step s, which restarts k0s on this controller, so that it waits first until the cluster
// tolerates that. It does not wait if k0s is already stopped: a killed run has got so far.
func (u nodeUpgrade) waitReadyBefore(s step.Step) step.Step {
	if u.Others.isEmpty() {
		return s
	}
	restart := s.Apply
	s.Apply = func(ctx context.Context, report step.Report) error {
		if u.apiReason(ctx) == "" {
			if err := u.Others.Agents.WaitReady(ctx, report); err != nil {
				return err
			}
		}
		return restart(ctx, report)
	}
	return s
}

// rollbackNodes returns the steps that lock the cluster and restore the other nodes, workers first; none for a cluster of one
// node.
func (b rollback) rollbackNodes() (steps []step.Step) {
	if !b.Others.isEmpty() || len(b.Others.Skipped) > 0 {
		steps = append(steps, b.lockCluster())
	}
	for _, n := range upgrade.Reversed(b.Others.Batches) {
		steps = append(steps, b.Others.nodesStep("rollback-node-"+n.Name, "Restore node "+n.Name, []upgrade.Node{n}, RollbackPhase))
	}
	return steps
}

// lockCluster returns the step that records the rollback in the cluster, so that no upgrade begins meanwhile, and the nodes
// that it leaves out.
func (b rollback) lockCluster() step.Step {
	mine := func(r kube.UpgradeRecord) bool {
		return r.Phase == kube.UpgradeRollingBack && r.Coordinator == b.NodeName &&
			!slices.ContainsFunc(b.Others.Skipped, func(name string) bool { return r.Nodes[name].State != kube.NodeSkipped })
	}
	return step.Step{ID: "rollback-lock", Title: "Record the rollback in the cluster", Affects: []string{upgradeObject},
		Check: func(ctx context.Context) (step.State, error) {
			records, err := b.upgradeRecords(ctx, b.Records)
			if err != nil { // k0s is stopped: a killed run has recorded it
				return step.Done(), ctx.Err()
			}
			r, err := records.UpgradeRecord(ctx)
			if err != nil || r.To != b.Snapshot.To || r.Phase == kube.UpgradeRolledBack || mine(r) {
				return step.Done(), ctx.Err()
			}
			return step.Needed("the cluster does not know of it"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			records, err := b.upgradeRecords(ctx, b.Records)
			if err != nil {
				return err
			}
			return records.UpdateUpgradeRecord(ctx, func(r *kube.UpgradeRecord) error {
				if _, known := r.Nodes[r.Coordinator]; r.Coordinator != b.NodeName && !known { // else a killed rollback would not find it again
					r.SetNode(r.Coordinator, kube.UpgradeNode{State: kube.NodeRollingBack, Since: b.Now().UTC()})
				}
				r.Phase, r.Coordinator, r.Why = kube.UpgradeRollingBack, b.NodeName, b.Why
				r.SkipNodes(b.Others.Skipped, b.Now())
				return nil
			})
		},
	}
}

// RestoreAddOns returns the steps that give the add-ons and the console the versions of c, after an upgrade of a cluster
// whose etcd keeps its data, and remove those in added.
func RestoreAddOns(c Cluster, added []addons.AddOn) (steps []step.Step) {
	u := nodeUpgrade{Cluster: c}
	for _, a := range slices.Backward(added) {
		steps = append(steps, u.removeAddOn(a))
	}
	return append(append(steps, c.secureNamespaces()), c.addOnSteps()...)
}

// CommitNodes returns the steps that remove the snapshots of the other nodes.
func CommitNodes(o OtherNodes) (steps []step.Step) {
	for _, n := range upgrade.Reversed(o.Batches) {
		steps = append(steps, o.nodesStep("commit-node-"+n.Name, "Remove the snapshot of node "+n.Name, []upgrade.Node{n}, CommitPhase))
	}
	return steps
}
