package checks

import (
	"fmt"
	"path"
	"strconv"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// listenPort is one port that a node listens on.
type listenPort struct {
	service        string // service that uses it, as in Requirements.Ports and in the check's id
	number         int
	scope          portScope
	controllerOnly bool // on controllers only
	rationale      string
}

// portScope is where a port must be reachable from.
type portScope int

const (
	scopeLocal    portScope = iota // this host: bound to 127.0.0.1
	scopeNode                      // this host, but bound to all addresses
	scopeExternal                  // other nodes or users
)

// listenPorts returns the ports of k0s 1.33 with kube-router, from its networking
// page and the flags with which it starts its components, and those of Plinth.
func listenPorts() []listenPort {
	return []listenPort{
		{"kube-apiserver", 6443, scopeExternal, true, "the Kubernetes API; every node and kubectl connect to it."},
		{"etcd-client", 2379, scopeLocal, true, "etcd, for the API server on the same host."},
		{"etcd-peer", 2380, scopeExternal, true, "etcd, for the other controllers."},
		{"k0s-api", 9443, scopeNode, true, "k0s's join API; Plinth's agent calls it for joining controllers."},
		{"plinth-agent", 9444, scopeExternal, true, "Plinth's agent; joining hosts connect to it."},
		{"kube-controller-manager", 10257, scopeLocal, true, "the controller manager's status."},
		{"kube-scheduler", 10259, scopeLocal, true, "the scheduler's status."},
		{"kubelet", 10250, scopeExternal, false, "kubelet; logs, exec and metrics use it."},
		{"kubelet-health", 10248, scopeLocal, false, "kubelet's health."},
		{"kube-proxy-metrics", 10249, scopeNode, false, "kube-proxy's metrics."},
		{"kube-proxy-health", 10256, scopeNode, false, "kube-proxy's health, for load balancers."},
		{"kube-router-bgp", 179, scopeExternal, false, "kube-router announces its routes to the other nodes with BGP."},
		{"kube-router-health", 20244, scopeNode, false, "kube-router's health; without it the node's network is considered down."},
		{"kube-router-metrics", 8080, scopeNode, false, "kube-router's metrics; it does not start when the port is in use (spec.network.kuberouter.metricsPort of k0s changes it)."},
		{"kube-router-admin", 50051, scopeNode, false, "kube-router's BGP administration, on loopback and the node's address."},
		{"console", 0, scopeExternal, false, "the admin console (spec.kotsadm.uiBindPort)."},
	}
}

// portKey returns the port to bind on this host. ok is false when the role or the
// install has no such port.
func (p listenPort) portKey(req hp.Requirements) (facts.PortKey, bool) {
	n := p.number
	if p.service == "console" {
		n = req.ConsolePort
	}
	if other := req.Ports[p.service]; other != 0 {
		n = other
	}
	k := facts.PortKey{Number: n, Protocol: "tcp"}
	if p.scope == scopeLocal {
		k.Address = "127.0.0.1"
	}
	return k, n != 0 && (!p.controllerOnly || !req.IsWorker())
}

// PortChecks returns one check per port that a node listens on.
func PortChecks() []hp.Check {
	var all []hp.Check
	for _, p := range listenPorts() {
		c := hp.Check{ID: "port-" + p.service, Group: "Ports", Title: "Port of " + p.service, Severity: hp.Fail,
			Expected: p.describeExpected(), Rationale: p.rationale, Run: p.runCheck}
		if p.controllerOnly {
			c.Roles = []hp.Role{hp.Controller}
		}
		all = append(all, c)
	}
	return all
}

// describeExpected returns which port must be free on which address.
func (p listenPort) describeExpected() string {
	switch {
	case p.number == 0:
		return "the port that the Installer sets, free on all addresses"
	case p.scope == scopeLocal:
		return strconv.Itoa(p.number) + "/tcp free on 127.0.0.1"
	}
	return strconv.Itoa(p.number) + "/tcp free on all addresses"
}

// runCheck returns a pass when the port is free or used by this install.
func (p listenPort) runCheck(f facts.Facts, req hp.Requirements) hp.Result {
	key, ok := p.portKey(req)
	if !ok {
		return hp.Skip("install", "this install does not use the port")
	}
	if why := f.UnknownReason(facts.FactPort + ":" + key.String()); why != "" {
		return hp.Undetermined(key.String() + ": " + why)
	}
	got, ok := f.Port(key)
	where := fmt.Sprintf("%s (%s)", key, p.service)
	switch {
	case !ok:
		return hp.Undetermined(key.String() + ": binding was not tried")
	case got.Free:
		return hp.Passed("%d free", key.Number)
	case req.Owned.HasProcess(got.Owner):
		return hp.Passed("%d in use by this installation (pid %d)", key.Number, got.Owner.PID)
	case got.Error != "EADDRINUSE":
		return hp.Failed("check the address with: ip address; sysctl net.ipv4.ip_local_reserved_ports and security modules may also prevent it",
			"%s cannot be bound: %s", where, got.Error)
	}
	r := hp.Result{State: hp.Fail, Expected: "free"}
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
	if p.service == "console" {
		r.Fix += "\nor choose another port: spec.kotsadm.uiBindPort"
	}
	return r
}

// PortsToBind returns the ports to bind on a host with requirements req.
func PortsToBind(req hp.Requirements) []facts.PortKey {
	var all []facts.PortKey
	for _, p := range listenPorts() {
		if key, ok := p.portKey(req); ok {
			all = append(all, key)
		}
	}
	return all
}

// externalPorts returns the numbers of the ports that other hosts must reach.
func externalPorts(req hp.Requirements) []string {
	var all []string
	for _, p := range listenPorts() {
		if key, ok := p.portKey(req); ok && p.scope == scopeExternal {
			all = append(all, strconv.Itoa(key.Number))
		}
	}
	return all
}
