package firewall

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

// examples are the rules of a controller, of a controller whose nodes are anywhere, and of a worker
// with nodes in two networks and a firewall that filters what the host sends.
func examples() map[string]Access {
	pods := netip.MustParsePrefix("10.244.0.0/16")
	lan, other := netip.MustParsePrefix("192.168.50.0/24"), netip.MustParsePrefix("10.9.8.7/32")
	controller := Access{Public: []int{6443}, Nodes: []int{10250, 179, 2380, 9444}, NodesUDP: []int{10250}, Networks: []netip.Prefix{lan}, Pods: pods}
	anywhere := controller
	anywhere.Networks = nil
	worker := Access{Nodes: []int{179, 9444, 10250}, NodesUDP: []int{10250}, Networks: []netip.Prefix{lan, other}, Pods: pods, Outgoing: []int{179, 6443, 9444, 10250}}
	return map[string]Access{"controller": controller, "anywhere": anywhere, "worker": worker}
}

// chains are chains of nft and iptables that drop.
func chains() Rules {
	return Rules{Kind: Filter, Chains: []Chain{
		{Table: "inet host", Name: "input", Accept: []string{"tcp dport { 6443 }", "ip saddr 192.168.50.0/24 tcp dport { 179, 2380 }"}},
		{Table: "iptables filter", Name: "FORWARD", Accept: []string{"-s 10.244.0.0/16", "-d 10.244.0.0/16"}},
		{Table: "iptables-legacy raw", Name: "PREROUTING", Accept: []string{"-i lo"}},
	}}
}

func TestRules_MatchGolden(t *testing.T) {
	var b strings.Builder
	write := func(name string, r Rules) {
		b.WriteString("# " + name + ", " + string(r.Kind) + "\n")
		for _, line := range r.Lines() {
			b.WriteString("  " + line + "\n")
		}
		for _, c := range r.Commands() {
			b.WriteString(c.String() + "\n")
		}
	}
	for _, name := range []string{"controller", "anywhere", "worker"} {
		for _, kind := range []Kind{Firewalld, UFW} {
			write(name, Rules{Kind: kind, Access: examples()[name]})
		}
	}
	write("chains that drop", chains())
	b.WriteString("# script\n" + chains().Script())
	testkit.Golden(t, "testdata/rules.golden", []byte(b.String()))
}

