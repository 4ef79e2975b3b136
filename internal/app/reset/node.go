package reset

import (
	"context"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/app/nodes"
	"github.com/plinthdev/plinth/internal/app/reset/parting"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/plan/leave"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// NodeRequest is what a node's reset is asked for.
type NodeRequest struct {
	Request               // Cluster is not asked for
	Timeout time.Duration // for the node's pods to leave; 0 for nodes.DrainTimeout
	Force   bool          // accept what is lost, and that the cluster is not told
}

// Node has this host leave its cluster, and then takes back here what
// Cluster would. The cluster's other hosts go on.
func Node(ctx context.Context, r *run.Run, req NodeRequest) (Result, error) {
	const doing = "reset node"
	if err := run.NeedRoot(doing); err != nil {
		return Result{}, err
	}
	if req.Timeout == 0 {
		req.Timeout = nodes.DrainTimeout
	}
	a := job{r}
	if err := a.somethingToReset(doing); err != nil {
		return Result{}, err
	}
	if req.DryRun {
		return job{a.ReadOnly()}.node(ctx, req)
	}
	var res Result
	err := a.Changing(ctx, "reset", func(r *run.Run, _ *runlog.Log) (err error) {
		res, err = job{r}.node(ctx, req)
		return err
	})
	return res, err
}

func (a job) node(ctx context.Context, req NodeRequest) (Result, error) {
	j, err := a.Journal()
	if err != nil {
		return Result{}, err
	}
	if len(j.Runs()) == 0 && !j.Lost() {
		return a.resetBirth(ctx, j, req.Request)
	}
	p, err := parting.Find(ctx, a.Run, j, parting.Request{Timeout: req.Timeout, Force: req.Force})
	if err != nil {
		return Result{}, err
	}
	for _, w := range p.Warnings {
		a.Note("warning: " + w)
	}
	if req.DryRun {
		return a.dryRun(ctx, j, req.Request, p)
	}
	if err := a.Confirm(ctx, fmt.Sprintf("Have this host (%s) leave the cluster %s, and take off it what Plinth put there?", p.Name, p.Cluster)); err != nil {
		return Result{}, err
	}
	return a.takeBack(ctx, j, req.DeleteData, p)
}

// leave has the cluster let this host go, as far as p says.
func (a job) leave(ctx context.Context, runner step.Runner, p parting.Parting, res *Result) error {
	res.Node, res.Cluster, res.Remains = p.Name, p.Cluster, p.Remains
	for _, s := range p.Steps {
		_, err := runner.Run(ctx, []step.Step{s})
		if err == nil {
			continue
		}
		if !p.Force || problem.ExitCode(err) == problem.ExitInterrupted {
			return problem.New(problem.ExitStep, "leave the cluster "+p.Cluster, err, "mend that, and run the same command again: it goes on where it stopped\n"+
				"to take this host back all the same: --force, and then on a controller: "+parting.Removal(p.Name))
		}
		a.Note("warning: going on without it: " + err.Error())
		if s.ID == leave.LeaveID {
			res.Remains = []string{parting.Removal(p.Name)}
		}
	}
	return nil
}
