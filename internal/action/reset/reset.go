// Package reset removes a cluster from this host, or this host from its cluster.
package reset

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// Options are the options of a reset.
type Options struct {
	DryRun     bool   // only return what would be removed
	Yes        bool   // do not ask for confirmation
	Cluster    string // name of the cluster to remove; "" to ask for it
	DeleteData bool   // remove volumes and logs too
}

// Result is the result of a reset.
type Result struct {
	Changed    bool           `json:"changed"`            // false when there was nothing to remove
	Node       string         `json:"node,omitempty"`     // name of this host in a cluster that continues without it
	Cluster    string         `json:"cluster,omitempty"`  // name of that cluster
	FollowUp   []string       `json:"followUp,omitempty"` // commands to run on one of its controllers
	Plan       []step.Planned `json:"plan,omitempty"`
	Leftovers  []string       `json:"leftovers,omitempty"`  // what could not be removed
	Retained   []string       `json:"retained,omitempty"`   // what was kept on purpose: data, logs, files of other programs
	Comparison *Comparison    `json:"comparison,omitempty"` // comparison of the host with its state before the install
	Program    string         `json:"program,omitempty"`    // path of the plinth on the PATH, if the reset removes it
	Log        string         `json:"log,omitempty"`

	DeletedVolumes int  `json:"deletedVolumes,omitempty"` // number of volumes whose data the reset deletes
	DataOnly       bool `json:"-"`                        // no cluster is recorded: only the data folder is removed
	IsOneOfSeveral bool `json:"-"`                        // the cluster has other nodes, which `reset node` informs
}

// Comparison is the comparison of a host after a reset with its state before the
// install.
type Comparison = node.Verification

// resetHost gives the functions of this package a host to read or change.
type resetHost struct{ *action.Env }

// operation is one reset: of the whole cluster, or of this node.
type operation struct {
	verb string // name of the command, for problems
	opts Options
	node *NodeOptions // nil for the whole cluster

	leave LeavePlan      // how this host leaves its cluster; zero for the whole cluster
	kinds []cleanup.Kind // what the cluster may have left on this host
	keep  []string       // entries of the data folder that are retained
	bare  bool           // no run is recorded: only the data folder can be left
	res   Result
}

// RunCluster removes the cluster from this host: everything that an install put here
// according to the journal, and what k0s and its pods left.
func RunCluster(ctx context.Context, env *action.Env, opts Options) (Result, error) {
	if err := env.RequireHost("reset cluster"); err != nil {
		return Result{}, err
	}
	r := operation{verb: "reset cluster", opts: opts}
	out, err := action.Execute(ctx, env, r.engineOperation())
	return r.result(ctx, env, out), err
}

// RollBack removes everything that the runs in the journal installed, without asking.
// The caller must hold the lock.
func RollBack(ctx context.Context, env *action.Env, deleteData bool) error {
	r := operation{verb: "reset cluster", opts: Options{DeleteData: deleteData}}
	op := r.engineOperation()
	op.Confirm = nil
	_, err := action.ExecuteLocked(ctx, env, op)
	return err
}

// engineOperation returns the reset as action.Execute runs it.
func (r *operation) engineOperation() action.Operation {
	return action.Operation{
		Verb:           "reset",
		PlanOnly:       r.opts.DryRun,
		Inspect:        r.inspect,     // read the journal; ask the cluster whether this node may leave
		IsUpToDate:     r.isUpToDate,  // nothing is left
		Steps:          r.steps,       // leave the cluster; plan.Reset; the data folder
		Unplanned:      true,          // what cannot be inspected must not prevent the rest
		Confirm:        r.confirm,     // by the name of the cluster
		JournalArgs:    r.journalArgs, // how this host leaves
		WithoutJournal: true,          // a full disk must not prevent a reset, which makes space
		Apply:          r.apply,       // every step, also after one that failed; the data folder last
		RemovesJournal: true,
	}
}

