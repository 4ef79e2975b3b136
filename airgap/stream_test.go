package airgap_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/delta"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// bundleBytes returns the bytes of a whole bundle.
func bundleBytes(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	testkit.Must(t, err)
	return data
}

// newFolder returns an empty OCI image layout.
func newFolder(t testing.TB) blob.Folder {
	t.Helper()
	f, err := blob.CreateFolder(t.TempDir())
	testkit.Must(t, err)
	return f
}

// readStream reads a stream to its end and verifies the resulting bundle.
func readStream(ctx context.Context, r io.Reader, into blob.Folder) (*airgap.Bundle, error) {
	b, s, err := airgap.OpenStream(ctx, r, "standard input")
	if err != nil || s == nil {
		return b, err
	}
	want := b.Missing()
	if err := s.SaveBlobs(ctx, into, want, nil); err != nil {
		return b, err
	}
	b = b.WithBlobSource(into, want)
	return b, b.Verify(ctx, nil)
}

func TestSaveBlobs_CompletesTheBundle(t *testing.T) {
	data := bundleBytes(t)
	full, err := airgap.OpenAt(t.Context(), bytes.NewReader(data), int64(len(data)), "full")
	testkit.Must(t, err)
	for name, r := range map[string]io.Reader{
		"at once":       bytes.NewReader(data),
		"byte by byte":  iotest.OneByteReader(bytes.NewReader(data)),
		"with its end":  iotest.DataErrReader(bytes.NewReader(data)),
		"half and half": iotest.HalfReader(bytes.NewReader(data)),
		"plain reader":  onlyReader{bytes.NewReader(data)},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFolder(t)
			b, err := readStream(t.Context(), r, f)
			if err != nil || b.Digest() != full.Digest() || string(b.Signature()) != string(full.Signature()) || len(b.Missing()) == 0 {
				t.Fatalf("%v", err)
			}
			for _, d := range b.Missing() {
				if !f.Has(d) {
					t.Errorf("%s was not saved", d.Digest)
				}
			}
		})
	}
}

// onlyReader hides all methods of a reader except Read.
type onlyReader struct{ io.Reader }

func TestSaveBlobs_SavesOnlyWantedBlobs(t *testing.T) {
	b, s, err := airgap.OpenStream(t.Context(), bytes.NewReader(bundleBytes(t)), "standard input")
	testkit.Must(t, err)
	f, want := newFolder(t), b.Missing()[1:2]
	var reported [2]int64
	testkit.Must(t, s.SaveBlobs(t.Context(), f, want, func(done, total int64) { reported = [2]int64{done, total} }))
	for i, d := range b.Missing() {
		if f.Has(d) != (i == 1) {
			t.Errorf("blob %d is saved: %t", i, f.Has(d))
		}
	}
	if reported[0] != b.MissingSize() || reported[1] != b.MissingSize() {
		t.Errorf("reported %v of %d bytes", reported, b.MissingSize())
	}
}

func TestSaveBlobs_KeepsCompleteBlobsOfTruncatedStream(t *testing.T) {
	data := bundleBytes(t)
	for n := range data {
		if n > 3 && n < len(data)-3 && n%509 != 0 && n%512 != 0 {
			continue
		}
		f := newFolder(t)
		_, err := readStream(t.Context(), bytes.NewReader(data[:n]), f)
		if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
			t.Fatalf("at %d: %v", n, err)
		}
		if n > 2100 && airgap.IsPermanentStreamError(err) && !strings.Contains(problem.Hint(err), "incomplete") {
			t.Errorf("at %d the error is permanent: %v; %s", n, err, problem.Hint(err))
		}
	}
	f := newFolder(t)
	if _, err := readStream(t.Context(), bytes.NewReader(data[:len(data)-2048]), f); err == nil || !strings.Contains(problem.Hint(err), "the parts that were received completely are kept") || f.IsEmpty() {
		t.Errorf("%v; %s", err, problem.Hint(err))
	}
	missing := 0
	b, s, err := airgap.OpenStream(t.Context(), bytes.NewReader(data), "standard input")
	testkit.Must(t, err)
	for _, d := range b.Missing() {
		if !f.Has(d) {
			missing++
		}
	}
	if missing == 0 || missing == len(b.Missing()) {
		t.Errorf("%d of %d blobs have to be saved again", missing, len(b.Missing()))
	}
	testkit.Must(t, s.SaveBlobs(t.Context(), f, b.Missing(), nil))
}

func TestSaveBlobs_RefusesAnyFlippedBit(t *testing.T) {
	data := bundleBytes(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		at := rnd.IntN(len(data))
		bad := bytes.Clone(data)
		bad[at] ^= 1 << rnd.IntN(8)
		_, err := readStream(t.Context(), bytes.NewReader(bad), newFolder(t))
		if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !airgap.IsPermanentStreamError(err) && !strings.Contains(problem.Hint(err), "send the bundle again") && !strings.Contains(problem.Hint(err), "copy the file again") {
			t.Errorf("byte %d: %v; %s", at, err, problem.Hint(err))
		}
	}
}

