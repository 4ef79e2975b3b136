package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fakeSource is a bundle in memory that records what is read from it.
type fakeSource struct {
	mu    sync.Mutex
	blobs map[digest.Digest][]byte
	read  []digest.Digest
	fail  map[digest.Digest]error
}

var errBroken = errors.New("the bundle is broken")

func (s *fakeSource) Open(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = append(s.read, desc.Digest)
	if err := s.fail[desc.Digest]; err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(s.blobs[desc.Digest])), nil
}

func (s *fakeSource) reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.read = nil }()
	return len(s.read)
}

func (s *fakeSource) add(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	s.blobs[d.Digest] = data
	return d
}

func (s *fakeSource) addJSON(t *testing.T, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return s.add(mediaType, raw)
}

// image adds an image with the given layers.
func (s *fakeSource) image(t *testing.T, ref string, layers ...string) Image {
	t.Helper()
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, text := range layers {
		d := s.add(ocispec.MediaTypeImageLayer, []byte(text))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
		manifest.Layers = append(manifest.Layers, d)
	}
	config.Author = ref // makes each config different
	manifest.Config = s.addJSON(t, ocispec.MediaTypeImageConfig, config)
	return Image{Ref: ref, Manifest: s.addJSON(t, ocispec.MediaTypeImageManifest, manifest), Blobs: append(slices.Clone(manifest.Layers), manifest.Config)}
}

func newSource() *fakeSource {
	return &fakeSource{blobs: map[digest.Digest][]byte{}, fail: map[digest.Digest]error{}}
}

// threeImages returns three images, two of which share a layer.
func threeImages(t *testing.T) (*fakeSource, []Image) {
	src := newSource()
	return src, []Image{src.image(t, "registry.k8s.io/pause:3.10", "base", "pause"), src.image(t, "quay.io/k0sproject/coredns:1.12.2", "base", "coredns"), src.image(t, "docker.io/kotsadm/kotsadm:v1", "kotsadm")}
}

func ignoreProgress(string, int64, int64) {}

func refsOf(images []Image) (all []string) {
	for _, i := range images {
		all = append(all, i.Ref)
	}
	return all
}

func TestImport_ReadsNothingIfImagesExist(t *testing.T) {
	m := newFakeContainerd(t)
	src, want := threeImages(t)
	if missing, err := m.MissingImages(t.Context(), want); err != nil || len(missing) != 3 {
		t.Fatalf("missing %v, %v", refsOf(missing), err)
	}
	if err := m.Import(t.Context(), src, want, 2, ignoreProgress); err != nil {
		t.Fatal(err)
	}
	if n := src.reads(); n != 10 || m.applied < 4 || m.leases != 0 {
		t.Errorf("%d blobs read, %d layers unpacked, %d leases held", n, m.applied, m.leases)
	}
	for _, i := range want {
		rec := m.images[i.Ref]
		if rec.Target.Digest != i.Manifest.Digest || rec.Labels["io.cri-containerd.pinned"] != "pinned" || rec.Labels["io.cri-containerd.image"] != "managed" {
			t.Errorf("%s is stored as %+v", i.Ref, rec)
		}
	}
	for _, l := range want[0].Blobs {
		found := false
		for _, v := range m.labels[want[0].Manifest.Digest] {
			found = found || v == l.Digest.String()
		}
		if !found {
			t.Errorf("blob %s is not protected from garbage collection", l.Digest)
		}
	}
	missing, err := m.MissingImages(t.Context(), want)
	if err != nil || len(missing) != 0 {
		t.Fatalf("missing %v, %v", refsOf(missing), err)
	}
	blobs, err := m.MissingBlobs(t.Context(), want)
	if err != nil || len(blobs) != 0 || src.reads() != 0 {
		t.Errorf("%d blobs are missing, %v", len(blobs), err)
	}
}

func TestImport_ReadsMissingBlobsOnly(t *testing.T) {
	m := newFakeContainerd(t)
	src, want := threeImages(t)
	if err := m.Import(t.Context(), src, want[:1], 2, ignoreProgress); err != nil {
		t.Fatal(err)
	}
	src.reads()
	blobs, err := m.MissingBlobs(t.Context(), want[:2])
	if err != nil || len(blobs) != 3 { // layer, config and manifest, but not the shared layer
		t.Errorf("%d blobs are missing, %v", len(blobs), err)
	}
	if err := m.Import(t.Context(), src, want[:2], 1, ignoreProgress); err != nil {
		t.Fatal(err)
	}
	if n := src.reads(); n != 3 {
		t.Errorf("%d blobs were read, 3 were new", n)
	}
}

