package cleanup

import (
	"context"
	"errors"
	"github.com/plinthdev/plinth/internal/testkit"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
)

func networkKind(t *testing.T, f *hosttest.Fake, id string, c Scope) Kind {
	t.Helper()
	for _, k := range NetworkKinds(Finder{Host: f.Host(), Scope: c}) {
		if k.ID == id {
			return k
		}
	}
	t.Fatalf("no kind %s", id)
	return Kind{}
}

func testScope() Scope {
	return DefaultScope(netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/56"))
}

func TestNetworkKinds_RemoveLinksOfClusterOnly(t *testing.T) {
	const all = `[{"ifname":"lo"},{},
		{"ifname":"eth0","linkinfo":{"info_kind":"veth"}},
		{"ifname":"kube-bridge","linkinfo":{"info_kind":"bridge"}},
		{"ifname":"veth1a2b","master":"kube-bridge","linkinfo":{"info_kind":"veth","info_slave_kind":"bridge"}},
		{"ifname":"eth1","master":"kube-bridge","linkinfo":{"info_slave_kind":"bridge"}},
		{"ifname":"vethd0c8","master":"docker0","linkinfo":{"info_kind":"veth"}},
		{"ifname":"docker0","linkinfo":{"info_kind":"bridge"}},
		{"ifname":"tun-0a1b2c3d4e5","linkinfo":{"info_kind":"ipip"}},
		{"ifname":"tun-office","linkinfo":{"info_kind":"tun"}},
		{"ifname":"tunl0","linkinfo":{"info_kind":"ipip"}},
		{"ifname":"kube-dummy-if","linkinfo":{"info_kind":"dummy"}},
		{"ifname":"dummy0","linkinfo":{"info_kind":"dummy"}}]`
	f := hosttest.New(t)
	f.Expect("ip -j -d link show").Return(all, nil)
	f.Expect("ip -j -d link show").Return(all, nil)
	f.Expect("ip link delete kube-bridge")
	f.Expect("ip link delete veth1a2b").Return("", errors.New("busy"))
	f.Expect("ip link delete tun-0a1b2c3d4e5")
	f.Expect("ip link delete kube-dummy-if")
	f.Expect("ip -j -d link show").Return(`[{"ifname":"veth1a2b","master":"kube-bridge","linkinfo":{"info_kind":"veth"}}]`, nil)
	r := networkKind(t, f, "links", testScope()).Remove(t.Context())
	if want := []string{"kube-bridge", "tun-0a1b2c3d4e5", "kube-dummy-if"}; !reflect.DeepEqual(r.Removed, want) {
		t.Errorf("removed %q, want %q", r.Removed, want)
	}
	if !reflect.DeepEqual(r.Remaining, []string{"veth1a2b"}) || r.Err == nil {
		t.Errorf("left %q, err %v; want the busy one and its error", r.Remaining, r.Err)
	}
}

func TestNetworkKinds_FindRoutesToPodsAndRules(t *testing.T) {
	f := hosttest.New(t)
	f.Expect("ip -4 -j route show proto 17").Return(`[{"dst":"10.244.1.0/24","gateway":"10.0.0.3","dev":"eth0","protocol":"17"},{"dst":"10.9.0.0/24","dev":"eth0","protocol":"17"},{"dst":"default"},{"dst":"10.0.0.0/8","protocol":"17"}]`, nil)
	f.Expect("ip -4 -j rule show").Return(`[{"priority":0,"src":"all","table":"local"},{"priority":32765,"src":"10.244.0.0","srclen":24,"table":"77"},{"priority":32764,"src":"192.168.0.0","srclen":24,"table":"77"},{"priority":32763,"src":"10.244.0.0","srclen":24,"table":"main"}]`, nil)
	f.Expect("ip -6 -j route show proto 17").Return("", nil)
	f.Expect("ip -6 -j rule show").Return(`[{"priority":32765,"src":"fd00:244::","srclen":64,"table":"kube-router"}]`, nil)
	got, err := networkKind(t, f, "routes", testScope()).Find(t.Context())
	want := []string{"-4 route delete 10.244.1.0/24 proto 17", "-4 rule delete from 10.244.0.0/24 lookup 77", "-6 rule delete from fd00:244::/64 lookup kube-router"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("found %q, %v; want %q", got, err, want)
	}
}

func TestNetworkKinds_RemoveNamespacesOfPodsOnly(t *testing.T) {
	f := hosttest.New(t)
	const mine, older = "/run/netns/cni-6a7f1c1e-0e5a-4f0e-8d39-0d4b52b2f6a1", "/run/netns/cni-00000000-1111-2222-3333-444444444444"
	table := "700 24 0:4 net:[4026532561] " + mine + " rw shared:261 - nsfs nsfs rw\n"
	testkit.WriteFiles(t, f.Root, 0o755, map[string]string{mine: "", older: "", "/run/netns/vpn": "", "/run/netns/cni-test": "", "/proc/self/mountinfo": table + table})
	unmounted := 0
	f.Expect("umount " + mine).AnyTimes().Do(func(host.Cmd) {
		unmounted++
		testkit.WriteFiles(t, f.Root, 0o755, map[string]string{"/proc/self/mountinfo": []string{table, ""}[unmounted-1]})
	})
	c := testScope()
	c.Before = &HostState{Paths: map[string]PathState{older: {}}}
	r := networkKind(t, f, "network-namespaces", c).Remove(t.Context())
	if !reflect.DeepEqual(r.Removed, []string{mine}) || len(r.Remaining) > 0 || r.Err != nil || unmounted != 2 {
		t.Errorf("%+v after %d unmounts; want %s gone after 2", r, unmounted, mine)
	}
	for _, p := range []string{older, "/run/netns/vpn", "/run/netns/cni-test"} {
		if _, err := os.Lstat(filepath.Join(f.Root, p)); err != nil {
			t.Errorf("%s is foreign: %v", p, err)
		}
	}
}

const someRules = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n"

func TestNetworkKinds_RemoveRulesFromAllBackends(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o755, map[string]string{"/var/lib/k0s/bin/xtables-nft-multi": "", "/usr/sbin/xtables-nft-multi": "", "/usr/sbin/iptables-legacy-save": "", "/usr/sbin/ip6tables-legacy-save": ""})
	nft := "/var/lib/k0s/bin/xtables-nft-multi "
	for range 2 {
		f.Expect(nft+"iptables-save").Return(someRules, nil)
		f.Expect(nft+"ip6tables-save").Return("", nil)
		f.Expect("/usr/sbin/iptables-legacy-save").Return(foreignRules, nil)
		f.Expect("/usr/sbin/ip6tables-legacy-save").Return("", nil)
	}
	var script string
	f.Expect(nft + "iptables-restore --noflush --wait 10").Do(func(c host.Cmd) {
		b, _ := io.ReadAll(c.Stdin)
		script = string(b)
	})
	f.Expect(nft + "iptables-save").AnyTimes() // empty from now on
	f.Expect(nft + "ip6tables-save")
	f.Expect("/usr/sbin/iptables-legacy-save")
	f.Expect("/usr/sbin/ip6tables-legacy-save")
	r := networkKind(t, f, "firewall-rules", testScope()).Remove(t.Context())
	if want := []string{"iptables-nft nat: rule in PREROUTING: -j KUBE-SERVICES", "iptables-nft nat: chain KUBE-SERVICES"}; r.Err != nil || !reflect.DeepEqual(r.Removed, want) {
		t.Errorf("removed %q, %v; want %q", r.Removed, r.Err, want)
	}
	if want := "*nat\n:KUBE-SERVICES - [0:0]\n-D PREROUTING -j KUBE-SERVICES\n-X KUBE-SERVICES\nCOMMIT\n"; script != want {
		t.Errorf("script:\n%s\nwant:\n%s", script, want)
	}
}

