package agent

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/certificates"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/pki"
)

// identity is the agent's certificate, which the cluster's authority has signed. It is
// stored, because the command that downloads plinth pins its key.
type identity struct {
	*action.Env
	load   func(*action.Env) (tls.Certificate, *x509.Certificate, error)
	mu     sync.Mutex
	cert   tls.Certificate
	ca     *x509.Certificate
	readAt time.Time
}

// rereadInterval is how long a certificate is used before the files are read again.
const rereadInterval = time.Minute

// currentCert returns the certificate and the cluster's CA.
func (i *identity) currentCert() (tls.Certificate, *x509.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ca != nil && i.Now().Sub(i.readAt) < rereadInterval {
		return i.cert, i.ca, nil
	}
	cert, ca, err := i.load(i.Env)
	if err == nil {
		i.cert, i.ca, i.readAt = cert, ca, i.Now()
	}
	return cert, ca, err
}

// loadControllerCert returns the stored certificate of a controller's agent and the
// cluster's CA. If the certificate is to be renewed or does not match the CA or the addresses
// of this node, it signs and stores a new one for the same key.
func loadControllerCert(env *action.Env) (cert tls.Certificate, ca *x509.Certificate, err error) {
	receipt, ok, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err != nil || !ok {
		return cert, nil, errors.Join(err, errors.New("nothing is installed yet"))
	}
	raw, err := env.Host.ReadFile(k0s.CACertPath)
	if err != nil {
		return cert, nil, err
	}
	if ca, err = parseCertificate(raw); err != nil {
		return cert, nil, err
	}
	stored, err := node.ReadIdentity(env.Host, env.DataDir)
	if err != nil {
		return cert, nil, err
	}
	if cert, err = stored.TLS(); err != nil {
		return cert, nil, err
	}
	hosts := []string{receipt.Address, receipt.Node}
	if receipt.API != "" {
		hosts = append(hosts, receipt.API)
	}
	if isCertUsable(cert.Leaf, ca, hosts, env.Now()) {
		return cert, ca, nil
	}
	next, err := certificates.IssueAgent(env, receipt, stored)
	if err != nil {
		return cert, nil, err
	}
	cert, err = next.TLS()
	return cert, ca, err
}

// serverCert returns the certificate for one connection.
func (i *identity) serverCert(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, _, err := i.currentCert()
	return &cert, err
}

// authority returns the cluster's certificate authority.
func (i *identity) authority() (*x509.Certificate, error) {
	_, ca, err := i.currentCert()
	return ca, err
}

// isCertUsable reports whether leaf was issued by ca, is valid for all hosts and does
// has pki.RenewBelow of its life left.
func isCertUsable(leaf, ca *x509.Certificate, hosts []string, now time.Time) bool {
	if leaf.CheckSignatureFrom(ca) != nil || pki.LifeLeft(leaf, now) < pki.RenewBelow {
		return false
	}
	return !slices.ContainsFunc(hosts, func(h string) bool { return leaf.VerifyHostname(h) != nil })
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New(k0s.CACertPath + " is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
