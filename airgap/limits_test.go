package airgap_test

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/testkit"
)

// countingReader counts the bytes that are read from it.
type countingReader struct {
	io.Reader
	io.ReaderAt
	n atomic.Int64 // a bundle is read concurrently
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}

// zeros is endless.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// header returns the tar header of an entry in a bundle.
func header(t testing.TB, name string, size int64) string {
	t.Helper()
	raw, err := format.TarHeader(name, size)
	testkit.Must(t, err)
	return string(raw)
}

// endless repeats text.
type endless struct {
	text string
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.text[e.at]
		e.at = (e.at + 1) % len(e.text)
	}
	return len(p), nil
}

func TestOpenStream_BoundsDeclaredSizes(t *testing.T) {
	layout := string(packEntries(t, smallBundle(t)[:1]))
	layout = layout[:len(layout)-len(format.EndBlocks())]
	name := format.BlobEntry(digest.FromString("x"))
	pax := header(t, name, math.MaxInt64)[:2*512] // a PAX header without the header that follows it
	document := header(t, name, limit.Document) + strings.Repeat("\x00", limit.Document)
	for title, c := range map[string]struct {
		r    io.Reader
		most int64 // bytes to read
		part string
	}{
		"index.json of 2^63-1 bytes":     {io.MultiReader(strings.NewReader(layout+header(t, format.IndexEntry, math.MaxInt64)), zeros{}), 8 << 10, "more than the maximum"},
		"a blob of 2^63-1 bytes":         {io.MultiReader(strings.NewReader(layout+header(t, name, math.MaxInt64)), zeros{}), 8 << 10, "more than the maximum"},
		"a document above its limit":     {io.MultiReader(strings.NewReader(layout+header(t, name, limit.Document+1)), zeros{}), 8 << 10, "more than the maximum"},
		"PAX headers without end":        {io.MultiReader(strings.NewReader(layout), &endless{text: pax}), 8 << 10, "tar header at byte 1024 is damaged"},
		"documents without end":          {io.MultiReader(strings.NewReader(layout), &endless{text: document}), limit.Head + 8<<10, "before the content of its images"},
		"empty documents without end":    {io.MultiReader(strings.NewReader(layout), &endless{text: header(t, name, 0)}), limit.Head + 8<<10, "before the content of its images"},
		"index.json.sig of 2^63-1 bytes": {io.MultiReader(strings.NewReader(layout+header(t, format.SignatureEntry, math.MaxInt64)), zeros{}), 8 << 10, "more than the maximum"},
	} {
		t.Run(title, func(t *testing.T) {
			r := &countingReader{Reader: io.LimitReader(c.r, 400<<20)}
			testkit.CheckBounds(t, func() {
				_, _, err := airgap.OpenStream(t.Context(), r, "standard input")
				wantRefused(t, err, c.part)
			})
			if n := r.n.Load(); n > c.most {
				t.Errorf("%d bytes were read, more than %d", n, c.most)
			}
		})
	}
}

// descriptors returns n descriptors of the manifest of item i, with size bytes.
func descriptors(x *ocispec.Index, i, n int, size int64) {
	desc := x.Manifests[i]
	desc.Size = size
	for range n {
		x.Manifests = append(x.Manifests, desc)
	}
}

func TestOpenAt_BoundsDeclaredSizesAndCounts(t *testing.T) {
	path := smallBundlePath(t)
	large := bytes.Repeat([]byte(" "), 200<<10) // a manifest that is listed often
	for name, c := range map[string]struct {
		change func(all []entry) []entry
		part   string
	}{
		"sizes of manifests overflow": {func(all []entry) []entry {
			d := digest.FromBytes(large)
			all = withIndex(t, all, func(x *ocispec.Index) {
				x.Manifests[1].Size = math.MaxInt64
				x.Manifests[2].Digest = d
				descriptors(x, 2, 2000, int64(len(large)))
			})
			return append(all, entry{format.BlobEntry(d), large})
		}, "manifests have more than"},
		"one manifest listed often": {func(all []entry) []entry {
			d := digest.FromBytes(large)
			all = withIndex(t, all, func(x *ocispec.Index) {
				x.Manifests[1].Digest = d
				descriptors(x, 1, 2000, int64(len(large)))
			})
			return append(all, entry{format.BlobEntry(d), large})
		}, "manifests have more than"},
		"values of the index": {func(all []entry) []entry {
			all[1].data = []byte(`{"manifests":[` + strings.Repeat("0,", 500_000) + "0]}")
			all[2].data = []byte(format.Checksum(all[1].data))
			return all
		}, "more than 131072 values"},
		"values of a manifest": {func(all []entry) []entry {
			raw := []byte(`{"schemaVersion":2,"layers":[` + strings.Repeat("{},", 300_000) + "{}]}")
			d := digest.FromBytes(raw)
			all = withIndex(t, all, func(x *ocispec.Index) { x.Manifests[0].Digest, x.Manifests[0].Size = d, int64(len(raw)) })
			return append(all, entry{format.BlobEntry(d), raw})
		}, "more than 131072 values"},
		"values of delta.json": {func(all []entry) []entry {
			raw := []byte(`{"patches":[` + strings.Repeat("{},", 300_000) + "{}]}")
			return append(append(all[:3:3], entry{format.DeltaEntry, raw}), all[3:]...)
		}, "more than 131072 values"},
		"size of a blob": {func(all []entry) []entry {
			replaceManifest(t, all, 2, func(m *ocispec.Manifest) { m.Layers[0].Size = limit.Blob + 1 })
			return all
		}, "more than the maximum of 1099511627776"},
		"unpacked size of a layer": {func(all []entry) []entry {
			return withIndex(t, all, func(x *ocispec.Index) {
				x.Manifests[2].Annotations[format.AnnotationSizes] = fmt.Sprintf("%d,1", int64(limit.Blob)+1)
			})
		}, "is not an unpacked size"},
		"signature": {func(all []entry) []entry {
			return append(append(all[:3:3], entry{format.SignatureEntry, make([]byte, limit.Signature+1)}), all[3:]...)
		}, "a signature has at most 128"},
		"documents": {func(all []entry) []entry {
			all[1].data = make([]byte, limit.Document+1)
			return all
		}, "more than the maximum of 4194304"},
		"findings": {func(all []entry) []entry {
			return withIndex(t, all, func(x *ocispec.Index) {
				for range 2000 {
					x.Manifests = append(x.Manifests, ocispec.Descriptor{Digest: "x"})
				}
			})
		}, "further problems"},
	} {
		t.Run(name, func(t *testing.T) {
			data := packEntries(t, c.change(readEntries(t, path)))
			r := &countingReader{ReaderAt: bytes.NewReader(data)}
			testkit.CheckBounds(t, func() {
				_, err := airgap.OpenAt(t.Context(), r, int64(len(data)), "test")
				wantRefused(t, err, c.part)
				if err != nil && len(err.Error()) > 64<<10 {
					t.Errorf("the message has %d bytes", len(err.Error()))
				}
			})
			if most := int64(limit.Manifests + 2*len(data) + 64<<10); r.n.Load() > most {
				t.Errorf("%d bytes were read, more than %d", r.n.Load(), most)
			}
		})
	}
}

