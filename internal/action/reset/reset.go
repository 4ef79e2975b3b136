// Package reset removes a cluster from this host, or this host from its cluster.
package reset

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
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
	Leftovers  []string       `json:"leftovers,omitempty"` // what could not be removed
	Retained   []string       `json:"retained,omitempty"`  // what was kept on purpose: data, logs, files of other programs
	Comparison *Comparison    `json:"proof,omitempty"`     // comparison of the host with its state before the install
	Log        string         `json:"log,omitempty"`
}

// Comparison is the comparison of a host after a reset with its state before the
// install.
type Comparison = node.Verification

// operation is a reset of this host.
type operation struct{ *action.Env }

// RunCluster removes the cluster from this host: everything that an install put here
// according to the journal, and what k0s and its pods left.
func RunCluster(ctx context.Context, r *action.Env, req Options) (Result, error) {
	o := operation{r}
	if err := action.RequireRoot("reset cluster"); err != nil {
		return Result{}, err
	}
	if req.DryRun {
		return operation{o.ReadOnly()}.resetCluster(ctx, req)
	}
	if err := o.checkInstalled("reset cluster"); err != nil {
		return Result{}, err
	}
	var res Result
	err := o.WithLock(ctx, "reset", func(r *action.Env, _ *ui.RunLog) (err error) {
		res, err = operation{r}.resetCluster(ctx, req)
		return err
	})
	return res, err
}

// checkInstalled returns a usage problem when the data folder has no install but a
// cluster is on this host: the cluster belongs to another data folder, or was not
// installed by Plinth.
func (o operation) checkInstalled(doing string) error {
	if err := o.CheckDataDir(doing); err != nil {
		return err
	}
	j, err := o.OpenJournal()
	if err != nil || len(j.Runs()) > 0 || j.HistoryLost() {
		return err
	}
	if _, err := o.Host.Lstat(k0s.ConfigPath); err == nil {
		return problem.Newf(problem.ExitUsage, doing, "name the data folder of the install with --data-dir; Plinth does not remove a k0s that it did not install",
			"k0s is on this host, but %s has no record of an install", o.DataDir)
	}
	return nil
}

func (o operation) resetCluster(ctx context.Context, req Options) (Result, error) {
	j, err := o.OpenJournal()
	if err != nil {
		return Result{}, err
	}
	if len(j.Runs()) == 0 && !j.HistoryLost() {
		return o.resetWithoutJournal(ctx, j, req)
	}
	if req.DryRun {
		return o.dryRun(ctx, j, req, LeavePlan{})
	}
	if err := o.confirmByName(ctx, j, req); err != nil {
		return Result{}, err
	}
	return o.removeCluster(ctx, j, req.DeleteData, LeavePlan{})
}

// RollBack removes everything that the runs in j installed, without asking. The caller
// must hold the lock.
func RollBack(ctx context.Context, r *action.Env, j *journal.Journal, deleteData bool) (Result, error) {
	return operation{r}.removeCluster(ctx, j, deleteData, LeavePlan{})
}

func (o operation) removeCluster(ctx context.Context, j *journal.Journal, deleteData bool, p LeavePlan) (Result, error) {
	kinds, err := o.leftoverKinds(j)
	if err != nil {
		return Result{}, err
	}
	keep := o.retainedEntries(deleteData)
	res := Result{Changed: true, Log: o.LogFile, Retained: o.listRetained(j, keep)}
	name := action.ClusterName(j)
	runner := o.StepRunner("reset", j)
	if err := j.BeginRun("reset", p.JournalArgs(name)); err != nil {
		// A full disk must not prevent a reset, which makes space: the
		// existing records of the journal suffice.
		o.Note("warning: " + err.Error())
		runner.Recorder = nil
	}
	if err := o.leaveCluster(ctx, runner, p, &res); err != nil {
		return res, errors.Join(err, j.EndRun(err))
	}
	if _, err = runner.RunAll(ctx, plan.Reset(kinds)); err != nil {
		return o.withLeftovers(ctx, res, kinds, errors.Join(err, j.EndRun(err)))
	}
	if err := o.verifyHostRestored(ctx, j, &res); err != nil {
		return res, errors.Join(err, j.EndRun(err))
	}
	// The journal is removed last: until here, a second reset relies on it.
	_, err = o.StepRunner("reset", nil).Run(ctx, []step.Step{o.removeDataDirStep(j, keep)})
	return res, err
}

