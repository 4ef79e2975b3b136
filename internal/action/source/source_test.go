package source

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/delta"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
)

// vendor is a key pair in files.
type vendor struct {
	key     trust.PrivateKey
	public  string // file
	rotated func(next vendor) string
}

func newVendor(t *testing.T) vendor {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := PrivateKey(file(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	public, err := private.Public()
	if err != nil {
		t.Fatal(err)
	}
	v := vendor{key: private, public: file(t, public.PEM())}
	v.rotated = func(next vendor) string {
		public, _ := next.key.Public()
		statement, err := private.SignRotation(public)
		if err != nil {
			t.Fatal(err)
		}
		return file(t, statement)
	}
	return v
}

func file(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (v vendor) bundle(t *testing.T, release int64) string {
	t.Helper()
	req := airgaptest.NewRequest(t)
	req.Release, req.Sign = release, v.key.Sign
	return airgaptest.WriteBundle(t, req)
}

// site returns the environment of a new host, and the notes that it collects.
func site(t *testing.T) (r *action.Env, notes *[]string) {
	t.Helper()
	notes = new([]string)
	return &action.Env{Host: host.Local(t.TempDir()), GlobalOptions: action.GlobalOptions{DataDir: "/data", Now: time.Now,
		Note: func(text string) { *notes = append(*notes, text) }}}, notes
}

// take opens a bundle and, if it is accepted, writes the receipt of its install.
func take(t *testing.T, env *action.Env, req Request) error {
	t.Helper()
	d, err := Open(t.Context(), env, req)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	receipt := journal.Receipt{Bundle: d.Digest().String(), Vendor: VendorRecord(d.Trust), Warnings: d.Trust.AppendWarning(nil)}
	if err := env.Host.MkdirAll("/data", 0o700); err != nil {
		t.Fatal(err)
	}
	return journal.WriteReceipt(env.Host, env.DataDir, receipt)
}

func TestOpen_RemembersVendorInReceipt(t *testing.T) {
	ours, next, stranger := newVendor(t), newVendor(t), newVendor(t)
	unsigned := airgaptest.WriteBundle(t, airgaptest.NewRequest(t))
	r, notes := site(t)
	for _, step := range []struct {
		name string
		req  Request
		want string // in the error; "" if accepted
	}{
		{"unsigned", Request{Bundle: unsigned}, "no key is known"},
		{"signed, no key known", Request{Bundle: ours.bundle(t, 2)}, "no key is known"},
		{"another key", Request{Bundle: ours.bundle(t, 2), VerifyKey: stranger.public}, "not signed with the key"},
		{"the vendor's key", Request{Bundle: ours.bundle(t, 2), VerifyKey: ours.public}, ""},
		{"the same again, key remembered", Request{Bundle: ours.bundle(t, 2)}, ""},
		{"unsigned, after a signed one", Request{Bundle: unsigned}, "not signed"},
		{"a stranger's key, after the vendor's", Request{Bundle: stranger.bundle(t, 9), VerifyKey: stranger.public}, "another key was given"},
		{"a newer release", Request{Bundle: ours.bundle(t, 3)}, ""},
		{"the older one, replayed", Request{Bundle: ours.bundle(t, 2)}, "already has release 3"},
		{"another key's bundle", Request{Bundle: next.bundle(t, 4)}, "not signed with"},
		{"a stranger's statement", Request{Bundle: next.bundle(t, 4), KeyRotation: stranger.rotated(next)}, "key rotation is not signed with"},
		{"the vendor's statement", Request{Bundle: next.bundle(t, 4), KeyRotation: ours.rotated(next)}, ""},
		{"the next key, remembered", Request{Bundle: next.bundle(t, 5), VerifyKey: next.public}, ""},
		{"the old key, gone", Request{Bundle: ours.bundle(t, 6)}, "not signed with"},
		{"unsigned, on request", Request{Bundle: unsigned, AllowUnsigned: true}, ""},
		{"unsigned, not on request any more", Request{Bundle: unsigned}, "not signed"},
		{"an older release, replayed after the unsigned one", Request{Bundle: next.bundle(t, 4)}, "already has release 5"},
	} {
		err := take(t, r, step.req)
		if step.want == "" && err != nil || step.want != "" && (err == nil || problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), step.want)) {
			t.Errorf("%s: %v, want %q", step.name, err, step.want)
		}
	}
	if len(*notes) != 1 || !strings.Contains((*notes)[0], "--allow-unsigned") {
		t.Errorf("want one warning about the unsigned bundle, got %q", *notes)
	}
	receipt, _, err := journal.ReadReceipt(r.Host, r.DataDir)
	if err != nil || len(receipt.Warnings) != 1 || receipt.Vendor.Release != 5 || !strings.HasPrefix(receipt.Vendor.Fingerprint, "sha256:") {
		t.Errorf("%+v, %v", receipt, err)
	}
}

func TestOpen_ReportsBadKeyFileAsUsageProblem(t *testing.T) {
	ours := newVendor(t)
	bundle := ours.bundle(t, 1)
	for name, req := range map[string]Request{
		"no file":            {Bundle: bundle, VerifyKey: "/none"},
		"not a key":          {Bundle: bundle, VerifyKey: bundle},
		"a long file":        {Bundle: bundle, VerifyKey: file(t, make([]byte, maxKeySize+1))},
		"a key as statement": {Bundle: bundle, VerifyKey: ours.public, KeyRotation: ours.public},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := site(t)
			if _, err := Open(t.Context(), r, req); problem.ExitCode(err) != problem.ExitUsage || problem.Hint(err) == "" {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOpen_ReportsMissingEmbeddedBundle(t *testing.T) {
	r, _ := site(t)
	_, err := Open(t.Context(), r, Request{VerifyKey: newVendor(t).public})
	if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(problem.Hint(err), "--bundle FILE") {
		t.Errorf("%v", err)
	}
}

func TestBundleFetchURLs_OmitsCredentials(t *testing.T) {
	if got := (Bundle{}).FetchURLs(); got != nil {
		t.Errorf("bundle in a file: %v", got)
	}
	remote, err := fetch.Dial(t.Context(), "https://user:secret@bundles.example.com/my-app", fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := (Bundle{remote: remote}).FetchURLs(); !slices.Equal(got, []string{"https://bundles.example.com/my-app"}) {
		t.Errorf("%v", got)
	}
}

func TestOpen_AcceptsDeltaOnlyWithItsBase(t *testing.T) {
	ours := newVendor(t)
	old, next := ours.bundle(t, 1), ours.bundle(t, 2)
	change := filepath.Join(t.TempDir(), "change")
	open := func(path string) *airgap.Bundle {
		b, err := airgap.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	d, err := delta.Compare(t.Context(), open(old), open(next), t.TempDir())
	if err == nil {
		err = d.WriteFile(t.Context(), change)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		req  Request
		want string // in the error; "" if accepted
	}{
		"with its base":         {Request{Bundle: change, Base: old, VerifyKey: ours.public}, ""},
		"alone":                 {Request{Bundle: change, VerifyKey: ours.public}, "it is a delta"},
		"with another base":     {Request{Bundle: change, Base: next, VerifyKey: ours.public}, "was created from the bundle"},
		"with no file":          {Request{Bundle: change, Base: "/none", VerifyKey: ours.public}, "/none"},
		"no delta, with a base": {Request{Bundle: next, Base: old, VerifyKey: ours.public}, "is not a delta"},
		"another key's":         {Request{Bundle: change, Base: old, VerifyKey: newVendor(t).public}, "not signed with the key"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := site(t)
			taken, err := Open(t.Context(), r, c.req)
			if c.want == "" {
				if err != nil || taken.Release() != 2 || taken.Close() != nil {
					t.Errorf("%v", err)
				}
				return
			}
			if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestOpen_VerifiesBundleInPipeByItsBeginning(t *testing.T) {
	ours := newVendor(t)
	data, err := os.ReadFile(ours.bundle(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		sent []byte
		key  string
		want string // in the error; "" if accepted
	}{
		"ours":          {data, ours.public, ""},
		"another key's": {data, newVendor(t).public, "not signed with the key"},
		"truncated":     {data[:1000], ours.public, "truncated"},
		"empty":         {nil, ours.public, "truncated"},
	} {
		t.Run(name, func(t *testing.T) {
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_, _ = write.Write(c.sent) // the reader may stop before the end
				_ = write.Close()
			}()
			r, _ := site(t)
			d, err := Open(t.Context(), r, Request{Bundle: fmt.Sprintf("/proc/self/fd/%d", read.Fd()), VerifyKey: c.key})
			switch {
			case c.want != "" && (problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v", err)
			case c.want == "" && (err != nil || len(d.Missing()) == 0 || d.Release() != 1 || len(d.FetchURLs()) != 0 || d.Close() != nil):
				t.Errorf("%v", err)
			}
			_ = read.Close()
			<-sent
		})
	}
}

func TestCheckPlatform_RefusesOtherPlatform(t *testing.T) {
	if err := checkPlatform("b", "linux/arm64", "linux/amd64"); problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(err.Error(), "for linux/arm64") {
		t.Errorf("%v", err)
	}
	for _, platform := range []string{"", "linux/amd64"} {
		t.Run("accepts "+platform, func(t *testing.T) {
			if err := checkPlatform("b", platform, "linux/amd64"); err != nil {
				t.Error(err)
			}
		})
	}
}
