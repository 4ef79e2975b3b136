package reset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
)

// LeavePlan is the plan by which this host leaves its cluster. The zero value is for a
// host that does not leave: the whole cluster is removed.
type LeavePlan struct {
	Name     string      // name of the node
	Cluster  string      // name of the cluster
	Peers    []string    // addresses of the other controllers
	Steps    []step.Step // steps that remove the node from the cluster
	Force    bool        // ignore steps that fail
	Warnings []string    // losses, and what will not be done
	FollowUp []string    // commands to run on a controller afterwards
}

// scopeNode is the scope of a reset after which the cluster continues without
// this host, as the journal stores it.
const scopeNode = "node"

// JournalArgs returns the arguments that a reset records when it starts.
func (p LeavePlan) JournalArgs(cluster string) journal.Args {
	args := journal.Args{Cluster: cluster}
	if p.Name != "" {
		args.Scope, args.Peers = scopeNode, p.Peers
	}
	return args
}

// HasLeft reports whether this host has left the cluster since it last became a node.
func HasLeft(j *journal.Journal) (gone bool) {
	for _, r := range j.Runs() {
		if r.Verb != "reset" {
			gone = false
		}
		for _, s := range r.Steps {
			gone = gone || s.ID == plan.LeaveStepID && s.EndedAt != nil && s.Failed == ""
		}
	}
	return gone
}

// inspectTimeout limits a query of the cluster through this host's own API.
const inspectTimeout = 10 * time.Second

// resetNodeVerb is the command name for problems.
const resetNodeVerb = "reset node"

// LeaveOptions are the options of a node that leaves.
type LeaveOptions struct {
	Timeout time.Duration // for the eviction of its pods
	Force   bool          // accept losses, and that the cluster is not informed
}

// leaveOperation plans how this host leaves.
type leaveOperation struct{ *action.Env }

// NewLeavePlan returns the plan by which this host leaves its cluster, or a problem when
// it must not leave. It changes nothing.
func NewLeavePlan(ctx context.Context, env *action.Env, j *journal.Journal, req LeaveOptions) (LeavePlan, error) {
	o := leaveOperation{env}
	p := LeavePlan{Name: o.nodeName(), Cluster: action.ClusterName(j), Force: req.Force}
	if HasLeft(j) {
		return p, nil // an earlier run has done it
	}
	if removed, ok, err := node.ReadRemoval(o.Host, o.DataDir); err == nil && ok { // k0s is stopped, and no controller has to be asked
		p.Warnings = append(p.Warnings, removed.String()+"; only the host itself is reset")
		return p, nil
	}
	client, view, err := o.inspectCluster(ctx)
	switch {
	case err == nil:
		if err := checkQuorum(p, view); err != nil {
			return p, err
		}
		p.Peers = controllerAddresses(view, p.Name)
	case o.installUnfinished(j):
		return p, refuseLeave("the install on this host is not finished, so its cluster has no other hosts", wholeClusterHint(p))
	default:
		p.Warnings = append(p.Warnings, "the API server of this node does not answer, so its pods are not evicted: "+err.Error())
		p.Peers, client = o.knownPeers(j), nil
	}
	leave, err := o.newLeaveClient(p.Peers)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o.neverJoined(p, err), nil
	case err != nil:
		return o.queryPeers(ctx, p, selfClient{unreachable{err}, client}, req)
	}
	return o.queryPeers(ctx, p, selfClient{leave, client}, req)
}

// selfClient is the access of this host to its cluster: with its node certificate to the
// agents of the other controllers, and to the Kubernetes API. client is nil when the API
// does not answer.
type selfClient struct {
	peerClient
	client *kube.Client
}

// peerClient is the client for the other controllers; see agent.LeaveClient.
type peerClient interface {
	CheckLeave(ctx context.Context) (agent.LeaveCheck, error)
	Leave(ctx context.Context, force bool) error
}

// unreachable is the client for controllers that cannot be reached; every request
// returns its error.
type unreachable struct{ error }