func TestNetworkKinds_RetryRulesThatOthersChanged(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o755, map[string]string{"/usr/sbin/iptables-save": ""})
	f.Expect("/usr/sbin/iptables-save").Return(someRules, nil)
	f.Expect("/usr/sbin/iptables-save").Return(someRules, nil)
	f.Expect("/usr/sbin/iptables-restore").Return("", errors.New("line 3 failed"))
	f.Expect("/usr/sbin/iptables-save").Return(someRules, nil)
	f.Expect("/usr/sbin/iptables-restore")
	f.Expect("/usr/sbin/iptables-save").Return("", nil)
	if r := networkKind(t, f, "firewall-rules", testScope()).Remove(t.Context()); r.Err != nil || len(r.Remaining) > 0 {
		t.Errorf("%+v", r)
	}
}

func TestNetworkKinds_FindNothingWithoutTools(t *testing.T) {
	f := hosttest.New(t)
	for _, id := range []string{"firewall-rules", "firewall-tables", "address-sets"} {
		t.Run(id, func(t *testing.T) {
			if got, err := networkKind(t, f, id, testScope()).Find(t.Context()); err != nil || len(got) > 0 {
				t.Errorf("found %q, %v", got, err)
			}
		})
	}
}

const rulesetJSON = `{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
	{"table": {"family": "ip", "name": "kube-proxy", "handle": 1}}, {"chain": {"family": "ip", "table": "kube-proxy", "name": "services"}},
	{"table": {"family": "ip", "name": "mangle", "handle": 2}}, {"chain": {"family": "ip", "table": "mangle", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": -150, "policy": "accept"}},
	{"table": {"family": "ip", "name": "nat", "handle": 3}}, {"chain": {"family": "ip", "table": "nat", "name": "DOCKER", "handle": 4}},
	{"table": {"family": "ip", "name": "filter", "handle": 3}}, {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
	{"table": {"family": "ip6", "name": "nat", "handle": 3}}, {"table": {"family": "ip6", "name": "mine", "handle": 3}},
	{"table": {"family": "inet", "name": "filter", "handle": 3}}, {"set": {"family": "inet", "name": "s", "table": "filter", "type": ["ipv4_addr", "inet_service"]}}]}`

