package registry

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/plinthdev/plinth/internal/kots/pki"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
)

func bench(t *testing.T) (Registry, *kubetest.Server) {
	t.Helper()
	s, c := kubetest.New(t)
	return Registry{Kube: c, Namespace: "registry", IP: "10.96.0.11", HostsDir: "/etc/k0s/certs.d"}, s
}

// data is a key of a stored secret.
func data(t *testing.T, s *kubetest.Server, at, key string) []byte {
	t.Helper()
	fields, _ := s.Object("/api/v1/namespaces/" + at)["data"].(map[string]any)
	text, _ := fields[key].(string)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEverythingIsMadeOnceAndKept(t *testing.T) {
	r, s := bench(t)
	if _, err := r.Trust(t.Context()); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("trust before: %v", err)
	}
	now := time.Now()
	if err := r.Prepare(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	s.Writes()
	if err := r.Prepare(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if got := s.Writes(); len(got) != 0 {
		t.Errorf("the second run wrote %q", got)
	}
}

func TestACertificateNearItsEndIsRenewedAndServed(t *testing.T) {
	r, s := bench(t)
	due := func(at time.Time, want string) {
		t.Helper()
		if why, err := r.Due(t.Context(), at); err != nil || want == "" && why != "" || !strings.Contains(why, want) {
			t.Errorf("due: %q, %v, want %q", why, err, want)
		}
	}
	now := time.Now()
	due(now, "has no certificate")
	if err := r.Prepare(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	due(now, "")
	late := now.Add(pki.ServerLife - 20*24*time.Hour)
	due(late, "expired on")
	const running = "/apis/apps/v1/namespaces/registry/deployments/registry"
	s.Put(running, map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "registry", "namespace": "registry"}})
	s.Writes()
	if err := r.Prepare(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Writes(), " "); got != "PUT /api/v1/namespaces/registry/secrets/registry-tls PATCH "+running {
		t.Errorf("wrote %q", got)
	}
	due(late, "")
}

func TestNodesTrustTheCertificateByItsAuthority(t *testing.T) {
	r, s := bench(t)
	if err := r.Prepare(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	files, err := r.Trust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hosts := string(files["/etc/k0s/certs.d/10.96.0.11:5000/hosts.toml"])
	if !strings.Contains(hosts, `[host."https://10.96.0.11:5000"]`) || !strings.Contains(hosts, `ca = "/etc/k0s/certs.d/10.96.0.11:5000/ca.crt"`) {
		t.Errorf("hosts.toml is %s", hosts)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files["/etc/k0s/certs.d/10.96.0.11:5000/ca.crt"]) {
		t.Fatal("ca.crt is no certificate")
	}
	leaf, err := pki.Pair{
		Cert: data(t, s, "registry/secrets/registry-tls", "tls.crt"), Key: data(t, s, "registry/secrets/registry-tls", "tls.key"),
	}.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots}); err != nil || leaf.VerifyHostname("10.96.0.11") != nil {
		t.Errorf("%v, %v", err, leaf.VerifyHostname("10.96.0.11"))
	}
}

func TestKOTSIsToldTheUserThatTheRegistryKnows(t *testing.T) {
	r, s := bench(t)
	if err := r.Announce(t.Context()); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("before Prepare: %v", err)
	}
	if err := r.Prepare(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if told, err := r.Announced(t.Context()); told || err != nil {
		t.Errorf("announced %t, %v", told, err)
	}
	if err := r.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told, err := r.Announced(t.Context()); !told || err != nil {
		t.Errorf("announced %t, %v", told, err)
	}
	var config struct {
		Auths map[string]struct{ Username, Password, Auth string }
	}
	if err := json.Unmarshal(data(t, s, "default/secrets/registry-creds", ".dockerconfigjson"), &config); err != nil {
		t.Fatal(err)
	}
	auth := config.Auths["10.96.0.11:5000"]
	name, hash, _ := strings.Cut(strings.TrimSpace(string(data(t, s, "registry/secrets/registry-htpasswd", "htpasswd"))), ":")
	if auth.Username != "kurl" || name != "kurl" || bcrypt.CompareHashAndPassword([]byte(hash), []byte(auth.Password)) != nil {
		t.Errorf("KOTS is told user %q, the registry knows %q, or the passwords differ", auth.Username, name)
	}
	if both, _ := base64.StdEncoding.DecodeString(auth.Auth); string(both) != auth.Username+":"+auth.Password {
		t.Error("auth is not user and password")
	}
}
