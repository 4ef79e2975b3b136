package checks

import (
	"net/netip"
	"slices"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/ports"
)

// configureHint is the last line of a fix: Plinth can do what the lines before it say.
const configureHint = "or add --configure-firewall to the install, join or restore, which runs these commands"

// Firewalls returns the rules that let the cluster's packets through the firewalls of the host,
// none for a firewall that is off or lets them through. The checks print their commands, and
// an install with --configure-firewall runs them.
func Firewalls(f facts.Facts, req hp.Requirements) []firewall.Rules {
	var all []firewall.Rules
	for _, kind := range []firewall.Kind{firewall.Firewalld, firewall.UFW} {
		if !isOn(f, kind) || isKnown(f, kind) && findObstacles(f, req, ownedBy(f, kind)) == nil {
			continue
		}
		if req.PodCIDR.IsValid() {
			all = append(all, firewall.Rules{Kind: kind, Access: neededAccess(f, req, kind)})
		}
	}
	if chains := droppingChains(findObstacles(f, req, ownedBy(f, ""))); chains != nil {
		all = append(all, firewall.Rules{Kind: firewall.Filter, Chains: chains})
	}
	return all
}

// UpdatedFirewalls returns the rules of Firewalls for a host that has rules already, earlier, which were
// chosen for other networks.
func UpdatedFirewalls(f facts.Facts, req hp.Requirements, earlier []firewall.Rules) []firewall.Rules {
	var own []string
	for _, r := range earlier {
		for _, c := range r.Chains {
			own = append(own, c.Own())
		}
	}
	f.Filters = slices.Clone(f.Filters)
	for i, c := range f.Filters {
		f.Filters[i].Rules = slices.DeleteFunc(slices.Clone(c.Rules), func(r facts.FilterRule) bool { return slices.Contains(own, r.Target) })
	}
	all := Firewalls(f, req)
	for _, r := range earlier {
		isListed := slices.ContainsFunc(all, func(o firewall.Rules) bool { return o.Kind == r.Kind })
		if r.Kind != firewall.Filter && isOn(f, r.Kind) && !isListed {
			all = append(all, firewall.Rules{Kind: r.Kind, Access: neededAccess(f, req, r.Kind)})
		}
	}
	return all
}

// isOn reports whether the host runs the firewall kind.
func isOn(f facts.Facts, kind firewall.Kind) bool {
	if kind == firewall.UFW {
		return f.Security.UFW
	}
	u, _ := f.Unit("firewalld")
	return u.Active == "active"
}

// isKnown reports whether the rules of the firewall kind were read.
func isKnown(f facts.Facts, kind firewall.Kind) bool {
	return f.UnknownReason(facts.FactIptables) == "" && slices.ContainsFunc(f.Filters, ownedBy(f, kind))
}

// ownedBy returns a function that reports whether a chain belongs to the firewall kind.
func ownedBy(f facts.Facts, kind firewall.Kind) func(facts.FilterChain) bool {
	return func(c facts.FilterChain) bool { return filterOwner(f, c) == string(kind) }
}