func TestImport_NamesFailedImageAndResumes(t *testing.T) {
	m := newFakeContainerd(t)
	src, want := threeImages(t)
	bad := want[1].Blobs[1].Digest
	src.fail[bad] = errBroken
	err := m.Import(t.Context(), src, want, 1, ignoreProgress)
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "cannot import "+want[1].Ref) || m.leases != 0 {
		t.Fatalf("%v, %d leases held", err, m.leases)
	}
	missing, err := m.MissingImages(t.Context(), want)
	if err != nil || !slices.Contains(refsOf(missing), want[1].Ref) || slices.Contains(refsOf(missing), want[0].Ref) {
		t.Fatalf("missing %v, %v", refsOf(missing), err)
	}
	delete(src.fail, bad)
	src.reads()
	if err := m.Import(t.Context(), src, missing, 2, ignoreProgress); err != nil {
		t.Fatal(err)
	}
	if missing, err = m.MissingImages(t.Context(), want); err != nil || len(missing) != 0 {
		t.Errorf("missing %v, %v", refsOf(missing), err)
	}
}

func TestImport_RefusesWrongContent(t *testing.T) {
	for name, data := range map[string]string{"shorter": "kot", "other": "kotsadx", "longer": "kotsadm and more"} {
		t.Run(name, func(t *testing.T) {
			m := newFakeContainerd(t)
			src, want := threeImages(t)
			src.blobs[want[2].Blobs[0].Digest] = []byte(data)
			if err := m.Import(t.Context(), src, want[2:], 1, ignoreProgress); err == nil {
				t.Errorf("%s: it was accepted", name)
			}
			if missing, err := m.MissingImages(t.Context(), want[2:]); err != nil || len(missing) != 1 {
				t.Errorf("%s: missing %v, %v", name, refsOf(missing), err)
			}
		})
	}
}

func TestImport_ReplacesImageOfSameName(t *testing.T) {
	m := newFakeContainerd(t)
	src := newSource()
	const ref = "docker.io/library/app:1"
	old, latest := src.image(t, ref, "old"), src.image(t, ref, "new")
	for _, img := range []Image{old, latest} {
		if missing, err := m.MissingImages(t.Context(), []Image{img}); err != nil || len(missing) != 1 {
			t.Errorf("missing %v, %v", refsOf(missing), err)
		}
		if err := m.Import(t.Context(), src, []Image{img}, 1, ignoreProgress); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.images[ref].Target.Digest; got != latest.Manifest.Digest {
		t.Errorf("the image is %s", got)
	}
}

func TestImport_StartsInOrderAndReportsBytes(t *testing.T) {
	m := newFakeContainerd(t)
	src := newSource()
	var want []Image
	for i := range 12 {
		want = append(want, src.image(t, fmt.Sprintf("docker.io/library/app-%d:1", i), fmt.Sprintf("layer %d", i)))
	}
	var mu sync.Mutex
	var done, total int64
	var order []string
	err := m.Import(t.Context(), src, want, 1, func(message string, bytes, of int64) {
		mu.Lock()
		defer mu.Unlock()
		if bytes < done {
			t.Errorf("the byte count falls from %d to %d", done, bytes)
		}
		done, total = bytes, of
		if ref := strings.TrimPrefix(message, "importing "); !slices.Contains(order, ref) {
			order = append(order, ref)
		}
	})
	if err != nil || done != total || total != totalSize(want) || !slices.Equal(order, refsOf(want)) {
		t.Errorf("%d of %d bytes, in the order %v, %v", done, total, order, err)
	}
}

func TestImport_StopsIfContextIsCanceled(t *testing.T) {
	m := newFakeContainerd(t)
	src, want := threeImages(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Import(ctx, src, want, 2, ignoreProgress); err == nil || m.leases != 0 {
		t.Errorf("%v, %d leases held", err, m.leases)
	}
}
