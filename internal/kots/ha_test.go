package kots

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
)

const datastorePath = "/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm-rqlite"

// putControllers stores n Ready controllers, and one that is not Ready, in the
// cluster.
func putControllers(t *testing.T, s *kubetest.Server, c *kube.Client, n int) {
	t.Helper()
	for i := range n + 1 {
		status := "True"
		if i == n {
			status = "False"
		}
		name := fmt.Sprint("n", i)
		kubetest.RecordNodes(t, c, kube.NodeRecord{Node: name, Role: "controller"})
		s.Put("/api/v1/nodes/"+name, map[string]any{"metadata": map[string]any{"name": name},
			"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": status}}}})
	}
	// A worker that calls itself a controller does not count.
	kubetest.RecordNodes(t, c, kube.NodeRecord{Node: "w", Role: "worker"})
	for _, name := range []string{"w", "unknown"} {
		s.Put("/api/v1/nodes/"+name, map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{"node.k0sproject.io/role": "control-plane"}},
			"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}})
	}
}

// scaleDatastore sets the number of replicas of the datastore.
func scaleDatastore(s *kubetest.Server, n int) {
	set := s.Object(datastorePath)
	set["spec"] = map[string]any{"replicas": n}
	set["status"] = map[string]any{"observedGeneration": 1, "replicas": n, "updatedReplicas": n, "readyReplicas": n}
	s.Put(datastorePath, set)
}

func TestHANeeded_RequiresThreeReadyControllers(t *testing.T) {
	k, fake, s := newBench(t)
	if why, err := k.HANeeded(t.Context()); why != "" || err != nil {
		t.Errorf("without a console: %q %v", why, err)
	}
	putConsole(s, "1.131.2")
	putControllers(t, s, k.Kube, 2)
	if why, err := k.HANeeded(t.Context()); why != "" || err != nil {
		t.Errorf("two controllers: %q %v", why, err)
	}
	putControllers(t, s, k.Kube, 3)
	if why, err := k.HANeeded(t.Context()); why != "3 controllers are Ready, but the console's data is on 1" || err != nil {
		t.Errorf("three controllers: %q %v", why, err)
	}
	fake.Expect("kots enable-ha --wait-duration 20s --namespace kotsadm").Do(func(host.Cmd) { scaleDatastore(s, 3) })
	if err := k.EnableHA(t.Context(), longWait()); err != nil {
		t.Fatal(err)
	}
	if why, err := k.HANeeded(t.Context()); why != "" || err != nil {
		t.Errorf("replicated: %q %v", why, err)
	}
}

func TestEnableHA_WaitsForReplicationByAnotherController(t *testing.T) {
	k, fake, s := newBench(t)
	putConsole(s, "1.131.2")
	putControllers(t, s, k.Kube, 3)
	fake.Expect("kots enable-ha --wait-duration 20s --namespace kotsadm").Return("", errors.New("the object has been modified")).Do(func(host.Cmd) { scaleDatastore(s, 3) })
	if err := k.EnableHA(t.Context(), longWait()); err != nil {
		t.Errorf("started by another controller: %v", err)
	}
	scaleDatastore(s, 1)
	fake.Expect("kots enable-ha --wait-duration 20s --namespace kotsadm").Return("", errors.New("disk full"))
	if err := k.EnableHA(t.Context(), longWait()); problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("not started: %v", err)
	}
}
