package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/failpoint"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest/sim"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/velero"
)

// The simulation restores a snapshot on a simulated host, with the real journal, step runner, engine and the real steps of the
// restore, over a simulated cluster: an API server in memory, and a Velero and a console that do with it what the real ones do.
// It stops at every boundary of a step and before every change of the cluster: the state at that moment is what a kill would
// leave. From each of them the same command has to finish, whether Velero has continued meanwhile or was stopped, too.

// Paths of objects of the simulated cluster.
const (
	restoresPath  = "/apis/velero.io/v1/namespaces/velero/restores/"
	backupsPath   = "/apis/velero.io/v1/namespaces/velero/backups/"
	locationPath  = "/apis/velero.io/v1/namespaces/velero/backupstoragelocations/default"
	consolePath   = "/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm"
	databasePath  = "/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm-rqlite"
	appPath       = "/apis/apps/v1/namespaces/kotsadm/deployments/app"
	volumePath    = "/api/v1/namespaces/registry/persistentvolumeclaims/registry"
	imagesPath    = "/api/v1/namespaces/registry/configmaps/simulated-images" // the content of the registry
	registryReady = "/apis/apps/v1/namespaces/registry/deployments/registry"
)

// snapshotSimulation is what all runs share.
type snapshotSimulation struct {
	t       *testing.T
	restore plan.SnapshotRestore
	in      *spec.Installer
	parts   []addons.AddOn
	points  []failpoint.Point
	config  []byte       // kubeconfig of the simulated cluster
	handler http.Handler // its API server in the current run
}

func newSnapshotSimulation(t *testing.T, r plan.SnapshotRestore) *snapshotSimulation {
	t.Helper()
	if raceDetector {
		t.Skip("make test-unit runs this without the race detector, which takes several times as long")
	}
	base := newNewHostSimulation(t)
	s := &snapshotSimulation{t: t, restore: r, in: base.in, points: base.points}
	s.in.Spec.Velero = &spec.Velero{Version: "1.18.3", ObjectStore: spec.ObjectStore{Mode: "none"}}
	var err error
	s.parts, err = addons.Resolve(s.in, dataDir)
	testkit.Must(t, err)
	s.config = kubetest.Kubeconfig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }))
	return s
}

// objectKey is the beginning of the keys of the cluster's objects in a sim.State.
const objectKey = "object "

// cluster is the simulated cluster of one run.
type cluster struct {
	*kubetest.Server
	t       *testing.T
	machine *sim.Machine
	see     func(moment string) // called at each moment; never nil
}

// newCluster returns the cluster whose objects are in state.
func (s *snapshotSimulation) newCluster(state sim.State) *cluster {
	server, _ := kubetest.New(s.t)
	objects := map[string]string{}
	for key, object := range state {
		if at, ok := strings.CutPrefix(key, objectKey); ok {
			objects[at] = object.Data
		}
	}
	testkit.Must(s.t, server.Load(objects))
	c := &cluster{Server: server, t: s.t, machine: sim.New(s.t, state), see: func(string) {}}
	s.handler = c
	return c
}

// state returns what a kill would leave now.
func (c *cluster) state() sim.State {
	all := maps.Clone(c.machine.State)
	maps.DeleteFunc(all, func(key string, _ sim.Object) bool { return strings.HasPrefix(key, objectKey) })
	for at, text := range c.Dump() {
		all[objectKey+at] = sim.Object{Data: text}
	}
	return all
}

// put stores an object whose status its controller has set.
func (c *cluster) put(at, apiVersion, kind string, more map[string]any) {
	parts := strings.Split(at, "/")
	obj := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": parts[len(parts)-1], "namespace": parts[len(parts)-3]}}
	maps.Copy(obj, more)
	kubetest.MarkReady(obj)
	c.Put(at, obj)
}

// ServeHTTP serves the API, and lets the controllers of the cluster react before the client gets its response.
func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		c.Server.ServeHTTP(w, r)
		return
	}
	c.see("before " + r.Method + " " + r.URL.Path)
	c.refuseLoss(r)
	response := httptest.NewRecorder()
	c.Server.ServeHTTP(response, r)
	switch {
	case r.URL.Path == locationPath && c.Object(locationPath)["status"] == nil:
		location := c.Object(locationPath)
		location["status"] = map[string]any{"phase": "Available"}
		c.Put(locationPath, location)
		for _, name := range []string{"s1", "s1-registry"} {
			c.put(backupsPath+name, "velero.io/v1", "Backup", map[string]any{"status": map[string]any{"phase": "Completed"}})
		}
	case strings.HasPrefix(r.URL.Path, restoresPath) && r.Method == http.MethodPatch:
		c.runRestore(strings.TrimPrefix(r.URL.Path, restoresPath))
	}
	maps.Copy(w.Header(), response.Header())
	w.WriteHeader(response.Code)
	_, _ = io.Copy(w, response.Body)
}

