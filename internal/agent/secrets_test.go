package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/token"
)

// TestControllerSecrets_AreForAdmittedControllersOnly tests what the server decides itself, and that
// the backend's refusal holds; each answer and each refusal is audited, without a key.
func TestControllerSecrets_AreForAdmittedControllersOnly(t *testing.T) {
	a, w := newTestCA(t), fakeCluster{bearer: token.Token{ID: "abcd1234", Secret: "topsecret"}.Bearer()}
	joining, worker, other := a.controller(t, "c2"), a.worker(t, "w1"), newTestCA(t).controller(t, "c2")
	secret := strings.Repeat("k", 32)
	read := func(_ context.Context, c Caller) (ControllerSecrets, error) {
		if c.NodeID.Node != "c2" {
			return ControllerSecrets{}, &StatusError{Reason: "node " + c.NodeID.Node + " is a worker", Status: http.StatusUnauthorized}
		}
		return ControllerSecrets{EncryptionKeys: []EncryptionKey{{"key1", []byte(secret)}}}, nil
	}
	for name, c := range map[string]struct {
		cert   *tls.Certificate
		bearer string
		status int
		line   string
	}{
		"stranger":            {nil, "", 401, "only a controller that joins gets keys"},
		"holder of a token":   {nil, w.bearer, 401, "only a controller that joins gets keys"},
		"other authority":     {&other, w.bearer, 401, "only a controller that joins gets keys"},
		"worker":              {&worker, w.bearer, 401, "node w1 is a worker"},
		"admitted controller": {&joining, "", 200, `audit event=admission node="c2" peer=10.0.0.7 token=- result="got the keys that encrypt Secrets in etcd"`},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			h := Service{Backend: w, Store: w, Secrets: read, Authority: a.authority, Audit: func(l string) { lines = append(lines, l) }}.Handler()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, ControllerSecretsPath, nil)
			r.RemoteAddr = "10.0.0.7:4711"
			if c.bearer != "" {
				r.Header.Set("Authorization", "Bearer "+c.bearer)
			}
			if c.cert != nil {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.cert.Leaf}}
			}
			res := httptest.NewRecorder()
			h.ServeHTTP(res, r)
			if res.Code != c.status || (c.status == 200) != strings.Contains(res.Body.String(), `"name":"key1"`) {
				t.Errorf("%d %s", res.Code, res.Body)
			}
			if len(lines) != 1 || !strings.Contains(lines[0], c.line) || strings.Contains(lines[0], secret) {
				t.Errorf("%q, want %s", lines, c.line)
			}
			if c.status == 200 && res.Header().Get("Cache-Control") != "no-store" {
				t.Error("the answer may be cached")
			}
		})
	}
	t.Run("not on workers", func(t *testing.T) {
		res := httptest.NewRecorder()
		Service{Backend: w, Store: w, Authority: a.authority}.Handler().ServeHTTP(res, httptest.NewRequestWithContext(t.Context(), http.MethodGet, ControllerSecretsPath, nil))
		if res.Code != http.StatusNotFound {
			t.Error(res.Code)
		}
	})
}
