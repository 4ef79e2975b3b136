package network

import (
	"fmt"
	"path"
	"strconv"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// listenPort is one port that a node listens on.
type port struct {
	use     string // service that uses it, as in Requirements.Ports and in the check's id
	number  int
	scope   scope
	control bool // on controllers only
	why     string
}

// portScope is where a port must be reachable from.
type scope int

const (
	local   scope = iota // this host: bound to 127.0.0.1
	node                 // this host, but bound to all addresses
	outside              // other nodes or users
)

// listenPorts returns the ports of k0s 1.33 with kube-router, from its networking
// page and the flags with which it starts its components, and those of Plinth.
func ports() []port {
	return []port{
		{"kube-apiserver", 6443, outside, true, "the Kubernetes API; every node and kubectl connect to it."},
		{"etcd-client", 2379, local, true, "etcd, for the API server on the same host."},
		{"etcd-peer", 2380, outside, true, "etcd, for the other controllers."},
		{"k0s-api", 9443, node, true, "k0s's join API; Plinth's agent calls it for joining controllers."},
		{"plinth-agent", 9444, outside, true, "Plinth's agent; joining hosts connect to it."},
		{"kube-controller-manager", 10257, local, true, "the controller manager's status."},
		{"kube-scheduler", 10259, local, true, "the scheduler's status."},
		{"kubelet", 10250, outside, false, "kubelet; logs, exec and metrics use it."},
		{"kubelet-health", 10248, local, false, "kubelet's health."},
		{"kube-proxy-metrics", 10249, node, false, "kube-proxy's metrics."},
		{"kube-proxy-health", 10256, node, false, "kube-proxy's health, for load balancers."},
		{"kube-router-bgp", 179, outside, false, "kube-router announces its routes to the other nodes with BGP."},
		{"kube-router-health", 20244, node, false, "kube-router's health; without it the node's network is considered down."},
		{"kube-router-metrics", 8080, node, false, "kube-router's metrics; it does not start when the port is in use (spec.network.kuberouter.metricsPort of k0s changes it)."},
		{"kube-router-admin", 50051, node, false, "kube-router's BGP administration, on loopback and the node's address."},
		{"console", 0, outside, false, "the admin console (spec.kotsadm.uiBindPort)."},
	}
}

// portKey returns the port to bind on this host. ok is false when the role or the
// install has no such port.
func (p port) key(req hp.Want) (facts.PortKey, bool) {
	n := p.number
	if p.use == "console" {
		n = req.ConsolePort
	}
	if other := req.Ports[p.use]; other != 0 {
		n = other
	}
	k := facts.PortKey{Number: n, Protocol: "tcp"}
	if p.scope == local {
		k.Address = "127.0.0.1"
	}
	return k, n != 0 && (!p.control || !req.IsWorker())
}

// PortChecks returns one check per port that a node listens on.
func PortChecks() []hp.Check {
	var all []hp.Check
	for _, p := range ports() {
		c := hp.Check{ID: "port-" + p.use, Group: "Ports", Title: "Port of " + p.use, Severity: hp.Fail,
			Wants: p.wants(), Why: p.why, Run: p.run}
		if p.control {
			c.Roles = []hp.Role{hp.Controller}
		}
		all = append(all, c)
	}
	return all
}

// describeExpected returns which port must be free on which address.
func (p port) wants() string {
	switch {
	case p.number == 0:
		return "the port that the Installer sets, free on all addresses"
	case p.scope == local:
		return strconv.Itoa(p.number) + "/tcp free on 127.0.0.1"
	}
	return strconv.Itoa(p.number) + "/tcp free on all addresses"
}

// runCheck returns a pass when the port is free or used by this install.
func (p port) run(f facts.Facts, req hp.Want) hp.Result {
	key, ok := p.key(req)
	if !ok {
		return hp.Skip("install", "this install does not use the port")
	}
	if why := f.Why(facts.FactPort + ":" + key.String()); why != "" {
		return hp.CannotTell(key.String() + ": " + why)
	}
	got, ok := f.Port(key)
	where := fmt.Sprintf("%s (%s)", key, p.use)
	switch {
	case !ok:
		return hp.CannotTell(key.String() + ": binding was not tried")
	case got.Free:
		return hp.Passed("%d free", key.Number)
	case req.Ours.Owner(got.Owner):
		return hp.Passed("%d in use by this installation (pid %d)", key.Number, got.Owner.PID)
	case got.Error != "EADDRINUSE":
		return hp.Failed("check the address with: ip address; sysctl net.ipv4.ip_local_reserved_ports and security modules may also prevent it",
			"%s cannot be bound: %s", where, got.Error)
	}
	r := hp.Result{State: hp.Fail, Wanted: "free"}
	if got.Owner == nil {
		r.Found = where + " is in use by the kernel or by a process that is not visible here"
		r.Fix = fmt.Sprintf("sudo ss -tlnp 'sport = :%d'", key.Number)
	} else {
		r.Found = fmt.Sprintf("%s is in use by %s, pid %d (%s)", where, path.Base(got.Owner.Program), got.Owner.PID, got.Owner.Program)
		r.Fix = fmt.Sprintf("sudo kill %d", got.Owner.PID)
		if u := got.Owner.Unit; u != "" {
			r.Fix = "sudo systemctl disable --now " + u
		}
	}
	if p.use == "console" {
		r.Fix += "\nor choose another port: spec.kotsadm.uiBindPort"
	}
	return r
}

// PortsToBind returns the ports to bind on a host with requirements req.
func Ports(req hp.Want) []facts.PortKey {
	var all []facts.PortKey
	for _, p := range ports() {
		if key, ok := p.key(req); ok {
			all = append(all, key)
		}
	}
	return all
}

// externalPorts returns the numbers of the ports that other hosts must reach.
func open(req hp.Want) []string {
	var all []string
	for _, p := range ports() {
		if key, ok := p.key(req); ok && p.scope == outside {
			all = append(all, strconv.Itoa(key.Number))
		}
	}
	return all
}
