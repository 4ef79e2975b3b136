package plan

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"

	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestFirewallSteps_ListEachRuleBeforeTheClusterStarts(t *testing.T) {
	c, fake := example(t)
	c.Firewall = FirewallState{Request: "auto", Rules: []firewall.Rules{
		{Kind: firewall.UFW, Access: firewall.Access{Public: []int{6443}, Nodes: []int{179, 10250}, NodesUDP: []int{10250}, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, Pods: netip.MustParsePrefix("10.244.0.0/16")}},
		{Kind: firewall.Filter, Chains: []firewall.Chain{{Table: "inet host", Name: "input", Accept: []string{"tcp dport { 6443 }"}}}}}}
	fake.Expect("ufw show added").AnyTimes()
	goldenPlan(t, "testdata/firewall.golden", c, c.firewallSteps())
	position := map[string]int{}
	for i, s := range Install(c) {
		position[s.ID] = i
	}
	if position[FirewallID] < position["data-dir"] || position[FirewallID] > position["k0s-binary"] {
		t.Errorf("steps %v", position)
	}
}

func TestFirewallSteps_NoneWithoutRules(t *testing.T) {
	c, _ := example(t)
	if c.Firewall.Request = "auto"; len(c.firewallSteps()) != 0 {
		t.Error("a host without a firewall has a step")
	}
}

// states is a store of what runs have saved.
type states struct {
	*journal.Journal
	all []json.RawMessage
}

func (s states) States(string) []json.RawMessage { return s.all }

func TestLastFirewallState_IsThatOfTheLastRun(t *testing.T) {
	var s states
	for _, kind := range []firewall.Kind{firewall.UFW, firewall.Firewalld} {
		raw, err := json.Marshal(FirewallState{Request: string(kind), Rules: []firewall.Rules{{Kind: kind, Access: firewall.Access{Pods: netip.MustParsePrefix("10.244.0.0/16")}}}})
		testkit.Must(t, err)
		s.all = append(s.all, raw)
	}
	if got := LastFirewallState(s); got.Request != "firewalld" || got.Names() != "firewalld" {
		t.Errorf("%+v", got)
	}
	var kinds []firewall.Kind
	for _, r := range ConfiguredFirewalls(s) {
		kinds = append(kinds, r.Kind)
	}
	if !reflect.DeepEqual(kinds, []firewall.Kind{firewall.UFW, firewall.Firewalld}) {
		t.Error(kinds)
	}
}
