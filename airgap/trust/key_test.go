package trust_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/airgap/trust"
)

// newKey returns a new private key in PEM.
func newKey(t testing.TB, curve elliptic.Curve) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// newKeyPair returns a new P-256 key pair.
func newKeyPair(t testing.TB) (trust.PrivateKey, trust.PublicKey) {
	t.Helper()
	private, err := trust.ParsePrivateKey(newKey(t, elliptic.P256()))
	if err != nil {
		t.Fatal(err)
	}
	public, err := private.Public()
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func TestPublicKey_VerifiesOnlyItsOwnSignatures(t *testing.T) {
	private, public := newKeyPair(t)
	_, other := newKeyPair(t)
	data := []byte("index")
	signature, err := private.Sign(data)
	if err != nil || !public.Verify(data, signature) {
		t.Fatalf("%v: the key's own signature is rejected", err)
	}
	again, _ := private.Sign(data)
	if !bytes.Equal(signature, again) {
		t.Error("two signatures of the same bytes differ")
	}
	if other.Verify(data, signature) || public.Verify([]byte("indey"), signature) || public.Verify(data, nil) || (trust.PublicKey{}).Verify(data, signature) {
		t.Error("a signature is accepted for other data or another key")
	}
	for i := range signature {
		bad := bytes.Clone(signature)
		bad[i] ^= 1
		if public.Verify(data, bad) {
			t.Errorf("a signature with byte %d altered is accepted", i)
		}
	}
	if len(signature) > limit.Signature {
		t.Errorf("%d bytes", len(signature))
	}
}

func TestPublicKey_RoundTripsThroughTextAndPEM(t *testing.T) {
	_, public := newKeyPair(t)
	text, err := public.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var back trust.PublicKey
	if err := back.UnmarshalText(text); err != nil || !back.Equal(public) {
		t.Errorf("%v", err)
	}
	fromPEM, err := trust.ParsePublicKey(public.PEM())
	if err != nil || !fromPEM.Equal(public) || fromPEM.Fingerprint() != public.Fingerprint() {
		t.Errorf("%v", err)
	}
	if err := back.UnmarshalText(nil); err != nil || !back.IsZero() || back.Fingerprint() != "" {
		t.Errorf("empty text does not give the zero key: %v", err)
	}
}

func TestParseKeys_RejectOtherContentAndNameIt(t *testing.T) {
	_, public := newKeyPair(t)
	good := newKey(t, elliptic.P256())
	for name, c := range map[string]struct{ file, private, public string }{
		"empty":       {"", "no private key", "no key in PEM"},
		"text":        {"hello", "no private key", "no key in PEM"},
		"private key": {string(good), "", "a private key, which only the vendor must have"},
		"public key":  {string(public.PEM()), `"PUBLIC KEY" instead of a private key`, ""},
		"other curve": {string(newKey(t, elliptic.P384())), "curve P-256", "a private key"},
		"encrypted":   {"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "openssl pkey", "a private key"},
		"certificate": {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", `"CERTIFICATE"`, `"CERTIFICATE"`},
		"damaged":     {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "damaged", "a private key"},
		"two keys":    {string(public.PEM()) + string(public.PEM()), `"PUBLIC KEY"`, "more than one key"},
		"bad public":  {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", `"PUBLIC KEY"`, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := trust.ParsePrivateKey([]byte(c.file))
			checkError(t, "as private key", err, c.private)
			_, err = trust.ParsePublicKey([]byte(c.file))
			checkError(t, "as public key", err, c.public)
		})
	}
}

// checkError checks that err contains part, or is nil if part is empty.
func checkError(t *testing.T, name string, err error, part string) {
	t.Helper()
	if part == "" && err != nil || part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
		t.Errorf("%s: %v, want %q", name, err, part)
	}
}

func TestKeyRotation_IsSignedByTheOldKeyOnly(t *testing.T) {
	old, oldPublic := newKeyPair(t)
	_, next := newKeyPair(t)
	file, err := old.SignRotation(next)
	if err != nil {
		t.Fatal(err)
	}
	r, err := trust.ParseKeyRotation(file)
	if err != nil || !r.Next.Equal(next) || !r.SignedBy(oldPublic) || r.SignedBy(next) || r.SignedBy(trust.PublicKey{}) {
		t.Errorf("%v", err)
	}
	_, other := newKeyPair(t)
	swapped, err := trust.ParseKeyRotation(append(other.PEM(), file[len(next.PEM()):]...))
	if err != nil || swapped.SignedBy(oldPublic) {
		t.Errorf("the statement is accepted for another next key: %v", err)
	}
	for name, bad := range map[string]string{
		"only a key":  string(next.PEM()),
		"empty":       "",
		"wrong order": string(file[len(next.PEM()):]) + string(next.PEM()),
		"two":         string(file) + string(file),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := trust.ParseKeyRotation([]byte(bad)); err == nil {
				t.Error("it is accepted")
			}
		})
	}
}

// TestSignatures_AreCompatibleWithOpenSSL runs the commands of docs/guide/bundles.md.
func TestSignatures_AreCompatibleWithOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: make test-unit installs it")
	}
	dir := t.TempDir()
	shell := func(script string) string {
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	read := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	shell(`openssl ecparam -name prime256v1 -genkey -out vendor.key 2>/dev/null; openssl pkey -in vendor.key -pubout -out vendor.pub
	       openssl ecparam -name prime256v1 -genkey -noout -out next.key; openssl pkey -in next.key -pubout -out next.pub
	       printf index > index.json; openssl dgst -sha256 -sign vendor.key -out theirs.sig index.json`)
	private, err := trust.ParsePrivateKey(read("vendor.key"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := trust.ParsePublicKey(read("vendor.pub"))
	if err != nil || !public.Verify(read("index.json"), read("theirs.sig")) {
		t.Fatalf("openssl's signature is rejected: %v", err)
	}
	if sum := shell(`openssl pkey -pubin -in vendor.pub -outform DER | sha256sum`); public.Fingerprint() != "sha256:"+strings.Fields(sum)[0] {
		t.Errorf("fingerprint %s, openssl has %s", public.Fingerprint(), sum)
	}
	ours, err := private.Sign(read("index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json.sig"), ours, 0o600); err != nil {
		t.Fatal(err)
	}
	shell(`openssl dgst -sha256 -verify vendor.pub -signature index.json.sig index.json`)
	shell(`{ cat next.pub; echo "-----BEGIN PLINTH KEY ROTATION-----"
	         openssl dgst -sha256 -sign vendor.key next.pub | base64 -w 64
	         echo "-----END PLINTH KEY ROTATION-----"; } > rotation.pem`)
	r, err := trust.ParseKeyRotation(read("rotation.pem"))
	if err != nil || !r.SignedBy(public) || !bytes.Equal(r.Next.PEM(), read("next.pub")) {
		t.Errorf("a statement created with openssl is rejected: %v", err)
	}
}

func FuzzParseKeys(f *testing.F) {
	private, public := newKeyPair(f)
	rotation, err := private.SignRotation(public)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{newKey(f, elliptic.P256()), public.PEM(), rotation, nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if key, err := trust.ParsePublicKey(file); err == nil && key.Fingerprint() == "" {
			t.Error("a key without a fingerprint")
		}
		_, _ = trust.ParsePrivateKey(file)
		if r, err := trust.ParseKeyRotation(file); err == nil && r.Next.IsZero() {
			t.Error("a statement for no key")
		}
	})
}
