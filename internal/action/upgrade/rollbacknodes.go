package upgrade

import (
	"context"
	"slices"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/kube"
	checks "github.com/plinthdev/plinth/internal/upgrade"
)

// inspectNodes finds the nodes that a rollback restores.
func (r *rollback) inspectNodes(ctx context.Context, env *action.Env) error {
	if r.follows != "" {
		return nil
	}
	var err error
	if r.nodes, err = readNodes(ctx, env); err != nil {
		var ok bool
		if r.nodes, ok = recordedNodes(r.snapshot, r.address.String()); !ok && !r.alone {
			return unreadableNodes("roll back the upgrade", err)
		}
	}
	if r.alone {
		r.nodes.batches, r.nodes.skip = nil, slices.Sorted(slices.Values(r.skip))
		return nil
	}
	if err := checks.RefusalError(checks.CheckSkip(r.nodes.all, r.snapshot.Node, r.skip)); err != nil {
		return err
	}
	r.nodes.skip = slices.Sorted(slices.Values(r.skip))
	r.nodes.batches = checks.WithoutNodes(r.nodes.batches, r.nodes.skip)
	var reached []checks.Node
	for _, n := range r.nodes.all {
		if s, known := r.nodes.record.Nodes[n.Name]; n.Name != r.snapshot.Node && known && s.State != kube.NodeSkipped || n.Name == r.nodes.record.Coordinator {
			reached = append(reached, n)
		}
	}
	if r.nodes.record.To == r.snapshot.To {
		r.nodes.batches = checks.WithoutNodes(checks.Batches(reached, r.snapshot.Node, 1), r.nodes.skip)
	}
	last, _ := env.Journal().LastRun(Verb)
	var is checks.Versions
	if in := desired.ReadInstalledInstaller(ctx, env.Host, env.DataDir); in != nil {
		is = checks.VersionsOf(in)
	}
	r.findReached(env, is)
	if no := checks.CheckRollback(r.nodes.controllers(), r.installed.Installer.Spec.K0s.Version, is["k0s"], last.Args.OtherMinor && r.reached()); no != nil {
		return checks.RefusalError([]checks.Refusal{*no})
	}
	return nil
}

// reached reports whether a node other than the coordinator may run the new version, by the record of the cluster, or by
// the journal if that cannot be read.
func (r *rollback) reached() bool {
	if r.nodes.record.To == "" {
		return beganNodes(r.began)
	}
	return r.nodes.record.ReachedNodes()
}

// Parts of the cluster that a rollback restores by their own means, in the arguments of its run.
const (
	restoresAddOns  = "add-ons"
	restoresConsole = "console"
)

// findReached sets what an upgrade that another controller has coordinated has changed in the cluster, by its record and
// the versions is of the bundle on this host. A rollback that is resumed has replaced both; its arguments say it.
func (r *rollback) findReached(env *action.Env, is checks.Versions) {
	if last, ok := UnfinishedRun(env.Journal()); ok && last.Verb == RollbackVerb && last.Args.Bundle == r.snapshot.To {
		r.addOnsReached, r.consoleReached = slices.Contains(last.Args.Restores, restoresAddOns), slices.Contains(last.Args.Restores, restoresConsole)
		return
	}
	record := r.nodes.record
	r.addOnsReached = record.Coordinator != r.snapshot.Node && (record.Phase == kube.UpgradeAddOns || record.Phase == kube.UpgradeDone)
	r.consoleReached = r.addOnsReached && is["kotsadm"] != r.receipt.Versions["kotsadm"]
}

// restores returns the parts of the cluster that the rollback restores by their own means.
func (r *rollback) restores() (parts []string) {
	if r.addOnsReached {
		parts = append(parts, restoresAddOns)
	}
	if r.consoleReached {
		parts = append(parts, restoresConsole)
	}
	return parts
}

// keepsEtcd reports whether the data of etcd stays in a rollback: the other controllers have it, too. A controller that
// another one has upgraded is never the only one.
func (r *rollback) keepsEtcd() bool {
	return r.follows != "" || len(r.nodes.all) == 0 && r.snapshot.Follows || r.nodes.controllers() > 1
}

// consoleChanged reports whether the upgrade has begun to change the console's database. The journal of the coordinator
// says so; another controller concludes it from the versions.
func (r *rollback) consoleChanged() bool {
	return slices.Contains(r.began, "console") || r.consoleReached
}
