package kube_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/wait"
)

// newPod returns a pod on node n1.
func newPod(ns, name string, meta map[string]any, spec map[string]any) map[string]any {
	m := map[string]any{"name": name, "namespace": ns}
	for k, v := range meta {
		m[k] = v
	}
	s := map[string]any{"nodeName": "n1"}
	for k, v := range spec {
		s[k] = v
	}
	return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": m, "spec": s, "status": map[string]any{"phase": "Running"}}
}

func withOwner(kind string) map[string]any {
	return map[string]any{"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "1", "controller": true}}}
}

func TestPodsToEvict_SkipsPodsOfNode(t *testing.T) {
	s, c := kubetest.New(t)
	claim := map[string]any{"volumes": []any{map[string]any{"name": "v", "persistentVolumeClaim": map[string]any{"claimName": "data"}}}}
	s.Put("/api/v1/pods/web", newPod("a", "web", withOwner("ReplicaSet"), nil))
	s.Put("/api/v1/pods/db", newPod("a", "db", withOwner("StatefulSet"), claim))
	s.Put("/api/v1/pods/proxy", newPod("a", "proxy", withOwner("DaemonSet"), nil))
	s.Put("/api/v1/pods/static", newPod("a", "static", map[string]any{"annotations": map[string]any{"kubernetes.io/config.mirror": "x"}}, nil))
	s.Put("/api/v1/pods/probe", newPod("a", "probe", nil, nil))
	s.Put("/api/v1/pods/other", newPod("a", "other", nil, map[string]any{"nodeName": "n2"}))
	s.Put("/api/v1/namespaces/a/persistentvolumeclaims/data", map[string]any{"metadata": map[string]any{"name": "data"}, "spec": map[string]any{"volumeName": "pv"}})
	s.Put("/api/v1/persistentvolumes/pv", map[string]any{"metadata": map[string]any{"name": "pv"}, "spec": map[string]any{"nodeAffinity": map[string]any{"required": map[string]any{
		"nodeSelectorTerms": []any{map[string]any{"matchExpressions": []any{map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{"n1"}}}}}}}}})
	pods, err := kube.PodsToEvict(t.Context(), c, "n1")
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, p := range pods {
		got += fmt.Sprintf("%s alone=%v volumes=%v\n", p, p.Unmanaged, p.LocalPVCs)
	}
	if got != "a/db alone=false volumes=[data]\na/probe alone=true volumes=[]\na/web alone=false volumes=[]\n" {
		t.Error(got)
	}
}

func TestDrain_ReportsBudgetAndRetries(t *testing.T) {
	s, c := kubetest.New(t)
	s.Put("/api/v1/pods/web", newPod("a", "web", withOwner("ReplicaSet"), nil))
	tries := 0
	s.Evict = func(name string) string {
		if tries++; tries == 1 {
			return "The disruption budget web needs 1 healthy pods and has 1 currently"
		}
		s.Remove("/api/v1/pods/" + name)
		return ""
	}
	var reported []string
	w := kube.Wait{Timeout: 20 * time.Second, Report: func(m string, _, _ int64) { reported = append(reported, m) }}
	if err := kube.Drain(t.Context(), c, w, "n1", false); err != nil {
		t.Fatal(err)
	}
	if len(reported) == 0 || reported[0] != "pod a/web cannot be evicted: The disruption budget web needs 1 healthy pods and has 1 currently" {
		t.Errorf("%q", reported)
	}
	s.Put("/api/v1/pods/web", newPod("a", "web", withOwner("ReplicaSet"), nil))
	s.Evict = func(string) string { return "the budget allows none" }
	err := kube.Drain(t.Context(), c, kube.Wait{Timeout: 2 * time.Second}, "n1", false)
	var late *wait.TimeoutError
	if !errors.As(err, &late) || late.Reason != "pod a/web cannot be evicted: the budget allows none" {
		t.Errorf("%v", err)
	}
}

