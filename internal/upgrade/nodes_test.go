package upgrade

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
)

func controller(name string) Node { return Node{Name: name, Controller: true} }
func worker(name string) Node     { return Node{Name: name} }

func names(batches []Batch) (all []string) {
	for _, b := range batches {
		all = append(all, b.Names())
	}
	return all
}

func TestBatches_ControllersOneAtATimeThenWorkers(t *testing.T) {
	cluster := []Node{worker("w2"), controller("c3"), worker("w1"), controller("c1"), worker("w3"), controller("c2")}
	for name, c := range map[string]struct {
		nodes []Node
		max   int
		want  string
		back  string
	}{
		"one at a time":      {cluster, 1, "[c1 c3 w1 w2 w3]", "[w3 w2 w1 c3 c1]"},
		"two workers":        {cluster, 2, "[c1 c3 w1, w2 w3]", "[w3 w2 w1 c3 c1]"},
		"more than there is": {cluster, 9, "[c1 c3 w1, w2, w3]", "[w3 w2 w1 c3 c1]"},
		"none is one":        {cluster, 0, "[c1 c3 w1 w2 w3]", "[w3 w2 w1 c3 c1]"},
		"one node":           {[]Node{controller("c2")}, 1, "[]", "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			batches := Batches(c.nodes, "c2", c.max)
			var back []string
			for _, n := range Reversed(batches) {
				back = append(back, n.Name)
			}
			if got, reversed := fmt.Sprint(names(batches)), fmt.Sprint(back); got != c.want || reversed != c.back {
				t.Errorf("%s, back %s", got, reversed)
			}
		})
	}
}

func TestCheckNodes_RefusesByName(t *testing.T) {
	good := func(n Node) NodeReport { return NodeReport{Node: n, Installed: "old", Program: "p"} }
	report := func(n Node, change func(*NodeReport)) NodeReport { r := good(n); change(&r); return r }
	three := []NodeReport{good(controller("c1")), good(controller("c2")), good(controller("c3"))}
	for name, c := range map[string]struct {
		nodes []NodeReport
		reach Reach
		want  []string // parts of the refusals
		exit  int
		notes int
	}{
		"all answer":                        {append(three, good(worker("w1"))), Reach{}, nil, 0, 0},
		"upgraded already":                  {append(three, report(worker("w1"), func(r *NodeReport) { r.Installed = "new" })), Reach{}, nil, 0, 0},
		"one does not answer":               {append(three, report(worker("w1"), func(r *NodeReport) { r.Unreachable = "no route" })), Reach{}, []string{"node w1", "--skip-node w1"}, problem.ExitPreflight, 0},
		"it is skipped":                     {append(three, report(worker("w1"), func(r *NodeReport) { r.Unreachable = "no route" })), Reach{Skip: []string{"w1"}}, nil, 0, 1},
		"an unknown one is":                 {three, Reach{Skip: []string{"w9"}}, []string{"node w9", "no such node"}, problem.ExitUsage, 0},
		"the coordinator is":                {three, Reach{Skip: []string{"c1"}}, []string{"node c1", "another controller"}, problem.ExitUsage, 0},
		"another Plinth":                    {append(three, report(worker("w1"), func(r *NodeReport) { r.Program = "q" })), Reach{}, []string{"node w1", "another plinth executable"}, problem.ExitUsage, 0},
		"another Plinth, which gets ours":   {append(three, report(worker("w1"), func(r *NodeReport) { r.Program = "q" })), Reach{Named: true}, nil, 0, 0},
		"another bundle":                    {append(three, report(worker("w1"), func(r *NodeReport) { r.Installed = "third" })), Reach{}, []string{"node w1", "third"}, problem.ExitUsage, 0},
		"another run":                       {append(three, report(worker("w1"), func(r *NodeReport) { r.Busy = "reset" })), Reach{}, []string{"node w1", "reset"}, problem.ExitLocked, 0},
		"one of three skipped":              {three, Reach{Skip: []string{"c3"}}, nil, 0, 1},
		"two of three skipped":              {three, Reach{Skip: []string{"c2", "c3"}}, []string{"etcd needs 2"}, problem.ExitPreflight, 2},
		"a controller stays behind a minor": {three, Reach{Skip: []string{"c3"}, OtherMinor: true}, []string{"c3", "Kubernetes minor"}, problem.ExitPreflight, 1},
		"all reasons": {[]NodeReport{good(controller("c1")), report(worker("w1"), func(r *NodeReport) { r.Unreachable = "x" }), report(worker("w2"), func(r *NodeReport) { r.Unreachable = "x" })},
			Reach{}, []string{"node w1", "node w2"}, problem.ExitPreflight, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.reach.From, c.reach.To, c.reach.Program, c.reach.Coordinator = "old", "new", "p", "c1"
			refusals, notes := CheckNodes(c.nodes, c.reach)
			err := RefusalError(refusals)
			if (err == nil) != (c.want == nil) || err != nil && problem.ExitCode(err) != c.exit || len(notes) != c.notes {
				t.Fatalf("%v; notes %q", err, notes)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not say %q", err, part)
				}
			}
		})
	}
}

func TestOnFailure_RestoresTheLeastThatLeavesAHealthyCluster(t *testing.T) {
	for name, c := range map[string]struct {
		others, reached bool
		want            Failure
	}{
		"one node":                           {false, false, Restore},
		"before any other node":              {true, false, RollBackHere},
		"another node runs the new version":  {true, true, StopHere},
		"one node, whatever the record says": {false, true, Restore},
	} {
		t.Run(name, func(t *testing.T) {
			if got := OnFailure(c.others, c.reached); got != c.want {
				t.Error(got)
			}
		})
	}
}

func TestCheckRollback_NeedsAnEtcdThatReadsTheData(t *testing.T) {
	for name, c := range map[string]struct {
		controllers int
		from, to    string
		upgraded    bool
		refused     bool
	}{
		"a patch":                           {3, "v1.33.4+k0s.0", "v1.33.8+k0s.1", true, false},
		"a minor":                           {3, "v1.33.8+k0s.1", "v1.34.1+k0s.0", true, true},
		"a minor that no node has run":      {3, "v1.33.8+k0s.1", "v1.34.1+k0s.0", false, false},
		"a minor, one controller":           {1, "v1.33.8+k0s.1", "v1.34.1+k0s.0", true, false},
		"the versions are not known at all": {3, "", "", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := CheckRollback(c.controllers, c.from, c.to, c.upgraded); (got != nil) != c.refused {
				t.Errorf("%v", got)
			}
		})
	}
}
