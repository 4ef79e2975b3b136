package kots

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/problem"
)

const (
	secretPath = "/api/v1/namespaces/kotsadm/secrets/kotsadm-tls"
	proxyPath  = "/apis/apps/v1/namespaces/kotsadm/deployments/console-proxy"
)

func newProxyBench(t *testing.T) (ConsoleProxy, *kubetest.Server) {
	t.Helper()
	s, c := kubetest.New(t)
	return ConsoleProxy{Kube: c, Namespace: "kotsadm"}, s
}

func mustEnsureCertificate(t *testing.T, f ConsoleProxy, hosts []string, now time.Time) []byte {
	t.Helper()
	if err := f.EnsureCertificate(t.Context(), hosts, now); err != nil {
		t.Fatal(err)
	}
	cert, selfSigned, err := f.Certificate(t.Context())
	if err != nil || !selfSigned {
		t.Fatalf("self-signed %t, %v", selfSigned, err)
	}
	return cert
}

func TestPort_IsThatOfTheService(t *testing.T) {
	f, s := newProxyBench(t)
	if _, err := f.Port(t.Context()); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	const service = "/api/v1/namespaces/kotsadm/services/console-proxy"
	s.Put(service, map[string]any{"apiVersion": "v1", "kind": "Service", "spec": map[string]any{"ports": []any{map[string]any{"port": 443, "nodePort": 8801}}}})
	if port, err := f.Port(t.Context()); port != 8801 || err != nil {
		t.Errorf("%d, %v", port, err)
	}
	s.Put(service, map[string]any{"apiVersion": "v1", "kind": "Service", "spec": map[string]any{"ports": []any{map[string]any{"port": 443}}}})
	if port, err := f.Port(t.Context()); err == nil {
		t.Errorf("without a node port: %d", port)
	}
}

func TestEnsureCertificate_ReplacesOnlyIfNeeded(t *testing.T) {
	f, s := newProxyBench(t)
	now := time.Now()
	if _, _, err := f.Certificate(t.Context()); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	first := mustEnsureCertificate(t, f, []string{"n1", "10.0.0.1"}, now)
	if host := s.Object(secretPath)["data"].(map[string]any)["hostname"]; host != base64.StdEncoding.EncodeToString([]byte("n1")) {
		t.Errorf("hostname is %v", host)
	}
	for _, again := range []struct {
		name  string
		hosts []string
		now   time.Time
		same  bool
	}{
		{"nothing changed", []string{"n1", "10.0.0.1"}, now, true},
		{"fewer hosts", []string{"n1"}, now, true},
		{"new node", []string{"n1", "10.0.0.2"}, now, false},
		{"expires soon", []string{"n1"}, now.Add(pki.ServerLifetime - 20*24*time.Hour), false},
	} {
		t.Run(again.name, func(t *testing.T) {
			if got := mustEnsureCertificate(t, f, again.hosts, again.now); bytes.Equal(got, first) != again.same {
				t.Errorf("same certificate %t, want %t", !again.same, again.same)
			}
		})
	}
}

func TestRenewCertificate_KeepsHostsAndUsersCertificate(t *testing.T) {
	f, s := newProxyBench(t)
	now := time.Now()
	if err := f.RenewCertificate(t.Context(), now); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("before: %v", err)
	}
	s.Put(proxyPath, map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "console-proxy"}})
	old, err := pki.ParseCertificate(mustEnsureCertificate(t, f, []string{"n1", "a.example.com", "10.0.0.1"}, now))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.RenewCertificate(t.Context(), now.Add(pki.ServerLifetime)); err != nil {
		t.Fatal(err)
	}
	cert, selfSigned, err := f.Certificate(t.Context())
	if err != nil || !selfSigned {
		t.Fatalf("self-signed %t, %v", selfSigned, err)
	}
	renewed, err := pki.ParseCertificate(cert)
	if err != nil || !renewed.NotAfter.After(old.NotAfter) || fmt.Sprint(pki.Hosts(renewed)) != fmt.Sprint(pki.Hosts(old)) || renewed.Subject.CommonName != "n1" {
		t.Errorf("%v %v, was %v", renewed.NotAfter, pki.Hosts(renewed), pki.Hosts(old))
	}
	if text := fmt.Sprint(s.Object(proxyPath)); !strings.Contains(text, "plinth.dev/certificate") {
		t.Errorf("the proxy was not restarted: %s", text)
	}
	own, err := pki.NewSelfSigned([]string{"console.example.com"}, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.putCertificate(t.Context(), own, "console.example.com", false); err != nil {
		t.Fatal(err)
	}
	if err := f.RenewCertificate(t.Context(), now); err == nil || !strings.Contains(err.Error(), "the user's own") {
		t.Errorf("the user's own: %v", err)
	}
}

