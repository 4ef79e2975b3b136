package peer

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

	"github.com/plinthdev/plinth/internal/agent"
)

// leaver is a world that lets one node go.
type leaver struct {
	world
	left *[]string
}

func (l leaver) MayLeave(_ context.Context, node string) (agent.Farewell, error) {
	return agent.Farewell{Cluster: "my-app", Known: len(*l.left) == 0, Losses: []string{node}}, nil
}

func (l leaver) Leave(_ context.Context, node string, force bool) error {
	if !force {
		return &agent.Refusal{Why: "the data of db is on this node alone", Status: http.StatusConflict}
	}
	*l.left = append(*l.left, node)
	return nil
}

func TestANodeLeavesByItsOwnCertificateAlone(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	l := leaver{left: new([]string)}
	srv := httptest.NewUnstartedServer(agent.Service{Cluster: l, Store: l, Leaver: l}.Handler())
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "x")}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	as := func(certs ...tls.Certificate) Node {
		n := NewNode(&tls.Config{RootCAs: pool, Certificates: certs}, []string{"127.0.0.1"})
		n.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
		}
		return n
	}
	for name, n := range map[string]Node{"nobody": as(), "no node": as(a.issue(t, "admin", "system:masters")), "a node by its group alone": as(a.issue(t, "w", "system:nodes")),
		"a node by its name alone": as(a.issue(t, "system:node:w", "x"))} {
		var no *Denied
		if _, err := n.MayLeave(t.Context()); !errors.As(err, &no) || !strings.Contains(no.Why, "only a node can leave") {
			t.Errorf("%s: %v", name, err)
		}
		if err := n.Leave(t.Context(), true); err == nil {
			t.Errorf("%s was let go", name)
		}
	}
	if _, err := as(other.issue(t, "system:node:w", "system:nodes")).MayLeave(t.Context()); err == nil {
		t.Error("a certificate of another authority counts")
	}
	w := as(a.issue(t, "system:node:w", "system:nodes"))
	if f, err := w.MayLeave(t.Context()); err != nil || !f.Known || f.Losses[0] != "w" || f.Cluster != "my-app" {
		t.Errorf("%+v, %v", f, err)
	}
	if err := w.Leave(t.Context(), false); err == nil || err.Error() != "the data of db is on this node alone" {
		t.Errorf("%v", err)
	}
	if err := w.Leave(t.Context(), true); err != nil || len(*l.left) != 1 || (*l.left)[0] != "w" {
		t.Errorf("%v, left %v", err, *l.left)
	}
	if _, err := NewNode(&tls.Config{RootCAs: pool}, nil).MayLeave(t.Context()); err == nil || !strings.Contains(err.Error(), "knows no other controller") {
		t.Error(err)
	}
}
