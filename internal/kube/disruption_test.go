package kube_test

import (
	"fmt"
	"testing"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
)

func TestDisruptions_GathersWhatADrainTakesDown(t *testing.T) {
	s, c := kubetest.New(t)
	claim := func(name string) map[string]any {
		return map[string]any{"name": name, "persistentVolumeClaim": map[string]any{"claimName": name}}
	}
	volumes := map[string]any{"volumes": []any{claim("shared"), map[string]any{"name": "scratch", "ephemeral": map[string]any{}},
		map[string]any{"name": "tmp", "emptyDir": map[string]any{}}, map[string]any{"name": "memory", "emptyDir": map[string]any{"medium": "Memory"}}}}
	putPod(s, "shop", "db-0", "db", withOwner("StatefulSet"), map[string]any{"volumes": []any{claim("data-db-0")}}, nil)
	putPod(s, "shop", "web-1", "web", withOwner("ReplicaSet"), volumes, nil)
	putPod(s, "shop", "bare", "bare", nil, nil, nil)
	putPod(s, "shop", "agent-a", "agent", withOwner("DaemonSet"), nil, nil)
	putPod(s, "shop", "pending", "db", withOwner("StatefulSet"), map[string]any{"nodeName": ""}, nil)
	putPod(s, "shop", "done", "bare", nil, nil, map[string]any{"phase": "Succeeded"})
	putPod(s, "other", "db-9", "db", withOwner("StatefulSet"), nil, nil)
	for claim, local := range map[string]bool{"data-db-0": true, "web-1-scratch": true, "shared": false} {
		spec := map[string]any{"claimRef": map[string]any{"namespace": "shop", "name": claim}}
		if local {
			spec["nodeAffinity"] = map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{"matchExpressions": []any{
				map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{"n1"}}}}}}}
		}
		s.Put("/api/v1/persistentvolumes/pv-"+claim, map[string]any{"metadata": map[string]any{"name": "pv-" + claim}, "spec": spec})
	}
	s.Put("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/db", map[string]any{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": map[string]any{"name": "db", "namespace": "shop"},
		"spec": map[string]any{"minAvailable": "100%", "selector": map[string]any{"matchLabels": map[string]any{"app": "db"}}}, "status": map[string]any{"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0}})
	putWorkload(s, "statefulsets", "StatefulSet", "db", 1, nil)
	putWorkload(s, "deployments", "Deployment", "idle", 0, nil)
	putWorkload(s, "deployments", "Deployment", "web", 1, nil)
	d, err := kube.Disruptions(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{[{shop db 0 1 1 [db-0 pending]}] [{Deployment shop idle 0 []} {Deployment shop web 1 [n1]} {StatefulSet shop db 1 []}] [{other db-9 n1 []} {shop web-1 n1 [tmp]}]}`
	if got := fmt.Sprint(d); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if writes := s.Writes(); len(writes) > 0 {
		t.Errorf("it writes: %q", writes)
	}
}
