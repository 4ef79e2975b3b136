package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

// Caller is the client of a request: what its connection shows, and what its header claims.
type Caller struct {
	Bearer string          // join token, or its form for reading; "" for none
	Key    string          // pin of the public key whose private key the client has; "" without a certificate
	NodeID nodecert.NodeID // from an agent's certificate that the cluster's authority has signed; zero for none. It may have been removed since.
}

// IsNode reports whether the client has shown the certificate of a node's agent.
func (c Caller) IsNode() bool { return c.NodeID.Node != "" }

// callerKey is the key of the identifiedCaller in a request's context.
type callerKey struct{}

// identifiedCaller is the client of one request. Only the goroutine of the request uses it.
type identifiedCaller struct {
	Caller
	checked bool  // Backend.CheckNode was called
	nodeErr error // its result
	certErr error // why a certificate with the subject of an agent does not count; nil otherwise
}

// callerOf returns the client of a request.
func callerOf(r *http.Request) Caller {
	if c, ok := r.Context().Value(callerKey{}).(*identifiedCaller); ok {
		return c.Caller
	}
	return Caller{}
}

// identifyCaller returns the client of a request. A certificate that authority has not signed shows
// only a key. TLS has verified that the client has the private key of its certificate. The error is
// that of authority, which is called only for a certificate with the subject of an agent.
func identifyCaller(r *http.Request, authority func() (*x509.Certificate, error), now time.Time) (*identifiedCaller, error) {
	c := &identifiedCaller{Caller: Caller{Bearer: bearerToken(r)}}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return c, nil
	}
	leaf := r.TLS.PeerCertificates[0]
	c.Key = token.PublicKeyPin(leaf)
	id, ok := nodecert.NodeIDOf(leaf) // first, because it costs less than to verify a signature
	if !ok || authority == nil {
		return c, nil
	}
	ca, err := authority()
	if err != nil {
		return c, fmt.Errorf("cannot read the cluster's certificate authority: %w", err)
	}
	if ca == nil {
		c.certErr = errors.New("this node does not know its cluster's authority yet")
		return c, nil
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		c.certErr = err
		return c, nil
	}
	c.NodeID = id
	return c, nil
}

// withCaller returns the request with its client in the context.
func withCaller(r *http.Request, c *identifiedCaller) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
}
