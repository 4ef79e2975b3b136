package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	checks "github.com/plinthdev/plinth/internal/upgrade"
)

// RollbackOptions are the options of a rollback.
type RollbackOptions struct {
	Plan      bool     // only return the plan
	SkipNodes []string // names of nodes to leave out: they keep what they have
}

// rollback is the way back from the last upgrade.
type rollback struct {
	planOnly bool
	skip     []string // names of nodes to leave out, on request
	ask      bool     // the user requested it, and has to confirm it
	why      string   // why the upgrade is rolled back

	snapshot  plan.Snapshot
	found     bool                    // there is a snapshot; else only the end of an earlier rollback is left
	installed desired.InstalledBundle // of the cluster before the upgrade
	receipt   journal.Receipt         // of the cluster before the upgrade
	withData  bool                    // the data of the cluster is restored, too
	follows   digest.Digest           // bundle of the upgrade that another controller rolls back on this node; "" on the coordinator
	nodes     clusterNodes
	alone     bool // only this node is restored: the upgrade has changed no other one
	joining   bool // k0s on this host is registered as a controller that has joined the cluster
	address   netip.Addr
	began     []string     // steps of the upgrade
	records   plan.Records // nil for that of the cluster
	discards  string       // folder with what was fetched for the upgrade, which its end removes; "" to keep it

	// What an upgrade that another controller has coordinated has changed, or begun to change, in the cluster; began has
	// nothing of it.
	addOnsReached, consoleReached bool

	simulate func(env *action.Env, r plan.Reversal) ([]step.Step, error) // steps for a simulated host; nil for the real ones
}

// Rollback restores the state before the last upgrade, while its snapshot is kept. It finishes a
// rollback that was interrupted.
func Rollback(ctx context.Context, env *action.Env, opts RollbackOptions) (Result, error) {
	if err := env.RequireHost("upgrade --rollback"); err != nil {
		return Result{}, err
	}
	r := rollback{planOnly: opts.Plan, skip: opts.SkipNodes, ask: true, why: "requested", discards: action.FetchDir}
	out, err := action.Execute(ctx, env, r.engineOperation())
	res := Result{Changed: out.Changed, From: r.snapshot.To, To: r.snapshot.From, Log: out.Log}
	if opts.Plan {
		res.Plan = out.Planned
	}
	if err == nil && r.found {
		res.RolledBack = out.Changed
		if k := r.installed.Installer.Spec.Kotsadm; k != nil {
			res.ConsoleURL = desired.ConsoleURL(journal.Console{Port: k.UIBindPort, Hostname: k.Hostname}, r.address.String())
		}
	}
	return res, err
}

// engineOperation returns the rollback as action.Execute runs it.
func (r *rollback) engineOperation() action.Operation {
	op := action.Operation{
		Verb:        RollbackVerb,
		PlanOnly:    r.planOnly,
		Inspect:     r.inspect,                    // find the snapshot
		Steps:       r.steps,                      // plan.Rollback, for this host
		IsRecorded:  func() bool { return false }, // the end of a rollback that has done all steps is recorded, too
		JournalArgs: r.journalArgs,
	}
	if r.ask {
		op.Confirm = r.confirm
	}
	return op
}

// inspect finds the snapshot, and what has to be restored.
func (r *rollback) inspect(ctx context.Context, env *action.Env) (err error) {
	j := env.Journal()
	last, unfinished := UnfinishedRun(j)
	if r.snapshot, r.found, err = plan.FindSnapshot(env.Host, env.DataDir); err != nil {
		return problem.New(problem.ExitUsage, "roll back the upgrade", err, "the snapshot cannot be used; nothing was changed")
	}
	if !r.found && unfinished { // it was killed before it had a snapshot, or after it had removed it
		r.snapshot.From, r.snapshot.To = last.Args.From, last.Args.Bundle
		return nil
	}
	if !r.found {
		if r.follows != "" {
			return nil
		}
		return problem.Newf(problem.ExitUsage, "roll back the upgrade", "a snapshot is kept until the next upgrade, a rollback, or `plinth upgrade --commit`; nothing was changed", "there is no snapshot of an earlier state on this host")
	}
	if r.follows != "" && r.snapshot.To != r.follows.String() {
		return problem.Newf(problem.ExitUsage, "roll back the upgrade", "nothing was changed", "this node has the snapshot of another upgrade, to %s", r.snapshot.To)
	}
	r.began = upgradeSteps(j, r.snapshot)
	if r.simulate == nil {
		if err := r.inspectHost(ctx, env); err != nil {
			return err
		}
		if err := r.inspectNodes(ctx, env); err != nil {
			return err
		}
	}
	r.withData = !r.keepsEtcd() && plan.NeedsData(r.began, r.otherMinor(env))
	return nil
}

