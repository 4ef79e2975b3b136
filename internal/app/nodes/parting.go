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

// partingTimeout bounds the removal of a node that asked for it: etcd may
// choose a new leader meanwhile.
const partingTimeout = 90 * time.Second

// Door lets nodes of the cluster go that ask this controller for it.
type Door struct{ *run.Run }

// MayLeave tells a node what its leaving would do.
func (d Door) MayLeave(ctx context.Context, node string) (agent.Farewell, error) {
	c, _, err := parting(ctx, d.Run, node)
	if err != nil {
		return agent.Farewell{}, err
	}
	return c.farewell(), nil
}

// Leave takes the vote, the credentials and the place of a node away; its pods
// are its own business.
func (d Door) Leave(ctx context.Context, node string, force bool) error {
	// It is brought to its end though the caller dies: half of it is worse.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingTimeout)
	defer cancel()
	c, client, err := parting(ctx, d.Run, node)
	if err != nil {
		return err
	}
	f := c.farewell()
	if node == c.here.Node {
		return &agent.Refusal{Why: "a controller cannot let itself go: another one has to", Status: http.StatusConflict}
	}
	if len(f.Refused) > 0 && !force {
		return &agent.Refusal{Why: strings.Join(f.Refused, "; "), Status: http.StatusConflict}
	}
	if !f.Known {
		return nil
	}
	work := c.work(d.Run, client)
	work.Known = false // it has emptied itself
	_, err = d.Steps("node leave", nil).Run(ctx, leave.Remove(work))
	return err
}

// parting looks at the cluster for a node that wants to leave it.
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

// farewell is what the node is told.
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
