package facts

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// AddressRequest is what the node's address must satisfy. The zero value leaves the
// choice to ChooseAddress.
type AddressRequest struct {
	Address   netip.Addr   // this address; zero for any
	Interface string       // an address of this interface; "" for any
	Toward    []netip.Addr // prefer the interface that reaches one of these, best first
}

// IsExplicit reports whether the request names the address or its interface.
func (r AddressRequest) IsExplicit() bool { return r.Address.IsValid() || r.Interface != "" }

// HostAddress is an IPv4 address of this host and its interface.
type HostAddress struct {
	Address   netip.Addr
	Interface string
}

// String returns "10.0.0.5 on eth0".
func (a HostAddress) String() string { return fmt.Sprintf("%s on %s", a.Address, a.Interface) }

// AddressChoice is the node's address: the one at which other hosts reach this one.
type AddressChoice struct {
	HostAddress
	Reason string        // why this one, as the rest of "10.0.0.5 on eth0, …"
	Others []HostAddress // other addresses that may be the right one
}

// ChooseAddress returns the node's address. Without an explicit request it is an address
// of the interface that reaches one of req.Toward, else of the one with the default route.
// An address that does not lead to this host alone (see isShared, isGuestNAT) is chosen
// only if there is no other.
func (n Network) ChooseAddress(req AddressRequest) (AddressChoice, error) {
	if req.IsExplicit() {
		return n.requestedAddress(req)
	}
	all := n.candidates(false)
	if len(all) == 0 {
		all = n.candidates(true)
	}
	if len(all) == 0 {
		return AddressChoice{}, errors.New("no interface that is up has an IPv4 address")
	}
	best, reason := all[0], "the only one that other hosts can reach"
	if len(all) > 1 {
		reason = "the first one"
	}
	if at, ok := n.reachableFrom(req.Toward, all); ok {
		best, reason = at, "which reaches the cluster's controllers"
	} else if at, ok := n.addressOf(n.defaultRoute(), all); ok && !n.isGuestNAT(at) {
		best, reason = at, "which has the default route"
	} else if i := slices.IndexFunc(all, func(a HostAddress) bool { return !n.isGuestNAT(a) }); ok && i >= 0 {
		best, reason = all[i], fmt.Sprintf("because every guest behind the NAT of VirtualBox or QEMU has %s", at.Address)
	}
	others := slices.DeleteFunc(all, func(a HostAddress) bool { return a == best })
	return AddressChoice{HostAddress: best, Reason: reason, Others: others}, nil
}

// candidates returns the addresses at which other hosts may reach this one: those that
// isShared reports, or all others.
func (n Network) candidates(shared bool) (all []HostAddress) {
	for _, i := range n.Interfaces {
		if !i.Up || i.Loopback || n.isShared(i) != shared {
			continue
		}
		for _, p := range i.Addresses {
			if a := p.Addr(); a.Is4() && a.IsGlobalUnicast() {
				all = append(all, HostAddress{a, i.Name})
			}
		}
	}
	return all
}

// requestedAddress returns the address that req names, or an error if this host does not
// have it.
func (n Network) requestedAddress(req AddressRequest) (AddressChoice, error) {
	var on []HostAddress
	named := false
	for _, i := range n.Interfaces {
		if req.Interface != "" && i.Name != req.Interface {
			continue
		}
		named = true
		for _, p := range i.Addresses {
			switch a := p.Addr(); {
			case !a.Is4() || req.Address.IsValid() && a != req.Address:
			case !i.Up:
				return AddressChoice{}, fmt.Errorf("interface %s, which has the address %s, is down", i.Name, a)
			case !a.IsGlobalUnicast(): // an address of the site on lo is fine, if the user knows it is routed
				return AddressChoice{}, fmt.Errorf("other hosts cannot reach this one at %s on %s", a, i.Name)
			default:
				on = append(on, HostAddress{a, i.Name})
			}
		}
	}
	switch {
	case len(on) > 0:
	case !named:
		return AddressChoice{}, fmt.Errorf("this host has no interface %s", req.Interface)
	case req.Address.IsValid():
		return AddressChoice{}, fmt.Errorf("%s is not an address of this host", req.Address)
	default:
		return AddressChoice{}, fmt.Errorf("interface %s has no IPv4 address", req.Interface)
	}
	best := on[0]
	if at, ok := n.reachableFrom(req.Toward, on); ok {
		best = at
	} else if at, ok := n.addressOf(n.defaultRoute(), on); ok {
		best = at
	}
	return AddressChoice{HostAddress: best, Reason: "as requested"}, nil
}

