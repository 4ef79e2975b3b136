package checks

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/testkit"
)

// loadRules replaces all rules of the network namespace. A text that begins with * is
// for iptables, others are for nft.
func loadRules(t *testing.T, text string) {
	t.Helper()
	tool := "nft -f -"
	if strings.HasPrefix(text, "*") {
		tool = "iptables-nft-restore"
	}
	testkit.Shell(t, "nft flush ruleset\n"+tool+" <<'END'\n"+text+"\nEND")
}

// gatherRules returns the facts about the network namespace.
func gatherRules(t *testing.T) facts.Facts {
	t.Helper()
	f := probe.Gather(t.Context(), host.Local("/"), facts.Request{LocalOnly: true})
	if why := f.UnknownReason(facts.FactIptables) + f.UnknownReason(facts.FactNetwork); why != "" {
		t.Fatal(why)
	}
	f.Security.UFW, f.Units = false, nil
	return f
}

// input is an nftables table with rules in an input chain that drops by default, after
// what every host allows; and forwarding is not restricted.
func input(rules string) string {
	return "table inet host {\nchain other {\n}\nchain input {\ntype filter hook input priority 0; policy drop;\niif lo accept\nct state established,related accept\n" + rules + "\n}\n}\n"
}

// accepting returns an nftables table with rules in an input chain that accepts by default.
func accepting(rules string) string {
	return "table inet host {\nchain input {\ntype filter hook input priority 0; policy accept;\n" + rules + "\n}\n}\n"
}

const (
	nftPorts = "tcp dport { 179, 2380, 6443, 9444, 10250 } accept\nudp dport 10250 accept\nip saddr 10.244.0.0/16 accept\n"
	iptPorts = "-A INPUT -i lo -j ACCEPT\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -p tcp -m multiport --dports 179,2380,6443,8800,9444,10250 -j ACCEPT\n-A INPUT -p udp -m udp --dport 10250 -j ACCEPT\n-A INPUT -s 10.244.0.0/16 -j ACCEPT\n"
	oracle   = "-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -p icmp -j ACCEPT\n-A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-host-prohibited\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n"
)

// ipt returns rules of iptables with the policies of INPUT, FORWARD and OUTPUT.
func ipt(policies, rules string) string {
	p := strings.Fields(policies)
	return "*filter\n:INPUT " + p[0] + " [0:0]\n:FORWARD " + p[1] + " [0:0]\n:OUTPUT " + p[2] + " [0:0]\n" + rules + "COMMIT\n"
}