// inspectHost reads what is known of the host and of the cluster before the upgrade.
func (r *rollback) inspectHost(ctx context.Context, env *action.Env) (err error) {
	saved := r.snapshot.FilesDir(env.DataDir)
	var ok bool
	if r.installed, ok = desired.ReadInstalledBundle(ctx, env.Host, saved); !ok {
		return unreadable(desired.BundleCacheDir(saved))
	}
	if r.receipt, _, err = journal.ReadReceipt(env.Host, saved); err != nil {
		return err
	}
	if r.joining, err = (k0s.Service{Host: env.Host, Worker: r.receipt.Role == token.Worker}).RegisteredToJoin(); err != nil {
		return err
	}
	found := preflight.GatherBasic(ctx, env)
	recorded := desired.RecordedIdentity(env.Journal(), r.receipt)
	if err := preflight.CheckIdentity("roll back the upgrade", found, recorded); err != nil {
		return err
	}
	r.address = recorded.Address
	return nil
}

// otherMinor reports whether the upgrade was to another Kubernetes minor.
func (r *rollback) otherMinor(env *action.Env) bool {
	last, ok := env.Journal().LastRun(Verb)
	return ok && last.Args.OtherMinor
}

// upgradeSteps returns the ids of the steps that the upgrade with the snapshot s has begun.
func upgradeSteps(j *journal.Journal, s plan.Snapshot) (began []string) {
	for _, run := range j.Runs() {
		switch {
		case run.Verb == RollbackVerb && !run.Unfinished():
			began = nil
		case run.Verb == Verb && run.Args.Bundle == s.To && run.Args.From == s.From:
			for _, st := range run.Steps {
				began = append(began, st.ID)
			}
		}
	}
	return began
}

// steps returns the steps of the rollback on env's host.
func (r *rollback) steps(ctx context.Context, env *action.Env) ([]step.Step, error) {
	steps, err := r.restoreSteps(ctx, env)
	if err != nil || r.discards == "" {
		return steps, err
	}
	return append(steps, desired.DiscardFetched(env.Host, r.discards)), nil
}

// restoreSteps returns the steps that restore the state before the upgrade on env's host.
func (r *rollback) restoreSteps(ctx context.Context, env *action.Env) ([]step.Step, error) {
	reversal := plan.Reversal{Snapshot: r.snapshot, WithData: r.withData, Why: r.why, Records: r.records}
	if !r.found && r.follows != "" { // the coordinator records the end
		return []step.Step{plan.RemoveSnapshot(env.Host, env.DataDir)}, nil
	}
	if !r.found {
		receipt, _, err := journal.ReadReceipt(env.Host, env.DataDir)
		c := plan.Cluster{Host: env.Host, DataDir: env.DataDir, NodeName: receipt.Node, K0s: k0s.Service{Host: env.Host}}
		return plan.EndUpgrade(c, reversal), err
	}
	if r.simulate != nil {
		return r.simulate(env, reversal)
	}
	reversal.Health = clusterHealth{env: env, node: r.snapshot.Node, address: r.address.String(), before: r.receipt.Console, after: r.receipt.Console, skip: r.nodes.skip}
	podCIDR := netip.MustParsePrefix(r.installed.Installer.Spec.Network.PodCIDR) // lint has parsed it
	target := desired.Target{Host: env.Host, Journal: env.Journal(), Now: env.Now, DataDir: env.DataDir, Node: r.snapshot.Node, Address: r.address, API: r.receipt.API,
		Cleanup: env.CleanupScope(podCIDR), Worker: r.receipt.Role == token.Worker}
	if r.follows != "" {
		return desired.RollbackNodeSteps(target, r.installed, reversal), nil
	}
	target.Joining = r.joining
	var err error
	if reversal.Others, err = r.nodes.otherNodes(env, reversal.Health, &nodeDriver{from: r.snapshot.From, to: r.snapshot.To}); err != nil {
		return nil, err
	}
	if r.keepsEtcd() && (r.addOnsReached || plan.NeedsData(r.began, false)) {
		reversal.RestoreConsole = r.consoleChanged()
		if reversal.AddOnSteps, err = r.addOnSteps(ctx, env, target); err != nil {
			return nil, err
		}
	}
	return desired.RollbackSteps(target, r.installed, reversal), nil
}