func TestHasPodsToEvict_IgnoresTerminatingPodsOfDeadNode(t *testing.T) {
	terminating := []kube.NodePod{{Name: "a", Terminating: true}}
	for name, tt := range map[string]struct {
		pods       []kube.NodePod
		dead, want bool
	}{
		"terminating pod of a dead node":    {terminating, true, false},
		"terminating pod of a running node": {terminating, false, true},
		"no pods":                           {nil, false, false},
		"running pod of a dead node":        {[]kube.NodePod{{}}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := kube.HasPodsToEvict(tt.pods, tt.dead); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

func TestPVCsOfMissingNodes_NamesTheNode(t *testing.T) {
	s, c := kubetest.New(t)
	put := func(claim, node, uid string) {
		spec := map[string]any{"claimRef": map[string]any{"namespace": "a", "name": claim, "uid": "1"}, "local": map[string]any{"path": "/v/" + claim}}
		if node != "" {
			spec["nodeAffinity"] = map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{"matchExpressions": []any{
				map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{node}}}}}}}
		}
		s.Put("/api/v1/persistentvolumes/pv-"+claim, map[string]any{"metadata": map[string]any{"name": "pv-" + claim}, "spec": spec})
		s.Put("/api/v1/namespaces/a/persistentvolumeclaims/"+claim, map[string]any{"metadata": map[string]any{"name": claim, "uid": uid}, "spec": map[string]any{"volumeName": "pv-" + claim}})
	}
	s.Put("/api/v1/nodes/n1", map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": "n1"}})
	put("here", "n1", "1")
	put("anywhere", "", "1")
	put("created-again", "n2", "2")
	put("uploads", "n2", "1")
	got, err := kube.PVCsOfMissingNodes(t.Context(), c)
	if err != nil || len(got) != 1 || got[0].String() != "a/uploads" || got[0].Node != "n2" || got[0].Path != "/v/uploads" {
		t.Errorf("%+v %v", got, err)
	}
}

func TestReleasablePVCs_OnlyOfStatefulSets(t *testing.T) {
	s, c := kubetest.New(t)
	on := func(node string) map[string]any {
		return map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{"matchExpressions": []any{
			map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{node}}}}}}}
	}
	put := func(claim, node string) {
		s.Put("/api/v1/persistentvolumes/pv-"+claim, map[string]any{"metadata": map[string]any{"name": "pv-" + claim},
			"spec": map[string]any{"claimRef": map[string]any{"namespace": "a", "name": claim, "uid": "1"}, "nodeAffinity": on(node)}})
		s.Put("/api/v1/namespaces/a/persistentvolumeclaims/"+claim, map[string]any{"metadata": map[string]any{"name": claim, "uid": "1"}, "spec": map[string]any{"volumeName": "pv-" + claim}})
	}
	// No pod uses the claims now: the controller manager creates an evicted pod again only once it has a leader.
	s.Put("/apis/apps/v1/namespaces/a/statefulsets/db", map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "db", "namespace": "a"},
		"spec": map[string]any{"volumeClaimTemplates": []any{map[string]any{"metadata": map[string]any{"name": "data"}}}}})
	put("data-db-0", "n1")
	put("data-db-1", "n2")
	for _, claim := range []string{"web", "data-db", "data-db-", "data-db-x", "data-other-0", "data-db-0-1"} {
		put(claim, "n1")
	}
	claims, err := kube.ReleasablePVCs(t.Context(), c, "n1")
	if err != nil || len(claims) != 1 || claims[0].String() != "a/data-db-0" {
		t.Fatalf("%v %v", claims, err)
	}
	if all, err := kube.LocalPVCs(t.Context(), c, "n1"); err != nil || len(all) != 7 || all[2].String() != "a/data-db-0" || !all[2].Recreated || all[6].Recreated {
		t.Errorf("all: %v %v", all, err)
	}
	if err := kube.ReleasePVCs(t.Context(), c, claims); err != nil {
		t.Fatal(err)
	}
	if s.Object("/api/v1/persistentvolumes/pv-data-db-0") != nil || s.Object("/api/v1/namespaces/a/persistentvolumeclaims/data-db-0") != nil || s.Object("/api/v1/persistentvolumes/pv-data-db-1") == nil {
		t.Error("the wrong volumes or claims were deleted")
	}
	// The volume still exists, and a new claim has the name of the released one.
	put("data-db-0", "n1")
	s.Put("/api/v1/namespaces/a/persistentvolumeclaims/data-db-0", map[string]any{"metadata": map[string]any{"name": "data-db-0", "uid": "2"}})
	if claims, err = kube.ReleasablePVCs(t.Context(), c, "n1"); err != nil || len(claims) != 0 {
		t.Errorf("after the release: %v %v", claims, err)
	}
}

