package airgap_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// smallBundle returns the entries of a bundle with one image and one host file.
func smallBundle(t testing.TB) []entry { return readEntries(t, smallBundlePath(t)) }

// smallBundlePath writes the bundle of smallBundle and returns its path.
func smallBundlePath(t testing.TB) string {
	req := airgaptest.NewRequest(t)
	req.Images, req.HostFiles = req.Images[:1], req.HostFiles[:1]
	req.Charts, req.Application = []build.Chart{}, nil
	return airgaptest.WriteBundle(t, req)
}

// exerciseBundle opens data and reads all of it. Nothing may panic, every refusal
// must be a problem, and content that is read without an error must have its digest.
func exerciseBundle(t *testing.T, data []byte) {
	if len(data) > testkit.MaxInput {
		t.Skip()
	}
	testkit.CheckBounds(t, func() { readBundle(t, data) })
}

// readBundle implements exerciseBundle.
func readBundle(t *testing.T, data []byte) {
	ctx := t.Context()
	r := &countingReader{ReaderAt: bytes.NewReader(data)}
	b, err := airgap.OpenAt(ctx, r, int64(len(data)), "fuzz")
	if most := int64(limit.Manifests + 8*len(data) + 64<<10); r.n.Load() > most {
		t.Errorf("%d bytes were read of a file of %d", r.n.Load(), len(data))
	}
	if err != nil {
		if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
			t.Errorf("not a proper refusal: %v", err)
		}
		return
	}
	for _, it := range b.Items() {
		for _, desc := range it.Blobs() {
			r, err := b.Open(ctx, desc)
			if err != nil {
				t.Fatalf("%s: %v", it, err) // OpenAt has verified that the blob exists
			}
			if got, err := io.ReadAll(r); err == nil && (digest.FromBytes(got) != desc.Digest || int64(len(got)) != desc.Size) {
				t.Errorf("%s: wrong content was delivered as %s", it, desc.Digest)
			}
		}
	}
	for _, f := range b.HostFiles() {
		r, err := b.OpenHostFile(ctx, f.Name)
		if err != nil {
			continue
		}
		sum := digest.SHA256.Digester()
		if n, err := io.Copy(sum.Hash(), r); err == nil && (sum.Digest() != f.Digest || n != f.Size) {
			t.Errorf("%s: wrong content was delivered", f.Name)
		}
		_ = r.Close()
	}
	if _, err := b.Installer(ctx); err != nil && problem.ExitCode(err) != problem.ExitBundle {
		t.Errorf("Installer: %v", err)
	}
	if err := b.Verify(ctx, nil); err != nil && problem.ExitCode(err) != problem.ExitBundle {
		t.Errorf("Verify: %v", err)
	}
	b.Inspect()
	b.ContentSize()
}

// FuzzOpen fuzzes whole files.
func FuzzOpen(f *testing.F) {
	whole := packEntries(f, smallBundle(f))
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(whole[:1536])
	f.Add([]byte("oci-layout"))
	f.Fuzz(exerciseBundle)
}

// FuzzContent fuzzes the index and one blob of an otherwise valid file, so that
// the input passes the checks of the checksum and the headers.
func FuzzContent(f *testing.F) {
	all := smallBundle(f)
	for i := 3; i < len(all); i++ {
		f.Add(all[1].data, uint8(i), all[i].data)
	}
	f.Add(bytes.ReplaceAll(all[1].data, []byte("sha256:"), []byte("sha256:../")), uint8(3), []byte("{}"))
	f.Fuzz(func(t *testing.T, index []byte, at uint8, content []byte) {
		changed := append([]entry(nil), all...)
		changed[1].data, changed[2].data = index, []byte(format.Checksum(index))
		if i := 3 + int(at)%(len(all)-3); !bytes.Equal(content, all[i].data) {
			old := all[i].name[len("blobs/sha256/"):]
			renamed := digest.FromBytes(content)
			changed[i] = entry{format.BlobEntry(renamed), content}
			// Put the new digest into the index, so that the content is parsed.
			changed[1].data = bytes.ReplaceAll(index, []byte(old), []byte(renamed.Encoded()))
			changed[2].data = []byte(format.Checksum(changed[1].data))
		}
		exerciseBundle(t, packEntries(t, changed))
	})
}
