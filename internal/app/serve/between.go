package serve

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/plinthdev/plinth/internal/app/preflight"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/probe/peer"
	"github.com/plinthdev/plinth/internal/token"
)

// between answers hosts that join what lies between them and this node.
func between(r *run.Run) http.Handler {
	receipt, _, err := journal.ReadReceipt(r.Host, r.DataDir)
	controller := err != nil || receipt.Role != token.Worker
	return &peer.Handler{Self: func() (peer.Identity, int) { return self(r) }, Controller: controller, Live: true, Now: r.Now}
}

// self is what this node is by its receipt, and what was found on it before it
// was one, as far as that was kept.
func self(r *run.Run) (peer.Identity, int) {
	receipt, _, err := journal.ReadReceipt(r.Host, r.DataDir)
	if err != nil {
		return peer.Identity{}, 0
	}
	i := peer.Identity{Hostname: receipt.Node}
	if kept, err := preflight.Kept(r, receipt.Facts); err == nil {
		i.Traits = kept.Traits()
	}
	if id, err := r.Host.ReadFile("/etc/machine-id"); err == nil {
		i.MachineID = strings.TrimSpace(string(id))
	}
	if a, err := netip.ParseAddr(receipt.Address); err == nil {
		i.Addresses = []netip.Addr{a}
	}
	mtu := mtuOf(receipt.Address)
	if mtu > 0 {
		i.Traits.MTU = mtu
	}
	return i, mtu
}

// mtuOf is the size of a full packet on the interface that has the address; 0
// when there is none.
func mtuOf(address string) int {
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
