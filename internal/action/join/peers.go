package join

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/peercheck"
)

// peersToCheck returns the nodes with which the connections of this host are tested:
// controllers, which have agents. It returns none for a host that is a node already,
// because the connections were tested before, and for a host that is refused anyway.
func (o *operation) peersToCheck(env *action.Env, found facts.Facts) preflight.Peers {
	request := o.joinRequest(env, found)
	if !request.Fresh || agent.Conflict(o.clusterInfo.Nodes, request, o.keyPin()) != "" || checkClock(o.clockOffset) != nil {
		return preflight.Peers{}
	}
	return preflight.Peers{Addresses: readyControllers(o.clusterInfo.Nodes, request.MachineID), Ask: func(ctx context.Context, at netip.Addr, ask peercheck.Request) (peercheck.Response, error) {
		var answer peercheck.Response
		err := o.cluster.CheckPeer(ctx, at, ask, &answer)
		if err == nil {
			err = answer.Validate()
		}
		return answer, err
	}}
}

// readyControllers returns the addresses of the ready controllers other than this host.
func readyControllers(nodes []agent.Node, machineID string) (all []string) {
	for _, n := range nodes {
		if n.Controller && n.Ready && n.MachineID != machineID && len(n.Addresses) > 0 {
			all = append(all, n.Addresses[0])
		}
	}
	return all
}

// controllerAddresses returns the IP addresses of the controllers: first those in the
// token, which are host:port, then those of nodes.
func controllerAddresses(inToken []string, nodes []agent.Node) (all []netip.Addr) {
	add := func(text string) {
		if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(all, a.Unmap()) {
			all = append(all, a.Unmap())
		}
	}
	for _, at := range inToken {
		if host, _, err := net.SplitHostPort(at); err == nil {
			add(host)
		}
	}
	for _, n := range nodes {
		if n.Controller && len(n.Addresses) > 0 {
			add(n.Addresses[0])
		}
	}
	return all
}