// inspect reads the journal and finds out how this host leaves its cluster.
func (r *operation) inspect(ctx context.Context, env *action.Env) (err error) {
	o, j := resetHost{env}, env.Journal()
	r.keep = o.retainedEntries(r.opts.DeleteData)
	r.res.Retained = o.listRetained(j, r.keep)
	if r.res.Program, err = o.installedProgram(j); err != nil {
		return err
	}
	if r.opts.DeleteData {
		r.res.DeletedVolumes = o.countVolumes()
	}
	if r.bare = len(j.Runs()) == 0 && !j.HistoryLost(); r.bare {
		r.res.DataOnly = true
		return o.checkOwnCluster(r.verb)
	}
	if err := o.checkNoLink(r.verb); err != nil {
		return err
	}
	if r.node != nil {
		if r.leave, err = NewLeavePlan(ctx, env, j, LeaveOptions{Timeout: r.node.Timeout, Force: r.node.Force}); err != nil {
			return err
		}
		for _, w := range r.leave.Warnings {
			env.Note("warning: " + w)
		}
	} else if removed, ok, err := node.ReadRemoval(env.Host, env.DataDir); err == nil && ok {
		env.Note(removed.String() + "; only the host itself is reset")
	} else {
		r.warnOfOtherNodes(ctx, leaveOperation{env})
	}
	r.res.Node, r.res.Cluster, r.res.FollowUp = r.leave.Name, r.leave.Cluster, r.leave.FollowUp
	return nil
}

// warnOfOtherNodes warns if the cluster has other nodes. A cluster that does not answer can be removed
// too, but a worker is never its only node.
func (r *operation) warnOfOtherNodes(ctx context.Context, o leaveOperation) {
	receipt, _, err := journal.ReadReceipt(o.Host, o.DataDir)
	r.res.IsOneOfSeveral = err == nil && receipt.Role == nodes.Worker
	if _, view, err := o.inspectCluster(ctx); err == nil {
		if w := otherNodesWarning(view, o.nodeName()); w != "" {
			r.res.IsOneOfSeveral = true
			o.Note(w)
		}
	}
}

// checkOwnCluster returns a usage problem when a cluster is on this host although no
// install is recorded: the cluster belongs to another data folder, or was not installed
// by Plinth.
func (o resetHost) checkOwnCluster(verb string) error {
	if _, err := o.Host.Lstat(k0s.ConfigPath); err == nil {
		return problem.Newf(problem.ExitUsage, verb, "name the data folder of the install with --data-dir; Plinth does not remove a k0s that it did not install",
			"k0s is on this host, but %s has no record of an install", o.DataDir)
	}
	return nil
}

// checkNoLink returns a usage problem when the data folder of k0s was replaced with a
// symbolic link after the install, which refuses one. Removing only the link would leave
// the cluster's programs and mounts behind it.
func (o resetHost) checkNoLink(verb string) error {
	scope := cleanup.DefaultScope()
	link := cleanup.Finder{Host: o.Host, Scope: scope}.LinkToDataDir()
	if link == "" {
		return nil
	}
	hint := "in a rescue system, replace the link with a folder at which its target is mounted; then run the reset again"
	if link == scope.DataDir {
		hint = fmt.Sprintf("replace the link with a bind mount, reboot, and run the reset again:\n"+
			"target=$(readlink -f %[1]s); sudo systemctl disable %[2]s %[3]s; sudo rm %[1]s && sudo mkdir %[1]s\n"+
			"echo \"$target %[1]s none bind 0 0\" | sudo tee -a /etc/fstab; sudo reboot", link, k0s.ControllerUnit, k0s.WorkerUnit)
	}
	return problem.Newf(problem.ExitUsage, verb, hint, "%s is a symbolic link, and what the cluster runs behind it cannot be recognized", link)
}

// otherNodesWarning returns a warning that names the nodes of the cluster other than
// name, which stop working when the cluster is removed from this host; "" for none.
func otherNodesWarning(v nodes.ClusterView, name string) string {
	var others []string
	for _, n := range v.Nodes {
		if n.Name != name {
			others = append(others, n.Name)
		}
	}
	if len(others) == 0 {
		return ""
	}
	return "warning: the cluster has other nodes, which may stop working: " + strings.Join(others, ", ") +
		"; to remove only this host from the cluster: sudo plinth reset node; to end the cluster, first run that on each of the others"
}

