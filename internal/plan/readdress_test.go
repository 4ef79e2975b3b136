package plan

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

func TestReaddress_MatchesGolden(t *testing.T) {
	c, _ := example(t)
	c.Console = Console{Namespace: "kotsadm", URL: "https://10.0.0.5:8800", Desired: kots.ConsoleSpec{Version: "1.131.2"}}
	goldenPlan(t, "testdata/readdress.golden", c, Readdress(c, Readdressing{}))
}

func TestReaddress_HasNoConsoleStepsWithoutAConsole(t *testing.T) {
	c, _ := example(t)
	c.Console = Console{}
	for _, s := range Readdress(c, Readdressing{}) {
		if strings.HasPrefix(s.ID, "console") {
			t.Error(s.ID)
		}
	}
}

// fakeMembers is an etcd that answers after some attempts, and has a leader after some more.
type fakeMembers struct {
	all             []etcd.Member
	silent, leading int
	updates         []string
}

func (f *fakeMembers) Members(context.Context) ([]etcd.Member, error) {
	if f.silent--; f.silent >= 0 {
		return nil, errors.New("connection refused")
	}
	all := slices.Clone(f.all)
	if f.leading--; f.leading < 0 {
		all[0].Leader = true
	}
	return all, nil
}

func (f *fakeMembers) SetPeerAddress(_ context.Context, id, address string) error {
	f.updates = append(f.updates, id+" "+address)
	f.all[0].Address = address
	return nil
}

func TestUpdateEtcd_TellsTheOnlyMemberItsAddress(t *testing.T) {
	running := host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	for name, c := range map[string]struct {
		unit            host.UnitState
		address         string
		members         int
		silent, leading int
		before          step.StateKind
	}{
		"k0s does not run":     {host.UnitState{}, "10.0.0.4", 1, 0, 0, step.KindUnknown},
		"the former address":   {running, "10.0.0.4", 1, 0, 0, step.KindNeeded},
		"no leader yet":        {running, "10.0.0.4", 1, 0, 2, step.KindNeeded},
		"etcd starts":          {running, "10.0.0.4", 1, 2, 1, step.KindNeeded},
		"the new address":      {running, "10.0.0.5", 1, 0, 0, step.KindDone},
		"one of several":       {running, "10.0.0.4", 2, 0, 0, step.KindNeeded},
		"several, and the new": {running, "10.0.0.5", 2, 0, 0, step.KindNeeded},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, fake := example(t)
			fake.Units[k0s.ControllerUnit] = c.unit
			f := &fakeMembers{all: []etcd.Member{{ID: "7", Name: "n1", Address: c.address}, {ID: "8", Name: "n2", Address: "10.0.0.6"}}[:c.members], silent: c.silent, leading: c.leading}
			s := readdress{cluster, Readdressing{Etcd: func() (EtcdMembers, error) { return f, nil }}}.updateEtcd()
			st, err := s.Check(t.Context())
			if err != nil || st.Kind != c.before {
				t.Fatalf("before: %+v, %v", st, err)
			}
			if st.Kind != step.KindNeeded || c.members > 1 {
				return
			}
			testkit.Must(t, s.Apply(t.Context(), func(string, int64, int64) {}))
			st, err = s.Check(t.Context())
			if err != nil || st.Kind != step.KindDone || !slices.Equal(f.updates, []string{"7 10.0.0.5"}) {
				t.Errorf("after: %+v, %v, updates %v", st, err, f.updates)
			}
		})
	}
}

func TestClusterIdentity_IsIssuedAndRecordedForAnotherAddress(t *testing.T) {
	c := newClusterIdentity(t)
	testkit.Must(t, c.create())
	_, client := kubetest.New(t)
	testkit.Must(t, c.applyPolicies(t.Context(), client))
	records, err := client.NodeRecords(t.Context())
	testkit.Must(t, err)
	before := records["n1"]
	before.Token = "t1" // of a controller that has joined
	kubetest.RecordNodes(t, client, before, kube.NodeRecord{Node: "w1", Role: token.Worker})

	c.K0s.Settings.Address = "10.0.0.9"
	if why, err := c.needed(); err != nil || !strings.Contains(why, "is not for 10.0.0.9") {
		t.Errorf("%q, %v", why, err)
	}
	if why, err := c.policiesNeeded(t.Context(), client); err != nil || !strings.Contains(why, "recorded with the address 10.0.0.5") {
		t.Errorf("%q, %v", why, err)
	}
	testkit.Must(t, c.create(), c.applyPolicies(t.Context(), client))
	for _, needed := range []func() (string, error){c.needed, func() (string, error) { return c.policiesNeeded(t.Context(), client) }} {
		if why, err := needed(); why != "" || err != nil {
			t.Errorf("still needed: %q, %v", why, err)
		}
	}
	i, err := node.ReadIdentity(c.Host, c.DataDir)
	testkit.Must(t, err)
	leaf, err := i.Pair.Leaf()
	testkit.Must(t, err, leaf.VerifyHostname("10.0.0.9"))
	records, err = client.NodeRecords(t.Context())
	want := before
	want.Address = "10.0.0.9"
	if err != nil || records["n1"] != want || len(records) != 2 {
		t.Errorf("%+v, want %+v, %v", records["n1"], want, err)
	}
}
