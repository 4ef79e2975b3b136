// Package token owns the join token: one line that carries how to reach a
// cluster, how to know it, what must agree with it, and the secret that lets a
// host in. It refuses to know how tokens are kept (package record) and to
// judge whether one still counts: only the cluster can.
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

// The roles that a token can be for.
const (
	Controller = "controller"
	Worker     = "worker"
)

// Token is a join token, read. Its text form is secret.
type Token struct {
	Cluster   string    `json:"n"` // the Installer's metadata.name
	Addresses []string  `json:"a"` // of all controllers, host:port, the one that made it first
	Pin       string    `json:"p"` // of the cluster's certificate authority; see Pin
	Role      string    `json:"r"` // Controller or Worker
	ID        string    `json:"i"` // public
	Secret    string    `json:"s"`
	Expires   time.Time `json:"e"`
	Bundle    string    `json:"b"` // digest of the bundle that the cluster was installed from
	Agreement string    `json:"c"` // digest of the configuration that must agree
}

// String names the token without its secret.
func (t Token) String() string { return "join token " + t.ID }

// GoString names the token without its secret.
func (t Token) GoString() string { return t.String() }

// Bearer is what the cluster asks for: id and secret.
func (t Token) Bearer() string { return t.ID + "." + t.Secret }

// Reader is what reads the cluster's blobs and does nothing else: id and hash of
// the secret. It may be shown to nodes that must not learn the secret.
func (t Token) Reader() string { return t.ID + "." + Hash(t.Secret) }

// SplitBearer parts what Bearer or Reader made. An id has lower-case letters and digits only:
// it becomes part of names.
func SplitBearer(s string) (id, secret string, ok bool) {
	id, secret, ok = strings.Cut(s, ".")
	foreign := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') }
	return id, secret, ok && id != "" && secret != "" && !strings.ContainsFunc(id, foreign)
}

// NewSecret makes a random id, which is public, and a secret of 160 bits.
func NewSecret() (id, secret string) {
	text := strings.ToLower(rand.Text())
	return text[:8], strings.ToLower(rand.Text()) + rand.Text()[:6]
}

// Hash is what the cluster keeps of a secret. The secret is random and long, so
// a plain hash cannot be searched.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Matches compares a secret with a kept hash, in constant time.
func Matches(secret, hash string) bool {
	return subtle.ConstantTimeCompare([]byte(Hash(secret)), []byte(hash)) == 1
}

// Pin is the sha256 of a certificate's public key (SubjectPublicKeyInfo, as in
// RFC 7469), in base64. It outlives the certificate.
func Pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// prefix tells a token, and the version of its form.
const prefix = "plinth1"

// sumLength is how many characters of the checksum a token carries.
const sumLength = 12

// maxLength bounds what is read as a token, in bytes.
const maxLength = 8 << 10

// Encode is the token as one word to paste: prefix, length of the content,
// checksum of the content, content. So a copy that was cut short or mistyped
// is told apart from one that the cluster does not know.
func (t Token) Encode() (string, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	content := base64.RawURLEncoding.EncodeToString(raw)
	return fmt.Sprintf("%s-%d-%s-%s", prefix, len(content), sum(content), content), nil
}

func sum(content string) string {
	s := sha256.Sum256([]byte(prefix + content))
	return hex.EncodeToString(s[:])[:sumLength]
}

// Decode reads what Encode made; space around it is no part of it. Its errors
// never show the token.
func Decode(text string) (Token, error) {
	text = strings.TrimSpace(text)
	parts := strings.SplitN(text, "-", 4)
	switch {
	case text == "":
		return Token{}, errors.New("it is empty")
	case len(text) > maxLength:
		return Token{}, fmt.Errorf("it has %d characters, a token has fewer than %d", len(text), maxLength)
	case parts[0] != prefix && strings.HasPrefix(prefix, parts[0][:min(len(parts[0]), len(prefix))]):
		return Token{}, errors.New("it is cut short")
	case parts[0] != prefix:
		return Token{}, fmt.Errorf("it does not begin with %s-: this is no join token of this version of Plinth", prefix)
	case len(parts) < 4:
		return Token{}, errors.New("it is cut short")
	}
	want, err := strconv.Atoi(parts[1])
	content := parts[3]
	switch {
	case err != nil || strconv.Itoa(want) != parts[1]:
		return Token{}, errors.New("a character in it was changed")
	case len(content) < want:
		return Token{}, fmt.Errorf("it is cut short: %d of %d characters are there", len(content), want)
	case len(content) > want || sum(content) != parts[2]:
		return Token{}, errors.New("a character in it was changed, or something was added")
	}
	return parse(content)
}

func parse(content string) (t Token, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(content)
	if err != nil {
		return Token{}, errors.New("its content cannot be read")
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return Token{}, errors.New("its content cannot be read")
	}
	pin, err := base64.StdEncoding.DecodeString(t.Pin)
	switch {
	case err != nil || len(pin) != sha256.Size:
		return Token{}, errors.New("it has no pin of the cluster's certificate authority")
	case t.Role != Controller && t.Role != Worker:
		return Token{}, fmt.Errorf("it is for the role %q, which this version of Plinth does not know", t.Role)
	case len(t.Addresses) == 0 || t.ID == "" || t.Secret == "":
		return Token{}, errors.New("it lacks an address, an id or a secret")
	}
	return t, nil
}