func TestOpenStream_NamesWhatIsNotABundle(t *testing.T) {
	data := bundleBytes(t)
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"nothing":    {"", "truncated"},
		"gzip":       {"\x1f\x8b\x08" + strings.Repeat("x", 9000), "compressed by gzip"},
		"web page":   {"<!DOCTYPE html>" + strings.Repeat(" ", 900), "web page"},
		"text":       {strings.Repeat("hello ", 2000), "not a bundle"},
		"zeros":      {strings.Repeat("\x00", 2048), "continues after its end"},
		"old order":  {string(reorderEntries(t, data)), "an older plinth built it"},
		"other tar":  {string(airgaptest.Tar(t, "hello", "world")), `its first entry is "hello"`},
		"more":       {string(data) + "x", "continues after its end"},
		"twice":      {string(data) + string(data), "continues after its end"},
		"no content": {string(data[:512]) + strings.Repeat("\x00", 4096), "continues after its end"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := readStream(t.Context(), strings.NewReader(c.text), newFolder(t)); problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// reorderEntries moves the last entry that precedes the content to the end.
func reorderEntries(t *testing.T, data []byte) []byte {
	t.Helper()
	req := airgaptest.NewRequest(t)
	req.Thin = true
	thin, err := os.ReadFile(airgaptest.WriteBundle(t, req))
	testkit.Must(t, err)
	table, err := format.Scan(bytes.NewReader(thin), int64(len(thin)))
	testkit.Must(t, err)
	last, behind := int64(0), int64(len(thin)-len(format.EndBlocks()))
	for _, s := range table.Blobs {
		last = max(last, s.Off-512) // its header
	}
	end := len(data) - len(format.EndBlocks())
	return slices.Concat(data[:last], data[behind:end], data[last:behind], data[end:])
}

func TestOpenStream_AcceptsThinBundleAndRefusesDelta(t *testing.T) {
	req := airgaptest.NewRequest(t)
	req.Thin = true
	thin, err := os.ReadFile(airgaptest.WriteBundle(t, req))
	testkit.Must(t, err)
	b, s, err := airgap.OpenStream(t.Context(), bytes.NewReader(thin), "standard input")
	if err != nil || s != nil || len(b.Missing()) == 0 {
		t.Errorf("%v, %v", s, err)
	}
	open := func(req build.Request) *airgap.Bundle {
		b, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, req))
		testkit.Must(t, err)
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	old, next := airgaptest.NewRequest(t), airgaptest.NewRequest(t)
	next.Installer = append(next.Installer, "# new\n"...)
	d, err := delta.Compare(t.Context(), open(old), open(next), t.TempDir())
	testkit.Must(t, err)
	path := filepath.Join(t.TempDir(), "delta")
	testkit.Must(t, d.WriteFile(t.Context(), path))
	change, err := os.Open(path)
	testkit.Must(t, err)
	defer change.Close()
	if _, _, err := airgap.OpenStream(t.Context(), change, "standard input"); problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), "it is a delta") {
		t.Errorf("%v", err)
	}
}

func TestSaveBlobs_NamesDiskError(t *testing.T) {
	b, s, err := airgap.OpenStream(t.Context(), bytes.NewReader(bundleBytes(t)), "standard input")
	testkit.Must(t, err)
	f := newFolder(t)
	testkit.Must(t, os.RemoveAll(f.Dir()))
	err = s.SaveBlobs(t.Context(), f, b.Missing(), nil)
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(problem.Hint(err), "free space in "+f.Dir()) || !airgap.IsPermanentStreamError(err) {
		t.Errorf("%v; %s", err, problem.Hint(err))
	}
}

func TestSaveBlobs_EndsWithContextError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b, s, err := airgap.OpenStream(ctx, bytes.NewReader(bundleBytes(t)), "standard input")
	testkit.Must(t, err)
	cancel()
	if err := s.SaveBlobs(ctx, newFolder(t), b.Missing(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, _, err := airgap.OpenStream(ctx, iotest.ErrReader(os.ErrClosed), "standard input"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func FuzzStream(f *testing.F) {
	data := bundleBytes(f)
	f.Add(data)
	f.Add(data[:3000])
	f.Add([]byte("oci-layout"))
	f.Add([]byte(string(data[:1024]) + header(f, format.IndexEntry, math.MaxInt64)))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > testkit.MaxInput {
			t.Skip()
		}
		testkit.CheckBounds(t, func() { exerciseStream(t, dir, raw) })
	})
}

// exerciseStream reads raw as a stream. Every refusal must be a problem; a stream that
// is accepted is accepted as a file, too, with the same result.
func exerciseStream(t *testing.T, dir string, raw []byte) {
	into, err := blob.CreateFolder(dir)
	testkit.Must(t, err)
	b, s, err := airgap.OpenStream(t.Context(), bytes.NewReader(raw), "fuzz")
	if err == nil && s != nil {
		err = s.SaveBlobs(t.Context(), into, []ocispec.Descriptor{}, nil)
	}
	if err != nil {
		if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
			t.Errorf("not a proper refusal: %v", err)
		}
		return
	}
	whole, err := airgap.OpenAt(t.Context(), bytes.NewReader(raw), int64(len(raw)), "fuzz")
	if err != nil || whole.Digest() != b.Digest() {
		t.Errorf("as a file: %v", err)
	}
}