// TestPacketFilter_JudgesRulesOfTheKernel loads rules into a kernel and checks what
// the check finds, and that the host passes after its commands were run.
func TestPacketFilter_JudgesRulesOfTheKernel(t *testing.T) {
	if !testkit.EnterNetwork(t) {
		return
	}
	for name, tc := range map[string]struct {
		rules string
		want  string // part of what is found; "" if the check passes
	}{
		"no rules":                             {"", ""},
		"everything accepted before a reject":  {ipt("ACCEPT ACCEPT ACCEPT", "-A INPUT -j ACCEPT\n-A INPUT -j REJECT\n"), ""},
		"what is needed before a reject":       {ipt("ACCEPT ACCEPT ACCEPT", iptPorts+"-A INPUT -j REJECT\n"), ""},
		"what is needed before a drop, nft":    {input(nftPorts), ""},
		"peers by their network":               {input("ip saddr 192.168.50.0/24 accept\nip saddr 10.244.0.0/16 accept"), ""},
		"drops of other hosts and ports":       {ipt("ACCEPT ACCEPT ACCEPT", "-A INPUT -s 203.0.113.7/32 -j DROP\n-A INPUT -p tcp -m tcp --dport 25 -j DROP\n-A INPUT -p icmp -j DROP\n"), ""},
		"drops of invalid packets":             {ipt("ACCEPT ACCEPT ACCEPT", "-A INPUT -m conntrack --ctstate INVALID -j DROP\n-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP\n-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN FIN,SYN -j DROP\n"), ""},
		"drops in a set of others":             {"table inet host {\nset bad {\ntype ipv4_addr\nelements = { 203.0.113.7 }\n}\nchain input {\ntype filter hook input priority 0; policy accept;\nip saddr @bad drop\n}\n}\n", ""},
		"a container's own network":            {"*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP\nCOMMIT\n", ""},
		"IPv6 only":                            {"table ip6 host {\nchain input {\ntype filter hook input priority 0; policy drop;\n}\n}\n", ""},
		"IPv6 only, by its EtherType":          {accepting("meta protocol ip6 drop\nmeta protocol != ip drop"), ""},
		"IPv6 only, by a kind of rejection":    {accepting("meta nfproto ipv6 reject\nicmpv6 type echo-request drop\nip6 saddr != fe80::/10 drop"), ""},
		"drops of odd flags of TCP":            {accepting("tcp flags & (fin|syn|rst|psh|ack|urg) == 0 drop\ntcp flags & (fin|syn) == (fin|syn) drop\ntcp flags { fin, syn|fin } drop\ntcp flags & (fin|syn|rst|ack) != syn ct state new drop\ntcp flags != syn ct state new drop\ntcp flags ! syn,ack drop\ntcp flags urg drop"), ""},
		"drops of packets to many":             {accepting("meta pkttype { broadcast, multicast } drop\nmeta pkttype != host drop\nicmp type echo-request drop\nfib daddr type broadcast drop"), ""},
		"drops of packets to many, iptables":   {ipt("ACCEPT ACCEPT ACCEPT", "-A INPUT -m pkttype --pkt-type broadcast -j DROP\n-A INPUT -m pkttype ! --pkt-type unicast -j DROP\n"), ""},
		"a limit on accepted packets only":     {ipt("ACCEPT ACCEPT ACCEPT", "-A INPUT -p tcp -m limit --limit 10/sec -j ACCEPT\n"), ""},
		"a map that accepts":                   {input("tcp dport vmap { 179 : accept, 2380 : accept, 6443 : accept, 9444 : accept, 10250 : accept }\nudp dport 10250 accept\nip saddr 10.244.0.0/16 accept"), ""},
		"drop by default":                      {input("tcp dport 22 accept"), "inet host input drops (policy drop) 179, 2380, 6443, 9444, 10250/tcp from other hosts, 10250/udp from other hosts, 6443, 10250/tcp from pods"},
		"lower-case chains in ip filter":       {"table ip filter {\nchain input {\ntype filter hook input priority 0; policy drop;\n}\nchain forward {\ntype filter hook forward priority 0; policy drop;\n}\n}\n", "ip filter forward drops (policy drop)"},
		"a last counter reject":                {"table inet host {\nchain input {\ntype filter hook input priority 0; policy accept;\niif lo accept\nct state established accept\ncounter reject\n}\n}\n", "inet host input drops (reject"},
		"a jump to a chain that drops, nft":    {"table inet host {\nchain refuse {\nlog prefix \"x\"\ndrop\n}\nchain input {\ntype filter hook input priority 0; policy accept;\njump refuse\n}\n}\n", "inet host input drops (drop)"},
		"a jump to a chain that drops":         {ipt("ACCEPT ACCEPT ACCEPT", ":LOGDROP - [0:0]\n-A INPUT -j LOGDROP\n-A LOGDROP -j LOG\n-A LOGDROP -j DROP\n"), "iptables filter INPUT drops (-j DROP)"},
		"a goto that does not return":          {ipt("DROP ACCEPT ACCEPT", ":HOST - [0:0]\n-A INPUT -g HOST\n-A INPUT -j ACCEPT\n-A HOST -p icmp -j ACCEPT\n"), "iptables filter INPUT drops (policy drop)"},
		"a comment":                            {ipt("ACCEPT ACCEPT ACCEPT", "-A INPUT -m comment --comment \"refuse all -j ACCEPT\" -j REJECT\n"), "INPUT drops (-m comment"},
		"Oracle Cloud":                         {ipt("ACCEPT ACCEPT ACCEPT", oracle), "INPUT drops (-j REJECT --reject-with icmp-host-prohibited) 179, 2380, 6443, 9444, 10250/tcp from other hosts"},
		"forwarding off, as by Docker":         {ipt("ACCEPT DROP ACCEPT", ""), "iptables filter FORWARD drops (policy drop) replies, pods to other hosts"},
		"loopback not allowed":                 {"table inet host {\nchain input {\ntype filter hook input priority 0; policy drop;\nct state established,related accept\n" + nftPorts + "}\n}\n", "inet host input drops (policy drop) packets on loopback"},
		"replies not allowed":                  {"table inet host {\nchain input {\ntype filter hook input priority 0; policy drop;\niif lo accept\n" + nftPorts + "}\n}\n", "inet host input drops (policy drop) replies"},
		"output dropped":                       {ipt("ACCEPT ACCEPT DROP", "-A OUTPUT -o lo -j ACCEPT\n"), "179, 2380, 6443, 9444, 10250/tcp to other hosts, replies, this host to pods"},
		"prerouting":                           {"*raw\n:PREROUTING DROP [0:0]\n-A PREROUTING -i lo -j ACCEPT\nCOMMIT\n", "iptables raw PREROUTING drops"},
		"drops of a flag of TCP":               {accepting("tcp flags syn drop"), "inet host input drops (tcp flags syn drop) 179, 2380, 6443, 9444, 10250/tcp from other hosts, packets on loopback, 6443, 10250/tcp from pods"},
		"a rejection of TCP":                   {accepting("meta l4proto tcp reject with tcp reset"), "10250/tcp from other hosts, packets on loopback, replies, 6443, 10250/tcp from pods"},
		"IPv4 only, by its EtherType":          {accepting("meta protocol ip drop"), "inet host input drops (protocol ip drop)"},
		"a map that drops":                     {"table inet host {\nchain input {\ntype filter hook input priority 0; policy accept;\ntcp dport vmap { 22 : accept, 6443 : drop }\n}\n}\n", "inet host input drops (vmap tcp dport 22 accept 6443 drop) 6443/tcp from other hosts"},
		"all but some addresses":               {ipt("ACCEPT ACCEPT ACCEPT", "-A INPUT ! -s 192.168.50.99/32 -p tcp -m tcp --dport 6443 -j DROP\n"), "6443/tcp from other hosts, packets on loopback, 6443/tcp from pods"},
		"a limit before a drop":                {input("tcp dport { 179, 2380, 6443, 9444, 10250 } limit rate 10/second accept\nip saddr 10.244.0.0/16 accept"), "inet host input may drop (policy drop) 179, 2380"},
		"a condition that is not understood":   {input(nftPorts[:0] + "meta mark 7 drop\n" + nftPorts), "inet host input may drop (mark 7 drop) 179, 2380"},
		"another table drops what one accepts": {"table inet a {\nchain input {\ntype filter hook input priority 0; policy accept;\naccept\n}\n}\ntable inet b {\nchain input {\ntype filter hook input priority 10; policy drop;\niif lo accept\n}\n}\n", "inet b input drops"},
	} {
		t.Run(name, func(t *testing.T) {
			loadRules(t, tc.rules)
			r := checkPacketFilter(gatherRules(t), exampleRequirements())
			if tc.want == "" {
				if r.State != hp.Pass {
					t.Errorf("%s: %s", r.State, r.Found)
				}
				return
			}
			if r.State != hp.Warn || !strings.Contains(r.Found, tc.want) {
				t.Errorf("%s: %s\nwant %s", r.State, r.Found, tc.want)
			}
			followFix(t, r.Fix, nil)
			if after := checkPacketFilter(gatherRules(t), exampleRequirements()); after.State != hp.Pass {
				t.Errorf("after\n%s\n%s: %s", r.Fix, after.State, after.Found)
			}
		})
	}
}

