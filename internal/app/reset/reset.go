// Package reset owns how a cluster is taken back from this host. It refuses to
// know how any leftover is found or removed.
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

// Request is what a reset is asked for.
type Request struct {
	DryRun     bool   // only say what would be removed
	Yes        bool   // do not ask
	Cluster    string // name of the cluster that is meant; "" to be asked for it
	DeleteData bool   // remove volumes and logs too
}

// Result is how a reset ended.
type Result struct {
	Changed bool           `json:"changed"`           // false: there was nothing to take back
	Node    string         `json:"node,omitempty"`    // that this host was, of a cluster that goes on
	Cluster string         `json:"cluster,omitempty"` // the name of that one
	Remains []string       `json:"remains,omitempty"` // what is still to be typed on one of its controllers
	Plan    []step.Planned `json:"plan,omitempty"`
	Left    []string       `json:"left,omitempty"`  // what could not be taken back
	Kept    []string       `json:"kept,omitempty"`  // what was left on purpose: data, logs, what others put there
	Proof   *Proof         `json:"proof,omitempty"` // how the host compares to what it was before the install
	Log     string         `json:"log,omitempty"`
}

// Proof is how a host after a reset compares to what it was before the install.
type Proof = node.Proof

// job is a reset of this host.
type job struct{ *run.Run }

// Cluster takes the cluster of this host back: all that the journal says
// an install put here, and what k0s and its pods left.
func Cluster(ctx context.Context, r *run.Run, req Request) (Result, error) {
	a := job{r}
	if err := run.NeedRoot("reset cluster"); err != nil {
		return Result{}, err
	}
	if req.DryRun {
		return job{a.ReadOnly()}.reset(ctx, req)
	}
	if err := a.somethingToReset("reset cluster"); err != nil {
		return Result{}, err
	}
	var res Result
	err := a.Changing(ctx, "reset", func(r *run.Run, _ *runlog.Log) (err error) {
		res, err = job{r}.reset(ctx, req)
		return err
	})
	return res, err
}

// somethingToReset refuses where the data folder knows of no install, and yet
// there is a cluster: it is another folder's, or somebody else's.
func (a job) somethingToReset(doing string) error {
	if err := a.Usable(doing); err != nil {
		return err
	}
	j, err := a.Journal()
	if err != nil || len(j.Runs()) > 0 || j.Lost() {
		return err
	}
	if _, err := a.Host.Lstat(k0s.ConfigPath); err == nil {
		return problem.Newf(problem.ExitUsage, doing, "name the data folder of the install with --data-dir; a k0s that Plinth did not install is not Plinth's to remove",
			"k0s is on this host, but %s knows of no install", a.DataDir)
	}
	return nil
}

func (a job) reset(ctx context.Context, req Request) (Result, error) {
	j, err := a.Journal()
	if err != nil {
		return Result{}, err
	}
	if len(j.Runs()) == 0 && !j.Lost() {
		return a.resetBirth(ctx, j, req)
	}
	if req.DryRun {
		return a.dryRun(ctx, j, req, parting.Parting{})
	}
	if err := a.agree(ctx, j, req); err != nil {
		return Result{}, err
	}
	return a.takeBack(ctx, j, req.DeleteData, parting.Parting{})
}

// TakeBack takes back all that the runs in j did, without asking, for a verb
// that holds the lock.
func TakeBack(ctx context.Context, r *run.Run, j *journal.Journal, deleteData bool) (Result, error) {
	return job{r}.takeBack(ctx, j, deleteData, parting.Parting{})
}

func (a job) takeBack(ctx context.Context, j *journal.Journal, deleteData bool, p parting.Parting) (Result, error) {
	kinds, err := a.leftovers(j)
	if err != nil {
		return Result{}, err
	}
	keep := a.keeping(deleteData)
	res := Result{Changed: true, Log: a.LogFile, Kept: a.kept(j, keep)}
	name := run.ClusterName(j)
	runner := a.Steps("reset", j)
	if err := j.Begin("reset", p.Args(name)); err != nil {
		// A full disk must not keep a reset from making space: what the
		// journal says already is enough to go by.
		a.Note("warning: " + err.Error())
		runner.Recorder = nil
	}
	if err := a.leave(ctx, runner, p, &res); err != nil {
		return res, errors.Join(err, j.End(err))
	}
	if _, err = runner.RunAll(ctx, plan.Reset(kinds)); err != nil {
		return a.left(ctx, res, kinds, errors.Join(err, j.End(err)))
	}
	if err := a.prove(ctx, j, &res); err != nil {
		return res, errors.Join(err, j.End(err))
	}
	// The journal goes last: until here it is what a second reset goes by.
	_, err = a.Steps("reset", nil).Run(ctx, []step.Step{a.removeDataDir(j, keep)})
	return res, err
}

