package nodes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// DrainTimeout is the default time for the eviction of all pods of a node.
const DrainTimeout = 5 * time.Minute

// List returns the state of the cluster that this host belongs to, and notes what
// could not be determined.
func List(ctx context.Context, env *action.Env) (ClusterView, error) {
	const doing = "list the nodes"
	if err := action.RequireRoot(doing); err != nil {
		return ClusterView{}, err
	}
	v, err := Inspect(ctx, env.ReadOnly().Host)
	if err != nil {
		return v, clusterError(doing, err)
	}
	for _, p := range v.Problems {
		env.Note("warning: " + p)
	}
	return v, nil
}

// Request describes a drain or a removal.
type Request struct {
	Node    string
	Timeout time.Duration // for the eviction of pods; 0 for DrainTimeout
	Plan    bool          // only return the plan
	Force   bool          // accept losses
}

// Result is the result of a drain or a removal. Its JSON format is public.
type Result struct {
	Node    string         `json:"node"`
	Role    string         `json:"role,omitempty"`
	Changed bool           `json:"changed"`          // false if there was nothing to do
	Losses  []string       `json:"losses,omitempty"` // accepted losses: harmless ones, and with Force all others
	Plan    []step.Planned `json:"plan,omitempty"`   // only with Request.Plan
	Log     string         `json:"log,omitempty"`
}

// Drain cordons a node and evicts its pods.
func Drain(ctx context.Context, env *action.Env, req Request) (Result, error) {
	return changeNode(ctx, env, "drain", req)
}

// Remove permanently removes a node from the cluster: its pods, its etcd vote, its
// Node object and its credentials. It does not change the host.
func Remove(ctx context.Context, env *action.Env, req Request) (Result, error) {
	return changeNode(ctx, env, "remove", req)
}

// clusterError returns the usage problem for err, an error of this host's cluster. A
// missing kubeconfig means that nothing is installed.
func clusterError(doing string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return problem.New(problem.ExitUsage, doing, errors.New("no finished install is on this host"), "run it on a controller of the cluster, or install first: plinth install --bundle FILE")
	}
	return problem.New(problem.ExitUsage, doing, fmt.Errorf("the cluster does not answer this host: %w", err), "run it on a controller of the cluster; `plinth status` shows the state of this host")
}

// changeNode drains or removes a node, depending on verb.
func changeNode(ctx context.Context, env *action.Env, verb string, req Request) (Result, error) {
	doing := verb + " node " + req.Node
	receipt, err := env.RequireInstalled(doing)
	if err != nil {
		return Result{}, err
	}
	if req.Timeout == 0 {
		req.Timeout = DrainTimeout
	}
	c := nodeRemoval{verb: verb, req: req, receipt: receipt}
	out, err := action.Execute(ctx, env, action.Operation{
		Verb:       "node " + verb,
		PlanOnly:   req.Plan,
		Inspect:    c.inspect,    // read the cluster; refuse what would be lost without --force
		IsUpToDate: c.isUpToDate, // drained or removed already
		Steps:      c.steps,      // plan.DrainNode or plan.RemoveNode
		Confirm:    c.confirm,    // ask once
	})
	if verb == "remove" && out.Changed {
		env.Audit(ctx, agent.AuditEvent{Event: agent.AuditRevocation, Node: req.Node, Result: removalResult(err)})
	}
	res := Result{Node: req.Node, Role: c.role, Losses: c.losses, Changed: out.Changed, Log: out.Log}
	if err == nil && req.Plan {
		res.Plan = out.Planned
	}
	return res, err
}

// removalResult returns the result of a removal for the audit log.
func removalResult(err error) string {
	if err != nil {
		return "the removal did not finish: " + err.Error()
	}
	return "node removed; its credentials are revoked"
}

