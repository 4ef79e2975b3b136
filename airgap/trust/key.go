package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// Signatures are ECDSA on P-256 with SHA-256 over exact bytes, in DER, as
// `openssl dgst -sha256 -sign` and `cosign sign-blob` create them. Keys are in PEM.
// Other kinds of keys are rejected.

// PublicKey is a vendor's public key; the zero value is no key.
type PublicKey struct {
	key *ecdsa.PublicKey
	der []byte // SubjectPublicKeyInfo
}

// PrivateKey is a vendor's private key.
type PrivateKey struct{ key *ecdsa.PrivateKey }

// Types of PEM blocks.
const (
	publicKeyBlock = "PUBLIC KEY"
	rotationBlock  = "PLINTH KEY ROTATION"
)

var errKeyType = errors.New("the key is not an ECDSA key on the curve P-256 (prime256v1)")

// ParsePublicKey returns the public key in a file that contains one public key in PEM.
func ParsePublicKey(file []byte) (PublicKey, error) {
	block, rest := pem.Decode(file)
	switch {
	case block == nil:
		return PublicKey{}, errors.New("the file contains no key in PEM")
	case bytes.Contains([]byte(block.Type), []byte("PRIVATE KEY")):
		return PublicKey{}, errors.New("the file contains a private key, which only the vendor must have; use the public key")
	case block.Type != publicKeyBlock:
		return PublicKey{}, fmt.Errorf("the file contains %q instead of a public key", block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return PublicKey{}, errors.New("the file contains more than one key")
	}
	return parsePublicDER(block.Bytes)
}

// parsePublicDER returns the public key in a DER SubjectPublicKeyInfo.
func parsePublicDER(der []byte) (PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("the public key is damaged: %w", err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return PublicKey{}, errKeyType
	}
	return newPublicKey(key)
}

func newPublicKey(key *ecdsa.PublicKey) (PublicKey, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	return PublicKey{key, der}, err
}

// ParsePrivateKey returns the private key in a file that contains one in PEM, as
// PKCS #8 or SEC 1.
func ParsePrivateKey(file []byte) (PrivateKey, error) {
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		var parsed any
		var err error
		switch {
		case block.Type == "EC PARAMETERS": // openssl ecparam -genkey writes it before the key
			continue
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return PrivateKey{}, errors.New("the key is encrypted; pass it decrypted through a pipe: --sign-key <(openssl pkey -in FILE)")
		case block.Type == "EC PRIVATE KEY":
			parsed, err = x509.ParseECPrivateKey(block.Bytes)
		case block.Type == "PRIVATE KEY":
			parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		default:
			return PrivateKey{}, fmt.Errorf("the file contains %q instead of a private key", block.Type)
		}
		if err != nil {
			return PrivateKey{}, errors.New("the private key is damaged") // the cause could reveal a part of the key
		}
		key, ok := parsed.(*ecdsa.PrivateKey)
		if !ok || key.Curve != elliptic.P256() {
			return PrivateKey{}, errKeyType
		}
		return PrivateKey{key}, nil
	}
	return PrivateKey{}, errors.New("the file contains no private key in PEM")
}

// Public returns the public key that belongs to k.
func (k PrivateKey) Public() (PublicKey, error) { return newPublicKey(&k.key.PublicKey) }

// Sign returns a signature of data. The same data always gives the same signature
// (RFC 6979), so a signed bundle is as reproducible as an unsigned one.
func (k PrivateKey) Sign(data []byte) ([]byte, error) {
	sum := sha256.Sum256(data)
	return k.key.Sign(nil, sum[:], crypto.SHA256)
}

// IsZero reports whether p is no key.
func (p PublicKey) IsZero() bool { return p.key == nil }

// Equal reports whether p and other are the same key, or both no key.
func (p PublicKey) Equal(other PublicKey) bool { return bytes.Equal(p.der, other.der) }

// Verify reports whether signature is a valid signature of data with this key.
func (p PublicKey) Verify(data, signature []byte) bool {
	sum := sha256.Sum256(data)
	return p.key != nil && ecdsa.VerifyASN1(p.key, sum[:], signature)
}

// Fingerprint returns the SHA-256 of the key in DER, as printed by
// `openssl pkey -pubin -in F -outform DER | sha256sum`; "" for no key.
func (p PublicKey) Fingerprint() string {
	if p.IsZero() {
		return ""
	}
	sum := sha256.Sum256(p.der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// PEM returns the key in PEM; empty for no key.
func (p PublicKey) PEM() []byte {
	if p.IsZero() {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicKeyBlock, Bytes: p.der})
}

// MarshalText returns the key in DER as one line of base64; empty for no key.
func (p PublicKey) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, p.der), nil
}

// UnmarshalText sets the key from the text that MarshalText returns.
func (p *PublicKey) UnmarshalText(text []byte) error {
	*p = PublicKey{}
	if len(text) == 0 {
		return nil
	}
	der, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err == nil {
		*p, err = parsePublicDER(der)
	}
	return err
}

// KeyRotation is a vendor's statement that the key Next replaces the key with which
// the statement is signed.
type KeyRotation struct {
	Next      PublicKey
	signature []byte
}

// SignRotation returns the statement, in PEM, that next replaces k.
func (k PrivateKey) SignRotation(next PublicKey) ([]byte, error) {
	signature, err := k.Sign(next.PEM())
	if err != nil {
		return nil, err
	}
	return append(next.PEM(), pem.EncodeToMemory(&pem.Block{Type: rotationBlock, Bytes: signature})...), nil
}

// ParseKeyRotation returns the statement in a file: the next public key in PEM, and
// the old key's signature of exactly that PEM block. A bundle's index is never such
// a block, so a signature of one cannot be used for the other.
func ParseKeyRotation(file []byte) (KeyRotation, error) {
	malformed := errors.New("the file is not a public key followed by a PLINTH KEY ROTATION block")
	first, rest := pem.Decode(file)
	if first == nil || first.Type != publicKeyBlock || len(first.Headers) > 0 {
		return KeyRotation{}, malformed
	}
	next, err := parsePublicDER(first.Bytes)
	if err != nil {
		return KeyRotation{}, err
	}
	second, rest := pem.Decode(rest)
	if second == nil || second.Type != rotationBlock || len(bytes.TrimSpace(rest)) > 0 {
		return KeyRotation{}, malformed
	}
	return KeyRotation{next, second.Bytes}, nil
}

// SignedBy reports whether the statement is signed with the key old.
func (r KeyRotation) SignedBy(old PublicKey) bool { return old.Verify(r.Next.PEM(), r.signature) }