// TestScript_AddsRulesOnceAndRemovesThem runs the script of a boot on rules of nft and of iptables:
// twice, as after a reload, and then as a reset does.
func TestScript_AddsRulesOnceAndRemovesThem(t *testing.T) {
	if !testkit.EnterNetwork(t) {
		return
	}
	for name, rules := range map[string]string{"nft": input("tcp dport 22 accept"), "iptables": ipt("DROP DROP DROP", oracle)} {
		t.Run(name, func(t *testing.T) {
			loadRules(t, rules)
			list := func() string {
				out, err := exec.Command("nft", "-s", "list", "ruleset").Output()
				testkit.Must(t, err)
				return string(out)
			}
			before := list()
			all := Firewalls(gatherRules(t), exampleRequirements())
			if len(all) != 1 || all[0].Kind != firewall.Filter {
				t.Fatalf("%+v", all)
			}
			path := t.TempDir() + "/script"
			testkit.Must(t, os.WriteFile(path, []byte(all[0].Script()), 0o600))
			testkit.Shell(t, "sh "+path+" start")
			once := list()
			if r := checkPacketFilter(gatherRules(t), exampleRequirements()); r.State != hp.Pass {
				t.Errorf("after the script: %s", r.Found)
			}
			if testkit.Shell(t, "sh "+path+" start"); list() != once {
				t.Errorf("a second run changes the rules:\n%s\n%s", once, list())
			}
			wide := exampleRequirements()
			wide.NodeNetworks = []netip.Prefix{mustPrefix("192.168.0.0/16")}
			if got := Firewalls(gatherRules(t), wide); got != nil {
				t.Errorf("nothing is dropped any more, but rules are needed: %+v", got)
			}
			updated := UpdatedFirewalls(gatherRules(t), wide, all)
			if len(updated) != 1 || !strings.Contains(updated[0].Script(), "192.168.0.0/16") || len(updated[0].Chains) != len(all[0].Chains) {
				t.Errorf("for other networks: %+v", updated)
			}
			if testkit.Shell(t, "sh "+path+" stop"); list() != before {
				t.Errorf("it leaves\n%s\nof\n%s", list(), before)
			}
			loadRules(t, "table inet other {\n}\n")
			testkit.Shell(t, "sh "+path+" start") // the chains are gone: nothing to do
		})
	}
}

