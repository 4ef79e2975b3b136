package network

import (
	"fmt"
	"path"
	"strconv"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// port is one port that a node listens on.
type port struct {
	use     string // as in Want.Ports and in the check's id
	number  int
	scope   scope
	control bool // on controllers only
	why     string
}

// scope says who reaches a port.
type scope int

const (
	local   scope = iota // the host itself: bound to 127.0.0.1
	node                 // bound to all addresses, needed on the host only
	outside              // other nodes or people
)

// ports are those of k0s 1.33 with kube-router: its networking page, and the
// flags that it starts its parts with.
func ports() []port {
	return []port{
		{"kube-apiserver", 6443, outside, true, "the Kubernetes API; every node and kubectl reach it."},
		{"etcd-client", 2379, local, true, "etcd, for the API server on the same host."},
		{"etcd-peer", 2380, outside, true, "etcd, for the other controllers."},
		{"k0s-api", 9443, node, true, "k0s's join API; Plinth's agent asks it for controllers that join."},
		{"plinth-agent", 9444, outside, true, "Plinth's agent; hosts that join ask it."},
		{"kube-controller-manager", 10257, local, true, "the controller manager's status."},
		{"kube-scheduler", 10259, local, true, "the scheduler's status."},
		{"kubelet", 10250, outside, false, "kubelet; logs, exec and metrics go through it."},
		{"kubelet-health", 10248, local, false, "kubelet's health."},
		{"kube-proxy-metrics", 10249, node, false, "kube-proxy's metrics."},
		{"kube-proxy-health", 10256, node, false, "kube-proxy's health, for load balancers."},
		{"kube-router-bgp", 179, outside, false, "kube-router tells the other nodes its routes by BGP."},
		{"kube-router-health", 20244, node, false, "kube-router's health; the node's network counts as down without it."},
		{"kube-router-metrics", 8080, node, false, "kube-router's metrics; it does not start when the port is taken (spec.network.kuberouter.metricsPort of k0s moves it)."},
		{"kube-router-admin", 50051, node, false, "kube-router's BGP administration, on loopback and the node's address."},
		{"console", 0, outside, false, "the admin console (spec.kotsadm.uiBindPort)."},
	}
}

// key is the port to bind on this host; none when the role or the install has no such port.
func (p port) key(w hp.Want) (facts.PortKey, bool) {
	n := p.number
	if p.use == "console" {
		n = w.ConsolePort
	}
	if other := w.Ports[p.use]; other != 0 {
		n = other
	}
	k := facts.PortKey{Number: n, Protocol: "tcp"}
	if p.scope == local {
		k.Address = "127.0.0.1"
	}
	return k, n != 0 && (!p.control || !w.IsWorker())
}

// PortChecks are one per port that a node listens on.
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

func (p port) wants() string {
	switch {
	case p.number == 0:
		return "the port that the Installer names, free on all addresses"
	case p.scope == local:
		return strconv.Itoa(p.number) + "/tcp free on 127.0.0.1"
	}
	return strconv.Itoa(p.number) + "/tcp free on all addresses"
}

func (p port) run(f facts.Facts, w hp.Want) hp.Result {
	key, ok := p.key(w)
	if !ok {
		return hp.Skip("install", "nothing listens there in this install")
	}
	if why := f.Why(facts.FactPort + ":" + key.String()); why != "" {
		return hp.CannotTell(key.String() + ": " + why)
	}
	got, ok := f.Port(key)
	where := fmt.Sprintf("%s (%s)", key, p.use)
	switch {
	case !ok:
		return hp.CannotTell(key.String() + ": nobody tried to bind it")
	case got.Free:
		return hp.Passed("%d free", key.Number)
	case w.Ours.Owner(got.Owner):
		return hp.Passed("%d in use by this installation (pid %d)", key.Number, got.Owner.PID)
	case got.Error != "EADDRINUSE":
		return hp.Failed("ip address shows whether the address is there; sysctl net.ipv4.ip_local_reserved_ports and security modules may forbid it",
			"%s cannot be bound: %s", where, got.Error)
	}
	r := hp.Result{State: hp.Fail, Wanted: "free"}
	if got.Owner == nil {
		r.Found = where + " is taken by the kernel or by a process that cannot be seen from here"
		r.Fix = fmt.Sprintf("sudo ss -tlnp 'sport = :%d'", key.Number)
	} else {
		r.Found = fmt.Sprintf("%s is taken by %s, pid %d (%s)", where, path.Base(got.Owner.Program), got.Owner.PID, got.Owner.Program)
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

// Ports are the ports to bind on a host with the role of w.
func Ports(w hp.Want) []facts.PortKey {
	var all []facts.PortKey
	for _, p := range ports() {
		if key, ok := p.key(w); ok {
			all = append(all, key)
		}
	}
	return all
}

// open are the numbers of the ports that others must reach.
func open(w hp.Want) []string {
	var all []string
	for _, p := range ports() {
		if key, ok := p.key(w); ok && p.scope == outside {
			all = append(all, strconv.Itoa(key.Number))
		}
	}
	return all
}