// NodeNetworks returns the networks in which the other nodes of the cluster are: those that the user
// has named, or the network of this host's address, and the addresses of the nodes that are known
// and are in none of them. ok is false if the address is the only one of its network: then nodes
// that join later are not known.
func NodeNetworks(f facts.Facts, req hp.Requirements) (all []netip.Prefix, ok bool) {
	all = slices.Clone(req.NodeNetworks)
	if len(all) == 0 {
		var m flowBuilder
		own := m.setNode(f)
		if !own.IsValid() || own.Bits() > 30 {
			return nil, false
		}
		all = append(all, own.Masked())
	}
	for _, p := range f.Peers {
		a, err := netip.ParseAddr(p.Address)
		if err == nil && a.Is4() && !slices.ContainsFunc(all, func(n netip.Prefix) bool { return n.Contains(a) }) {
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return all, true
}

// neededAccess returns what the cluster needs on a host with the firewall kind.
func neededAccess(f facts.Facts, req hp.Requirements, kind firewall.Kind) firewall.Access {
	a := firewall.Access{Public: scopePorts(req, ports.Outside), Nodes: scopePorts(req, ports.Cluster), NodesUDP: []int{ports.Kubelet}, Pods: req.PodCIDR.Masked()}
	a.Networks, _ = NodeNetworks(f, req)
	for _, o := range findObstacles(f, req, ownedBy(f, kind)) {
		if o.chain.Hook == "output" {
			a.Outgoing = ports.Between(!req.IsWorker(), true)
		}
	}
	return a
}

// scopePorts returns the TCP ports of this host with the given scope. Those of the console and of the
// ingress controller are not among them: their packets are forwarded to pods.
func scopePorts(req hp.Requirements, scope ports.Scope) []int {
	var all []int
	for _, p := range listenPorts() {
		if key, ok := p.portKey(req); ok && p.Scope == scope && p.Field == "" {
			all = append(all, key.Number)
		}
	}
	slices.Sort(all)
	return all
}

// droppingChains returns the chains of all, each with the packets that it has to accept.
func droppingChains(all []obstacle) []firewall.Chain {
	var chains []firewall.Chain
	for _, o := range all {
		i := slices.IndexFunc(chains, func(c firewall.Chain) bool { return c.Table == o.chain.Table && c.Name == o.chain.Name })
		if i < 0 {
			i = len(chains)
			chains = append(chains, firewall.Chain{Table: o.chain.Table, Name: o.chain.Name})
		}
		for _, accept := range o.accept {
			chains[i].Accept = appendNew(chains[i].Accept, accept)
		}
	}
	return chains
}

func checkFirewalld(f facts.Facts, req hp.Requirements) hp.Result {
	return checkFirewall(f, req, firewall.Firewalld)
}

func checkUFW(f facts.Facts, req hp.Requirements) hp.Result {
	return checkFirewall(f, req, firewall.UFW)
}

// checkFirewall reports the packets of the cluster that the rules of the firewall kind drop.
func checkFirewall(f facts.Facts, req hp.Requirements, kind firewall.Kind) hp.Result {
	if !isOn(f, kind) {
		return hp.Passed("off")
	}
	fix := fixCommands(f, req, kind)
	if !isKnown(f, kind) {
		if req.ConfigureFirewall {
			return hp.Passed("on; rules for the cluster will be added")
		}
		return hp.Warned(fix, "on; its rules are not known")
	}
	if req.Owned.Installed {
		return hp.Passed("on, beside this installation")
	}
	all := findObstacles(f, req, ownedBy(f, kind))
	switch {
	case all == nil:
		return hp.Passed("on; lets the cluster's packets through")
	case req.ConfigureFirewall:
		return hp.Passed("on; rules for the cluster will be added")
	}
	return hp.Warned(fix, "%s", describeObstacles(all))
}

func checkPacketFilter(f facts.Facts, req hp.Requirements) hp.Result {
	if req.Owned.Installed {
		return hp.Passed("configured by this installation")
	}
	all := findObstacles(f, req, ownedBy(f, ""))
	switch {
	case all == nil:
		return hp.Passed("lets the cluster's packets through")
	case req.ConfigureFirewall:
		return hp.Passed("drops packets of the cluster; rules for them will be added")
	}
	return hp.Warned(fixCommands(f, req, firewall.Filter), "%s", describeObstacles(all))
}

// fixCommands returns the commands that let the cluster's packets through the firewall kind, a line each.
func fixCommands(f facts.Facts, req hp.Requirements, kind firewall.Kind) string {
	var lines []string
	for _, r := range Firewalls(f, req) {
		if r.Kind != kind {
			continue
		}
		for _, c := range r.Commands() {
			lines = append(lines, c.String())
		}
	}
	if kind == firewall.Filter {
		lines = append(lines, "and add these rules where the others are set at boot: /etc/nftables.conf, /etc/iptables/rules.v4")
	}
	return strings.Join(append(lines, configureHint), "\n")
}

// describeObstacles returns all in words.
func describeObstacles(all []obstacle) string {
	var words []string
	for _, o := range all {
		words = append(words, o.String())
	}
	return strings.Join(words, "; ")
}