// TestFirewalls_AreConfiguredOnRequest judges hosts whose firewalls will get rules.
func TestFirewalls_AreConfiguredOnRequest(t *testing.T) {
	f, req := loadFixture(t, "debian-12"), exampleRequirements()
	f.Units, f.Security.UFW = []facts.Unit{{Name: "firewalld", Active: "active"}}, true
	f.Filters = []facts.FilterChain{{Table: "inet firewalld", Name: "filter_INPUT", Hook: "input", Policy: "drop"},
		{Table: "iptables filter", Name: "OUTPUT", Hook: "output", Policy: "drop"}, {Table: "inet host", Name: "input", Hook: "input", Policy: "drop"}}
	req.ConfigureFirewall = true
	for name, check := range map[string]func(facts.Facts, hp.Requirements) hp.Result{"firewalld": checkFirewalld, "ufw": checkUFW, "packet-filter": checkPacketFilter} {
		t.Run(name, func(t *testing.T) {
			if r := check(f, req); r.State != hp.Pass || !strings.Contains(r.Found, "will be added") {
				t.Errorf("%+v", r)
			}
		})
	}
	var kinds []firewall.Kind
	for _, r := range Firewalls(f, req) {
		kinds = append(kinds, r.Kind)
		if r.Kind == firewall.UFW && len(r.Access.Outgoing) == 0 {
			t.Error("ufw filters what the host sends, and has no rule for that")
		}
	}
	if !slices.Equal(kinds, []firewall.Kind{firewall.Firewalld, firewall.UFW, firewall.Filter}) {
		t.Errorf("%v", kinds)
	}
	f.Units, f.Security.UFW, f.Filters = nil, false, nil
	if got := Firewalls(f, req); got != nil {
		t.Errorf("without a firewall: %+v", got)
	}
}

