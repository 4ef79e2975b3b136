package backup

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/faulttest"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host/hosttest/sim"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/ui"
)

// The simulation writes a backup on a simulated host, with the real engine, step runner and file format. It stops at every
// failpoint, before every change of the host and in the middle of each file: the state at that moment is what a kill would
// leave.

const simFolder = "/mnt/backup"

// simulation is what all runs share.
type simulation struct {
	t      *testing.T
	points []failpoint.Point
}

// newSimulation returns a simulation, and a controller with two backups, which are all that are kept.
func newSimulation(t *testing.T) (*simulation, sim.State) {
	t.Helper()
	points, err := faulttest.Points()
	testkit.Must(t, err)
	s := &simulation{t: t, points: points}
	state := sim.NewHost()
	ca, err := pki.NewCA("kubernetes-ca", sim.Now())
	testkit.Must(t, err)
	for p, data := range map[string]string{k0s.CACertPath: string(ca.Cert), k0s.ConfigPath: "kind: ClusterConfig\n",
		"/etc/systemd/system/" + k0s.ControllerUnit:                         "[Service]\n",
		"/etc/systemd/system/multi-user.target.wants/" + k0s.ControllerUnit: "", dataDir + "/bundle/index.json": "{}"} {
		state.PutFile(p, data, 0o600)
	}
	state.PutFile(simFolder, "", fs.ModeDir|0o755)
	state["running "+k0s.ControllerUnit] = sim.Object{}
	m := sim.New(t, state)
	j, err := journal.Open(m.Host(), dataDir, sim.Now)
	testkit.Must(t, err, j.BeginRun("install", journal.Args{Cluster: "my-app"}), j.EndRun(nil), journal.WriteReceipt(m.Host(), dataDir,
		journal.Receipt{Name: "my-app", Role: "controller", Node: "n1", Versions: map[string]string{"k0s": "v1.33.8+k0s.1"}, UpdatedAt: sim.Now()}))
	state = m.State
	for hour := range 2 {
		state, err = s.backup(state, time.Duration(hour)*time.Hour, nil)
		testkit.Must(t, err)
	}
	return s, state
}

// slowData is the data of a cluster whose snapshot of etcd comes in two halves, with a moment between them.
type slowData struct {
	fakeData
	between func()
}

func (d slowData) EtcdSnapshot(context.Context) (io.ReadCloser, error) {
	halves := 0
	return io.NopCloser(readerFunc(func(p []byte) (int, error) {
		if halves == 2 {
			return 0, io.EOF
		}
		if halves++; halves == 2 {
			d.between()
		}
		return copy(p, "half"), nil
	})), nil
}

// backup writes a backup on a host in state, that long after the install, with see called for every moment. It returns the state
// at the end.
func (s *simulation) backup(state sim.State, after time.Duration, see func(string, sim.State)) (sim.State, error) {
	m := sim.New(s.t, state)
	var failpoints *failpoint.Set
	moment := func(what string) {
		if see != nil {
			see(what, m.Copy())
		}
	}
	m.OnChange = func(what string) { moment("before " + what) }
	if see != nil {
		failpoints = failpoint.Observe(s.points, func(p failpoint.Point) { moment(p.String()) })
	}
	now := func() time.Time { return sim.Now().Add(after) }
	env := &action.Env{Host: m.Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Failpoints: failpoints, Now: now,
		Events: func(e step.Event) { moment("event " + e.Message) }, Note: func(string) {}, Secrets: &ui.Secrets{}}}
	env.ArmFailpoints(Verb)
	o := &operation{opts: Options{To: simFolder, Keep: 2, Lock: KeyFlags{Unencrypted: true}}, lock: format.Lock{Unencrypted: true},
		data: slowData{between: func() { moment("half of etcd") }}}
	_, err := action.ExecuteLocked(s.t.Context(), env, o.engineOperation())
	return m.State, err
}

// complete returns the backups in the folder of a state, sorted. An error means that one of them is not complete.
func complete(state sim.State) (files []string, err error) {
	for p, thing := range state {
		if path.Dir(p) != simFolder || !strings.HasSuffix(p, format.Suffix) {
			continue
		}
		_, broken := format.Verify(func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(thing.Data)), nil }, format.Key{})
		files, err = append(files, p), errors.Join(err, broken)
	}
	slices.Sort(files)
	return files, err
}

func TestSimulation_AKillAtAnyMomentLeavesCompleteBackupsOnly(t *testing.T) {
	s, start := newSimulation(t)
	var names []string
	var states []sim.State
	end, err := s.backup(start, 2*time.Hour, func(what string, left sim.State) {
		if n := len(states); n == 0 || !maps.Equal(states[n-1], left) {
			names, states = append(names, what), append(states, left)
		}
	})
	testkit.Must(t, err)
	if files, err := complete(end); err != nil || len(files) != 2 {
		t.Fatalf("%q %v", files, err)
	}
	partial := 0
	for i, left := range states {
		if files, err := complete(left); err != nil || len(files) < 2 {
			t.Errorf("%s: %q %v", names[i], files, err)
		}
		partial += len(slices.DeleteFunc(slices.Collect(maps.Keys(left)), func(p string) bool { return !strings.HasPrefix(p, simFolder+"/.") }))
		again, err := s.backup(left, 48*time.Hour, nil)
		if err != nil {
			t.Errorf("%s: %v", names[i], err)
			continue
		}
		files, err := complete(again)
		all := slices.DeleteFunc(slices.Collect(maps.Keys(again)), func(p string) bool { return !strings.HasPrefix(p, simFolder+"/") })
		if err != nil || len(files) != 2 || len(all) != 2 {
			t.Errorf("%s: the folder has %q, %v", names[i], all, err)
		}
		r, ok, err := ReadRecord(sim.New(t, again).Host(), dataDir)
		if err != nil || !ok || r.Path != files[len(files)-1] || r.FailedAt != nil {
			t.Errorf("%s: the record is %+v, %v", names[i], r, err)
		}
		if _, ok := again[spoolDir(dataDir)]; ok {
			t.Errorf("%s: the copy of etcd is left", names[i])
		}
	}
	if len(states) < 8 || partial == 0 {
		t.Errorf("only %d states, %d of them in the middle of the backup: %q", len(states), partial, names)
	}
	t.Logf("%d states", len(states))
}
