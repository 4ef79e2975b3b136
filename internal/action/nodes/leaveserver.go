package nodes

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
)

// leaveTimeout is the timeout for the removal of a node that requested it. It is
// long because etcd may elect a new leader in the meantime.
const leaveTimeout = 90 * time.Second

// LeaveServer serves the requests of nodes that want to leave the cluster, on a controller.
type LeaveServer struct{ *action.Env }

// CheckLeave returns what the removal of node would lose. It changes nothing.
func (s LeaveServer) CheckLeave(ctx context.Context, node string) (agent.LeaveCheck, error) {
	c, _, err := inspectLeave(ctx, s.Env, node)
	if err != nil {
		return agent.LeaveCheck{}, err
	}
	return c.leaveCheck(), nil
}

// Leave removes the etcd vote, the credentials and the Node object of node. It does not
// evict pods, because the node drains itself before. With force, it accepts losses
// that are refused otherwise.
func (s LeaveServer) Leave(ctx context.Context, node string, force bool) error {
	// Complete the removal even if the caller disconnects: a half-removed node is worse.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	c, client, err := inspectLeave(ctx, s.Env, node)
	if err != nil {
		return err
	}
	f := c.leaveCheck()
	if node == c.receipt.Node {
		return &agent.StatusError{Reason: "a controller cannot remove itself; another controller has to", Status: http.StatusConflict}
	}
	if len(f.Refused) > 0 && !force {
		return &agent.StatusError{Reason: strings.Join(f.Refused, "; "), Status: http.StatusConflict}
	}
	if !f.Known {
		return nil
	}
	work := c.stepsInput(s.Env, client)
	work.InCluster = false // the node has drained itself
	_, err = s.StepRunner("node leave", nil).Run(ctx, plan.RemoveNode(work))
	return err
}

// inspectLeave inspects the cluster for the removal of a node that wants to leave.
func inspectLeave(ctx context.Context, env *action.Env, node string) (nodeRemoval, *kube.Client, error) {
	receipt, ok, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err != nil || !ok {
		return nodeRemoval{}, nil, errors.Join(err, errors.New("no finished install is on this host"))
	}
	client, err := env.KubeClient()
	if err != nil {
		return nodeRemoval{}, nil, err
	}
	v, err := inspectWith(ctx, env.Host, client, Controller)
	if err != nil {
		return nodeRemoval{}, nil, err
	}
	if len(v.Etcd) == 0 {
		return nodeRemoval{}, nil, errors.New(strings.Join(v.Problems, "; "))
	}
	pods, err := kube.PodsToEvict(ctx, client, node)
	if err != nil {
		return nodeRemoval{}, nil, err
	}
	c := nodeRemoval{ClusterView: v, req: Request{Node: node}, receipt: receipt, pods: pods}
	return c, client, c.findReplicas(ctx, client)
}

// leaveCheck returns the answer to a node that wants to leave.
func (c nodeRemoval) leaveCheck() agent.LeaveCheck {
	_, known := c.findNode(c.req.Node)
	_, votes := c.findMember(c.req.Node)
	f := agent.LeaveCheck{Cluster: c.receipt.Name, Known: known || votes}
	if !f.Known {
		return f
	}
	r := c.voteRemoval()
	if r.LosesQuorum {
		f.Refused = append(f.Refused, r.Message)
	} else if r.Message != "" {
		f.Losses = append(f.Losses, r.Message)
	}
	refused, losses := c.podLosses("remove")
	f.Refused, f.Losses = append(f.Refused, refused...), append(f.Losses, losses...)
	return f
}
