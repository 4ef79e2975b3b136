// Package sign owns signatures: ECDSA on P-256 with SHA-256 over exact bytes,
// in DER, as `openssl dgst -sha256 -sign` and `cosign sign-blob` make them;
// keys in PEM; and the statement by which a vendor passes from one key to the
// next. It refuses other kinds of keys, and it does not decide whom to trust.
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

// MaxSignature is more bytes than a signature in DER can have.
const MaxSignature = 128

// Public is a vendor's public key; the zero value is none.
type Public struct {
	key *ecdsa.PublicKey
	der []byte // SubjectPublicKeyInfo
}

// Private is a vendor's private key.
type Private struct{ key *ecdsa.PrivateKey }

const (
	typePublic   = "PUBLIC KEY"
	typeRotation = "PLINTH KEY ROTATION"
)

var errKind = errors.New("it is not an ECDSA key on the curve P-256 (prime256v1)")

// ParsePublic reads a file with one public key in PEM.
func ParsePublic(file []byte) (Public, error) {
	block, rest := pem.Decode(file)
	switch {
	case block == nil:
		return Public{}, errors.New("it holds no key in PEM")
	case bytes.Contains([]byte(block.Type), []byte("PRIVATE KEY")):
		return Public{}, errors.New("it holds the private key, which stays with the vendor; the public one is wanted")
	case block.Type != typePublic:
		return Public{}, fmt.Errorf("it holds %q where a public key is wanted", block.Type)
	case len(bytes.TrimSpace(rest)) > 0:
		return Public{}, errors.New("it holds more than one key")
	}
	return parseDER(block.Bytes)
}

func parseDER(der []byte) (Public, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Public{}, fmt.Errorf("its public key is damaged: %w", err)
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

// ParsePrivate reads a file with one private key in PEM: PKCS #8 or SEC 1.
func ParsePrivate(file []byte) (Private, error) {
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		var parsed any
		var err error
		switch {
		case block.Type == "EC PARAMETERS": // ecparam -genkey puts it in front
			continue
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return Private{}, errors.New("it is encrypted; hand the key over decrypted through a pipe: --sign-key <(openssl pkey -in FILE)")
		case block.Type == "EC PRIVATE KEY":
			parsed, err = x509.ParseECPrivateKey(block.Bytes)
		case block.Type == "PRIVATE KEY":
			parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		default:
			return Private{}, fmt.Errorf("it holds %q where a private key is wanted", block.Type)
		}
		if err != nil {
			return Private{}, errors.New("its private key is damaged") // the cause might show a part of it
		}
		key, ok := parsed.(*ecdsa.PrivateKey)
		if !ok || key.Curve != elliptic.P256() {
			return Private{}, errKind
		}
		return Private{key}, nil
	}
	return Private{}, errors.New("it holds no private key in PEM")
}

// Public is the key that verifies what k signs.
func (k Private) Public() (Public, error) { return publicOf(&k.key.PublicKey) }

// Sign signs data. The same data always gives the same signature (RFC 6979),
// so a signed bundle is as reproducible as an unsigned one.
func (k Private) Sign(data []byte) ([]byte, error) {
	sum := sha256.Sum256(data)
	return k.key.Sign(nil, sum[:], crypto.SHA256)
}

// IsZero tells whether this is no key.
func (p Public) IsZero() bool { return p.key == nil }

// Equal tells whether both are the same key, or both none.
func (p Public) Equal(other Public) bool { return bytes.Equal(p.der, other.der) }

// Verify tells whether signature is one of this key over data.
func (p Public) Verify(data, signature []byte) bool {
	sum := sha256.Sum256(data)
	return p.key != nil && ecdsa.VerifyASN1(p.key, sum[:], signature)
}

// Fingerprint names the key: the SHA-256 of its DER form, which
// `openssl pkey -pubin -in F -outform DER | sha256sum` prints. "" for no key.
func (p Public) Fingerprint() string {
	if p.IsZero() {
		return ""
	}
	sum := sha256.Sum256(p.der)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// PEM is the key as a file; empty for no key.
func (p Public) PEM() []byte {
	if p.IsZero() {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: typePublic, Bytes: p.der})
}

// MarshalText writes the key in one line; empty for no key.
func (p Public) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, p.der), nil
}

// UnmarshalText reads what MarshalText writes.
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

// Rotation is a vendor's statement that another key follows the one that
// signed it.
type Rotation struct {
	Next      Public
	signature []byte
}

// Rotate states that next follows k.
func (k Private) Rotate(next Public) ([]byte, error) {
	signature, err := k.Sign(next.PEM())
	if err != nil {
		return nil, err
	}
	return append(next.PEM(), pem.EncodeToMemory(&pem.Block{Type: typeRotation, Bytes: signature})...), nil
}

// ParseRotation reads a statement: the next public key in PEM, and the old
// key's signature over exactly that PEM block. An index is no such block and
// such a block is no index, so neither signature can pass for the other.
func ParseRotation(file []byte) (Rotation, error) {
	malformed := errors.New("it is not a public key followed by a PLINTH KEY ROTATION block")
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

// By tells whether the statement was made by the owner of old.
func (r Rotation) By(old Public) bool { return old.Verify(r.Next.PEM(), r.signature) }
