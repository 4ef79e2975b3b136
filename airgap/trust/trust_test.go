package trust_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/problem"
)

var _ trust.Bundle = (*airgap.Bundle)(nil)

// fakeBundle is a trust.Bundle with the given values.
type fakeBundle struct {
	index, sig []byte
	release    int64
	expires    time.Time
}

func (m fakeBundle) Digest() digest.Digest { return digest.FromBytes(m.index) }
func (m fakeBundle) RawIndex() []byte      { return m.index }
func (m fakeBundle) Signature() []byte     { return m.sig }
func (m fakeBundle) Release() int64        { return m.release }
func (m fakeBundle) Expires() time.Time    { return m.expires }

type vendor struct {
	private trust.PrivateKey
	public  trust.PublicKey
}

// newVendor returns a vendor with a new key pair.
func newVendor(t testing.TB) vendor {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := trust.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	public, err := private.Public()
	if err != nil {
		t.Fatal(err)
	}
	return vendor{private, public}
}

func (v vendor) bundle(t testing.TB, release int64) fakeBundle {
	t.Helper()
	index := []byte("index " + string(rune('0'+release)))
	sig, err := v.private.Sign(index)
	if err != nil {
		t.Fatal(err)
	}
	return fakeBundle{index: index, sig: sig, release: release}
}

