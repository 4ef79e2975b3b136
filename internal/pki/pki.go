// Package pki creates the few certificates that Plinth needs itself, the
// authority of the cluster, and checks the certificates that a user provides.
// Package nodecert signs those of nodes; k0s creates and renews all others.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// ServerLifetime is how long a server certificate that Plinth creates is valid:
// 825 days is the longest that Apple's clients accept, even for a certificate
// that the user has chosen to trust.
const ServerLifetime = 825 * 24 * time.Hour

// CALifetime is how long a certificate authority that Plinth creates is valid.
const CALifetime = 10 * 365 * 24 * time.Hour

// clockSkew is subtracted from the start of the validity, for clocks that are
// behind.
const clockSkew = time.Hour

// Pair is a certificate and its private key, both PEM. Cert may contain the
// chain.
type Pair struct {
	Cert []byte
	Key  []byte // secret
}

// NewSelfSigned returns an ECDSA P-256 server certificate for the host names
// and IP addresses in hosts. The first one is its common name.
func NewSelfSigned(hosts []string, now time.Time) (Pair, error) {
	return issueCert(serverTemplate(hosts, now), nil)
}

// NewCA returns a certificate authority that may sign server certificates only.
func NewCA(name string, now time.Time) (Pair, error) {
	return issueCert(&x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(CALifetime),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil)
}

// ClusterCAName is the common name of the cluster's authority. k0s renews the
// certificates below this name only (k0s 1.33.8, pkg/certificate/manager.go).
const ClusterCAName = "kubernetes-ca"

// NewClusterCA returns the certificate authority of a cluster, with the
// algorithm, name, lifetime and encoding that k0s would create (k0s 1.33.8,
// pkg/certificate/manager.go and cfssl's initca): a key of RSA 2048 in PKCS #1.
func NewClusterCA(now time.Time) (Pair, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Pair{}, err
	}
	cert, err := signCert(&x509.Certificate{
		Subject:               pkix.Name{CommonName: ClusterCAName},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(CALifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, key, nil)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Cert: cert, Key: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})}, nil
}

// IssueServerCert returns a server certificate for hosts, signed by the
// authority ca.
func (p Pair) IssueServerCert(hosts []string, now time.Time) (Pair, error) {
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return Pair{}, err
	}
	return issueCert(serverTemplate(hosts, now), &pair)
}

func serverTemplate(hosts []string, now time.Time) *x509.Certificate {
	c := &x509.Certificate{
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(ServerLifetime - clockSkew),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if len(hosts) > 0 {
		c.Subject.CommonName = hosts[0]
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	return c
}

// issueCert creates an ECDSA P-256 key and a certificate, signed by ca or, if ca
// is nil, by itself.
func issueCert(template *x509.Certificate, ca *tls.Certificate) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	cert, err := signCert(template, key, ca)
	if err != nil {
		return Pair{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{Cert: cert, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}, nil
}

// signCert returns a certificate of key as PEM, signed by ca or, if ca is nil,
// by key itself.
func signCert(template *x509.Certificate, key crypto.Signer, ca *tls.Certificate) ([]byte, error) {
	var err error
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	parent, signer := template, key
	if ca != nil {
		parent = ca.Leaf
		signer, _ = ca.PrivateKey.(crypto.Signer)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// RenewBelow is the share of its life below which Plinth renews a certificate: early enough that months of
// failed attempts do no harm.
const RenewBelow = 1.0 / 3

// LifeLeft returns the share of its life that a certificate has left, from 1 to 0. It is 0 outside of its
// validity: one that is not valid yet was issued by a clock that was wrong.
func LifeLeft(c *x509.Certificate, now time.Time) float64 {
	life := c.NotAfter.Sub(c.NotBefore)
	if life <= 0 || now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return 0
	}
	return float64(c.NotAfter.Sub(now)) / float64(life)
}

// Hosts returns the host names and IP addresses of a certificate, its common name first if it is one of them.
func Hosts(c *x509.Certificate) (hosts []string) {
	hosts = append(hosts, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	if i := slices.Index(hosts, c.Subject.CommonName); i > 0 {
		hosts = slices.Insert(slices.Delete(hosts, i, i+1), 0, c.Subject.CommonName)
	}
	return hosts
}

// ParseCertificate returns the first certificate in text, PEM.
func ParseCertificate(text []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("there is no certificate in PEM")
}

// Leaf returns the server certificate of a pair. It is an error if the key does
// not belong to the first certificate.
func (p Pair) Leaf() (*x509.Certificate, error) {
	pair, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, err
	}
	return pair.Leaf, nil
}

// Check verifies that the pair can serve TLS at each of hosts now: key and
// certificate belong together, the certificate is valid, contains every host,
// and may be used for servers. The error contains all findings.
func (p Pair) Check(hosts []string, now time.Time) error {
	leaf, err := p.Leaf()
	if err != nil {
		return err
	}
	var errs []error
	switch {
	case now.Before(leaf.NotBefore):
		errs = append(errs, fmt.Errorf("the certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339)))
	case now.After(leaf.NotAfter):
		errs = append(errs, fmt.Errorf("the certificate expired on %s", leaf.NotAfter.UTC().Format(time.RFC3339)))
	}
	if !allowsServerAuth(leaf) {
		errs = append(errs, errors.New("the certificate is not for servers (extended key usage)"))
	}
	for _, h := range hosts {
		if err := leaf.VerifyHostname(h); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func allowsServerAuth(leaf *x509.Certificate) bool {
	if len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, u := range leaf.ExtKeyUsage {
		if u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}