// inspect reads the cluster and refuses a change that would lose something, unless
// --force was given.
func (c *nodeRemoval) inspect(ctx context.Context, env *action.Env) (err error) {
	doing := c.verb + " node " + c.req.Node
	var role string
	if c.client, role, err = NewClient(env.Host); err != nil {
		return clusterError(doing, err)
	}
	if role != Controller {
		return problem.New(problem.ExitUsage, doing, errors.New("this host is a worker, and a worker cannot change other nodes"), "run it on a controller; nothing was changed")
	}
	if c.ClusterView, err = inspectWith(ctx, env.Host, c.client, role); err != nil {
		return clusterError(doing, err)
	}
	if c.pods, err = kube.PodsToEvict(ctx, c.client, c.req.Node); err != nil {
		return clusterError(doing, err)
	}
	if err := c.findReplicas(ctx, c.client); err != nil {
		return clusterError(doing, err)
	}
	if c.done, err = c.upToDate(c.verb); c.done || err != nil {
		return err
	}
	n, _ := c.findNode(c.req.Node)
	c.role = n.Role
	c.losses, err = c.checkLoss(c.verb)
	return err
}

// isUpToDate reports whether inspect found nothing to do.
func (c *nodeRemoval) isUpToDate(context.Context, *action.Env) (bool, error) { return c.done, nil }

// steps returns the steps of the change; none when there is nothing to do.
func (c *nodeRemoval) steps(_ context.Context, env *action.Env) ([]step.Step, error) {
	switch {
	case c.done:
		return nil, nil
	case c.verb == "remove":
		return plan.RemoveNode(c.stepsInput(env, c.client)), nil
	}
	return plan.DrainNode(c.stepsInput(env, c.client)), nil
}

// confirm notes the losses and asks before the first change.
func (c *nodeRemoval) confirm(ctx context.Context, env *action.Env, _ []step.Planned) error {
	for _, l := range c.losses {
		env.Note("warning: " + l)
	}
	return env.Confirm(ctx, c.confirmQuestion(c.verb))
}

// nodeRemoval is the state of the cluster before a node is drained or removed.
type nodeRemoval struct {
	ClusterView
	verb   string // drain or remove
	client *kube.Client
	role   string   // of the node
	losses []string // losses that --force accepts, and harmless ones
	done   bool     // nothing is to be done

	req        Request
	receipt    journal.Receipt
	pods       []kube.NodePod
	replicated map[string]bool // pods, by namespace/name, whose data is on other nodes too
}

// findReplicas finds the console pods on the node whose data is on other nodes too.
func (c *nodeRemoval) findReplicas(ctx context.Context, client *kube.Client) (err error) {
	c.replicated = map[string]bool{}
	for _, p := range c.pods {
		if p.Namespace != c.receipt.Console.Namespace || len(p.LocalPVCs) == 0 {
			continue
		}
		if c.replicated[p.String()], err = kots.IsReplicatedElsewhere(ctx, client, p.Namespace, p.Name, c.req.Node); err != nil {
			return err
		}
	}
	return nil
}

// upToDate reports whether there is nothing to do. It is a usage problem if the
// cluster does not have the node, which it may have removed before: a mistyped name
// must not look like a removal.
func (c nodeRemoval) upToDate(verb string) (bool, error) {
	n, known := c.findNode(c.req.Node)
	_, votes := c.findMember(c.req.Node)
	switch {
	case verb == "drain" && known:
		return (n.Cordoned || n.unregistered) && len(c.pods) == 0, nil
	case known, verb == "remove" && votes:
		return false, nil
	}
	var names []string
	for _, n := range c.Nodes {
		names = append(names, n.Name)
	}
	for _, m := range c.Etcd {
		if m.Name == "" && verb == "remove" {
			names = append(names, m.Address)
		}
	}
	return false, problem.Newf(problem.ExitUsage, verb+" node "+c.req.Node, "name one of: "+strings.Join(names, ", "), "the cluster has no such node")
}

