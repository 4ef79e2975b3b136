package upgrade_test

import (
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/upgrade"
)

func TestDrainWarnings(t *testing.T) {
	web := upgrade.Pod{Namespace: "shop", Name: "web-1", Node: "n1"}
	one := func(namespace, name string) upgrade.Placement {
		return upgrade.Placement{Kind: "Deployment", Namespace: namespace, Name: name, Replicas: 1, Nodes: []string{"n1"}}
	}
	for name, c := range map[string]struct {
		in   upgrade.Disruptions
		want []string
	}{
		"an ordinary pod": {upgrade.Disruptions{Pods: []upgrade.Pod{web}}, nil},
		"another node":    {upgrade.Disruptions{Pods: []upgrade.Pod{{Namespace: "shop", Name: "x", Node: "n9", EmptyDirs: []string{"tmp"}}}}, nil},
		"no eviction allowed": {upgrade.Disruptions{Pods: []upgrade.Pod{web}, Budgets: []upgrade.Budget{{Namespace: "shop", Name: "web", Healthy: 1, Required: 1, Pods: []string{"web-1"}}}},
			[]string{"a PodDisruptionBudget allows no eviction now, so the drain waits: shop/web (1 healthy, 1 required)"}},
		"one eviction allowed": {upgrade.Disruptions{Pods: []upgrade.Pod{web}, Budgets: []upgrade.Budget{{Namespace: "shop", Name: "web", Allowed: 1, Pods: []string{"web-1"}}}}, nil},
		"a budget of pods that stay": {upgrade.Disruptions{Pods: []upgrade.Pod{web}, Budgets: []upgrade.Budget{
			{Namespace: "shop", Name: "db", Pods: []string{"db-1"}}, {Namespace: "other", Name: "web", Pods: []string{"web-1"}}, {Namespace: "shop", Name: "none"}}}, nil},
		"two budgets for one pod": {upgrade.Disruptions{Pods: []upgrade.Pod{web}, Budgets: []upgrade.Budget{
			{Namespace: "shop", Name: "a", Allowed: 1, Pods: []string{"web-1"}}, {Namespace: "shop", Name: "b", Allowed: 1, Pods: []string{"web-1"}}, {Namespace: "shop", Name: "c", Allowed: 1, Pods: []string{"web-1"}}}},
			[]string{"the pod has several PodDisruptionBudgets, and Kubernetes refuses to evict it: shop/web-1"}},
		"scratch space": {upgrade.Disruptions{Pods: []upgrade.Pod{
			{Namespace: "shop", Name: "db-0", Node: "n2", EmptyDirs: []string{"tmp", "run"}}, {Namespace: "kotsadm", Name: "x", Node: "n1", EmptyDirs: []string{"tmp"}}}},
			[]string{"the pod's data in emptyDir volumes is lost: shop/db-0"}},
		"single replicas": {upgrade.Disruptions{Workloads: []upgrade.Placement{
			{Kind: "Deployment", Namespace: "shop", Name: "web", Replicas: 1, Nodes: []string{"n1"}}, {Kind: "Deployment", Namespace: "shop", Name: "two", Replicas: 2, Nodes: []string{"n1"}},
			{Kind: "StatefulSet", Namespace: "shop", Name: "away", Replicas: 1, Nodes: []string{"n9"}}, {Kind: "StatefulSet", Namespace: "kotsadm", Name: "kotsadm", Replicas: 1, Nodes: []string{"n1"}}}},
			[]string{"the workload has one replica and is down while it moves: Deployment shop/web"}},
		"many": {upgrade.Disruptions{Workloads: []upgrade.Placement{one("z", "g"), one("a", "a"), one("a", "b"), one("a", "c"), one("a", "d"), one("a", "e")}},
			[]string{"the workload has one replica and is down while it moves: Deployment a/a, Deployment a/b, Deployment a/c, Deployment a/d, Deployment a/e and 1 more"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, w := range upgrade.DrainWarnings(c.in, []string{"n1", "n2"}, []string{"kotsadm"}) {
				got = append(got, w.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
