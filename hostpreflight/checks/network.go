package checks

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/resolvconf"
)

// networkChecks returns the checks of names, addresses, routes and firewalls.
func networkChecks() []hp.Check {
	return []hp.Check{
		{ID: "hostname", Group: "Network", Title: "Host name", Severity: hp.Fail,
			Expected:  "lower-case letters, digits, dashes and dots (RFC 1123), at most 63 characters, not localhost",
			Rationale: "it becomes the node's name and a label value; kubelet converts it to lower case, other components do not.",
			Run:       hp.RequireFact(facts.FactHostname, checkHostname)},
		{ID: "hostname-resolves", Group: "Network", Title: "Host name lookup", Severity: hp.Warn,
			Expected:  "the host's name resolves to an address of this host within 1 s",
			Rationale: "k0s waits 10 s and kubelet 20 s for it at each start, and the node becomes Ready minutes late.",
			Run:       hp.RequireFact(facts.FactHostname, checkHostnameLookup)},
		{ID: "localhost-resolves", Group: "Network", Title: "Lookup of localhost", Severity: hp.Fail,
			Expected:  "localhost resolves to a loopback address",
			Rationale: "k0s is linked without the C library's resolver and needs localhost in /etc/hosts or from a name server (k0s's external dependencies).",
			Run:       hp.RequireFact(facts.FactLookup+":localhost", checkLocalhostLookup)},
		{ID: "nameserver", Group: "Network", Title: "Name servers", Severity: hp.Warn,
			Expected:  "a name server that pods can reach too, or none",
			Rationale: "CoreDNS forwards names that it does not know to it; a loopback address is the pod itself, and pods have no IPv6. Plinth gives pods the servers that work there, and without one they resolve the names of the cluster only.",
			Run:       hp.RequireFact(facts.FactNetwork, checkNameservers)},
		{ID: "default-route", Group: "Network", Title: "Default route", Severity: hp.Fail,
			Expected:  "an IPv4 default route (on an air-gapped host, to any gateway)",
			Rationale: "without one, the kernel rejects packets to service addresses, which are IPv4, before kube-proxy sees them.",
			Run:       hp.RequireFact(facts.FactNetwork, checkDefaultRoute)},
		{ID: "node-address", Group: "Network", Title: "Node address", Severity: hp.Fail, Strict: true,
			Expected:  "one IPv4 address on an interface that is up, or the one that --address or --network-interface names",
			Rationale: "the other nodes and the pods connect to this host at this address; only that of a cluster with one controller can change later.",
			Run:       hp.RequireFact(facts.FactNetwork, checkNodeAddress)},
		{ID: "cidr-pods", Group: "Network", Title: "Pod network", Severity: hp.Fail,
			Expected:  "no overlap with the host's routes, addresses and name servers",
			Rationale: "hosts in an overlapping network can no longer be reached when the cluster runs (spec.network.podCIDR).",
			Run: hp.RequireFact(facts.FactNetwork, func(f facts.Facts, req hp.Requirements) hp.Result {
				return checkCIDROverlap(f, req, req.PodCIDR, "podCIDR")
			})},
		{ID: "cidr-services", Group: "Network", Title: "Service network", Severity: hp.Fail,
			Expected:  "no overlap with the host's routes, addresses and name servers",
			Rationale: "hosts in an overlapping network can no longer be reached when the cluster runs (spec.network.serviceCIDR).",
			Run: hp.RequireFact(facts.FactNetwork, func(f facts.Facts, req hp.Requirements) hp.Result {
				return checkCIDROverlap(f, req, req.ServiceCIDR, "serviceCIDR")
			})},
		{ID: "firewalld", Group: "Network", Title: "firewalld", Severity: hp.Warn,
			Expected:  "off, or the ports and networks of the cluster allowed",
			Rationale: "it drops packets between pods and between nodes.",
			Run:       hp.RequireFact(facts.FactSystemd, checkFirewalld)},
		{ID: "ufw", Group: "Network", Title: "ufw", Severity: hp.Warn,
			Expected:  "off, or the ports and networks of the cluster allowed",
			Rationale: "it drops packets between pods and between nodes.",
			Run:       hp.RequireFact(facts.FactSecurity, checkUFW)},
	}
}