// checkLoss returns what drain or remove would lose. A loss that requires Force is a
// usage problem without it. Removing this host or the last controller is always one.
func (c nodeRemoval) checkLoss(verb string) (losses []string, err error) {
	doing := verb + " node " + c.req.Node
	var refused []string
	if verb == "remove" && c.req.Node == c.receipt.Node {
		hint := "to remove this host from its cluster and reset it: sudo plinth reset node; nothing was changed"
		if len(c.Nodes) == 1 {
			hint = "to remove the cluster from this host, its only node: sudo plinth reset cluster; nothing was changed"
		}
		return nil, problem.New(problem.ExitUsage, doing, errors.New("the command runs on this node"), hint)
	}
	if verb == "remove" {
		r := c.voteRemoval()
		switch {
		case r.LosesQuorum && r.Remaining == 0:
			return nil, problem.New(problem.ExitUsage, doing, errors.New(r.Message), "to remove the whole cluster: plinth reset cluster")
		case r.LosesQuorum:
			refused = append(refused, r.Message)
		case r.Message != "":
			losses = append(losses, r.Message)
		}
	}
	pods, more := c.podLosses(verb)
	refused, losses = append(refused, pods...), append(losses, more...)
	if len(refused) > 0 && !c.req.Force {
		return nil, problem.New(problem.ExitUsage, doing, errors.New(strings.Join(refused, "; ")), "to accept this, run the same command with --force; nothing was changed")
	}
	return append(refused, losses...), nil
}

// voteRemoval returns the effect of removing the node's etcd vote; the zero value
// for a node without one.
func (c nodeRemoval) voteRemoval() etcd.Removal {
	if m, ok := c.findMember(c.req.Node); ok {
		return etcd.SimulateRemoval(c.Etcd, m.ID, c.apiServerReady)
	}
	return etcd.Removal{}
}

// podLosses returns the losses of the node's pods: refused ones require Force,
// the others are accepted.
func (c nodeRemoval) podLosses(verb string) (refused, losses []string) {
	for _, p := range c.pods {
		if p.Unmanaged {
			refused = append(refused, "pod "+p.String()+" has no controller that would start it on another node, and would be deleted for good")
		}
		switch {
		case len(p.LocalPVCs) > 0 && verb == "remove" && c.replicated[p.String()]:
			losses = append(losses, fmt.Sprintf("pod %s loses its copy of the console's data, and creates a new one if there is a node without a copy", p))
		case len(p.LocalPVCs) > 0 && verb == "remove":
			refused = append(refused, fmt.Sprintf("the data of %s (pod %s) is only on this node and would be lost", strings.Join(p.LocalPVCs, ", "), p))
		case len(p.LocalPVCs) > 0:
			losses = append(losses, fmt.Sprintf("pod %s stays pending until this node is uncordoned: the data of %s is only on this node", p, strings.Join(p.LocalPVCs, ", ")))
		}
	}
	return refused, losses
}

func (c nodeRemoval) confirmQuestion(verb string) string {
	n, _ := c.findNode(c.req.Node)
	if verb == "drain" {
		return fmt.Sprintf("Drain node %s (%d pods will be evicted)?", c.req.Node, len(c.pods))
	}
	return fmt.Sprintf("Permanently remove node %s (%s, %d pods will be evicted) from the cluster?", c.req.Node, n.Role, len(c.pods))
}

// stepsInput returns what the drain and removal steps need.
func (c nodeRemoval) stepsInput(env *action.Env, client *kube.Client) plan.LeavingNode {
	n, known := c.findNode(c.req.Node)
	m, votes := c.findMember(c.req.Node)
	d := plan.LeavingNode{Name: c.req.Node, InCluster: known && !n.unregistered, NotReady: !n.Ready, Kube: client, Timeout: c.req.Timeout, RemovedBy: "an administrator on " + c.receipt.Node}
	d.EtcdOnly = !known && m.Name == ""
	if votes {
		d.InEtcd = func(ctx context.Context) (bool, error) {
			store, err := etcd.New(env.Host)
			if err != nil {
				return false, err
			}
			all, err := store.Members(ctx)
			return slices.ContainsFunc(all, func(x etcd.Member) bool { return x.ID == m.ID }), err
		}
		d.RemoveFromEtcd = func(ctx context.Context) error {
			store, err := etcd.New(env.Host)
			if err != nil {
				return err
			}
			return store.Remove(ctx, m.ID)
		}
	}
	return d
}
