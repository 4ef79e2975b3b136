package nodes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kots/copies"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/member"
	"github.com/plinthdev/plinth/internal/plan/leave"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// DrainTimeout is how long pods may take to leave, unless another bound is
// given.
const DrainTimeout = 5 * time.Minute

// List looks at the nodes of the cluster that this host belongs to.
func List(ctx context.Context, r *run.Run) (View, error) {
	const doing = "list the nodes"
	if err := run.NeedRoot(doing); err != nil {
		return View{}, err
	}
	v, err := Look(ctx, r.ReadOnly().Host)
	if err != nil {
		return v, noCluster(doing, err)
	}
	for _, p := range v.Problems {
		r.Note("warning: " + p)
	}
	return v, nil
}

// Request is what a node is drained or removed by.
type Request struct {
	Node    string
	Timeout time.Duration // for pods to leave; 0 for DrainTimeout
	Force   bool          // accept what is lost
}

// Result is how a drain or a removal ended.
type Result struct {
	Node    string   `json:"node"`
	Role    string   `json:"role,omitempty"`
	Changed bool     `json:"changed"`          // false: there was nothing to do
	Losses  []string `json:"losses,omitempty"` // what was given up, on request or because it costs nothing now
	Log     string   `json:"log,omitempty"`
}

// Drain moves the pods of a node elsewhere and keeps new ones off it.
func Drain(ctx context.Context, r *run.Run, req Request) (Result, error) {
	return change(ctx, r, "drain", req)
}

// Remove takes a node out of the cluster for good: its pods, its vote, its
// place and its credentials. The host itself is not touched.
func Remove(ctx context.Context, r *run.Run, req Request) (Result, error) {
	return change(ctx, r, "remove", req)
}

func noCluster(doing string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return problem.New(problem.ExitUsage, doing, errors.New("no finished install is on this host"), "run it on a controller of the cluster, or install first: plinth install --bundle FILE")
	}
	return problem.New(problem.ExitUsage, doing, fmt.Errorf("the cluster does not answer this host: %w", err), "run it on a controller of the cluster; `plinth status` shows how this one is")
}

// change proves that req can be done, asks, and does it.
func change(ctx context.Context, r *run.Run, verb string, req Request) (Result, error) {
	doing := verb + " node " + req.Node
	receipt, err := r.Installed(doing)
	if err != nil {
		return Result{}, err
	}
	if req.Timeout == 0 {
		req.Timeout = DrainTimeout
	}
	client, role, err := Client(r.Host)
	if err != nil {
		return Result{}, noCluster(doing, err)
	}
	if role != Controller {
		return Result{}, problem.New(problem.ExitUsage, doing, errors.New("this host is a worker, and a worker may not change other nodes"), "run it on a controller; nothing was changed")
	}
	v, err := look(ctx, r.Host, client, role)
	if err != nil {
		return Result{}, noCluster(doing, err)
	}
	pods, err := member.Pods(ctx, client, req.Node)
	if err != nil {
		return Result{}, noCluster(doing, err)
	}
	c := departure{View: v, req: req, here: receipt, pods: pods}
	if err := c.seekCopies(ctx, client); err != nil {
		return Result{}, noCluster(doing, err)
	}
	res := Result{Node: req.Node}
	if done, err := c.settled(ctx, verb, client); done || err != nil {
		return res, err
	}
	losses, err := c.judge(verb)
	if err != nil {
		return res, err
	}
	n, _ := v.node(req.Node)
	res.Role, res.Losses = n.Role, losses
	err = r.Changing(ctx, "node-"+verb, func(r *run.Run, _ *runlog.Log) error {
		for _, l := range losses {
			r.Note("warning: " + l)
		}
		if err := r.Confirm(ctx, c.question(verb)); err != nil {
			return err
		}
		res.Changed, res.Log = true, r.LogFile
		steps := leave.Drain(c.work(r, client))
		if verb == "remove" {
			steps = leave.Remove(c.work(r, client))
		}
		_, err := r.Steps("node "+verb, nil).Run(ctx, steps)
		return err
	})
	return res, err
}

// departure is what is known before a node is changed.
type departure struct {
	View
	req    Request
	here   journal.Receipt
	pods   []member.Pod
	copied map[string]bool // pods whose data other nodes have too
}

// seekCopies finds the pods of the console whose data other nodes have too.
func (c *departure) seekCopies(ctx context.Context, client *kube.Client) (err error) {
	c.copied = map[string]bool{}
	for _, p := range c.pods {
		if p.Namespace != c.here.Console.Namespace || len(p.Volumes) == 0 {
			continue
		}
		if c.copied[p.String()], err = copies.Elsewhere(ctx, client, p.Namespace, p.Name, c.req.Node); err != nil {
			return err
		}
	}
	return nil
}

