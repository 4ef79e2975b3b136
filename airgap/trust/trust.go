// Package trust owns the decision whose bundles are taken: keys, signatures,
// the passage from one key to the next, release numbers and expiry. It fails
// closed: what is not proved is refused unless the user asked for it. It
// refuses to read files and to know where keys come from.
package trust

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/sign"
	"github.com/plinthdev/plinth/internal/problem"
)

// Bundle is what is judged; airgap.Bundle is one.
type Bundle interface {
	Digest() digest.Digest
	RawIndex() []byte   // the bytes that are signed
	Signature() []byte  // DER; empty for none
	Release() int64     // 0 for none
	Expires() time.Time // zero for never
}

// Pin is what a host remembers of the bundle that it was installed from.
type Pin struct {
	Key     sign.Public   // zero for none
	Release int64         // the highest that was accepted with that key
	Bundle  digest.Digest // installed now
}

// Terms are what is known when a bundle is judged.
type Terms struct {
	Key           sign.Public // from the user or the executable; zero for none
	Pin           Pin
	Rotation      *sign.Rotation // nil for none
	AllowUnsigned bool           // accept what Key and Pin.Key do not prove
	Look          bool           // likewise, since nothing of the bundle will be used
	Now           time.Time
}

// Verdict says why a bundle is taken.
type Verdict struct {
	Pin
	Verified bool   // Pin.Key signed this bundle
	Warning  string // what was accepted on request; "" for nothing
}

// Warnings is others with the verdict's own.
func (v Verdict) Warnings(others []string) []string {
	if v.Warning == "" {
		return others
	}
	return append(slices.Clone(others), v.Warning)
}

// Judge accepts a bundle or says, as a problem with the exit code for a bad
// bundle, why not. The verdict's pin is what the host is to remember.
func Judge(name string, b Bundle, t Terms) (Verdict, error) {
	v := Verdict{Pin: Pin{Key: t.Pin.Key, Release: t.Pin.Release, Bundle: b.Digest()}}
	key, err := t.key(name)
	if err == nil {
		err = signed(name, b, key)
	}
	if err != nil {
		if !t.AllowUnsigned && !t.Look {
			return v, err
		}
		var p *problem.Problem
		errors.As(err, &p)
		if t.Look {
			v.Warning = fmt.Sprintf("whose bundle %s is is not proved, and an install will ask: %s", b.Digest(), p.Err)
			return v, nil
		}
		v.Warning = fmt.Sprintf("whose bundle %s is was not proved, on request (--allow-unsigned), though %s", b.Digest(), p.Err)
		return v, nil
	}
	v.Verified, v.Key, v.Release = true, key, max(b.Release(), t.Pin.Release)
	if b.Digest() == t.Pin.Bundle { // what is installed stays installable
		return v, nil
	}
	if b.Release() < t.Pin.Release {
		return v, refuse(name, "use the vendor's current release; to go back to an older one, reset the cluster first",
			"it is %s of the vendor, and this host already has release %d", release(b.Release()), t.Pin.Release)
	}
	if end := b.Expires(); !end.IsZero() && t.Now.After(end) {
		return v, refuse(name, "ask the vendor for a current bundle; if this host's clock is wrong, set it",
			"it expired at %s, and it is %s", end.Format(time.RFC3339), t.Now.UTC().Format(time.RFC3339))
	}
	return v, nil
}

// key is the one that must have signed: the pinned one, unless it has a
// successor; the user's or the executable's where none is pinned.
func (t Terms) key(name string) (sign.Public, error) {
	base := t.Pin.Key
	if base.IsZero() {
		base = t.Key
	}
	if base.IsZero() {
		return base, refuse(name, "name the vendor's public key with --verify-key FILE, or run the executable that the vendor ships; without a key nothing proves whose bundle it is (--allow-unsigned takes it nevertheless)",
			"no key is known to check its signature with")
	}
	accepted := base
	if r := t.Rotation; r != nil {
		if !r.By(base) {
			return base, refuse(name, "ask the vendor for the statement that the owner of that key signed", "the key rotation is not signed by the key %s", base.Fingerprint())
		}
		accepted = r.Next
	}
	if !t.Key.IsZero() && !t.Key.Equal(accepted) && !t.Key.Equal(base) {
		return base, refuse(name, "if the vendor has a new key, ask for the statement that the old key signed and name it with --key-rotation FILE",
			"this host was installed with the key %s, and another one was given: %s", base.Fingerprint(), t.Key.Fingerprint())
	}
	return accepted, nil
}

func signed(name string, b Bundle, key sign.Public) error {
	switch {
	case len(b.Signature()) == 0:
		return refuse(name, "get the signed bundle from the vendor; a vendor signs with `plinth bundle build --sign-key FILE`", "it is not signed")
	case !key.Verify(b.RawIndex(), b.Signature()):
		return refuse(name, "get the bundle from the vendor again; if the vendor has a new key, ask for the statement that the old key signed and name it with --key-rotation FILE",
			"it is not signed with the key %s", key.Fingerprint())
	}
	return nil
}

func release(n int64) string {
	if n == 0 {
		return "a release without a number"
	}
	return fmt.Sprintf("release %d", n)
}

func refuse(name, hint, format string, args ...any) error {
	return problem.Newf(problem.ExitBundle, "trust bundle "+name, hint, format, args...)
}
