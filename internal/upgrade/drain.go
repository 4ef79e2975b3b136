package upgrade

import (
	"fmt"
	"slices"
	"strings"
)

// Disruptions are the parts of a cluster that the drain of a node can take down.
type Disruptions struct {
	Budgets   []Budget
	Workloads []Placement
	Pods      []Pod
}

// Budget is a PodDisruptionBudget.
type Budget struct {
	Namespace, Name string
	Allowed         int      // pods that may be evicted now
	Healthy         int      // pods that are healthy now
	Required        int      // pods that must stay healthy
	Pods            []string // names of its pods, in its namespace
}

// Placement is a Deployment or StatefulSet and where its pods run.
type Placement struct {
	Kind, Namespace, Name string
	Replicas              int
	Nodes                 []string // of its pods that a drain evicts
}

// Pod is a pod that the drain of an upgrade evicts: not of a DaemonSet, not of kubelet, not ended, and not one that no other
// node can run meanwhile, because it has no controller or a volume that only its node has.
type Pod struct {
	Namespace, Name string
	Node            string
	EmptyDirs       []string // volumes on the disk of the node that are deleted with the pod
}

// Warning is a reason why a drain takes something down or does not end. Objects are sorted.
type Warning struct {
	ID      string   `json:"id"` // "budget", "budgets", "empty-dir", "single-replica"
	Objects []string `json:"objects"`
	Message string   `json:"message"` // what happens to the objects
}

// String returns the warning in one line with at most five objects.
func (w Warning) String() string { return w.Message + ": " + listOf(w.Objects, 5) }

// drainMessages are the texts of the warnings by their IDs, in the order in which DrainWarnings returns them.
var drainMessages = []struct{ id, message string }{
	{"budget", "a PodDisruptionBudget allows no eviction now, so the drain waits"},
	{"budgets", "the pod has several PodDisruptionBudgets, and Kubernetes refuses to evict it"},
	{"empty-dir", "the pod's data in emptyDir volumes is lost"},
	{"single-replica", "the workload has one replica and is down while it moves"},
}

// DrainWarnings returns what a drain of the nodes, one after the other, takes down or waits for. Pods and workloads of the
// namespaces in own, such as those of the add-ons, are left out: what they lose is known. Their budgets are not.
func DrainWarnings(d Disruptions, nodes, own []string) (warnings []Warning) {
	objects := map[string][]string{}
	add := func(id, format string, args ...any) { objects[id] = append(objects[id], fmt.Sprintf(format, args...)) }
	drained, budgets := map[string]bool{}, map[string]int{}
	for _, p := range d.Pods {
		if !slices.Contains(nodes, p.Node) {
			continue
		}
		name := p.Namespace + "/" + p.Name
		drained[name] = true
		if len(p.EmptyDirs) > 0 && !slices.Contains(own, p.Namespace) {
			add("empty-dir", "%s", name)
		}
	}
	for _, b := range d.Budgets {
		affected := false
		for _, pod := range b.Pods {
			name := b.Namespace + "/" + pod
			affected = affected || drained[name]
			if budgets[name]++; budgets[name] == 2 && drained[name] {
				add("budgets", "%s", name)
			}
		}
		if affected && b.Allowed == 0 {
			add("budget", "%s/%s (%d healthy, %d required)", b.Namespace, b.Name, b.Healthy, b.Required)
		}
	}
	for _, w := range d.Workloads {
		moves := slices.ContainsFunc(w.Nodes, func(n string) bool { return slices.Contains(nodes, n) })
		if w.Replicas == 1 && moves && !slices.Contains(own, w.Namespace) {
			add("single-replica", "%s %s/%s", w.Kind, w.Namespace, w.Name)
		}
	}
	for _, m := range drainMessages {
		if list := objects[m.id]; len(list) > 0 {
			slices.Sort(list)
			warnings = append(warnings, Warning{ID: m.id, Objects: list, Message: m.message})
		}
	}
	return warnings
}

// listOf returns names for a message: at most limit of them, and the number of the others.
func listOf(names []string, limit int) string {
	if more := len(names) - limit; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:limit], ", "), more)
	}
	return strings.Join(names, ", ")
}
