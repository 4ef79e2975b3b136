// Package trust decides whether a bundle is accepted, from its signature, the
// vendor's keys and key rotations, its release number and its expiry. A bundle that
// cannot be verified is rejected unless the user allows it explicitly.
package trust

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/problem"
)

// Bundle is the part of airgap.Bundle that is verified.
type Bundle interface {
	Digest() digest.Digest
	RawIndex() []byte   // the signed bytes
	Signature() []byte  // DER; empty for none
	Release() int64     // 0 for none
	Expires() time.Time // zero for never
}

// Pin is what a host records about the bundle from which it was installed.
type Pin struct {
	Key     PublicKey     // zero for none
	Release int64         // highest release accepted with that key
	Bundle  digest.Digest // bundle that is installed now
}

// Policy is the input for the verification of a bundle.
type Policy struct {
	Key           PublicKey // from the user or the executable; zero for none
	Pin           Pin
	Rotation      *KeyRotation // nil for none
	AllowUnsigned bool         // accept a bundle that Key and Pin.Key do not verify
	InspectOnly   bool         // likewise, because the bundle is only displayed
	Now           time.Time
}

// Result describes why a bundle is accepted.
type Result struct {
	Pin
	Verified bool   // Pin.Key signed this bundle
	Warning  string // why an unverified bundle was accepted; "" if it was verified
}

// AppendWarning returns a copy of others with the result's own warning, if any.
func (v Result) AppendWarning(others []string) []string {
	if v.Warning == "" {
		return others
	}
	return append(slices.Clone(others), v.Warning)
}

// Verify verifies the bundle b, whose name is used in messages. If it is not
// accepted, the error is a Problem with the exit code for a bad bundle. The result's
// Pin is what the host must record.
func Verify(name string, b Bundle, t Policy) (Result, error) {
	v := Result{Pin: Pin{Key: t.Pin.Key, Release: t.Pin.Release, Bundle: b.Digest()}}
	key, err := t.requiredKey(name)
	if err == nil {
		err = checkSignature(name, b, key)
	}
	if err != nil {
		if !t.AllowUnsigned && !t.InspectOnly {
			return v, err
		}
		var p *problem.Problem
		errors.As(err, &p)
		if t.InspectOnly {
			v.Warning = fmt.Sprintf("the origin of bundle %s is not verified, and an installation would refuse it: %s", b.Digest(), p.Err)
			return v, nil
		}
		v.Warning = fmt.Sprintf("the origin of bundle %s was not verified, because of --allow-unsigned: %s", b.Digest(), p.Err)
		return v, nil
	}
	v.Verified, v.Key, v.Release = true, key, max(b.Release(), t.Pin.Release)
	if b.Digest() == t.Pin.Bundle { // the installed bundle can always be installed again
		return v, nil
	}
	if b.Release() < t.Pin.Release {
		return v, newTrustError(name, "use the vendor's current release; to install an older one, reset the cluster first",
			"it is %s, but this host already has release %d", describeRelease(b.Release()), t.Pin.Release)
	}
	if end := b.Expires(); !end.IsZero() && t.Now.After(end) {
		return v, newTrustError(name, "ask the vendor for a current bundle; if this host's clock is wrong, correct it",
			"it expired at %s, and the time is %s", end.Format(time.RFC3339), t.Now.UTC().Format(time.RFC3339))
	}
	return v, nil
}

// requiredKey returns the key with which the bundle must be signed: the pinned key or
// its successor, or without a pinned key that of the user or the executable.
func (t Policy) requiredKey(name string) (PublicKey, error) {
	base := t.Pin.Key
	if base.IsZero() {
		base = t.Key
	}
	if base.IsZero() {
		return base, newTrustError(name, "name the vendor's public key with --verify-key FILE, or run the executable that the vendor provides; without a key the origin of the bundle cannot be verified (--allow-unsigned accepts it nevertheless)",
			"no key is known to verify its signature")
	}
	accepted := base
	if r := t.Rotation; r != nil {
		if !r.SignedBy(base) {
			return base, newTrustError(name, "ask the vendor for a key rotation statement that is signed with that key", "the key rotation is not signed with the key %s", base.Fingerprint())
		}
		accepted = r.Next
	}
	if !t.Key.IsZero() && !t.Key.Equal(accepted) && !t.Key.Equal(base) {
		return base, newTrustError(name, "if the vendor has a new key, ask for the key rotation statement, signed with the old key, and name it with --key-rotation FILE",
			"this host was installed with the key %s, but another key was given: %s", base.Fingerprint(), t.Key.Fingerprint())
	}
	return accepted, nil
}

// checkSignature returns an error unless b is signed with key.
func checkSignature(name string, b Bundle, key PublicKey) error {
	switch {
	case len(b.Signature()) == 0:
		return newTrustError(name, "get the signed bundle from the vendor; a vendor signs with `plinth bundle build --sign-key FILE`", "it is not signed")
	case !key.Verify(b.RawIndex(), b.Signature()):
		return newTrustError(name, "get the bundle from the vendor again, or name the key that signed it; if the vendor has a new key, `plinth install` accepts it with the key rotation statement, signed with the old key (--key-rotation FILE)",
			"it is not signed with the key %s", key.Fingerprint())
	}
	return nil
}

func describeRelease(n int64) string {
	if n == 0 {
		return "a release without a number"
	}
	return fmt.Sprintf("release %d", n)
}

func newTrustError(name, hint, format string, args ...any) error {
	return problem.Newf(problem.ExitBundle, "trust bundle "+name, hint, format, args...)
}