// addOnSteps returns the steps that restore the add-ons and the console with the charts of the bundle before the upgrade.
func (r *rollback) addOnSteps(ctx context.Context, env *action.Env, target desired.Target) (steps []step.Step, err error) {
	if target.AddOns, err = desired.RememberedAddresses(ctx, env, r.receipt).Resolve(r.installed.Installer, env.DataDir); err != nil {
		return nil, err
	}
	b, err := desired.OpenInstalledBundle(ctx, env.Host, r.snapshot.FilesDir(env.DataDir))
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.Close() }()
	var added []addons.AddOn
	if in := desired.ReadInstalledInstaller(ctx, env.Host, env.DataDir); in != nil {
		now, _ := addons.Resolve(in, env.DataDir)
		for _, a := range now {
			if !slices.ContainsFunc(target.AddOns, func(was addons.AddOn) bool { return was.Name == a.Name }) {
				added = append(added, a)
			}
		}
	}
	return desired.RestoreAddOnSteps(ctx, target, b, r.installed.Installer, added)
}

// confirm asks before the first change. It says what of the time since is lost.
func (r *rollback) confirm(ctx context.Context, env *action.Env, todo []step.Planned) error {
	if !r.found {
		return nil
	}
	question := fmt.Sprintf("This restores the state before the upgrade of %s.\n", r.snapshot.TakenAt.Format(time.RFC3339))
	if back := checks.Reversed(r.nodes.batches); len(back) > 0 {
		question += "Before this node: " + checks.Batch(back).Names() + ". k0s is restarted under running pods.\n"
	}
	if len(r.nodes.skip) > 0 {
		question += "Not restored: " + strings.Join(r.nodes.skip, ", ") + ".\n"
	}
	if !r.withData && r.consoleChanged() {
		question += "What was written to the console since then is lost.\n"
	}
	if r.withData {
		question += fmt.Sprintf("What was written to the cluster and the console since %s is lost; volumes of applications stay as they are. All pods are restarted.\n", r.snapshot.Data.TakenAt.Format(time.RFC3339))
	}
	return env.Confirm(ctx, question+fmt.Sprintf("Roll back to the bundle %s (%d of %d steps to do)?", r.snapshot.From, plan.CountNeeded(todo), len(todo)))
}

// journalArgs returns the arguments of this run.
func (r *rollback) journalArgs(env *action.Env, count int) *journal.Args {
	args := journal.Args{Cluster: action.ClusterName(env.Journal()), Bundle: r.snapshot.To, From: r.snapshot.From, Restores: r.restores(), Steps: count}
	if r.installed.Installer != nil {
		args.PodCIDR = r.installed.Installer.Spec.Network.PodCIDR
	}
	return &args
}

// rollBack restores the state before the upgrade after a step has failed. It returns an error with the
// failure and the state of the cluster. Nothing is restored if ctx was canceled: a shutdown of the host also stops k0s, so
// that a step can fail with another error than an interrupt.
func (o *operation) rollBack(ctx context.Context, env *action.Env, failed error) error {
	if problem.ExitCode(failed) == problem.ExitInterrupted || ctx.Err() != nil || o.from == o.to {
		return failed
	}
	if o.follows != nil {
		return o.rollBackNode(ctx, env, failed)
	}
	s, ok, err := plan.FindSnapshot(env.Host, env.DataDir)
	if err != nil {
		return errors.Join(failed, err)
	}
	if !ok || s.To != o.to {
		if problem.ExitCode(failed) == problem.ExitLocked { // another upgrade was faster
			return failed
		}
		o.recordAborted(ctx, env, failed)
		return withHint(failed, "nothing in the cluster was changed; run the same command again")
	}
	if checks.OnFailure(len(o.nodes.batches) > 0, o.reached(upgradeSteps(env.Journal(), s))) == checks.StopHere {
		o.noteStopped(ctx, env, failed)
		return withHint(failed, "the cluster runs; nodes that have the new version keep it. Fix the cause, then run the same command again; or restore all nodes: sudo plinth upgrade --rollback")
	}
	env.Note("the upgrade failed: " + failed.Error())
	env.Note("restoring the state before the upgrade")
	r := rollback{why: failed.Error(), alone: true, skip: o.nodes.skip, simulate: o.simulateRollback, records: o.records, discards: desired.StagedBundlesDir}
	if _, err := action.ExecuteLocked(ctx, env, r.engineOperation()); err != nil {
		return problem.New(problem.ExitStep, "upgrade", plan.NotRestored(failed, err),
			"fix the cause, then finish the rollback: sudo plinth upgrade --rollback")
	}
	o.rolledBack = true
	return withHint(failed, "the state before the upgrade was restored; fix the cause, then run the same command again")
}

