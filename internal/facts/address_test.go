package facts

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func link(name string, addresses ...string) Interface {
	i := Interface{Name: name, Up: true, Loopback: name == "lo"}
	if strings.HasPrefix(name, "dummy") {
		i.Kind = "dummy"
	}
	for _, a := range addresses {
		i.Addresses = append(i.Addresses, netip.MustParsePrefix(a))
	}
	return i
}

func route(to, gateway, dev string) Route {
	r := Route{Destination: netip.MustParsePrefix(to), Interface: dev}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	return r
}

// describe returns the choice as text: "10.0.0.5 on eth0", then the other candidates.
func describe(c AddressChoice, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	s := c.String()
	for _, o := range c.Others {
		s += ", not " + o.String()
	}
	return s
}

const all = "0.0.0.0/0"

// vagrantGuest is a guest of VirtualBox as Vagrant creates it: NAT first.
func vagrantGuest() Network {
	return Network{Interfaces: []Interface{link("lo", "127.0.0.1/8"), link("eth0", "10.0.2.15/24"), link("eth1", "192.168.56.11/24")},
		Routes: []Route{route(all, "10.0.2.2", "eth0"), route("10.0.2.0/24", "", "eth0"), route("192.168.56.0/24", "", "eth1")}}
}

func TestChooseAddress_PrefersTheInterfaceThatOthersReach(t *testing.T) {
	lo, docker := link("lo", "127.0.0.1/8", "::1/128"), link("docker0", "172.17.0.1/16")
	eth0 := link("eth0", "10.0.0.5/24")
	down := link("eth1", "10.9.0.5/24")
	down.Up = false
	two := Network{Interfaces: []Interface{link("a", "10.1.0.2/24"), link("b", "10.2.0.2/24")},
		Routes: []Route{route(all, "10.1.0.1", "a"), route("10.1.0.0/24", "", "a"), route("10.2.0.0/24", "", "b"), route("172.16.0.0/12", "10.2.0.1", "b")}}
	for name, c := range map[string]struct {
		links  []Interface
		routes []Route
		toward []string
		want   string
	}{
		"one link": {[]Interface{lo, eth0}, []Route{route(all, "10.0.0.1", "eth0")}, nil, "10.0.0.5 on eth0"},
		"not a bridge that comes first": {[]Interface{lo, docker, eth0},
			[]Route{route("172.17.0.0/16", "", "docker0"), route(all, "10.0.0.1", "eth0")}, nil, "10.0.0.5 on eth0"},
		"of several addresses the one in the gateway's network": {[]Interface{link("eth0", "169.254.3.4/16", "192.168.7.9/24", "10.0.0.5/24")},
			[]Route{route(all, "10.0.0.1", "eth0")}, nil, "10.0.0.5 on eth0, not 192.168.7.9 on eth0"},
		"a gateway outside of every network":           {[]Interface{link("eth0", "203.0.113.7/32")}, []Route{route(all, "172.31.1.1", "eth0")}, nil, "203.0.113.7 on eth0"},
		"a default route without a gateway":            {[]Interface{link("ppp0", "198.51.100.2/32")}, []Route{route(all, "", "ppp0")}, nil, "198.51.100.2 on ppp0"},
		"of two default routes the first":              {two.Interfaces, []Route{route(all, "10.2.0.1", "b"), route(all, "10.1.0.1", "a")}, nil, "10.2.0.2 on b, not 10.1.0.2 on a"},
		"a default route without an address":           {[]Interface{link("a", "fe80::1/64"), link("b", "10.2.0.2/24")}, []Route{route(all, "10.1.0.1", "a")}, nil, "10.2.0.2 on b"},
		"IPv6 beside IPv4":                             {[]Interface{link("eth0", "2001:db8::5/64", "10.0.0.5/24")}, []Route{route("::/0", "fe80::1", "eth0"), route(all, "10.0.0.1", "eth0")}, nil, "10.0.0.5 on eth0"},
		"IPv4 with an IPv6 default route":              {[]Interface{link("eth0", "10.0.0.5/24")}, []Route{route("::/0", "fe80::1", "eth0")}, nil, "10.0.0.5 on eth0"},
		"IPv6 alone":                                   {[]Interface{link("eth0", "2001:db8::5/64")}, []Route{route("::/0", "fe80::1", "eth0")}, nil, "error: no interface that is up has an IPv4 address"},
		"no default route":                             {[]Interface{lo, docker, eth0}, []Route{route("10.0.0.0/24", "", "eth0")}, nil, "10.0.0.5 on eth0"},
		"an interface that is down":                    {[]Interface{lo, down}, nil, nil, "error: no interface that is up has an IPv4 address"},
		"nothing was found":                            {nil, nil, nil, "error: no interface that is up has an IPv4 address"},
		"NAT first, as on Vagrant":                     {vagrantGuest().Interfaces, vagrantGuest().Routes, nil, "192.168.56.11 on eth1, not 10.0.2.15 on eth0"},
		"only NAT":                                     {vagrantGuest().Interfaces[:2], vagrantGuest().Routes[:2], nil, "10.0.2.15 on eth0"},
		"another network 10.0.2.0/24":                  {vagrantGuest().Interfaces, []Route{route(all, "10.0.2.1", "eth0")}, nil, "10.0.2.15 on eth0, not 192.168.56.11 on eth1"},
		"NAT first, controllers on the other network":  {vagrantGuest().Interfaces, vagrantGuest().Routes, []string{"192.168.56.10"}, "192.168.56.11 on eth1, not 10.0.2.15 on eth0"},
		"NAT first, a controller with its NAT address": {vagrantGuest().Interfaces, vagrantGuest().Routes, []string{"10.0.2.15"}, "192.168.56.11 on eth1, not 10.0.2.15 on eth0"},
		"a dummy interface with the default route": {[]Interface{lo, link("dummy0", "203.0.113.254/31"), eth0},
			[]Route{route(all, "203.0.113.255", "dummy0"), route("10.0.0.0/24", "", "eth0")}, nil, "10.0.0.5 on eth0"},
		"only a dummy interface":          {[]Interface{lo, link("dummy0", "203.0.113.254/31")}, []Route{route(all, "", "dummy0")}, nil, "203.0.113.254 on dummy0"},
		"controllers on one network":      {two.Interfaces, two.Routes, []string{"10.2.0.9"}, "10.2.0.2 on b, not 10.1.0.2 on a"},
		"controllers behind a gateway":    {two.Interfaces, two.Routes, []string{"172.16.3.4"}, "10.2.0.2 on b, not 10.1.0.2 on a"},
		"controllers far away":            {two.Interfaces, two.Routes, []string{"198.51.100.9"}, "10.1.0.2 on a, not 10.2.0.2 on b"},
		"the second controller is near":   {two.Interfaces, two.Routes, []string{"198.51.100.9", "10.2.0.9"}, "10.2.0.2 on b, not 10.1.0.2 on a"},
		"a bridge with the default route": {[]Interface{lo, link("br-lan", "10.0.0.5/24")}, []Route{route(all, "10.0.0.1", "br-lan")}, nil, "10.0.0.5 on br-lan"},
		"a Docker name with the default route": {[]Interface{lo, link("br-0123456789ab", "10.0.0.5/24"), link("eth1", "10.9.0.5/24")},
			[]Route{route(all, "10.0.0.1", "br-0123456789ab")}, nil, "10.0.0.5 on br-0123456789ab, not 10.9.0.5 on eth1"},
	} {
		t.Run(name, func(t *testing.T) {
			var req AddressRequest
			for _, a := range c.toward {
				req.Toward = append(req.Toward, netip.MustParseAddr(a))
			}
			if got := describe((Network{Interfaces: c.links, Routes: c.routes}).ChooseAddress(req)); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestChooseAddress_TakesTheRequestedOne(t *testing.T) {
	n := vagrantGuest()
	down := link("eth2", "10.9.0.5/24")
	down.Up = false
	n.Interfaces = append(n.Interfaces, down, link("eth3", "2001:db8::5/64"), link("dummy1", "198.51.100.1/32"), link("eth4", "10.4.0.8/24", "10.5.0.8/24"))
	n.Interfaces[0].Addresses = append(n.Interfaces[0].Addresses, netip.MustParsePrefix("198.51.100.9/32"))
	n.Routes = append(n.Routes, route("10.5.0.0/24", "", "eth4"))
	for _, c := range []struct{ address, dev, want string }{
		{"192.168.56.11", "", "192.168.56.11 on eth1"},
		{"10.0.2.15", "", "10.0.2.15 on eth0"},
		{"198.51.100.1", "", "198.51.100.1 on dummy1"},
		{"198.51.100.9", "", "198.51.100.9 on lo"},
		{"192.0.2.1", "", "error: 192.0.2.1 is not an address of this host"},
		{"10.9.0.5", "", "error: interface eth2, which has the address 10.9.0.5, is down"},
		{"127.0.0.1", "", "error: other hosts cannot reach this one at 127.0.0.1 on lo"},
		{"", "eth1", "192.168.56.11 on eth1"},
		{"", "eth4", "10.5.0.8 on eth4"}, // in the network of the controllers
		{"", "eth9", "error: this host has no interface eth9"},
		{"", "eth3", "error: interface eth3 has no IPv4 address"},
		{"", "eth2", "error: interface eth2, which has the address 10.9.0.5, is down"},
	} {
		t.Run(c.address+c.dev, func(t *testing.T) {
			req := AddressRequest{Interface: c.dev, Toward: []netip.Addr{netip.MustParseAddr("10.5.0.1")}}
			if c.address != "" {
				req.Address = netip.MustParseAddr(c.address)
			}
			if got := describe(n.ChooseAddress(req)); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestIsContainerLink_KnowsExactNames(t *testing.T) {
	for name, want := range map[string]bool{
		"docker0": true, "docker_gwbridge": true, "br-0123456789ab": true, "podman0": true, "podman12": true, "cni-podman0": true, "nerdctl0": true,
		"cni0": true, "cbr0": true, "veth1a2b3c4": true, "veth1a2b3c4d": true, "kube-bridge": true, "kube-dummy-if": true, "kube-ipvs0": true,
		"flannel.1": true, "flannel-v6.1": true, "flannel-wg": true, "cali0123456789a": true, "vxlan.calico": true, "tunl0": true,
		"cilium_host": true, "lxc0123456789ab": true, "lxc_health": true, "weave": true, "virbr0": true, "lxdbr0": true,
		"br-lan": false, "br-uplink": false, "br-ex": false, "br-0123456789": false, "br-deadbeefcafe0": false, "br0": false, "cniuplink": false, "cali-wan": false,
		"calico-lan": false, "veth-lan": false, "kube-net": false, "flannel": false, "eth0": false, "wg0": false, "podman": false, "docker1": false, "": false,
	} {
		t.Run(name, func(t *testing.T) {
			if isContainerLink(name) != want {
				t.Errorf("%q: %v", name, !want)
			}
		})
	}
}

func TestUplink_IsTheInterfaceOfTheNodesAddress(t *testing.T) {
	n := vagrantGuest()
	n.Interfaces[2].MTU, n.Interfaces[1].MTU = 1400, 1500
	if got := fmt.Sprint(n.UplinkAddresses(), n.MTU()); got != "[10.0.2.15] 1500" {
		t.Errorf("before the choice: %s", got)
	}
	n.NodeAddress = netip.MustParseAddr("192.168.56.11")
	n.Interfaces[2].Addresses = append([]netip.Prefix{netip.MustParsePrefix("2001:db8::1/64")}, n.Interfaces[2].Addresses...)
	if got := fmt.Sprint(n.UplinkAddresses(), n.MTU()); got != "[192.168.56.11 2001:db8::1] 1400" {
		t.Errorf("after it: %s", got)
	}
}

func TestPacketLink_IsNotAnInterfaceThatOnlyHoldsTheAddress(t *testing.T) {
	lo, dummy := link("lo", "127.0.0.1/8", "10.255.0.1/32"), link("dummy0", "10.255.0.2/32")
	dummy.Kind, lo.MTU, dummy.MTU = "dummy", 65536, 1500
	eth0, eth1 := link("eth0", "192.0.2.10/24"), link("eth1", "198.51.100.10/24")
	eth0.MTU, eth1.MTU = 9000, 1400
	byEth0 := []Route{route(all, "192.0.2.1", "eth0")}
	for name, c := range map[string]struct {
		address string
		routes  []Route
		want    string
		mtu     int
	}{
		"on lo":                     {"10.255.0.1", byEth0, "eth0", 9000},
		"on a dummy interface":      {"10.255.0.2", byEth0, "eth0", 9000},
		"on another interface":      {"198.51.100.10", byEth0, "eth1", 1400},
		"no default route":          {"10.255.0.1", nil, "lo", 65536},
		"a default route on itself": {"10.255.0.2", []Route{route(all, "10.255.0.9", "dummy0")}, "dummy0", 1500},
	} {
		t.Run(name, func(t *testing.T) {
			n := Network{Interfaces: []Interface{lo, dummy, eth0, eth1}, Routes: c.routes, NodeAddress: netip.MustParseAddr(c.address)}
			if got := n.PacketLink(); got.Name != c.want || n.MTU() != c.mtu {
				t.Errorf("%s, MTU %d", got.Name, n.MTU())
			}
		})
	}
}

func TestDefaultRoute_LeadsSomewhere(t *testing.T) {
	refused := Route{Destination: netip.MustParsePrefix(all), Unreachable: true}
	for name, c := range map[string]struct {
		routes []Route
		want   string
	}{
		"IPv4":                       {[]Route{route("::/0", "fe80::1", "b"), route(all, "10.0.0.1", "a")}, "a"},
		"only IPv6":                  {[]Route{route("::/0", "fe80::1", "b")}, ""},
		"a blackhole":                {[]Route{refused}, ""},
		"a blackhole before another": {[]Route{refused, route(all, "10.0.0.1", "a")}, ""},
		"a blackhole after it":       {[]Route{route(all, "10.0.0.1", "a"), refused}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			if r, ok := (Network{Routes: c.routes}).DefaultRoute(); r.Interface != c.want || ok != (c.want != "") {
				t.Errorf("%+v %v, want %q", r, ok, c.want)
			}
		})
	}
}
