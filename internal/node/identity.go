package node

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
)

// Identity is how the agent of a node shows what it is: a key, and the certificate that the
// cluster has issued for it. Until the cluster has admitted the host, the certificate is
// self-signed and shows only the key.
type Identity struct{ Pair pki.Pair } // Cert: the certificate and, if the cluster issued it, the authority

// IdentityPath returns the file in which a node stores its identity.
func IdentityPath(dataDir string) string { return dataDir + "/agent/identity.pem" }

// NewIdentity returns an identity with a new key, for a host that is not a node yet.
func NewIdentity(now time.Time) (Identity, error) {
	p, err := pki.NewSelfSigned([]string{"plinth"}, now)
	return Identity{p}, err
}

// ReadIdentity returns the stored identity. The error is fs.ErrNotExist if there is none.
func ReadIdentity(h host.Files, dataDir string) (Identity, error) {
	raw, err := h.ReadFile(IdentityPath(dataDir))
	if err != nil {
		return Identity{}, err
	}
	var i Identity
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			i.Pair.Cert = append(i.Pair.Cert, pem.EncodeToMemory(block)...)
		} else {
			i.Pair.Key = pem.EncodeToMemory(block)
		}
	}
	if _, err := i.TLS(); err != nil {
		return Identity{}, fmt.Errorf("%s: %w", IdentityPath(dataDir), err)
	}
	return i, nil
}

// Write stores the identity, readable only by root.
func (i Identity) Write(h host.Files, dataDir string) error {
	return h.Write(IdentityPath(dataDir), bytes.NewReader(slices.Concat(i.Pair.Cert, i.Pair.Key)), 0o600)
}

// TLS returns the certificate with its key, for clients and servers.
func (i Identity) TLS() (tls.Certificate, error) { return tls.X509KeyPair(i.Pair.Cert, i.Pair.Key) }

// Key returns the private key; secret.
func (i Identity) Key() (crypto.Signer, error) {
	c, err := i.TLS()
	if err != nil {
		return nil, err
	}
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key of the agent cannot sign")
	}
	return key, nil
}

// Authority returns the authority that has issued the certificate, or nil for a host that the
// cluster has not admitted.
func (i Identity) Authority() (*x509.Certificate, error) {
	c, err := i.TLS()
	if err != nil || len(c.Certificate) < 2 {
		return nil, err
	}
	return x509.ParseCertificate(c.Certificate[1])
}

// WithCertificate returns the identity with the certificate that the cluster whose authority is
// ca has issued for its key, both PEM.
func (i Identity) WithCertificate(cert, ca []byte) (Identity, error) {
	next := Identity{pki.Pair{Cert: slices.Concat(cert, ca), Key: i.Pair.Key}}
	c, err := next.TLS()
	if err != nil {
		return Identity{}, err
	}
	if len(c.Certificate) != 2 { // else a certificate that comes along with cert would be taken for the authority
		return Identity{}, fmt.Errorf("there are %d certificates instead of that of the agent and the authority", len(c.Certificate))
	}
	authority, err := next.Authority()
	if err != nil {
		return Identity{}, err
	}
	if err := c.Leaf.CheckSignatureFrom(authority); err != nil {
		return Identity{}, err
	}
	if _, ok := nodecert.NodeIDOf(c.Leaf); !ok {
		return Identity{}, errors.New("the certificate is not that of an agent")
	}
	return next, nil
}

// Issue returns the identity with a certificate that the authority ca signs for its key.
func (i Identity) Issue(id nodecert.Identity, ca pki.Pair, now time.Time) (Identity, error) {
	key, err := i.Key()
	if err != nil {
		return Identity{}, err
	}
	request, err := nodecert.NewRequest(nodecert.Agent, id, key)
	if err != nil {
		return Identity{}, err
	}
	cert, err := nodecert.Sign(nodecert.Agent, id, request, ca, now)
	if err != nil {
		return Identity{}, err
	}
	return i.WithCertificate(cert, ca.Cert)
}

// NodeID returns what the certificate says this host is. ok is false if the cluster has not
// admitted it.
func (i Identity) NodeID() (p nodecert.NodeID, ok bool) {
	leaf, err := i.Pair.Leaf()
	if err != nil {
		return p, false
	}
	return nodecert.NodeIDOf(leaf)
}
