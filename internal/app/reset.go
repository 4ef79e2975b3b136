package app

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/plinthdev/plinth/internal/host"
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
	if err := a.somethingToReset(); err != nil {
		return ResetResult{}, err
	}
	var res ResetResult
	err := a.changing("reset", func(run *App, _ *runlog.Log) (err error) {
		res, err = run.reset(ctx, false)
		return err
	})
	return res, err
}

// somethingToReset refuses where the data folder knows of no install, and yet
// there is a cluster: it is another folder's, or somebody else's.
func (a *App) somethingToReset() error {
	if err := a.usable("reset cluster"); err != nil {
		return err
	}
	j, err := journal.Open(a.host, a.DataDir, a.Now)
	if err != nil || len(j.Runs()) > 0 {
		return err
	}
	if _, err := a.host.Lstat(k0s.ConfigPath); err == nil {
		return problem.Newf(problem.ExitUsage, "reset cluster", "name the data folder of the install with --data-dir; a k0s that Plinth did not install is not Plinth's to remove",
			"k0s is on this host, but %s knows of no install", a.DataDir)
	}
	return nil
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
	res := ResetResult{Changed: true, Log: a.LogFile}
	run := a.runner("reset", j)
	if err := j.Begin("reset", nil); err != nil {
		// A full disk must not keep a reset from making space: what the
		// journal says already is enough to go by.
		a.Note("warning: " + err.Error())
		run.Recorder = nil
	}
	if _, err = run.RunAll(ctx, steps); err != nil {
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

// removeDataDir empties Plinth's folder and removes it; a mount point of the
// user's stays, empty.
func (a *App) removeDataDir() step.Step {
	return step.Step{ID: "data-dir", Title: "Remove Plinth's data folder",
		Check: func(context.Context) (step.State, error) {
			entries, err := a.host.ReadDir(a.DataDir)
			if err == nil && slices.ContainsFunc(entries, ours) {
				return step.Needed(a.DataDir), nil
			}
			return step.Done(), nil
		},
		Apply: func(context.Context, step.Report) error {
			entries, err := a.host.ReadDir(a.DataDir)
			if err != nil {
				return err
			}
			for _, e := range entries {
				if !ours(e) {
					continue
				}
				if err := a.host.RemoveAll(filepath.Join(a.DataDir, e.Name())); err != nil {
					return err
				}
			}
			_ = a.host.RemoveAll(a.DataDir) // refused for a mount point only, which stays
			return nil
		},
	}
}

// ours reports whether an entry of the data folder is Plinth's; the file
// system's own is not.
func ours(e fs.DirEntry) bool { return e.Name() != "lost+found" }

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
	for _, path := range []string{k0s.Binary, kots.Binary} {
		c.Extra = append(c.Extra, path, host.TempPath(path))
	}
	return c
}