// verifyHostRestored compares the host with its state before the install and returns an
// error when leftovers remain. Without a record of that state it compares nothing and
// leaves res unchanged.
func (o operation) verifyHostRestored(ctx context.Context, j *journal.Journal, res *Result) error {
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

// dryRun returns what a reset would remove.
func (o operation) dryRun(ctx context.Context, j *journal.Journal, req Options, p LeavePlan) (Result, error) {
	kinds, err := o.leftoverKinds(j)
	if err != nil {
		return Result{}, err
	}
	keep := o.retainedEntries(req.DeleteData)
	leaveSteps, err := o.StepRunner("reset", nil).Plan(ctx, p.Steps)
	if err != nil {
		return Result{}, err
	}
	planned, err := o.StepRunner("reset", nil).Plan(ctx, append(plan.Reset(kinds), o.removeDataDirStep(j, keep)))
	if err != nil {
		return Result{}, err
	}
	for i, k := range kinds {
		found, _ := k.Find(ctx) // Plan has just called it without an error
		planned[i].Affects, planned[i].Bytes = o.withSizes(found)
	}
	folder := &planned[len(planned)-1]
	var inside []string
	for _, name := range o.dataDirEntries(keep) {
		inside = append(inside, filepath.Join(o.DataDir, name))
	}
	_, folder.Bytes = o.withSizes(inside)
	return Result{Node: p.Name, Cluster: p.Cluster, FollowUp: p.FollowUp, Plan: append(leaveSteps, planned...), Retained: o.listRetained(j, keep)}, nil
}

// resetWithoutJournal removes the data folder when a run was killed before its journal
// was complete, or a reset after it had removed the journal.
func (o operation) resetWithoutJournal(ctx context.Context, j *journal.Journal, req Options) (Result, error) {
	keep := o.retainedEntries(req.DeleteData)
	folder := o.removeDataDirStep(j, keep)
	res := Result{Retained: o.listRetained(j, keep), Log: o.LogFile}
	state, err := folder.Check(ctx)
	if err != nil || state.Kind == step.KindDone || req.DryRun {
		return res, err
	}
	_, err = o.StepRunner("reset", nil).Run(ctx, []step.Step{folder})
	res.Changed = err == nil
	return res, err
}

// withLeftovers adds to res what is still on the host after a reset that failed with err,
// and returns the problem for it.
func (o operation) withLeftovers(ctx context.Context, res Result, kinds []cleanup.Kind, err error) (Result, error) {
	if problem.ExitCode(err) == problem.ExitInterrupted {
		return res, err
	}
	for _, k := range kinds {
		found, _ := k.Find(ctx) // what cannot be inspected is in err
		res.Leftovers = append(res.Leftovers, found...)
	}
	return res, problem.New(problem.ExitLeftover, "remove everything", err,
		"find out what uses it, then run the same command again; a reboot ends processes that still run; the log is "+o.LogFile)
}

// leftoverKinds returns the kinds of leftovers that the cluster of this host may have,
// according to the journal. A run that ended before it had inspected the host has left
// nothing: what is there was not installed by Plinth.
func (o operation) leftoverKinds(j *journal.Journal) ([]cleanup.Kind, error) {
	c, err := o.recordedCluster(j)
	if err != nil || c.Before == nil && !j.HistoryLost() {
		return nil, err
	}
	return node.Leftovers(o.Host, c), nil
}

// recordedCluster returns the cluster of this host with the state of the host before it;
// without that state when no run recorded it or the record is lost.
func (o operation) recordedCluster(j *journal.Journal) (cleanup.Scope, error) {
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
func (o operation) journalCluster(j *journal.Journal) cleanup.Scope {
	var cidrs []netip.Prefix
	created := []string{k0s.ContainerdConfigPath}
	for _, earlier := range j.Runs() {
		if p, err := netip.ParsePrefix(earlier.Args[action.ArgPodCIDR]); err == nil {
			cidrs = []netip.Prefix{p}
		}
		for _, s := range earlier.Steps {
			created = append(created, s.Affects...)
		}
	}
	c := o.CleanupScope(cidrs...)
	if c.Cautious = j.HistoryLost(); !c.Cautious {
		c.WrittenPaths = created
	}
	return c
}
