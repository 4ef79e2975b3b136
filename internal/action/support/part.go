package support

import (
	"context"
	"errors"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/supportbundle"
)

// partTimeout limits the collection of this node's part. The controller waits longer, because it also waits for the start
// and the end of the unit.
const partTimeout = 50 * time.Second

// PartOptions are the options of CollectPart.
type PartOptions struct {
	ID    string        // of the collection; see agent.SupportRequest
	Since time.Duration // age of the oldest lines of logs
	Limit int64         // bytes of content
}

// CollectPart writes the part of a support bundle that describes this node, without secrets, for the agent, which has
// started it and sends the part to a controller. It changes nothing else.
func CollectPart(ctx context.Context, env *action.Env, o PartOptions) error {
	const doing = "collect this node's part of a support bundle"
	if err := action.RequireRoot(doing); err != nil {
		return err
	}
	if q := (agent.SupportRequest{ID: o.ID, Since: int64(o.Since.Seconds()), Limit: o.Limit}); !q.IsValid() {
		return problem.New(problem.ExitUsage, doing, errors.New("the request is not valid"), "run plinth support-bundle on a controller")
	}
	collecting, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	c := openCollector(collecting, env)
	c.restricted = true
	p := packer{collector: c, target: env.Host, since: o.Since, report: func(string) {}, timeout: partTimeout, hostOnly: true}
	target := desired.SupportPartPath(env.DataDir, o.ID)
	_, err := p.writeFile(collecting, target, supportbundle.Options{Root: "node", Time: env.Now().UTC(), Limit: o.Limit})
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return problem.New(problem.ExitInternal, doing, errors.Join(err, env.Host.RemoveAll(target)), "")
	}
	return nil
}
