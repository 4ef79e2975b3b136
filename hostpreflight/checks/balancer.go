package checks

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// balancerChecks returns the checks of what the load balancer of the cluster needs.
func balancerChecks() []hp.Check {
	return []hp.Check{
		{ID: "load-balancer-addresses", Group: "Network", Title: "Addresses of the load balancer", Severity: hp.Fail,
			Expected:  "in a network of this host, without its first and its last address, and not in use by it, its gateways, its name servers or other nodes",
			Rationale: "MetalLB answers ARP requests for them (spec.loadBalancer.addresses): a host that has one of them, too, is no longer reached, and users behind no router to the network reach none.",
			Run:       hp.RequireFact(facts.FactNetwork, checkBalancerAddresses)},
	}
}

// virtualServiceLink is the interface on which kube-proxy, in its mode ipvs, has the addresses of services.
const virtualServiceLink = "kube-ipvs0"

func checkBalancerAddresses(f facts.Facts, req hp.Requirements) hp.Result {
	if len(req.LoadBalancer) == 0 {
		return hp.Skip("install", "there are no addresses of a load balancer, or they are not known yet")
	}
	if taken := takenAddresses(f, req.LoadBalancer); taken != nil {
		return hp.Failed("choose others with plinth install --load-balancer-addresses", "%s", strings.Join(taken, ", "))
	}
	var all, outside []string
	for _, r := range req.LoadBalancer {
		all = append(all, r.String())
		connected := func(i facts.Interface) bool {
			return slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Contains(r.First) && p.Contains(r.Last) })
		}
		if !slices.ContainsFunc(f.Network.Interfaces, connected) {
			outside = append(outside, r.String())
		}
	}
	if outside != nil {
		return hp.Warned("choose addresses of the network of the hosts with plinth install --load-balancer-addresses, or have the router of the users send packets for them to that network",
			"%s: in no network of this host", strings.Join(outside, ", "))
	}
	return hp.Passed("%s", strings.Join(all, ", "))
}

// takenAddresses returns who has addresses in ranges.
func takenAddresses(f facts.Facts, ranges []hp.AddressRange) (taken []string) {
	add := func(a netip.Addr, format string, args ...any) {
		if slices.ContainsFunc(ranges, func(r hp.AddressRange) bool { return r.Contains(a) }) {
			taken = appendNew(taken, fmt.Sprintf("%s is "+format, append([]any{a}, args...)...))
		}
	}
	for _, i := range f.Network.Interfaces {
		for _, p := range i.Addresses {
			if i.Name == virtualServiceLink {
				continue
			}
			add(p.Addr(), "an address of this host, on %s", i.Name)
			if first, last, ok := networkEnds(p); ok {
				add(first, "the address of the network of %s", i.Name)
				add(last, "the broadcast address of the network of %s", i.Name)
			}
		}
	}
	for _, r := range f.Network.Routes {
		add(r.Gateway, "a gateway of this host")
	}
	for _, a := range f.Network.Nameservers {
		add(a, "a name server of this host")
	}
	for _, p := range f.Peers {
		if a, err := netip.ParseAddr(p.Address); err == nil {
			add(a, "the address of another node")
		}
	}
	return taken
}

// networkEnds returns the first and the last address of an IPv4 network, which no host of it can have; ok is false for
// networks of one or two addresses, which have none of them.
func networkEnds(p netip.Prefix) (first, last netip.Addr, ok bool) {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return first, last, false
	}
	first = p.Masked().Addr()
	bytes := first.As4()
	binary.BigEndian.PutUint32(bytes[:], binary.BigEndian.Uint32(bytes[:])|1<<(32-p.Bits())-1)
	return first, netip.AddrFrom4(bytes), true
}
