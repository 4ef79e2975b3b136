package preflight

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/checks"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
)

// OwnNetwork is the value of --configure-firewall without networks: the other nodes are in the network
// of the node's address.
const OwnNetwork = "auto"

// Firewall is how an install or a join configures the firewalls of its host.
type Firewall struct {
	State plan.FirewallState // what it adds; no rules before Choose

	networks []netip.Prefix   // in which the other nodes are; none for that of the node's address
	chosen   bool             // State is known
	earlier  []firewall.Rules // that the last run has added, for another request
}

// NewFirewall returns what request, the value of --configure-firewall or that of an earlier run, asks
// for; "" leaves the firewalls alone. Rules that a run in store has added are taken from it, because
// the packet filter has those of the cluster by then. doing names the command for a usage problem.
func NewFirewall(doing, request string, store plan.StateStore) (f Firewall, err error) {
	f.State.Request = request
	if request == "" {
		return f, nil
	}
	if request != OwnNetwork {
		for _, text := range strings.Split(request, ",") {
			p, err := netip.ParsePrefix(strings.TrimSpace(text))
			if err != nil || !p.Addr().Is4() || p != p.Masked() {
				return f, problem.Newf(problem.ExitUsage, doing, "name the networks in which the nodes are, such as --configure-firewall=10.0.0.0/24,10.0.1.0/24", "%q is not an IPv4 network", text)
			}
			f.networks = append(f.networks, p)
		}
	}
	last := plan.LastFirewallState(store)
	if last.Request == request {
		f.State, f.chosen = last, true
	}
	f.earlier = last.Rules
	return f, nil
}

// Pending reports whether rules may have to be added that no run has recorded.
func (f Firewall) Pending() bool { return f.State.Request != "" && !f.chosen }

// SetRequirements makes the checks accept firewalls that will get rules.
func (f Firewall) SetRequirements(req *hostpreflight.Requirements) {
	req.ConfigureFirewall, req.NodeNetworks = f.State.Request != "", f.networks
}

// Choose sets the rules that the host with the facts found needs. doing names the command for a usage
// problem.
func (f *Firewall) Choose(doing string, found facts.Facts, req hostpreflight.Requirements) error {
	if !f.Pending() {
		return nil
	}
	rules := checks.UpdatedFirewalls(found, req, f.earlier)
	if _, ok := checks.NodeNetworks(found, req); !ok && len(rules) > 0 {
		return problem.New(problem.ExitUsage, doing, fmt.Errorf("the address %s is alone in its network, so the networks of the other nodes are not known", found.Network.NodeAddress),
			"name them, such as --configure-firewall=10.0.0.0/24,10.0.1.0/24; nothing on this host was changed")
	}
	f.State.Rules, f.chosen = rules, true
	return nil
}
