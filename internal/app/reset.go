package app

import (
	"context"
	"errors"
	"net/netip"

	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// ResetRequest is what a reset is asked for.
type ResetRequest struct {
	DryRun bool // only say what would be removed
}

// ResetResult is how a reset ended.
type ResetResult struct {
	Changed bool           `json:"changed"` // false: there was nothing to take back
	Plan    []step.Planned `json:"plan,omitempty"`
	Left    []string       `json:"left,omitempty"` // what could not be taken back
	Log     string         `json:"log,omitempty"`
}

// ResetCluster takes the cluster of this host back: all that the journal says
// an install put here, and what k0s and its pods left.
func (a *App) ResetCluster(ctx context.Context, req ResetRequest) (ResetResult, error) {
	if err := needRoot("reset cluster"); err != nil {
		return ResetResult{}, err
	}
	if req.DryRun {
		return a.readOnly().reset(ctx, true)
	}
	// What Plinth did not put here is not Plinth's to remove.
	if j, err := journal.Open(a.host, a.DataDir, a.Now); err != nil || len(j.Runs()) == 0 {
		return ResetResult{}, err
	}
	var res ResetResult
	err := a.changing("reset", func(run *App, _ *runlog.Log) (err error) {
		res, err = run.reset(ctx, false)
		return err
	})
	return res, err
}

func (a *App) reset(ctx context.Context, dryRun bool) (ResetResult, error) {
	j, err := journal.Open(a.host, a.DataDir, a.Now)
	if err != nil {
		return ResetResult{}, err
	}
	if len(j.Runs()) == 0 {
		return ResetResult{}, nil
	}
	kinds, err := a.leftovers(j)
	if err != nil {
		return ResetResult{}, err
	}
	steps := plan.Reset(kinds)
	if dryRun {
		planned, err := a.runner("reset", nil).Plan(ctx, append(steps, a.removeDataDir()))
		if err != nil {
			return ResetResult{}, err
		}
		for i, k := range kinds {
			planned[i].Touches, _ = k.Find(ctx) // Plan has just done the same without an error
		}
		return ResetResult{Plan: planned}, nil
	}
	if err := a.Confirm(ctx, "Remove the cluster from this host, with all its data?"); err != nil {
		return ResetResult{}, err
	}
	if err := j.Begin("reset", nil); err != nil {
		return ResetResult{}, err
	}
	res := ResetResult{Changed: true, Log: a.LogFile}
	_, err = a.runner("reset", j).RunAll(ctx, steps)
	if err != nil {
		return a.left(ctx, res, kinds, errors.Join(err, j.End(err)))
	}
	// The journal goes last: until here it is what a second reset goes by.
	_, err = a.runner("reset", nil).Run(ctx, []step.Step{a.removeDataDir()})
	return res, err
}

// left lists what is still there after a reset that could not take all back.
func (a *App) left(ctx context.Context, res ResetResult, kinds []leftover.Kind, err error) (ResetResult, error) {
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

func (a *App) removeDataDir() step.Step {
	return step.Step{ID: "data-dir", Title: "Remove Plinth's data folder",
		Check: func(context.Context) (step.State, error) {
			if _, err := a.host.Lstat(a.DataDir); err != nil {
				return step.Done(), nil
			}
			return step.Needed(a.DataDir), nil
		},
		Apply: func(context.Context, step.Report) error { return a.host.RemoveAll(a.DataDir) },
	}
}

// leftovers says what this host's cluster may have left, from the journal. A
// run that ended before it had looked at the host has left nothing: what is
// there is somebody else's.
func (a *App) leftovers(j *journal.Journal) ([]leftover.Kind, error) {
	var before leftover.Before
	known, err := j.Found(plan.RememberID, &before)
	if err != nil {
		return nil, problem.New(problem.ExitInternal, "read what stood on this host before", err, "")
	}
	if !known {
		return nil, nil
	}
	var cidrs []netip.Prefix
	for _, run := range j.Runs() {
		if p, err := netip.ParsePrefix(run.Args[argPodCIDR]); err == nil {
			cidrs = []netip.Prefix{p}
		}
	}
	c := a.cluster(cidrs...)
	c.Before = &before
	return node.Leftovers(a.host, c), nil
}

// argPodCIDR is the journal's name for the pods' network of an install.
const argPodCIDR = "podCIDR"

// cluster is whose leftovers are looked for.
func (a *App) cluster(podCIDRs ...netip.Prefix) leftover.Cluster {
	c := leftover.Default(podCIDRs...)
	c.Extra = append(c.Extra, k0s.Binary, kots.Binary)
	return c
}
