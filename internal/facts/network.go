package facts

import (
	"net/netip"
	"strconv"
)

// Network is what the host's own network name space looks like.
type Network struct {
	Interfaces  []Interface  `json:"interfaces,omitempty"`
	Routes      []Route      `json:"routes,omitempty"`
	Nameservers []netip.Addr `json:"nameservers,omitempty"` // of /etc/resolv.conf
	Search      []string     `json:"search,omitempty"`      // domains of /etc/resolv.conf
	Servers     []Server     `json:"servers,omitempty"`     // what became of asking the name servers
	Listening   []int        `json:"listening,omitempty"`   // TCP ports that something listens on, loopback included
}

// Interface is one network link.
type Interface struct {
	Name      string         `json:"name"`
	Up        bool           `json:"up"`
	Loopback  bool           `json:"loopback,omitempty"`
	MTU       int            `json:"mtu"`
	Addresses []netip.Prefix `json:"addresses,omitempty"` // address with the length of its network
}

// Route is one entry of the main routing table.
type Route struct {
	Destination netip.Prefix `json:"destination"` // 0.0.0.0/0 or ::/0 for a default route
	Gateway     netip.Addr   `json:"gateway"`     // zero where the network is directly reached
	Interface   string       `json:"interface"`
}

// Default reports whether the route is a default route.
func (r Route) Default() bool { return r.Destination.Bits() == 0 }

// Own lists the addresses of the interface that has the default route: those
// under which other hosts know this one. Bridges of containers have the same
// addresses on many hosts.
func (n Network) Own() (out []netip.Addr) {
	for _, i := range n.Interfaces {
		if i.Name != n.uplink() {
			continue
		}
		for _, p := range i.Addresses {
			if p.Addr().IsGlobalUnicast() {
				out = append(out, p.Addr())
			}
		}
	}
	return out
}

// MTU is the size of a full packet on the interface that has the default
// route; 0 when there is none.
func (n Network) MTU() int {
	for _, i := range n.Interfaces {
		if i.Name == n.uplink() {
			return i.MTU
		}
	}
	return 0
}

// uplink is the interface of the first default route; "" for none.
func (n Network) uplink() string {
	for _, r := range n.Routes {
		if r.Default() {
			return r.Interface
		}
	}
	return ""
}

// PortKey names a port to bind.
type PortKey struct {
	Number   int    `json:"number"`
	Protocol string `json:"protocol"`          // tcp or udp
	Address  string `json:"address,omitempty"` // empty for all addresses, IPv4 and IPv6
}

// String is the way people write it: 6443/tcp, or 127.0.0.1:2379/tcp.
func (k PortKey) String() string {
	s := strconv.Itoa(k.Number) + "/" + k.Protocol
	if k.Address != "" {
		s = k.Address + ":" + s
	}
	return s
}

// Port is what became of binding a port.
type Port struct {
	PortKey
	Free  bool   `json:"free"`
	Error string `json:"error,omitempty"` // errno's name when it is not free: EADDRINUSE, …
	Owner *Owner `json:"owner,omitempty"` // who holds it; nil when it cannot be seen
}

// Owner is the process that holds a port.
type Owner struct {
	PID     int      `json:"pid"`
	Program string   `json:"program"`           // path of its executable, or its name where the path cannot be told
	Unit    string   `json:"unit,omitempty"`    // its systemd service, without .service
	Parents []string `json:"parents,omitempty"` // executables of its parents, nearest first, without pid 1
}