// refuseLoss fails the test for a request that removes what a complete restore has restored.
func (c *cluster) refuseLoss(r *http.Request) {
	for at, restore := range map[string]string{consolePath: "s1.kotsadm", databasePath: "s1.kotsadm", volumePath: "s1.plinth-registry", appPath: "s1.my-app"} {
		if r.Method == http.MethodDelete && r.URL.Path == at && c.phase(restore) == "Completed" {
			c.t.Errorf("%s is removed after the restore %s", at, restore)
		}
	}
}

// phase returns the phase of a restore, "" for none.
func (c *cluster) phase(restore string) string {
	status, _ := c.Object(restoresPath + restore)["status"].(map[string]any)
	phase, _ := status["phase"].(string)
	return phase
}

func (c *cluster) setPhase(restore, phase string) {
	obj := c.Object(restoresPath + restore)
	obj["status"] = map[string]any{"phase": phase}
	c.Put(restoresPath+restore, obj)
}

// runRestore does what Velero does with a new restore.
func (c *cluster) runRestore(name string) {
	if phase := c.phase(name); phase != "" {
		c.t.Errorf("the restore %s is written again in phase %s", name, phase)
		return
	}
	spec, _ := c.Object(restoresPath + name)["spec"].(map[string]any)
	if snapshot, _ := spec["backupName"].(string); c.Object(backupsPath+snapshot) == nil {
		c.t.Errorf("the restore %s begins before Velero knows the snapshot %q", name, snapshot)
	}
	c.setPhase(name, "InProgress")
	c.see("Velero has begun " + name)
	c.continueRestore(name)
}

// continueRestore restores the objects and volumes of a restore that has begun.
func (c *cluster) continueRestore(name string) {
	label := map[string]any{"kots.io/kotsadm": "true"}
	set := func(at, image string, replicas int) {
		c.put(at, "apps/v1", "StatefulSet", map[string]any{
			"metadata": map[string]any{"name": at[strings.LastIndex(at, "/")+1:], "namespace": "kotsadm", "labels": label},
			"spec": map[string]any{"replicas": replicas, "template": map[string]any{"spec": map[string]any{
				"nodeSelector": map[string]any{"node.k0sproject.io/role": "control-plane"},
				"containers":   []any{map[string]any{"name": "kotsadm", "image": image}}}}}})
	}
	switch name {
	case "s1.plinth-registry":
		c.put(volumePath, "v1", "PersistentVolumeClaim", nil)
		c.put("/api/v1/namespaces/registry/pods/registry-1", "v1", "Pod", map[string]any{
			"metadata": map[string]any{"name": "registry-1", "namespace": "registry", "labels": map[string]any{"velero.io/restore-name": name}}})
		c.see("Velero has restored the objects of " + name)
		c.put(imagesPath, "v1", "ConfigMap", nil)
	case "s1.kotsadm": // of three controllers
		set(databasePath, "rqlite:8", 3)
		c.see("Velero has restored some objects of " + name)
		set(consolePath, "docker.io/kotsadm/kotsadm:v1.131.2", 1)
		c.put("/api/v1/namespaces/kotsadm/services/kotsadm", "v1", "Service", map[string]any{
			"metadata": map[string]any{"name": "kotsadm", "namespace": "kotsadm", "labels": label}})
	case "s1.my-app":
		c.put(appPath, "apps/v1", "Deployment", nil)
	default:
		c.t.Errorf("unknown restore %s", name)
	}
	c.see("Velero has restored all of " + name)
	c.setPhase(name, "Completed")
}

// restart lets Velero continue what it was doing, or gives it up as Velero does when it is started again.
func (c *cluster) restart(gaveUp bool) {
	for _, name := range []string{"s1.plinth-registry", "s1.kotsadm", "s1.my-app"} {
		switch {
		case c.phase(name) != "InProgress":
		case gaveUp:
			c.setPhase(name, "Failed")
		default:
			c.continueRestore(name)
		}
	}
}

