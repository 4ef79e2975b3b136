// Package parting owns whether and how this host may leave its cluster: what
// the cluster's other controllers say to that, and the steps by which they let
// it go. It refuses to change anything itself, and to know what is on the host.
package parting

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/agent/peer"
	"github.com/plinthdev/plinth/internal/app/gateway"
	"github.com/plinthdev/plinth/internal/app/nodes"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan/leave"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// Parting is how this host leaves its cluster. The zero value is a host that
// does not: its cluster ends with it.
type Parting struct {
	Name     string      // of the node
	Cluster  string      // its name
	Peers    []string    // addresses of the other controllers
	Steps    []step.Step // by which the cluster is told
	Force    bool        // go on without what fails of them
	Warnings []string    // what is lost, or will not be done
	Remains  []string    // what is still to be typed on a controller
}

// The journal's names for how this host leaves.
const (
	ArgScope = "scope" // ScopeNode: it leaves a cluster that goes on
	ArgPeers = "peers" // addresses of that cluster's controllers

	ScopeNode = "node"
)

// Args is what a reset writes down as it begins.
func (p Parting) Args(cluster string) map[string]string {
	args := map[string]string{run.ArgName: cluster}
	if p.Name != "" {
		args[ArgScope], args[ArgPeers] = ScopeNode, strings.Join(p.Peers, ",")
	}
	return args
}

// Departed reports whether the cluster has let this host go since it last
// became a node.
func Departed(j *journal.Journal) (gone bool) {
	for _, r := range j.Runs() {
		if r.Verb != "reset" {
			gone = false
		}
		for _, s := range r.Steps {
			gone = gone || s.ID == leave.LeaveID && s.Ended != nil && s.Failed == ""
		}
	}
	return gone
}

// Leaving is the unfinished run by which this host was leaving its cluster, if
// that is the last thing that happened here.
func Leaving(j *journal.Journal) (journal.Run, bool) {
	runs := j.Runs()
	if len(runs) == 0 {
		return journal.Run{}, false
	}
	last := runs[len(runs)-1]
	return last, last.Verb == "reset" && last.Args[ArgScope] == ScopeNode && last.Unfinished()
}

// lookTimeout bounds the look at the cluster through this host's own API.
const lookTimeout = 10 * time.Second

// doing is the verb, for refusals.
const doing = "reset node"

// Request is what a node that leaves is asked for.
type Request struct {
	Timeout time.Duration // for its pods to leave
	Force   bool          // accept what is lost, and that the cluster is not told
}

// job is the parting of this host.
type job struct{ *run.Run }

// Find finds out how this host can leave, or why it must not. It changes
// nothing.
func Find(ctx context.Context, r *run.Run, j *journal.Journal, req Request) (Parting, error) {
	a := job{r}
	p := Parting{Name: a.nodeName(), Cluster: run.ClusterName(j), Force: req.Force}
	if Departed(j) {
		return p, nil // an earlier run came that far
	}
	client, view, err := a.view(ctx)
	switch {
	case err == nil:
		if err := mayBeMissed(p, view); err != nil {
			return p, err
		}
		p.Peers = controllers(view, p.Name)
	case a.beginning(j):
		return p, refuse("the install on this host did not come to its end, so that no other host is part of its cluster", wholeCluster(p))
	default:
		p.Warnings = append(p.Warnings, "the API of this node does not answer, so that its pods are not moved elsewhere: "+err.Error())
		p.Peers, client = a.knownPeers(j), nil
	}
	conf, err := identity(a.Host)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a.never(p, err), nil
	case err != nil:
		return a.ask(ctx, p, own{mute{err}, client}, req)
	}
	return a.ask(ctx, p, own{peer.NewNode(conf, p.Peers), client}, req)
}

// own is what this host asks the cluster with: as the node that it is at the
// agents of other controllers, and at the API; nil when that does not answer.
type own struct {
	others
	client *kube.Client
}

// others are the other controllers; see peer.Node.
type others interface {
	MayLeave(ctx context.Context) (agent.Farewell, error)
	Leave(ctx context.Context, force bool) error
}

// mute are controllers that cannot be asked.
type mute struct{ error }

func (m mute) MayLeave(context.Context) (agent.Farewell, error) { return agent.Farewell{}, m.error }
func (m mute) Leave(context.Context, bool) error                { return m.error }

// ask asks the other controllers what this node's leaving does.
func (a job) ask(ctx context.Context, p Parting, o own, req Request) (Parting, error) {
	look, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	f, err := o.MayLeave(look)
	switch {
	case ctx.Err() != nil:
		return p, context.Cause(ctx)
	case err != nil && !req.Force:
		return p, refuse("no other controller of the cluster answers: "+err.Error(), fmt.Sprintf("they have to be reached at port 9444/tcp; is the agent there up? systemctl status plinth-agent\n"+
			"to take back this host though the cluster is not told: --force, and then on a controller: %s\nif this host is all there is of %s: sudo plinth reset cluster", Removal(p.Name), p.Cluster))
	case err != nil:
		p.Warnings = append(p.Warnings, "the cluster is not told: "+err.Error())
		p.Remains = []string{Removal(p.Name)}
		return p, nil
	case !f.Known:
		p.Warnings = append(p.Warnings, "the cluster does not count on this host any more; only the host itself is taken back")
		return p, nil
	case len(f.Refused) > 0 && !req.Force:
		return p, refuse(strings.Join(f.Refused, "; "), "if that is meant, say so with --force")
	}
	p.Warnings = append(p.Warnings, append(f.Refused, f.Losses...)...)
	p.Steps = leave.Own{Name: p.Name, Kube: o.client, Timeout: req.Timeout,
		Known: func(ctx context.Context) (bool, error) {
			f, err := o.MayLeave(ctx)
			return f.Known, err
		},
		Leave: func(ctx context.Context) (again bool, err error) {
			err = o.Leave(ctx, req.Force)
			var no *peer.Denied
			return !errors.As(err, &no), err
		}}.Steps()
	return p, nil
}

