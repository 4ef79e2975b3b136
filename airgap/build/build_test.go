package build_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestWriteFile_GivesTheSameBytesForTheSameRequest(t *testing.T) {
	req := airgaptest.NewRequest(t)
	first, err := os.ReadFile(airgaptest.WriteBundle(t, req))
	if err != nil {
		t.Fatal(err)
	}
	req.Layout = airgaptest.WriteLayout(t, slices.Concat([]airgaptest.Image{{Ref: "example.com/not/asked:1", Files: []string{"x"}}}, airgaptest.Images()), airgaptest.HostFiles())
	second, err := os.ReadFile(airgaptest.WriteBundle(t, req))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two builds of the same content differ")
	}
}

func TestWriteFile_PlacesBlobsInTheOrderOfUse(t *testing.T) {
	req := airgaptest.NewRequest(t)
	slices.Reverse(req.Images)
	b, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, req))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	at := int64(-1)
	for _, f := range b.HostFiles() {
		at = checkPlacedAfter(t, b, f.Packed, at)
	}
	for i, img := range b.Images() {
		if img.Ref != req.Images[i] {
			t.Errorf("image %d is %s", i, img.Ref)
		}
		at = checkPlacedAfter(t, b, img.Layers[len(img.Layers)-1], at)
	}
}

// checkPlacedAfter checks that a blob is behind an offset in the file and returns
// its own offset.
func checkPlacedAfter(t *testing.T, b *airgap.Bundle, desc ocispec.Descriptor, at int64) int64 {
	t.Helper()
	section, err := b.Section(desc)
	if err != nil {
		t.Fatal(err)
	}
	_, off, _ := section.Outer()
	if off <= at {
		t.Errorf("%s is at offset %d, not behind %d", desc.Digest, off, at)
	}
	return off
}

func TestWriteFile_ReportsEverythingThatTheSourceLacks(t *testing.T) {
	req := airgaptest.NewRequest(t)
	req.Images = append(req.Images, "docker.io/kotsadm/kotsadm:v1.999.0", "example.com/nowhere:1")
	req.HostFiles = append(req.HostFiles, build.HostFile{Name: "k0s", Version: "v1.99.0+k0s.0"})
	_, err := build.WriteFile(t.Context(), req, filepath.Join(t.TempDir(), "b"))
	for _, part := range []string{
		"image docker.io/kotsadm/kotsadm:v1.999.0 (available: docker.io/kotsadm/kotsadm:v1.131.2)",
		"\nimage example.com/nowhere:1",
		"host k0s v1.99.0+k0s.0 (available: host k0s v1.33.8+k0s.1)",
	} {
		if err == nil || !strings.Contains(err.Error(), part) || problem.ExitCode(err) != problem.ExitBundle {
			t.Errorf("%v\nlacks %q", err, part)
		}
	}
}

func TestWriteFile_RejectsDamagedSourceAndWritesNothing(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"altered":  func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":      func(b []byte) []byte { return b[:len(b)-1] },
		"longer":   func(b []byte) []byte { return append(b, 0) },
		"missing":  func(b []byte) []byte { return nil },
		"replaced": func(b []byte) []byte { return []byte("else") },
	} {
		t.Run(name, func(t *testing.T) {
			req := airgaptest.NewRequest(t)
			files, err := filepath.Glob(filepath.Join(req.Layout, "blobs/sha256/*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, blob := range files {
				good, err := os.ReadFile(blob)
				if err != nil {
					t.Fatal(err)
				}
				if string(good) == "{}" { // the empty config is created, not read
					continue
				}
				writeOrRemove(t, blob, damage(slices.Clone(good)))
				out := t.TempDir()
				_, err = build.WriteFile(t.Context(), req, filepath.Join(out, "b"))
				if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
					t.Errorf("%s: %v", filepath.Base(blob), err)
				}
				if left, _ := os.ReadDir(out); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
				writeOrRemove(t, blob, good)
			}
		})
	}
}

// writeOrRemove writes a file, or removes it if data is nil.
func writeOrRemove(t *testing.T, path string, data []byte) {
	t.Helper()
	err := os.WriteFile(path, data, 0o644)
	if data == nil {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestWrite_RejectsLayerThatDiffersFromItsConfig(t *testing.T) {
	// go-containerregistry uses the digest of a static layer as the digest of its
	// unpacked content, which is wrong for a compressed layer.
	img, err := mutate.AppendLayers(airgaptest.BuildImage(t, airgaptest.Image{}),
		static.NewLayer(airgaptest.CompressZstd(t, airgaptest.Tar(t, "a", "b")), types.OCILayerZStd))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	const ref = "example.com/liar:1"
	if err := l.AppendImage(img, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}),
		layout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: ref})); err != nil {
		t.Fatal(err)
	}
	req := build.Request{Name: "x", Installer: []byte("x"), Layout: dir, Images: []string{ref}}
	_, err = build.Write(t.Context(), req, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "layer 1 of image example.com/liar:1 unpacks to") {
		t.Errorf("%v", err)
	}
}

