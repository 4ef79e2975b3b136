package upgrade_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/upgrade"
)

func TestCompare(t *testing.T) {
	healthy := func() upgrade.Health {
		return upgrade.Health{
			Nodes:     []upgrade.NodeHealth{{Name: "n1", Ready: true}, {Name: "n2", Ready: true}},
			Pods:      []upgrade.PodHealth{{Node: "n1", DaemonSet: "kube-router"}, {Node: "n2", DaemonSet: "kube-router"}},
			Checks:    []upgrade.Check{{Name: "etcd member n1"}, {Name: "the console"}},
			Workloads: []upgrade.WorkloadHealth{{Kind: "Deployment", Namespace: "shop", Name: "web", Ready: 2}, {Kind: "StatefulSet", Namespace: "shop", Name: "db", Ready: 1}},
		}
	}
	const crash = "1 of 2 pods Ready; pod web-1: main CrashLoopBackOff"
	for name, c := range map[string]struct {
		before, after func(h *upgrade.Health)
		dropped       []string
		want          []string
	}{
		"the same": {},
		"a node is not Ready": {after: func(h *upgrade.Health) {
			h.Nodes[0] = upgrade.NodeHealth{Name: "n1", Reason: "kubelet has not reported"}
		}, want: []string{"node n1: it is not Ready: kubelet has not reported"}},
		"it was not before":      {before: func(h *upgrade.Health) { h.Nodes[0].Ready = false }, after: func(h *upgrade.Health) { h.Nodes[0].Ready = false }},
		"a node is cordoned":     {after: func(h *upgrade.Health) { h.Nodes[1].Cordoned = true }, want: []string{"node n2: it is cordoned: no pods are placed on it"}},
		"it was cordoned before": {before: func(h *upgrade.Health) { h.Nodes[1].Cordoned = true }, after: func(h *upgrade.Health) { h.Nodes[1].Cordoned = true }},
		"a node is gone":         {after: func(h *upgrade.Health) { h.Nodes, h.Pods = h.Nodes[:1], h.Pods[:1] }, want: []string{"node n2: it no longer exists"}},
		"a new node":             {after: func(h *upgrade.Health) { h.Nodes = append(h.Nodes, upgrade.NodeHealth{Name: "n3"}) }},
		"a system pod":           {after: func(h *upgrade.Health) { h.Pods[1].Reason = "kube-router-x: Pending" }, want: []string{"kube-router on node n2: pod kube-router-x: Pending"}},
		"no system pod":          {after: func(h *upgrade.Health) { h.Pods = h.Pods[:1] }, want: []string{"kube-router on node n2: it has no pod there"}},
		"another network":        {after: func(h *upgrade.Health) { h.Pods[0].DaemonSet, h.Pods[1].DaemonSet = "new", "new" }},
		"a system pod as before": {before: func(h *upgrade.Health) { h.Pods[1].Reason = "x: Pending" }, after: func(h *upgrade.Health) { h.Pods[1].Reason = "x: Pending" }},
		"a check fails":          {after: func(h *upgrade.Health) { h.Checks[1].Reason = "it answers with version 1.130.9" }, want: []string{"the console: it answers with version 1.130.9"}},
		"a check is missing":     {after: func(h *upgrade.Health) { h.Checks = h.Checks[1:] }, want: []string{"etcd member n1: it was not checked"}},
		"a check failed before":  {before: func(h *upgrade.Health) { h.Checks[0].Reason = "x" }, after: func(h *upgrade.Health) { h.Checks[0].Reason = "y" }},
		"a workload":             {after: func(h *upgrade.Health) { h.Workloads[0].Ready, h.Workloads[0].Reason = 1, crash }, want: []string{"Deployment shop/web: " + crash}},
		"a rollout that hangs":   {after: func(h *upgrade.Health) { h.Workloads[0].Reason = "1 of 2 pods updated" }, want: []string{"Deployment shop/web: 1 of 2 pods updated"}},
		"fewer replicas":         {after: func(h *upgrade.Health) { h.Workloads[0].Ready = 1 }},
		"as bad as before":       {before: func(h *upgrade.Health) { h.Workloads[0].Ready, h.Workloads[0].Reason = 1, crash }, after: func(h *upgrade.Health) { h.Workloads[0].Ready, h.Workloads[0].Reason = 1, crash }},
		"worse than bad": {before: func(h *upgrade.Health) { h.Workloads[0].Ready, h.Workloads[0].Reason = 1, crash }, after: func(h *upgrade.Health) { h.Workloads[0].Ready, h.Workloads[0].Reason = 0, crash },
			want: []string{"Deployment shop/web: 0 pods are Ready, 1 were before: " + crash}},
		"a workload is gone":     {after: func(h *upgrade.Health) { h.Workloads = h.Workloads[:1] }, want: []string{"StatefulSet shop/db: it no longer exists"}},
		"the upgrade dropped it": {after: func(h *upgrade.Health) { h.Workloads = h.Workloads[:1] }, dropped: []string{"StatefulSet shop/db"}},
		"a new workload": {after: func(h *upgrade.Health) {
			h.Workloads = append(h.Workloads, upgrade.WorkloadHealth{Name: "x", Reason: "new"})
		}},
		"the likely cause first": {after: func(h *upgrade.Health) {
			h.Workloads[0].Reason, h.Checks[0].Reason, h.Pods[0].Reason, h.Nodes[1].Ready = "d", "c", "b", false
			h.Nodes[1].Reason = "a"
		},
			want: []string{"node n2: it is not Ready: a", "kube-router on node n1: pod b", "etcd member n1: c", "Deployment shop/web: d"}},
	} {
		t.Run(name, func(t *testing.T) {
			before, after := healthy(), healthy()
			for h, change := range map[*upgrade.Health]func(*upgrade.Health){&before: c.before, &after: c.after} {
				if change != nil {
					change(h)
				}
			}
			var got []string
			for _, w := range upgrade.Compare(before, after, c.dropped...) {
				got = append(got, w.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestHealth_WithoutANodeThatIsSkipped(t *testing.T) {
	node := func(name string, ready bool) upgrade.NodeHealth { return upgrade.NodeHealth{Name: name, Ready: ready} }
	web := func(reason string) []upgrade.WorkloadHealth {
		return []upgrade.WorkloadHealth{{Kind: "Deployment", Namespace: "a", Name: "web", Ready: 1, Reason: reason}}
	}
	pods := []upgrade.PodHealth{{Node: "n1", DaemonSet: "kube-router"}, {Node: "w1", DaemonSet: "kube-router"}}
	lostPod := []upgrade.PodHealth{pods[0], {Node: "w1", DaemonSet: "kube-router", Reason: "kube-router-1 is not Ready"}}
	for name, c := range map[string]struct {
		before, now upgrade.Health
		skip        []string
		want        string
	}{
		"it was lost since": {upgrade.Health{Nodes: []upgrade.NodeHealth{node("n1", true), node("w1", true)}, Pods: pods, Workloads: web("")},
			upgrade.Health{Nodes: []upgrade.NodeHealth{node("n1", true), node("w1", false)}, Pods: lostPod, Workloads: web("1 pod is missing")}, []string{"w1"}, "[]"},
		"it was lost before: workloads count": {upgrade.Health{Nodes: []upgrade.NodeHealth{node("n1", true), node("w1", false)}, Workloads: web("")},
			upgrade.Health{Nodes: []upgrade.NodeHealth{node("n1", true), node("w1", false)}, Workloads: web("1 pod is missing")}, []string{"w1"}, "[Deployment a/web: 1 pod is missing]"},
		"another one is lost": {upgrade.Health{Nodes: []upgrade.NodeHealth{node("n1", true), node("w1", true)}},
			upgrade.Health{Nodes: []upgrade.NodeHealth{node("n1", false), node("w1", false)}}, []string{"w1"}, "[node n1: it is not Ready: ]"},
		"none is skipped": {upgrade.Health{Nodes: []upgrade.NodeHealth{node("w1", true)}, Pods: pods},
			upgrade.Health{Nodes: []upgrade.NodeHealth{node("w1", false)}, Pods: lostPod}, nil, "[node w1: it is not Ready:  kube-router on node w1: pod kube-router-1 is not Ready]"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(upgrade.Compare(c.before.Without(c.skip, c.now), c.now)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if len(c.before.Nodes) == 0 || len(c.before.Pods) > 0 && c.before.Pods[0].Node != "n1" {
				t.Error("the state before was changed")
			}
		})
	}
}
