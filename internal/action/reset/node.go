package reset

import (
	"context"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// NodeOptions are the options of `plinth reset node`.
type NodeOptions struct {
	Options               // Cluster is not used
	Timeout time.Duration // for the eviction of the node's pods; 0 for nodes.DrainTimeout
	Force   bool          // accept losses, and that the cluster is not informed
}

// RunNode makes this host leave its cluster and then removes from it what RunCluster
// removes. The other hosts of the cluster keep running.
func RunNode(ctx context.Context, env *action.Env, opts NodeOptions) (Result, error) {
	if err := env.RequireHost(resetNodeVerb); err != nil {
		return Result{}, err
	}
	if opts.Timeout == 0 {
		opts.Timeout = nodes.DrainTimeout
	}
	r := operation{verb: resetNodeVerb, opts: opts.Options, node: &opts}
	out, err := action.Execute(ctx, env, r.engineOperation())
	return r.result(ctx, env, out), err
}

// leaveCluster runs the steps that remove this host from the cluster.
func (r *operation) leaveCluster(ctx context.Context, env *action.Env, runner step.Runner, steps []step.Step) error {
	for i, s := range steps {
		_, err := runner.From(i).Run(ctx, []step.Step{s})
		if err == nil {
			continue
		}
		if !r.leave.Force || problem.ExitCode(err) == problem.ExitInterrupted {
			return problem.New(problem.ExitStep, "leave the cluster "+r.leave.Cluster, err, "fix the cause and run the same command again: it resumes where it stopped\n"+
				"to reset this host anyway: --force, and then on a controller: "+RemoveCommand(r.leave.Name))
		}
		env.Note("warning: ignored because of --force: " + err.Error())
		if s.ID == plan.LeaveStepID {
			r.res.FollowUp = []string{RemoveCommand(r.leave.Name)}
		}
	}
	return nil
}
