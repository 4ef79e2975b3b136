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

// NodeOptions are the options of `plinth reset node`.
type NodeRequest struct {
	Request               // Cluster is not used
	Timeout time.Duration // for the eviction of the node's pods; 0 for nodes.DrainTimeout
	Force   bool          // accept losses, and that the cluster is not informed
}

// RunNode makes this host leave its cluster and then removes from it what RunCluster
// removes. The other hosts of the cluster keep running.
func Node(ctx context.Context, r *run.Run, req NodeRequest) (Result, error) {
	const doing = "reset node"
	if err := run.NeedRoot(doing); err != nil {
		return Result{}, err
	}
	if req.Timeout == 0 {
		req.Timeout = nodes.DrainTimeout
	}
	o := job{r}
	if err := o.somethingToReset(doing); err != nil {
		return Result{}, err
	}
	if req.DryRun {
		return job{o.ReadOnly()}.node(ctx, req)
	}
	var res Result
	err := o.Changing(ctx, "reset", func(r *run.Run, _ *runlog.Log) (err error) {
		res, err = job{r}.node(ctx, req)
		return err
	})
	return res, err
}

func (o job) node(ctx context.Context, req NodeRequest) (Result, error) {
	j, err := o.Journal()
	if err != nil {
		return Result{}, err
	}
	if len(j.Runs()) == 0 && !j.Lost() {
		return o.resetBirth(ctx, j, req.Request)
	}
	p, err := parting.Find(ctx, o.Run, j, parting.Request{Timeout: req.Timeout, Force: req.Force})
	if err != nil {
		return Result{}, err
	}
	for _, w := range p.Warnings {
		o.Note("warning: " + w)
	}
	if req.DryRun {
		return o.dryRun(ctx, j, req.Request, p)
	}
	if err := o.Confirm(ctx, fmt.Sprintf("Remove this host (%s) from the cluster %s, and remove everything that Plinth installed on it?", p.Name, p.Cluster)); err != nil {
		return Result{}, err
	}
	return o.takeBack(ctx, j, req.DeleteData, p)
}

// leaveCluster runs the steps of p that remove this host from the cluster.
func (o job) leave(ctx context.Context, runner step.Runner, p parting.Parting, res *Result) error {
	res.Node, res.Cluster, res.Remains = p.Name, p.Cluster, p.Remains
	for _, s := range p.Steps {
		_, err := runner.Run(ctx, []step.Step{s})
		if err == nil {
			continue
		}
		if !p.Force || problem.ExitCode(err) == problem.ExitInterrupted {
			return problem.New(problem.ExitStep, "leave the cluster "+p.Cluster, err, "fix the cause and run the same command again: it resumes where it stopped\n"+
				"to reset this host anyway: --force, and then on a controller: "+parting.Removal(p.Name))
		}
		o.Note("warning: ignored because of --force: " + err.Error())
		if s.ID == leave.LeaveID {
			res.Remains = []string{parting.Removal(p.Name)}
		}
	}
	return nil
}
