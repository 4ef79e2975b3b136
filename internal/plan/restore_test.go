package plan

import (
	"context"
	"io"
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

func TestRestore_MatchesGolden(t *testing.T) {
	c, _ := example(t)
	for name, r := range map[string]Restoration{
		"restore-backup":    {Source: "sha256:1", Open: func(context.Context) (io.ReadCloser, error) { return nil, nil }},
		"restore-this-node": {Source: ThisNode, RemoveLost: true},
	} {
		t.Run(name, func(t *testing.T) { goldenPlan(t, "testdata/"+name+".golden", c, Restore(c, r)) })
	}
}

func TestLostMembers_AreTheOtherControllers(t *testing.T) {
	s, client := kubetest.New(t)
	for name, role := range map[string]string{"n1": token.Controller, "n2": token.Controller, "n3": token.Controller, "w1": token.Worker} {
		kubetest.RecordNodes(t, client, kube.NodeRecord{Node: name, UID: "uid-" + name, Role: role, Joined: true})
		s.Put("/api/v1/nodes/"+name, map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name}})
	}
	l := lostMembers{"n1", func(context.Context) (*kube.Client, error) { return client, nil }}
	names, err := l.Names(t.Context())
	if err != nil || !slices.Equal(names, []string{"n2", "n3"}) {
		t.Fatalf("%v %v", names, err)
	}
	for range 2 { // a killed run repeats it
		testkit.Must(t, l.Remove(t.Context(), "n2"))
	}
	names, err = l.Names(t.Context())
	nodes, err2 := client.Nodes(t.Context())
	testkit.Must(t, err, err2)
	if !slices.Equal(names, []string{"n3"}) || len(nodes) != 3 ||
		slices.ContainsFunc(nodes, func(n kube.Node) bool { return n.Name == "n2" }) {
		t.Errorf("%v, nodes %+v", names, nodes)
	}
	if note, noted, err := client.RemovedNode(t.Context(), "uid-n2"); err != nil || !noted || note.By != "an administrator on n1" {
		t.Errorf("%+v %v %v", note, noted, err)
	}
}