// prove compares the host with what it was before the install. Without a record
// of that there is nothing to compare with, which the answer then lacks.
func (a job) prove(ctx context.Context, j *journal.Journal, res *Result) error {
	c, err := a.remembered(j)
	if err != nil || c.Before == nil {
		return err
	}
	res.Proof, err = node.Prove(ctx, a.Host, c, a.DataDir)
	switch {
	case err != nil:
		a.Note("warning: the host cannot be compared with what it was before: " + err.Error())
	case len(res.Proof.Left) > 0:
		res.Left = res.Proof.Left
		return problem.New(problem.ExitLeftover, "take everything back", errors.New("the host is not as it was before: "+strings.Join(res.Left, ", ")),
			"see what holds it, then run the same command again; the log is "+a.LogFile)
	}
	return nil
}

// dryRun says what a reset would take back.
func (a job) dryRun(ctx context.Context, j *journal.Journal, req Request, p parting.Parting) (Result, error) {
	kinds, err := a.leftovers(j)
	if err != nil {
		return Result{}, err
	}
	keep := a.keeping(req.DeleteData)
	told, err := a.Steps("reset", nil).Plan(ctx, p.Steps)
	if err != nil {
		return Result{}, err
	}
	planned, err := a.Steps("reset", nil).Plan(ctx, append(plan.Reset(kinds), a.removeDataDir(j, keep)))
	if err != nil {
		return Result{}, err
	}
	for i, k := range kinds {
		found, _ := k.Find(ctx) // Plan has just done the same without an error
		planned[i].Touches, planned[i].Bytes = a.sized(found)
	}
	folder := &planned[len(planned)-1]
	var inside []string
	for _, name := range a.entries(keep) {
		inside = append(inside, filepath.Join(a.DataDir, name))
	}
	_, folder.Bytes = a.sized(inside)
	return Result{Node: p.Name, Cluster: p.Cluster, Remains: p.Remains, Plan: append(told, planned...), Kept: a.kept(j, keep)}, nil
}

// resetBirth takes back what a run leaves that was killed before its journal
// was whole, or a reset after its journal had gone.
func (a job) resetBirth(ctx context.Context, j *journal.Journal, req Request) (Result, error) {
	keep := a.keeping(req.DeleteData)
	folder := a.removeDataDir(j, keep)
	res := Result{Kept: a.kept(j, keep), Log: a.LogFile}
	state, err := folder.Check(ctx)
	if err != nil || state.Kind == step.IsDone || req.DryRun {
		return res, err
	}
	_, err = a.Steps("reset", nil).Run(ctx, []step.Step{folder})
	res.Changed = err == nil
	return res, err
}

// left lists what is still there after a reset that could not take all back.
func (a job) left(ctx context.Context, res Result, kinds []leftover.Kind, err error) (Result, error) {
	if problem.ExitCode(err) == problem.ExitInterrupted {
		return res, err
	}
	for _, k := range kinds {
		found, _ := k.Find(ctx) // what cannot be looked at stands in err
		res.Left = append(res.Left, found...)
	}
	return res, problem.New(problem.ExitLeftover, "take everything back", err,
		"see what holds it, then run the same command again; a reboot ends what still runs; the log is "+a.LogFile)
}

// leftovers says what this host's cluster may have left, from the journal. A
// run that ended before it had looked at the host has left nothing: what is
// there is somebody else's.
func (a job) leftovers(j *journal.Journal) ([]leftover.Kind, error) {
	c, err := a.remembered(j)
	if err != nil || c.Before == nil && !j.Lost() {
		return nil, err
	}
	return node.Leftovers(a.Host, c), nil
}

// remembered is this host's cluster with what stood here before it; without
// that when no run ever looked, or nobody knows any more.
func (a job) remembered(j *journal.Journal) (leftover.Cluster, error) {
	c := a.cluster(j)
	var before leftover.Before
	known, err := j.Found(plan.RememberID, &before)
	if err != nil {
		return c, problem.New(problem.ExitInternal, "read what stood on this host before", err, "")
	}
	if known {
		c.Before = &before
	}
	return c, nil
}

// cluster is this host's cluster as the journal tells of it.
func (a job) cluster(j *journal.Journal) leftover.Cluster {
	var cidrs []netip.Prefix
	made := []string{k0s.OwnConfig}
	for _, earlier := range j.Runs() {
		if p, err := netip.ParsePrefix(earlier.Args[run.ArgPodCIDR]); err == nil {
			cidrs = []netip.Prefix{p}
		}
		for _, s := range earlier.Steps {
			made = append(made, s.Touches...)
		}
	}
	c := a.Leftover(cidrs...)
	if c.Cautious = j.Lost(); !c.Cautious {
		c.Made = made
	}
	return c
}
