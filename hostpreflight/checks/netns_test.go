package checks

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/testkit"
)

// netnsCase is a network that a real kernel has, and what the checks find in it.
type netnsCase struct {
	name   string
	setup  string // shell script that creates the network
	edit   func(*hp.Requirements)
	id     string // the check
	before hp.State
	found  string            // in what it finds
	values map[string]string // of the placeholders in its fix; nil if there is nothing to follow
	choose string            // interface for --network-interface, after the fix has named the flag
}

// nic returns commands that create the interface name with an address.
func nic(name, address string) string {
	peer := "p" + name[len(name)-4:]
	return "ip link add " + name + " type veth peer name " + peer + "\nip link set " + peer + " up\nip link set " + name + " up\nip address add " + address + " dev " + name + "\n"
}

func netnsCases() []netnsCase {
	eth0, gateway := nic("eth0", "10.77.0.5/24"), map[string]string{"GATEWAY": "10.77.0.1"}
	return []netnsCase{
		{name: "no default route", setup: eth0, id: "default-route", before: hp.Fail, found: "none", values: gateway},
		{name: "no default route and no gateway", setup: eth0, id: "default-route", before: hp.Fail, found: "none", values: map[string]string{}},
		{name: "only an IPv6 default route", setup: eth0 + "ip address add 2001:db8::5/64 dev eth0 nodad\nip route add default via 2001:db8::1",
			id: "default-route", before: hp.Fail, found: "only an IPv6 default route, on eth0", values: gateway},
		{name: "a blackhole", setup: eth0 + "ip route add blackhole default", id: "default-route", before: hp.Fail, found: "refuses all packets", values: gateway},
		{name: "an unreachable default route", setup: eth0 + "ip route add unreachable default", id: "default-route", before: hp.Fail, found: "refuses all packets", values: gateway},
		{name: "a blackhole before another default route", setup: eth0 + "ip route add blackhole default metric 5\nip route add default via 10.77.0.1 metric 9",
			id: "default-route", before: hp.Fail, found: "refuses all packets", values: map[string]string{}},
		{name: "a blackhole after another default route", setup: eth0 + "ip route add blackhole default metric 9\nip route add default via 10.77.0.1 metric 5",
			id: "default-route", before: hp.Pass, found: "via 10.77.0.1 on eth0"},
		{name: "an address and only an IPv6 default route", setup: eth0 + "ip address add 2001:db8::5/64 dev eth0 nodad\nip route add default via 2001:db8::1",
			id: "node-address", before: hp.Pass, found: "10.77.0.5 on eth0"},
		{name: "no address", setup: "ip link add eth0 type veth peer name x\nip link set eth0 up", id: "node-address", before: hp.Fail, found: "no interface that is up has an IPv4 address",
			values: map[string]string{"ADDRESS/LENGTH": "10.77.0.5/24", "INTERFACE": "eth0"}},
		{name: "a bridge br-lan with the default route", setup: nic("br-lan", "10.77.0.5/24") + nic("eth1", "10.78.0.5/24") + "ip route add default via 10.77.0.1",
			id: "node-address", before: hp.Warn, found: "10.77.0.5 on br-lan, which has the default route; other addresses: 10.78.0.5 on eth1", choose: "br-lan"},
		{name: "a dummy interface with the default route", setup: eth0 + "ip link add dummy0 type dummy\nip link set dummy0 up\nip address add 203.0.113.254/31 dev dummy0\nip route add default via 203.0.113.255 metric 1000",
			id: "node-address", before: hp.Pass, found: "10.77.0.5 on eth0"},
		{name: "NAT of VirtualBox first", setup: nic("eth0", "10.0.2.15/24") + nic("eth1", "192.168.56.11/24") + "ip route add default via 10.0.2.2",
			id: "node-address", before: hp.Warn, found: "192.168.56.11 on eth1", choose: "eth1"},
		{name: "Docker's bridges", setup: eth0 + nic("docker0", "172.17.0.1/16") + nic("br-0123456789ab", "172.18.0.1/16") + "ip route add default via 10.77.0.1",
			id: "node-address", before: hp.Pass, found: "10.77.0.5 on eth0"},
		{name: "a blackhole that contains the services", setup: eth0 + "ip route add blackhole 10.96.0.0/11", id: "cidr-services", before: hp.Fail, found: "route 10.96.0.0/11, which refuses packets"},
		{name: "another address than recorded", setup: eth0, edit: func(req *hp.Requirements) { req.Recorded.Address = netip.MustParseAddr("10.77.0.4") },
			id: "host-identity", before: hp.Fail, found: "no longer has its node's address 10.77.0.4", values: map[string]string{}},
		{name: "another machine id than recorded", setup: eth0, edit: func(req *hp.Requirements) { req.Recorded.MachineID = "0123456789abcdef0123456789abcdef" },
			id: "host-identity", before: hp.Fail, found: "its machine id was 0123456789abcdef0123456789abcdef", values: map[string]string{}},
		{name: "renamed", setup: eth0, edit: func(req *hp.Requirements) { req.Recorded.Node = "was-this" },
			id: "host-identity", before: hp.Fail, found: "its node is was-this", values: map[string]string{}},
	}
}

// TestChecks_PassOnceTheirFixIsFollowed creates each network in namespaces of its own, checks
// it, follows the printed fix, and checks it again.
func TestChecks_PassOnceTheirFixIsFollowed(t *testing.T) {
	for _, c := range netnsCases() {
		t.Run(c.name, func(t *testing.T) {
			if testkit.EnterNamespaces(t, "--net", "--mount", "--uts") {
				c.run(t)
			}
		})
	}
}

// run checks the network of this process.
func (c netnsCase) run(t *testing.T) {
	id := filepath.Join(t.TempDir(), "machine-id")
	testkit.Shell(t, "echo 89abcdef0123456789abcdef01234567 >"+id+"\nmount --bind "+id+" /etc/machine-id\nip link set lo up\n"+c.setup)
	req := exampleRequirements()
	if c.edit != nil {
		c.edit(&req)
	}
	check := func() hp.Entry {
		t.Helper()
		for _, e := range runChecks(t, probe.Gather(t.Context(), host.Local("/"), facts.Request{LocalOnly: true}), req).Results {
			if e.ID == c.id {
				return e
			}
		}
		t.Fatalf("no check %s", c.id)
		return hp.Entry{}
	}
	e := check()
	if e.State != c.before || !strings.Contains(e.Found, c.found) {
		t.Fatalf("%s: %s, want %s: %s", e.State, e.Found, c.before, c.found)
	}
	switch {
	case c.choose != "":
		if !strings.Contains(e.Fix, "--network-interface NAME") {
			t.Errorf("the fix does not name the flag: %s", e.Fix)
		}
		req.Address.Interface = c.choose
	case c.values == nil:
		return
	default:
		followFix(t, e.Fix, c.values)
	}
	if e := check(); e.State != hp.Pass {
		t.Errorf("after the fix: %s: %s", e.State, e.Found)
	}
}
