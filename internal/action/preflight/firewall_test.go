package preflight

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// savedStates is a store in which a run has saved the states all.
type savedStates struct{ all []json.RawMessage }

func (s savedStates) SaveState(string, any) error         { return nil }
func (s savedStates) LoadState(string, any) (bool, error) { return false, nil }
func (s savedStates) States(string) []json.RawMessage     { return s.all }

// hostWithUFW returns the facts of a host with ufw and the address own, with its length.
func hostWithUFW(own string) facts.Facts {
	p := netip.MustParsePrefix(own)
	f := facts.Facts{Network: facts.Network{NodeAddress: p.Addr(), Interfaces: []facts.Interface{{Name: "eth0", Up: true, Addresses: []netip.Prefix{p}}}}}
	f.Security.UFW = true
	return f
}

func TestFirewall_ChoosesRulesForTheNetworks(t *testing.T) {
	for name, c := range map[string]struct{ request, own, networks, refusal string }{
		"its own network":       {"auto", "10.0.0.5/24", "10.0.0.0/24", ""},
		"named networks":        {"10.0.0.0/24, 10.1.0.0/24", "10.0.0.5/32", "10.0.0.0/24 10.1.0.0/24", ""},
		"alone in its network":  {"auto", "10.0.0.5/32", "", "10.0.0.5 is alone in its network"},
		"not requested":         {"", "10.0.0.5/24", "", ""},
		"not a network":         {"10.0.0.0", "10.0.0.5/24", "", `"10.0.0.0" is not an IPv4 network`},
		"an address in it":      {"10.0.0.5/24", "10.0.0.5/24", "", `"10.0.0.5/24" is not an IPv4 network`},
		"IPv6":                  {"fd00::/64", "10.0.0.5/24", "", `"fd00::/64" is not an IPv4 network`},
		"a comma at the end":    {"10.0.0.0/24,", "10.0.0.5/24", "", `"" is not an IPv4 network`},
		"named, alone, a range": {"10.0.0.1-10.0.0.9", "10.0.0.5/32", "", "is not an IPv4 network"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := NewFirewall("install", c.request, savedStates{})
			req := hostpreflight.Requirements{PodCIDR: netip.MustParsePrefix("10.244.0.0/16")}
			if err == nil {
				f.SetRequirements(&req)
				err = f.Choose("install", hostWithUFW(c.own), req)
			}
			if c.refusal != "" {
				if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.refusal) || !strings.Contains(problem.Hint(err), "--configure-firewall=") {
					t.Errorf("%v (%s)", err, problem.Hint(err))
				}
				return
			}
			testkit.Must(t, err)
			var networks []string
			for _, r := range f.State.Rules {
				for _, p := range r.Access.Networks {
					networks = append(networks, p.String())
				}
			}
			if got := strings.Join(networks, " "); got != c.networks || f.Pending() || req.ConfigureFirewall != (c.request != "") {
				t.Errorf("networks %q, want %q; pending %v", got, c.networks, f.Pending())
			}
		})
	}
}

// The rules that a run has added stay the same, whatever the packet filter has by now.
func TestNewFirewall_TakesTheRulesOfAnEarlierRun(t *testing.T) {
	saved := plan.FirewallState{Request: "auto", Rules: []firewall.Rules{{Kind: firewall.Firewalld, Access: firewall.Access{Pods: netip.MustParsePrefix("10.9.0.0/16")}}}}
	raw, err := json.Marshal(saved)
	testkit.Must(t, err)
	for request, want := range map[string]firewall.Kind{"auto": firewall.Firewalld, "10.0.0.0/24": firewall.UFW} {
		t.Run(request, func(t *testing.T) {
			f, err := NewFirewall("install", request, savedStates{[]json.RawMessage{raw}})
			testkit.Must(t, err)
			if f.Pending() != (want == firewall.UFW) {
				t.Errorf("pending: %v", f.Pending())
			}
			req := hostpreflight.Requirements{PodCIDR: netip.MustParsePrefix("10.244.0.0/16")}
			f.SetRequirements(&req)
			testkit.Must(t, f.Choose("install", hostWithUFW("10.0.0.5/24"), req))
			if len(f.State.Rules) != 1 || f.State.Rules[0].Kind != want {
				t.Errorf("%+v", f.State)
			}
		})
	}
}