func TestNodeNetworks_AreThatOfTheAddressOrThoseNamed(t *testing.T) {
	f := facts.Facts{Network: facts.Network{NodeAddress: mustAddr("10.0.0.5"), Interfaces: []facts.Interface{{Name: "eth0", Up: true, Addresses: []netip.Prefix{mustPrefix("10.0.0.5/24")}}}}}
	for name, c := range map[string]struct {
		own   string
		named []netip.Prefix
		peers []string
		want  string
		ok    bool
	}{
		"its own":                {"10.0.0.5/24", nil, []string{"10.0.0.6"}, "[10.0.0.0/24]", true},
		"a node in another":      {"10.0.0.5/24", nil, []string{"10.9.0.6", "fd00::1", "b"}, "[10.0.0.0/24 10.9.0.6/32]", true},
		"named":                  {"10.0.0.5/24", []netip.Prefix{mustPrefix("10.0.0.0/8")}, []string{"10.9.0.6"}, "[10.0.0.0/8]", true},
		"alone":                  {"10.0.0.5/32", nil, []string{"10.0.0.6"}, "[]", false},
		"alone, networks named":  {"10.0.0.5/32", []netip.Prefix{mustPrefix("10.0.0.0/8")}, nil, "[10.0.0.0/8]", true},
		"two hosts on one cable": {"10.0.0.5/31", nil, nil, "[]", false},
	} {
		t.Run(name, func(t *testing.T) {
			f, req := f, hp.Requirements{NodeNetworks: c.named}
			f.Network.Interfaces = []facts.Interface{{Name: "eth0", Up: true, Addresses: []netip.Prefix{mustPrefix(c.own)}}}
			for _, p := range c.peers {
				f.Peers = append(f.Peers, facts.Peer{Address: p})
			}
			if got, ok := NodeNetworks(f, req); fmt.Sprint(got) != c.want || ok != c.ok {
				t.Errorf("%v, %v", got, ok)
			}
		})
	}
}

// TestFirewalls_JudgesTheirRules loads the rules that firewalld 1.3 and ufw 0.36 create
// on Debian 12, by default and after the commands that the checks print for 192.168.50.0/24.
func TestFirewalls_JudgesTheirRules(t *testing.T) {
	if !testkit.EnterNetwork(t) {
		return
	}
	for file, tc := range map[string]struct {
		check string
		want  string // part of what is found, or of the commands; "" if the check passes
	}{
		"firewalld.nft":      {"firewalld", "inet firewalld filter_FORWARD drops (reject icmpx admin-prohibited) pods to other hosts"},
		"firewalld-open.nft": {"firewalld", ""},
		"ufw.rules":          {"ufw", "iptables filter INPUT drops (policy drop) 179, 2380, 6443, 9444, 10250/tcp from other hosts"},
		"ufw-open.rules":     {"ufw", ""},
	} {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile("testdata/firewall/" + file)
			testkit.Must(t, err)
			loadRules(t, string(text))
			f, check := gatherRules(t), checkUFW
			if f.Security.UFW = true; tc.check == "firewalld" {
				f.Security.UFW, f.Units, check = false, []facts.Unit{{Name: "firewalld", Active: "active"}}, checkFirewalld
			}
			r := check(f, exampleRequirements())
			if (r.State == hp.Pass) != (tc.want == "") || !strings.Contains(r.Found, tc.want) {
				t.Errorf("%s: %s", r.State, r.Found)
			}
			if tc.check == "firewalld" && tc.want != "" && !strings.Contains(r.Fix, "sudo firewall-cmd --permanent --policy=plinth-host --add-port=6443/tcp") {
				t.Errorf("the zone is not named: %s", r.Fix)
			}
			if other := checkPacketFilter(f, exampleRequirements()); other.State != hp.Pass {
				t.Errorf("packet-filter reports the rules too: %s", other.Found)
			}
		})
	}
}

