package kube_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/testkit"
)

// putSystemPod stores a pod of kube-system with one container that runs image since started.
func putSystemPod(s *kubetest.Server, name, image, started string) {
	s.Put("/api/v1/namespaces/kube-system/pods/"+name, map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": "kube-system"},
		"spec":   map[string]any{"containers": []any{map[string]any{"name": "c", "image": image}}},
		"status": map[string]any{"phase": "Running", "containerStatuses": []any{map[string]any{"name": "c", "state": map[string]any{"running": map[string]any{"startedAt": started}}}}}})
}

func TestNotRestarted_NamesAPodOfBefore(t *testing.T) {
	s, c := kubetest.New(t)
	since := time.Date(2026, 5, 1, 12, 0, 0, 900, time.UTC)
	putSystemPod(s, "new", "a", "2026-05-01T12:00:00Z") // the API server knows seconds only
	if why, err := c.NotRestarted(t.Context(), since); err != nil || why != "" {
		t.Errorf("%q, %v", why, err)
	}
	putSystemPod(s, "old", "a", "2026-05-01T11:59:59Z")
	if why, err := c.NotRestarted(t.Context(), since); err != nil || why != "pod kube-system/old has not been started again" {
		t.Errorf("%q, %v", why, err)
	}
}

func TestOldImage_NamesAPodThatIsNotReplaced(t *testing.T) {
	s, c := kubetest.New(t)
	putSystemPod(s, "coredns-1", "coredns:2", "2026-05-01T12:00:00Z")
	putSystemPod(s, "vendor-1", "other:1", "2026-05-01T12:00:00Z")
	prefixes, refs := []string{"coredns", "kube-proxy"}, []string{"coredns:2", "kube-proxy:2"}
	if why, err := c.OldImage(t.Context(), "kube-system", prefixes, refs); err != nil || why != "" {
		t.Errorf("%q, %v", why, err)
	}
	putSystemPod(s, "kube-proxy-1", "kube-proxy:1", "2026-05-01T12:00:00Z")
	if why, err := c.OldImage(t.Context(), "kube-system", prefixes, refs); err != nil || why != "pod kube-proxy-1 still runs kube-proxy:1" {
		t.Errorf("%q, %v", why, err)
	}
}

func TestNodeHeartbeat_IsThatOfTheLease(t *testing.T) {
	s, c := kubetest.New(t)
	if at, err := c.NodeHeartbeat(t.Context(), "n1"); err != nil || !at.IsZero() {
		t.Errorf("a node that never reported: %v, %v", at, err)
	}
	s.Put("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1", map[string]any{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": map[string]any{"name": "n1"}, "spec": map[string]any{"renewTime": "2026-05-01T12:00:00.123456Z"}})
	at, err := c.NodeHeartbeat(t.Context(), "n1")
	testkit.Must(t, err)
	if !at.Equal(time.Date(2026, 5, 1, 12, 0, 0, 123456000, time.UTC)) {
		t.Error(at)
	}
}

func TestIgnoringNodes_LeavesOutThePodsOfALostNode(t *testing.T) {
	s, all := kubetest.New(t)
	pod := func(name, node, image, ready string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": "kube-system"},
			"spec": map[string]any{"nodeName": node, "containers": []any{map[string]any{"name": "c", "image": image}}},
			"status": map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": ready}},
				"containerStatuses": []any{map[string]any{"name": "c", "image": image, "state": map[string]any{"running": map[string]any{"startedAt": "2026-01-01T00:00:00Z"}}}}}}
	}
	const path = "/api/v1/namespaces/kube-system/pods/"
	s.Put(path+"kube-proxy-1", pod("kube-proxy-1", "n1", "kube-proxy:2", "True"))
	s.Put(path+"kube-proxy-2", pod("kube-proxy-2", "w1", "kube-proxy:1", "False"))
	for name, c := range map[string]struct {
		client  *kube.Client
		ignored bool
	}{"all nodes": {all, false}, "without it": {all.IgnoringNodes("w1"), true}, "without another one": {all.IgnoringNodes("w2"), false},
		"only n1": {all.OnlyNode("n1"), true}, "only w1": {all.OnlyNode("w1"), false}} {
		t.Run(name, func(t *testing.T) {
			old, err := c.client.OldImage(t.Context(), "kube-system", []string{"kube-proxy"}, []string{"kube-proxy:2"})
			testkit.Must(t, err)
			unready, err := c.client.PodsReason(t.Context(), "kube-system")
			testkit.Must(t, err)
			if (old == "") != c.ignored || (unready == "") != c.ignored {
				t.Errorf("%q, %q", old, unready)
			}
		})
	}
}

