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

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/pki"
)

func newBench(t *testing.T) (Registry, *kubetest.Server) {
	t.Helper()
	s, c := kubetest.New(t)
	return Registry{Kube: c, Namespace: "registry", IP: "10.96.0.11", Domain: "corp.local", HostsDir: "/etc/k0s/certs.d"}, s
}

// secretData returns the value of a key of a stored secret.
func secretData(t *testing.T, s *kubetest.Server, at, key string) []byte {
	t.Helper()
	fields, _ := s.Object("/api/v1/namespaces/" + at)["data"].(map[string]any)
	text, _ := fields[key].(string)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPrepare_WritesNothingOnSecondRun(t *testing.T) {
	r, s := newBench(t)
	if _, err := r.TrustFiles(t.Context()); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("trust files before Prepare: %v", err)
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

func TestPrepare_RenewsCertificateAndRestartsRegistry(t *testing.T) {
	r, s := newBench(t)
	checkNeedsRenewal := func(at time.Time, want string) {
		t.Helper()
		if reason, err := r.Serving().NeedsRenewal(t.Context(), at); err != nil || want == "" && reason != "" || !strings.Contains(reason, want) {
			t.Errorf("needs renewal: %q, %v, want %q", reason, err, want)
		}
	}
	now := time.Now()
	checkNeedsRenewal(now, "has no certificate")
	if err := r.Prepare(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	checkNeedsRenewal(now, "")
	checkNeedsRenewal(now.Add(pki.ServerLifetime*13/20), "")
	checkNeedsRenewal(now.Add(pki.ServerLifetime+time.Hour), "expired on")
	late := now.Add(pki.ServerLifetime * 7 / 10)
	checkNeedsRenewal(late, "ends on")
	const running = "/apis/apps/v1/namespaces/registry/deployments/registry"
	s.Put(running, map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "registry", "namespace": "registry"}})
	s.Writes()
	if err := r.Prepare(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Writes(), " "); got != "PUT /api/v1/namespaces/registry/secrets/registry-tls PATCH "+running {
		t.Errorf("wrote %q", got)
	}
	checkNeedsRenewal(late, "")
}

func TestRenew_KeepsNamesAndAuthority(t *testing.T) {
	r, s := newBench(t)
	now := time.Now()
	if err := r.Serving().Renew(t.Context(), now); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("before Prepare: %v", err)
	}
	if err := r.Prepare(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	read := func() *x509.Certificate {
		t.Helper()
		leaf, err := pki.Pair{Cert: secretData(t, s, "registry/secrets/registry-tls", "tls.crt"), Key: secretData(t, s, "registry/secrets/registry-tls", "tls.key")}.Leaf()
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	old := read()
	s.Writes()
	at := Registry{Kube: r.Kube, Namespace: r.Namespace} // the agent knows no more
	if err := at.Serving().Renew(t.Context(), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	renewed := read()
	if got := strings.Join(s.Writes(), " "); got != "PUT /api/v1/namespaces/registry/secrets/registry-tls" {
		t.Errorf("wrote %q", got)
	}
	if pem, err := at.Serving().Certificate(t.Context()); err != nil || len(pem) == 0 {
		t.Errorf("%s %v", pem, err)
	}
	if !renewed.NotAfter.After(old.NotAfter) || strings.Join(pki.Hosts(renewed), " ") != strings.Join(pki.Hosts(old), " ") || pki.Hosts(old)[0] != "10.96.0.11" || old.Issuer.String() != renewed.Issuer.String() {
		t.Errorf("%v, was %v", pki.Hosts(renewed), pki.Hosts(old))
	}
}

func TestTrustFiles_TrustCertificateThroughAuthority(t *testing.T) {
	r, s := newBench(t)
	if err := r.Prepare(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	files, err := r.TrustFiles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hosts := string(files["/etc/k0s/certs.d/10.96.0.11:5000/hosts.toml"])
	if !strings.Contains(hosts, `[host."https://10.96.0.11:5000"]`) || !strings.Contains(hosts, `ca = "/etc/k0s/certs.d/10.96.0.11:5000/ca.crt"`) {
		t.Errorf("hosts.toml is %s", hosts)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files["/etc/k0s/certs.d/10.96.0.11:5000/ca.crt"]) {
		t.Fatal("ca.crt does not contain a certificate")
	}
	leaf, err := pki.Pair{
		Cert: secretData(t, s, "registry/secrets/registry-tls", "tls.crt"), Key: secretData(t, s, "registry/secrets/registry-tls", "tls.key"),
	}.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"10.96.0.11", "registry.registry.svc", "registry.registry.svc.corp.local"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots}); err != nil || leaf.VerifyHostname(name) != nil {
			t.Errorf("%v, %v", err, leaf.VerifyHostname(name))
		}
	}
}

func TestConfigureKOTS_StoresCredentialsOfRegistry(t *testing.T) {
	r, s := newBench(t)
	if err := r.ConfigureKOTS(t.Context()); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("before Prepare: %v", err)
	}
	if err := r.Prepare(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if configured, err := r.KOTSConfigured(t.Context()); configured || err != nil {
		t.Errorf("configured %t, %v", configured, err)
	}
	if err := r.ConfigureKOTS(t.Context()); err != nil {
		t.Fatal(err)
	}
	if configured, err := r.KOTSConfigured(t.Context()); !configured || err != nil {
		t.Errorf("configured %t, %v", configured, err)
	}
	var config struct {
		Auths map[string]struct{ Username, Password, Auth string }
	}
	if err := json.Unmarshal(secretData(t, s, "default/secrets/registry-creds", ".dockerconfigjson"), &config); err != nil {
		t.Fatal(err)
	}
	auth := config.Auths["10.96.0.11:5000"]
	name, hash, _ := strings.Cut(strings.TrimSpace(string(secretData(t, s, "registry/secrets/registry-htpasswd", "htpasswd"))), ":")
	if auth.Username != "kurl" || name != "kurl" || bcrypt.CompareHashAndPassword([]byte(hash), []byte(auth.Password)) != nil {
		t.Errorf("KOTS uses user %q, the registry has %q, or the passwords differ", auth.Username, name)
	}
	if both, _ := base64.StdEncoding.DecodeString(auth.Auth); string(both) != auth.Username+":"+auth.Password {
		t.Error("auth is not user and password")
	}
}