func TestSetCertificate_ChecksAndKeepsUsersCertificate(t *testing.T) {
	f, s := newProxyBench(t)
	s.Put(proxyPath, map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "console-proxy"}})
	own, err := pki.NewSelfSigned([]string{"console.example.com"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	old, err := pki.NewSelfSigned([]string{"console.example.com"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	// After a roll-out, the old and the new certificate are served in turn.
	url, asked := serveCertificates(t, old, own, old, own)
	w := kube.Wait{Timeout: 20 * time.Second}
	err = f.SetCertificate(t.Context(), own, []string{"other.example.com"}, url, w)
	if problem.ExitCode(err) != problem.ExitConfig || len(s.Writes()) != 0 {
		t.Errorf("for another host: %v", err)
	}
	if has, err := f.HasCertificate(t.Context(), own); has || err != nil {
		t.Errorf("it is served already: %v %v", has, err)
	}
	if err := f.SetCertificate(t.Context(), own, []string{"console.example.com"}, url, w); err != nil {
		t.Fatal(err)
	}
	if has, err := f.HasCertificate(t.Context(), own); !has || err != nil {
		t.Errorf("it is not served: %v %v", has, err)
	}
	if has, err := f.HasCertificate(t.Context(), old); has || err != nil {
		t.Errorf("another one is served: %v %v", has, err)
	}
	if n := asked.Load(); n != 3+servedTimes {
		t.Errorf("it was accepted as served after %d requests", n)
	}
	if got := s.Writes(); !slices.Equal(got, []string{"POST /api/v1/namespaces/kotsadm/secrets", "PATCH " + proxyPath}) {
		t.Errorf("wrote %q", got)
	}
	if text := fmt.Sprint(s.Object(proxyPath)); !strings.Contains(text, "plinth.dev/certificate") {
		t.Errorf("the proxy was not restarted: %s", text)
	}
	if err := f.EnsureCertificate(t.Context(), []string{"n1"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	cert, selfSigned, err := f.Certificate(t.Context())
	if err != nil || selfSigned || !bytes.Equal(cert, own.Cert) {
		t.Errorf("self-signed %t, the user's %t, %v", selfSigned, bytes.Equal(cert, own.Cert), err)
	}
}

// serveCertificates serves TLS with one certificate per connection, in order,
// and with the last one from then on.
func serveCertificates(t *testing.T, pairs ...pki.Pair) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // rejected handshakes are expected here
	srv.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		p := pairs[min(int(asked.Add(1)), len(pairs))-1]
		served, err := tls.X509KeyPair(p.Cert, p.Key)
		return &tls.Config{Certificates: []tls.Certificate{served}}, err
	}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

// serveHealth serves a health response over TLS with a self-signed certificate.
func serveHealth(t *testing.T, body string) (url string, cert []byte) {
	t.Helper()
	pair, err := pki.NewSelfSigned([]string{"n1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	served, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || body == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		io.WriteString(w, body) //nolint:errcheck // a test's client
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{served}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL, pair.Cert
}

const healthy = `{"version":"v1.131.2","gitSha":"x","status":{"database":{"connected":true},"storage":{"available":true}}}`

func TestGetConsoleHealth_AcceptsOneCertificateOnly(t *testing.T) {
	url, cert := serveHealth(t, healthy)
	h, err := GetConsoleHealth(t.Context(), url, cert)
	if err != nil || h != (ConsoleHealth{Version: "1.131.2", Database: true, Storage: true}) {
		t.Errorf("got %+v, %v", h, err)
	}
	_, other := serveHealth(t, healthy)
	if _, err := GetConsoleHealth(t.Context(), url, other); err == nil || !strings.Contains(err.Error(), "another certificate") {
		t.Errorf("with another certificate: %v", err)
	}
	if _, err := GetConsoleHealth(t.Context(), url, []byte("x")); err == nil {
		t.Error("an invalid certificate is accepted")
	}
}

func TestWaitConsoleHealthy_NamesReason(t *testing.T) {
	for name, tt := range map[string]struct{ body, want string }{
		"unavailable":      {"", "503"},
		"not the console":  {"hello", "the response is not from the console"},
		"other version":    {strings.Replace(healthy, "1.131.2", "1.130.0", 1), "version 1.130.0 responds, not 1.131.2"},
		"database is down": {strings.Replace(healthy, `"connected":true`, `"connected":false`, 1), "its database is connected: false"},
	} {
		t.Run(name, func(t *testing.T) {
			url, cert := serveHealth(t, tt.body)
			err := WaitConsoleHealthy(t.Context(), url, cert, "1.131.2", kube.Wait{Timeout: 2 * time.Second})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
	t.Run("healthy", func(t *testing.T) {
		url, cert := serveHealth(t, healthy)
		if err := WaitConsoleHealthy(t.Context(), url, cert, "1.131.2", kube.Wait{Timeout: 20 * time.Second}); err != nil {
			t.Error(err)
		}
	})
}

func FuzzParseConsoleHealth(f *testing.F) {
	f.Add([]byte(healthy))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseConsoleHealth(b); err != nil && h != (ConsoleHealth{}) {
			t.Errorf("%+v with %v", h, err)
		}
	})
}

func TestCertificateNeeded_ForAnotherHostName(t *testing.T) {
	_, c := kubetest.New(t)
	f := ConsoleProxy{Kube: c, Namespace: "kotsadm"}
	now := time.Now()
	check := func(host, want string) {
		t.Helper()
		if why, err := f.CertificateNeeded(t.Context(), host, now); err != nil || why != want {
			t.Errorf("%q: %q, %v", host, why, err)
		}
	}
	check("", "the console has no certificate")
	mustEnsureCertificate(t, f, []string{"old.example.com", "10.0.0.1"}, now)
	check("", "") // each node has another address
	check("old.example.com", "")
	check("new.example.com", "the certificate of the console is not for new.example.com")
	own, err := pki.NewSelfSigned([]string{"users.example.com"}, now)
	if err := errors.Join(err, f.putCertificate(t.Context(), own, "users.example.com", false)); err != nil {
		t.Fatal(err)
	}
	check("new.example.com", "") // that of the user is never replaced
}