func (m unreachable) CheckLeave(context.Context) (agent.LeaveCheck, error) {
	return agent.LeaveCheck{}, m.error
}
func (m unreachable) Leave(context.Context, bool) error { return m.error }

// queryPeers asks the other controllers for the effects of this node's removal and
// returns p with warnings and steps.
func (o leaveOperation) queryPeers(ctx context.Context, p LeavePlan, self selfClient, req LeaveOptions) (LeavePlan, error) {
	queryCtx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	f, err := self.CheckLeave(queryCtx)
	switch {
	case ctx.Err() != nil:
		return p, context.Cause(ctx)
	case err != nil && !req.Force:
		return p, refuseLeave("no other controller of the cluster answers: "+err.Error(), fmt.Sprintf("they must be reachable at port %d/tcp; check the agent there: systemctl status plinth-agent\n"+
			"to reset this host without informing the cluster: --force, and then on a controller: %s\nif this is the only host of %s: sudo plinth reset cluster", ports.Agent, RemoveCommand(p.Name), p.Cluster))
	case err != nil:
		p.Warnings = append(p.Warnings, "the cluster is not informed: "+err.Error())
		p.FollowUp = []string{RemoveCommand(p.Name)}
		return p, nil
	case !f.Known:
		p.Warnings = append(p.Warnings, "this host is no longer a member of the cluster; only the host itself is reset")
		return p, nil
	case f.Blocked != "":
		return p, refuseLeave(f.Blocked, "only an administrator on another controller may accept this: "+RemoveCommand(p.Name)+" --force\nthen here: sudo plinth reset node --force")
	case len(f.Refused) > 0 && !req.Force:
		return p, refuseLeave(strings.Join(f.Refused, "; "), "to accept this, add --force")
	}
	p.Warnings = append(p.Warnings, append(f.Refused, f.Losses...)...)
	p.Steps = plan.LeaveSteps{Name: p.Name, Kube: self.client, Timeout: req.Timeout,
		InCluster: func(ctx context.Context) (bool, error) {
			f, err := self.CheckLeave(ctx)
			return f.Known, err
		},
		RequestLeave: func(ctx context.Context) (again bool, err error) {
			err = self.Leave(ctx, req.Force)
			var denied *agent.DeniedError
			return !errors.As(err, &denied), err
		}}.List()
	return p, nil
}

// refuseLeave returns the usage problem for a host that must not leave.
func refuseLeave(cause, hint string) error {
	return problem.New(problem.ExitUsage, resetNodeVerb, errors.New(cause), hint+"\nnothing was changed")
}

// wholeClusterHint returns the hint to remove the whole cluster.
func wholeClusterHint(p LeavePlan) string {
	return "to remove the whole cluster, which is only this host: sudo plinth reset cluster --cluster " + p.Cluster
}

// checkQuorum returns an error when the cluster would not survive the removal of this
// host.
func checkQuorum(p LeavePlan, v nodes.ClusterView) error {
	var rest []string
	isController := false // this host
	for _, n := range v.Nodes {
		if n.Name != p.Name {
			rest = append(rest, n.Name)
		} else {
			isController = n.Role == nodes.Controller
		}
	}
	switch {
	case len(rest) == 0:
		return refuseLeave(fmt.Sprintf("this host is the only node of the cluster %s: there is nothing to leave", p.Cluster), wholeClusterHint(p))
	case isController && len(controllerAddresses(v, p.Name)) == 0:
		return refuseLeave(fmt.Sprintf("this host is the last controller of the cluster %s: without it the cluster ends, and its other nodes (%s) cannot be used", p.Cluster, strings.Join(rest, ", ")),
			"to remove the whole cluster: sudo plinth reset node on each of "+strings.Join(rest, ", ")+", then here: sudo plinth reset cluster --cluster "+p.Cluster+
				"\nto keep it: let another host join as a controller first: sudo plinth token create --role controller")
	}
	return nil
}