func TestNetworkKinds_FindEmptyTablesCreatedSinceInstall(t *testing.T) {
	cases := map[string]struct {
		before *HostState
		want   []string
	}{
		"the state was not recorded": {nil, []string{"ip kube-proxy"}},
		"the tables were unknown":    {&HostState{}, []string{"ip kube-proxy"}},
		"there were no tables":       {&HostState{Tables: []string{}}, []string{"ip kube-proxy", "ip mangle", "ip6 nat"}},
		"one of them existed, empty": {&HostState{Tables: []string{"ip mangle", "ip mangle FORWARD"}}, []string{"ip kube-proxy", "ip6 nat"}},
		"a chain was added to one":   {&HostState{Tables: []string{"ip mangle", "ip6 nat"}}, []string{"ip kube-proxy", "ip mangle FORWARD"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			testkit.WriteFiles(t, f.Root, 0o755, map[string]string{"/usr/sbin/nft": ""})
			f.Expect("/usr/sbin/nft -j list ruleset").Return(rulesetJSON, nil)
			cl := testScope()
			cl.Before = c.before
			if got, err := networkKind(t, f, "firewall-tables", cl).Find(t.Context()); err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("found %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestNetworkKinds_DestroyAddressSetsByName(t *testing.T) {
	f := hosttest.New(t)
	f.AddressSets = []string{"blocklist", "kube-router-node-ips", "inet6:kube-router-node-ips"}
	if r := networkKind(t, f, "address-sets", testScope()).Remove(t.Context()); r.Err != nil || len(r.Removed) != 2 || !reflect.DeepEqual(f.AddressSets, []string{"blocklist"}) {
		t.Errorf("%+v, sets left: %q", r, f.AddressSets)
	}
}

func TestNetworkKinds_FindChangesNothing(t *testing.T) {
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o755, map[string]string{"/usr/sbin/nft": "", "/usr/sbin/iptables-save": "", "/proc/self/mountinfo": ""})
	f.Expect("ip ").AnyTimes()
	f.Expect("/usr/sbin/").AnyTimes()
	for _, k := range NetworkKinds(Finder{Host: host.ReadOnly(f.Host()), Scope: testScope()}) {
		if k.ID == "links" {
			continue // `ip link` prints JSON even if there are no links
		}
		t.Run(k.ID, func(t *testing.T) {
			if _, err := k.Find(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
}

// foreignJSON is the output of nft for a table ip filter into which another program wrote a ct
// statement, after kube-proxy and kube-router wrote theirs.
const foreignJSON = `{"nftables": [{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 1, "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
	{"chain": {"family": "ip", "table": "filter", "name": "KUBE-FORWARD", "handle": 2}}, {"chain": {"family": "ip", "table": "nat", "name": "KUBE-SERVICES", "handle": 2}},
	{"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 7, "expr": [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "established"}}, {"accept": null}]}},
	{"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 8, "expr": [{"xt": {"type": "match", "name": "comment"}}, {"jump": {"target": "KUBE-FORWARD"}}]}},
	{"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 9, "expr": [{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "kube-bridge"}}, {"xt": {"type": "match", "name": "comment"}}, {"accept": null}]}},
	{"rule": {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 10, "expr": [{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "kube-bridge"}}, {"drop": null}]}},
	{"rule": {"family": "ip", "table": "filter", "chain": "KUBE-FORWARD", "handle": 11, "expr": [{"jump": {"target": "KUBE-X"}}]}}]}`

func TestNetworkKinds_RemoveChainsFromTablesThatIptablesCannotRead(t *testing.T) {
	const unreadable = "# Table `filter' is incompatible, use 'nft' tool.\n"
	f := hosttest.New(t)
	testkit.WriteFiles(t, f.Root, 0o755, map[string]string{"/usr/sbin/iptables-nft-save": "", "/usr/sbin/nft": ""})
	f.Expect("/usr/sbin/iptables-nft-save").Return(unreadable, nil).AnyTimes()
	script, after := "", foreignJSON
	f.Expect("/usr/sbin/nft -j list ruleset").Return(foreignJSON, nil)
	f.Expect("/usr/sbin/nft -j list ruleset").Return(foreignJSON, nil)
	f.Expect("/usr/sbin/nft -f -").Do(func(c host.Cmd) {
		b, _ := io.ReadAll(c.Stdin)
		script, after = string(b), `{"nftables": []}`
	})
	f.Expect("/usr/sbin/nft -j list ruleset").Return(`{"nftables": []}`, nil)
	r := networkKind(t, f, "firewall-rules", testScope()).Remove(t.Context())
	want := []string{"nft ip filter: chain KUBE-FORWARD", "nft ip filter: rule in FORWARD with handle 8", "nft ip filter: rule in FORWARD with handle 9"}
	if r.Err != nil || !reflect.DeepEqual(r.Removed, want) || after == foreignJSON {
		t.Errorf("removed %q, %v; want %q", r.Removed, r.Err, want)
	}
	if want := "delete rule ip filter FORWARD handle 8\ndelete rule ip filter FORWARD handle 9\nflush chain ip filter KUBE-FORWARD\ndelete chain ip filter KUBE-FORWARD\n"; script != want {
		t.Errorf("script:\n%s\nwant:\n%s", script, want)
	}
	t.Run("without nft", func(t *testing.T) {
		f := hosttest.New(t)
		testkit.WriteFiles(t, f.Root, 0o755, map[string]string{"/usr/sbin/iptables-nft-save": ""})
		f.Expect("/usr/sbin/iptables-nft-save").Return(unreadable, nil).AnyTimes()
		if _, err := networkKind(t, f, "firewall-rules", testScope()).Find(t.Context()); err == nil || !strings.Contains(err.Error(), "install the package nftables") {
			t.Errorf("%v", err)
		}
	})
}

// TestNetworkKinds_RemoveChainsFromKernel writes the cluster's rules with iptables, and one with nft
// after which iptables cannot list them.
func TestNetworkKinds_RemoveChainsFromKernel(t *testing.T) {
	if !testkit.EnterNetwork(t) {
		return
	}
	testkit.Shell(t, `nft add table ip filter; nft 'add chain ip filter FORWARD { type filter hook forward priority 0; policy accept; }'; nft add rule ip filter FORWARD ct state established accept`)
	rules := func() string {
		out, err := host.Local("/").Run(t.Context(), host.Cmd{Argv: []string{"nft", "list", "table", "ip", "filter"}, ReadOnly: true})
		testkit.Must(t, err)
		return string(out)
	}
	before := rules()
	testkit.Shell(t, `iptables-nft -N KUBE-FORWARD; iptables-nft -N KUBE-POD; iptables-nft -A KUBE-FORWARD -m mark --mark 1 -j KUBE-POD; iptables-nft -A KUBE-POD -j DROP
		iptables-nft -I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
		iptables-nft -A FORWARD -m comment --comment "allow outbound traffic from pods" -i kube-bridge -j ACCEPT`)
	for _, k := range NetworkKinds(Finder{Host: host.Local("/"), Scope: testScope()}) {
		if k.ID != "firewall-rules" {
			continue
		}
		if r := k.Remove(t.Context()); r.Err != nil || len(r.Removed) != 4 || len(r.Remaining) != 0 {
			t.Errorf("%+v", r)
		}
	}
	if after := rules(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func FuzzPlanForeignRemoval(f *testing.F) {
	f.Add([]byte(foreignJSON))
	f.Fuzz(func(t *testing.T, ruleset []byte) {
		script, found, err := planForeignRemoval(ruleset, []string{"ip filter"})
		if (err != nil || len(found) == 0) && script != "" {
			t.Errorf("%q without anything to remove", script)
		}
	})
}
