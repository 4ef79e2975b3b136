package kots

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestRestoredNeeded_AsksForOneReplicaAndAReadyConsole(t *testing.T) {
	for name, c := range map[string]struct {
		replicas, controllers int
		want                  string // "" if nothing is needed
	}{
		"one host":                          {1, 1, ""},
		"three replicas on one host":        {3, 1, "has 3 replicas, which need as many controllers"},
		"three replicas, three controllers": {3, 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			k, _, s := newBench(t)
			putConsole(s, "1.131.2")
			scaleDatastore(s, c.replicas)
			putControllers(t, s, k.Kube, c.controllers)
			got, err := k.RestoredNeeded(t.Context())
			if err != nil || (got == "") != (c.want == "") && !strings.Contains(got, "is not limited to controllers") || !strings.Contains(got, c.want) {
				t.Errorf("%q %v", got, err)
			}
		})
	}
	t.Run("no console", func(t *testing.T) {
		k, _, _ := newBench(t)
		if got, err := k.RestoredNeeded(t.Context()); err != nil || got == "" {
			t.Errorf("%q %v", got, err)
		}
	})
}

func TestFinishRestore_GivesTheDatastoreOneReplica(t *testing.T) {
	k, _, s := newBench(t)
	putConsole(s, "1.131.2")
	scaleDatastore(s, 3)
	testkit.Must(t, k.FinishRestore(t.Context(), ConsoleSpec{Version: "1.131.2"}, "1.131.2", shortWait()))
	if n, err := DatastoreReplicas(t.Context(), k.Kube, k.Namespace); err != nil || n != 1 {
		t.Errorf("%d replicas, %v", n, err)
	}
	if w := s.Writes(); slices.ContainsFunc(w, func(x string) bool { return strings.HasPrefix(x, "DELETE") }) {
		t.Errorf("a pod that loads its data was deleted: %q", w)
	}
}

func TestFinishRestore_WaitsForTheDataBeforeItMigratesThem(t *testing.T) {
	k, _, s := newBench(t)
	putConsole(s, "1.131.2")
	pod := "/api/v1/namespaces/kotsadm/pods/kotsadm-0"
	s.Put(pod, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "kotsadm-0", "namespace": "kotsadm"}, "status": map[string]any{"phase": "Pending"}})
	err := k.FinishRestore(t.Context(), ConsoleSpec{Version: "1.131.2"}, "1.131.1", shortWait())
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "the phase of pod kotsadm-0 is Pending") || s.Object(pod) == nil {
		t.Error(err)
	}
}

func TestRemoveConsole_RemovesOnlyWhatIsLabelled(t *testing.T) {
	k, _, s := newBench(t)
	object := func(apiVersion, kind, name string, labels map[string]any) map[string]any {
		return map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": name, "namespace": "kotsadm", "labels": labels}}
	}
	console := map[string]any{"kots.io/kotsadm": "true"}
	gone := []string{"/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm", "/api/v1/namespaces/kotsadm/persistentvolumeclaims/kotsadmdata-kotsadm-0",
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/kotsadm-role"}
	s.Put(gone[0], object("apps/v1", "StatefulSet", "kotsadm", console))
	s.Put(gone[1], object("v1", "PersistentVolumeClaim", "kotsadmdata-kotsadm-0", console))
	s.Put(gone[2], object("rbac.authorization.k8s.io/v1", "ClusterRole", "kotsadm-role", console))
	const kept = "/api/v1/namespaces/kotsadm/secrets/console-proxy"
	s.Put(kept, object("v1", "Secret", "console-proxy", nil))
	testkit.Must(t, k.RemoveConsole(t.Context(), func(string, int64, int64) {}))
	for _, path := range gone {
		if s.Object(path) != nil {
			t.Errorf("%s still exists", path)
		}
	}
	if s.Object(kept) == nil {
		t.Error("an object without the label is gone")
	}
}

func TestStartAppRestore_RunsTheCLIInTheBackground(t *testing.T) {
	k, fake, _ := newBench(t)
	const command = "kots restore --from-backup s1 --velero-namespace velero --exclude-admin-console --wait-for-apps=false --namespace kotsadm"
	fake.Expect(command)
	testkit.Must(t, k.StartAppRestore(t.Context(), "s1", "velero", nil))
	fake.Expect(command).Return("", errors.New("exit status 1"))
	if err := k.StartAppRestore(context.Background(), "s1", "velero", nil); err == nil {
		t.Error("a failure is not returned")
	}
}