// TestIptablesTables_AgreesWithIptables loads tables with the names of those of
// iptables. The check has to agree with iptables itself, and to find the same from the
// output of nft alone.
func TestIptablesTables_AgreesWithIptables(t *testing.T) {
	if !testkit.EnterNetwork(t) {
		return
	}
	chain := func(rules string) string {
		return "table ip filter {\nchain INPUT {\ntype filter hook input priority 0; policy accept;\n" + rules + "\n}\n}\n"
	}
	for name, rules := range map[string]string{
		"a map": chain("ct state vmap { established : accept, related : accept, invalid : drop }"), "a set": chain("tcp dport { 22, 80 } accept"),
		"a set of interfaces": chain("iifname { \"lo\", \"eth0\" } accept"), "a set of networks": chain("ip saddr { 10.0.0.0/8, 192.0.2.1 } accept"), "a mark": chain("meta mark 7 accept"), "bits of a mark": chain("meta mark and 0xff == 1 accept"), "a comment": chain("tcp dport 22 accept comment \"ssh\""),
		"a named set": "table ip filter {\nset s {\ntype ipv4_addr\n}\nchain INPUT {\ntype filter hook input priority 0; policy accept;\nip saddr @s drop\n}\n}\n", "not a network": chain("ip saddr != 10.0.0.0/8 drop"), "flags": chain("tcp flags & (fin|syn) == syn accept"),
		"a reject": chain("counter reject"), "ct": chain("ct state established,related accept"), "a log": chain("log prefix \"x\""),
		"a port": chain("tcp dport 22 accept"), "a range": chain("tcp dport 22-80 drop"), "a network": chain("ip saddr 10.0.0.0/8 accept"),
		"an interface": chain("iifname \"lo\" accept"), "a protocol": chain("ip protocol tcp accept"), "a counter": chain("counter accept"), "a limit": chain("limit rate 3/minute accept"),
		"a chain in lower case": "table ip filter {\nchain input {\ntype filter hook input priority 0; policy drop;\n}\n}\n",
		"nat":                   "table ip nat {\nchain PREROUTING {\ntype nat hook prerouting priority -100; policy accept;\ntcp dport 80 redirect to :8080\n}\n}\n",
		"rules of iptables":     ipt("DROP ACCEPT ACCEPT", oracle), "another name": input("tcp dport vmap { 22 : accept }"),
		"another family": strings.ReplaceAll(chain("ct state established accept"), "table ip ", "table inet "),
	} {
		t.Run(name, func(t *testing.T) {
			loadRules(t, rules)
			f := gatherRules(t)
			lists := func() bool {
				return exec.Command("iptables-nft", "-t", "filter", "-S").Run() == nil && exec.Command("iptables-nft", "-t", "nat", "-S").Run() == nil
			}
			if r := checkIptablesTables(f, exampleRequirements()); (r.State == hp.Pass) != lists() || r.State != hp.Pass && r.State != hp.Fail {
				t.Errorf("%s: %s; iptables lists the rules: %v", r.State, r.Found, lists())
			}
			alone := probe.Gather(t.Context(), nftOnly{host.Local("/")}, facts.Request{LocalOnly: true})
			if (len(alone.ForeignTables) == 0) != (len(f.ForeignTables) == 0) {
				t.Errorf("by nft alone: %v, by iptables: %v", alone.ForeignTables, f.ForeignTables)
			}
		})
	}
}

// TestIptablesTables_FixRenamesTheTable follows the fix with another file than
// /etc/nftables.conf.
func TestIptablesTables_FixRenamesTheTable(t *testing.T) {
	if !testkit.EnterNetwork(t) {
		return
	}
	const rules = "table ip filter {\nchain INPUT {\ntype filter hook input priority 0; policy accept;\nct state established accept\n}\n}\n"
	loadRules(t, rules)
	path := t.TempDir() + "/nftables.conf"
	testkit.Must(t, os.WriteFile(path, []byte(rules), 0o600))
	r := checkIptablesTables(gatherRules(t), exampleRequirements())
	followFix(t, r.Fix, map[string]string{"/etc/nftables.conf": path})
	if after := checkIptablesTables(gatherRules(t), exampleRequirements()); r.State != hp.Fail || after.State != hp.Pass {
		t.Errorf("%s, after\n%s\n%s: %s", r.State, r.Fix, after.State, after.Found)
	}
	if f := gatherRules(t); len(f.Filters) == 0 || f.Filters[len(f.Filters)-1].Table != "ip host_filter" {
		t.Errorf("%+v", f.Filters)
	}
}

// nftOnly is a host without the programs of iptables.
type nftOnly struct{ host.Host }

func (h nftOnly) Lstat(path string) (os.FileInfo, error) {
	if strings.Contains(path, "tables-") {
		return nil, os.ErrNotExist
	}
	return h.Host.Lstat(path)
}

func TestClusterFlows_NeedAddressAndPodNetwork(t *testing.T) {
	f := loadFixture(t, "debian-12")
	if got := clusterFlows(f, exampleRequirements()); len(got) < 20 {
		t.Errorf("%d flows", len(got))
	}
	for name, edit := range map[string]func(*facts.Facts, *hp.Requirements){
		"no address":     func(f *facts.Facts, _ *hp.Requirements) { f.Network.Interfaces = nil },
		"no pod network": func(_ *facts.Facts, req *hp.Requirements) { req.PodCIDR = netip.Prefix{} },
	} {
		t.Run(name, func(t *testing.T) {
			f, req := f, exampleRequirements()
			edit(&f, &req)
			if got := clusterFlows(f, req); got != nil {
				t.Errorf("%+v", got)
			}
		})
	}
}