// withHint returns the failure of a step with a further line in its hint. The cause keeps what was added to a problem, such as
// the name of the node on which it was found.
func withHint(failed error, hint string) error {
	operation, cause := "upgrade", failed
	var p *problem.Problem
	if errors.As(failed, &p) && p.Error() == failed.Error() {
		operation, cause = p.Operation, p.Err
	}
	if was := problem.Hint(failed); was != "" && !strings.Contains(was, "it resumes where it stopped") {
		hint = was + "\n" + hint
	}
	return problem.New(problem.ExitStep, operation, cause, hint)
}

// recordAborted records in the cluster that an upgrade has ended that has changed nothing. If that fails, the
// same command resumes the upgrade.
func (o *operation) recordAborted(ctx context.Context, env *action.Env, failed error) {
	client, err := env.KubeClient()
	if err != nil {
		return
	}
	_ = client.UpdateUpgradeRecord(ctx, func(r *kube.UpgradeRecord) error {
		if r.Active() && r.To == o.to && r.Coordinator == o.node {
			r.Phase, r.Why = kube.UpgradeRolledBack, failed.Error()
		}
		return nil
	})
}

// finishRollback finishes a rollback that was interrupted, before the upgrade begins again, with what was fetched for it.
func (o *operation) finishRollback(ctx context.Context, env *action.Env) error {
	j, err := env.OpenJournal()
	if err != nil {
		return err
	}
	last, ok := UnfinishedRun(j)
	if !ok || last.Verb != RollbackVerb {
		return nil
	}
	env.Note(fmt.Sprintf("finishing the rollback started at %s first", last.StartedAt.Format(time.RFC3339)))
	r := rollback{why: "an earlier rollback was not finished", simulate: o.simulateRollback, records: o.records}
	if o.follows != nil {
		r.follows = digest.Digest(last.Args.Bundle)
	}
	_, err = action.ExecuteLocked(ctx, env, r.engineOperation())
	return err
}

// Commit removes the snapshot of the last upgrade, which then cannot be rolled back.
func Commit(ctx context.Context, env *action.Env) (Result, error) {
	if err := env.RequireHost("upgrade --commit"); err != nil {
		return Result{}, err
	}
	out, err := action.Execute(ctx, env, commitOperation(true))
	return Result{Changed: out.Changed, Log: out.Log}, err
}

// commitOperation returns the removal of the snapshot as action.Execute runs it; ask is false on a node that another
// controller upgrades.
func commitOperation(ask bool) action.Operation {
	op := action.Operation{
		Verb: "commit",
		Inspect: func(_ context.Context, env *action.Env) error {
			if last, ok := UnfinishedRun(env.Journal()); ok {
				return problem.Newf(problem.ExitUsage, "commit the upgrade", "finish it first: run the same `plinth "+last.Verb+"` again, or: sudo plinth upgrade --rollback", "%s", last.DescribeUnfinished())
			}
			return nil
		},
		Steps: commitSteps,
	}
	if ask {
		op.Steps = func(ctx context.Context, env *action.Env) ([]step.Step, error) {
			others, err := commitNodes(ctx, env)
			if err != nil {
				return nil, err
			}
			here, err := commitSteps(ctx, env)
			return append(others, here...), err
		}
		op.Confirm = func(ctx context.Context, env *action.Env, _ []step.Planned) error {
			return env.Confirm(ctx, "Remove the snapshot of the state before the last upgrade? The upgrade cannot be rolled back then.")
		}
	}
	return op
}

// commitSteps returns the steps that end an upgrade on this host.
func commitSteps(ctx context.Context, env *action.Env) ([]step.Step, error) {
	receipt, err := env.RequireInstalled("commit the upgrade")
	if err != nil {
		return nil, err
	}
	b, err := desired.OpenInstalledBundle(ctx, env.Host, env.DataDir)
	if err != nil {
		return nil, unreadable(desired.BundleCacheDir(env.DataDir))
	}
	var keep []string
	for _, img := range b.Images() {
		keep = append(keep, img.Ref)
	}
	c := plan.Cluster{Host: env.Host, K0s: k0s.Service{Host: env.Host, Worker: receipt.Role == token.Worker}}
	return []step.Step{plan.RemoveSnapshot(env.Host, env.DataDir), plan.UnpinImages(c, keep), desired.DiscardFetched(env.Host, action.FetchDir)}, nil
}
