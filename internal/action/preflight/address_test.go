package preflight

import (
	"encoding/pem"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestValidateAPIAddress_AcceptsKnownNamesAndIPAddresses(t *testing.T) {
	for address, want := range map[string]int{
		"10.0.0.100": 0, "fd00::1": 0, "localhost": 0,
		"api.example.com:6443": problem.ExitUsage, "https://api.example.com": problem.ExitUsage, "a b": problem.ExitUsage, "10.0.0.1:6443": problem.ExitUsage,
		"no-such-host.invalid": problem.ExitPreflight,
	} {
		t.Run(address, func(t *testing.T) {
			if err := ValidateAPIAddress(t.Context(), "install", address); err == nil && want != 0 || err != nil && problem.ExitCode(err) != want {
				t.Errorf("%v, want exit code %d", err, want)
			}
		})
	}
}

func TestCheckAPIReachable_RefusesWhenNoAPIAnswers(t *testing.T) {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if CheckAPIReachable(t.Context(), "192.0.2.1", []byte("no PEM")) == nil || CheckAPIReachable(t.Context(), "127.0.0.99", ca) == nil {
		t.Error("an address without a server is accepted as the API")
	}
}

// twoNetworks are the facts of a host with the addresses 10.0.0.5 and, on another interface, 192.0.2.10 and 192.0.2.11.
func twoNetworks() facts.Facts {
	nic := func(name string, addresses ...string) facts.Interface {
		i := facts.Interface{Name: name, Up: true}
		for _, a := range addresses {
			i.Addresses = append(i.Addresses, netip.MustParsePrefix(a))
		}
		return i
	}
	return facts.Facts{Hostname: "n1", MachineID: "1", Network: facts.Network{Interfaces: []facts.Interface{nic("eth0", "10.0.0.5/24"), nic("eth1", "192.0.2.10/24", "192.0.2.11/24")}}}
}

func TestRequest_KeepsTheRecordedAddress(t *testing.T) {
	for name, c := range map[string]struct {
		flags    AddressFlags
		recorded string
		want     string // address or interface of the request
		exit     int
		message  string
	}{
		"no flag":                        {AddressFlags{}, "", "", 0, ""},
		"an address":                     {AddressFlags{Address: "192.0.2.10"}, "", "192.0.2.10", 0, ""},
		"an address of another host":     {AddressFlags{Address: "192.0.2.77"}, "", "192.0.2.77", 0, ""}, // the check node-address reports it
		"an interface":                   {AddressFlags{Interface: "eth1"}, "", "eth1", 0, ""},
		"both":                           {AddressFlags{Address: "192.0.2.10", Interface: "eth1"}, "", "", problem.ExitUsage, "both --address and --network-interface"},
		"a name":                         {AddressFlags{Address: "node1"}, "", "", problem.ExitUsage, `"node1" is not an IPv4 address`},
		"with a length":                  {AddressFlags{Address: "192.0.2.10/24"}, "", "", problem.ExitUsage, "is not an IPv4 address"},
		"IPv6":                           {AddressFlags{Address: "2001:db8::1"}, "", "", problem.ExitUsage, "is not an IPv4 address"},
		"loopback":                       {AddressFlags{Address: "127.0.0.1"}, "", "", problem.ExitUsage, "at which other hosts can reach"},
		"unspecified":                    {AddressFlags{Address: "0.0.0.0"}, "", "", problem.ExitUsage, "at which other hosts can reach"},
		"recorded":                       {AddressFlags{}, "192.0.2.10", "192.0.2.10", 0, ""},
		"recorded, the same address":     {AddressFlags{Address: "192.0.2.10"}, "192.0.2.10", "192.0.2.10", 0, ""},
		"recorded, its interface":        {AddressFlags{Interface: "eth1"}, "192.0.2.10", "192.0.2.10", 0, ""},
		"recorded, second of interface":  {AddressFlags{Interface: "eth1"}, "192.0.2.11", "192.0.2.11", 0, ""}, // a join took it toward the controllers, or DHCP has added the first
		"recorded, another address":      {AddressFlags{Address: "10.0.0.5"}, "192.0.2.10", "", problem.ExitUsage, "is 192.0.2.10, and this command does not change it"},
		"recorded, another interface":    {AddressFlags{Interface: "eth0"}, "192.0.2.10", "", problem.ExitUsage, "is 192.0.2.10, and this command does not change it"},
		"recorded, an unknown interface": {AddressFlags{Interface: "eth7"}, "192.0.2.10", "", problem.ExitUsage, "is 192.0.2.10, and this command does not change it"},
	} {
		t.Run(name, func(t *testing.T) {
			var recorded facts.Identity
			if c.recorded != "" {
				recorded.Address = netip.MustParseAddr(c.recorded)
			}
			r, err := c.flags.Request("install", twoNetworks(), recorded)
			if c.exit != 0 {
				if problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.message) || problem.Hint(err) == "" {
					t.Errorf("%v, want exit code %d and %q", err, c.exit, c.message)
				}
				return
			}
			got := r.Interface
			if r.Address.IsValid() {
				got += r.Address.String()
			}
			if err != nil || got != c.want {
				t.Errorf("%q %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestCheckIdentity_RefusesAChangedHost(t *testing.T) {
	same := facts.Identity{Node: "n1", MachineID: "1", Address: netip.MustParseAddr("192.0.2.10"), Unit: "k0sworker"}
	for name, c := range map[string]struct {
		was  func(*facts.Identity)
		want []string // in the message and its hint; nil for none
	}{
		"unchanged":            {func(*facts.Identity) {}, nil},
		"nothing is installed": {func(id *facts.Identity) { *id = facts.Identity{} }, nil},
		"renamed":              {func(id *facts.Identity) { id.Node = "n0" }, []string{"its node is n0, its name is now n1", "hostnamectl set-hostname n0", "systemctl restart k0sworker"}},
		"another machine id":   {func(id *facts.Identity) { id.MachineID = "0" }, []string{"its machine id was 0 and is now 1", "echo 0 | sudo tee /etc/machine-id", "a clone of node n1"}},
		"another address":      {func(id *facts.Identity) { id.Address = netip.MustParseAddr("192.0.2.9") }, []string{"no longer has its node's address 192.0.2.9", "ip address add 192.0.2.9/24 dev eth1"}},
		"before k0s":           {func(id *facts.Identity) { id.Node, id.Unit = "n0", "" }, []string{"hostnamectl set-hostname n0"}},
	} {
		t.Run(name, func(t *testing.T) {
			was := same
			c.was(&was)
			err := CheckIdentity("install", twoNetworks(), was)
			if c.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			text := ""
			if err != nil {
				text = err.Error() + problem.Hint(err)
			}
			if problem.ExitCode(err) != problem.ExitPreflight || strings.Contains(text, "node remove") || was.Unit == "" && strings.Contains(text, "systemctl") {
				t.Errorf("exit code %d: %s", problem.ExitCode(err), text)
			}
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in: %s", want, text)
				}
			}
		})
	}
}
