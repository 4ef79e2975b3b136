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

// source is a bundle in memory that knows what was read of it.
type source struct {
	mu    sync.Mutex
	blobs map[digest.Digest][]byte
	read  []digest.Digest
	fail  map[digest.Digest]error
}

var errBroken = errors.New("the bundle is broken")

func (s *source) Open(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = append(s.read, desc.Digest)
	if err := s.fail[desc.Digest]; err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(s.blobs[desc.Digest])), nil
}

func (s *source) reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.read = nil }()
	return len(s.read)
}

func (s *source) add(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	s.blobs[d.Digest] = data
	return d
}

func (s *source) addJSON(t *testing.T, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return s.add(mediaType, raw)
}

// image makes an image of layers.
func (s *source) image(t *testing.T, ref string, layers ...string) Image {
	t.Helper()
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, text := range layers {
		d := s.add(ocispec.MediaTypeImageLayer, []byte(text))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
		manifest.Layers = append(manifest.Layers, d)
	}
	config.Author = ref // no two configs are the same
	manifest.Config = s.addJSON(t, ocispec.MediaTypeImageConfig, config)
	return Image{Ref: ref, Manifest: s.addJSON(t, ocispec.MediaTypeImageManifest, manifest), Blobs: append(slices.Clone(manifest.Layers), manifest.Config)}
}

func newSource() *source {
	return &source{blobs: map[digest.Digest][]byte{}, fail: map[digest.Digest]error{}}
}

// three images, of which two share a layer.
func three(t *testing.T) (*source, []Image) {
	src := newSource()
	return src, []Image{src.image(t, "registry.k8s.io/pause:3.10", "base", "pause"), src.image(t, "quay.io/k0sproject/coredns:1.12.2", "base", "coredns"), src.image(t, "docker.io/kotsadm/kotsadm:v1", "kotsadm")}
}

func silent(string, int64, int64) {}

func refs(images []Image) (all []string) {
	for _, i := range images {
		all = append(all, i.Ref)
	}
	return all
}

func TestASecondImportReadsNothing(t *testing.T) {
	m := newMachine(t)
	src, want := three(t)
	if missing, err := m.Missing(t.Context(), want); err != nil || len(missing) != 3 {
		t.Fatalf("missing %v, %v", refs(missing), err)
	}
	if err := m.Import(t.Context(), src, want, 2, silent); err != nil {
		t.Fatal(err)
	}
	if n := src.reads(); n != 10 || m.applied < 4 || m.leases != 0 {
		t.Errorf("%d blobs read, %d layers unpacked, %d leases held", n, m.applied, m.leases)
	}
	for _, i := range want {
		rec := m.images[i.Ref]
		if rec.Target.Digest != i.Manifest.Digest || rec.Labels["io.cri-containerd.pinned"] != "pinned" || rec.Labels["io.cri-containerd.image"] != "managed" {
			t.Errorf("%s is kept as %+v", i.Ref, rec)
		}
	}
	for _, l := range want[0].Blobs {
		found := false
		for _, v := range m.labels[want[0].Manifest.Digest] {
			found = found || v == l.Digest.String()
		}
		if !found {
			t.Errorf("nothing keeps blob %s from being collected", l.Digest)
		}
	}
	missing, err := m.Missing(t.Context(), want)
	if err != nil || len(missing) != 0 {
		t.Fatalf("missing %v, %v", refs(missing), err)
	}
	lacking, err := m.Lacking(t.Context(), want)
	if err != nil || len(lacking) != 0 || src.reads() != 0 {
		t.Errorf("%d blobs lack, %v", len(lacking), err)
	}
}

func TestOnlyWhatIsNotThereByContentIsRead(t *testing.T) {
	m := newMachine(t)
	src, want := three(t)
	if err := m.Import(t.Context(), src, want[:1], 2, silent); err != nil {
		t.Fatal(err)
	}
	src.reads()
	lacking, err := m.Lacking(t.Context(), want[:2])
	if err != nil || len(lacking) != 3 { // layer, config and manifest, but not the shared layer
		t.Errorf("lacking %d, %v", len(lacking), err)
	}
	if err := m.Import(t.Context(), src, want[:2], 1, silent); err != nil {
		t.Fatal(err)
	}
	if n := src.reads(); n != 3 {
		t.Errorf("%d blobs were read, 3 were new", n)
	}
}

func TestAnImportThatFailsIsNamedAndGoesOn(t *testing.T) {
	m := newMachine(t)
	src, want := three(t)
	bad := want[1].Blobs[1].Digest
	src.fail[bad] = errBroken
	err := m.Import(t.Context(), src, want, 1, silent)
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "import "+want[1].Ref) || m.leases != 0 {
		t.Fatalf("%v, %d leases held", err, m.leases)
	}
	missing, err := m.Missing(t.Context(), want)
	if err != nil || !slices.Contains(refs(missing), want[1].Ref) || slices.Contains(refs(missing), want[0].Ref) {
		t.Fatalf("missing %v, %v", refs(missing), err)
	}
	delete(src.fail, bad)
	src.reads()
	if err := m.Import(t.Context(), src, missing, 2, silent); err != nil {
		t.Fatal(err)
	}
	if missing, err = m.Missing(t.Context(), want); err != nil || len(missing) != 0 {
		t.Errorf("missing %v, %v", refs(missing), err)
	}
}

func TestContentThatIsNotWhatItIsCalledIsRefused(t *testing.T) {
	for name, data := range map[string]string{"shorter": "kot", "other": "kotsadx", "longer": "kotsadm and more"} {
		m := newMachine(t)
		src, want := three(t)
		src.blobs[want[2].Blobs[0].Digest] = []byte(data)
		if err := m.Import(t.Context(), src, want[2:], 1, silent); err == nil {
			t.Errorf("%s: it was taken", name)
		}
		if missing, err := m.Missing(t.Context(), want[2:]); err != nil || len(missing) != 1 {
			t.Errorf("%s: missing %v, %v", name, refs(missing), err)
		}
	}
}

func TestAnotherImageUnderTheSameNameIsReplaced(t *testing.T) {
	m := newMachine(t)
	src := newSource()
	const ref = "docker.io/library/app:1"
	old, latest := src.image(t, ref, "old"), src.image(t, ref, "new")
	for _, img := range []Image{old, latest} {
		if missing, err := m.Missing(t.Context(), []Image{img}); err != nil || len(missing) != 1 {
			t.Errorf("missing %v, %v", refs(missing), err)
		}
		if err := m.Import(t.Context(), src, []Image{img}, 1, silent); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.images[ref].Target.Digest; got != latest.Manifest.Digest {
		t.Errorf("it is %s", got)
	}
}

func TestImagesBeginInTheirOrderAndTellTheirBytes(t *testing.T) {
	m := newMachine(t)
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
			t.Errorf("bytes go back from %d to %d", done, bytes)
		}
		done, total = bytes, of
		if ref := strings.TrimPrefix(message, "importing "); !slices.Contains(order, ref) {
			order = append(order, ref)
		}
	})
	if err != nil || done != total || total != size(want) || !slices.Equal(order, refs(want)) {
		t.Errorf("%d of %d bytes, in the order %v, %v", done, total, order, err)
	}
}

func TestAnEndedContextEndsTheImport(t *testing.T) {
	m := newMachine(t)
	src, want := three(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Import(ctx, src, want, 2, silent); err == nil || m.leases != 0 {
		t.Errorf("%v, %d leases held", err, m.leases)
	}
}
