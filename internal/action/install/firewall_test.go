package install

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestInspectFirewall_KeepsTheRequestOfEarlierRuns(t *testing.T) {
	for name, c := range map[string]struct {
		flag, unfinished, receipt string
		restored                  *Restoration
		want                      string
	}{
		"not requested":               {},
		"requested":                   {flag: "auto", want: "auto"},
		"requested for a restore":     {flag: "auto", restored: &Restoration{}, want: "auto"},
		"by an unfinished install":    {unfinished: "10.0.0.0/24", want: "10.0.0.0/24"},
		"by a finished install":       {receipt: "auto", want: "auto"},
		"other networks than before":  {flag: "10.1.0.0/24", unfinished: "10.0.0.0/24", receipt: "auto", want: "10.1.0.0/24"},
		"a restore after an install":  {unfinished: "auto", restored: &Restoration{}},
		"of the cluster that is lost": {restored: &Restoration{Receipt: journal.Receipt{Firewall: "auto"}}},
	} {
		t.Run(name, func(t *testing.T) {
			env, _ := fakeEnv(t)
			j, err := env.OpenJournal()
			testkit.Must(t, err)
			if c.unfinished != "" {
				testkit.Must(t, j.BeginRun("install", journal.Args{Firewall: c.unfinished}))
			}
			o := operation{opts: Options{ConfigureFirewall: c.flag}, receipt: journal.Receipt{Firewall: c.receipt}, restored: c.restored}
			testkit.Must(t, o.inspectFirewall(env))
			if o.args.Firewall != c.want || o.firewall.State.Request != c.want {
				t.Errorf("%q and %q, want %q", o.args.Firewall, o.firewall.State.Request, c.want)
			}
		})
	}
}

func TestDescribeChange_NamesTheFirewalls(t *testing.T) {
	o := operation{config: config.Config{Installer: &spec.Installer{}}, address: netip.MustParseAddr("10.0.0.5")}
	o.config.Installer.Metadata.Name = "my-app"
	if got, want := o.describeChange("Restore", nil), "Restore my-app on this host (10.0.0.5, 0 of 0 steps to do)?"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	o.firewall.State = plan.FirewallState{Rules: []firewall.Rules{{Kind: firewall.UFW}, {Kind: firewall.Filter}}}
	if got := o.describeChange("Install", nil); !strings.HasSuffix(got, "steps to do, with rules for the cluster in ufw and the packet filter)?") {
		t.Error(got)
	}
}
