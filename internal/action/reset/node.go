package reset

import (
	"context"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
)

// NodeOptions are the options of `plinth reset node`.
type NodeOptions struct {
	Options               // Cluster is not used
	Timeout time.Duration // for the eviction of the node's pods; 0 for nodes.DrainTimeout
	Force   bool          // accept losses, and that the cluster is not informed
}

// RunNode makes this host leave its cluster and then removes from it what RunCluster
// removes. The other hosts of the cluster keep running.
func RunNode(ctx context.Context, r *action.Env, req NodeOptions) (Result, error) {
	const doing = "reset node"
	if err := action.RequireRoot(doing); err != nil {
		return Result{}, err
	}
	if req.Timeout == 0 {
		req.Timeout = nodes.DrainTimeout
	}
	o := operation{r}
	if err := o.checkInstalled(doing); err != nil {
		return Result{}, err
	}
	if req.DryRun {
		return operation{o.ReadOnly()}.resetNode(ctx, req)
	}
	var res Result
	err := o.WithLock(ctx, "reset", func(r *action.Env, _ *ui.RunLog) (err error) {
		res, err = operation{r}.resetNode(ctx, req)
		return err
	})
	return res, err
}

func (o operation) resetNode(ctx context.Context, req NodeOptions) (Result, error) {
	j, err := o.OpenJournal()
	if err != nil {
		return Result{}, err
	}
	if len(j.Runs()) == 0 && !j.HistoryLost() {
		return o.resetWithoutJournal(ctx, j, req.Options)
	}
	p, err := NewLeavePlan(ctx, o.Env, j, LeaveOptions{Timeout: req.Timeout, Force: req.Force})
	if err != nil {
		return Result{}, err
	}
	for _, w := range p.Warnings {
		o.Note("warning: " + w)
	}
	if req.DryRun {
		return o.dryRun(ctx, j, req.Options, p)
	}
	if err := o.Confirm(ctx, fmt.Sprintf("Remove this host (%s) from the cluster %s, and remove everything that Plinth installed on it?", p.Name, p.Cluster)); err != nil {
		return Result{}, err
	}
	return o.removeCluster(ctx, j, req.DeleteData, p)
}

// leaveCluster runs the steps of p that remove this host from the cluster.
func (o operation) leaveCluster(ctx context.Context, runner step.Runner, p LeavePlan, res *Result) error {
	res.Node, res.Cluster, res.FollowUp = p.Name, p.Cluster, p.FollowUp
	for _, s := range p.Steps {
		_, err := runner.Run(ctx, []step.Step{s})
		if err == nil {
			continue
		}
		if !p.Force || problem.ExitCode(err) == problem.ExitInterrupted {
			return problem.New(problem.ExitStep, "leave the cluster "+p.Cluster, err, "fix the cause and run the same command again: it resumes where it stopped\n"+
				"to reset this host anyway: --force, and then on a controller: "+RemoveCommand(p.Name))
		}
		o.Note("warning: ignored because of --force: " + err.Error())
		if s.ID == plan.LeaveStepID {
			res.FollowUp = []string{RemoveCommand(p.Name)}
		}
	}
	return nil
}
