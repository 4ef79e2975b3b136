package facts

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/plinthdev/plinth/internal/resolvconf"
)

// Network is the configuration of the host's network namespace.
type Network struct {
	Interfaces  []Interface  `json:"interfaces,omitempty"`
	Routes      []Route      `json:"routes,omitempty"`
	Nameservers []netip.Addr `json:"nameservers,omitempty"` // from /etc/resolv.conf
	Search      []string     `json:"search,omitempty"`      // search domains from /etc/resolv.conf
	Servers     []NameServer `json:"servers,omitempty"`     // results of querying the name servers
	Listening   []int        `json:"listening,omitempty"`   // TCP ports in use, including those on loopback
	NodeAddress netip.Addr   `json:"nodeAddress,omitzero"`  // result of ChooseAddress for this run; zero before it

	Resolvers []resolvconf.File `json:"resolvers,omitempty"` // those of resolvconf.Paths that exist
}

// Interface is one network link.
type Interface struct {
	Name      string         `json:"name"`
	Kind      string         `json:"kind,omitempty"` // of a virtual interface, as in `ip -d link`: bridge, veth, dummy
	Up        bool           `json:"up"`
	Loopback  bool           `json:"loopback,omitempty"`
	MTU       int            `json:"mtu"`
	Addresses []netip.Prefix `json:"addresses,omitempty"` // address with its prefix length
}

// Route is one entry of the main routing table.
type Route struct {
	Destination netip.Prefix `json:"destination"` // 0.0.0.0/0 or ::/0 for a default route
	Gateway     netip.Addr   `json:"gateway"`     // zero if the network is directly connected
	Interface   string       `json:"interface"`
	Unreachable bool         `json:"unreachable,omitempty"` // the kernel refuses packets to it: blackhole, prohibit, unreachable
}

// Default reports whether the route is a default route.
func (r Route) Default() bool { return r.Destination.Bits() == 0 }

// DefaultRoutes returns the default routes, and after them the pairs of routes to both
// halves of all addresses by one interface, such as 0.0.0.0/1 and 128.0.0.0/1. VPN
// clients add them (OpenVPN: redirect-gateway def1) to leave the default route alone.
func (n Network) DefaultRoutes() (out []Route) {
	for _, r := range n.Routes {
		if r.Default() {
			out = append(out, r)
		}
	}
	isHalf := func(a, b Route) bool {
		return a.Destination.Bits() == 1 && b.Destination.Bits() == 1 && a.Interface == b.Interface &&
			a.Destination.Addr().BitLen() == b.Destination.Addr().BitLen() && a.Destination != b.Destination
	}
	for _, r := range n.Routes {
		if slices.ContainsFunc(n.Routes, func(other Route) bool { return isHalf(r, other) }) {
			out = append(out, r)
		}
	}
	return out
}

// UplinkAddresses returns the addresses of the uplink, at which other hosts reach this
// one; the node's address comes first. Addresses of other interfaces do not identify a
// host: container bridges have the same addresses on many hosts.
func (n Network) UplinkAddresses() (out []netip.Addr) {
	for _, p := range n.uplink().Addresses {
		switch a := p.Addr(); {
		case a == n.NodeAddress:
			out = slices.Insert(out, 0, a)
		case a.IsGlobalUnicast():
			out = append(out, a)
		}
	}
	return out
}

// MTU returns the MTU between this host and others, or 0 if it is not known.
func (n Network) MTU() int { return n.PacketLink().MTU }

// PacketLink returns the interface at which packets of other hosts arrive: the uplink. If
// that only holds the node's address, as lo and dummy interfaces do in routed networks, it is
// the one with the default route.
func (n Network) PacketLink() Interface {
	uplink, route := n.uplink(), n.defaultRoute()
	if !uplink.Loopback && uplink.Kind != "dummy" {
		return uplink
	}
	if i := slices.IndexFunc(n.Interfaces, func(i Interface) bool { return i.Name == route.Interface }); i >= 0 {
		return n.Interfaces[i]
	}
	return uplink
}

// uplink returns the interface with the node's address. Before that is chosen, it is the
// one with the default route.
func (n Network) uplink() Interface {
	route := n.defaultRoute()
	for _, i := range n.Interfaces {
		if n.NodeAddress.IsValid() && slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr() == n.NodeAddress }) ||
			!n.NodeAddress.IsValid() && i.Name == route.Interface {
			return i
		}
	}
	return Interface{}
}

// PortKey identifies a port to bind.
type PortKey struct {
	Number   int    `json:"number"`
	Protocol string `json:"protocol"`          // tcp or udp
	Address  string `json:"address,omitempty"` // empty for all addresses, IPv4 and IPv6
}

// String returns the usual notation: 6443/tcp, or 127.0.0.1:2379/tcp.
func (k PortKey) String() string {
	s := strconv.Itoa(k.Number) + "/" + k.Protocol
	if k.Address != "" {
		s = k.Address + ":" + s
	}
	return s
}

// Port is the result of binding a port.
type Port struct {
	PortKey
	Free  bool   `json:"free"`
	Error string `json:"error,omitempty"` // name of the errno if it is not free: EADDRINUSE, …
	Owner *Owner `json:"owner,omitempty"` // process that uses it; nil if it is not visible
}

// Owner is the process that uses a port.
type Owner struct {
	PID     int      `json:"pid"`
	Program string   `json:"program"`           // path of its executable, or its name if the path is not known
	Unit    string   `json:"unit,omitempty"`    // its systemd service, without .service
	Parents []string `json:"parents,omitempty"` // executables of its parents, nearest first, without pid 1
}
