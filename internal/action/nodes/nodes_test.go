package nodes

import (
	"reflect"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
)

// three returns a cluster of three controllers and a worker. The API servers of the
// controllers in down are not ready.
func three(down ...string) ClusterView {
	var v ClusterView
	for i, name := range []string{"a", "b", "c"} {
		at := "10.0.0." + string(rune('1'+i))
		v.Nodes = append(v.Nodes, Node{Name: name, Role: Controller, Ready: true, Addresses: []string{at}})
		v.Etcd = append(v.Etcd, etcd.Member{ID: name, Name: name, Address: at})
		v.API = append(v.API, Endpoint{Address: at + apiPortSuffix, Ready: !strings.Contains(strings.Join(down, ""), name)})
	}
	v.Nodes = append(v.Nodes, Node{Name: "w", Role: Worker, Ready: true, Addresses: []string{"10.0.0.9"}})
	return v
}

func TestNodeRemovalCheckLoss_RefusesLossesWithoutForce(t *testing.T) {
	data := []kube.NodePod{{Namespace: "kotsadm", Name: "kotsadm-0", LocalPVCs: []string{"kotsadmdata-kotsadm-0"}}}
	alone := []kube.NodePod{{Namespace: "default", Name: "probe", Unmanaged: true}}
	for name, c := range map[string]struct {
		verb, node string
		view       ClusterView
		pods       []kube.NodePod
		force      bool
		copied     bool
		refused    string // part of the error
		loses      string // part of what is accepted
	}{
		"a worker":                     {verb: "remove", node: "w", view: three()},
		"one of three controllers":     {verb: "remove", node: "b", view: three(), loses: "2 controllers are left, and none of them may fail"},
		"a dead controller":            {verb: "remove", node: "c", view: three("c"), loses: "2 controllers are left"},
		"the quorum":                   {verb: "remove", node: "b", view: three("c"), refused: "only 1 of the 2 controllers that are left would serve, and 2 have to"},
		"the quorum, forced":           {verb: "remove", node: "b", view: three("c"), force: true, loses: "the API would stop"},
		"its own host":                 {verb: "remove", node: "a", view: three(), force: true, refused: "the command runs on this node"},
		"data of a node":               {verb: "remove", node: "w", view: three(), pods: data, refused: "the data of kotsadmdata-kotsadm-0 (pod kotsadm/kotsadm-0) is only on this node"},
		"a copy of the console's data": {verb: "remove", node: "w", view: three(), pods: data, copied: true, loses: "pod kotsadm/kotsadm-0 loses its copy of the console's data"},
		"a member that never started": {verb: "remove", node: "10.0.0.4", view: func() ClusterView {
			v := three()
			v.Etcd = append(v.Etcd, etcd.Member{ID: "d", Address: "10.0.0.4"})
			return v
		}()},
		"data of a node, forced":     {verb: "remove", node: "w", view: three(), pods: data, force: true, loses: "would be lost"},
		"data of a drained node":     {verb: "drain", node: "w", view: three(), pods: data, loses: "stays pending until this node is uncordoned"},
		"a pod without a controller": {verb: "drain", node: "w", view: three(), pods: alone, refused: "pod default/probe has no controller"},
		"draining its own host":      {verb: "drain", node: "a", view: three()},
		"a member without a node": {verb: "remove", node: "d", view: func() ClusterView {
			v := three()
			v.Etcd = append(v.Etcd, etcd.Member{ID: "d", Name: "d", Address: "10.0.0.4"})
			return v
		}()},
		"two losses at once": {verb: "remove", node: "b", view: three("c"), pods: alone, refused: "stop, and nothing in the cluster could be changed until more come back; pod default/probe"},
	} {
		t.Run(name, func(t *testing.T) {
			d := nodeRemoval{ClusterView: c.view, req: Request{Node: c.node, Force: c.force}, receipt: journal.Receipt{Node: "a"}, pods: c.pods,
				replicated: map[string]bool{"kotsadm/kotsadm-0": c.copied}}
			losses, err := d.checkLoss(c.verb)
			switch {
			case c.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.refused != "" && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.refused) || problem.Hint(err) == ""):
				t.Errorf("error is %v (%s)", err, problem.Hint(err))
			case err == nil && (!strings.Contains(strings.Join(losses, "\n"), c.loses) || c.loses == "" && len(losses) > 0):
				t.Errorf("losses are %q", losses)
			}
		})
	}
}

