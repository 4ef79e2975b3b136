package plan

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/step"
)

// FirewallID is the id of the step that adds rules to the firewalls of the host. Its states in the
// journal are the rules, as FirewallState: later runs must not follow from the packet filter
// which rules there were to add, because it has the rules of the cluster by then.
const FirewallID = "firewall"

// FirewallState is what a run has added to the firewalls of the host.
type FirewallState struct {
	Request string           `json:"request"` // of --configure-firewall
	Rules   []firewall.Rules `json:"rules"`
}

// firewallSteps returns the step that adds the cluster's rules to the firewalls of the host, before
// anything of the cluster runs; none without --configure-firewall.
func (c Cluster) firewallSteps() []step.Step {
	if len(c.Firewall.Rules) == 0 {
		return nil
	}
	var affects []string
	for _, r := range c.Firewall.Rules {
		affects = append(affects, r.Lines()...)
		if r.Kind == firewall.Filter {
			affects = append(affects, firewall.ScriptPath, node.FirewallUnitPath())
		}
	}
	return []step.Step{{ID: FirewallID, Title: "Let the cluster's packets through " + c.Firewall.Names(), Affects: affects,
		Check: func(ctx context.Context) (step.State, error) {
			for _, r := range c.Firewall.Rules {
				if why, err := (node.Firewall{Rules: r}).Check(ctx, c.Host); err != nil || why != "" {
					return stepState(why, err)
				}
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			if err := c.StateStore.SaveState(FirewallID, c.Firewall); err != nil {
				return err
			}
			for _, r := range c.Firewall.Rules {
				w := node.Firewall{Rules: r}
				if why, err := w.Check(ctx, c.Host); err == nil && why == "" {
					continue
				}
				if err := w.Apply(ctx, c.Host); err != nil {
					return err
				}
			}
			return nil
		},
	}}
}

// firewallName returns the name of a firewall in the title of the step.
func firewallName(k firewall.Kind) string {
	if k == firewall.Filter {
		return "the packet filter"
	}
	return string(k)
}

// LastFirewallState returns what the last run in store that changed the firewalls of the host has
// added to them; zero for none.
func LastFirewallState(store StateStore) (s FirewallState) {
	if all := store.States(FirewallID); len(all) > 0 {
		_ = json.Unmarshal(all[len(all)-1], &s) // the journal's checksum protects it
	}
	return s
}

// Names returns the names of the firewalls, separated by "and"; "" for none.
func (s FirewallState) Names() string {
	var names []string
	for _, r := range s.Rules {
		names = append(names, firewallName(r.Kind))
	}
	return strings.Join(names, " and ")
}

// ConfiguredFirewalls returns the rules that the runs in store added to the firewalls of the host.
func ConfiguredFirewalls(store StateStore) (all []firewall.Rules) {
	for _, raw := range store.States(FirewallID) {
		var s FirewallState
		if json.Unmarshal(raw, &s) == nil { // the journal's checksum protects it
			all = append(all, s.Rules...)
		}
	}
	return all
}