func TestScript_IsAShellScript(t *testing.T) {
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader(chains().Script())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// firewalldListing is the output of firewall-cmd --list-all-zones and --list-all-policies of firewalld
// 1.3 after the commands for the example controller.
const firewalldListing = `plinth (active)
  target: ACCEPT
  icmp-block-inversion: no
  interfaces: 
  sources: 10.244.0.0/16
  services: 
  ports: 
  protocols: 
  forward: yes
  masquerade: no
  forward-ports: 
  source-ports: 
  icmp-blocks: 
  rich rules: 

public (default, active)
  target: default
  interfaces: eth0
  sources: 
  services: ssh
  rich rules: 
	rule family="ipv4" source address="192.168.50.0/24" port port="22" protocol="tcp" accept

plinth-pods (active)
  priority: -1
  target: ACCEPT
  ingress-zones: ANY
  egress-zones: plinth
  services: 
  ports: 
  rich rules: 

plinth-host (active)
  priority: -1
  target: CONTINUE
  ingress-zones: ANY
  egress-zones: HOST
  services: 
  ports: 6443/tcp
  rich rules: 
	rule family="ipv4" source address="192.168.50.0/24" port port="10250" protocol="tcp" accept
	rule family="ipv4" source address="192.168.50.0/24" port port="179" protocol="tcp" accept
	rule family="ipv4" source address="192.168.50.0/24" port port="2380" protocol="tcp" accept
	rule family="ipv4" source address="192.168.50.0/24" port port="9444" protocol="tcp" accept
	rule family="ipv4" source address="192.168.50.0/24" port port="10250" protocol="udp" accept
`

func TestMissing_ComparesWithTheListing(t *testing.T) {
	want := Rules{Kind: Firewalld, Access: examples()["controller"]}.FirewalldSettings()
	for name, c := range map[string]struct{ old, new, want string }{
		"as required":          {"", "", ""},
		"no zone":              {"plinth (active)", "other (active)", "plinth does not exist"},
		"another target":       {"  target: ACCEPT\n  icmp", "  target: default\n  icmp", "plinth lacks target ACCEPT"},
		"a port is missing":    {"ports: 6443/tcp", "ports: ", "plinth-host lacks ports 6443/tcp"},
		"a port too many":      {"ports: 6443/tcp", "ports: 6443/tcp 22/tcp", "plinth-host has ports 22/tcp"},
		"a rule is missing":    {"\trule family=\"ipv4\" source address=\"192.168.50.0/24\" port port=\"2380\" protocol=\"tcp\" accept\n", "", `plinth-host lacks rich rules rule family="ipv4" source address="192.168.50.0/24" port port="2380" protocol="tcp" accept`},
		"another pod network":  {"sources: 10.244.0.0/16", "sources: 10.1.0.0/16", "plinth lacks sources 10.244.0.0/16"},
		"a source more":        {"sources: 10.244.0.0/16", "sources: 10.244.0.0/16 10.1.0.0/16", "plinth has sources 10.1.0.0/16"},
		"the policy leads off": {"egress-zones: plinth", "egress-zones: public", "plinth-pods lacks egress-zones plinth"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ParseFirewalld(strings.Replace(firewalldListing, c.old, c.new, 1)).Missing(want); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestUFW_ComparesWithTheListing(t *testing.T) {
	r := Rules{Kind: UFW, Access: examples()["controller"]}
	const listing = "Added user rules (see 'ufw status' for running firewall):\nufw allow 22/tcp\nufw allow 6443/tcp\n" +
		"ufw allow from 192.168.50.0/24 to any port 179,2380,9444,10250 proto tcp comment 'plinth'\nufw allow from 10.244.0.0/16 comment 'pods'\nufw route allow to 10.244.0.0/16 comment 'plinth'\n"
	if got, want := r.MissingUFW(listing), []string{"allow from 192.168.50.0/24 to any port 10250 proto udp", "route allow from 10.244.0.0/16"}; !slices.Equal(got, want) {
		t.Errorf("missing %q, want %q", got, want)
	}
	if got := (Rules{Kind: UFW, Access: examples()["anywhere"]}).StaleUFW(listing); !slices.Equal(got, []string{"allow from 192.168.50.0/24 to any port 179,2380,9444,10250 proto tcp"}) {
		t.Errorf("stale %q", got)
	}
	// The rules of the administrator are not deleted.
	if got, want := OwnUFW(listing), []string{"allow from 192.168.50.0/24 to any port 179,2380,9444,10250 proto tcp", "route allow to 10.244.0.0/16"}; !slices.Equal(got, want) {
		t.Errorf("own %q, want %q", got, want)
	}
	if got := UFWDelete("route allow to 10.244.0.0/16").String(); got != "sudo ufw route delete allow to 10.244.0.0/16" {
		t.Error(got)
	}
}

func TestHasJump_ReadsBothTools(t *testing.T) {
	for name, c := range map[string]struct {
		table, name, listing string
		want                 bool
	}{
		"nft":                  {"inet host", "input", "table inet host {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t\tjump plinth-input\n\t\tiif \"lo\" accept\n\t}\n}\n", true},
		"nft, another chain":   {"inet host", "input", "\t\tjump plinth-input-2\n", false},
		"iptables":             {"iptables filter", "INPUT", "-P INPUT DROP\n-A INPUT -j PLINTH-INPUT\n", true},
		"iptables, no jump":    {"iptables filter", "INPUT", "-P INPUT DROP\n", false},
		"iptables, with more ": {"iptables filter", "INPUT", "-A INPUT -j PLINTH-INPUT-2\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (Chain{Table: c.table, Name: c.name}).HasJump(c.listing); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
