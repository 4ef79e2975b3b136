package repair

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/faulttest"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host/hosttest/sim"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

// The simulation repairs a controller on a simulated host, with the real journal, step runner, engine and steps, over an
// API server in memory and an etcd that knows an address. It stops at every failpoint and before every change of the host
// and of the cluster: the state at that moment is what a kill would leave. From each of them the same command has to finish.

const (
	dataDir    = "/var/lib/plinth"
	before     = "10.0.0.50" // begins like after
	after      = "10.0.0.5"
	memberKey  = "etcd member" // object of the simulated host: the address by which etcd knows its member
	objectKey  = "object "     // beginning of the keys of the cluster's objects
	nodePath   = "/api/v1/nodes/n1"
	nodeIPFlag = "--node-ip="
)

// simulation is what all runs share.
type simulation struct {
	t       *testing.T
	in      *spec.Installer
	points  []failpoint.Point
	handler http.Handler // API server of the current run
	moved   sim.State    // a controller whose host has another address
}

func newSimulation(t *testing.T) *simulation {
	t.Helper()
	if raceDetector {
		t.Skip("make test-unit runs this without the race detector, which takes several times as long")
	}
	raw, err := os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		t.Fatal(findings)
	}
	points, err := faulttest.Points()
	testkit.Must(t, err)
	s := &simulation{t: t, in: in, points: points}
	config := kubetest.Kubeconfig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }))

	state := sim.NewHost()
	state.PutFile("/etc/machine-id", "m1\n", 0o444)
	state.PutFile(k0s.AdminConf, string(config), 0o600)
	c := s.newCluster(state, nil)
	env := s.newEnv(c, "install", nil)
	j, err := env.OpenJournal()
	testkit.Must(t, err, j.BeginRun("install", journal.Args{Cluster: "my-app"}))
	keep := []string{"data-dir", "kernel", "k0s-config", "identity", "k0s-service", "k0s-start", "trust"}
	steps := slices.DeleteFunc(plan.Install(s.planCluster(env, before)), func(st step.Step) bool { return !slices.Contains(keep, st.ID) })
	_, err = env.StepRunner("install", j).Run(t.Context(), steps)
	testkit.Must(t, err, j.EndRun(nil), journal.WriteReceipt(env.Host, dataDir, journal.Receipt{Name: "my-app", Role: "controller", Node: "n1", MachineID: "m1", Address: before}))
	c.putPods()
	c.machine.State[memberKey] = sim.Object{Data: before}
	c.machine.StartPod("pod")
	s.moved = c.state()
	return s
}

// planCluster returns the cluster of env's simulated host, at address.
func (s *simulation) planCluster(env *action.Env, address string) plan.Cluster {
	return plan.Cluster{Host: env.Host, StateStore: env.Journal(), Now: env.Now, DataDir: dataDir, NodeName: "n1", CleanupScope: env.CleanupScope(),
		K0s: k0s.Service{Host: env.Host, Settings: k0s.NewSettings(s.in, address, "n1")}}
}

// cluster is the simulated cluster of one run.
type cluster struct {
	*kubetest.Server
	machine *sim.Machine
	see     func(moment string) // called at each moment; never nil
}

// newCluster returns the cluster and the machine of state, with see called for every moment.
func (s *simulation) newCluster(state sim.State, see func(string, sim.State)) *cluster {
	server, _ := kubetest.New(s.t)
	objects := map[string]string{}
	for key, object := range state {
		if at, ok := strings.CutPrefix(key, objectKey); ok {
			objects[at] = object.Data
		}
	}
	testkit.Must(s.t, server.Load(objects))
	c := &cluster{Server: server, machine: sim.New(s.t, state), see: func(string) {}}
	if see != nil {
		c.see = func(moment string) { see(moment, c.state()) }
		c.machine.OnChange = func(what string) { c.see("before " + what) }
	}
	s.handler = c
	return c
}

// state returns what a kill would leave now.
func (c *cluster) state() sim.State {
	all := maps.Clone(c.machine.State)
	maps.DeleteFunc(all, func(key string, _ sim.Object) bool { return strings.HasPrefix(key, objectKey) })
	for at, text := range c.Dump() {
		if at != nodePath { // kubelet writes it at each start
			all[objectKey+at] = sim.Object{Data: text}
		}
	}
	return all
}

// putPods stores the system pods of this node, which are Ready, and one of a worker, which is not.
func (c *cluster) putPods() {
	for name, on := range map[string]string{"coredns-1": "n1", "kube-router-1": "n1", "metrics-server-1": "n1", "kube-proxy-1": "n1", "kube-proxy-2": "w1"} {
		ready := map[bool]string{true: "True", false: "False"}[on == "n1"]
		c.Put("/api/v1/namespaces/kube-system/pods/"+name, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": "kube-system"},
			"spec": map[string]any{"nodeName": on, "containers": []any{map[string]any{"name": "c"}}},
			"status": map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": ready}},
				"containerStatuses": []any{map[string]any{"name": "c", "state": map[string]any{"running": map[string]any{"startedAt": sim.Now().UTC().Format(time.RFC3339)}}}}}})
	}
}

