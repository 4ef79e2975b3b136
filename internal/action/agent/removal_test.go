package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

func TestMembership_NeedsANoteToCallANodeRemoved(t *testing.T) {
	c := newTestCluster(t)
	kubetest.RecordNodes(t, c.client, kube.NodeRecord{Node: "w1", UID: "second", Role: token.Worker})
	for uid, name := range map[string]string{"first": "w1", "second": "w1", "third": "w2"} { // the removal of w1's second admission did not finish
		testkit.Must(t, c.client.NoteRemovedNode(t.Context(), uid, kube.RemovedNode{Node: name, By: "an administrator on n1", At: noon}))
	}
	for name, tt := range map[string]struct {
		p     nodecert.NodeID
		state string
	}{
		"a member, though its removal has begun": {nodecert.NodeID{Node: "w1", UID: "second"}, agent.StateMember},
		"an earlier admission, which was ended":  {nodecert.NodeID{Node: "w1", UID: "first"}, agent.StateRemoved},
		"an admission without a note":            {nodecert.NodeID{Node: "w1", UID: "zeroth"}, agent.StateUnknown},
		"a node that joined after the backup":    {nodecert.NodeID{Node: "w9", UID: "uid-of-w9"}, agent.StateUnknown},
		"the note of another node":               {nodecert.NodeID{Node: "w1", UID: "third"}, agent.StateUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := newMembershipServer(c).Membership(t.Context(), tt.p)
			if err != nil || m.State != tt.state || m.Node != tt.p.Node || m.UID != tt.p.UID || (m.By != "") != (tt.state == agent.StateRemoved) {
				t.Errorf("%+v %v", m, err)
			}
		})
	}
	t.Run("its own API server does not answer", func(t *testing.T) {
		testkit.Must(t, c.Host.RemoveAll(k0s.AdminConf))
		if m, err := newMembershipServer(c).Membership(t.Context(), nodecert.NodeID{Node: "w1", UID: "first"}); err == nil || m.State == agent.StateRemoved {
			t.Errorf("%+v %v", m, err)
		}
	})
}

// newMembershipServer returns a server that has read nothing yet.
func newMembershipServer(c testCluster) membershipServer {
	return membershipServer{c.joinServer, &RecordCache{Read: c.nodeRecords, Now: func() time.Time { return noon }}}
}

func TestMembership_ReadsTheRecordsOnceForManyNodes(t *testing.T) {
	c := newTestCluster(t)
	kubetest.RecordNodes(t, c.client, kube.NodeRecord{Node: "w1", UID: "second", Role: token.Worker})
	testkit.Must(t, c.client.NoteRemovedNode(t.Context(), "first", kube.RemovedNode{Node: "w1", By: "an administrator on n1", At: noon}))
	now, reads, down := noon, 0, error(nil)
	s := membershipServer{c.joinServer, &RecordCache{Now: func() time.Time { return now }, Read: func(ctx context.Context) (kube.NodeRecords, error) {
		reads++
		if down != nil {
			return nil, down
		}
		return c.nodeRecords(ctx)
	}}}
	ask := func(uid string) string {
		m, err := s.Membership(t.Context(), nodecert.NodeID{Node: "w1", UID: uid})
		if err != nil {
			return err.Error()
		}
		return m.State
	}
	for range 1000 {
		if got := ask("second"); got != agent.StateMember {
			t.Fatal(got)
		}
	}
	if got := ask("first"); got != agent.StateRemoved || reads != 1 {
		t.Errorf("%s, %d reads", got, reads)
	}
	now, down = now.Add(recordsMaxAge), errors.New("the API server is down")
	for _, uid := range []string{"first", "second"} { // neither is known from older records
		if got := ask(uid); got != down.Error() || reads != 2 {
			t.Errorf("%s: %s, %d reads", uid, got, reads)
		}
	}
	now, down = now.Add(recordsMaxAge), nil
	if got := ask("second"); got != agent.StateMember || reads != 3 {
		t.Errorf("%s, %d reads", got, reads)
	}
}

// fakeControllers answer a node by their address; one without an answer is unreachable.
type fakeControllers struct {
	answers map[string]string // state by address
	asked   []string
}

func (f *fakeControllers) Self() nodecert.NodeID {
	return nodecert.NodeID{Node: "w1", UID: "uid-of-w1", Role: token.Worker}
}

func (f *fakeControllers) Ask(_ context.Context, at netip.Addr) (agent.Membership, error) {
	f.asked = append(f.asked, at.String())
	state, ok := f.answers[at.String()]
	if !ok {
		return agent.Membership{}, &agent.DeniedError{Reason: "node w1 was removed from the cluster"} // as to any request of a node without a record
	}
	return agent.Membership{Node: "w1", UID: "uid-of-w1", State: state, By: "an administrator on c1", At: noon}, nil
}

