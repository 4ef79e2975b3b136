package desired

import (
	"net/netip"
	"testing"

	"github.com/plinthdev/plinth/internal/facts"
)

func link(name string, addresses ...string) facts.Interface {
	i := facts.Interface{Name: name, Up: true}
	for _, a := range addresses {
		i.Addresses = append(i.Addresses, netip.MustParsePrefix(a))
	}
	return i
}

func route(to, gateway, dev string) facts.Route {
	r := facts.Route{Destination: netip.MustParsePrefix(to), Interface: dev}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	return r
}

func TestPrimaryAddress_IsInTheNetworkOfTheDefaultRoute(t *testing.T) {
	const all = "0.0.0.0/0"
	lo, docker := link("lo", "127.0.0.1/8", "::1/128"), link("docker0", "172.17.0.1/16")
	for name, c := range map[string]struct {
		links  []facts.Interface
		routes []facts.Route
		want   string
	}{
		"one link": {[]facts.Interface{lo, link("eth0", "10.0.0.5/24")}, []facts.Route{route(all, "10.0.0.1", "eth0")}, "10.0.0.5"},
		"not a bridge that comes first": {[]facts.Interface{lo, docker, link("eth0", "10.0.0.5/24")},
			[]facts.Route{route("172.17.0.0/16", "", "docker0"), route(all, "10.0.0.1", "eth0")}, "10.0.0.5"},
		"of two addresses the one in the gateway's network": {[]facts.Interface{link("eth0", "169.254.3.4/16", "192.168.7.9/24", "10.0.0.5/24")},
			[]facts.Route{route(all, "10.0.0.1", "eth0")}, "10.0.0.5"},
		"a gateway outside of every network": {[]facts.Interface{link("eth0", "203.0.113.7/32")}, []facts.Route{route(all, "172.31.1.1", "eth0")}, "203.0.113.7"},
		"a default route without a gateway":  {[]facts.Interface{link("ppp0", "198.51.100.2/32")}, []facts.Route{route(all, "", "ppp0")}, "198.51.100.2"},
		"of two default routes the first":    {[]facts.Interface{link("a", "10.1.0.2/24"), link("b", "10.2.0.2/24")}, []facts.Route{route(all, "10.2.0.1", "b"), route(all, "10.1.0.1", "a")}, "10.2.0.2"},
		"the second, if the first has no IPv4": {[]facts.Interface{link("a", "fe80::1/64"), link("b", "10.2.0.2/24")},
			[]facts.Route{route(all, "10.1.0.1", "a"), route(all, "10.2.0.1", "b")}, "10.2.0.2"},
		"IPv6 beside IPv4":  {[]facts.Interface{link("eth0", "2001:db8::5/64", "10.0.0.5/24")}, []facts.Route{route("::/0", "fe80::1", "eth0"), route(all, "10.0.0.1", "eth0")}, "10.0.0.5"},
		"IPv6 alone":        {[]facts.Interface{link("eth0", "2001:db8::5/64")}, []facts.Route{route("::/0", "fe80::1", "eth0")}, ""},
		"no default route":  {[]facts.Interface{link("eth0", "10.0.0.5/24")}, []facts.Route{route("10.0.0.0/24", "", "eth0")}, ""},
		"nothing was found": {nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if a := PrimaryAddress(facts.Network{Interfaces: c.links, Routes: c.routes}); a.IsValid() {
				got = a.String()
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
