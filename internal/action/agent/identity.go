package agent

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/pki"
)

// identity is the agent's certificate, which the cluster's CA has issued. It is stored,
// because the command that downloads plinth pins its key.
type identity struct {
	*action.Env
	load   func(*action.Env) (tls.Certificate, *x509.Certificate, error)
	mu     sync.Mutex
	cert   tls.Certificate
	ca     *x509.Certificate
	readAt time.Time
}

// renewBefore is how long before its expiry a certificate is replaced.
const renewBefore = 30 * 24 * time.Hour

// rereadInterval is how long a certificate is used before the files are read again.
const rereadInterval = time.Minute

// IdentityPath returns the file in which the agent stores its certificate and key.
func IdentityPath(env *action.Env) string { return env.DataDir + "/agent/identity.pem" }

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
// cluster's CA. If the stored certificate is missing, expires soon or does not match the
// CA or the addresses of this node, it issues and stores a new one.
func loadControllerCert(env *action.Env) (cert tls.Certificate, ca *x509.Certificate, err error) {
	receipt, ok, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err != nil || !ok {
		return cert, nil, errors.Join(err, errors.New("nothing is installed yet"))
	}
	authority := pki.Pair{}
	if authority.Cert, err = env.Host.ReadFile(k0s.CACertPath); err != nil {
		return cert, nil, err
	}
	if ca, err = parseCertificate(authority.Cert); err != nil {
		return cert, nil, err
	}
	hosts := []string{receipt.Address, receipt.Node}
	if receipt.API != "" {
		hosts = append(hosts, receipt.API)
	}
	if stored, err := env.Host.ReadFile(IdentityPath(env)); err == nil {
		cert, err = tls.X509KeyPair(stored, stored)
		if err == nil && isCertUsable(cert.Leaf, ca, hosts, env.Now()) {
			return cert, ca, nil
		}
	}
	if authority.Key, err = env.Host.ReadFile(k0s.CAKeyPath); err != nil {
		return cert, nil, err
	}
	pair, err := authority.IssueServerCert(hosts, env.Now())
	if err != nil {
		return cert, nil, err
	}
	both := slices.Concat(pair.Cert, authority.Cert, pair.Key)
	if err := env.Host.Write(IdentityPath(env), bytes.NewReader(both), 0o600); err != nil {
		return cert, nil, err
	}
	cert, err = tls.X509KeyPair(both, both)
	return cert, ca, err
}

// isCertUsable reports whether leaf was issued by ca, is valid for all hosts and does
// not expire within renewBefore.
func isCertUsable(leaf, ca *x509.Certificate, hosts []string, now time.Time) bool {
	if leaf.CheckSignatureFrom(ca) != nil || now.Add(renewBefore).After(leaf.NotAfter) {
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