// removedHost is the worker w1, on which k0s runs, with the controllers 10.0.0.1 to 10.0.0.3.
type removedHost struct {
	removalWatch
	fake  *hosttest.Fake
	notes []string
}

func newRemovedHost(t *testing.T, client membershipClient) *removedHost {
	t.Helper()
	f := hosttest.New(t)
	h := f.Host()
	ca, err := pki.NewCA("kubernetes-ca", noon)
	testkit.Must(t, err)
	storeIdentity(t, h, ca, nodecert.Identity{Node: "w1", UID: "uid-of-w1", Role: token.Worker, Address: "10.0.0.9"})
	testkit.Must(t, loadbalancer.SeedControllers(h, "/var/lib/plinth", ca.Cert, []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")}))
	f.Units[k0s.WorkerUnit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	r := &removedHost{fake: f}
	r.removalWatch = removalWatch{Env: &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: "/var/lib/plinth", Now: func() time.Time { return noon }, Note: func(s string) { r.notes = append(r.notes, s) }}},
		newClient: func() (membershipClient, error) { return client, nil }}
	return r
}

// removal returns the recorded removal of the host.
func (r *removedHost) removal(t *testing.T) (node.Removal, bool) {
	t.Helper()
	got, ok, err := node.ReadRemoval(r.Host, r.DataDir)
	testkit.Must(t, err)
	return got, ok
}

const stopCommand = "systemd-run --quiet --collect --unit=plinth-stop-removed-node"

func TestRemovalWatch_StopsK0sOnlyIfNoControllerContradicts(t *testing.T) {
	const one, two, three = "10.0.0.1", "10.0.0.2", "10.0.0.3"
	const removed, member, unknown = agent.StateRemoved, agent.StateMember, agent.StateUnknown
	for name, tt := range map[string]struct {
		answers map[string]string
		stops   bool
	}{
		"every controller says so":              {map[string]string{one: removed, two: removed, three: removed}, true},
		"the others are down":                   {map[string]string{two: removed}, true},
		"unreachable, or every request refused": {nil, false},
		"a false controller beside one":         {map[string]string{one: removed, three: member}, false},
		"a restored cluster":                    {map[string]string{one: unknown, two: unknown, three: unknown}, false},
		"an older copy of the cluster":          {map[string]string{one: removed, two: unknown}, false},
		"a member":                              {map[string]string{one: member, two: member, three: member}, false},
		"an empty answer":                       {map[string]string{one: ""}, false},
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 { // the order in which it asks is random
				f := &fakeControllers{answers: tt.answers}
				r := newRemovedHost(t, f)
				if tt.stops {
					r.fake.Expect(stopCommand)
				}
				if err := r.check(t.Context()); err != nil {
					t.Error(err)
				}
				got, ok := r.removal(t)
				if ok != tt.stops || ok && got != (node.Removal{Node: "w1", UID: "uid-of-w1", By: "an administrator on c1", At: noon}) {
					t.Errorf("recorded %+v %v; asked %q", got, ok, f.asked)
				}
				audited := strings.Contains(strings.Join(r.notes, "\n"), `audit event=removal node="w1"`)
				if audited != tt.stops || tt.stops && len(f.asked) != 3 {
					t.Errorf("notes %q, asked %q", r.notes, f.asked)
				}
			}
		})
	}
}

func TestRemovalWatch_AsksOneControllerWhileItIsAMember(t *testing.T) {
	f := &fakeControllers{answers: map[string]string{"10.0.0.1": agent.StateMember, "10.0.0.2": agent.StateMember, "10.0.0.3": agent.StateMember}}
	testkit.Must(t, newRemovedHost(t, f).check(t.Context()))
	if len(f.asked) != 1 {
		t.Errorf("asked %q", f.asked)
	}
}

func TestRemovalWatch_LeavesTheHostToARunningCommand(t *testing.T) {
	f := &fakeControllers{answers: map[string]string{"10.0.0.1": agent.StateRemoved}}
	r := newRemovedHost(t, f)
	testkit.Must(t, r.Host.Write("/run/plinth.lock", strings.NewReader(fmt.Sprintf(`{"pid":%d,"verb":"join"}`, os.Getpid())), 0o600))
	testkit.Must(t, r.check(t.Context()))
	if _, ok := r.removal(t); ok || len(f.asked) > 0 {
		t.Errorf("asked %q while a command changes the host", f.asked)
	}
}