func TestOpenAt_BoundsCountOfBlobs(t *testing.T) {
	var buf bytes.Buffer
	for _, e := range smallBundle(t)[:3] {
		data := packEntries(t, []entry{e})
		buf.Write(data[:len(data)-len(format.EndBlocks())])
	}
	for i := range limit.Blobs + 1 {
		buf.WriteString(header(t, format.BlobEntry(digest.FromString(fmt.Sprint(i))), 0))
	}
	buf.Write(format.EndBlocks())
	_, err := airgap.OpenAt(t.Context(), bytes.NewReader(buf.Bytes()), int64(buf.Len()), "test")
	wantRefused(t, err, "more than 65536 blobs")
}

// Many images can have one large config, and many patches one large blob.
func TestVerify_BoundsConfigsOfImages(t *testing.T) {
	all := readEntries(t, smallBundlePath(t))
	config := []byte(`{"x":"` + strings.Repeat("x", 900<<10) + `"}`)
	replaceManifest(t, all, 2, func(m *ocispec.Manifest) {
		m.Config.Digest, m.Config.Size = digest.FromBytes(config), int64(len(config))
	})
	all = withIndex(t, all, func(x *ocispec.Index) {
		for i := range 40 {
			desc := x.Manifests[2]
			desc.Annotations = maps.Clone(desc.Annotations)
			desc.Annotations[format.AnnotationImageName] = fmt.Sprintf("example.com/a:%d", i)
			x.Manifests = append(x.Manifests, desc)
		}
	})
	old := slices.IndexFunc(all, func(e entry) bool { return bytes.Contains(e.data, []byte(`"rootfs"`)) })
	all[old] = entry{format.BlobEntry(digest.FromBytes(config)), config}
	wantRefused(t, openAndVerify(t, packEntries(t, all)), "configs of its images have more than 16777216 bytes")
}

// Each zstd frame here needs a window of 128 MiB for a few hundred bytes.
func TestVerify_UnpacksOneWindowAtATime(t *testing.T) {
	all := readEntries(t, smallBundlePath(t))
	for i := range 6 {
		frame := windowFrame(byte(i))
		all = append(all, entry{format.BlobEntry(digest.FromBytes(frame)), frame})
	}
	layers := all[len(all)-6:]
	replaceManifest(t, all, 2, func(m *ocispec.Manifest) {
		for _, l := range layers {
			m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerZstd, Digest: digest.FromBytes(l.data), Size: int64(len(l.data))})
		}
	})
	all = withIndex(t, all, func(x *ocispec.Index) {
		x.Manifests[2].Annotations[format.AnnotationSizes] += strings.Repeat(",50331648", len(layers))
	})
	data := packEntries(t, all)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // Verify uses as many goroutines
	testkit.CheckBounds(t, func() { wantRefused(t, openAndVerify(t, data), "unpacks to more than the 50331648 bytes") })
}

// windowFrame returns a zstd frame with a window of 128 MiB that gives 129 MiB of b
// (RFC 8878: no checksum, no content size; window descriptor 17<<3; RLE blocks).
func windowFrame(b byte) []byte {
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3}
	const blocks, size = 129 << 3, 128 << 10
	for i := range blocks {
		head := size<<3 | 1<<1
		if i == blocks-1 {
			head |= 1
		}
		frame = append(frame, byte(head), byte(head>>8), byte(head>>16), b)
	}
	return frame
}
