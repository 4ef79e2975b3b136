package nodes

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/member"
	"github.com/plinthdev/plinth/internal/plan/leave"
)

// leaveTimeout is the timeout for the removal of a node that requested it. It is
// long because etcd may elect a new leader in the meantime.
const partingTimeout = 90 * time.Second

// LeaveServer serves the requests of nodes that want to leave the cluster, on a controller.
type Door struct{ *run.Run }

// CheckLeave returns what the removal of node would lose. It changes nothing.
func (d Door) MayLeave(ctx context.Context, node string) (agent.Farewell, error) {
	c, _, err := parting(ctx, d.Run, node)
	if err != nil {
		return agent.Farewell{}, err
	}
	return c.farewell(), nil
}

// Leave removes the etcd vote, the credentials and the Node object of node. It does not
// evict pods, because the node drains itself before. With force, it accepts losses
// that are refused otherwise.
func (d Door) Leave(ctx context.Context, node string, force bool) error {
	// Complete the removal even if the caller disconnects: a half-removed node is worse.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingTimeout)
	defer cancel()
	c, client, err := parting(ctx, d.Run, node)
	if err != nil {
		return err
	}
	f := c.farewell()
	if node == c.here.Node {
		return &agent.Refusal{Why: "a controller cannot remove itself; another controller has to", Status: http.StatusConflict}
	}
	if len(f.Refused) > 0 && !force {
		return &agent.Refusal{Why: strings.Join(f.Refused, "; "), Status: http.StatusConflict}
	}
	if !f.Known {
		return nil
	}
	work := c.work(d.Run, client)
	work.Known = false // the node has drained itself
	_, err = d.Steps("node leave", nil).Run(ctx, leave.Remove(work))
	return err
}

// inspectLeave inspects the cluster for the removal of a node that wants to leave.
func parting(ctx context.Context, r *run.Run, node string) (departure, *kube.Client, error) {
	receipt, ok, err := journal.ReadReceipt(r.Host, r.DataDir)
	if err != nil || !ok {
		return departure{}, nil, errors.Join(err, errors.New("no finished install is on this host"))
	}
	client, err := r.Client()
	if err != nil {
		return departure{}, nil, err
	}
	v, err := look(ctx, r.Host, client, Controller)
	if err != nil {
		return departure{}, nil, err
	}
	if len(v.Etcd) == 0 {
		return departure{}, nil, errors.New(strings.Join(v.Problems, "; "))
	}
	pods, err := member.Pods(ctx, client, node)
	if err != nil {
		return departure{}, nil, err
	}
	c := departure{View: v, req: Request{Node: node}, here: receipt, pods: pods}
	return c, client, c.seekCopies(ctx, client)
}

// leaveCheck returns the answer to a node that wants to leave.
func (c departure) farewell() agent.Farewell {
	_, known := c.node(c.req.Node)
	_, votes := c.member(c.req.Node)
	f := agent.Farewell{Cluster: c.here.Name, Known: known || votes}
	if !f.Known {
		return f
	}
	r := c.vote()
	if r.Breaks {
		f.Refused = append(f.Refused, r.Says)
	} else if r.Says != "" {
		f.Losses = append(f.Losses, r.Says)
	}
	refused, losses := c.lost("remove")
	f.Refused, f.Losses = append(f.Refused, refused...), append(f.Losses, losses...)
	return f
}
