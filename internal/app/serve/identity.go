package serve

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots/pki"
)

// identity is the agent's certificate, signed by the cluster's authority. It is
// kept, so that the line which fetches plinth can pin its key.
type identity struct {
	*run.Run
	load func(*run.Run) (tls.Certificate, *x509.Certificate, error)
	mu   sync.Mutex
	cert tls.Certificate
	ca   *x509.Certificate
	read time.Time
}

// renewBefore is how long before its end a certificate is made anew.
const renewBefore = 30 * 24 * time.Hour

// reread is how long a certificate is served before the files are looked at
// again.
const reread = time.Minute

// IdentityPath is where the agent keeps certificate and key.
func IdentityPath(r *run.Run) string { return r.DataDir + "/agent/identity.pem" }

func (i *identity) current() (tls.Certificate, *x509.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ca != nil && i.Now().Sub(i.read) < reread {
		return i.cert, i.ca, nil
	}
	cert, ca, err := i.load(i.Run)
	if err == nil {
		i.cert, i.ca, i.read = cert, ca, i.Now()
	}
	return cert, ca, err
}

// loadController reads the certificate, and makes another one when there is none that
// this cluster and address stand behind.
func loadController(r *run.Run) (cert tls.Certificate, ca *x509.Certificate, err error) {
	receipt, ok, err := journal.ReadReceipt(r.Host, r.DataDir)
	if err != nil || !ok {
		return cert, nil, errors.Join(err, errors.New("nothing is installed yet"))
	}
	authority := pki.Pair{}
	if authority.Cert, err = r.Host.ReadFile(k0s.CACert); err != nil {
		return cert, nil, err
	}
	if ca, err = parse(authority.Cert); err != nil {
		return cert, nil, err
	}
	hosts := []string{receipt.Address, receipt.Node}
	if receipt.API != "" {
		hosts = append(hosts, receipt.API)
	}
	if kept, err := r.Host.ReadFile(IdentityPath(r)); err == nil {
		cert, err = tls.X509KeyPair(kept, kept)
		if err == nil && holds(cert.Leaf, ca, hosts, r.Now()) {
			return cert, ca, nil
		}
	}
	if authority.Key, err = r.Host.ReadFile(k0s.CAKey); err != nil {
		return cert, nil, err
	}
	pair, err := authority.Issue(hosts, r.Now())
	if err != nil {
		return cert, nil, err
	}
	both := slices.Concat(pair.Cert, authority.Cert, pair.Key)
	if err := r.Host.Write(IdentityPath(r), bytes.NewReader(both), 0o600); err != nil {
		return cert, nil, err
	}
	cert, err = tls.X509KeyPair(both, both)
	return cert, ca, err
}

// holds reports whether a kept certificate is of this cluster, for these names
// and good for a while.
func holds(leaf, ca *x509.Certificate, hosts []string, now time.Time) bool {
	if leaf.CheckSignatureFrom(ca) != nil || now.Add(renewBefore).After(leaf.NotAfter) {
		return false
	}
	return !slices.ContainsFunc(hosts, func(h string) bool { return leaf.VerifyHostname(h) != nil })
}

func parse(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New(k0s.CACert + " is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}
