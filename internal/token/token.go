// Package token encodes and decodes the join token: one line with the addresses
// and the identity of a cluster, the configuration that must match it, and the
// secret that admits a host.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The roles of a token.
const (
	Controller = "controller"
	Worker     = "worker"
)

// Token is a decoded join token. Its text form is secret.
type Token struct {
	Cluster      string    `json:"n"` // the Installer's metadata.name
	Addresses    []string  `json:"a"` // of all controllers, host:port; the one that created the token comes first
	Pin          string    `json:"p"` // of the cluster's certificate authority; see PublicKeyPin
	Role         string    `json:"r"` // Controller or Worker
	ID           string    `json:"i"` // public
	Secret       string    `json:"s"`
	Expires      time.Time `json:"e"`
	Bundle       string    `json:"b"` // digest of the bundle that the cluster was installed from
	SharedConfig string    `json:"c"` // digest of the configuration that must match
	VendorKey    string    `json:"k"` // "sha256:" and the SHA-256 in hex of the vendor's public key (DER) that verifies the bundle; "" after --allow-unsigned
}

// String returns the name of the token without its secret.
func (t Token) String() string { return "join token " + t.ID }

// GoString returns the name of the token without its secret.
func (t Token) GoString() string { return t.String() }

// Bearer returns the credential that the cluster requires: ID and secret.
func (t Token) Bearer() string { return t.ID + "." + t.Secret }

// ReadOnlyBearer returns a credential that may only read the blobs of the
// cluster: ID and hash of the secret. It may be shown to nodes that must not
// learn the secret.
func (t Token) ReadOnlyBearer() string { return t.ID + "." + HashSecret(t.Secret) }

// SplitBearer splits the result of Bearer or ReadOnlyBearer. An ID has only
// lower-case letters and digits: it becomes part of names.
func SplitBearer(s string) (id, secret string, ok bool) {
	id, secret, ok = strings.Cut(s, ".")
	foreign := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }
	return id, secret, ok && id != "" && secret != "" && !strings.ContainsFunc(id, foreign)
}

// NewSecret returns a random ID, which is public, and a random secret of 160
// bits.
func NewSecret() (id, secret string) {
	text := strings.ToLower(rand.Text())
	return text[:8], strings.ToLower(rand.Text()) + rand.Text()[:6]
}

// HashSecret returns the hash of a secret that the cluster stores. The secret
// is random and long, so a plain hash cannot be guessed.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// MatchesHash reports whether hash is that of secret, in constant time.
func MatchesHash(secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(HashSecret(secret)), []byte(hash)) == 1
}

// PublicKeyPin returns the SHA-256 of a certificate's public key
// (SubjectPublicKeyInfo, as in RFC 7469) in base64. It remains the same if the
// certificate is renewed.
func PublicKeyPin(c *x509.Certificate) string { return KeyPin(c.RawSubjectPublicKeyInfo) }

// KeyPin is PublicKeyPin for the SubjectPublicKeyInfo of a key, DER.
func KeyPin(subjectPublicKeyInfo []byte) string {
	sum := sha256.Sum256(subjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// tokenPrefix identifies a token and the version of its format.
const tokenPrefix = "plinth1"

// Prefix is the beginning of every encoded token.
const Prefix = tokenPrefix + "-"

// checksumLength is the length of the checksum in a token, in characters.
const checksumLength = 12

// maxTokenLength limits what is read as a token, in bytes.
const maxTokenLength = 8 << 10

// Encode returns the token as one word to paste: prefix, length of the content,
// checksum of the content, content. So a token that was truncated or mistyped
// can be distinguished from one that the cluster does not know.
func (t Token) Encode() (string, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	content := base64.RawURLEncoding.EncodeToString(raw)
	return fmt.Sprintf("%s-%d-%s-%s", tokenPrefix, len(content), contentChecksum(content), content), nil
}

func contentChecksum(content string) string {
	s := sha256.Sum256([]byte(tokenPrefix + content))
	return hex.EncodeToString(s[:])[:checksumLength]
}

// Decode decodes the result of Encode; it ignores surrounding white space. Its
// errors never contain the token.
func Decode(text string) (Token, error) {
	text = strings.TrimSpace(text)
	parts := strings.SplitN(text, "-", 4)
	switch {
	case text == "":
		return Token{}, errors.New("it is empty")
	case len(text) > maxTokenLength:
		return Token{}, fmt.Errorf("it has %d characters; a token has at most %d", len(text), maxTokenLength)
	case parts[0] != tokenPrefix && strings.HasPrefix(tokenPrefix, parts[0][:min(len(parts[0]), len(tokenPrefix))]):
		return Token{}, errors.New("it is cut short")
	case parts[0] != tokenPrefix:
		return Token{}, fmt.Errorf("it does not begin with %s-: this is not a join token of this version of Plinth", tokenPrefix)
	case len(parts) < 4:
		return Token{}, errors.New("it is cut short")
	}
	want, err := strconv.Atoi(parts[1])
	content := parts[3]
	switch {
	case err != nil || strconv.Itoa(want) != parts[1]:
		return Token{}, errors.New("a character in it was changed")
	case len(content) < want:
		return Token{}, fmt.Errorf("it is cut short: it has %d of %d characters", len(content), want)
	case len(content) > want || contentChecksum(content) != parts[2]:
		return Token{}, errors.New("a character in it was changed, or something was added")
	}
	return parseContent(content)
}

func parseContent(content string) (t Token, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(content)
	if err != nil {
		return Token{}, errors.New("its content cannot be decoded")
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return Token{}, errors.New("its content cannot be decoded")
	}
	pin, err := base64.StdEncoding.DecodeString(t.Pin)
	switch {
	case err != nil || len(pin) != sha256.Size:
		return Token{}, errors.New("it has no pin of the cluster's certificate authority")
	case t.Role != Controller && t.Role != Worker:
		return Token{}, fmt.Errorf("it is for the role %q, which this version of Plinth does not know", t.Role)
	case len(t.Addresses) == 0 || t.ID == "" || t.Secret == "":
		return Token{}, errors.New("it has no address, no ID or no secret")
	case t.Bundle == "" || t.SharedConfig == "":
		return Token{}, errors.New("it has no digest of the bundle or of the configuration")
	}
	return t, nil
}