func TestIgnoringNodes_LeavesOutPodsThatOnlyALostNodeCouldRun(t *testing.T) {
	pod := func(name, set, node, condition, status string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": "kube-system",
			"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": set, "controller": true}}},
			"spec": map[string]any{"nodeName": node}, "status": map[string]any{"conditions": []any{map[string]any{"type": condition, "status": status}}}}
	}
	for name, c := range map[string]struct {
		other   string // whether the other pod is Ready
		set     string // its ReplicaSet
		ignored []string
		want    string
	}{
		"another one is Ready":             {"True", "dns-1", []string{"w1"}, ""},
		"one of another template is Ready": {"True", "dns-0", []string{"w1"}, ""},
		"the other one is not Ready":       {"False", "dns-1", []string{"w1"}, "0 of 2 pods Ready; pod dns-1-a: "},
		"one of another workload is Ready": {"True", "web-1", []string{"w1"}, "1 of 2 pods Ready; pod dns-1-b: not scheduled: "},
		"all nodes are awaited":            {"True", "dns-1", nil, "1 of 2 pods Ready; pod dns-1-b: not scheduled: "},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := kubetest.New(t)
			s.Put("/api/v1/namespaces/kube-system/pods/dns-1-a", pod("dns-1-a", c.set, "n1", "Ready", c.other))
			s.Put("/api/v1/namespaces/kube-system/pods/dns-1-b", pod("dns-1-b", "dns-1", "", "PodScheduled", "False"))
			if got, err := client.IgnoringNodes(c.ignored...).PodsReason(t.Context(), "kube-system"); err != nil || got != c.want {
				t.Errorf("%q %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestReplaceOldPod_ReplacesOneAtATime(t *testing.T) {
	const pods, set = "/api/v1/namespaces/kube-system/pods/", "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy"
	pod := func(name, node, image, ready string) map[string]any {
		return map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": "kube-system",
			"ownerReferences": []any{map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "kube-proxy", "uid": "u1", "controller": true}}},
			"spec":   map[string]any{"nodeName": node, "containers": []any{map[string]any{"name": "c", "image": image}}},
			"status": map[string]any{"phase": "Running", "conditions": []any{map[string]any{"type": "Ready", "status": ready}}}}
	}
	for name, c := range map[string]struct {
		template string // image of the DaemonSet
		third    string // whether n3's pod is Ready; "" if there is none yet
		want     string // what is written
	}{
		"the first old one":             {"kube-proxy:2", "True", "[DELETE " + pods + "p1]"},
		"another one is not Ready":      {"kube-proxy:2", "False", "[]"},
		"another one is missing":        {"kube-proxy:2", "", "[]"},
		"its DaemonSet has the old one": {"kube-proxy:1", "True", "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			s, all := kubetest.New(t)
			s.Put(set, map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": map[string]any{"name": "kube-proxy", "namespace": "kube-system", "uid": "u1"},
				"spec":   map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "image": c.template}}}}},
				"status": map[string]any{"desiredNumberScheduled": 4}})
			s.Put(pods+"p1", pod("p1", "n1", "kube-proxy:1", "True"))
			s.Put(pods+"p2", pod("p2", "n2", "kube-proxy:1", "True"))
			if c.third != "" {
				s.Put(pods+"p3", pod("p3", "n3", "kube-proxy:2", c.third))
			}
			s.Put(pods+"p4", pod("p4", "w1", "kube-proxy:1", "False"))
			testkit.Must(t, all.IgnoringNodes("w1").ReplaceOldPod(t.Context(), "kube-system", []string{"p"}, []string{"kube-proxy:2"}))
			if got := fmt.Sprint(s.Writes()); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
