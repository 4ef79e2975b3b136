// Package reset removes a cluster from this host, or this host from its cluster.
package reset

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/plinthdev/plinth/internal/app/reset/parting"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// Options are the options of a reset.
type Request struct {
	DryRun     bool   // only return what would be removed
	Yes        bool   // do not ask for confirmation
	Cluster    string // name of the cluster to remove; "" to ask for it
	DeleteData bool   // remove volumes and logs too
}

// Result is the result of a reset.
type Result struct {
	Changed bool           `json:"changed"`            // false when there was nothing to remove
	Node    string         `json:"node,omitempty"`     // name of this host in a cluster that continues without it
	Cluster string         `json:"cluster,omitempty"`  // name of that cluster
	Remains []string       `json:"followUp,omitempty"` // commands to run on one of its controllers
	Plan    []step.Planned `json:"plan,omitempty"`
	Left    []string       `json:"leftovers,omitempty"` // what could not be removed
	Kept    []string       `json:"retained,omitempty"`  // what was kept on purpose: data, logs, files of other programs
	Proof   *Proof         `json:"proof,omitempty"`     // comparison of the host with its state before the install
	Log     string         `json:"log,omitempty"`
}

// Comparison is the comparison of a host after a reset with its state before the
// install.
type Proof = node.Proof

// operation is a reset of this host.
type job struct{ *run.Run }

// RunCluster removes the cluster from this host: everything that an install put here
// according to the journal, and what k0s and its pods left.
func Cluster(ctx context.Context, r *run.Run, req Request) (Result, error) {
	o := job{r}
	if err := run.NeedRoot("reset cluster"); err != nil {
		return Result{}, err
	}
	if req.DryRun {
		return job{o.ReadOnly()}.reset(ctx, req)
	}
	if err := o.somethingToReset("reset cluster"); err != nil {
		return Result{}, err
	}
	var res Result
	err := o.Changing(ctx, "reset", func(r *run.Run, _ *runlog.Log) (err error) {
		res, err = job{r}.reset(ctx, req)
		return err
	})
	return res, err
}

// checkInstalled returns a usage problem when the data folder has no install but a
// cluster is on this host: the cluster belongs to another data folder, or was not
// installed by Plinth.
func (o job) somethingToReset(doing string) error {
	if err := o.Usable(doing); err != nil {
		return err
	}
	j, err := o.Journal()
	if err != nil || len(j.Runs()) > 0 || j.Lost() {
		return err
	}
	if _, err := o.Host.Lstat(k0s.ConfigPath); err == nil {
		return problem.Newf(problem.ExitUsage, doing, "name the data folder of the install with --data-dir; Plinth does not remove a k0s that it did not install",
			"k0s is on this host, but %s has no record of an install", o.DataDir)
	}
	return nil
}

func (o job) reset(ctx context.Context, req Request) (Result, error) {
	j, err := o.Journal()
	if err != nil {
		return Result{}, err
	}
	if len(j.Runs()) == 0 && !j.Lost() {
		return o.resetBirth(ctx, j, req)
	}
	if req.DryRun {
		return o.dryRun(ctx, j, req, parting.Parting{})
	}
	if err := o.agree(ctx, j, req); err != nil {
		return Result{}, err
	}
	return o.takeBack(ctx, j, req.DeleteData, parting.Parting{})
}

// RollBack removes everything that the runs in j installed, without asking. The caller
// must hold the lock.
func TakeBack(ctx context.Context, r *run.Run, j *journal.Journal, deleteData bool) (Result, error) {
	return job{r}.takeBack(ctx, j, deleteData, parting.Parting{})
}

func (o job) takeBack(ctx context.Context, j *journal.Journal, deleteData bool, p parting.Parting) (Result, error) {
	kinds, err := o.leftovers(j)
	if err != nil {
		return Result{}, err
	}
	keep := o.keeping(deleteData)
	res := Result{Changed: true, Log: o.LogFile, Kept: o.kept(j, keep)}
	name := run.ClusterName(j)
	runner := o.Steps("reset", j)
	if err := j.Begin("reset", p.Args(name)); err != nil {
		// A full disk must not prevent a reset, which makes space: the
		// existing records of the journal suffice.
		o.Note("warning: " + err.Error())
		runner.Recorder = nil
	}
	if err := o.leave(ctx, runner, p, &res); err != nil {
		return res, errors.Join(err, j.End(err))
	}
	if _, err = runner.RunAll(ctx, plan.Reset(kinds)); err != nil {
		return o.left(ctx, res, kinds, errors.Join(err, j.End(err)))
	}
	if err := o.prove(ctx, j, &res); err != nil {
		return res, errors.Join(err, j.End(err))
	}
	// The journal is removed last: until here, a second reset relies on it.
	_, err = o.Steps("reset", nil).Run(ctx, []step.Step{o.removeDataDir(j, keep)})
	return res, err
}