// isShared reports whether other hosts may have the addresses of i, too: of a container
// network, or of a dummy interface, which often only carries a default route.
func (n Network) isShared(i Interface) bool {
	return i.Kind == "dummy" || isContainerLink(i.Name) && i.Name != n.defaultRoute().Interface
}

// isGuestNAT reports whether a is the address that VirtualBox and QEMU give to the first
// interface of every guest behind their NAT. Their gateway is always 10.0.2.2.
func (n Network) isGuestNAT(a HostAddress) bool {
	r := n.defaultRoute()
	return a.Address == netip.AddrFrom4([4]byte{10, 0, 2, 15}) && r.Interface == a.Interface && r.Gateway == netip.AddrFrom4([4]byte{10, 0, 2, 2})
}

// isContainerLink reports whether name is one that a container runtime, a network plug-in
// or a manager of virtual machines gives to an interface of its own. A prefix is not
// enough: an administrator's bridge is called br-lan or br-uplink.
func isContainerLink(name string) bool {
	return regexp.MustCompile(`^(` + strings.Join([]string{
		`docker0`, `docker_gwbridge`, `br-[0-9a-f]{12}`, // Docker, nerdctl
		`(cni-)?podman[0-9]+`, `nerdctl[0-9]+`,
		`cni[0-9]+`, `cbr0`, `veth[0-9a-f]{7,8}`, // CNI's bridge, kubenet, Docker's and CNI's veth
		`kube-bridge`, `kube-dummy-if`, `kube-ipvs0`, `nodelocaldns`, // kube-router, kube-proxy, NodeLocal DNSCache
		`flannel(\.|-v6\.)[0-9]+`, `flannel-wg(-v6)?`,
		`cali[0-9a-f]{11}`, `vxlan(-v6)?\.calico`, `wireguard\.cali`, `wg-v6\.cali`, `tunl0`,
		`cilium_(host|net|vxlan|geneve)`, `lxc[0-9a-f]{12,13}`, `lxc_health`,
		`weave`, `vethwe-[0-9a-z-]+`, `vxlan-6784`, `antrea-gw0`,
		`(virbr|lxdbr|incusbr|lxcbr|mpqemubr)[0-9]+`, // libvirt, LXD, Incus, LXC, Multipass
	}, `|`) + `)$`).MatchString(name)
}

// HasAddress reports whether a is an address of this host.
func (n Network) HasAddress(a netip.Addr) bool {
	return slices.ContainsFunc(n.Interfaces, func(i Interface) bool {
		return slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
	})
}

// HasLiveAddress reports whether an interface that is up has a.
func (n Network) HasLiveAddress(a netip.Addr) bool {
	return slices.ContainsFunc(n.Interfaces, func(i Interface) bool {
		return i.Up && slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
	})
}

// reachableFrom returns the address among all from which this host reaches the first
// possible one of targets by a route of its own; a default route decides nothing.
func (n Network) reachableFrom(targets []netip.Addr, all []HostAddress) (HostAddress, bool) {
	for _, to := range targets {
		var best Route
		for _, r := range n.Routes {
			if r.Destination.Contains(to) && r.Destination.Bits() > best.Destination.Bits() {
				best = r
			}
		}
		if best.Destination.Bits() <= 0 || best.Unreachable || n.HasAddress(to) {
			continue
		}
		if !best.Gateway.IsValid() {
			best.Gateway = to // in the same network
		}
		if at, ok := n.addressOf(best, all); ok {
			return at, true
		}
	}
	return HostAddress{}, false
}

// addressOf returns the address among all of r's interface, preferably the one in the
// network of r's gateway.
func (n Network) addressOf(r Route, all []HostAddress) (first HostAddress, ok bool) {
	for _, i := range n.Interfaces {
		for _, p := range i.Addresses {
			at := HostAddress{p.Addr(), i.Name}
			switch {
			case i.Name != r.Interface || !slices.Contains(all, at):
			case p.Contains(r.Gateway):
				return at, true
			case !ok:
				first, ok = at, true
			}
		}
	}
	return first, ok
}

// DefaultRoute returns the first IPv4 default route that leads somewhere, and false if
// there is none.
func (n Network) DefaultRoute() (Route, bool) {
	r := n.defaultRoute()
	return r, r.Interface != ""
}

// defaultRoute prefers a default route to the halves of a VPN, which leaves it in place.
func (n Network) defaultRoute() Route {
	refused := false // by a default route: the kernel tries no other one
	for _, r := range n.DefaultRoutes() {
		switch {
		case !r.Destination.Addr().Is4():
		case r.Unreachable || r.Default() && refused:
			refused = true
		default:
			return r
		}
	}
	return Route{}
}