func TestRemovalWatch_RetriesAndStaysQuietOnceK0sIsStopped(t *testing.T) {
	r := newRemovedHost(t, &fakeControllers{answers: map[string]string{"10.0.0.1": agent.StateRemoved}})
	r.fake.Expect(stopCommand).Return("", errors.New("no access to systemd"))
	if err := r.check(t.Context()); err == nil {
		t.Error("a failure is not reported")
	}
	r.fake.Expect(stopCommand)
	testkit.Must(t, r.check(t.Context()))
	r.fake.Units[stopperUnit+".service"] = host.UnitState{Load: "loaded", Active: "active", Sub: "running"}
	testkit.Must(t, r.check(t.Context())) // it is being stopped
	r.fake.Units[k0s.WorkerUnit] = host.UnitState{Load: "loaded", Active: "inactive", Sub: "dead", Enable: "disabled"}
	testkit.Must(t, r.check(t.Context()))
	if audits := slices.DeleteFunc(r.notes, func(s string) bool { return !strings.Contains(s, "audit event=removal") }); len(audits) != 1 {
		t.Errorf("%q", audits)
	}
}

func TestRemovalWatch_NamesTheDataFolderToSystemd(t *testing.T) {
	r := newRemovedHost(t, nil)
	r.DataDir = "/srv/my ${data}"
	ran := ""
	r.fake.Expect(stopCommand).Do(func(c host.Cmd) { ran = strings.Join(c.Argv, " ") })
	testkit.Must(t, r.startStopper(t.Context()))
	if !strings.HasSuffix(ran, "--data-dir /srv/my $${data} agent --stop-removed-node") {
		t.Error(ran)
	}
}

// k0s leaves its pods running when it ends, and the agent cannot see their processes.
func TestRemovalWatch_EndsThePodsOfAStoppedK0s(t *testing.T) {
	r := newRemovedHost(t, &fakeControllers{answers: map[string]string{"10.0.0.1": agent.StateRemoved}})
	r.fake.Units[k0s.WorkerUnit] = host.UnitState{Load: "loaded", Active: "inactive", Sub: "dead", Enable: "disabled"} // by the administrator
	r.fake.Processes = []host.Process{{PID: 40, PPID: 1, Exe: "/var/lib/k0s/bin/containerd-shim-runc-v2", Args: []string{"containerd-shim-runc-v2", "-address", "/run/k0s/containerd.sock"}},
		{PID: 41, PPID: 40, Exe: "/app/server"}}
	r.fake.Expect(stopCommand)
	testkit.Must(t, r.check(t.Context()), stopRemovedNode(t.Context(), r.Env))
	if len(r.fake.Processes) > 0 {
		t.Errorf("still running: %+v", r.fake.Processes)
	}
	testkit.Must(t, r.check(t.Context())) // nothing is left to do
}

func TestRemovalWatch_ForgetsTheRemovalThatARestoreUndid(t *testing.T) {
	f := &fakeControllers{answers: map[string]string{"10.0.0.1": agent.StateRemoved}}
	r := newRemovedHost(t, f)
	r.fake.Expect(stopCommand)
	testkit.Must(t, r.check(t.Context()))
	f.answers["10.0.0.1"] = agent.StateUnknown
	testkit.Must(t, r.check(t.Context()))
	if _, ok := r.removal(t); !ok {
		t.Error("forgotten, though the cluster does not say that it is a member")
	}
	f.answers["10.0.0.1"] = agent.StateMember
	testkit.Must(t, r.check(t.Context()))
	if _, ok := r.removal(t); ok || !strings.Contains(strings.Join(r.notes, "\n"), "systemctl enable --now "+k0s.WorkerUnit) {
		t.Errorf("%q", r.notes)
	}
}

func TestReadRemoval_IsOfTheCurrentAdmission(t *testing.T) {
	r := newRemovedHost(t, nil)
	testkit.Must(t, node.Removal{Node: "w1", UID: "uid-of-w1", By: "an administrator on c1", At: noon}.Write(r.Host, r.DataDir))
	got, ok := r.removal(t)
	if want := "this host was removed from the cluster by an administrator on c1 at 2026-05-01T12:00:00Z"; !ok || got.String() != want {
		t.Errorf("%s", got)
	}
	ca, err := pki.NewCA("kubernetes-ca", noon)
	testkit.Must(t, err)
	storeIdentity(t, r.Host, ca, nodecert.Identity{Node: "w1", UID: "second", Role: token.Worker, Address: "10.0.0.9"})
	if _, ok := r.removal(t); ok {
		t.Error("the host was admitted again")
	}
}

