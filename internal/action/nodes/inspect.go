// Package nodes inspects, drains and removes the nodes of the cluster.
// It changes nothing on their hosts; `plinth reset` cleans up a removed host.
package nodes

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/ports"
)

// Roles of a node.
const (
	Controller = "controller"
	Worker     = "worker"
)

// Node is one node of the cluster. Its JSON format is public.
type Node struct {
	Name      string   `json:"name"`
	Role      string   `json:"role"` // controller or worker
	Ready     bool     `json:"ready"`
	Reason    string   `json:"reason,omitempty"`   // why it is not Ready
	Cordoned  bool     `json:"cordoned,omitempty"` // no new pods are scheduled on it
	Version   string   `json:"version"`
	Addresses []string `json:"addresses"`
}

// Endpoint is one API server, or the load balancer in front of them.
type Endpoint struct {
	Address string `json:"address"` // host:port
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"` // why it is not ready
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
	all, err := client.Nodes(ctx)
	for _, n := range all {
		v.Nodes = append(v.Nodes, Node{Name: n.Name, Role: roleOf(n), Ready: n.Ready, Reason: n.Reason, Cordoned: n.Cordoned, Version: n.Version, Addresses: n.Addresses})
		if n.Controller && len(n.Addresses) > 0 {
			v.API = append(v.API, Endpoint{Address: n.Addresses[0] + apiPortSuffix})
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
		v.Problems = append(v.Problems, "etcd on this host does not answer: "+etcdErr.Error())
	}
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
		e.Reason = err.Error()
	default:
		e.Ready = true
	}
}

func roleOf(n kube.Node) string {
	if n.Controller {
		return Controller
	}
	return Worker
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
