package stream_test

import (
	"bytes"
	"context"
	"errors"
	"io"
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
	"github.com/plinthdev/plinth/airgap/stream"
	"github.com/plinthdev/plinth/internal/problem"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// file gives a whole bundle's bytes.
func file(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(airgaptest.Bundle(t, airgaptest.Request(t)))
	check(t, err)
	return data
}

func folder(t testing.TB) blob.Folder {
	t.Helper()
	f, err := blob.CreateFolder(t.TempDir())
	check(t, err)
	return f
}

// take reads a stream to its end and proves what came of it.
func take(ctx context.Context, r io.Reader, into blob.Folder) (*airgap.Bundle, error) {
	b, s, err := stream.Open(ctx, r, "standard input")
	if err != nil || s == nil {
		return b, err
	}
	want := b.Absent()
	if err := s.Blobs(ctx, into, want, nil); err != nil {
		return b, err
	}
	b = b.With(into, want)
	return b, b.Verify(ctx, nil)
}

func TestABundleThatCameThroughAPipeIsTheBundle(t *testing.T) {
	data := file(t)
	full, err := airgap.OpenAt(t.Context(), bytes.NewReader(data), int64(len(data)), "full")
	check(t, err)
	for name, r := range map[string]io.Reader{
		"at once":        bytes.NewReader(data),
		"byte by byte":   iotest.OneByteReader(bytes.NewReader(data)),
		"with its end":   iotest.DataErrReader(bytes.NewReader(data)),
		"half and half":  iotest.HalfReader(bytes.NewReader(data)),
		"in file's form": onlyReader{bytes.NewReader(data)},
	} {
		f := folder(t)
		b, err := take(t.Context(), r, f)
		if err != nil || b.Digest() != full.Digest() || string(b.Signature()) != string(full.Signature()) || len(b.Absent()) == 0 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, d := range b.Absent() {
			if !f.Has(d) {
				t.Errorf("%s: %s was not kept", name, d.Digest)
			}
		}
	}
}

// onlyReader hides that a reader can do more.
type onlyReader struct{ io.Reader }

func TestOnlyWhatIsWantedIsKept(t *testing.T) {
	b, s, err := stream.Open(t.Context(), bytes.NewReader(file(t)), "standard input")
	check(t, err)
	f, want := folder(t), b.Absent()[1:2]
	var told [2]int64
	check(t, s.Blobs(t.Context(), f, want, func(done, total int64) { told = [2]int64{done, total} }))
	for i, d := range b.Absent() {
		if f.Has(d) != (i == 1) {
			t.Errorf("blob %d is kept: %t", i, f.Has(d))
		}
	}
	if told[0] != b.AbsentSize() || told[1] != b.AbsentSize() {
		t.Errorf("told %v of %d bytes", told, b.AbsentSize())
	}
}

func TestAStreamThatIsCutKeepsWhatCameWholeAndSaysSo(t *testing.T) {
	data := file(t)
	for n := range data {
		if n > 3 && n < len(data)-3 && n%509 != 0 && n%512 != 0 {
			continue
		}
		f := folder(t)
		_, err := take(t.Context(), bytes.NewReader(data[:n]), f)
		if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
			t.Fatalf("at %d: %v", n, err)
		}
		if n > 2100 && stream.Hopeless(err) && !strings.Contains(problem.Hint(err), "incomplete") {
			t.Errorf("at %d it is hopeless: %v; %s", n, err, problem.Hint(err))
		}
	}
	f := folder(t)
	if _, err := take(t.Context(), bytes.NewReader(data[:len(data)-2048]), f); err == nil || !strings.Contains(problem.Hint(err), "what has come whole is kept") || f.Empty() {
		t.Errorf("%v; %s", err, problem.Hint(err))
	}
	again := 0
	b, s, err := stream.Open(t.Context(), bytes.NewReader(data), "standard input")
	check(t, err)
	for _, d := range b.Absent() {
		if !f.Has(d) {
			again++
		}
	}
	if again == 0 || again == len(b.Absent()) {
		t.Errorf("%d of %d are to be kept again", again, len(b.Absent()))
	}
	check(t, s.Blobs(t.Context(), f, b.Absent(), nil))
}

func TestAFlippedByteAnywhereIsRefused(t *testing.T) {
	data := file(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		at := rnd.IntN(len(data))
		bad := bytes.Clone(data)
		bad[at] ^= 1 << rnd.IntN(8)
		_, err := take(t.Context(), bytes.NewReader(bad), folder(t))
		if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !stream.Hopeless(err) && !strings.Contains(problem.Hint(err), "send it again") && !strings.Contains(problem.Hint(err), "copy the file again") {
			t.Errorf("byte %d: %v; %s", at, err, problem.Hint(err))
		}
	}
}