func TestNodeRemovalLeaveCheck_ReturnsLosses(t *testing.T) {
	data := []kube.NodePod{{Namespace: "kotsadm", Name: "kotsadm-0", LocalPVCs: []string{"kotsadmdata-kotsadm-0"}}}
	for name, c := range map[string]struct {
		node           string
		view           ClusterView
		pods           []kube.NodePod
		known          bool
		refused, loses string
		blocked        string
	}{
		"a worker":              {node: "w", view: three(), known: true},
		"a controller of three": {node: "b", view: three(), known: true, loses: "2 controllers are left"},
		"the quorum":            {node: "b", view: three("c"), known: true, blocked: "only 1 of the 2 controllers"},
		"data":                  {node: "w", view: three(), pods: data, known: true, refused: "the data of kotsadmdata-kotsadm-0"},
		"one that has left":     {node: "z", view: three()},
	} {
		t.Run(name, func(t *testing.T) {
			f := nodeRemoval{ClusterView: c.view, req: Request{Node: c.node}, receipt: journal.Receipt{Node: "a", Name: "my-app"}, pods: c.pods}.leaveCheck()
			if f.Known != c.known || f.Cluster != "my-app" || !strings.Contains(strings.Join(f.Refused, ";"), c.refused) || (c.refused == "") != (f.Refused == nil) ||
				!strings.Contains(strings.Join(f.Losses, ";"), c.loses) || (c.loses == "") != (f.Losses == nil) || !strings.Contains(f.Blocked, c.blocked) || (c.blocked == "") != (f.Blocked == "") {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestNodeRemovalCheckLoss_RefusesLastController(t *testing.T) {
	v := three()
	v.Etcd = v.Etcd[1:2]
	d := nodeRemoval{ClusterView: v, req: Request{Node: "b", Force: true}, receipt: journal.Receipt{Node: "a"}}
	if _, err := d.checkLoss("remove"); err == nil || !strings.Contains(problem.Hint(err), "plinth reset cluster") {
		t.Errorf("%v", err)
	}
}

func TestNodeRemovalUpToDate_ReportsCompletedChanges(t *testing.T) {
	v := three()
	v.Nodes[3].Cordoned = true
	d := nodeRemoval{ClusterView: v, req: Request{Node: "w"}}
	if done, err := d.upToDate("drain"); !done || err != nil {
		t.Errorf("a drained node: %v %v", done, err)
	}
	d.pods = []kube.NodePod{{Name: "p"}}
	if done, err := d.upToDate("drain"); done || err != nil {
		t.Errorf("a cordoned node with a pod: %v %v", done, err)
	}
	d.req.Node = "10.0.0.4"
	d.Etcd = append(d.Etcd, etcd.Member{ID: "d", Address: "10.0.0.4"})
	if done, err := d.upToDate("remove"); done || err != nil || !d.stepsInput(&action.Env{}, nil).EtcdOnly {
		t.Errorf("a member that never started: %v %v", done, err)
	}
	d.Etcd = d.Etcd[:3]
	d.req.Node = "z"
	if _, err := d.upToDate("remove"); problem.ExitCode(err) != problem.ExitUsage || problem.Hint(err) != "name one of: a, b, c, w" {
		t.Errorf("no such node: %v", err)
	}
	d.Nodes = append(d.Nodes, Node{Name: "z", Role: Worker, Admitted: true, unregistered: true})
	d.pods = nil
	if done, err := d.upToDate("drain"); !done || err != nil {
		t.Errorf("a node that has not registered was to be drained: %v %v", done, err)
	}
	if done, err := d.upToDate("remove"); done || err != nil || d.stepsInput(&action.Env{}, nil).InCluster || d.stepsInput(&action.Env{}, nil).EtcdOnly {
		t.Errorf("a node that has not registered: %v %v", done, err)
	}
}

func TestInspect_FailsWithoutCluster(t *testing.T) {
	if _, err := Inspect(t.Context(), hosttest.New(t).Host()); err == nil {
		t.Error("a cluster was found")
	}
}

func TestInspectWith_ReturnsNodesAndBalancerOnWorker(t *testing.T) {
	s, client := kubetest.New(t)
	kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "a", Role: Controller, Address: "127.0.0.2"},
		kube.NodeRecord{Node: "n", Role: Worker, Address: "127.0.0.4"}, kube.NodeRecord{Node: "w", Role: Worker, Address: "127.0.0.3"})
	for _, name := range []string{"a", "stranger", "w"} { // all claim to be the controller; n has not registered
		s.Put("/api/v1/nodes/"+name, map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{"node.k0sproject.io/role": "control-plane"}},
			"spec":   map[string]any{"unschedulable": name == "w"},
			"status": map[string]any{"nodeInfo": map[string]any{"kubeletVersion": "v1"}, "addresses": []any{map[string]any{"type": "InternalIP", "address": "127.0.0.9"}}}})
	}
	h := hosttest.New(t).Host()
	v, err := inspectWith(t.Context(), h, client, Worker)
	const silent = "kubelet has not reported"
	want := []Node{
		{Name: "a", Role: Controller, Admitted: true, Reason: silent, Version: "v1", Addresses: []string{"127.0.0.2"}},
		{Name: "n", Role: Worker, Admitted: true, Reason: "it has not registered", Addresses: []string{"127.0.0.4"}, unregistered: true},
		{Name: "stranger", Role: Unknown, Reason: silent, Version: "v1", Addresses: []string{}},
		{Name: "w", Role: Worker, Admitted: true, Reason: silent, Cordoned: true, Version: "v1", Addresses: []string{"127.0.0.3"}},
	}
	if err != nil || !reflect.DeepEqual(v.Nodes, want) {
		t.Errorf("%+v %v", v.Nodes, err)
	}
	if len(v.API) != 1 || v.API[0].Address != "127.0.0.2:6443" || v.API[0].Ready || v.API[0].Reason == "" {
		t.Errorf("API servers: %+v", v.API)
	}
	if v.Balancer == nil || v.Balancer.Address != "127.0.0.1:6443" || v.Etcd != nil || len(v.Problems) != 0 {
		t.Errorf("%+v", v)
	}
	if v, _ = inspectWith(t.Context(), h, client, Controller); v.Balancer != nil || len(v.Problems) != 1 || !strings.Contains(v.Problems[0], "etcd on this host") {
		t.Errorf("%+v", v)
	}
	if _, err := h.ReadFile(k0s.AdminConf); err == nil {
		t.Error("a file was created")
	}
}
