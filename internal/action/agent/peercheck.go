package agent

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/peercheck"
	"github.com/plinthdev/plinth/internal/token"
)

// peerCheckHandler returns the handler for the peer checks of joining hosts, which test
// the network between them and this node.
func peerCheckHandler(env *action.Env) http.Handler {
	receipt, _, err := journal.ReadReceipt(env.Host, env.DataDir)
	controller := err != nil || receipt.Role != token.Worker
	return &peercheck.Handler{Self: func() (peercheck.Identity, int) { return selfIdentity(env) }, Controller: controller, IsNode: true, Now: env.Now}
}

// selfIdentity returns the identity of this node from its receipt and from the host
// facts that its install stored, if any, and its MTU in bytes, or 0.
func selfIdentity(env *action.Env) (peercheck.Identity, int) {
	receipt, _, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err != nil {
		return peercheck.Identity{}, 0
	}
	i := peercheck.Identity{Hostname: receipt.Node}
	if facts, err := preflight.ReadFactsSnapshot(env, receipt.Facts); err == nil {
		i.Traits = facts.Traits()
	}
	if id, err := env.Host.ReadFile("/etc/machine-id"); err == nil {
		i.MachineID = strings.TrimSpace(string(id))
	}
	if a, err := netip.ParseAddr(receipt.Address); err == nil {
		i.Addresses = []netip.Addr{a}
	}
	mtu := interfaceMTU(receipt.Address)
	if mtu > 0 {
		i.Traits.MTU = mtu
	}
	return i, mtu
}

// interfaceMTU returns the MTU in bytes of the interface that has the address, or 0.
func interfaceMTU(address string) int {
	all, err := net.Interfaces()
	if err != nil {
		return 0
	}
	for _, i := range all {
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.String() == address {
				return i.MTU
			}
		}
	}
	return 0
}
