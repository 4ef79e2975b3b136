package oci

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// sampleTree returns a tree with every kind of entry.
func sampleTree(t *testing.T) Tree {
	t.Helper()
	file := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(file, bytes.Repeat([]byte("program "), 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	tree := Tree{}
	for name, e := range map[string]Entry{
		"/usr/bin/prog":                         {File: file, Mode: 0o755},
		"/bin/sh":                               {Link: "/usr/bin/prog"},
		"/tmp":                                  {Dir: true, Mode: 0o1777},
		"/etc/passwd":                           {Data: []byte("root:x:0:0::/:\n"), Mode: 0o644},
		"/home/k":                               {Dir: true, Mode: 0o755, Owner: 1001},
		"/" + strings.Repeat("long/", 40) + "x": {Mode: 0o644},
	} {
		if err := tree.Add(name, e); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

// sampleTime returns an arbitrary fixed time.
func sampleTime() time.Time { return time.Unix(1771420288, 0) }

func TestWriteTar_IsSortedWithoutClockAndUsers(t *testing.T) {
	var b bytes.Buffer
	if err := sampleTree(t).WriteTar(&b, sampleTime()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]*tar.Header{}
	last := ""
	for tr := tar.NewReader(&b); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(h.Name, "/")
		if name <= last {
			t.Errorf("%s comes after %s", name, last)
		}
		if !h.ModTime.Equal(sampleTime()) || h.Uname != "" || h.Gname != "" || !h.AccessTime.IsZero() || !h.ChangeTime.IsZero() {
			t.Errorf("%s has the header %+v", name, h)
		}
		seen[name], last = h, name
	}
	if h := seen["usr/bin"]; h == nil || h.Typeflag != tar.TypeDir || h.Mode != 0o755 {
		t.Errorf("the missing parent usr/bin became %+v", h)
	}
	if h := seen["tmp"]; h == nil || h.Mode != 0o1777 {
		t.Errorf("tmp is %+v", h)
	}
	if h := seen["home/k"]; h == nil || h.Uid != 1001 || h.Gid != 1001 {
		t.Errorf("home/k is %+v", h)
	}
	if h := seen["bin/sh"]; h == nil || h.Linkname != "/usr/bin/prog" {
		t.Errorf("bin/sh is %+v", h)
	}
}

func TestPutLayer_SameTreeGivesSameBlob(t *testing.T) {
	first, err := Store{t.TempDir()}.PutLayer(sampleTree(t), sampleTime())
	if err != nil {
		t.Fatal(err)
	}
	second, err := Store{t.TempDir()}.PutLayer(sampleTree(t), sampleTime())
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Errorf("%+v and %+v", first, second)
	}
	// Pinned: a library that packs differently would silently change every digest of the payload.
	const raw = "sha256:a297b6703c37a0e6945717c56507e46ab041ab73b74ec86a5e3278b5d1e42b31"
	if first.Raw != raw {
		t.Errorf("the tar's digest is %s, was %s", first.Raw, raw)
	}
	other, err := Store{t.TempDir()}.PutLayer(sampleTree(t), sampleTime().Add(time.Second))
	if err != nil || other.Raw == first.Raw {
		t.Errorf("another time gives %+v, %v", other, err)
	}
}

func TestTreeAdd_RefusesPathsOutsideTree(t *testing.T) {
	for _, name := range []string{"", "/", "/a/../b", "/../etc", "a//b"} {
		t.Run(fmt.Sprintf("path %q", name), func(t *testing.T) {
			if err := (Tree{}).Add(name, Entry{}); err == nil {
				t.Errorf("%q was accepted", name)
			}
		})
	}
}

func TestPutLayer_MissingFileLeavesNoBlob(t *testing.T) {
	s := Store{t.TempDir()}
	tree := Tree{}
	if err := tree.Add("/x", Entry{File: "/nonexistent/file"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutLayer(tree, sampleTime()); err == nil || !strings.Contains(err.Error(), "/x") {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir, "sha256", "*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// putImage stores an image with one layer and returns its descriptor and blobs.
func putImage(t *testing.T, s Store) (ocispec.Descriptor, []digest.Digest) {
	t.Helper()
	layer, err := s.PutLayer(sampleTree(t), sampleTime())
	if err != nil {
		t.Fatal(err)
	}
	when := sampleTime().UTC()
	config, err := s.PutJSON(ocispec.Image{Created: &when, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Raw}}})
	if err != nil {
		t.Fatal(err)
	}
	config.MediaType = ocispec.MediaTypeImageConfig
	m, err := s.PutJSON(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config,
		Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: layer.Digest, Size: layer.Size}}})
	if err != nil {
		t.Fatal(err)
	}
	m.MediaType = ocispec.MediaTypeImageManifest
	return m, []digest.Digest{m.Digest, config.Digest, layer.Digest}
}

func TestWriteLayout_IsValidForOtherReaders(t *testing.T) {
	s := Store{t.TempDir()}
	m, blobs := putImage(t, s)
	dir := filepath.Join(s.Dir, "layout")
	for range 2 { // the second run finds all files in place
		if err := s.WriteLayout(dir, []ocispec.Descriptor{m}, blobs); err != nil {
			t.Fatal(err)
		}
	}
	ix, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(ix, validate.Fast); err != nil { // validate.Fast, because the full check only reads gzip
		t.Error(err)
	}
	im, err := ix.Image(v1.Hash{Algorithm: "sha256", Hex: m.Digest.Encoded()})
	if err != nil {
		t.Fatal(err)
	}
	layers, err := im.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = content.Close() }()
	got, err := digest.FromReader(content)
	if want, _ := layers[0].DiffID(); err != nil || got.String() != want.String() {
		t.Errorf("the layer unpacks to %s, the config says %s (%v)", got, want, err)
	}
	if !s.HasBlob(blobs[2], func() int64 { st, _ := os.Stat(s.BlobPath(blobs[2])); return st.Size() }()) || s.HasBlob(blobs[2], 1) {
		t.Error("HasBlob ignores the size")
	}
}

func TestWriteLayout_RefusesMissingBlob(t *testing.T) {
	s := Store{t.TempDir()}
	if err := s.WriteLayout(filepath.Join(s.Dir, "l"), nil, []digest.Digest{digest.FromString("absent")}); err == nil {
		t.Error("no error")
	}
}

func TestNetBindService_IsWhatSetcapWrites(t *testing.T) {
	setcap, err := exec.LookPath("setcap")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and setcap")
	}
	file := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), setcap, "cap_net_bind_service=+ep", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := make([]byte, 64)
	n, err := unix.Getxattr(file, "security.capability", want)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := (Tree{"/prog": {File: file, Mode: 0o755, NetBindService: true}}).WriteTar(&b, sampleTime()); err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(&b).Next()
	if err != nil || h.PAXRecords["SCHILY.xattr.security.capability"] != string(want[:n]) {
		t.Errorf("%v: %x, want %x", err, h.PAXRecords, want[:n])
	}
}
