package repair

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

func clock() time.Time { return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC) }

// site is a host with a finished install, and what a repair finds there.
type site struct {
	receipt journal.Receipt
	found   facts.Facts
	members []etcd.Member // nil if they cannot be read
	runs    []journal.Run // that are not finished: Verb and Args
	network spec.Network
	flags   preflight.AddressFlags
}

// movedSite returns a host whose address has changed from 10.0.0.50 to 10.0.0.5.
func movedSite() site {
	return site{receipt: journal.Receipt{Name: "my-app", Role: "controller", Node: "n1", MachineID: "m1", Address: before}, found: hostAt(after),
		members: []etcd.Member{{Name: "N1", Address: before}}, network: spec.Network{PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12"}}
}

// open returns a repair on the host, and its environment.
func (s site) open(t *testing.T) (*operation, *action.Env) {
	t.Helper()
	h := hosttest.New(t).Host()
	j, err := journal.Open(h, dataDir, clock)
	testkit.Must(t, err, j.BeginRun("install", journal.Args{Cluster: "my-app"}), j.BeginStep("k0s-start", nil), j.EndStep("k0s-start", nil), j.EndRun(nil))
	if s.receipt.Name != "" {
		testkit.Must(t, journal.WriteReceipt(h, dataDir, s.receipt))
	}
	for _, r := range s.runs {
		testkit.Must(t, j.BeginRun(r.Verb, r.Args))
	}
	env := &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: clock, Events: func(step.Event) {}, Note: func(string) {}}}
	_, err = env.OpenJournal()
	testkit.Must(t, err)
	in := &spec.Installer{}
	in.Spec.Network = s.network
	return &operation{opts: Options{NodeAddress: s.flags}, installed: desired.InstalledBundle{Installer: in},
		simulate: func(*action.Env) []step.Step { return nil },
		gather:   func(context.Context, *action.Env) facts.Facts { return s.found },
		members: func(context.Context, *action.Env) ([]etcd.Member, error) {
			if s.members == nil {
				return nil, errors.New("connection refused")
			}
			return s.members, nil
		}}, env
}

// addNIC adds the interface eth1 with the address, without a default route.
func addNIC(f *facts.Facts, address string) {
	f.Network.Interfaces = append(f.Network.Interfaces, facts.Interface{Name: "eth1", Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix(address + "/24")}})
}

