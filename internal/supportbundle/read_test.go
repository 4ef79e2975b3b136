package supportbundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/testkit"
)

// packEntries returns an archive with entries.
func packEntries(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	packed := gzip.NewWriter(&b)
	archive := tar.NewWriter(packed)
	for _, h := range entries {
		testkit.Must(t, archive.WriteHeader(&h))
		_, err := archive.Write(bytes.Repeat([]byte("a"), int(h.Size)))
		testkit.Must(t, err)
	}
	testkit.Must(t, archive.Close(), packed.Close())
	return b.Bytes()
}

func TestRead_ReturnsWhatAWriterHasWritten(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, Options{Root: "part", Time: time.Unix(0, 0), Limit: 1000, Redactor: NewRedactor()})
	testkit.Must(t, err)
	w.Add("a/b.txt", []byte("content"))
	_, err = w.Close()
	testkit.Must(t, err)
	found := map[string]string{}
	visit := func(name string, content []byte) error { found[name] = string(content); return nil }
	testkit.Must(t, Read(&b, 1000, visit))
	if found["a/b.txt"] != "content" || found[versionFile] != version || len(found) != 4 {
		t.Errorf("%q", found)
	}
}

func TestRead_RefusesWhatNoWriterWrites(t *testing.T) {
	file := func(name string, size int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size}
	}
	good := packEntries(t, file("p/a", 10), file("p/b", 10))
	for name, content := range map[string][]byte{
		"not an archive": []byte("hello"),
		"no archive in it": func() []byte {
			b := bytes.Buffer{}
			z := gzip.NewWriter(&b)
			_, _ = z.Write([]byte("hello"))
			_ = z.Close()
			return b.Bytes()
		}(),
		"cut off":               good[:len(good)-20],
		"a path above":          packEntries(t, file("p/../../etc/passwd", 1)),
		"a path with two names": packEntries(t, file("p/a//b", 1)),
		"no folder":             packEntries(t, file("a", 1)),
		"a link":                packEntries(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "p/a", Linkname: "/etc/passwd"}),
		"a folder":              packEntries(t, tar.Header{Typeflag: tar.TypeDir, Name: "p/a/"}),
		"too much":              packEntries(t, file("p/a", 60), file("p/b", 60)),
		"a large file":          packEntries(t, file("p/a", 101)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := Read(bytes.NewReader(content), 100, func(string, []byte) error { return nil }); err == nil {
				t.Error("no error")
			}
		})
	}
	stop := errors.New("stop")
	if err := Read(bytes.NewReader(good), 100, func(string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(packEntries(f, tar.Header{Typeflag: tar.TypeReg, Name: "p/a", Size: 3}))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, content []byte) {
		total := 0
		_ = Read(bytes.NewReader(content), 1000, func(name string, content []byte) error {
			total += len(content)
			if name == "" || strings.HasPrefix(name, "..") || path.IsAbs(name) || path.Clean(name) != name || total > 1000 {
				t.Errorf("%q, %d bytes", name, total)
			}
			return nil
		})
	})
}