// isUpToDate reports whether nothing is left to remove. Where no run is recorded, the
// data folder decides: a run was killed before its journal was complete, or a reset
// after it had removed the journal.
func (r *operation) isUpToDate(ctx context.Context, env *action.Env) (bool, error) {
	if !r.bare {
		return false, nil
	}
	state, err := r.dataDirStep(env).Check(ctx)
	return state.Kind == step.KindDone, err
}

// steps returns the steps of the reset on env's host.
func (r *operation) steps(_ context.Context, env *action.Env) (_ []step.Step, err error) {
	if !r.bare {
		if r.kinds, err = (resetHost{env}).leftoverKinds(env.Journal()); err != nil {
			return nil, err
		}
	}
	return slices.Concat(r.leave.Steps, plan.Reset(r.kinds), []step.Step{r.dataDirStep(env)}), nil
}

func (r *operation) dataDirStep(env *action.Env) step.Step {
	return resetHost{env}.removeDataDirStep(env.Journal(), r.keep)
}

// confirm asks before the first change. Where no run is recorded, only volumes that an
// earlier reset kept can be lost.
func (r *operation) confirm(ctx context.Context, env *action.Env, _ []step.Planned) error {
	switch {
	case r.bare:
		return resetHost{env}.confirmDeletion(ctx, r.opts)
	case r.node != nil:
		return env.Confirm(ctx, fmt.Sprintf("This removes the node %s from the cluster %s, and everything that Plinth installed on this host. The cluster continues without it.\n%sRemove this node?",
			r.leave.Name, r.leave.Cluster, resetHost{env}.describeVolumes(r.opts.DeleteData)))
	}
	return resetHost{env}.confirmByName(ctx, env.Journal(), r.opts)
}

// journalArgs returns the arguments of this run.
func (r *operation) journalArgs(env *action.Env, _ int) *journal.Args {
	if r.bare {
		return nil
	}
	args := r.leave.JournalArgs(action.ClusterName(env.Journal()))
	return &args
}

// apply leaves the cluster, removes every kind of leftover, compares the host with its
// state before the install, and removes the data folder with the journal last: until
// then, a second reset relies on it.
func (r *operation) apply(ctx context.Context, env *action.Env, runner step.Runner, steps []step.Step) error {
	leave, last := len(r.leave.Steps), len(steps)-1
	runner.Count = len(steps)
	if err := r.leaveCluster(ctx, env, runner, steps[:leave]); err != nil {
		return err
	}
	if _, err := runner.From(leave).RunAll(ctx, steps[leave:last]); err != nil {
		return r.leftoverProblem(ctx, env, err)
	}
	if !r.bare {
		if err := (resetHost{env}).verifyHostRestored(ctx, env.Journal(), &r.res); err != nil {
			return err
		}
	}
	runner.Recorder = nil // this step removes the journal
	_, err := runner.From(last).Run(ctx, steps[last:])
	return err
}

// leftoverProblem returns the problem of a reset in which removals failed with err, and
// stores what is still on the host.
func (r *operation) leftoverProblem(ctx context.Context, env *action.Env, err error) error {
	if problem.ExitCode(err) == problem.ExitInterrupted {
		return err
	}
	for _, k := range r.kinds {
		found, _ := k.Find(ctx) // what cannot be inspected is in err
		r.res.Leftovers = append(r.res.Leftovers, found...)
	}
	return problem.New(problem.ExitLeftover, "remove everything", err,
		"find out what uses it, then run the same command again; a reboot ends processes that still run; the log is "+env.LogFile)
}

