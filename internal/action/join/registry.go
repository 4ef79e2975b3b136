package join

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/problem"
)

// maxRegistryCA is the maximum size of the registry's authority in PEM, in bytes.
const maxRegistryCA = 64 << 10

// registryFiles returns the files that make this host trust the built-in registry, by
// path. The cluster sends only the certificate of the registry's authority; the paths
// come from the verified Installer.
func (o *operation) registryFiles(dataDir string, ca []byte) (map[string][]byte, error) {
	if len(ca) == 0 {
		return nil, nil
	}
	certificates, err := parseCertificates(ca)
	if err != nil {
		return nil, problem.New(problem.ExitJoin, "join", fmt.Errorf("cannot use the certificate of the registry's authority that the cluster sent: %w", err), "check the controllers: sudo plinth status")
	}
	r, err := desired.BuiltinRegistry(o.installer, dataDir)
	if err == nil && r == nil {
		err = problem.New(problem.ExitJoin, "join", errors.New("the cluster sent the certificate of a registry, but its Installer has none"), "check the controllers: sudo plinth status")
	}
	if err != nil {
		return nil, err
	}
	return r.TrustFilesOf(certificates), nil
}

// parseCertificates returns the certificates in raw, encoded again: other text in raw is
// an error or left out.
func parseCertificates(raw []byte) (encoded []byte, err error) {
	if len(raw) > maxRegistryCA {
		return nil, fmt.Errorf("it has %d bytes, the maximum is %d", len(raw), maxRegistryCA)
	}
	for len(strings.TrimSpace(string(raw))) > 0 {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("it contains other text than certificates in PEM")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, err
		}
		encoded = append(encoded, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if len(encoded) == 0 {
		return nil, errors.New("it contains no certificate")
	}
	return encoded, nil
}
