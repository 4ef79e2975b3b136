package k0s

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/internal/host"
)

// EncryptionConfPath is the path of the API server's EncryptionConfiguration, with the keys that
// encrypt Secrets in etcd. It is the same on all controllers, and only the user of the API server can
// read it (0600). It is in the folder that `k0s backup` copies, because a backup of etcd cannot be read
// without it.
const EncryptionConfPath = pkiDir + "/encryption.yaml"

// EncryptionKey is a key that encrypts Secrets in etcd.
type EncryptionKey struct {
	Name   string `json:"name"`   // stored with each Secret, so that the API server finds the key
	Secret []byte `json:"secret"` // secret
}

const (
	encryptionKeySize = 32 // bytes; secretbox: XSalsa20 and Poly1305
	maxEncryptionKeys = 8  // during a rotation there are two
)

var encryptionKeyName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// encryptionConf is the part of an EncryptionConfiguration that Plinth uses
// (k8s.io/apiserver, pkg/apis/apiserver/v1/types_encryption.go).
type encryptionConf struct {
	APIVersion string               `json:"apiVersion"`
	Kind       string               `json:"kind"`
	Resources  []encryptedResources `json:"resources"`
}

type encryptedResources struct {
	Resources []string             `json:"resources"`
	Providers []encryptionProvider `json:"providers"`
}

type encryptionProvider struct {
	Secretbox *secretboxProvider `json:"secretbox,omitempty"`
	Identity  *struct{}          `json:"identity,omitempty"`
}

type secretboxProvider struct {
	Keys []EncryptionKey `json:"keys"`
}

// EnsureEncryptionKeys creates the key of a new cluster, on the first controller, before k0s starts. It
// keeps existing keys.
func EnsureEncryptionKeys(h host.Files) error {
	if why, err := EncryptionKeysNeeded(h); err != nil || why == "" {
		return err
	}
	secret := make([]byte, encryptionKeySize)
	_, _ = rand.Read(secret) // it never fails
	return WriteEncryptionKeys(h, []EncryptionKey{{Name: "key1", Secret: secret}})
}

// EncryptionKeysNeeded returns the reason why EnsureEncryptionKeys must create a key, or "". Damaged
// keys are an error: with new ones, the Secrets in etcd could not be read any more.
func EncryptionKeysNeeded(h host.Files) (string, error) {
	_, err := ReadEncryptionKeys(h)
	if errors.Is(err, fs.ErrNotExist) {
		return EncryptionConfPath + " is missing", nil
	}
	return "", err
}

// WriteEncryptionKeys writes the configuration that encrypts Secrets with the first key and decrypts
// them with all. Secrets that were stored before there was a key stay readable.
func WriteEncryptionKeys(h host.Files, keys []EncryptionKey) error {
	if err := CheckEncryptionKeys(keys); err != nil {
		return err
	}
	raw, err := yaml.Marshal(encryptionConf{APIVersion: "apiserver.config.k8s.io/v1", Kind: "EncryptionConfiguration",
		Resources: []encryptedResources{{Resources: []string{"secrets"},
			Providers: []encryptionProvider{{Secretbox: &secretboxProvider{keys}}, {Identity: &struct{}{}}}}}})
	if err != nil {
		return err
	}
	if err := h.MkdirAll(pkiDir, 0o751); err != nil {
		return err
	}
	return h.Write(EncryptionConfPath, bytes.NewReader(raw), 0o600)
}

// ReadEncryptionKeys returns the keys of this controller, the one that encrypts first. The error is
// fs.ErrNotExist if there are none. A configuration that is not WriteEncryptionKeys's is an error,
// because a controller that joins would get another one.
func ReadEncryptionKeys(h host.Files) ([]EncryptionKey, error) {
	raw, err := h.ReadFile(EncryptionConfPath)
	if err != nil {
		return nil, err
	}
	var c encryptionConf
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		return nil, fmt.Errorf("cannot read %s: it has a field that Plinth does not know, or a key that is not base64", EncryptionConfPath) // the cause may contain a key
	}
	if len(c.Resources) != 1 || len(c.Resources[0].Resources) != 1 || c.Resources[0].Resources[0] != "secrets" {
		return nil, fmt.Errorf("%s encrypts other resources than secrets", EncryptionConfPath)
	}
	p := c.Resources[0].Providers
	if len(p) != 2 || p[0].Secretbox == nil || p[0].Identity != nil || p[1].Identity == nil || p[1].Secretbox != nil {
		return nil, fmt.Errorf("%s has other providers than secretbox and identity, in this order", EncryptionConfPath)
	}
	return p[0].Secretbox.Keys, CheckEncryptionKeys(p[0].Secretbox.Keys)
}

// CheckEncryptionKeys returns an error unless the API server accepts the keys; it names no key.
func CheckEncryptionKeys(keys []EncryptionKey) error {
	if len(keys) == 0 || len(keys) > maxEncryptionKeys {
		return fmt.Errorf("there are %d keys that encrypt Secrets, not 1 to %d", len(keys), maxEncryptionKeys)
	}
	names := map[string]bool{}
	for _, k := range keys {
		if !encryptionKeyName.MatchString(k.Name) || names[k.Name] || len(k.Secret) != encryptionKeySize {
			return errors.New("a key that encrypts Secrets has a bad or repeated name, or not 32 bytes")
		}
		names[k.Name] = true
	}
	return nil
}

// EncryptionSecrets returns the keys as text, to be hidden in output.
func EncryptionSecrets(keys []EncryptionKey) []string {
	var all []string
	for _, k := range keys {
		all = append(all, base64.StdEncoding.EncodeToString(k.Secret))
	}
	return all
}