// controllerAddresses returns the addresses of all controllers except this host, name.
func controllerAddresses(v nodes.ClusterView, name string) (addresses []string) {
	for _, n := range v.Nodes {
		if n.Name != name && n.Role == nodes.Controller && len(n.Addresses) > 0 {
			addresses = append(addresses, n.Addresses[0])
		}
	}
	return addresses
}

// inspectCluster returns a client for the API of this host and the nodes of the cluster.
func (o leaveOperation) inspectCluster(ctx context.Context) (*kube.Client, nodes.ClusterView, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, inspectTimeout, fmt.Errorf("no answer within %s", inspectTimeout))
	defer cancel()
	client, _, err := nodes.NewClient(o.Host)
	if err != nil {
		return nil, nodes.ClusterView{}, err
	}
	v, err := nodes.Inspect(ctx, o.Host)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return client, v, err
}

// installUnfinished reports whether an install, or a restore on a new host, was started on
// this host but never finished: before that, no other host can join.
func (o leaveOperation) installUnfinished(j *journal.Journal) bool {
	_, installed, err := journal.ReadReceipt(o.Host, o.DataDir)
	_, started := j.LastRun("install")
	_, restored := j.LastRun("restore")
	_, joined := j.LastRun("join")
	return err == nil && !installed && (started || restored) && !joined
}

// knownPeers returns the addresses of controllers that this host can query while its own
// API does not answer: those that its load balancer knows and those that earlier runs
// recorded.
func (o leaveOperation) knownPeers(j *journal.Journal) (addresses []string) {
	seen, _ := loadbalancer.KnownControllers(o.Host, o.DataDir) // none when it cannot be read
	for _, address := range seen {
		addresses = append(addresses, address.String())
	}
	for _, r := range slices.Backward(j.Runs()) {
		for _, address := range r.Args.Peers {
			if address != "" && !slices.Contains(addresses, address) {
				addresses = append(addresses, address)
			}
		}
	}
	return addresses
}

// neverJoined returns the plan of a host that has not become a node.
func (o leaveOperation) neverJoined(p LeavePlan, err error) LeavePlan {
	p.Warnings = append(p.Warnings, "this host has not become a node of the cluster, so the cluster is not informed: "+err.Error())
	if _, err := o.Host.Lstat(k0s.EtcdMemberDir); err == nil {
		p.FollowUp = []string{RemoveCommand(p.Name)} // an etcd member that never starts
	}
	return p
}

// nodeName returns the name of this host in the cluster.
func (o leaveOperation) nodeName() string {
	if r, ok, err := journal.ReadReceipt(o.Host, o.DataDir); err == nil && ok && r.Node != "" {
		return r.Node
	}
	raw, _ := o.Host.ReadFile("/proc/sys/kernel/hostname") // every Linux has it
	return strings.ToLower(strings.TrimSpace(string(raw)))
}

// newLeaveClient returns the client with which this host leaves. The error is
// fs.ErrNotExist if the cluster has not admitted it.
func (o leaveOperation) newLeaveClient(peers []string) (client agent.LeaveClient, err error) {
	i, err := node.ReadIdentity(o.Host, o.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, missing := o.Host.Lstat(k0s.KubeletConf); missing == nil { // a node, which has to leave; it is the last file of an admission
			return client, errors.New("this host cannot identify itself: " + node.IdentityPath(o.DataDir) + " is missing")
		}
	}
	if err != nil {
		return client, err
	}
	ca, err := i.Authority()
	if err != nil {
		return client, err
	}
	if ca == nil {
		return client, fmt.Errorf("the cluster has not admitted this host: %w", fs.ErrNotExist)
	}
	cert, err := i.TLS()
	return agent.NewLeaveClient(cert, token.PublicKeyPin(ca), peers), err
}

// RemoveCommand returns the command that removes node from the cluster when it cannot
// leave by itself.
func RemoveCommand(node string) string { return "sudo plinth node remove " + node }