func TestDrainMovable_SkipsUnmanagedPodsAndLocalVolumes(t *testing.T) {
	s, c := kubetest.New(t)
	s.Put("/api/v1/pods/web", newPod("a", "web", withOwner("ReplicaSet"), nil))
	s.Put("/api/v1/pods/alone", newPod("a", "alone", nil, nil))
	var evicted []string
	s.Evict = func(name string) string {
		evicted = append(evicted, name)
		s.Remove("/api/v1/pods/" + name)
		return ""
	}
	if err := kube.DrainMovable(t.Context(), c, kube.Wait{Timeout: 10 * time.Second}, "n1"); err != nil || len(evicted) != 1 || evicted[0] != "web" {
		t.Errorf("%q, %v", evicted, err)
	}
}

func TestReplaceablePods_AreThoseThatAnotherNodeCanRun(t *testing.T) {
	s, c := kubetest.New(t)
	s.Put("/api/v1/pods/web", newPod("a", "web", withOwner("ReplicaSet"), nil))
	s.Put("/api/v1/pods/other", newPod("b", "other", withOwner("ReplicaSet"), nil))
	s.Put("/api/v1/pods/alone", newPod("a", "alone", nil, nil))
	s.Put("/api/v1/pods/agent", newPod("a", "agent", withOwner("DaemonSet"), nil))
	pods, err := kube.ReplaceablePods(t.Context(), c, []string{"n1"}, []string{"a"})
	if err != nil || len(pods) != 1 || pods[0].String() != "a/web" {
		t.Fatalf("%v %v", pods, err)
	}
	if pods, err := kube.ReplaceablePods(t.Context(), c, []string{"n2"}, []string{"a"}); err != nil || len(pods) != 0 {
		t.Errorf("of another node: %v %v", pods, err)
	}
}

// An API server answers with 500 and no reason if etcd moves its leader, see ErrorToAPIStatus of k8s.io/apiserver.
func TestDrain_RetriesWhileTheAPIServerCannotEvict(t *testing.T) {
	for name, c := range map[string]struct {
		code int // of the first answers; 0 for a closed connection
		want string
	}{
		"etcd has no leader":          {http.StatusInternalServerError, ""},
		"the API server stops":        {http.StatusServiceUnavailable, ""},
		"the API server has stopped":  {0, ""},
		"the eviction is not allowed": {http.StatusForbidden, "evict pod a/web"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := kubetest.New(t)
			s.Put("/api/v1/pods/web", newPod("a", "web", withOwner("ReplicaSet"), nil))
			tries := 0
			s.Evict = func(pod string) string { s.Remove("/api/v1/pods/" + pod); return "" }
			client := kubetest.NewClient(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tries > 0 || !strings.HasSuffix(r.URL.Path, "/eviction") {
					s.ServeHTTP(w, r)
					return
				}
				if tries++; c.code == 0 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(c.code)
				_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"etcdserver: leader changed","code":%d}`, c.code)
			}))
			err := kube.Drain(t.Context(), client, kube.Wait{Timeout: 20 * time.Second}, "n1", false)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) || tries != 1 {
				t.Errorf("after %d tries: %v", tries, err)
			}
		})
	}
}