// refuse is a leaving that must not be.
func refuse(cause, hint string) error {
	return problem.New(problem.ExitUsage, doing, errors.New(cause), hint+"\nnothing was changed")
}

func wholeCluster(p Parting) string {
	return "to take back the whole cluster, which is this host: sudo plinth reset cluster --cluster " + p.Cluster
}

// mayBeMissed refuses what would end the cluster.
func mayBeMissed(p Parting, v nodes.View) error {
	var rest []string
	ours := false // this host is a controller
	for _, n := range v.Nodes {
		if n.Name != p.Name {
			rest = append(rest, n.Name)
		} else {
			ours = n.Role == nodes.Controller
		}
	}
	switch {
	case len(rest) == 0:
		return refuse(fmt.Sprintf("this host is the only node of the cluster %s: there is nothing to leave", p.Cluster), wholeCluster(p))
	case ours && len(controllers(v, p.Name)) == 0:
		return refuse(fmt.Sprintf("this host is the last controller of the cluster %s: without it there is no cluster, and its other nodes (%s) are of no use", p.Cluster, strings.Join(rest, ", ")),
			"to end the whole cluster: sudo plinth reset node on each of "+strings.Join(rest, ", ")+", then here: sudo plinth reset cluster --cluster "+p.Cluster+
				"\nto keep it: let another host join as a controller first: sudo plinth token create --role controller")
	}
	return nil
}

// controllers lists the addresses of the controllers but this one.
func controllers(v nodes.View, name string) (addresses []string) {
	for _, n := range v.Nodes {
		if n.Name != name && n.Role == nodes.Controller && len(n.Addresses) > 0 {
			addresses = append(addresses, n.Addresses[0])
		}
	}
	return addresses
}

// view looks at the cluster as this host sees it.
func (a job) view(ctx context.Context) (*kube.Client, nodes.View, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, fmt.Errorf("no answer within %s", lookTimeout))
	defer cancel()
	client, _, err := nodes.Client(a.Host)
	if err != nil {
		return nil, nodes.View{}, err
	}
	v, err := nodes.Look(ctx, a.Host)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return client, v, err
}

// beginning reports whether an install began on this host that never came to
// its end: before that no other host can join.
func (a job) beginning(j *journal.Journal) bool {
	_, installed, err := journal.ReadReceipt(a.Host, a.DataDir)
	_, began := j.Last("install")
	_, joined := j.Last("join")
	return err == nil && !installed && began && !joined
}

// knownPeers is whom this host can ask while its own way into the cluster is
// closed: what its balancer knows, and what earlier runs wrote down.
func (a job) knownPeers(j *journal.Journal) (addresses []string) {
	seen, _ := gateway.Controllers(a.Host, a.DataDir) // what cannot be read knows none
	for _, address := range seen {
		addresses = append(addresses, address.String())
	}
	for _, r := range slices.Backward(j.Runs()) {
		for address := range strings.SplitSeq(r.Args[ArgPeers], ",") {
			if address != "" && !slices.Contains(addresses, address) {
				addresses = append(addresses, address)
			}
		}
	}
	return addresses
}

// never is a host that has not become a node.
func (a job) never(p Parting, err error) Parting {
	p.Warnings = append(p.Warnings, "this host has not become a node of the cluster, which is not told therefore: "+err.Error())
	if _, err := a.Host.Lstat(k0s.EtcdMember); err == nil {
		p.Remains = []string{Removal(p.Name)} // a vote that nobody casts
	}
	return p
}

// nodeName is this host's name in the cluster.
func (a job) nodeName() string {
	if r, ok, err := journal.ReadReceipt(a.Host, a.DataDir); err == nil && ok && r.Node != "" {
		return r.Node
	}
	raw, _ := a.Host.ReadFile("/proc/sys/kernel/hostname") // every Linux has it
	return strings.ToLower(strings.TrimSpace(string(raw)))
}

// identity is the certificate of the node that this host is, and the authority
// of its cluster.
func identity(h host.Files) (*tls.Config, error) {
	raw, err := h.ReadFile(k0s.KubeletConf)
	if err != nil {
		return nil, err
	}
	conf, err := clientcmd.RESTConfigFromKubeConfig(raw)
	if err != nil {
		return nil, err
	}
	if len(conf.CAData) == 0 && conf.CAFile == "" { // the machine's would be taken
		return nil, errors.New(k0s.KubeletConf + " names no certificate authority")
	}
	t, err := rest.TLSConfigFor(conf)
	switch {
	case err != nil:
		return nil, err
	case t == nil:
		return nil, errors.New(k0s.KubeletConf + " names no certificate")
	}
	return t, nil
}

// Removal is what takes a node out of the cluster that cannot do so itself.
func Removal(node string) string { return "sudo plinth node remove " + node }