func TestInspect_RefusesByName(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a repair needs root")
	}
	const reset = "sudo plinth reset node, then join again"
	for name, c := range map[string]struct {
		change func(*site)
		exit   int
		text   string
		hint   string
	}{
		"nothing installed": {func(s *site) { s.receipt = journal.Receipt{} }, problem.ExitUsage, "no finished install", "plinth install"},
		"renamed":           {func(s *site) { s.found.Hostname = "n2" }, problem.ExitPreflight, "its node is n1, its name is now n2", "sudo hostnamectl set-hostname n1"},
		"renamed only": {func(s *site) { s.found = hostAt(before); s.found.Hostname = "n2" }, problem.ExitPreflight, "its node is n1, its name is now n2",
			"sudo hostnamectl set-hostname n1"},
		"a clone":  {func(s *site) { s.found.MachineID = "m2" }, problem.ExitPreflight, "its machine id was m1 and is now m2", "a clone of node n1"},
		"a worker": {func(s *site) { s.receipt.Role = "worker" }, problem.ExitUsage, "this host is a worker", reset + " with a token of a controller: plinth token create --role worker"},
		"one of two": {func(s *site) { s.members = append(s.members, etcd.Member{Name: "n2", Address: "10.0.0.6"}) }, problem.ExitUsage,
			"another controller: n2 at 10.0.0.6", "give it its former address 10.0.0.50 and add a third controller"},
		"one of three": {func(s *site) {
			s.members = append(s.members, etcd.Member{Name: "n2", Address: "10.0.0.6"}, etcd.Member{Name: "n3", Address: "10.0.0.7"})
		}, problem.ExitUsage, "other controllers: n2 at 10.0.0.6, n3 at 10.0.0.7", reset + " with a token of a controller: plinth token create --role controller"},
		"unknown members":   {func(s *site) { s.members = nil }, problem.ExitUsage, "it is not known whether this is the only controller: connection refused", "journalctl -u k0scontroller"},
		"no address":        {func(s *site) { s.found = hostAt() }, problem.ExitPreflight, "no interface that is up has an IPv4 address", "--address ADDRESS"},
		"not on this host":  {func(s *site) { s.flags.Address = "10.0.0.9" }, problem.ExitPreflight, "10.0.0.9 is not an address of this host", "ip -brief address"},
		"unknown interface": {func(s *site) { s.flags.Interface = "eth7" }, problem.ExitPreflight, "this host has no interface eth7", "--network-interface NAME"},
		"no address at all": {func(s *site) { s.flags.Address = "n1" }, problem.ExitUsage, `"n1" is not an IPv4 address`, "--address"},
		"both flags":        {func(s *site) { s.flags = preflight.AddressFlags{Address: after, Interface: "eth0"} }, problem.ExitUsage, "both --address and --network-interface", "only one"},
		"in the pods":       {func(s *site) { s.found = hostAt("10.244.3.4") }, problem.ExitPreflight, "10.244.3.4/24 overlaps with spec.network.podCIDR of the cluster, 10.244.0.0/16", "another network"},
		"in the services":   {func(s *site) { s.found = hostAt("10.100.3.4") }, problem.ExitPreflight, "overlaps with spec.network.serviceCIDR of the cluster, 10.96.0.0/12", "another network"},
		"that of the API":   {func(s *site) { s.receipt.API = after }, problem.ExitPreflight, "is the additional address of the API", "another one of its addresses"},
		"a full disk": {func(s *site) {
			s.found.Disks = []facts.Disk{{Path: "/var/lib/k0s", Mount: "/var", Number: "8:1", FSType: "ext4", Size: 1e10, Available: 1e6}}
		}, problem.ExitPreflight, "/var (ext4): 1 MB free, 250 MB needed: 250 MB for /var/lib/k0s (", "sudo du -xh -d2 /var | sort -h | tail"},
		"a disk that is read-only": {func(s *site) {
			s.found.Disks = []facts.Disk{{Path: "/etc", Mount: "/", Number: "8:1", FSType: "ext4", Options: []string{"ro"}, Size: 1e10, Available: 1e9}}
		}, problem.ExitPreflight, "read-only", "nothing was changed"},
		"unfinished upgrade": {func(s *site) { s.runs = []journal.Run{{Verb: "upgrade"}} }, problem.ExitUsage, "the upgrade started at", "`plinth upgrade` again"},
		"unfinished reset":   {func(s *site) { s.runs = []journal.Run{{Verb: "reset"}} }, problem.ExitUsage, "the reset started at", "sudo plinth reset cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			s := movedSite()
			c.change(&s)
			o, env := s.open(t)
			err := o.inspect(t.Context(), env.ReadOnly())
			if err == nil || problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.text) || !strings.Contains(problem.Hint(err), c.hint) {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
		})
	}
}

func TestInspect_ChoosesTheAddress(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a repair needs root")
	}
	repairTo := func(address string) []journal.Run {
		return []journal.Run{{Verb: Verb, Args: journal.Args{Address: address}}}
	}
	for name, c := range map[string]struct {
		change    func(*site)
		want      string
		unchanged bool
		choice    string // part of it
	}{
		"moved":                     {func(*site) {}, after, false, "10.0.0.5 on eth0, the only one"},
		"not moved":                 {func(s *site) { s.found = hostAt(before) }, before, true, ""},
		"not moved, a worker":       {func(s *site) { s.found, s.receipt.Role = hostAt(before), "worker" }, before, true, ""},
		"not moved, one of two":     {func(s *site) { s.found, s.members = hostAt(before), nil }, before, true, ""},
		"a further address":         {func(s *site) { s.found = hostAt(after, before) }, before, true, ""},
		"a further one, on purpose": {func(s *site) { s.found, s.flags.Address = hostAt(before, after), after }, after, false, "as requested"},
		"the same one, on purpose":  {func(s *site) { s.found, s.flags.Address = hostAt(before, after), before }, before, true, "as requested"},
		"several":                   {func(s *site) { addNIC(&s.found, "192.0.2.9") }, after, false, "other addresses: 192.0.2.9 on eth1 (choose with --address)"},
		"the interface":             {func(s *site) { addNIC(&s.found, "192.0.2.9"); s.flags.Interface = "eth1" }, "192.0.2.9", false, "192.0.2.9 on eth1, as requested"},
		"resumed":                   {func(s *site) { addNIC(&s.found, "192.0.2.9"); s.runs = repairTo("192.0.2.9") }, "192.0.2.9", false, "192.0.2.9 on eth1"},
		"resumed, moved again":      {func(s *site) { s.runs = repairTo("192.0.2.9") }, after, false, "10.0.0.5 on eth0"},
		"resumed, moved back":       {func(s *site) { s.found, s.runs = hostAt(before), repairTo(after) }, before, false, "as before"},
		"resumed, the former requested": {func(s *site) {
			s.found, s.runs, s.flags.Address = hostAt(after, before), repairTo(after), before
		}, before, false, "as requested"},
		"killed before its end": {func(s *site) { s.receipt.Address, s.runs = after, repairTo(after) }, after, false, "10.0.0.5 on eth0"},
		"resumed, another requested": {func(s *site) {
			s.found, s.runs, s.flags.Address = hostAt(after, "10.0.0.7"), repairTo(after), "10.0.0.7"
		}, "10.0.0.7", false, "as requested"},
	} {
		t.Run(name, func(t *testing.T) {
			s := movedSite()
			c.change(&s)
			o, env := s.open(t)
			err := o.inspect(t.Context(), env.ReadOnly())
			if err != nil || o.address.String() != c.want || o.unchanged != c.unchanged || !strings.Contains(o.choice, c.choice) {
				t.Errorf("%s, unchanged %v, %q, %v", o.address, o.unchanged, o.choice, err)
			}
		})
	}
}