// networkUnits returns the systemd units to query.
func networkUnits() []string { return []string{"firewalld"} }

// isRFC1123Name reports whether s is a DNS subdomain, which Kubernetes requires for
// the name of a node.
func isRFC1123Name(s string) bool {
	return regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`).MatchString(s)
}

func checkHostname(f facts.Facts, _ hp.Requirements) hp.Result {
	const set = "sudo hostnamectl set-hostname "
	name, lower := f.Hostname, strings.ToLower(f.Hostname)
	switch {
	case name == "localhost" || strings.HasPrefix(name, "localhost."):
		return hp.Failed(set+"NAME", "%s", name)
	case len(name) > 63:
		return hp.Failed(set+"NAME", "%s has %d characters", name, len(name))
	case name != lower && isRFC1123Name(lower):
		return hp.Failed(set+lower, "%s has upper-case letters", name)
	case !isRFC1123Name(name):
		return hp.Failed(set+"NAME", "%q has characters that are not allowed in a node's name", name)
	}
	return hp.Passed("%s", name)
}

func checkHostnameLookup(f facts.Facts, _ hp.Requirements) hp.Result {
	fix := fmt.Sprintf("echo '127.0.1.1 %s' | sudo tee -a /etc/hosts", strings.ToLower(f.Hostname))
	l, ok := f.Lookup(f.Hostname)
	if !ok {
		return hp.Undetermined(f.Hostname + " was not looked up")
	}
	slow := l.TookMS >= 1000
	switch {
	case l.Error != "" && slow:
		return hp.Warned(fix, "%s: %s", l.Name, l.Error)
	case l.Error != "":
		return hp.Warned(fix, "%s does not resolve: %s", l.Name, l.Error)
	case slow:
		return hp.Warned(fix, "%s resolves after %.1f s", l.Name, float64(l.TookMS)/1000)
	}
	for _, a := range l.Addresses {
		if a.IsLoopback() || f.Network.HasAddress(a) {
			return hp.Passed("%s → %s in %d ms", l.Name, a, l.TookMS)
		}
	}
	return hp.Warned("remove the wrong address from /etc/hosts or DNS, then: "+fix, "%s resolves to %s, which is not an address of this host", l.Name, formatAddresses(l.Addresses))
}

func checkLocalhostLookup(f facts.Facts, _ hp.Requirements) hp.Result {
	const fix = "echo '127.0.0.1 localhost' | sudo tee -a /etc/hosts"
	l, ok := f.Lookup("localhost")
	switch {
	case !ok:
		return hp.Undetermined("localhost was not looked up")
	case l.Error != "":
		return hp.Failed(fix, "localhost does not resolve: %s", l.Error)
	case !slices.ContainsFunc(l.Addresses, netip.Addr.IsLoopback):
		return hp.Failed(fix, "localhost resolves to %s", formatAddresses(l.Addresses))
	}
	return hp.Passed("localhost → %s", formatAddresses(l.Addresses))
}

func checkNameservers(f facts.Facts, _ hp.Requirements) hp.Result {
	chosen, direct := resolvconf.ForPods(f.Network.Resolvers)
	servers := strings.Join(chosen.Servers, ", ")
	switch {
	case direct:
		return hp.Passed("%s", servers)
	case servers != "":
		return hp.Passed("%s: pods get these servers of %s, without %s", servers, chosen.Path, formatAddresses(f.Network.Nameservers))
	case resolvconf.HasLocalServer(f.Network.Resolvers):
	case resolvconf.IPv6Servers(f.Network.Resolvers) != nil:
		return hp.Warned("set a name server with an IPv4 address in the network configuration, beside those with IPv6",
			"only with IPv6: %s; pods have IPv4 addresses and resolve names of the cluster only", strings.Join(resolvconf.IPv6Servers(f.Network.Resolvers), ", "))
	default:
		return hp.Passed("none: pods resolve names of the cluster only")
	}
	return hp.Warned("set a name server in /etc/resolv.conf that is not a loopback address: one on another host, or, if the one on this host listens there, the node's own address",
		"only on this host: %s; pods resolve names of the cluster only", formatAddresses(f.Network.Nameservers))
}

func checkDefaultRoute(f facts.Facts, req hp.Requirements) hp.Result {
	r, ok := f.Network.DefaultRoute()
	switch {
	case ok && r.Gateway.IsValid():
		return hp.Passed("via %s on %s", r.Gateway, r.Interface)
	case ok:
		return hp.Passed("on %s", r.Interface)
	}
	fix := "sudo ip route add default via GATEWAY"
	if at, err := f.Network.ChooseAddress(req.Address); err == nil {
		fix += "\non a host without a gateway instead: sudo ip route add default dev " + at.Interface
	}
	fix += "\nand make it permanent in the network configuration"
	for _, r := range f.Network.Routes {
		switch {
		case !r.Default():
		case r.Unreachable:
			return hp.Failed("sudo ip route del default\nand unless another one is left:\n"+fix, "the IPv4 default route refuses all packets (blackhole, prohibit or unreachable)")
		default:
			return hp.Failed(fix, "only an IPv6 default route, on %s", r.Interface)
		}
	}
	return hp.Failed(fix, "none")
}

// checkNodeAddress reports which address the node will have. Several candidates are a
// warning, because the address is hard to change later.
func checkNodeAddress(f facts.Facts, req hp.Requirements) hp.Result {
	at, err := f.Network.ChooseAddress(req.Address)
	all, _ := f.Network.ChooseAddress(facts.AddressRequest{})
	switch {
	case err != nil && req.Recorded.Address.IsValid():
		return hp.Skip("host-identity", err.Error())
	case err != nil && !all.Address.IsValid():
		return hp.Failed("sudo ip address add ADDRESS/LENGTH dev INTERFACE, and make it permanent in the network configuration", "%s", err)
	case err != nil:
		return hp.Failed("give --address an IPv4 address of this host: "+joinAddresses(append([]facts.HostAddress{all.HostAddress}, all.Others...)), "%s", err)
	case len(at.Others) > 0:
		return hp.Warned("if other hosts reach this one at another address, name it with --address ADDRESS or --network-interface NAME", "%s, %s; other addresses: %s", at, at.Reason, joinAddresses(at.Others))
	}
	return hp.Passed("%s, %s", at, at.Reason)
}

// joinAddresses returns all, separated by commas.
func joinAddresses(all []facts.HostAddress) string {
	var out []string
	for _, a := range all {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}

// checkCIDROverlap reports routes, addresses and name servers of the host that
// overlap with cidr. field is its name in spec.network.
func checkCIDROverlap(f facts.Facts, req hp.Requirements, cidr netip.Prefix, field string) hp.Result {
	if !cidr.IsValid() {
		return hp.Undetermined("the Installer sets none")
	}
	if req.Owned.Installed {
		return hp.Passed("%s, in use by this installation", cidr)
	}
	var hits []string
	hit := func(format string, args ...any) { hits = append(hits, fmt.Sprintf(format, args...)) }
	leftover := func(link string) bool { // the check leftover-links reports it, with another fix
		return slices.ContainsFunc(f.Traces, func(t facts.Trace) bool { return t.Kind == "link" && t.Path == link })
	}
	defaults := f.Network.DefaultRoutes()
	for _, r := range f.Network.Routes {
		switch {
		case slices.Contains(defaults, r), !r.Destination.Overlaps(cidr), leftover(r.Interface):
		case r.Unreachable && field == "podCIDR": // the routes to pods are more specific
		case r.Unreachable: // packets to services need a route before kube-proxy redirects them
			hit("route %s, which refuses packets", r.Destination)
		default:
			hit("route %s on %s", r.Destination, r.Interface)
		}
	}
	for _, i := range f.Network.Interfaces {
		for _, p := range i.Addresses {
			if cidr.Contains(p.Addr()) && !leftover(i.Name) {
				hit("address %s on %s", p.Addr(), i.Name)
			}
		}
	}
	for _, a := range f.Network.Nameservers {
		if cidr.Contains(a) {
			hit("name server %s", a)
		}
	}
	if hits != nil {
		return hp.Failed("choose another spec.network."+field+": a private network that is not used by any reachable host", "%s overlaps with %s", cidr, strings.Join(hits, ", "))
	}
	return hp.Passed("%s", cidr)
}

// formatAddresses returns addrs separated by commas, or "none".
func formatAddresses(addrs []netip.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return joinOrNone(all)
}

// joinOrNone returns all separated by commas, or "none".
func joinOrNone(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
