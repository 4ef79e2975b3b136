package kube_test

import (
	"encoding/json"
	"testing"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
)

// putWorkload stores a workload of namespace shop whose pods have the label app=NAME.
func putWorkload(s *kubetest.Server, plural, kind, name string, replicas int, status map[string]any) {
	s.Put("/apis/apps/v1/namespaces/shop/"+plural+"/"+name, map[string]any{"apiVersion": "apps/v1", "kind": kind, "metadata": map[string]any{"name": name, "namespace": "shop", "generation": int64(1)},
		"spec": map[string]any{"replicas": replicas, "selector": map[string]any{"matchExpressions": []any{map[string]any{"key": "app", "operator": "In", "values": []any{name}}}}}, "status": status})
}

// putPod stores a pod on node n1 with the label app=APP.
func putPod(s *kubetest.Server, namespace, name, app string, meta, spec, status map[string]any) {
	pod := newPod(namespace, name, meta, spec)
	pod["metadata"].(map[string]any)["labels"] = map[string]any{"app": app}
	if status != nil {
		pod["status"] = status
	}
	s.Put("/api/v1/namespaces/"+namespace+"/pods/"+name, pod)
}

// podStatus returns the status of a pod that is Ready, or whose container waits for a reason.
func podStatus(reason string) map[string]any {
	if reason == "" {
		return map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}
	}
	return map[string]any{"phase": "Running", "containerStatuses": []any{map[string]any{"name": "main", "state": map[string]any{"waiting": map[string]any{"reason": reason}}}}}
}

func TestHealth_GathersNodesPodsAndWorkloads(t *testing.T) {
	s, c := kubetest.New(t)
	s.Put("/api/v1/nodes/n1", map[string]any{"metadata": map[string]any{"name": "n1"}, "spec": map[string]any{"unschedulable": true},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "no network"}}}})
	s.Put("/api/v1/nodes/n2", map[string]any{"metadata": map[string]any{"name": "n2"}, "status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}})
	putPod(s, "kube-system", "kube-router-a", "x", withOwner("DaemonSet"), nil, podStatus("ErrImagePull"))
	putPod(s, "kube-system", "coredns-a", "x", withOwner("ReplicaSet"), nil, podStatus("ErrImagePull"))
	putPod(s, "shop", "agent-a", "agent", withOwner("DaemonSet"), nil, podStatus(""))
	putPod(s, "shop", "web-a", "web", withOwner("ReplicaSet"), nil, podStatus(""))
	putPod(s, "shop", "web-b", "web", withOwner("ReplicaSet"), nil, podStatus("CrashLoopBackOff"))
	putPod(s, "other", "web-c", "web", withOwner("ReplicaSet"), nil, podStatus("ImagePullBackOff"))
	putWorkload(s, "deployments", "Deployment", "web", 2, map[string]any{"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1})
	putWorkload(s, "statefulsets", "StatefulSet", "db", 1, map[string]any{"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1})
	putWorkload(s, "daemonsets", "DaemonSet", "agent", 1, map[string]any{"observedGeneration": 1, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberReady": 1})
	got, err := kube.Health(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(got)
	const want = `{"nodes":[{"name":"n1","ready":false,"cordoned":true,"reason":"KubeletNotReady: no network"},{"name":"n2","ready":true}],` +
		`"pods":[{"node":"n1","daemonSet":"x","reason":"kube-router-a: main ErrImagePull"}],` +
		`"workloads":[{"kind":"Deployment","namespace":"shop","name":"web","ready":1,"reason":"1 of 2 pods Ready; pod web-b: main CrashLoopBackOff"},` +
		`{"kind":"StatefulSet","namespace":"shop","name":"db","ready":1},{"kind":"DaemonSet","namespace":"shop","name":"agent","ready":1}]}`
	if string(text) != want {
		t.Errorf("%s\nwant\n%s", text, want)
	}
	if writes := s.Writes(); len(writes) > 0 {
		t.Errorf("it writes: %q", writes)
	}
}
