// Package ports is the one table of the ports that a cluster uses on its hosts.
//
// Lint, the host preflights, the peer checks, the agent and the docs all read
// it: a port that is added here is reserved, checked and documented everywhere.
package ports

import (
	"slices"
	"strconv"
)

// Numbers that other packages listen on or connect to, and as text in addresses.
const (
	KubeRouterBGP = 179
	EtcdClient    = 2379
	EtcdPeer      = 2380
	API           = 6443  // Kubernetes API on controllers; its load balancer, on loopback, on workers
	Agent         = 9444  // Plinth's agent, and a host that listens for peer checks
	Authorizer    = 9445  // Plinth's agent, for the API server on the same host
	Metrics       = 9446  // Plinth's agent, for Prometheus on the same host
	SpeakerHealth = 17472 // MetalLB's speaker, for kubelet on the same host
	Kubelet       = 10250 // also where the peer checks try UDP

	APIText        = "6443"
	AuthorizerText = "9445"
	MetricsText    = "9446"
	EtcdClientText = "2379"
	EtcdPeerText   = "2380"
)

// Scope is who connects to a port.
type Scope int

// The scopes, from the narrowest to the widest.
const (
	Loopback Scope = iota // programs on the host itself; bound to 127.0.0.1
	Node                  // programs on the host itself; bound to all addresses
	Cluster               // other nodes of the cluster, too
	Outside               // users and hosts outside the cluster, too
)

// String returns the scope in words, as the docs print it.
func (s Scope) String() string {
	return [...]string{"this host", "this host", "nodes of the cluster", "users and nodes"}[s]
}

// Nodes is the set of nodes that use a port.
type Nodes int

// The sets of nodes.
const (
	AllNodes Nodes = iota
	Controllers
	Workers
)

// String returns the set in words, as the docs print it.
func (n Nodes) String() string { return [...]string{"all", "controllers", "workers"}[n] }

// Names of ports whose use depends on the Installer.
const (
	Console           = "console"
	LoadBalancerState = "load-balancer-health"
	IngressHTTP       = "ingress-http"
	IngressHTTPS      = "ingress-https"
)

// Port is one TCP port that a node uses.
type Port struct {
	Use     string // stable name; preflight ids are "port-" and this name
	Number  int    // 0: the Installer chooses it
	Default int    // the number that the Installer has by default; 0 for a fixed port
	Scope   Scope
	Nodes   Nodes
	Field   string // Installer field that chooses the number; "" for a fixed port
	AddOn   string // key of the add-on that uses it; "" if every cluster does, or the port is the console's
	Host    bool   // a service of the host itself, which the preflights expect to be in use
	Why     string // what listens there and who needs it; a sentence
}

// String returns the port as a user writes it: "6443/tcp".
func (p Port) String() string { return strconv.Itoa(p.Number) + "/tcp" }

// All returns every port that a node uses. The numbers are those of k0s 1.33
// with kube-router (k0s's networking page, and the flags with which it starts
// its components), of Plinth, and of the add-ons.
func All() []Port {
	return []Port{
		{Use: "ssh", Number: 22, Scope: Outside, Host: true, Why: "SSH, through which the host is administered."},
		{Use: "kube-apiserver", Number: API, Scope: Outside, Nodes: Controllers, Why: "the Kubernetes API; every node and kubectl reach it."},
		{Use: "api-loadbalancer", Number: API, Scope: Loopback, Nodes: Workers, Why: "Plinth's load balancer, through which the programs of a worker reach the Kubernetes API."},
		{Use: "etcd-client", Number: EtcdClient, Scope: Loopback, Nodes: Controllers, Why: "etcd, for the API server on the same host."},
		{Use: "etcd-peer", Number: EtcdPeer, Scope: Cluster, Nodes: Controllers, Why: "etcd, for the other controllers."},
		{Use: "plinth-agent", Number: Agent, Scope: Cluster, Why: "Plinth's agent; nodes and joining hosts ask it."},
		{Use: "plinth-authorizer", Number: Authorizer, Scope: Loopback, Nodes: Controllers, Why: "Plinth's agent; the API server asks it whether a node is still admitted."},
		{Use: "plinth-metrics", Number: Metrics, Scope: Loopback, Why: "metrics of Plinth's agent, in Prometheus's text format."},
		{Use: "kube-controller-manager", Number: 10257, Scope: Loopback, Nodes: Controllers, Why: "status of the controller manager."},
		{Use: "kube-scheduler", Number: 10259, Scope: Loopback, Nodes: Controllers, Why: "status of the scheduler."},
		{Use: "kubelet", Number: Kubelet, Scope: Cluster, Why: "kubelet; logs, exec and metrics go through it."},
		{Use: "kubelet-health", Number: 10248, Scope: Loopback, Why: "health of kubelet."},
		{Use: "kube-proxy-metrics", Number: 10249, Scope: Loopback, Why: "metrics of kube-proxy."},
		{Use: "kube-proxy-health", Number: 10256, Scope: Node, Why: "health of kube-proxy, for load balancers."},
		{Use: "kube-router-bgp", Number: KubeRouterBGP, Scope: Cluster, Why: "kube-router announces its routes to the other nodes by BGP."},
		{Use: "kube-router-health", Number: 20244, Scope: Node, Why: "health of kube-router; without it the node's network counts as down."},
		{Use: "kube-router-admin", Number: 50051, Scope: Node, Why: "BGP administration of kube-router, on loopback and the node's address."},
		{Use: Console, Default: 8800, Scope: Outside, Field: "spec.kotsadm.uiBindPort", Why: "the admin console (spec.kotsadm.uiBindPort)."},
		{Use: LoadBalancerState, Number: SpeakerHealth, Scope: Loopback, AddOn: "loadBalancer", Why: "health of MetalLB's speaker, with spec.loadBalancer."},
		{Use: IngressHTTP, Default: 80, Scope: Outside, Nodes: Controllers, Field: "spec.ingress.httpPort", AddOn: "ingress", Why: "Traefik, if spec.ingress.expose is hostPorts (spec.ingress.httpPort)."},
		{Use: IngressHTTPS, Default: 443, Scope: Outside, Nodes: Controllers, Field: "spec.ingress.httpsPort", AddOn: "ingress", Why: "Traefik, if spec.ingress.expose is hostPorts (spec.ingress.httpsPort)."},
	}
}

// Reserved returns the fixed port with the given number, of any node, and
// reports whether there is one. An Installer with the add-ons, by their keys,
// cannot choose such a number.
func Reserved(number int, addOns ...string) (Port, bool) {
	for _, p := range All() {
		if p.Field == "" && p.Number == number && (p.AddOn == "" || slices.Contains(addOns, p.AddOn)) {
			return p, true
		}
	}
	return Port{}, false
}

// Between returns the TCP ports that one node reaches on another, in rising
// order, depending on whether each is a controller.
func Between(fromController, toController bool) []int {
	switch {
	case !toController:
		return []int{KubeRouterBGP, Kubelet}
	case !fromController:
		return []int{KubeRouterBGP, API, Agent, Kubelet}
	}
	return []int{KubeRouterBGP, EtcdPeer, API, Agent, Kubelet}
}
