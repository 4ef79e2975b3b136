package spec

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Limits of spec.additionalTrustedCAs: all certificates together fit into a ConfigMap with room to spare.
const (
	maxTrustedCAs     = 100
	maxTrustedCABytes = 512 << 10
)

// parseTrustedCAs returns the certificates of authorities in one entry of spec.additionalTrustedCAs. The error completes
// a sentence that begins with the entry.
func parseTrustedCAs(value string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	rest := []byte(strings.TrimSpace(value))
	for len(rest) > 0 {
		var block *pem.Block
		before := rest
		if block, rest = pem.Decode(rest); block == nil || !bytes.HasPrefix(before, []byte("-----BEGIN ")) {
			return nil, errors.New("has text that is not a certificate in PEM")
		}
		if bytes.Count(before[:len(before)-len(rest)], []byte("-----BEGIN ")) > 1 { // pem.Decode skips a block that it cannot decode
			return nil, errors.New("has a block that is not valid PEM")
		}
		rest = bytes.TrimSpace(rest)
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil, errors.New("contains a private key, which does not belong in an Installer")
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("contains a %s, not only certificates", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("has a certificate that cannot be read: %s", strings.TrimPrefix(err.Error(), "x509: "))
		}
		if cert.BasicConstraintsValid && !cert.IsCA && !bytes.Equal(cert.RawIssuer, cert.RawSubject) {
			return nil, fmt.Errorf("has the certificate of %s, which is neither one of an authority nor self-signed", cert.Subject)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("contains no certificate")
	}
	return certs, nil
}

// checkTrustedCA checks that value has certificates of authorities, and nothing else. The message does not contain the
// value, which may be a private key by mistake.
func checkTrustedCA(value string) (message, hint string) {
	if _, err := parseTrustedCAs(value); err != nil {
		return err.Error(), "paste the certificate of the authority after a | and a line break: -----BEGIN CERTIFICATE-----"
	}
	return "", ""
}

// checkTrustedCAs checks how many certificates of authorities the Installer has.
func (r reader) checkTrustedCAs(in *Installer) {
	const path = "spec.additionalTrustedCAs"
	pem := in.Spec.TrustedCAs()
	if n := strings.Count(pem, "-----BEGIN "); n > maxTrustedCAs || len(pem) > maxTrustedCABytes {
		r.Report("trusted-ca", path, r.NodeAt(path), fmt.Sprintf("has %d certificates with %d bytes, at most %d with %d bytes are possible", n, len(pem), maxTrustedCAs, maxTrustedCABytes),
			"name only the authorities that the cluster needs")
	}
}

// TrustedCAs returns the certificates of spec.additionalTrustedCAs as one PEM file, without entries that lint refuses;
// "" for none.
func (s Spec) TrustedCAs() string {
	var b bytes.Buffer
	for _, value := range s.AdditionalTrustedCAs {
		certs, _ := parseTrustedCAs(value)
		for _, cert := range certs {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}) // a buffer does not fail
		}
	}
	return b.String()
}
