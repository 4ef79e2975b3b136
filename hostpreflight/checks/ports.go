package checks

import (
	"fmt"
	"path"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/ports"
)

// listenPort is one port of the table, as the checks see it.
type listenPort struct{ ports.Port }

// listenPorts returns the ports that the programs of a node listen on.
func listenPorts() []listenPort {
	var all []listenPort
	for _, p := range ports.All() {
		if !p.Host {
			all = append(all, listenPort{p})
		}
	}
	return all
}

// portKey returns the port to bind on this host. ok is false when the role or the
// install has no such port.
func (p listenPort) portKey(req hp.Requirements) (key facts.PortKey, ok bool) {
	n := p.Number
	switch {
	case p.Use == ports.Console:
		n = req.ConsolePort
	case p.AddOn != "":
		n = 0 // unless the Installer has the add-on
	}
	if other := req.Ports[p.Use]; other != 0 {
		n = other
	}
	key = facts.PortKey{Number: n, Protocol: "tcp"}
	if p.Scope == ports.Loopback {
		key.Address = "127.0.0.1"
	}
	role := p.Nodes == ports.AllNodes || (p.Nodes == ports.Workers) == req.IsWorker()
	return key, n != 0 && role
}

// portChecks returns one check per port that a node listens on.
func portChecks() []hp.Check {
	var all []hp.Check
	for _, p := range listenPorts() {
		c := hp.Check{ID: "port-" + p.Use, Group: "Ports", Title: "Port of " + p.Use, Severity: hp.Fail,
			Expected: p.describeExpected(), Rationale: p.Why, Run: p.runCheck}
		switch p.Nodes {
		case ports.Controllers:
			c.Roles = []hp.Role{hp.Controller}
		case ports.Workers:
			c.Roles = []hp.Role{hp.Worker}
		}
		all = append(all, c)
	}
	return all
}

// describeExpected returns which port must be free on which address.
func (p listenPort) describeExpected() string {
	switch {
	case p.Field != "":
		return "the port that the Installer sets, free on all addresses"
	case p.Scope == ports.Loopback:
		return p.String() + " free on 127.0.0.1"
	}
	return p.String() + " free on all addresses"
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
	where := fmt.Sprintf("%s (%s)", key, p.Use)
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
	if p.Field != "" {
		r.Fix += "\nor choose another port: " + p.Field
	}
	return r
}

// portsToBind returns the ports to bind on a host with requirements req.
func portsToBind(req hp.Requirements) []facts.PortKey {
	var all []facts.PortKey
	for _, p := range listenPorts() {
		if key, ok := p.portKey(req); ok {
			all = append(all, key)
		}
	}
	return all
}