// result returns the result of the reset; a plan gets the sizes of what it removes.
func (r *operation) result(ctx context.Context, env *action.Env, out action.Outcome) Result {
	r.res.Changed, r.res.Log = out.Changed, out.Log
	if !r.opts.DryRun || len(out.Planned) == 0 || r.bare && plan.CountNeeded(out.Planned) == 0 {
		return r.res
	}
	o := resetHost{env.ReadOnly()}
	planned := out.Planned
	for i, k := range r.kinds {
		found, _ := k.Find(ctx) // the plan has just called it without an error
		s := &planned[len(r.leave.Steps)+i]
		s.Affects, s.Bytes = o.withSizes(found)
	}
	var inside []string
	for _, name := range o.dataDirEntries(r.keep) {
		inside = append(inside, filepath.Join(o.DataDir, name))
	}
	if r.res.Program != "" {
		inside = append(inside, r.res.Program)
		planned[len(planned)-1].Affects = append(planned[len(planned)-1].Affects, r.res.Program)
	}
	_, planned[len(planned)-1].Bytes = o.withSizes(inside)
	r.res.Plan = planned
	return r.res
}

// verifyHostRestored compares the host with its state before the install and returns an
// error when leftovers remain. Without a record of that state it compares nothing and
// leaves res unchanged.
func (o resetHost) verifyHostRestored(ctx context.Context, j *journal.Journal, res *Result) error {
	c, err := o.recordedCluster(j)
	if err != nil || c.Before == nil {
		return err
	}
	res.Comparison, err = node.VerifyReset(ctx, o.Host, c, o.DataDir)
	switch {
	case err != nil:
		o.Note("warning: cannot compare the host with its state before the install: " + err.Error())
	case len(res.Comparison.Leftovers) > 0:
		res.Leftovers = res.Comparison.Leftovers
		return problem.New(problem.ExitLeftover, "remove everything", errors.New("the host is not as it was before: "+strings.Join(res.Leftovers, ", ")),
			"find out what uses it, then run the same command again; the log is "+o.LogFile)
	}
	return nil
}

// leftoverKinds returns the kinds of leftovers that the cluster of this host may have,
// according to the journal. A run that ended before it had inspected the host has left
// nothing: what is there was not installed by Plinth.
func (o resetHost) leftoverKinds(j *journal.Journal) ([]cleanup.Kind, error) {
	c, err := o.recordedCluster(j)
	if err != nil || c.Before == nil && !j.HistoryLost() {
		return nil, err
	}
	kinds := node.Leftovers(o.Host, c)
	rules := plan.ConfiguredFirewalls(j)
	if j.HistoryLost() { // they are found by their names; those of a packet filter end with their unit
		rules = append(rules, firewall.Rules{Kind: firewall.Firewalld}, firewall.Rules{Kind: firewall.UFW})
	}
	if len(rules) > 0 { // after k0s has stopped, which needs them; before files
		files := slices.IndexFunc(kinds, func(k cleanup.Kind) bool { return k.ID == cleanup.FilesID })
		kinds = slices.Insert(kinds, files, node.FirewallKind(o.Host, rules))
	}
	return kinds, nil
}

// recordedCluster returns the cluster of this host with the state of the host before it;
// without that state when no run recorded it or the record is lost.
func (o resetHost) recordedCluster(j *journal.Journal) (cleanup.Scope, error) {
	c := o.journalCluster(j)
	var before cleanup.HostState
	known, err := j.LoadState(plan.RecordHostStateID, &before)
	if err != nil {
		return c, problem.New(problem.ExitInternal, "read the state of this host before the install", err, "")
	}
	if known {
		c.Before = &before
	}
	return c, nil
}

// journalCluster returns the cluster of this host as recorded in the journal.
func (o resetHost) journalCluster(j *journal.Journal) cleanup.Scope {
	var cidrs []netip.Prefix
	created := []string{k0s.ContainerdConfigPath}
	for _, earlier := range j.Runs() {
		if p, err := netip.ParsePrefix(earlier.Args.PodCIDR); err == nil {
			cidrs = []netip.Prefix{p}
		}
		for _, s := range earlier.Steps {
			if s.ID != plan.RollbackFilesID {
				created = append(created, s.Affects...)
			}
		}
	}
	c := o.CleanupScope(cidrs...)
	if c.Cautious = j.HistoryLost(); !c.Cautious {
		c.WrittenPaths = created
	}
	return c
}