// settled reports whether there is nothing to do, or says that there is no
// such node.
func (c departure) settled(ctx context.Context, verb string, client *kube.Client) (bool, error) {
	n, known := c.node(c.req.Node)
	_, votes := c.member(c.req.Node)
	switch {
	case verb == "drain" && known:
		return n.Cordoned && len(c.pods) == 0, nil
	case known, verb == "remove" && votes:
		return false, nil
	}
	if verb == "remove" {
		if was, err := member.Revoked(ctx, client, c.req.Node); was || err != nil {
			return was, err
		}
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

// judge says what is lost; what may not be lost unasked is an error.
func (c departure) judge(verb string) (losses []string, err error) {
	doing := verb + " node " + c.req.Node
	var refused []string
	if verb == "remove" && c.req.Node == c.here.Node {
		return nil, problem.New(problem.ExitUsage, doing, errors.New("this is the host that the command runs on"), "to have it leave the cluster and take it back: sudo plinth reset node; nothing was changed")
	}
	if verb == "remove" {
		r := c.vote()
		switch {
		case r.Breaks && r.Left == 0:
			return nil, problem.New(problem.ExitUsage, doing, errors.New(r.Says), "to take the whole cluster back: plinth reset cluster")
		case r.Breaks:
			refused = append(refused, r.Says)
		case r.Says != "":
			losses = append(losses, r.Says)
		}
	}
	pods, more := c.lost(verb)
	refused, losses = append(refused, pods...), append(losses, more...)
	if len(refused) > 0 && !c.req.Force {
		return nil, problem.New(problem.ExitUsage, doing, errors.New(strings.Join(refused, "; ")), "if that is meant, say so with --force; nothing was changed")
	}
	return append(refused, losses...), nil
}

// vote is what the end of the node's vote does; nothing for one without.
func (c departure) vote() etcd.Removal {
	if m, ok := c.member(c.req.Node); ok {
		return etcd.Judge(c.Etcd, m.ID, c.serves)
	}
	return etcd.Removal{}
}

// lost is what the node's pods lose: what may not be lost unasked, and what
// only waits.
func (c departure) lost(verb string) (refused, losses []string) {
	for _, p := range c.pods {
		if p.Alone {
			refused = append(refused, "pod "+p.String()+" has no controller that would start it elsewhere: it is gone then")
		}
		switch {
		case len(p.Volumes) > 0 && verb == "remove" && c.copied[p.String()]:
			losses = append(losses, fmt.Sprintf("pod %s loses its copy of the console's data and makes a new one on a node that has none, if there is one", p))
		case len(p.Volumes) > 0 && verb == "remove":
			refused = append(refused, fmt.Sprintf("the data of %s (pod %s) is on this node alone, and lost with it", strings.Join(p.Volumes, ", "), p))
		case len(p.Volumes) > 0:
			losses = append(losses, fmt.Sprintf("pod %s waits until this node may be used again: the data of %s is here alone", p, strings.Join(p.Volumes, ", ")))
		}
	}
	return refused, losses
}

func (c departure) question(verb string) string {
	n, _ := c.node(c.req.Node)
	if verb == "drain" {
		return fmt.Sprintf("Drain node %s (%d pods leave)?", c.req.Node, len(c.pods))
	}
	return fmt.Sprintf("Remove node %s (%s, %d pods leave) from the cluster for good?", c.req.Node, n.Role, len(c.pods))
}

// work is what the steps need.
func (c departure) work(r *run.Run, client *kube.Client) leave.Node {
	n, known := c.node(c.req.Node)
	m, votes := c.member(c.req.Node)
	d := leave.Node{Name: c.req.Node, Known: known, Gone: !n.Ready, Kube: client, Timeout: c.req.Timeout, Now: r.Now}
	d.Nameless = !known && m.Name == ""
	if votes {
		d.Votes = func(ctx context.Context) (bool, error) {
			store, err := etcd.New(r.Host)
			if err != nil {
				return false, err
			}
			all, err := store.Members(ctx)
			return slices.ContainsFunc(all, func(x etcd.Member) bool { return x.ID == m.ID }), err
		}
		d.Unvote = func(ctx context.Context) error {
			store, err := etcd.New(r.Host)
			if err != nil {
				return err
			}
			return store.Remove(ctx, m.ID)
		}
	}
	return d
}
