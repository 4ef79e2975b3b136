// Package nodes inspects, drains and removes the nodes of the cluster.
// It changes nothing on their hosts; `plinth reset` cleans up a removed host.
package nodes

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/token"
)

// Roles of a node.
const (
	Controller = token.Controller
	Worker     = token.Worker
	Unknown    = "unknown" // of a node that was not admitted
)

// Node is one node of the cluster. Role and addresses are those of its record; the rest is
// what its kubelet reports. Its JSON format is public.
type Node struct {
	Name      string    `json:"name"`
	Role      string    `json:"role"`              // Controller, Worker or Unknown
	Admitted  bool      `json:"admitted"`          // it has a record; without one, its Node object is not of a host that joined
	Joining   bool      `json:"joining,omitempty"` // not admitted yet: the install or join of this host has not finished
	Ready     bool      `json:"ready"`
	Reason    string    `json:"reason,omitempty"`   // why it is not Ready
	Cordoned  bool      `json:"cordoned,omitempty"` // no new pods are scheduled on it
	Version   string    `json:"version"`
	Addresses []string  `json:"addresses"`
	Reported  time.Time `json:"-"` // when its kubelet last reported whether it is Ready; precise to a second

	unregistered bool // it has a record, but no Node object
}

// Endpoint is one API server, or the load balancer in front of them.
type Endpoint struct {
	Address string `json:"address"` // host:port
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"` // why it is not ready

	err error // the cause of Reason; nil if there is none
}

// Member is one member of etcd.
type Member = etcd.Member

// ClusterView is the state of the cluster: nodes, API servers and etcd members.
type ClusterView struct {
	Nodes    []Node     `json:"nodes,omitempty"`
	API      []Endpoint `json:"api,omitempty"`      // the API servers, each checked separately
	Balancer *Endpoint  `json:"balancer,omitempty"` // on loopback; workers only
	Etcd     []Member   `json:"etcd,omitempty"`     // controllers only
	Problems []string   `json:"-"`                  // what could not be determined
	Details  []string   `json:"details,omitempty"`  // errors behind reasons and problems, as they were returned
}

// checkTimeout is the timeout of the readiness check of one API server.
const checkTimeout = time.Second

// apiPortSuffix is the port of every API server, with a colon.
const apiPortSuffix = ":" + ports.APIText

// NewClient returns a client for the cluster of this host, and this host's role. The
// client has the administrator's credentials on a controller, the kubelet's on a worker.
func NewClient(h host.Files) (client *kube.Client, role string, err error) {
	role = Controller
	conf, err := h.ReadFile(k0s.AdminConf)
	if errors.Is(err, fs.ErrNotExist) {
		role = Worker
		conf, err = h.ReadFile(k0s.KubeletConf)
	}
	if err != nil {
		return nil, "", err
	}
	client, err = kube.New(conf)
	return client, role, err
}

// Inspect returns the state of the cluster that this host belongs to.
func Inspect(ctx context.Context, h host.Files) (ClusterView, error) {
	client, role, err := NewClient(h)
	if err != nil {
		return ClusterView{}, err
	}
	return inspectWith(ctx, h, client, role)
}

// inspectWith returns the state of the cluster as seen with client; role is this
// host's. It queries API servers, nodes and etcd concurrently. With an error, the view
// holds what is known without the list of nodes.
func inspectWith(ctx context.Context, h host.Files, client *kube.Client, role string) (v ClusterView, err error) {
	local, members := Endpoint{Address: loadbalancer.LocalAPIAddress}, []Member(nil)
	var checks sync.WaitGroup
	checks.Go(func() { local.checkReady(ctx, client) })
	var etcdErr error
	if role == Controller {
		checks.Go(func() {
			var store *etcd.Client
			if store, etcdErr = etcd.New(h); etcdErr == nil {
				members, etcdErr = store.Members(ctx)
			}
		})
	}
	records, err := client.NodeRecords(ctx)
	if err == nil {
		v.Nodes, err = listNodes(ctx, client, records)
	}
	if err == nil {
		for _, rec := range records.Controllers() {
			v.API = append(v.API, Endpoint{Address: rec.Address + apiPortSuffix})
		}
	}
	for i := range v.API {
		checks.Go(func() { v.API[i].checkReady(ctx, client) })
	}
	checks.Wait()
	switch {
	case role == Worker:
		v.Balancer = &local
	case err != nil:
		v.API = []Endpoint{local} // without the list of nodes, only this host's API server is known
	}
	v.Etcd = members
	if etcdErr != nil {
		v.Problems = append(v.Problems, "etcd on this host does not answer: "+problem.ExplainConnection(etcdErr))
		v.Details = append(v.Details, "etcd: "+etcdErr.Error())
	}
	for _, e := range append(slices.Clone(v.API), local) {
		if e.err != nil {
			v.Details = append(v.Details, e.Address+": "+e.err.Error())
		}
	}
	slices.Sort(v.Details)
	v.Details = slices.Compact(v.Details)
	return v, err
}

// checkReady checks the endpoint with client and sets Ready or Reason.
func (e *Endpoint) checkReady(ctx context.Context, client *kube.Client) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := client.CheckAPIReady(ctx, e.Address)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Reason = "no answer within " + checkTimeout.String()
	case err != nil:
		e.Reason, e.err = problem.ExplainConnection(err), err
	default:
		e.Ready = true
	}
}

// listNodes returns the nodes that have a record, a Node object or both, sorted by name.
func listNodes(ctx context.Context, client *kube.Client, records kube.NodeRecords) (all []Node, err error) {
	registered, err := client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for _, rec := range records.Sorted() {
		n := Node{Name: rec.Node, Role: rec.Role, Admitted: true, Addresses: []string{rec.Address}, Reason: "it has not registered", unregistered: true}
		if i := slices.IndexFunc(registered, func(k kube.Node) bool { return k.Name == rec.Node }); i >= 0 {
			n.setReported(registered[i])
		}
		all = append(all, n)
	}
	for _, k := range registered {
		if _, ok := records[k.Name]; !ok {
			n := Node{Name: k.Name, Role: Unknown, Addresses: []string{}} // the node itself writes those of its Node object
			n.setReported(k)
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(x, y Node) int { return strings.Compare(x.Name, y.Name) })
	return all, nil
}

// setReported sets what the kubelet reports.
func (n *Node) setReported(k kube.Node) {
	n.Ready, n.Reason, n.Cordoned, n.Version, n.Reported, n.unregistered = k.Ready, k.Reason, k.Cordoned, k.Version, k.Reported, false
}

// apiServerReady reports whether the API server on the host of etcd member m is ready.
func (v ClusterView) apiServerReady(m etcd.Member) bool {
	for _, e := range v.API {
		if e.Address == m.Address+apiPortSuffix {
			return e.Ready
		}
	}
	return false
}

// findNode returns the node with that name.
func (v ClusterView) findNode(name string) (Node, bool) {
	for _, n := range v.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// findMember returns the etcd member of a node. A host that died during its join has
// a member but no node. Until etcd has started on it, the member has no name either;
// then name is its address.
func (v ClusterView) findMember(name string) (etcd.Member, bool) {
	n, _ := v.findNode(name)
	for _, m := range v.Etcd {
		if m.Name == name || m.Name == "" && (m.Address == name || len(n.Addresses) > 0 && m.Address == n.Addresses[0]) {
			return m, true
		}
	}
	return etcd.Member{}, false
}
