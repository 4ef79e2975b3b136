package airgap_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
)

// thinBundle returns a full bundle, the thin bundle for it, and a folder with all blobs.
func thinBundle(t *testing.T) (full, thin *airgap.Bundle, folder blob.Folder) {
	t.Helper()
	req := airgaptest.NewRequest(t)
	path := airgaptest.WriteBundle(t, req)
	open := func(path string) *airgap.Bundle {
		b, err := airgap.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	full = open(path)
	out := filepath.Join(t.TempDir(), "thin")
	if err := build.ThinArchive(full).WriteFile(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	req.Thin = true
	built, err := os.ReadFile(airgaptest.WriteBundle(t, req))
	if err != nil {
		t.Fatal(err)
	}
	if converted, err := os.ReadFile(out); err != nil || !bytes.Equal(converted, built) {
		t.Errorf("a thin bundle that was built differs from one that was created from the full bundle, %v", err)
	}
	folder, err = blob.OpenFolder(req.Layout)
	if err != nil {
		t.Fatal(err)
	}
	return full, open(out), folder
}

func TestWithBlobSource_CompletesThinBundle(t *testing.T) {
	full, thin, folder := thinBundle(t)
	if full.Digest() != thin.Digest() || thin.Size() >= full.Size() || len(full.Missing()) != 0 || full.ContentSize() != thin.ContentSize() {
		t.Errorf("%s and %s, %d and %d bytes, %d absent from the full one", full.Digest(), thin.Digest(), full.Size(), thin.Size(), len(full.Missing()))
	}
	if in, err := thin.Installer(t.Context()); err != nil || string(in) != airgaptest.Installer {
		t.Errorf("%q, %v", in, err)
	}
	if err := thin.Verify(t.Context(), nil); err != nil { // verifies only the blobs in the file
		t.Error(err)
	}
	_, err := thin.OpenHostFile(t.Context(), "k0s")
	wantRefused(t, err, "it is a thin bundle")
	whole := thin.WithBlobSource(folder, thin.Missing())
	if err := whole.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := whole.OpenHostFile(t.Context(), "k0s"); err != nil {
		t.Error(err)
	}
	if _, err := thin.OpenHostFile(t.Context(), "k0s"); err == nil {
		t.Error("WithBlobSource changed its receiver")
	}
}

func TestWithBlobSource_VerifiesContent(t *testing.T) {
	_, thin, folder := thinBundle(t)
	first := thin.Missing()[0]
	if err := os.WriteFile(filepath.Join(folder.Dir(), "blobs", "sha256", first.Digest.Encoded()), make([]byte, first.Size), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, thin.WithBlobSource(folder, thin.Missing()).Verify(t.Context(), nil), "has the digest")
	// A blob that is not listed as available is not read from the source.
	if err := thin.WithBlobSource(folder, thin.Missing()[1:]).Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestUnverified_VerifiesBlobsOutsideTheFile(t *testing.T) {
	full, thin, folder := thinBundle(t)
	for name, b := range map[string]*airgap.Bundle{"full": full, "with a folder": thin.WithBlobSource(folder, thin.Missing())} {
		t.Run(name, func(t *testing.T) {
			for _, d := range thin.Missing() {
				if got, err := blob.ReadAll(t.Context(), airgap.Unverified{Bundle: b}, d, 1<<30); err != nil || digest.FromBytes(got) != d.Digest {
					t.Errorf("%s is %s, %v", d.Digest, digest.FromBytes(got), err)
				}
			}
		})
	}
	first := thin.Missing()[0]
	if err := os.WriteFile(filepath.Join(folder.Dir(), "blobs", "sha256", first.Digest.Encoded()), make([]byte, first.Size), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := blob.ReadAll(t.Context(), airgap.Unverified{Bundle: thin.WithBlobSource(folder, thin.Missing())}, first, 1<<30)
	wantRefused(t, err, "has the digest")
}

func TestOpenAt_RefusesPartlyThinBundle(t *testing.T) {
	full, thin, _ := thinBundle(t)
	all := readEntries(t, airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	some := func(drop func(ocispec.Descriptor) bool) []byte {
		gone := map[string]bool{}
		for _, it := range full.Items() {
			for _, d := range it.Blobs() {
				gone["blobs/sha256/"+d.Digest.Encoded()] = gone["blobs/sha256/"+d.Digest.Encoded()] || drop(d)
			}
		}
		var kept []entry
		for _, e := range all {
			if !gone[e.name] {
				kept = append(kept, e)
			}
		}
		return packEntries(t, kept)
	}
	absent := map[string]bool{}
	for _, d := range thin.Missing() {
		absent[d.Digest.String()] = true
	}
	one := thin.Missing()[0].Digest
	manifest := full.Items()[0].Manifest.Digest
	for name, data := range map[string][]byte{
		"one layer missing": some(func(d ocispec.Descriptor) bool { return d.Digest == one }),
		"one layer present": some(func(d ocispec.Descriptor) bool { return absent[d.Digest.String()] && d.Digest != one }),
		"thin, without a config": some(func(d ocispec.Descriptor) bool {
			return absent[d.Digest.String()] || d.Digest == full.Images()[0].Config.Digest
		}),
		"without a manifest": some(func(d ocispec.Descriptor) bool { return d.Digest == manifest }),
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, openAndVerify(t, data), "is missing") })
	}
}
