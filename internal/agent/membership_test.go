package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

var self = nodecert.NodeID{Node: "w", UID: "uid-of-w", Role: token.Worker}

func TestIsRemoved_RequiresAnAnswerThatNoControllerContradicts(t *testing.T) {
	answer := func(uid, state string) Membership { return Membership{Node: "w", UID: uid, State: state, By: "c1"} }
	removed, member, unknown := answer(self.UID, StateRemoved), answer(self.UID, StateMember), answer(self.UID, StateUnknown)
	otherNode := removed
	otherNode.Node = "w2"
	for name, c := range map[string]struct {
		answers []Membership
		want    bool
	}{
		"no controller answers":          {nil, false},
		"the only one that answers":      {[]Membership{removed}, true},
		"all":                            {[]Membership{removed, removed}, true},
		"one says member":                {[]Membership{removed, member}, false},
		"one says unknown":               {[]Membership{unknown, removed}, false},
		"a restored cluster":             {[]Membership{unknown, unknown}, false},
		"a later admission of the name":  {[]Membership{answer("uid-2", StateRemoved)}, false},
		"without a UID":                  {[]Membership{answer("", StateRemoved)}, false},
		"another node":                   {[]Membership{otherNode}, false},
		"an empty answer":                {[]Membership{{}}, false},
		"an answer of a later version":   {[]Membership{answer(self.UID, "suspended")}, false},
		"another node beside the answer": {[]Membership{removed, otherNode}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := IsRemoved(self, c.answers); ok != c.want || ok && got.By != "c1" {
				t.Errorf("%+v %v", got, ok)
			}
		})
	}
}

func TestMembership_IsToldToNodesOnly(t *testing.T) {
	a, b := newTestCA(t), fakeCluster{bearer: token.Token{ID: "abcd1234", Secret: "topsecret"}.Bearer(), gone: "w"}
	worker, kubelet, other := a.worker(t, "w"), a.issue(t, nodecert.KubeletClient, "w", ""), newTestCA(t).worker(t, "w")
	told := func(_ context.Context, p nodecert.NodeID) (Membership, error) {
		return Membership{Node: p.Node, UID: p.UID, State: StateRemoved, By: "an administrator on c1"}, nil
	}
	for name, c := range map[string]struct {
		cert   *tls.Certificate
		bearer string
		status int
	}{
		"stranger":          {nil, "", 401},
		"holder of a token": {nil, b.bearer, 401},
		"kubelet":           {&kubelet, "", 401},
		"other authority":   {&other, "", 401},
		"removed node":      {&worker, "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, MembershipPath, nil)
			r.RemoteAddr = "10.0.0.7:4711"
			if c.bearer != "" {
				r.Header.Set("Authorization", "Bearer "+c.bearer)
			}
			if c.cert != nil {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.cert.Leaf}}
			}
			res := httptest.NewRecorder()
			Service{Backend: b, Store: b, Membership: told, Authority: a.authority}.Handler().ServeHTTP(res, r)
			if res.Code != c.status || (c.status == 200) != strings.Contains(res.Body.String(), "an administrator on c1") {
				t.Errorf("%d %s", res.Code, res.Body)
			}
		})
	}
	t.Run("not on workers", func(t *testing.T) {
		res := httptest.NewRecorder()
		Service{Backend: b, Store: b, Authority: a.authority}.Handler().ServeHTTP(res, httptest.NewRequestWithContext(t.Context(), http.MethodGet, MembershipPath, nil))
		if res.Code != http.StatusNotFound {
			t.Error(res.Code)
		}
	})
}

// askAt asks the server at an address as the node w.
func askAt(t *testing.T, a testCA, at string) (Membership, error) {
	t.Helper()
	c, err := NewMembershipClient(a.worker(t, "w"), token.PublicKeyPin(a.cert))
	if err != nil {
		t.Fatal(err)
	}
	c.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, at)
	}
	return c.Ask(t.Context(), netip.MustParseAddr("127.0.0.1"))
}

func TestMembershipClient_BelievesControllersOnly(t *testing.T) {
	a := newTestCA(t)
	says := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"node":"w","uid":"uid-of-w","state":"removed","by":"an administrator on c1","at":"2026-05-01T12:00:00Z"}`))
	})
	for name, cert := range map[string]tls.Certificate{
		"worker":                        a.worker(t, "w2"),
		"kubelet":                       a.issue(t, nodecert.KubeletServing, "c1", ""),
		"server that is not a node":     a.server(t),
		"controller of another cluster": newTestCA(t).controller(t, "c1"),
		"self-signed":                   selfSign(t, a.controller(t, "c1")),
		"expired":                       a.issueAt(t, nodecert.Agent, identityAt("c1", token.Controller, "127.0.0.1"), time.Now().Add(-nodecert.Lifetime)),
		"controller at another address": a.issueAt(t, nodecert.Agent, identityAt("c1", token.Controller, "127.0.0.2"), time.Now()),
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := askAt(t, a, startServer(t, cert, says)); err == nil || m != (Membership{}) {
				t.Errorf("believed: %+v", m)
			}
		})
	}
	t.Run("controller", func(t *testing.T) {
		m, err := askAt(t, a, startServer(t, a.controller(t, "c1"), says))
		if removed, ok := IsRemoved(self, []Membership{m}); err != nil || !ok || removed.By != "an administrator on c1" {
			t.Errorf("%+v %v", m, err)
		}
	})
}

// A refusal or an error never shows that the node was removed.
func TestMembershipClient_TakesNoRefusalForAnAnswer(t *testing.T) {
	a := newTestCA(t)
	for name, h := range map[string]http.HandlerFunc{
		"a removed node, by an older version": func(w http.ResponseWriter, _ *http.Request) {
			writeFailure(w, 401, "DENIED", "node w was removed from the cluster")
		},
		"not found":  http.NotFound,
		"forbidden":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"overloaded": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/v1/other", http.StatusFound) },
		"a refusal with the words of an answer": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			_, _ = w.Write([]byte(`{"node":"w","uid":"uid-of-w","state":"removed"}`))
		},
		"not JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("removed")) },
	} {
		t.Run(name, func(t *testing.T) {
			m, err := askAt(t, a, startServer(t, a.controller(t, "c1"), h))
			if err == nil || m.State != "" {
				t.Errorf("%+v %v", m, err)
			}
		})
	}
	t.Run("unreachable cluster", func(t *testing.T) {
		srv := httptest.NewServer(http.NotFoundHandler())
		at := srv.Listener.Addr().String()
		srv.Close()
		var denied *DeniedError
		if _, err := askAt(t, a, at); err == nil || errors.As(err, &denied) {
			t.Error(err)
		}
	})
}
