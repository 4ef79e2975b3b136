package pki

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func now() time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC) }

func mustPair(t *testing.T, make func() (Pair, error)) Pair {
	t.Helper()
	p, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNewSelfSigned_IsValidForEveryHost(t *testing.T) {
	hosts := []string{"console.example.com", "n1", "10.77.0.11", "fd00::1"}
	p := mustPair(t, func() (Pair, error) { return NewSelfSigned(hosts, now()) })
	if err := p.Check(hosts, now()); err != nil {
		t.Error(err)
	}
	leaf, err := p.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	if got := leaf.NotAfter.Sub(leaf.NotBefore); got != ServerLifetime {
		t.Errorf("valid for %s, want %s", got, ServerLifetime)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "n1", CurrentTime: now()}); err != nil {
		t.Errorf("a client that trusts the certificate rejects it: %v", err)
	}
}

func TestCheck_ReportsEachFault(t *testing.T) {
	p := mustPair(t, func() (Pair, error) { return NewSelfSigned([]string{"a.example.com"}, now()) })
	other := mustPair(t, func() (Pair, error) { return NewSelfSigned([]string{"a.example.com"}, now()) })
	ca := mustPair(t, func() (Pair, error) { return NewCA("ca", now()) })
	tests := []struct {
		name  string
		pair  Pair
		hosts []string
		now   time.Time
		want  string
	}{
		{"good", p, []string{"a.example.com"}, now(), ""},
		{"other key", Pair{p.Cert, other.Key}, nil, now(), "private key does not match"},
		{"no certificate", Pair{[]byte("x"), p.Key}, nil, now(), "failed to find any PEM data"},
		{"expired", p, nil, now().Add(ServerLifetime), "expired on 2029-02-03"},
		{"not yet", p, nil, now().Add(-2 * time.Hour), "not valid before 2026-11-01"},
		{"other host", p, []string{"b.example.com"}, now(), "not b.example.com"},
		{"authority without names", ca, []string{"ca"}, now(), "ca"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.pair.Check(tt.hosts, tt.now)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want …%s…", err, tt.want)
			}
		})
	}
}

func TestIssueServerCert_IsTrustedThroughItsAuthorityOnly(t *testing.T) {
	ca := mustPair(t, func() (Pair, error) { return NewCA("plinth registry", now()) })
	p := mustPair(t, func() (Pair, error) { return ca.IssueServerCert([]string{"10.96.0.11"}, now()) })
	leaf, err := p.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.Cert)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now()}); err != nil {
		t.Error(err)
	}
	foreign := mustPair(t, func() (Pair, error) { return NewCA("plinth registry", now()) })
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(foreign.Cert)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now()}); err == nil {
		t.Error("trusted through an authority that did not sign it")
	}
	if err := p.Check([]string{"10.96.0.11"}, now()); err != nil {
		t.Error(err)
	}
}

func FuzzLeaf(f *testing.F) {
	p, err := NewSelfSigned([]string{"a"}, now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.Cert, p.Key)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), p.Key)
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		leaf, err := Pair{Cert: cert, Key: key}.Leaf()
		if (leaf == nil) == (err == nil) {
			t.Errorf("leaf %v with error %v", leaf, err)
		}
	})
}

func TestNewClusterCA_IsLikeThatOfK0s(t *testing.T) {
	pair := mustPair(t, func() (Pair, error) { return NewClusterCA(now()) })
	ca, err := pair.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	if !ca.IsCA || ca.Subject.String() != "CN=kubernetes-ca" || ca.PublicKeyAlgorithm != x509.RSA || ca.NotAfter.Sub(now()) != CALifetime {
		t.Errorf("%v %v %v, CA %v", ca.Subject, ca.PublicKeyAlgorithm, ca.NotAfter, ca.IsCA)
	}
	server := mustPair(t, func() (Pair, error) { return pair.IssueServerCert([]string{"n1"}, now()) })
	leaf, err := server.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		t.Error(err)
	}
}

func TestLifeLeft_IsZeroOutsideOfValidity(t *testing.T) {
	start := now()
	c := &x509.Certificate{NotBefore: start, NotAfter: start.Add(300 * time.Hour)}
	for at, want := range map[time.Duration]float64{-time.Second: 0, 0: 1, 150 * time.Hour: 0.5, 200 * time.Hour: 1.0 / 3, 300 * time.Hour: 0, 301 * time.Hour: 0} {
		if got := LifeLeft(c, start.Add(at)); got < want-1e-9 || got > want+1e-9 {
			t.Errorf("after %s: %g, want %g", at, got, want)
		}
	}
	if got := LifeLeft(&x509.Certificate{NotBefore: start, NotAfter: start}, start); got != 0 {
		t.Errorf("without a life: %g", got)
	}
}

func TestHosts_BeginsWithCommonName(t *testing.T) {
	for _, hosts := range [][]string{{"10.0.0.1", "b", "a"}, {"b", "a"}, {"a"}} {
		pair := mustPair(t, func() (Pair, error) { return NewSelfSigned(hosts, now()) })
		leaf, err := ParseCertificate(append(append([]byte("text before\n"), pair.Key...), pair.Cert...))
		if err != nil {
			t.Fatal(err)
		}
		if got := Hosts(leaf); len(got) != len(hosts) || got[0] != hosts[0] {
			t.Errorf("%v, want %v", got, hosts)
		}
	}
	if _, err := ParseCertificate([]byte("-----BEGIN RSA PRIVATE KEY-----\n-----END RSA PRIVATE KEY-----\n")); err == nil {
		t.Error("a key is a certificate")
	}
}
