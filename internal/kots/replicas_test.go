package kots

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube/kubetest"
)

const consolePath = "/api/v1/namespaces/kotsadm/"

func TestIsReplicatedElsewhere_RequiresSyncedMajority(t *testing.T) {
	_, c := kubetest.New(t)
	s, k := kubetest.New(t)
	scale := func(n int) {
		s.Put("/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm-rqlite", map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": map[string]any{"replicas": n}})
	}
	scale(1)
	pod := func(i int, ready string) {
		name := fmt.Sprint("kotsadm-rqlite-", i)
		s.Put(consolePath+"pods/"+name, map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{"app": "kotsadm-rqlite"}},
			"spec": map[string]any{"nodeName": fmt.Sprint("n", i)}, "status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready}}}})
	}
	synced := func(i int) string {
		return fmt.Sprintf("%spods/http:kotsadm-rqlite-%d:4001/proxy/readyz", consolePath, i)
	}
	for i := range 3 {
		pod(i, "True")
		s.Put(synced(i), map[string]any{})
	}
	isSafe := func(pod string) bool {
		t.Helper()
		safe, err := IsReplicatedElsewhere(t.Context(), k, "kotsadm", pod, "n2")
		if err != nil {
			t.Fatal(err)
		}
		return safe
	}
	if isSafe("kotsadm-rqlite-2") {
		t.Error("the datastore has one replica only")
	}
	scale(3)
	if !isSafe("kotsadm-rqlite-2") || isSafe("kotsadm-0") {
		t.Error("with three replicas")
	}
	pod(1, "False")
	if isSafe("kotsadm-rqlite-2") {
		t.Error("only one other replica is Ready")
	}
	pod(1, "True")
	s.Remove(synced(1))
	late, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	if safe, _ := IsReplicatedElsewhere(late, k, "kotsadm", "kotsadm-rqlite-2", "n2"); safe {
		t.Error("the other Ready replica has no data yet")
	}
	time.AfterFunc(300*time.Millisecond, func() { s.Put(synced(1), map[string]any{}) })
	if !isSafe("kotsadm-rqlite-2") {
		t.Error("the other replica has caught up")
	}
	if safe, err := IsReplicatedElsewhere(t.Context(), c, "kotsadm", "kotsadm-rqlite-2", "n2"); safe || err != nil {
		t.Errorf("without a console: %v %v", safe, err)
	}
}

func TestForgetData_LeavesOneReplicaAndNoApplication(t *testing.T) {
	for name, c := range map[string]struct{ before, after int64 }{"three replicas": {3, 1}, "one replica": {1, 1}, "no console": {0, 0}} {
		t.Run(name, func(t *testing.T) {
			s, k := kubetest.New(t)
			s.Put(consolePath+"configmaps/plinth-application", map[string]any{"apiVersion": "v1", "kind": "ConfigMap"})
			if c.before > 0 {
				s.Put("/apis/apps/v1/namespaces/kotsadm/statefulsets/kotsadm-rqlite", map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": map[string]any{"replicas": c.before}})
			}
			for range 2 { // a killed run repeats it
				if err := ForgetData(t.Context(), k, "kotsadm"); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := DatastoreReplicas(t.Context(), k, "kotsadm"); n != c.after || err != nil {
				t.Errorf("%d replicas, %v", n, err)
			}
			if s.Object(consolePath+"configmaps/plinth-application") != nil {
				t.Error("the application is still recorded")
			}
		})
	}
}