func TestFindFormer_TellsWhetherLinuxRemovesBoth(t *testing.T) {
	other := hostAt(before)
	addNIC(&other, after)
	for name, c := range map[string]struct {
		network facts.Network
		now     string
		want    *Former
	}{
		"a secondary address":  {hostAt(before, after).Network, after, &Former{"10.0.0.50/24", "eth0", true}},
		"gone":                 {hostAt(after).Network, after, nil},
		"kept":                 {hostAt(before).Network, before, nil},
		"on another interface": {other.Network, after, &Former{"10.0.0.50/24", "eth0", false}},
		"of another network":   {hostAt(before, "192.0.2.9").Network, "192.0.2.9", &Former{"10.0.0.50/24", "eth0", false}},
	} {
		t.Run(name, func(t *testing.T) {
			got := findFormer(c.network, netip.MustParseAddr(before), netip.MustParseAddr(c.now))
			if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestConfirm_NamesTheAddressesAndWhatRestarts(t *testing.T) {
	s := movedSite()
	addNIC(&s.found, "192.0.2.9")
	o, env := s.open(t)
	testkit.Must(t, o.inspect(t.Context(), env.ReadOnly()))
	var question string
	env.Confirm = func(_ context.Context, q string) error { question = q; return nil }
	testkit.Must(t, o.confirm(t.Context(), env, []step.Planned{{State: "needed"}, {State: "done"}}))
	for _, want := range []string{"Node n1 gets the address 10.0.0.5 on eth0", "192.0.2.9 on eth1", "It had 10.0.0.50.", "k0s and all pods on this host restart", "join tokens", "1 of 2 steps"} {
		if !strings.Contains(question, want) {
			t.Errorf("%q is missing in %q", want, question)
		}
	}
}

func TestWriteReceipt_ChangesTheAddressOnly(t *testing.T) {
	s := movedSite()
	s.receipt.API, s.receipt.Bundle, s.receipt.Console = "10.0.0.100", "sha256:1", journal.Console{Port: 8800}
	o, env := s.open(t)
	testkit.Must(t, o.inspect(t.Context(), env.ReadOnly()), o.writeReceipt(env))
	want := o.receipt
	want.Address, want.UpdatedAt = after, clock()
	got, _, err := journal.ReadReceipt(env.Host, dataDir)
	if err != nil || got.Address != want.Address || !got.UpdatedAt.Equal(want.UpdatedAt) || got.API != want.API || got.Bundle != want.Bundle || got.Console != want.Console || got.Node != "n1" {
		t.Errorf("%+v, want %+v, %v", got, want, err)
	}
	args := o.journalArgs(env, 3)
	if args.From != before || args.Address != after || args.Node != "n1" || args.PodCIDR != "10.244.0.0/16" || args.Steps != 3 {
		t.Errorf("%+v", args)
	}
}

// An install that is repeated after a killed repair names the repair, and not a reset.
func TestJoinRefusal_NamesTheUnfinishedRepair(t *testing.T) {
	s := movedSite()
	s.runs = []journal.Run{{Verb: Verb, Args: journal.Args{From: before, Address: after}}}
	_, env := s.open(t)
	if why, fix := desired.InstallRefusal(env.Host, dataDir, env.Journal(), s.receipt); !strings.Contains(why, "the repair started at") || !strings.Contains(fix, "`plinth repair address` again") ||
		!strings.HasSuffix(fix, "or go back: give the host its address 10.0.0.50 again, then: sudo plinth repair address --address 10.0.0.50") {
		t.Errorf("%q, %q", why, fix)
	}
}

var _ plan.EtcdMembers = (*etcd.Client)(nil)