// The ports of the ingress controller lead to pods, as that of the console does.
func TestClusterFlows_IncludePortsOfAddOns(t *testing.T) {
	req := exampleRequirements()
	req.Ports = map[string]int{ports.LoadBalancerState: ports.SpeakerHealth, ports.IngressHTTP: 80, ports.IngressHTTPS: 443}
	var got []string
	for _, m := range clusterFlows(loadFixture(t, "debian-12"), req) {
		if strings.HasSuffix(m.what, "/tcp from users") && m.hook == "forward" || m.port == ports.SpeakerHealth && m.in == "lo" {
			got = append(got, m.what)
		}
	}
	slices.Sort(got)
	if want := []string{"443/tcp from users", "80/tcp from users", "8800/tcp from users", "packets on loopback"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := scopePorts(req, ports.Outside); !slices.Equal(got, []int{ports.API}) {
		t.Errorf("rules for %d, want only the API: other ports lead to pods", got)
	}
}

// In a routed network the node's address may be on lo, at which no packet of another host arrives.
func TestClusterFlows_OfAddressOnLoArriveAtTheUplink(t *testing.T) {
	f := loadFixture(t, "debian-12")
	route, ok := f.Network.DefaultRoute()
	lo := slices.IndexFunc(f.Network.Interfaces, func(i facts.Interface) bool { return i.Loopback })
	if !ok || lo < 0 {
		t.Fatal("the fixture has no default route or no lo")
	}
	f.Network.NodeAddress = netip.MustParseAddr("10.255.0.1")
	f.Network.Interfaces[lo].Addresses = append(f.Network.Interfaces[lo].Addresses, netip.MustParsePrefix("10.255.0.1/32"))
	fromOthers := 0
	for _, m := range clusterFlows(f, exampleRequirements()) {
		if m.source.IsLoopback() {
			continue
		}
		if m.in == "lo" || m.out == "lo" {
			t.Errorf("%s: in %q, out %q", m.what, m.in, m.out)
		}
		if m.in == route.Interface && m.target == f.Network.NodeAddress {
			fromOthers++
		}
	}
	if fromOthers < 5 {
		t.Errorf("%d flows from other hosts", fromOthers)
	}
	if _, ok := directNetworks(f, exampleRequirements())["10.255.0.1"]; !ok {
		t.Error("a proxy need not be bypassed for the node's address")
	}
}

// TestPacketFilter_TakesNoLongWithThousandsOfChains judges rules like those of a network plug-in or kube-proxy.
func TestPacketFilter_TakesNoLongWithThousandsOfChains(t *testing.T) {
	const count = 15000 // the time must not grow with its square
	f := facts.Facts{Network: facts.Network{NodeAddress: netip.MustParseAddr("10.0.0.5"),
		Interfaces: []facts.Interface{{Name: "eth0", Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")}}}}}
	var jumps []facts.FilterRule
	for i := range count {
		name := "chain" + strconv.Itoa(i)
		jumps = append(jumps, facts.FilterRule{Verdict: "jump", Target: name, Matches: []facts.FilterMatch{{Key: facts.MatchUnknown, Values: []string{"--mark"}}}})
		f.Filters = append(f.Filters, facts.FilterChain{Table: "iptables filter", Name: name, Rules: []facts.FilterRule{{Verdict: "return"}}})
	}
	f.Filters = append(f.Filters, facts.FilterChain{Table: "iptables filter", Name: "INPUT", Hook: "input", Policy: "drop", Rules: jumps},
		facts.FilterChain{Table: "iptables filter", Name: "FORWARD", Hook: "forward", Policy: "accept", Rules: jumps})
	began := time.Now()
	r := checkPacketFilter(f, hp.Requirements{PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), ConsolePort: 8800})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if r.State != hp.Warn || !strings.Contains(r.Found, "drops (policy drop)") {
		t.Errorf("%+v", r)
	}
}
