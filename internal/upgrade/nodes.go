package upgrade

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// Node is a node of a cluster that is upgraded.
type Node struct {
	Name       string `json:"name"`
	Address    string `json:"address"`
	Controller bool   `json:"controller,omitempty"`
}

// Batch is a group of nodes that get the new version at the same time.
type Batch []Node

// Names returns the names of the nodes: "w1, w2".
func (b Batch) Names() string {
	var names []string
	for _, n := range b {
		names = append(names, n.Name)
	}
	return strings.Join(names, ", ")
}

// Batches returns the order in which the nodes other than the coordinator get the new version: controllers one at a
// time, because etcd needs its quorum and a kubelet must not be newer than its API server; then at most maxUnavailable
// workers at a time. Both are sorted by name, so that another run has the same order.
func Batches(nodes []Node, coordinator string, maxUnavailable int) (batches []Batch) {
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.Name == coordinator })
	slices.SortFunc(nodes, func(x, y Node) int { return cmp.Compare(x.Name, y.Name) })
	var workers []Node
	for _, n := range nodes {
		if n.Controller {
			batches = append(batches, Batch{n})
		} else {
			workers = append(workers, n)
		}
	}
	for chunk := range slices.Chunk(workers, max(maxUnavailable, 1)) {
		batches = append(batches, Batch(chunk))
	}
	return batches
}

// Reversed returns the nodes of batches in the order in which a rollback restores them: workers first.
func Reversed(batches []Batch) (nodes []Node) {
	for _, b := range slices.Backward(batches) {
		for _, n := range slices.Backward(b) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// WithoutNodes returns batches without the nodes that have one of the names.
func WithoutNodes(batches []Batch, names []string) (left []Batch) {
	for _, b := range batches {
		b = slices.DeleteFunc(slices.Clone(b), func(n Node) bool { return slices.Contains(names, n.Name) })
		if len(b) > 0 {
			left = append(left, b)
		}
	}
	return left
}

// CheckSkip returns why the nodes with the names in skip cannot be left out by a command on the node coordinator.
func CheckSkip(nodes []Node, coordinator string, skip []string) (refusals []Refusal) {
	for _, name := range skip {
		switch {
		case name == coordinator:
			refusals = append(refusals, Refusal{Subject: "node " + name, Reason: "the command runs on it, so it cannot be skipped", Fix: "run the command on another controller", Exit: problem.ExitUsage})
		case !slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == name }):
			refusals = append(refusals, Refusal{Subject: "node " + name, Reason: "the cluster has no such node", Fix: "`sudo plinth node list` has the names", Exit: problem.ExitUsage})
		}
	}
	controllers, left := 0, 0
	for _, n := range nodes {
		if !n.Controller {
			continue
		}
		if controllers++; n.Name == coordinator || !slices.Contains(skip, n.Name) {
			left++
		}
	}
	if quorum := controllers/2 + 1; left < quorum {
		refusals = append(refusals, Refusal{Subject: "node " + strings.Join(skip, ", "), Exit: problem.ExitPreflight,
			Reason: fmt.Sprintf("without it %d of %d controllers are left, and etcd needs %d", left, controllers, quorum), Fix: "repair a controller first"})
	}
	return refusals
}

// NodeReport is what a node reports before an upgrade.
type NodeReport struct {
	Node
	Unreachable string // why its agent does not answer; "" if it does
	Installed   string // digest of the bundle in its receipt
	Program     string // digest of its plinth executable
	Busy        string // the run that changes it now; "" for none
}

// Reach is what an upgrade requires of its nodes.
type Reach struct {
	From, To    string   // digests of the bundles
	Program     string   // digest of the plinth executable that runs the upgrade
	Named       bool     // the bundle names it, so that nodes take it
	Coordinator string   // name of the node on which it runs
	Skip        []string // names of nodes to leave out
	OtherMinor  bool     // it is to another Kubernetes minor
}

// CheckNodes returns why the nodes cannot be upgraded, and notes about those that are left out.
func CheckNodes(nodes []NodeReport, r Reach) (refusals []Refusal, notes []string) {
	refuse := func(exit int, node, reason, fix string) {
		refusals = append(refusals, Refusal{Subject: "node " + node, Reason: reason, Fix: fix, Exit: exit})
	}
	var all []Node
	for _, n := range nodes {
		all = append(all, n.Node)
	}
	refusals = CheckSkip(all, r.Coordinator, r.Skip)
	left := 0
	for _, n := range nodes {
		if n.Name != r.Coordinator && slices.Contains(r.Skip, n.Name) {
			if n.Controller {
				left++
			}
			notes = append(notes, "node "+n.Name+" is skipped: it keeps its version until `plinth upgrade` runs again with this bundle")
			continue
		}
		switch {
		case n.Name == r.Coordinator:
		case n.Unreachable != "":
			refuse(problem.ExitPreflight, n.Name, "its agent does not answer: "+n.Unreachable, "repair it, or leave it out with --skip-node "+n.Name)
		case n.Busy != "":
			refuse(problem.ExitLocked, n.Name, "another run changes it: "+n.Busy, "wait until it has ended")
		case n.Program != r.Program && !r.Named:
			refuse(problem.ExitUsage, n.Name, "it runs another plinth executable than this host, and the bundle does not name the one of this host",
				"run the upgrade with the plinth executable that the vendor ships with the bundle")
		case n.Installed != r.From && n.Installed != r.To:
			refuse(problem.ExitUsage, n.Name, "it has the bundle "+n.Installed+", which is neither the installed nor the new one", "roll its upgrade back, or remove it and join it again")
		}
	}
	if left > 0 && r.OtherMinor {
		refuse(problem.ExitPreflight, strings.Join(r.Skip, ", "), "a controller cannot stay behind an upgrade to another Kubernetes minor", "repair it or remove it: sudo plinth node remove NAME")
	}
	return refusals, notes
}

// Failure is what an upgrade of a cluster does after a step has failed.
type Failure string

// The reactions to a failed step.
const (
	RollBackHere Failure = "roll back" // restore the coordinator: no other node runs the new version
	StopHere     Failure = "stop"      // the cluster runs; the user resumes or rolls everything back
	Restore      Failure = "restore"   // restore the whole cluster, which has one node
)

// OnFailure returns what the coordinator does after its upgrade has failed. others reports whether the cluster has other
// nodes, and reached whether one of them may run the new version. Such a node is healthy: one that is not was restored at
// once.
func OnFailure(others, reached bool) Failure {
	switch {
	case !others:
		return Restore
	case reached:
		return StopHere
	}
	return RollBackHere
}

// CheckRollback returns why an upgrade of several nodes cannot be rolled back, or nil. etcd of another minor may have
// stored its data in another format, which the old one cannot read; with one controller its data is restored.
func CheckRollback(controllers int, from, to string, upgraded bool) *Refusal {
	if controllers < 2 || !upgraded || from == "" || to == "" || spec.KubernetesMinor(from) == spec.KubernetesMinor(to) {
		return nil
	}
	return &Refusal{Subject: "spec.k0s.version", Was: to, Is: from, Exit: problem.ExitUsage,
		Reason: "several controllers have run the new Kubernetes minor, and the etcd of the old one may not read their data",
		Fix:    "finish the upgrade: run the same `plinth upgrade` again; or restore a backup from before the upgrade"}
}
