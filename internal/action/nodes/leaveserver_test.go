package nodes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

// newLeaveServer returns the server of controller a in a cluster that it sees as v, and its client.
func newLeaveServer(t *testing.T, v ClusterView) (LeaveServer, *kube.Client) {
	t.Helper()
	api, client := kubetest.New(t)
	srv := httptest.NewServer(api)
	t.Cleanup(srv.Close)
	h := hosttest.New(t).Host()
	testkit.Must(t, h.Write(k0s.AdminConf, strings.NewReader(fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"t",
		"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],"users":[{"name":"t","user":{}}],
		"clusters":[{"name":"t","cluster":{"server":%q}}]}`, srv.URL)), 0o600))
	testkit.Must(t, journal.WriteReceipt(h, "/data", journal.Receipt{Name: "my-app", Role: Controller, Node: "a", Address: "10.0.0.1"}))
	for _, n := range v.Nodes {
		kubetest.RecordNodes(t, client, kube.NodeRecord{Node: n.Name, Role: n.Role, Address: n.Addresses[0]})
		api.Put("/api/v1/nodes/"+n.Name, map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": n.Name}})
	}
	env := &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: "/data", Now: time.Now, Note: func(string) {}, Events: func(step.Event) {}}}
	return LeaveServer{Env: env, inspect: func(context.Context, *kube.Client) (ClusterView, error) { return v, nil }}, client
}

func nodeID(name, role string) nodecert.NodeID {
	return nodecert.NodeID{Node: name, UID: "uid-of-" + name, Role: role}
}

func TestLeaveServer_NeverForcesTheQuorum(t *testing.T) {
	for name, tt := range map[string]struct {
		id     nodecert.NodeID
		view   ClusterView
		reason string
	}{
		"the quorum":          {nodeID("b", Controller), three("c"), "only 1 of the 2 controllers that are left would serve"},
		"the last controller": {nodeID("b", Controller), func() ClusterView { v := three(); v.Etcd = v.Etcd[1:2]; return v }(), "controller"},
		"itself":              {nodeID("a", Controller), three(), "a controller cannot remove itself"},
	} {
		for _, force := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, force %t", name, force), func(t *testing.T) {
				s, client := newLeaveServer(t, tt.view)
				err := s.Leave(t.Context(), tt.id, force)
				var no *agent.StatusError
				if !errors.As(err, &no) || no.Status != http.StatusConflict || !strings.Contains(no.Reason, tt.reason) {
					t.Errorf("%v, want %q", err, tt.reason)
				}
				if records, err := client.NodeRecords(t.Context()); err != nil || len(records) != len(tt.view.Nodes) {
					t.Errorf("%+v, %v", records, err)
				}
			})
		}
	}
}

func TestLeaveServer_TreatsEarlierAdmissionAsLeft(t *testing.T) {
	for name, p := range map[string]nodecert.NodeID{
		"old UID":      {Node: "w", UID: "uid-of-w-before", Role: Worker},
		"old UID of b": {Node: "b", UID: "uid-of-b-before", Role: Controller},
		"removed node": nodeID("z", Worker),
		"no UID":       {Node: "w", Role: Worker},
	} {
		t.Run(name, func(t *testing.T) {
			s, client := newLeaveServer(t, three("c"))
			s.inspect = func(context.Context, *kube.Client) (ClusterView, error) {
				return ClusterView{}, errors.New("it was inspected")
			}
			f, err := s.CheckLeave(t.Context(), p)
			if err != nil || f.Known || f.Cluster != "my-app" || f.Blocked != "" || f.Refused != nil {
				t.Errorf("%+v, %v", f, err)
			}
			if err := s.Leave(t.Context(), p, true); err != nil {
				t.Errorf("%v", err)
			}
			if records, err := client.NodeRecords(t.Context()); err != nil || len(records) != 4 {
				t.Errorf("%+v, %v", records, err)
			}
		})
	}
}

func TestLeaveServer_WorkerNeverTouchesEtcd(t *testing.T) {
	for name, member := range map[string]etcd.Member{
		"a member of its name":    {ID: "x", Name: "w", Address: "10.0.0.7"},
		"a member at its address": {ID: "x", Address: "10.0.0.9", Learner: true},
	} {
		t.Run(name, func(t *testing.T) {
			v := three("c") // the removal of any member would stop the cluster
			v.Etcd = append(v.Etcd, member)
			s, client := newLeaveServer(t, v)
			c, _, err := s.inspectLeave(t.Context(), nodeID("w", Worker))
			testkit.Must(t, err)
			if d := c.stepsInput(s.Env, client); d.InEtcd != nil || d.RemoveFromEtcd != nil || d.EtcdOnly {
				t.Errorf("%+v", d)
			}
			f, err := s.CheckLeave(t.Context(), nodeID("w", Worker))
			if err != nil || !f.Known || f.Blocked != "" || f.Refused != nil {
				t.Errorf("%+v, %v", f, err)
			}
			testkit.Must(t, s.Leave(t.Context(), nodeID("w", Worker), false)) // etcd does not run here
			records, err := client.NodeRecords(t.Context())
			if _, still := records["w"]; err != nil || still || len(records) != 3 {
				t.Errorf("%+v, %v", records, err)
			}
			if note, ok, err := client.RemovedNode(t.Context(), "uid-of-w"); err != nil || !ok || note.Node != "w" || note.By != "plinth reset node on this host" {
				t.Errorf("the note for its agent: %+v, %v", note, err)
			}
			if _, err := client.Node(t.Context(), "w"); !errors.Is(err, kube.ErrNotFound) {
				t.Errorf("its Node object: %v", err)
			}
		})
	}
}

func TestLeaveServer_ControllerLosesItsVoteFirst(t *testing.T) {
	s, client := newLeaveServer(t, three())
	c, _, err := s.inspectLeave(t.Context(), nodeID("b", Controller))
	testkit.Must(t, err)
	if d := c.stepsInput(s.Env, client); d.InEtcd == nil || d.RemoveFromEtcd == nil {
		t.Errorf("%+v", d)
	}
	if err := s.Leave(t.Context(), nodeID("b", Controller), true); err == nil || !strings.Contains(err.Error(), "vote") { // etcd does not run here
		t.Errorf("%v", err)
	}
	if records, err := client.NodeRecords(t.Context()); err != nil || records["b"].UID != "uid-of-b" {
		t.Errorf("without its vote removed: %+v, %v", records, err)
	}
}

func TestLeaveServer_RefusesWithoutEtcd(t *testing.T) {
	v := three()
	v.Etcd, v.Problems = nil, []string{"etcd on this host does not answer"}
	s, _ := newLeaveServer(t, v)
	for _, p := range []nodecert.NodeID{nodeID("b", Controller), nodeID("w", Worker)} {
		if f, err := s.CheckLeave(t.Context(), p); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("%s: %+v, %v", p.Node, f, err)
		}
	}
}
