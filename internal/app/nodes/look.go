// Package nodes owns the look at the members of a cluster, and how one of them
// is drained or removed. It refuses to change anything on a host: what a
// removed host keeps is taken back there, by reset.
package nodes

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/app/gateway"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
)

// Roles of a node.
const (
	Controller = "controller"
	Worker     = "worker"
)

// Node is one node of the cluster; its JSON form is public.
type Node struct {
	Name      string   `json:"name"`
	Role      string   `json:"role"` // controller or worker
	Ready     bool     `json:"ready"`
	Reason    string   `json:"reason,omitempty"`   // why it is not Ready
	Cordoned  bool     `json:"cordoned,omitempty"` // no new pods are placed on it
	Version   string   `json:"version"`
	Addresses []string `json:"addresses"`
}

// Endpoint is one API server, or the balancer before them.
type Endpoint struct {
	Address string `json:"address"` // host:port
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"` // why it is not ready
}

// Member is one member of etcd.
type Member = etcd.Member

// View is the cluster as its nodes make it up.
type View struct {
	Nodes    []Node     `json:"nodes,omitempty"`
	API      []Endpoint `json:"api,omitempty"`      // the API servers, each asked by itself
	Balancer *Endpoint  `json:"balancer,omitempty"` // of a worker, on loopback
	Etcd     []Member   `json:"etcd,omitempty"`     // only a controller can tell
	Problems []string   `json:"-"`                  // what could not be told
}

// askTimeout bounds the answer of one API server.
const askTimeout = time.Second

// apiPort is the port of every API server.
const apiPort = ":6443"

// Client is this host's way into the cluster: the administrator's on a
// controller, the node's own on a worker.
func Client(h host.Files) (client *kube.Client, role string, err error) {
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

// Look looks at the cluster that this host belongs to.
func Look(ctx context.Context, h host.Files) (View, error) {
	client, role, err := Client(h)
	if err != nil {
		return View{}, err
	}
	return look(ctx, h, client, role)
}

// look asks for all that can be asked at once. What is known without the list
// of nodes is told also with an error.
func look(ctx context.Context, h host.Files, client *kube.Client, role string) (v View, err error) {
	door, members := Endpoint{Address: gateway.Door}, []Member(nil)
	var asking sync.WaitGroup
	asking.Go(func() { door.ask(ctx, client) })
	var noStore error
	if role == Controller {
		asking.Go(func() {
			var store *etcd.Client
			if store, noStore = etcd.New(h); noStore == nil {
				members, noStore = store.Members(ctx)
			}
		})
	}
	all, err := client.Nodes(ctx)
	for _, n := range all {
		v.Nodes = append(v.Nodes, Node{Name: n.Name, Role: roleOf(n), Ready: n.Ready, Reason: n.Reason, Cordoned: n.Cordoned, Version: n.Version, Addresses: n.Addresses})
		if n.Controller && len(n.Addresses) > 0 {
			v.API = append(v.API, Endpoint{Address: n.Addresses[0] + apiPort})
		}
	}
	for i := range v.API {
		asking.Go(func() { v.API[i].ask(ctx, client) })
	}
	asking.Wait()
	switch {
	case role == Worker:
		v.Balancer = &door
	case err != nil:
		v.API = []Endpoint{door} // its own is the only one that is known
	}
	v.Etcd = members
	if noStore != nil {
		v.Problems = append(v.Problems, "etcd on this host does not answer: "+noStore.Error())
	}
	return v, err
}

// ask asks an API server, or the balancer, whether it serves.
func (e *Endpoint) ask(ctx context.Context, client *kube.Client) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := client.ReadyAt(ctx, e.Address)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Reason = "no answer within " + askTimeout.String()
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

// serves reports whether the API server beside an etcd member answers.
func (v View) serves(m etcd.Member) bool {
	for _, e := range v.API {
		if e.Address == m.Address+apiPort {
			return e.Ready
		}
	}
	return false
}

// node finds a node by name.
func (v View) node(name string) (Node, bool) {
	for _, n := range v.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// member finds the etcd member of a node. One that died in the middle of its
// join has a member and no node; before etcd has started there the member has no
// name either, and goes by its address.
func (v View) member(name string) (etcd.Member, bool) {
	n, _ := v.node(name)
	for _, m := range v.Etcd {
		if m.Name == name || m.Name == "" && (m.Address == name || len(n.Addresses) > 0 && m.Address == n.Addresses[0]) {
			return m, true
		}
	}
	return etcd.Member{}, false
}
