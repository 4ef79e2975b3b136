package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/token"
)

// testCA is the certificate authority of a cluster.
type testCA struct {
	pair pki.Pair
	cert *x509.Certificate
}

// newTestCA returns an authority that was created two years ago, so that certificates below it can
// have expired. All authorities have the same name, but not the same key.
func newTestCA(t testing.TB) testCA {
	t.Helper()
	pair, err := pki.NewCA(pki.ClusterCAName, time.Now().Add(-2*nodecert.Lifetime))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	return testCA{pair, cert}
}

// authority is the Service.Authority of a node below a.
func (a testCA) authority() (*x509.Certificate, error) { return a.cert, nil }

// identityAt returns the identity of a node at an address.
func identityAt(node, role, address string) nodecert.Identity {
	return nodecert.Identity{Node: node, UID: "uid-of-" + node, Role: role, Address: address}
}

// issueAt returns a certificate of a node, as the cluster signs it at the time now.
func (a testCA) issueAt(t testing.TB, kind nodecert.Kind, id nodecert.Identity, now time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := nodecert.NewRequest(kind, id, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := nodecert.Sign(kind, id, request, a.pair, now)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair(t, pki.Pair{Cert: append(raw, a.pair.Cert...), Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})})
}

// issue returns a certificate of a node at 127.0.0.1.
func (a testCA) issue(t testing.TB, kind nodecert.Kind, node, role string) tls.Certificate {
	t.Helper()
	return a.issueAt(t, kind, identityAt(node, role, "127.0.0.1"), time.Now())
}

// controller returns the certificate of a controller's agent.
func (a testCA) controller(t testing.TB, node string) tls.Certificate {
	t.Helper()
	return a.issue(t, nodecert.Agent, node, token.Controller)
}

// worker returns the certificate of a worker's agent.
func (a testCA) worker(t testing.TB, node string) tls.Certificate {
	t.Helper()
	return a.issue(t, nodecert.Agent, node, token.Worker)
}

// server returns the certificate of a server below a that is not of a node.
func (a testCA) server(t testing.TB) tls.Certificate {
	t.Helper()
	pair, err := a.pair.IssueServerCert([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair.Cert = append(pair.Cert, a.pair.Cert...)
	return keyPair(t, pair)
}

// newSelfSigned returns the certificate of a host that is not a node.
func newSelfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	pair, err := pki.NewSelfSigned([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return keyPair(t, pair)
}

// selfSign returns the certificate with its own signature in place of the authority's. The chain still
// has the authority.
func selfSign(t testing.TB, c tls.Certificate) tls.Certificate {
	t.Helper()
	template := *c.Leaf
	template.SignatureAlgorithm = 0 // that of the leaf's key
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, c.Leaf.PublicKey, c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: append([][]byte{der}, c.Certificate[1:]...), PrivateKey: c.PrivateKey, Leaf: leaf}
}

func keyPair(t testing.TB, p pki.Pair) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pinOf returns the pin of a certificate's key.
func pinOf(c tls.Certificate) string { return token.PublicKeyPin(c.Leaf) }
