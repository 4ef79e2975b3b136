package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

func describe(content string) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
}

func TestNewReader_DeliversOnlyDescribedContent(t *testing.T) {
	const content = "what was named"
	broken := errors.New("the disk broke")
	for name, c := range map[string]struct {
		src  io.Reader
		part string // of the error; "" for success
	}{
		"the content":   {strings.NewReader(content), ""},
		"in pieces":     {iotest.OneByteReader(strings.NewReader(content)), ""},
		"end with data": {iotest.DataErrReader(strings.NewReader(content)), ""},
		"altered":       {strings.NewReader("What was named"), "its content has the digest sha256:"},
		"short":         {strings.NewReader(content[:5]), "it ends after 5 of 14 bytes"},
		"empty":         {strings.NewReader(""), "it ends after 0 of 14 bytes"},
		"long":          {strings.NewReader(content + "!"), "it is longer than its 14 bytes"},
		"broken":        {io.MultiReader(strings.NewReader("wha"), iotest.ErrReader(broken)), "the disk broke"},
		"broken at end": {io.MultiReader(strings.NewReader(content), iotest.ErrReader(broken)), "the disk broke"},
	} {
		t.Run(name, func(t *testing.T) {
			r := blob.NewReader(t.Context(), io.NopCloser(c.src), describe(content), "the test")
			got, err := io.ReadAll(r)
			if c.part == "" {
				if err != nil || string(got) != content {
					t.Errorf("got %q, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.part) || problem.ExitCode(err) != problem.ExitBundle {
				t.Errorf("want an error with %q, got %v", c.part, err)
			}
			if len(got) >= len(content) {
				t.Errorf("delivered all %d bytes of wrong content", len(got))
			}
			if _, again := r.Read(make([]byte, 1)); again != err {
				t.Errorf("the next Read returns another error: %v", again)
			}
		})
	}
}

func TestNewReader_NeverCompletesWrongContent(t *testing.T) {
	r := blob.NewReader(t.Context(), io.NopCloser(strings.NewReader("What was named")), describe("what was named"), "the test")
	if n, err := io.ReadFull(r, make([]byte, 14)); err == nil || n == 14 {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

func TestNewReader_EndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := blob.NewReader(ctx, io.NopCloser(strings.NewReader("what was named")), describe("what was named"), "the test")
	cancel()
	if _, err := r.Read(make([]byte, 1)); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func TestCheckDescriptor_RefusesInvalidDescriptor(t *testing.T) {
	good := describe("x")
	for name, bad := range map[string]ocispec.Descriptor{
		"empty":         {},
		"path":          {Digest: "sha256:../../etc/passwd"},
		"md5":           {Digest: "md5:" + digest.Digest(strings.Repeat("a", 32))},
		"sha512":        {Digest: digest.Digest("sha512:" + strings.Repeat("a", 128))},
		"negative size": {Digest: good.Digest, Size: -1},
		"upper case":    {Digest: digest.Digest(strings.ToUpper(good.Digest.String()))},
	} {
		t.Run(name, func(t *testing.T) {
			if blob.CheckDescriptor(bad) == nil {
				t.Errorf("%+v passed", bad)
			}
		})
	}
	if err := blob.CheckDescriptor(good); err != nil {
		t.Error(err)
	}
}

func TestCreateFolder_KeepsForeignFiles(t *testing.T) {
	for _, text := range []string{`{"name": "mine"}`, "not JSON", "null", "[]", ""} {
		t.Run(text, func(t *testing.T) {
			index := filepath.Join(t.TempDir(), "index.json")
			testkit.Must(t, os.WriteFile(index, []byte(text), 0o600))
			_, err := blob.CreateFolder(filepath.Dir(index))
			if err == nil || err.Error() != index+" is not an OCI image index" {
				t.Error(err)
			}
			files, err := os.ReadDir(filepath.Dir(index))
			if got, _ := os.ReadFile(index); err != nil || len(files) != 1 || string(got) != text {
				t.Errorf("%d files, %q, %v", len(files), got, err)
			}
		})
	}
}

func TestFolder_RefusesPipes(t *testing.T) {
	f, err := blob.CreateFolder(t.TempDir())
	testkit.Must(t, err)
	desc := describe("content")
	path := filepath.Join(f.Dir(), "blobs", "sha256", desc.Digest.Encoded())
	testkit.Must(t, unix.Mkfifo(path, 0o600))
	if _, err := f.Open(t.Context(), desc); err == nil || err.Error() != path+" is not a file" {
		t.Errorf("blob: %v", err)
	}
	index := filepath.Join(f.Dir(), "index.json")
	testkit.Must(t, os.Remove(index), os.Symlink(path, index))
	if _, err := blob.OpenFolder(f.Dir()); err == nil || err.Error() != index+" is not a file" {
		t.Errorf("index: %v", err)
	}
}

func TestFolder_StoresOnlyVerifiedBlobs(t *testing.T) {
	ctx := t.Context()
	f, err := blob.CreateFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	desc := describe("content")
	opener := func(s string) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }
	}
	if err := f.Put(ctx, desc, opener("Content")); err == nil || f.Has(desc) {
		t.Errorf("wrong content was stored (%v)", err)
	}
	if err := f.Put(ctx, desc, opener("content")); err != nil || !f.Has(desc) {
		t.Error(err)
	}
	if err := f.Put(ctx, desc, func() (io.ReadCloser, error) { t.Error("fetched twice"); return nil, io.EOF }); err != nil {
		t.Error(err)
	}
	added, err := f.Add("text/plain", func(w io.Writer) error { _, err := io.WriteString(w, "more"); return err })
	if err != nil || added.Digest != digest.FromString("more") || added.Size != 4 {
		t.Errorf("%+v, %v", added, err)
	}
	if got, err := blob.ReadAll(ctx, f, added, 4); err != nil || string(got) != "more" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := blob.ReadAll(ctx, f, added, 3); err == nil {
		t.Error("a blob above the limit was read")
	}
	if err := f.SetIndex(ocispec.Index{Manifests: []ocispec.Descriptor{desc}}); err != nil {
		t.Fatal(err)
	}
	if f, err = blob.CreateFolder(f.Dir()); err != nil { // again: the existing content stays
		t.Fatal(err)
	}
	if index, err := f.Index(); err != nil || len(index.Manifests) != 1 {
		t.Errorf("%+v, %v", index, err)
	}
}

func TestProgress_ReportsTheEndOnce(t *testing.T) {
	var reported []int64
	m := blob.NewProgress(10, func(done, total int64) { reported = append(reported, done) })
	for range 7 {
		m.Add(2)
	}
	if len(reported) != 5 || reported[4] != 10 {
		t.Errorf("reported %v", reported)
	}
	blob.NewProgress(10, nil).Add(3)
}

// memory is a source with one blob.
type memory []byte

func (m memory) Open(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	return blob.NewReader(ctx, io.NopCloser(bytes.NewReader(m)), desc, "memory"), nil
}

func (m memory) desc(mediaType string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(m), Size: int64(len(m))}
}

func TestWriteFile_CreatesNoNameBeforeFileIsComplete(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	names := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600); err != nil {
		t.Skipf("no files without names in %s: %v", dir, err)
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// A file that a killed run with the same PID left behind does not cause a conflict.
	stale := filepath.Join(dir, fmt.Sprintf(".plinth-%d-0", os.Getpid()))
	for _, content := range []string{"first", "second"} {
		err := blob.WriteFile(path, func(w io.Writer) error {
			if content == "first" && len(names()) > 0 || content == "second" && len(names()) > 2 {
				t.Errorf("while it is written the folder has %v", names())
			}
			_, err := io.WriteString(w, content)
			return err
		})
		got, readErr := os.ReadFile(path)
		if err != nil || readErr != nil || string(got) != content {
			t.Errorf("%q (%v, %v), want %q", got, err, readErr, content)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
			t.Errorf("mode %v (%v)", info.Mode(), err)
		}
		if err := os.WriteFile(stale, []byte("stale"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
