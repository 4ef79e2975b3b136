package upgrade

import (
	"fmt"
	"slices"
)

// Health is the state of a cluster at one moment, before or after an upgrade of a node. It is stored as JSON.
type Health struct {
	Nodes     []NodeHealth     `json:"nodes"`
	Pods      []PodHealth      `json:"pods"` // of the system, see PodHealth
	Checks    []Check          `json:"checks,omitempty"`
	Workloads []WorkloadHealth `json:"workloads"`
}

// NodeHealth is the state of a node.
type NodeHealth struct {
	Name     string `json:"name"`
	Ready    bool   `json:"ready"`
	Cordoned bool   `json:"cordoned,omitempty"`
	Reason   string `json:"reason,omitempty"` // why it is not Ready
}

// PodHealth is the state of a pod that the system runs on a node, such as its network: of a DaemonSet in kube-system.
type PodHealth struct {
	Node      string `json:"node"`
	DaemonSet string `json:"daemonSet"`
	Reason    string `json:"reason,omitempty"` // name of the pod and why it is not Ready; "" if it is
}

// WorkloadHealth is the state of a Deployment, StatefulSet or DaemonSet.
type WorkloadHealth struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Ready     int    `json:"ready"`            // pods that are Ready
	Reason    string `json:"reason,omitempty"` // why it does not run its newest revision with all pods Ready; "" if it does
}

// String returns a name such as "Deployment kotsadm/console-proxy".
func (w WorkloadHealth) String() string { return w.Kind + " " + w.Namespace + "/" + w.Name }

// Check is the result of a check that the Kubernetes API does not answer: a member of etcd, the console, the status
// of the application.
type Check struct {
	Name   string `json:"name"`             // "etcd member node-1"
	Reason string `json:"reason,omitempty"` // why it failed; "" if it passed
}

// Worse is a part of the cluster that is worse than before.
type Worse struct {
	Object    string `json:"object"`              // "node node-1", "Deployment kotsadm/console-proxy"
	Namespace string `json:"namespace,omitempty"` // where to look for the cause; "" for none
	Reason    string `json:"reason"`              // what is worse and why
}

// String returns the object with the reason.
func (w Worse) String() string { return w.Object + ": " + w.Reason }

// gone is the reason for a part that was there before.
const gone = "it no longer exists"

// Compare returns what is worse after than before; nothing means that the cluster is as healthy. What was not healthy
// before counts only if it is worse still, and what is new does not count. dropped are the workloads, by their String,
// that the upgrade itself removed.
//
// The order is that of likely causes, so the first is the one to name: nodes, pods of the system, checks, workloads.
func Compare(before, after Health, dropped ...string) []Worse {
	return slices.Concat(compareNodes(before.Nodes, after.Nodes), comparePods(before, after), compareChecks(before.Checks, after.Checks),
		compareWorkloads(before.Workloads, after.Workloads, dropped))
}

// Without returns h without the nodes with these names and their system pods, to compare the others with their state now. If
// one of these nodes was Ready and no longer is, the workloads are left out, too: pods of them may be missing for that.
func (h Health) Without(nodes []string, now Health) Health {
	for _, was := range h.Nodes {
		is, _ := find(now.Nodes, func(n NodeHealth) bool { return n.Name == was.Name })
		if slices.Contains(nodes, was.Name) && was.Ready && !is.Ready {
			h.Workloads = nil
		}
	}
	h.Nodes = slices.DeleteFunc(slices.Clone(h.Nodes), func(n NodeHealth) bool { return slices.Contains(nodes, n.Name) })
	h.Pods = slices.DeleteFunc(slices.Clone(h.Pods), func(p PodHealth) bool { return slices.Contains(nodes, p.Node) })
	return h
}

func compareNodes(before, after []NodeHealth) (worse []Worse) {
	for _, was := range before {
		is, found := find(after, func(n NodeHealth) bool { return n.Name == was.Name })
		reason := ""
		switch {
		case !found:
			reason = gone
		case was.Ready && !is.Ready:
			reason = "it is not Ready: " + is.Reason
		case !was.Cordoned && is.Cordoned:
			reason = "it is cordoned: no pods are placed on it"
		default:
			continue
		}
		worse = append(worse, Worse{Object: "node " + was.Name, Namespace: "kube-system", Reason: reason})
	}
	return worse
}

// comparePods compares the pods of the system on the nodes that exist after. A DaemonSet that is gone everywhere
// belongs to the older version.
func comparePods(before, after Health) (worse []Worse) {
	for _, was := range before.Pods {
		_, nodeExists := find(after.Nodes, func(n NodeHealth) bool { return n.Name == was.Node })
		_, setExists := find(after.Pods, func(p PodHealth) bool { return p.DaemonSet == was.DaemonSet })
		if was.Reason != "" || !nodeExists || !setExists {
			continue
		}
		is, found := find(after.Pods, func(p PodHealth) bool { return p.Node == was.Node && p.DaemonSet == was.DaemonSet })
		switch {
		case !found:
			worse = append(worse, Worse{Object: was.DaemonSet + " on node " + was.Node, Namespace: "kube-system", Reason: "it has no pod there"})
		case is.Reason != "":
			worse = append(worse, Worse{Object: was.DaemonSet + " on node " + was.Node, Namespace: "kube-system", Reason: "pod " + is.Reason})
		}
	}
	return worse
}

func compareChecks(before, after []Check) (worse []Worse) {
	for _, was := range before {
		is, found := find(after, func(c Check) bool { return c.Name == was.Name })
		switch {
		case was.Reason != "":
		case !found:
			worse = append(worse, Worse{Object: was.Name, Reason: "it was not checked"})
		case is.Reason != "":
			worse = append(worse, Worse{Object: was.Name, Reason: is.Reason})
		}
	}
	return worse
}

func compareWorkloads(before, after []WorkloadHealth, dropped []string) (worse []Worse) {
	for _, was := range before {
		is, found := find(after, func(w WorkloadHealth) bool { return w.String() == was.String() })
		reason := ""
		switch {
		case !found && (was.Ready == 0 || slices.Contains(dropped, was.String())), found && is.Reason == "":
			continue
		case !found:
			reason = gone
		case was.Reason == "":
			reason = is.Reason
		case is.Ready < was.Ready:
			reason = fmt.Sprintf("%d pods are Ready, %d were before: %s", is.Ready, was.Ready, is.Reason)
		default:
			continue
		}
		worse = append(worse, Worse{Object: was.String(), Namespace: was.Namespace, Reason: reason})
	}
	return worse
}

// find returns the first element that matches.
func find[T any](all []T, matches func(T) bool) (found T, ok bool) {
	i := slices.IndexFunc(all, matches)
	if i < 0 {
		return found, false
	}
	return all[i], true
}