// Run runs the kots CLI, and any other command on the host.
func (c *cluster) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	if cmd.Argv[0] != kots.BinaryPath {
		return c.machine.Run(ctx, cmd)
	}
	line := strings.Join(cmd.Argv[1:], " ")
	c.see("before kots " + line)
	switch {
	case strings.HasPrefix(line, "get apps -o json"):
		state := "unavailable"
		if c.phase("s1.my-app") == "Completed" && c.Object(imagesPath) != nil {
			state = "ready"
		} else {
			c.t.Errorf("the application cannot be ready yet: %s, images %v", c.phase("s1.my-app"), c.Object(imagesPath) != nil)
		}
		return fmt.Appendf(nil, `[{"slug":"my-app","state":%q,"versionLabel":"1.0.0"}]`, state), nil
	case strings.HasPrefix(line, "restore --from-backup s1 --velero-namespace velero --exclude-admin-console"):
		if c.Object(consolePath) == nil || c.phase("s1.my-app") != "" {
			return nil, fmt.Errorf("console %v, restore %s", c.Object(consolePath) != nil, c.phase("s1.my-app"))
		}
		c.Remove(appPath) // KOTS removes what exists of the application first
		c.put(restoresPath+"s1.my-app", "velero.io/v1", "Restore", map[string]any{"spec": map[string]any{"backupName": "s1"}})
		c.runRestore("s1.my-app")
		return nil, nil
	case strings.HasPrefix(line, "admin-console push-images /app.airgap 10.96.0.11:5000/my-app"):
		if c.Object(registryReady) == nil || !slices.Contains(cmd.Env, "KOTS_REGISTRY_PASSWORD=secret") {
			return nil, errors.New("the registry does not run, or refuses the password")
		}
		c.put(imagesPath, "v1", "ConfigMap", nil)
		c.see("the images are pushed")
		return nil, nil
	}
	c.t.Errorf("unknown command: kots %s", line)
	return nil, errors.New("unknown command")
}

// chartStep returns a step that installs a chart in the simulated cluster: the workload at path.
func (c *cluster) chartStep(st step.Step, at string, before func() error) step.Step {
	st.Check = func(ctx context.Context) (step.State, error) {
		if why, err := (k0s.Service{Host: c.machine.Host()}).DownReason(ctx); err != nil || why != "" {
			return step.Unknown("k0s-start"), err
		}
		if c.Object(at) == nil {
			return step.Needed("it is not installed"), nil
		}
		return step.Done(), nil
	}
	st.Apply = func(context.Context, step.Report) error {
		if err := before(); err != nil {
			return err
		}
		c.see("before the workload of " + st.ID)
		c.put(at, "apps/v1", "Deployment", nil)
		return nil
	}
	return st
}

// simulateSteps returns the steps of the restore that the simulated host can run.
func (s *snapshotSimulation) simulateSteps(c *cluster, steps []step.Step) (all []step.Step) {
	for _, st := range steps {
		switch st.ID {
		case "data-dir", "kernel", "k0s-config", "k0s-service", "restore-credentials", "restore-location", "restore-find", "restore-registry", "restore-console",
			"console", "registry-announce", "restore-images", "restore-application", "restore-writable":
		case "k0s-start":
			apply := st.Apply
			st.Apply = func(ctx context.Context, report step.Report) error {
				err := apply(ctx, report)
				return errors.Join(err, c.machine.Host().Write(k0s.AdminConf, strings.NewReader(string(s.config)), 0o600))
			}
		case "velero":
			st = c.chartStep(st, "/apis/apps/v1/namespaces/velero/deployments/velero", func() error {
				if c.Object("/api/v1/namespaces/velero/secrets/cloud-credentials") == nil {
					return errors.New("Velero starts without credentials")
				}
				return nil
			})
		case "registry":
			st = c.chartStep(st, registryReady, func() error {
				if s.restore.RegistrySnapshot != "" && c.phase("s1.plinth-registry") != "Completed" {
					return errors.New("the registry starts with an empty volume")
				}
				c.put("/api/v1/namespaces/registry/secrets/registry-htpasswd", "v1", "Secret", map[string]any{"data": map[string]any{"password": []byte("secret")}})
				return nil
			})
		default:
			continue
		}
		all = append(all, st)
	}
	return all
}

