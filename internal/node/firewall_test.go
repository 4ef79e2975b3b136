package node

import (
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/testkit"
)

// firewallRules returns rules of one kind.
func firewallRules(kind firewall.Kind) firewall.Rules {
	if kind == firewall.Filter {
		return firewall.Rules{Kind: kind, Chains: []firewall.Chain{{Table: "inet host", Name: "input", Accept: []string{"tcp dport { 6443 }"}}}}
	}
	return firewall.Rules{Kind: kind, Access: firewall.Access{Public: []int{6443}, Pods: netip.MustParsePrefix("10.244.0.0/16")}}
}

func TestFirewall_UFWAddsWhatIsMissingAndRemovesItsOwn(t *testing.T) {
	f := hosttest.New(t)
	h, w := f.Host(), Firewall{firewallRules(firewall.UFW)}
	testkit.Must(t, h.Write("/usr/sbin/ufw", strings.NewReader(""), 0o755))
	const header = "Added user rules (see 'ufw status' for running firewall):\n"
	listing := header + "ufw allow 6443/tcp\nufw allow from 10.244.0.0/16 comment 'plinth'\n" // a run was killed
	show := f.Expect("ufw show added").AnyTimes()
	show.Return(listing, nil)
	if why, err := w.Check(t.Context(), h); err != nil || why != "ufw has no rule route allow from 10.244.0.0/16" {
		t.Errorf("%q, %v", why, err)
	}
	f.Expect("ufw route allow from 10.244.0.0/16 comment plinth")
	f.Expect("ufw route allow to 10.244.0.0/16 comment plinth")
	testkit.Must(t, w.Apply(t.Context(), h))

	listing += "ufw route allow from 10.244.0.0/16 comment 'plinth'\nufw route allow to 10.244.0.0/16 comment 'plinth'\n"
	show.Return(listing, nil)
	if why, err := w.Check(t.Context(), h); err != nil || why != "" {
		t.Errorf("after it was applied: %q, %v", why, err)
	}
	f.Expect("ufw delete allow from 10.244.0.0/16").Do(func(host.Cmd) { show.Return(header+"ufw allow 6443/tcp\n", nil) })
	f.Expect("ufw route delete allow from 10.244.0.0/16")
	f.Expect("ufw route delete allow to 10.244.0.0/16")
	r := FirewallKind(h, []firewall.Rules{w.Rules, w.Rules}).Remove(t.Context())
	if r.Err != nil || len(r.Remaining) > 0 || len(r.Removed) != 3 {
		t.Errorf("%+v", r)
	}
}

func TestFirewall_FirewalldIsComparedAndRemovedByItsFiles(t *testing.T) {
	f := hosttest.New(t)
	h, w := f.Host(), Firewall{firewallRules(firewall.Firewalld)}
	const zones = "plinth (active)\n  target: ACCEPT\n  sources: 10.244.0.0/16\n"
	const policies = "plinth-host (active)\n  target: CONTINUE\n  ingress-zones: ANY\n  egress-zones: HOST\n  ports: 6443/tcp\n\n" +
		"plinth-pods (active)\n  target: ACCEPT\n  ingress-zones: ANY\n  egress-zones: plinth\n"
	f.Expect("firewall-cmd --permanent --list-all-zones").AnyTimes().Return(zones, nil)
	f.Expect("firewall-cmd --permanent --list-all-policies").AnyTimes().Return(policies, nil)
	runtime := f.Expect("firewall-cmd --list-all-zones").AnyTimes()
	f.Expect("firewall-cmd --list-all-policies").AnyTimes().Return(policies, nil)
	if why, err := w.Check(t.Context(), h); err != nil || why != "firewalld: plinth does not exist" { // killed before the reload
		t.Errorf("%q, %v", why, err)
	}
	runtime.Return(zones, nil)
	if why, err := w.Check(t.Context(), h); err != nil || why != "" {
		t.Errorf("%q, %v", why, err)
	}
	for _, path := range firewall.FirewalldFiles() {
		testkit.Must(t, h.Write(path, strings.NewReader("<zone/>"), 0o644))
	}
	f.Units["firewalld.service"] = host.UnitState{Load: "loaded", Active: "active"}
	f.Expect("firewall-cmd --reload")
	r := FirewallKind(h, []firewall.Rules{w.Rules}).Remove(t.Context())
	if r.Err != nil || len(r.Remaining) > 0 || len(r.Removed) != len(firewall.FirewalldFiles()) {
		t.Errorf("%+v", r)
	}
}

func TestFirewall_FirewalldIsAppliedByThePrintedCommands(t *testing.T) {
	f := hosttest.New(t)
	w := Firewall{firewallRules(firewall.Firewalld)}
	for _, c := range w.Commands() {
		f.Expect(strings.Join(c, " "))
	}
	testkit.Must(t, w.Apply(t.Context(), f.Host()))
}

func TestFirewall_FilterGetsScriptAndUnit(t *testing.T) {
	f := hosttest.New(t)
	h, w := f.Host(), Firewall{firewallRules(firewall.Filter)}
	if why, err := w.Check(t.Context(), h); err != nil || why != "/etc/plinth-firewall.sh does not exist" {
		t.Errorf("%q, %v", why, err)
	}
	f.Expect("/bin/sh /etc/plinth-firewall.sh start")
	testkit.Must(t, w.Apply(t.Context(), h))
	chain := f.Expect("nft list chain inet host input").AnyTimes()
	for name, c := range map[string]struct {
		listing string
		err     error
		want    string
	}{
		"jump":                 {"\t\tjump plinth-input\n", nil, ""},
		"flushed":              {"\t\tpolicy drop\n", nil, "inet host input has no jump to plinth-input"},
		"no such chain so far": {"", errors.New("No such file or directory"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			chain.Return(c.listing, c.err)
			if why, err := w.Check(t.Context(), h); err != nil || why != c.want {
				t.Errorf("%q, %v", why, err)
			}
		})
	}
	own := f.Expect("nft list chain inet host plinth-input").AnyTimes()
	f.Expect("/bin/sh -s stop").Do(func(host.Cmd) { own.Return("", fs.ErrNotExist) })
	r := FirewallKind(h, []firewall.Rules{w.Rules}).Remove(t.Context())
	if r.Err != nil || len(r.Remaining) > 0 || len(r.Removed) != 1 {
		t.Errorf("%+v", r)
	}
	if !f.Units[cleanup.FirewallUnit].Running() {
		t.Error("the unit is stopped by the kind that stops all units")
	}
}
