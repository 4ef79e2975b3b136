package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

// fakeRemover is a fakeCluster that can remove one node.
type fakeRemover struct {
	fakeCluster
	removed *[]string
}

func (l fakeRemover) CheckLeave(_ context.Context, p nodecert.NodeID) (LeaveCheck, error) {
	return LeaveCheck{Cluster: "my-app", Known: len(*l.removed) == 0, Losses: []string{p.Node}}, nil
}

func (l fakeRemover) Leave(_ context.Context, p nodecert.NodeID, force bool) error {
	if !force {
		return &StatusError{Reason: "the data of db is on this node alone", Status: http.StatusConflict}
	}
	*l.removed = append(*l.removed, p.Node)
	return nil
}

// newTestLeaveClient returns a client that shows a certificate to the server at an address.
func newTestLeaveClient(a testCA, cert tls.Certificate, at string) LeaveClient {
	n := NewLeaveClient(cert, token.PublicKeyPin(a.cert), []string{"127.0.0.1"})
	n.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, at)
	}
	return n
}

func TestLeaveClient_RequiresOwnCertificate(t *testing.T) {
	a, other := newTestCA(t), newTestCA(t)
	l := fakeRemover{removed: new([]string)}
	as := func(cert tls.Certificate) LeaveClient { // of a server for itself, which has refused nothing yet
		at := startServer(t, a.controller(t, "c1"), Service{Backend: l, Store: l, NodeRemover: l, Authority: a.authority}.Handler())
		return newTestLeaveClient(a, cert, at)
	}
	for name, n := range map[string]LeaveClient{
		"no certificate":                            as(tls.Certificate{}),
		"server that is not a node":                 as(a.server(t)),
		"kubelet client certificate":                as(a.issue(t, nodecert.KubeletClient, "w", "")),
		"kubelet serving certificate":               as(a.issue(t, nodecert.KubeletServing, "w", "")),
		"self-signed certificate":                   as(newSelfSigned(t)),
		"self-signed certificate, agent's subject":  as(selfSign(t, a.worker(t, "w"))),
		"agent certificate of another authority":    as(other.worker(t, "w")),
		"controller certificate of other authority": as(other.controller(t, "w")),
		"expired agent certificate":                 as(a.issueAt(t, nodecert.Agent, identityAt("w", token.Worker, "127.0.0.1"), time.Now().Add(-nodecert.Lifetime))),
	} {
		t.Run(name, func(t *testing.T) {
			var denied *DeniedError
			if _, err := n.CheckLeave(t.Context()); !errors.As(err, &denied) || !strings.Contains(denied.Reason, "only a node can leave") {
				t.Errorf("%s: %v", name, err)
			}
			if err := n.Leave(t.Context(), true); err == nil {
				t.Errorf("%s was removed", name)
			}
		})
	}
	w := as(a.worker(t, "w"))
	if f, err := w.CheckLeave(t.Context()); err != nil || !f.Known || f.Losses[0] != "w" || f.Cluster != "my-app" {
		t.Errorf("%+v, %v", f, err)
	}
	if err := w.Leave(t.Context(), false); err == nil || err.Error() != "the data of db is on this node alone" {
		t.Errorf("%v", err)
	}
	if err := w.Leave(t.Context(), true); err != nil || len(*l.removed) != 1 || (*l.removed)[0] != "w" {
		t.Errorf("%v, removed %v", err, *l.removed)
	}
	if _, err := NewLeaveClient(tls.Certificate{}, token.PublicKeyPin(a.cert), nil).CheckLeave(t.Context()); err == nil || !strings.Contains(err.Error(), "does not know a controller of its cluster") {
		t.Error(err)
	}
}