// ServeHTTP serves the API. The kubelet reports the address with which k0s was started.
func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		c.see("before " + r.Method + " " + r.URL.Path)
	}
	_, rest, _ := strings.Cut(c.machine.State["/etc/systemd/system/"+k0s.ControllerUnit].Data, nodeIPFlag)
	if at := strings.Fields(rest); len(at) > 0 {
		c.Put(nodePath, map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": "n1"}, "status": map[string]any{
			"addresses":  []any{map[string]any{"type": "Hostname", "address": "n1"}, map[string]any{"type": "InternalIP", "address": at[0]}},
			"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}})
	}
	c.Server.ServeHTTP(w, r)
}

// Members returns the member of the simulated etcd, which starts only at an address of its host.
func (c *cluster) Members(context.Context) ([]etcd.Member, error) {
	if !strings.Contains(c.machine.State[k0s.ConfigPath].Data, "peerAddress: "+after+"\n") {
		return nil, errors.New("bind: cannot assign requested address")
	}
	return []etcd.Member{{ID: "7", Name: "n1", Address: c.machine.State[memberKey].Data, Leader: true}}, nil
}

// SetPeerAddress has the effect of an update of the member.
func (c *cluster) SetPeerAddress(_ context.Context, id, address string) error {
	c.see("before the update of member " + id)
	c.machine.State[memberKey] = sim.Object{Data: address}
	return nil
}

// newEnv returns the environment of a run of verb, which stops at every failpoint.
func (s *simulation) newEnv(c *cluster, verb string, see func(string, sim.State)) *action.Env {
	effects := failpoint.Effects{}
	var rules []failpoint.Rule
	if see != nil {
		for i, p := range s.points { // a delay of i represents the moment at points[i-1]
			rules = append(rules, failpoint.Rule{Point: p, Nth: 1, Repeat: true, Action: failpoint.Delay, Duration: time.Duration(i + 1)})
		}
		effects.Sleep = func(i time.Duration) { c.see(s.points[i-1].String()) }
	}
	env := &action.Env{Host: c.machine.Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Failpoints: failpoint.Arm(rules, effects),
		Events: func(step.Event) {}, Note: func(string) {}, Confirm: func(context.Context, string) error { return nil }, Now: sim.Now}}
	env.ArmFailpoints(verb)
	return env
}

// hostAt returns the facts of the host n1 with these addresses on eth0.
func hostAt(addresses ...string) facts.Facts {
	f := facts.Facts{Hostname: "n1", MachineID: "m1", Network: facts.Network{Interfaces: []facts.Interface{{Name: "eth0", Up: true}}}}
	for _, a := range addresses {
		f.Network.Interfaces[0].Addresses = append(f.Network.Interfaces[0].Addresses, netip.MustParsePrefix(a+"/24"))
	}
	return f
}

// repair runs `plinth repair address` from state and returns the state at its end.
func (s *simulation) repair(state sim.State, see func(string, sim.State)) (sim.State, action.Outcome, error) {
	c := s.newCluster(state, see)
	env := s.newEnv(c, Verb, see)
	o := &operation{installed: desired.InstalledBundle{Installer: s.in},
		members: func(context.Context, *action.Env) ([]etcd.Member, error) { return []etcd.Member{{Name: "N1"}}, nil },
		gather:  func(context.Context, *action.Env) facts.Facts { return hostAt(after) },
		simulate: func(env *action.Env) []step.Step {
			return plan.Readdress(s.planCluster(env, after), plan.Readdressing{Etcd: func() (plan.EtcdMembers, error) { return c, nil }})
		}}
	out, err := action.ExecuteLocked(s.t.Context(), env, o.engineOperation())
	return c.state(), out, err
}

// lasting returns state without the journal, temporary files, new keys, and what a start of k0s leaves.
func lasting(state sim.State) sim.State {
	kept := maps.Clone(state)
	maps.DeleteFunc(kept, func(key string, _ sim.Object) bool {
		return strings.HasPrefix(key, dataDir+"/journal.") || strings.HasPrefix(key, dataDir+"/.journal.") || strings.HasSuffix(key, ".plinth-tmp") ||
			key == "/run/k0s" || key == k0s.KubeletConf || strings.HasPrefix(key, k0s.KubeletPKIDir) || key == node.IdentityPath(dataDir)
	})
	lines := strings.Split(kept[sim.MountInfoPath].Data, "\n")
	slices.Sort(lines)
	kept[sim.MountInfoPath] = sim.Object{Data: strings.Join(lines, "\n")}
	return kept
}