func TestWhatIsNoWholeBundleIsNamed(t *testing.T) {
	data := file(t)
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"nothing":    {"", "cut short"},
		"gzip":       {"\x1f\x8b\x08" + strings.Repeat("x", 9000), "compressed by gzip"},
		"web page":   {"<!DOCTYPE html>" + strings.Repeat(" ", 900), "web page"},
		"text":       {strings.Repeat("hello ", 2000), "not a bundle"},
		"zeros":      {strings.Repeat("\x00", 2048), "goes on after its end"},
		"of old":     {string(reordered(t, data)), "an older plinth built it"},
		"other tar":  {string(airgaptest.Tar(t, "hello", "world")), `its first entry is "hello"`},
		"more":       {string(data) + "x", "goes on after its end"},
		"twice":      {string(data) + string(data), "goes on after its end"},
		"no content": {string(data[:512]) + strings.Repeat("\x00", 4096), "goes on after its end"},
	} {
		if _, err := take(t.Context(), strings.NewReader(c.text), folder(t)); problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// reordered puts the last of what stands before the content to the end.
func reordered(t *testing.T, data []byte) []byte {
	t.Helper()
	req := airgaptest.Request(t)
	req.Thin = true
	thin, err := os.ReadFile(airgaptest.Bundle(t, req))
	check(t, err)
	table, err := format.Scan(bytes.NewReader(thin), int64(len(thin)))
	check(t, err)
	last, behind := int64(0), int64(len(thin)-len(format.End()))
	for _, s := range table.Blobs {
		last = max(last, s.Off-512) // its header
	}
	end := len(data) - len(format.End())
	return slices.Concat(data[:last], data[behind:end], data[last:behind], data[end:])
}

func TestAThinBundleIsTakenAndADeltaIsNot(t *testing.T) {
	req := airgaptest.Request(t)
	req.Thin = true
	thin, err := os.ReadFile(airgaptest.Bundle(t, req))
	check(t, err)
	b, s, err := stream.Open(t.Context(), bytes.NewReader(thin), "standard input")
	if err != nil || s != nil || len(b.Absent()) == 0 {
		t.Errorf("%v, %v", s, err)
	}
	open := func(req build.Request) *airgap.Bundle {
		b, err := airgap.Open(t.Context(), airgaptest.Bundle(t, req))
		check(t, err)
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	old, next := airgaptest.Request(t), airgaptest.Request(t)
	next.Installer = append(next.Installer, "# new\n"...)
	d, err := delta.New(t.Context(), open(old), open(next), t.TempDir())
	check(t, err)
	path := filepath.Join(t.TempDir(), "delta")
	check(t, d.File(t.Context(), path))
	change, err := os.Open(path)
	check(t, err)
	defer change.Close()
	if _, _, err := stream.Open(t.Context(), change, "standard input"); problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), "it is a delta") {
		t.Errorf("%v", err)
	}
}

func TestADiskThatDoesNotTakeItIsNamed(t *testing.T) {
	b, s, err := stream.Open(t.Context(), bytes.NewReader(file(t)), "standard input")
	check(t, err)
	f := folder(t)
	check(t, os.RemoveAll(f.Dir()))
	err = s.Blobs(t.Context(), f, b.Absent(), nil)
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(problem.Hint(err), "make room in "+f.Dir()) || !stream.Hopeless(err) {
		t.Errorf("%v; %s", err, problem.Hint(err))
	}
}

func TestAStreamThatIsGivenUpEndsWithTheReason(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b, s, err := stream.Open(ctx, bytes.NewReader(file(t)), "standard input")
	check(t, err)
	cancel()
	if err := s.Blobs(ctx, folder(t), b.Absent(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, _, err := stream.Open(ctx, iotest.ErrReader(os.ErrClosed), "standard input"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func FuzzStream(f *testing.F) {
	data := file(f)
	f.Add(data)
	f.Add(data[:3000])
	f.Add([]byte("oci-layout"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		into, err := blob.CreateFolder(dir)
		check(t, err)
		b, s, err := stream.Open(t.Context(), bytes.NewReader(raw), "fuzz")
		if err == nil && s != nil {
			err = s.Blobs(t.Context(), into, []ocispec.Descriptor{}, nil)
		}
		if err != nil {
			if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
				t.Errorf("not a proper refusal: %v", err)
			}
			return
		}
		// What is taken through a pipe is taken as a file, and is the same there.
		whole, err := airgap.OpenAt(t.Context(), bytes.NewReader(raw), int64(len(raw)), "fuzz")
		if err != nil || whole.Digest() != b.Digest() {
			t.Errorf("as a file: %v", err)
		}
	})
}