func TestWriteFile_AcceptsLayoutWrittenByAnotherTool(t *testing.T) {
	dir := t.TempDir()
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	const ref = "example.com/app:1"
	img := airgaptest.BuildImage(t, airgaptest.Image{Ref: ref, Files: []string{"x"}, Gzip: true})
	if err := l.AppendImage(img, layout.WithAnnotations(map[string]string{ocispec.AnnotationRefName: ref})); err != nil {
		t.Fatal(err)
	}
	req := build.Request{Name: "x", Installer: []byte("x"), Layout: dir, Images: []string{ref, ref}}
	b, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, req))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if images := b.Images(); len(images) != 1 || images[0].Ref != ref || b.Platform() != "linux/amd64" {
		t.Errorf("%+v", images)
	}
}

func TestWriteFile_UnderstandsNamesOfOtherTools(t *testing.T) {
	const ref = "docker.io/library/nginx:1"
	for name, c := range map[string]struct {
		annotations map[string]string
		part        string // of the error; "" for success
	}{
		"full":         {map[string]string{ocispec.AnnotationRefName: ref}, ""},
		"short":        {map[string]string{ocispec.AnnotationRefName: "nginx:1"}, ""},
		"index host":   {map[string]string{ocispec.AnnotationRefName: "index.docker.io/library/nginx:1"}, ""},
		"docker save":  {map[string]string{ocispec.AnnotationRefName: "1", "io.containerd.image.name": ref}, ""},
		"a tag":        {map[string]string{ocispec.AnnotationRefName: "1"}, "must be the full reference"},
		"no name":      {nil, "must be the full reference"},
		"another name": {map[string]string{ocispec.AnnotationRefName: "nginx:2"}, "(available: docker.io/library/nginx:2)"},
	} {
		for _, nested := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s nested=%v", name, nested), func(t *testing.T) {
				dir := t.TempDir()
				l, err := layout.Write(dir, empty.Index)
				img := airgaptest.BuildImage(t, airgaptest.Image{Ref: ref, Files: []string{"x"}, Gzip: true})
				switch {
				case err != nil:
				case nested:
					index := mutate.AppendManifests(empty.Index,
						mutate.IndexAddendum{Add: empty.Image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
						mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
					err = l.AppendIndex(index, layout.WithAnnotations(c.annotations))
				default:
					err = l.AppendImage(img, layout.WithAnnotations(c.annotations))
				}
				if err != nil {
					t.Fatal(err)
				}
				req := build.Request{Name: "x", Installer: []byte("x"), Layout: dir, Images: []string{ref}}
				if c.part != "" {
					if _, err := build.Write(t.Context(), req, io.Discard); err == nil || !strings.Contains(err.Error(), c.part) {
						t.Errorf("want %q, got %v", c.part, err)
					}
					return
				}
				b, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, req))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = b.Close() }()
				if images := b.Images(); len(images) != 1 || images[0].Ref != ref {
					t.Errorf("%+v", images)
				}
			})
		}
	}
}

func TestWriteFile_ReturnsProblemForUnwritablePath(t *testing.T) {
	_, err := build.WriteFile(t.Context(), airgaptest.NewRequest(t), filepath.Join(t.TempDir(), "no", "such", "folder"))
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(problem.Hint(err), "an existing folder") {
		t.Errorf("%v", err)
	}
}

func TestWriteFile_LeavesNothingWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	req := airgaptest.NewRequest(t)
	req.Progress = func(done, total int64) {
		if done*4 > total*3 { // while blobs are copied
			cancel()
		}
	}
	out := t.TempDir()
	_, err := build.WriteFile(ctx, req, filepath.Join(out, "b"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(out); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWriteFile_ReportsProgressUpToTheTotal(t *testing.T) {
	req := airgaptest.NewRequest(t)
	var last, end int64
	req.Progress = func(done, total int64) {
		if done < last || done > total {
			t.Errorf("%d after %d of %d", done, last, total)
		}
		last, end = done, total
	}
	airgaptest.WriteBundle(t, req)
	if last != end || end == 0 {
		t.Errorf("ended at %d of %d", last, end)
	}
}

func TestWriteFile_CreatesFileReadableByAll(t *testing.T) {
	st, err := os.Stat(airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	if err != nil || st.Mode() != 0o644 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}
