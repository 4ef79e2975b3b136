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
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/token"
)

// leaveTimeout is the timeout for the removal of a node that requested it. It is
// long because etcd may elect a new leader in the meantime.
const leaveTimeout = 90 * time.Second

// LeaveServer serves the requests of nodes that want to leave the cluster, on a controller.
type LeaveServer struct {
	*action.Env
	inspect func(context.Context, *kube.Client) (ClusterView, error) // returns the cluster as this controller sees it; nil for inspectWith
}

// NewLeaveServer returns the server of the cluster that this controller belongs to.
func NewLeaveServer(env *action.Env) LeaveServer { return LeaveServer{Env: env} }

// CheckLeave returns what the removal of the node would lose. It changes nothing.
func (s LeaveServer) CheckLeave(ctx context.Context, p nodecert.NodeID) (agent.LeaveCheck, error) {
	c, _, err := s.inspectLeave(ctx, p)
	if err != nil {
		return agent.LeaveCheck{}, err
	}
	return c.leaveCheck(), nil
}

// Leave removes the etcd vote, the record and the Node object of the node. It does not
// evict pods, because the node drains itself before. With force, it accepts losses that
// are refused otherwise, but not that of the quorum: only an administrator on a controller
// may stop the cluster.
func (s LeaveServer) Leave(ctx context.Context, p nodecert.NodeID, force bool) error {
	// Complete the removal even if the caller disconnects: a half-removed node is worse.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	c, client, err := s.inspectLeave(ctx, p)
	if err != nil {
		return err
	}
	f := c.leaveCheck()
	refuse := func(why string) error { return &agent.StatusError{Reason: why, Status: http.StatusConflict} }
	switch {
	case !f.Known:
		return nil
	case p.Node == c.receipt.Node:
		return refuse("a controller cannot remove itself; another controller has to")
	case f.Blocked != "":
		return refuse(f.Blocked)
	case len(f.Refused) > 0 && !force:
		return refuse(strings.Join(f.Refused, "; "))
	}
	work := c.stepsInput(s.Env, client)
	work.InCluster, work.RemovedBy = false, "plinth reset node on this host" // the node has drained itself
	_, err = s.StepRunner("node leave", nil).Run(ctx, plan.RemoveNode(work))
	return err
}

// inspectLeave inspects the cluster for the removal of a node that wants to leave. A node that
// was removed, or admitted again since, is unknown.
func (s LeaveServer) inspectLeave(ctx context.Context, p nodecert.NodeID) (nodeRemoval, *kube.Client, error) {
	node := p.Node
	receipt, ok, err := journal.ReadReceipt(s.Host, s.DataDir)
	if err != nil || !ok {
		return nodeRemoval{}, nil, errors.Join(err, errors.New("no finished install is on this host"))
	}
	client, err := s.KubeClient()
	if err != nil {
		return nodeRemoval{}, nil, err
	}
	records, err := client.NodeRecords(ctx)
	if err != nil {
		return nodeRemoval{}, nil, err
	}
	if r, ok := records[node]; !ok || r.UID != p.UID {
		return nodeRemoval{receipt: receipt}, client, nil // it has left
	}
	inspect := s.inspect
	if inspect == nil {
		inspect = func(ctx context.Context, client *kube.Client) (ClusterView, error) {
			return inspectWith(ctx, s.Host, client, Controller)
		}
	}
	v, err := inspect(ctx, client)
	if err != nil {
		return nodeRemoval{}, nil, err
	}
	if len(v.Etcd) == 0 {
		return nodeRemoval{}, nil, errors.New(strings.Join(v.Problems, "; "))
	}
	if p.Role != token.Controller {
		v.Etcd = nil // a worker's removal never concerns a member of etcd, whatever its name
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
		f.Blocked = r.Message
	} else if r.Message != "" {
		f.Losses = append(f.Losses, r.Message)
	}
	refused, losses := c.podLosses("remove")
	f.Refused, f.Losses = append(f.Refused, refused...), append(f.Losses, losses...)
	return f
}