// verifyHostRestored compares the host with its state before the install and returns an
// error when leftovers remain. Without a record of that state it compares nothing and
// leaves res unchanged.
func (o job) prove(ctx context.Context, j *journal.Journal, res *Result) error {
	c, err := o.remembered(j)
	if err != nil || c.Before == nil {
		return err
	}
	res.Proof, err = node.Prove(ctx, o.Host, c, o.DataDir)
	switch {
	case err != nil:
		o.Note("warning: cannot compare the host with its state before the install: " + err.Error())
	case len(res.Proof.Left) > 0:
		res.Left = res.Proof.Left
		return problem.New(problem.ExitLeftover, "remove everything", errors.New("the host is not as it was before: "+strings.Join(res.Left, ", ")),
			"find out what uses it, then run the same command again; the log is "+o.LogFile)
	}
	return nil
}

// dryRun returns what a reset would remove.
func (o job) dryRun(ctx context.Context, j *journal.Journal, req Request, p parting.Parting) (Result, error) {
	kinds, err := o.leftovers(j)
	if err != nil {
		return Result{}, err
	}
	keep := o.keeping(req.DeleteData)
	leaveSteps, err := o.Steps("reset", nil).Plan(ctx, p.Steps)
	if err != nil {
		return Result{}, err
	}
	planned, err := o.Steps("reset", nil).Plan(ctx, append(plan.Reset(kinds), o.removeDataDir(j, keep)))
	if err != nil {
		return Result{}, err
	}
	for i, k := range kinds {
		found, _ := k.Find(ctx) // Plan has just called it without an error
		planned[i].Touches, planned[i].Bytes = o.sized(found)
	}
	folder := &planned[len(planned)-1]
	var inside []string
	for _, name := range o.entries(keep) {
		inside = append(inside, filepath.Join(o.DataDir, name))
	}
	_, folder.Bytes = o.sized(inside)
	return Result{Node: p.Name, Cluster: p.Cluster, Remains: p.Remains, Plan: append(leaveSteps, planned...), Kept: o.kept(j, keep)}, nil
}

// resetWithoutJournal removes the data folder when a run was killed before its journal
// was complete, or a reset after it had removed the journal.
func (o job) resetBirth(ctx context.Context, j *journal.Journal, req Request) (Result, error) {
	keep := o.keeping(req.DeleteData)
	folder := o.removeDataDir(j, keep)
	res := Result{Kept: o.kept(j, keep), Log: o.LogFile}
	state, err := folder.Check(ctx)
	if err != nil || state.Kind == step.IsDone || req.DryRun {
		return res, err
	}
	_, err = o.Steps("reset", nil).Run(ctx, []step.Step{folder})
	res.Changed = err == nil
	return res, err
}

// withLeftovers adds to res what is still on the host after a reset that failed with err,
// and returns the problem for it.
func (o job) left(ctx context.Context, res Result, kinds []leftover.Kind, err error) (Result, error) {
	if problem.ExitCode(err) == problem.ExitInterrupted {
		return res, err
	}
	for _, k := range kinds {
		found, _ := k.Find(ctx) // what cannot be inspected is in err
		res.Left = append(res.Left, found...)
	}
	return res, problem.New(problem.ExitLeftover, "remove everything", err,
		"find out what uses it, then run the same command again; a reboot ends processes that still run; the log is "+o.LogFile)
}

// leftoverKinds returns the kinds of leftovers that the cluster of this host may have,
// according to the journal. A run that ended before it had inspected the host has left
// nothing: what is there was not installed by Plinth.
func (o job) leftovers(j *journal.Journal) ([]leftover.Kind, error) {
	c, err := o.remembered(j)
	if err != nil || c.Before == nil && !j.Lost() {
		return nil, err
	}
	return node.Leftovers(o.Host, c), nil
}

// recordedCluster returns the cluster of this host with the state of the host before it;
// without that state when no run recorded it or the record is lost.
func (o job) remembered(j *journal.Journal) (leftover.Cluster, error) {
	c := o.cluster(j)
	var before leftover.Before
	known, err := j.Found(plan.RememberID, &before)
	if err != nil {
		return c, problem.New(problem.ExitInternal, "read the state of this host before the install", err, "")
	}
	if known {
		c.Before = &before
	}
	return c, nil
}

// journalCluster returns the cluster of this host as recorded in the journal.
func (o job) cluster(j *journal.Journal) leftover.Cluster {
	var cidrs []netip.Prefix
	created := []string{k0s.OwnConfig}
	for _, earlier := range j.Runs() {
		if p, err := netip.ParsePrefix(earlier.Args[run.ArgPodCIDR]); err == nil {
			cidrs = []netip.Prefix{p}
		}
		for _, s := range earlier.Steps {
			created = append(created, s.Touches...)
		}
	}
	c := o.Leftover(cidrs...)
	if c.Cautious = j.Lost(); !c.Cautious {
		c.Made = created
	}
	return c
}
