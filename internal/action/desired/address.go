package desired

import (
	"net/netip"

	"github.com/plinthdev/plinth/internal/facts"
)

// PrimaryAddress returns the address at which other hosts reach this one: an IPv4
// address of the interface that has the default route, preferably the one in the
// gateway's network. It returns the zero Addr when there is none.
func PrimaryAddress(n facts.Network) netip.Addr {
	for _, r := range n.Routes {
		if !r.Default() || !r.Destination.Addr().Is4() {
			continue
		}
		var first netip.Addr
		for _, i := range n.Interfaces {
			for _, p := range i.Addresses {
				switch {
				case i.Name != r.Interface || !p.Addr().Is4():
				case p.Contains(r.Gateway):
					return p.Addr()
				case !first.IsValid():
					first = p.Addr()
				}
			}
		}
		if first.IsValid() {
			return first
		}
	}
	return netip.Addr{}
}