// run runs the restore from state, with see called for every moment, and returns the state at its end. gaveUp is whether Velero
// was stopped together with the run before.
func (s *snapshotSimulation) run(state sim.State, gaveUp bool, see func(string, sim.State)) (sim.State, error) {
	c := s.newCluster(state)
	c.restart(gaveUp)
	if _, ok := state["running "+k0s.ControllerUnit]; ok { // k0s writes it by itself
		c.machine.State.PutFile(k0s.AdminConf, string(s.config), 0o600)
	}
	var failpoints *failpoint.Set
	if see != nil {
		c.see = func(moment string) { see(moment, c.state()) }
		failpoints = failpoint.Observe(s.points, func(p failpoint.Point) { c.see(p.String()) })
	}
	machine := c.machine.Host()
	machine.Commands = c
	_, op := simulatedOperation("snapshot s1 s3://b")
	op.Steps = func(_ context.Context, env *action.Env) ([]step.Step, error) {
		p := plan.Cluster{Host: env.Host, StateStore: env.Journal(), Now: env.Now, DataDir: dataDir, NodeName: "n9", CleanupScope: env.CleanupScope(), AddOns: s.parts,
			Console: plan.Console{Namespace: "kotsadm", Desired: kots.ConsoleSpec{Slug: "my-app", Version: "1.131.2"}},
			K0s:     k0s.Service{Host: env.Host, Settings: k0s.NewSettings(s.in, "10.0.0.9", "n9")}, APIAnswers: func(context.Context) string { return "" }}
		return s.simulateSteps(c, plan.RestoreSnapshot(p, s.restore)), nil
	}
	_, err := action.ExecuteLocked(s.t.Context(), simulatedEnv(machine, failpoints), op)
	return c.state(), err
}

// check fails the test unless end is the state after a complete restore.
func (s *snapshotSimulation) check(end sim.State) {
	s.t.Helper()
	object := func(at string) (obj map[string]any) {
		_ = json.Unmarshal([]byte(end[objectKey+at].Data), &obj)
		return obj
	}
	for _, at := range []string{consolePath, appPath, imagesPath, registryReady, "/api/v1/namespaces/default/secrets/registry-creds"} {
		if object(at) == nil {
			s.t.Errorf("%s is missing", at)
		}
	}
	for key, o := range end {
		if strings.HasPrefix(key, objectKey+restoresPath) && !strings.Contains(o.Data, `"phase":"Completed"`) {
			s.t.Errorf("%s: %s", key, o.Data)
		}
	}
	if text := end[objectKey+databasePath].Data; !strings.Contains(text, `"replicas":1`) {
		s.t.Errorf("the database has more than one replica: %s", text)
	}
	if strings.Contains(end[objectKey+locationPath].Data, "ReadOnly") {
		s.t.Error("Velero may not write to the store")
	}
	if object("/api/v1/namespaces/registry/pods/registry-1") != nil {
		s.t.Error("a pod of the restore is left")
	}
	if _, ok := end[journal.ReceiptPath(dataDir)]; !ok {
		s.t.Error("there is no receipt")
	}
}

func TestSimulation_RestoreOfASnapshotRecoversFromAKillAtAnyMoment(t *testing.T) {
	store := velero.Location{URL: "https://store:9000", Bucket: "b", Cloud: velero.Credentials("id", "secret"), Region: "r"}
	for name, c := range map[string]struct {
		restore plan.SnapshotRestore
		from    string // first moment; "" for all: the other case has those before it
		least   int    // number of states
	}{
		"with the content of the registry": {plan.SnapshotRestore{RegistrySnapshot: "s1-registry", ReadOnly: true}, "", 100},
		"with an application bundle": {plan.SnapshotRestore{AppImages: plan.AppImages{Bundle: "/app.airgap", Slug: "my-app", ID: "my-app 1.0.0"}},
			"restore/restore-images:needed", 20},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.restore
			r.Snapshot, r.Location, r.KOTS, r.Apps, r.WaitApps = "s1", &store, "1.131.2", []string{"my-app"}, true
			s := newSnapshotSimulation(t, r)
			end, err := s.run(sim.NewHost(), false, nil)
			testkit.Must(t, err)
			s.check(end)
			var names []string
			var states []sim.State
			_, err = s.run(sim.NewHost(), false, func(moment string, left sim.State) {
				n := len(states)
				if n == 0 && c.from != "" && moment != c.from {
					return
				}
				if n == 0 || !maps.Equal(states[n-1], left) {
					names, states = append(names, moment), append(states, left)
				}
			})
			testkit.Must(t, err)
			for i, left := range states {
				if _, recorded := left[journal.ReceiptPath(dataDir)]; recorded { // the same command is refused: the host has a cluster
					continue
				}
				for _, gaveUp := range []bool{false, true} {
					running := slices.ContainsFunc(slices.Collect(maps.Keys(left)), func(key string) bool {
						return strings.HasPrefix(key, objectKey+restoresPath) && strings.Contains(left[key].Data, "InProgress")
					})
					if gaveUp && !running {
						continue
					}
					again, err := s.run(left, gaveUp, nil)
					if d := sim.Differences(withoutTransient(end), withoutTransient(again)); err != nil || len(d) > 0 {
						t.Errorf("%s, Velero was stopped %v: %v\n%s", names[i], gaveUp, err, strings.Join(d, "\n"))
					}
				}
			}
			if len(states) < c.least {
				t.Errorf("only %d states", len(states))
			}
			t.Logf("%d states", len(states))
		})
	}
}
