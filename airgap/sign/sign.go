package sign

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

// MaxSignatureSize is an upper bound in bytes of a signature in DER.
const MaxSignature = 128

// PublicKey is a vendor's public key; the zero value is no key.
type Public struct {
	key *ecdsa.PublicKey
	der []byte // SubjectPublicKeyInfo
}

// PrivateKey is a vendor's private key.
type Private struct{ key *ecdsa.PrivateKey }

// Types of PEM blocks.
const (
	typePublic   = "PUBLIC KEY"
	typeRotation = "PLINTH KEY ROTATION"
)

var errKind = errors.New("the key is not an ECDSA key on the curve P-256 (prime256v1)")

// ParsePublicKey returns the public key in a file that contains one public key in PEM.
func ParsePublic(file []byte) (Public, error) {
	block, rest := pem.Decode(file)
	switch {
	case block == nil:
		return Public{}, errors.New("the file contains no key in PEM")
	case bytes.Contains([]byte(block.Type), []byte("PRIVATE KEY")):
		return Public{}, errors.New("the file contains a private key, which only the vendor must have; use the public key")
	case block.Type != typePublic:
		return Public{}, fmt.Errorf("the file contains %q instead of a public key", block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return Public{}, errors.New("the file contains more than one key")
	}
	return parseDER(block.Bytes)
}

// parsePublicDER returns the public key in a DER SubjectPublicKeyInfo.
func parseDER(der []byte) (Public, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Public{}, fmt.Errorf("the public key is damaged: %w", err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return Public{}, errKind
	}
	return publicOf(key)
}

func publicOf(key *ecdsa.PublicKey) (Public, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	return Public{key, der}, err
}

// ParsePrivateKey returns the private key in a file that contains one in PEM, as
// PKCS #8 or SEC 1.
func ParsePrivate(file []byte) (Private, error) {
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		var parsed any
		var err error
		switch {
		case block.Type == "EC PARAMETERS": // openssl ecparam -genkey writes it before the key
			continue
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return Private{}, errors.New("the key is encrypted; pass it decrypted through a pipe: --sign-key <(openssl pkey -in FILE)")
		case block.Type == "EC PRIVATE KEY":
			parsed, err = x509.ParseECPrivateKey(block.Bytes)
		case block.Type == "PRIVATE KEY":
			parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		default:
			return Private{}, fmt.Errorf("the file contains %q instead of a private key", block.Type)
		}
		if err != nil {
			return Private{}, errors.New("the private key is damaged") // the cause could reveal a part of the key
		}
		key, ok := parsed.(*ecdsa.PrivateKey)
		if !ok || key.Curve != elliptic.P256() {
			return Private{}, errKind
		}
		return Private{key}, nil
	}
	return Private{}, errors.New("the file contains no private key in PEM")
}

// Public returns the public key that belongs to k.
func (k Private) Public() (Public, error) { return publicOf(&k.key.PublicKey) }

// Sign returns a signature of data. The same data always gives the same signature
// (RFC 6979), so a signed bundle is as reproducible as an unsigned one.
func (k Private) Sign(data []byte) ([]byte, error) {
	sum := sha256.Sum256(data)
	return k.key.Sign(nil, sum[:], crypto.SHA256)
}

// IsZero reports whether p is no key.
func (p Public) IsZero() bool { return p.key == nil }

// Equal reports whether p and other are the same key, or both no key.
func (p Public) Equal(other Public) bool { return bytes.Equal(p.der, other.der) }

// Verify reports whether signature is a valid signature of data with this key.
func (p Public) Verify(data, signature []byte) bool {
	sum := sha256.Sum256(data)
	return p.key != nil && ecdsa.VerifyASN1(p.key, sum[:], signature)
}

// Fingerprint returns the SHA-256 of the key in DER, as printed by
// `openssl pkey -pubin -in F -outform DER | sha256sum`; "" for no key.
func (p Public) Fingerprint() string {
	if p.IsZero() {
		return ""
	}
	sum := sha256.Sum256(p.der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// PEM returns the key in PEM; empty for no key.
func (p Public) PEM() []byte {
	if p.IsZero() {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: typePublic, Bytes: p.der})
}

// MarshalText returns the key in DER as one line of base64; empty for no key.
func (p Public) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, p.der), nil
}

// UnmarshalText sets the key from the text that MarshalText returns.
func (p *Public) UnmarshalText(text []byte) error {
	*p = Public{}
	if len(text) == 0 {
		return nil
	}
	der, err := base64.StdEncoding.Strict().DecodeString(string(text))
	if err == nil {
		*p, err = parseDER(der)
	}
	return err
}

// KeyRotation is a vendor's statement that the key Next replaces the key with which
// the statement is signed.
type Rotation struct {
	Next      Public
	signature []byte
}

// SignRotation returns the statement, in PEM, that next replaces k.
func (k Private) Rotate(next Public) ([]byte, error) {
	signature, err := k.Sign(next.PEM())
	if err != nil {
		return nil, err
	}
	return append(next.PEM(), pem.EncodeToMemory(&pem.Block{Type: typeRotation, Bytes: signature})...), nil
}

// ParseKeyRotation returns the statement in a file: the next public key in PEM, and
// the old key's signature of exactly that PEM block. A bundle's index is never such
// a block, so a signature of one cannot be used for the other.
func ParseRotation(file []byte) (Rotation, error) {
	malformed := errors.New("the file is not a public key followed by a PLINTH KEY ROTATION block")
	first, rest := pem.Decode(file)
	if first == nil || first.Type != typePublic || len(first.Headers) > 0 {
		return Rotation{}, malformed
	}
	next, err := parseDER(first.Bytes)
	if err != nil {
		return Rotation{}, err
	}
	second, rest := pem.Decode(rest)
	if second == nil || second.Type != typeRotation || len(bytes.TrimSpace(rest)) > 0 {
		return Rotation{}, malformed
	}
	return Rotation{next, second.Bytes}, nil
}

// SignedBy reports whether the statement is signed with the key old.
func (r Rotation) By(old Public) bool { return old.Verify(r.Next.PEM(), r.signature) }
