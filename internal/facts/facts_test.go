package facts

import (
	"net/netip"
	"slices"
	"testing"
)

func TestUnknownReason_OfFactAppliesToItsParts(t *testing.T) {
	f := Facts{Unknown: []Unknown{{Fact: "disk", Reason: "no answer"}, {Fact: "port:179/tcp", Reason: "not permitted"}}}
	for fact, want := range map[string]string{
		"disk": "no answer", "disk:/var": "no answer", "port:179/tcp": "not permitted", "port": "", "port:6443/tcp": "", "diskette": "",
	} {
		t.Run(fact, func(t *testing.T) {
			if got := f.UnknownReason(fact); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestFacts_FindsNothingWhenEmpty(t *testing.T) {
	var f Facts
	if _, ok := f.Disk("/"); ok {
		t.Error("a disk was found")
	}
	if _, ok := f.Port(PortKey{Number: 1, Protocol: "tcp"}); ok {
		t.Error("a port was found")
	}
	if _, ok := f.Lookup("x"); ok {
		t.Error("a lookup was found")
	}
	if _, ok := f.Unit("x"); ok {
		t.Error("a unit was found")
	}
	if got := f.Kernel.Feature("overlay"); got.State != FeatureUnknown || got.Present() || got.How == "" {
		t.Errorf("feature: %+v", got)
	}
}

func TestPortKeyString_UsesUsualNotation(t *testing.T) {
	for want, k := range map[string]PortKey{
		"6443/tcp": {Number: 6443, Protocol: "tcp"}, "127.0.0.1:2379/tcp": {Number: 2379, Protocol: "tcp", Address: "127.0.0.1"},
	} {
		t.Run(want, func(t *testing.T) {
			if k.String() != want {
				t.Errorf("%s, want %s", k, want)
			}
		})
	}
}

func TestDifferencesSince_ReportsOnlyKnownDifferences(t *testing.T) {
	is := Facts{Hostname: "a", OS: OS{ID: "debian", Version: "12.4", Arch: "amd64"}, Cgroup: Cgroup{Version: 2}, Memory: Memory{Total: 8_201_000_000},
		Network: Network{Interfaces: []Interface{{Name: "e", MTU: 1450}}, Routes: []Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Interface: "e"}}}}
	was := is
	was.OS.Version, was.Memory.Total, was.Clock.Zone = "12.1", 8_150_000_000, "Etc/UTC"
	if d := is.DifferencesSince(was); d != nil {
		t.Errorf("a point release, a few megabytes and an unknown zone are reported: %v", d)
	}
	was.OS.Version, was.Network = "11", Network{Interfaces: []Interface{{Name: "e", MTU: 1500}}, Routes: []Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Interface: "e"}}}
	want := []Difference{{"system", "debian 12", "debian 11"}, {"MTU", "1450", "1500"}}
	if d := is.DifferencesSince(was); !slices.Equal(d, want) {
		t.Errorf("%v", d)
	}
}

func TestUplink_FollowsHalvedDefaultRoute(t *testing.T) {
	route := func(network, link string) Route {
		return Route{Destination: netip.MustParsePrefix(network), Interface: link}
	}
	for name, tc := range map[string]struct {
		routes []Route
		want   int // MTU of the interface
	}{
		"halves alone":            {[]Route{route("10.0.0.0/8", "eth0"), route("128.0.0.0/1", "tun0"), route("0.0.0.0/1", "tun0")}, 1400},
		"beside a default route":  {[]Route{route("0.0.0.0/1", "tun0"), route("128.0.0.0/1", "tun0"), route("0.0.0.0/0", "eth0")}, 1500},
		"on different interfaces": {[]Route{route("0.0.0.0/1", "tun0"), route("128.0.0.0/1", "eth0")}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			n := Network{Routes: tc.routes, Interfaces: []Interface{{Name: "eth0", MTU: 1500}, {Name: "tun0", MTU: 1400}}}
			if got := n.MTU(); got != tc.want {
				t.Errorf("MTU %d, want %d", got, tc.want)
			}
		})
	}
}
