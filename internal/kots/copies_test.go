package kots

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
)

const setPath = "/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm-rqlite"

// controllers puts n Ready controllers, and one that is not, into the cluster.
func controllers(s *kubetest.Server, n int) {
	for i := range n + 1 {
		is := "True"
		if i == n {
			is = "False"
		}
		name := fmt.Sprint("n", i)
		s.Put("/api/v1/nodes/"+name, map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{"node.k0sproject.io/role": "control-plane"}},
			"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": is}}}})
	}
}

// scale says how many pods the datastore is to have.
func scale(s *kubetest.Server, n int) {
	set := s.Object(setPath)
	set["spec"] = map[string]any{"replicas": n}
	set["status"] = map[string]any{"observedGeneration": 1, "replicas": n, "updatedReplicas": n, "readyReplicas": n}
	s.Put(setPath, set)
}

func TestTheDatastoreIsCopiedOnceThreeControllersAreReady(t *testing.T) {
	k, fake, s := bench(t)
	if why, err := k.CopiesNeeded(t.Context()); why != "" || err != nil {
		t.Errorf("without a console: %q %v", why, err)
	}
	lay(s, "1.131.2")
	controllers(s, 2)
	if why, err := k.CopiesNeeded(t.Context()); why != "" || err != nil {
		t.Errorf("two controllers: %q %v", why, err)
	}
	controllers(s, 3)
	if why, err := k.CopiesNeeded(t.Context()); why != "3 controllers are there, and the console's data is on 1" || err != nil {
		t.Errorf("three controllers: %q %v", why, err)
	}
	fake.Expect("kots enable-ha --wait-duration 20s --namespace kotsadm").Do(func(host.Cmd) { scale(s, 3) })
	if err := k.Copy(t.Context(), patient()); err != nil {
		t.Fatal(err)
	}
	if why, err := k.CopiesNeeded(t.Context()); why != "" || err != nil {
		t.Errorf("copied: %q %v", why, err)
	}
}

func TestACopyThatAnotherControllerBeganIsWaitedFor(t *testing.T) {
	k, fake, s := bench(t)
	lay(s, "1.131.2")
	controllers(s, 3)
	fake.Expect("kots enable-ha --wait-duration 20s --namespace kotsadm").Return("", errors.New("the object has been modified")).Do(func(host.Cmd) { scale(s, 3) })
	if err := k.Copy(t.Context(), patient()); err != nil {
		t.Errorf("begun by another one: %v", err)
	}
	scale(s, 1)
	fake.Expect("kots enable-ha --wait-duration 20s --namespace kotsadm").Return("", errors.New("no room"))
	if err := k.Copy(t.Context(), patient()); problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "no room") {
		t.Errorf("not begun: %v", err)
	}
}
