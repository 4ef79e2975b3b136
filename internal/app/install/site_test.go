package install

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

func link(name string, addresses ...string) facts.Interface {
	i := facts.Interface{Name: name, Up: true}
	for _, a := range addresses {
		i.Addresses = append(i.Addresses, netip.MustParsePrefix(a))
	}
	return i
}

func route(to, gateway, dev string) facts.Route {
	r := facts.Route{Destination: netip.MustParsePrefix(to), Interface: dev}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	return r
}

func TestTheHostsAddressIsTheOneTowardsOtherHosts(t *testing.T) {
	const all = "0.0.0.0/0"
	lo, docker := link("lo", "127.0.0.1/8", "::1/128"), link("docker0", "172.17.0.1/16")
	for name, c := range map[string]struct {
		links  []facts.Interface
		routes []facts.Route
		want   string
	}{
		"one link": {[]facts.Interface{lo, link("eth0", "10.0.0.5/24")}, []facts.Route{route(all, "10.0.0.1", "eth0")}, "10.0.0.5"},
		"not a bridge that comes first": {[]facts.Interface{lo, docker, link("eth0", "10.0.0.5/24")},
			[]facts.Route{route("172.17.0.0/16", "", "docker0"), route(all, "10.0.0.1", "eth0")}, "10.0.0.5"},
		"of two addresses the one in the gateway's network": {[]facts.Interface{link("eth0", "169.254.3.4/16", "192.168.7.9/24", "10.0.0.5/24")},
			[]facts.Route{route(all, "10.0.0.1", "eth0")}, "10.0.0.5"},
		"a gateway outside of every network": {[]facts.Interface{link("eth0", "203.0.113.7/32")}, []facts.Route{route(all, "172.31.1.1", "eth0")}, "203.0.113.7"},
		"a default route without a gateway":  {[]facts.Interface{link("ppp0", "198.51.100.2/32")}, []facts.Route{route(all, "", "ppp0")}, "198.51.100.2"},
		"of two default routes the first":    {[]facts.Interface{link("a", "10.1.0.2/24"), link("b", "10.2.0.2/24")}, []facts.Route{route(all, "10.2.0.1", "b"), route(all, "10.1.0.1", "a")}, "10.2.0.2"},
		"the second, if the first has no IPv4": {[]facts.Interface{link("a", "fe80::1/64"), link("b", "10.2.0.2/24")},
			[]facts.Route{route(all, "10.1.0.1", "a"), route(all, "10.2.0.1", "b")}, "10.2.0.2"},
		"IPv6 beside IPv4":  {[]facts.Interface{link("eth0", "2001:db8::5/64", "10.0.0.5/24")}, []facts.Route{route("::/0", "fe80::1", "eth0"), route(all, "10.0.0.1", "eth0")}, "10.0.0.5"},
		"IPv6 alone":        {[]facts.Interface{link("eth0", "2001:db8::5/64")}, []facts.Route{route("::/0", "fe80::1", "eth0")}, ""},
		"no default route":  {[]facts.Interface{link("eth0", "10.0.0.5/24")}, []facts.Route{route("10.0.0.0/24", "", "eth0")}, ""},
		"nothing was found": {nil, nil, ""},
	} {
		got := ""
		if a := primary(facts.Network{Interfaces: c.links, Routes: c.routes}); a.IsValid() {
			got = a.String()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// manifests lints the documented Installer, after replacing in it, and an
// Application with these bounds; "" for none.
func manifests(t *testing.T, bounds string, replace ...string) manifest.Set {
	t.Helper()
	raw, err := os.ReadFile("../../../installer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files := []spec.File{{Name: "installer.yaml", Data: []byte(strings.NewReplacer(replace...).Replace(string(raw)))}}
	if bounds != "" {
		files = append(files, spec.File{Name: "application.yaml", Data: []byte("apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: my-app}\nspec: {title: Toy, " + bounds + "}\n")})
	}
	rep := spec.Lint(files)
	if rep.Installer == nil {
		t.Fatalf("%+v", rep.Findings)
	}
	return manifest.Set{Installer: rep.Installer, Lint: rep}
}

func TestAnInstalledHostTakesTheSameVersionsOnly(t *testing.T) {
	receipt := journal.Receipt{Name: "my-app", Bundle: "sha256:abc", Versions: map[string]string{"k0s": "v1.33.8+k0s.1", "kotsadm": "1.131.2"}}
	var err error
	if receipt.Installer, err = manifests(t, "").Installer.Digest(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		receipt journal.Receipt
		set     manifest.Set
		want    string // in the error; "" for none
	}{
		"the same":       {receipt, manifests(t, ""), ""},
		"another name":   {receipt, manifests(t, "", "name: my-app ", "name: other "), "this host already has my-app"},
		"another k0s":    {receipt, manifests(t, "", "version: v1.33.8+k0s.1", "version: v1.33.9+k0s.0"), "this host runs k0s v1.33.8+k0s.1"},
		"another KOTS":   {receipt, manifests(t, "", "version: 1.131.2", "version: 1.132.0"), "this host runs KOTS 1.131.2"},
		"other networks": {receipt, manifests(t, "", "podCIDR: 10.244.0.0/16", "podCIDR: 10.245.0.0/16"), "its Installer differs"},
	} {
		err := c.set.Fits(c.receipt)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want) ||
			!strings.Contains(problem.Hint(err), "sha256:abc") || !strings.Contains(problem.Hint(err), "nothing on this host was changed")):
			t.Errorf("%s: %v (%s), want %q", name, err, problem.Hint(err), c.want)
		}
	}
}

func TestTheGateStopsAnInstallUnlessItIsSkipped(t *testing.T) {
	noKots := manifests(t, `targetKotsVersion: "1.100.0"`)
	noKots.Installer.Spec.Kotsadm = nil
	for name, c := range map[string]struct {
		set         manifest.Set
		first, skip bool
		exit        int
		warning     string // kept for the receipt
		note        string // told now
	}{
		"within the bounds":         {manifests(t, `minKotsVersion: "1.131.2", targetKotsVersion: "1.131.2"`), true, false, 0, "", ""},
		"above the target":          {manifests(t, `targetKotsVersion: "1.131.1"`), true, false, problem.ExitGate, "", ""},
		"above it, not the first":   {manifests(t, `targetKotsVersion: "1.131.1"`), false, false, 0, "", ""},
		"below the minimum":         {manifests(t, `minKotsVersion: "1.132.0"`), false, false, problem.ExitGate, "", ""},
		"above it, skipped":         {manifests(t, `targetKotsVersion: "1.131.1"`), true, true, 0, "was skipped on request, though this version of Toy requires a different version of KOTS", "warning: "},
		"skipped without need":      {manifests(t, `targetKotsVersion: "1.131.2"`), true, true, 0, "", ""},
		"no bounds":                 {manifests(t, `statusInformers: []`), true, false, 0, "", "note: the KOTS version gate had nothing to check"},
		"no application":            {manifests(t, ""), true, false, 0, "", "note: the KOTS version gate had nothing to check"},
		"a cluster without console": {noKots, true, false, 0, "", ""},
	} {
		note, warning, err := c.set.Gate(c.first, c.skip)
		if problem.ExitCode(err) != c.exit {
			t.Errorf("%s: exit %d: %v", name, problem.ExitCode(err), err)
		}
		if got := warning; !strings.Contains(got, c.warning) || c.warning == "" && got != "" {
			t.Errorf("%s: warnings are %q", name, got)
		}
		if got := note; !strings.Contains(got, c.note) || c.note == "" && got != "" {
			t.Errorf("%s: notes are %q", name, got)
		}
	}
}