func TestRefreshControllers_StoresTheOthersWhileItIsAMember(t *testing.T) {
	c := newTestCluster(t)
	self := nodecert.NodeID{Node: "n1", UID: "uid-of-n1", Role: token.Controller}
	kubetest.RecordNodes(t, c.client, kube.NodeRecord{Node: "n2", Role: token.Controller, Address: "10.0.0.6"}, kube.NodeRecord{Node: "w1", Role: token.Worker, Address: "10.0.0.9"})
	known := func() string {
		list, err := loadbalancer.KnownControllers(c.Host, c.DataDir)
		testkit.Must(t, err)
		return fmt.Sprint(list)
	}
	c.refreshControllers(t.Context(), self)
	if known() != "[10.0.0.6]" {
		t.Error(known())
	}
	testkit.Must(t, c.client.UpdateNodeRecords(t.Context(), func(all kube.NodeRecords) error { delete(all, "n1"); delete(all, "n2"); return nil }))
	c.refreshControllers(t.Context(), self)
	testkit.Must(t, c.Host.RemoveAll(k0s.AdminConf))
	c.refreshControllers(t.Context(), self)
	if known() != "[10.0.0.6]" {
		t.Errorf("after its removal: %s", known())
	}
}

func TestStopRemovedNode_RefusesANodeThatWasNotRemoved(t *testing.T) {
	r := newRemovedHost(t, nil)
	if err := stopRemovedNode(t.Context(), r.Env); err == nil || !strings.Contains(err.Error(), "has not removed this host") {
		t.Errorf("%v", err)
	}
	if !r.fake.Units[k0s.WorkerUnit].Running() {
		t.Error("k0s was stopped")
	}
}

func TestStopRemovedNode_RefusesAHostThatJoinsAgain(t *testing.T) {
	r := newRemovedHost(t, nil)
	testkit.Must(t, node.Removal{Node: "w1", UID: "uid-of-w1", By: "an administrator on c1", At: noon}.Write(r.Host, r.DataDir))
	testkit.Must(t, r.Host.Write("/run/plinth.lock", strings.NewReader(fmt.Sprintf(`{"pid":%d,"verb":"join"}`, os.Getpid())), 0o600))
	if err := stopRemovedNode(t.Context(), r.Env); err == nil || !strings.Contains(err.Error(), "another run changes this host: join") {
		t.Errorf("while it joins: %v", err)
	}
	testkit.Must(t, r.Host.RemoveAll("/run/plinth.lock"))
	ca, err := pki.NewCA("kubernetes-ca", noon)
	testkit.Must(t, err)
	storeIdentity(t, r.Host, ca, nodecert.Identity{Node: "w1", UID: "second", Role: token.Worker, Address: "10.0.0.9"})
	if err := stopRemovedNode(t.Context(), r.Env); err == nil || !strings.Contains(err.Error(), "has not removed this host") {
		t.Errorf("after it has joined: %v", err)
	}
	if !r.fake.Units[k0s.WorkerUnit].Running() {
		t.Error("k0s was stopped")
	}
	client, err := newRemovalWatch(r.Env, nil).newClient()
	if err != nil || client.Self().UID != "second" {
		t.Errorf("it asks about an earlier admission: %v", err)
	}
}

func TestRecordStopped_DoesNotBringTheDataFolderBack(t *testing.T) {
	r := newRemovedHost(t, nil)
	testkit.Must(t, r.Host.RemoveAll(r.DataDir), recordStopped(r.Env))
	if _, err := r.Host.Lstat(r.DataDir); err == nil {
		t.Error("the folder is back")
	}
}

func TestStopRemovedNode_StopsK0sAndKeepsTheAgent(t *testing.T) {
	r := newRemovedHost(t, nil)
	r.fake.Units[node.AgentUnit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	r.fake.Processes = []host.Process{{PID: 40, PPID: 1, Exe: "/var/lib/k0s/bin/containerd-shim-runc-v2", Args: []string{"containerd-shim-runc-v2", "-address", "/run/k0s/containerd.sock"}},
		{PID: 41, PPID: 40, Exe: "/app/server"}, {PID: 42, PPID: 1, Exe: "/usr/local/bin/plinth-agent"}}
	testkit.Must(t, node.Removal{Node: "w1", UID: "uid-of-w1", By: "an administrator on c1", At: noon}.Write(r.Host, r.DataDir))
	testkit.Must(t, stopRemovedNode(t.Context(), r.Env))
	if st := r.fake.Units[k0s.WorkerUnit]; st.Running() || st.Enable == "enabled" || !r.fake.Units[node.AgentUnit].Running() {
		t.Errorf("%+v", r.fake.Units)
	}
	if !slices.Equal(r.fake.Terminated, []int{41}) || len(r.fake.Processes) != 1 || r.fake.Processes[0].PID != 42 {
		t.Errorf("terminated %v, left %+v", r.fake.Terminated, r.fake.Processes)
	}
}