// checkMoved fails the test unless everything in state has the new address, and nothing runs that has seen the former one.
func (s *simulation) checkMoved(state sim.State) {
	s.t.Helper()
	m := sim.New(s.t, state)
	if r, _, err := journal.ReadReceipt(m.Host(), dataDir); err != nil || r.Address != after || r.Node != "n1" {
		s.t.Errorf("the receipt has %+v, %v", r, err)
	}
	if got := state[memberKey].Data; got != after {
		s.t.Errorf("etcd has %s", got)
	}
	if records := state[objectKey+"/api/v1/namespaces/kube-system/configmaps/plinth-nodes"].Data; !strings.Contains(records, after+`\"`) || strings.Contains(records, before) {
		s.t.Errorf("the cluster has recorded %s", records)
	}
	if running, ok := state["running "+k0s.ControllerUnit]; !ok || running.Data != state.ProgramOf(k0s.ControllerUnit) {
		s.t.Error("k0s does not run with its current unit and configuration")
	}
	if m.HasPod("pod") {
		s.t.Error("a pod of before still runs")
	}
	for _, p := range []string{k0s.ConfigPath, "/etc/systemd/system/" + k0s.ControllerUnit} {
		if text := state[p].Data; strings.Contains(text, before) || !strings.Contains(text, after) {
			s.t.Errorf("%s:\n%s", p, text)
		}
	}
	if why, err := k0s.KubeletAddressNeeded(m.Host(), after); why != "" || err != nil {
		s.t.Errorf("the certificate of kubelet: %q, %v", why, err)
	}
}

func TestSimulation_RepairRecoversFromAKillBeforeAnyChange(t *testing.T) {
	s := newSimulation(t)
	end, out, err := s.repair(s.moved, nil)
	testkit.Must(t, err)
	if !out.Changed {
		t.Error("it changed nothing")
	}
	s.checkMoved(end)
	again, out, err := s.repair(end, nil)
	if d := sim.Differences(end, again); err != nil || out.Changed || len(d) > 0 {
		t.Errorf("a second repair: changed %v, %v\n%s", out.Changed, err, strings.Join(d, "\n"))
	}

	var names []string
	var states []sim.State
	_, _, err = s.repair(s.moved, func(moment string, left sim.State) {
		if n := len(states); n == 0 || !maps.Equal(states[n-1], left) {
			names, states = append(names, moment), append(states, left)
		}
	})
	testkit.Must(t, err)
	for i, left := range states {
		again, _, err := s.repair(left, nil)
		if d := sim.Differences(lasting(end), lasting(again)); err != nil || len(d) > 0 {
			t.Errorf("%s: %v\n%s", names[i], err, strings.Join(d, "\n"))
			continue
		}
		j, err := journal.Open(sim.New(t, again).Host(), dataDir, sim.Now)
		testkit.Must(t, err)
		if _, unfinished := j.LastUnfinished(); unfinished {
			t.Errorf("%s: the journal has an unfinished run", names[i])
		}
	}
	if len(states) < 40 {
		t.Errorf("only %d states", len(states))
	}
	t.Logf("%d states", len(states))
}

// A host that is switched off during the repair does not start k0s before its unit has the new address, and with it starts
// no pod of before.
func TestSimulation_RepairRecoversFromARebootAtAnyMoment(t *testing.T) {
	s := newSimulation(t)
	end, _, err := s.repair(s.moved, nil)
	testkit.Must(t, err)
	var names []string
	var states []sim.State
	_, _, err = s.repair(s.moved, func(moment string, left sim.State) {
		if strings.HasSuffix(moment, ":ended") {
			names, states = append(names, moment), append(states, left)
		}
	})
	testkit.Must(t, err)
	for i, left := range states {
		m := sim.New(t, left)
		enabled := false
		if st, err := m.Host().UnitState(t.Context(), k0s.ControllerUnit); err == nil {
			enabled = st.Enable == "enabled"
		}
		unit := left["/etc/systemd/system/"+k0s.ControllerUnit].Data
		if enabled && strings.Contains(unit, before) {
			t.Errorf("%s: a reboot would start k0s with the former address", names[i])
		}
		if enabled {
			testkit.Must(t, m.Host().StopUnit(t.Context(), k0s.ControllerUnit), m.Host().StartUnit(t.Context(), k0s.ControllerUnit))
		}
		again, _, err := s.repair(m.State, nil)
		if d := sim.Differences(lasting(end), lasting(again)); err != nil || len(d) > 0 {
			t.Errorf("%s: %v\n%s", names[i], err, strings.Join(d, "\n"))
		}
	}
	if len(states) < 8 {
		t.Errorf("only %v", names)
	}
}
