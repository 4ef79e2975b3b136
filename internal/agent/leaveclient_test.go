package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// fakeRemover is a fakeCluster that can remove one node.
type fakeRemover struct {
	fakeCluster
	removed *[]string
}

func (l fakeRemover) CheckLeave(_ context.Context, node string) (LeaveCheck, error) {
	return LeaveCheck{Cluster: "my-app", Known: len(*l.removed) == 0, Losses: []string{node}}, nil
}

func (l fakeRemover) Leave(_ context.Context, node string, force bool) error {
	if !force {
		return &StatusError{Reason: "the data of db is on this node alone", Status: http.StatusConflict}
	}
	*l.removed = append(*l.removed, node)
	return nil
}

func TestLeaveClient_RequiresOwnCertificate(t *testing.T) {
	a, other := newTestCA(t), newTestCA(t)
	l := fakeRemover{removed: new([]string)}
	srv := httptest.NewUnstartedServer(Service{Backend: l, Store: l, NodeRemover: l}.Handler())
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "x")}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	as := func(certs ...tls.Certificate) LeaveClient {
		n := NewLeaveClient(&tls.Config{RootCAs: pool, Certificates: certs}, []string{"127.0.0.1"})
		n.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
		}
		return n
	}
	for name, n := range map[string]LeaveClient{
		"no certificate":     as(),
		"administrator":      as(a.issue(t, "admin", "system:masters")),
		"group of nodes":     as(a.issue(t, "w", "system:nodes")),
		"name without group": as(a.issue(t, "system:node:w", "x")),
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
	if _, err := as(other.issue(t, "system:node:w", "system:nodes")).CheckLeave(t.Context()); err == nil {
		t.Error("a certificate of another authority is accepted")
	}
	w := as(a.issue(t, "system:node:w", "system:nodes"))
	if f, err := w.CheckLeave(t.Context()); err != nil || !f.Known || f.Losses[0] != "w" || f.Cluster != "my-app" {
		t.Errorf("%+v, %v", f, err)
	}
	if err := w.Leave(t.Context(), false); err == nil || err.Error() != "the data of db is on this node alone" {
		t.Errorf("%v", err)
	}
	if err := w.Leave(t.Context(), true); err != nil || len(*l.removed) != 1 || (*l.removed)[0] != "w" {
		t.Errorf("%v, removed %v", err, *l.removed)
	}
	if _, err := NewLeaveClient(&tls.Config{RootCAs: pool}, nil).CheckLeave(t.Context()); err == nil || !strings.Contains(err.Error(), "does not know another controller") {
		t.Error(err)
	}
}