func (v vendor) rotate(t testing.TB, next vendor) *trust.KeyRotation {
	t.Helper()
	file, err := v.private.SignRotation(next.public)
	if err != nil {
		t.Fatal(err)
	}
	r, err := trust.ParseKeyRotation(file)
	if err != nil {
		t.Fatal(err)
	}
	return &r
}

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestVerify_RejectsUnverifiedBundles(t *testing.T) {
	ours, next, stranger := newVendor(t), newVendor(t), newVendor(t)
	pinned := trust.Pin{Key: ours.public, Release: 5}
	unsigned := fakeBundle{index: []byte("index")}
	altered := ours.bundle(t, 5)
	altered.index = []byte("index 6")
	expired := ours.bundle(t, 6)
	expired.expires = now.Add(-time.Second)
	current := ours.bundle(t, 6)
	current.expires = now
	installed := pinned
	installed.Release, installed.Bundle = 9, expired.Digest()
	for name, c := range map[string]struct {
		bundle fakeBundle
		terms  trust.Policy
		want   string // in the error; "" if the bundle is accepted
	}{
		"signed, key given":                    {ours.bundle(t, 1), trust.Policy{Key: ours.public}, ""},
		"signed, key pinned":                   {ours.bundle(t, 5), trust.Policy{Pin: pinned}, ""},
		"signed, key given and pinned":         {ours.bundle(t, 6), trust.Policy{Key: ours.public, Pin: pinned}, ""},
		"no key known":                         {ours.bundle(t, 1), trust.Policy{}, "no key is known"},
		"unsigned, no key known":               {unsigned, trust.Policy{}, "no key is known"},
		"unsigned":                             {unsigned, trust.Policy{Key: ours.public}, "not signed"},
		"unsigned on a host with a pin":        {unsigned, trust.Policy{Pin: pinned}, "not signed"},
		"of another vendor":                    {stranger.bundle(t, 9), trust.Policy{Key: ours.public}, "not signed with the key " + ours.public.Fingerprint()},
		"of another vendor, its key given":     {stranger.bundle(t, 9), trust.Policy{Key: stranger.public, Pin: pinned}, "another key was given"},
		"index altered":                        {altered, trust.Policy{Key: ours.public}, "not signed with"},
		"older release":                        {ours.bundle(t, 4), trust.Policy{Pin: pinned}, "already has release 5"},
		"no release number after one":          {ours.bundle(t, 0), trust.Policy{Pin: pinned}, "without a number"},
		"expired":                              {expired, trust.Policy{Key: ours.public}, "it expired at 2026-01-02T03:04:04Z"},
		"not yet expired":                      {current, trust.Policy{Key: ours.public}, ""},
		"installed already, expired, replaced": {expired, trust.Policy{Pin: installed}, ""},
		"new key without a statement":          {next.bundle(t, 6), trust.Policy{Pin: pinned}, "not signed with"},
		"new key with its statement":           {next.bundle(t, 6), trust.Policy{Pin: pinned, Rotation: ours.rotate(t, next)}, ""},
		"new key given, with its statement":    {next.bundle(t, 6), trust.Policy{Key: next.public, Pin: pinned, Rotation: ours.rotate(t, next)}, ""},
		"old key given, with a statement":      {next.bundle(t, 6), trust.Policy{Key: ours.public, Rotation: ours.rotate(t, next)}, ""},
		"new key, but an older release":        {next.bundle(t, 4), trust.Policy{Pin: pinned, Rotation: ours.rotate(t, next)}, "already has release 5"},
		"statement of a stranger":              {next.bundle(t, 6), trust.Policy{Pin: pinned, Rotation: stranger.rotate(t, next)}, "key rotation is not signed"},
		"statement for another key":            {next.bundle(t, 6), trust.Policy{Pin: pinned, Rotation: ours.rotate(t, stranger)}, "not signed with"},
		"statement, then the old key again":    {ours.bundle(t, 6), trust.Policy{Pin: pinned, Rotation: ours.rotate(t, next)}, "not signed with"},
		"stranger's key beside a statement":    {next.bundle(t, 6), trust.Policy{Key: stranger.public, Pin: pinned, Rotation: ours.rotate(t, next)}, "another key was given"},
	} {
		t.Run(name, func(t *testing.T) {
			c.terms.Now = now
			v, err := trust.Verify("b", c.bundle, c.terms)
			if c.want == "" {
				if err != nil || !v.Verified || v.Warning != "" || v.Key.IsZero() || v.Bundle != c.bundle.Digest() || v.Release < c.terms.Pin.Release {
					t.Errorf("%+v, %v", v, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

func TestVerify_WarnsAboutAllowedUnverifiedBundlesAndKeepsPin(t *testing.T) {
	ours, stranger := newVendor(t), newVendor(t)
	pinned := trust.Pin{Key: ours.public, Release: 5}
	for name, c := range map[string]struct {
		bundle  fakeBundle
		terms   trust.Policy
		warning string
	}{
		"no key known":      {fakeBundle{index: []byte("i")}, trust.Policy{}, "no key is known"},
		"unsigned":          {fakeBundle{index: []byte("i")}, trust.Policy{Pin: pinned}, "it is not signed"},
		"of another vendor": {stranger.bundle(t, 9), trust.Policy{Pin: pinned}, "not signed with"},
		"verified anyway":   {ours.bundle(t, 6), trust.Policy{Pin: pinned}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.terms.AllowUnsigned, c.terms.Now = true, now
			v, err := trust.Verify("b", c.bundle, c.terms)
			if err != nil || !strings.Contains(v.Warning, c.warning) || (v.Warning == "") != (c.warning == "") {
				t.Errorf("%q, %v", v.Warning, err)
			}
			if c.warning != "" && (v.Verified || !v.Key.Equal(c.terms.Pin.Key) || v.Release != c.terms.Pin.Release || len(v.AppendWarning([]string{"x"})) != 2) {
				t.Errorf("%+v", v)
			}
		})
	}
	inspected, err := trust.Verify("b", fakeBundle{index: []byte("index")}, trust.Policy{InspectOnly: true, Now: now})
	if err != nil || inspected.Verified || !strings.Contains(inspected.Warning, "is not verified, and an installation would refuse it: ") || strings.Contains(inspected.Warning, "--allow-unsigned") {
		t.Errorf("inspect only: %q, %v", inspected.Warning, err)
	}
	if _, err := trust.Verify("b", ours.bundle(t, 4), trust.Policy{Pin: pinned, AllowUnsigned: true, Now: now}); err == nil {
		t.Error("an old release of the vendor is accepted: --allow-unsigned must not allow that")
	}
}
