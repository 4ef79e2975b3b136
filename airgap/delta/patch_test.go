package delta

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/testkit"
)

// sectionOf returns a reader of b.
func sectionOf(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// randomBytes returns content in which nothing repeats.
func randomBytes(n int) []byte {
	random, out := rand.New(rand.NewPCG(3, 1)), make([]byte, n)
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return out
}

// rebuiltProgram returns old as if it were a program that was rebuilt: every 20 bytes
// an address differs, and 1000 bytes are inserted in the middle.
func rebuiltProgram(old []byte) []byte {
	next := bytes.Clone(old)
	for i := 0; i+4 < len(next); i += 20 {
		next[i] += 8
	}
	half := len(next) / 2
	return append(append(bytes.Clone(next[:half]), randomBytes(1000)...), next[half:]...)
}

func TestDecodePatch_GivesExactlyTheNewContent(t *testing.T) {
	old := randomBytes(5 << 20)
	for name, c := range map[string]struct {
		old, next []byte
		most      int // bytes of the patch
	}{
		"empty to empty":    {nil, nil, 0},
		"from empty":        {nil, []byte("hello"), 100},
		"to empty":          {old[:1000], nil, 0},
		"equal":             {old[:1<<20], old[:1<<20], 1000},
		"short":             {[]byte("abc"), []byte("abd"), 100},
		"rebuilt program":   {old[:1<<20], rebuiltProgram(old[:1<<20]), 20_000},
		"large offset":      {old, append(randomBytes(100_000)[500:], old...), 110_000},
		"end removed":       {old[:2<<20], old[:1<<20], 1000},
		"different content": {old[:1<<20], randomBytes(2 << 20)[1<<20+7:], 1<<20 + 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			var patch, out bytes.Buffer
			if err := encodePatch(t.Context(), &patch, sectionOf(c.old), sectionOf(c.next)); err != nil {
				t.Fatal(err)
			}
			if err := decodePatch(&out, bytes.NewReader(patch.Bytes()), sectionOf(c.old), int64(len(c.next))); err != nil || !bytes.Equal(out.Bytes(), c.next) {
				t.Errorf("gives %d bytes of %d, %v", out.Len(), len(c.next), err)
			}
			if patch.Len() > c.most {
				t.Errorf("the patch has %d bytes, more than %d", patch.Len(), c.most)
			}
			if patch.Len() > 0 {
				if err := decodePatch(io.Discard, bytes.NewReader(patch.Bytes()[:patch.Len()-1]), sectionOf(c.old), int64(len(c.next))); err == nil {
					t.Error("a truncated patch is accepted")
				}
			}
		})
	}
}

func FuzzDecodePatch(f *testing.F) {
	old := randomBytes(10_000)
	for _, next := range [][]byte{nil, old, rebuiltProgram(old)} {
		var patch bytes.Buffer
		if err := encodePatch(f.Context(), &patch, sectionOf(old), sectionOf(next)); err != nil {
			f.Fatal(err)
		}
		f.Add(patch.Bytes(), int64(len(next)))
	}
	f.Add(bombPatch(f), int64(64<<20))
	f.Add(bytes.Repeat(packSegment(f, segmentHeader{OldSize: 10_000}, []byte{0, 0}), 1000), int64(1000))
	f.Fuzz(func(t *testing.T, patch []byte, size int64) {
		if len(patch) > testkit.MaxInput {
			t.Skip()
		}
		size = min(max(size, 0), limit.DeltaMargin) // what a small delta may rebuild
		written, read := &byteCounter{}, &byteCounter{ReaderAt: bytes.NewReader(old)}
		testkit.CheckBounds(t, func() {
			err := decodePatch(written, bytes.NewReader(patch), io.NewSectionReader(read, 0, int64(len(old))), size)
			if err == nil && written.n != size || written.n > size || read.n > int64(len(old))*(1+size/segmentSize) {
				t.Errorf("%d bytes of %d are written, %d are read, %v", written.n, size, read.n, err)
			}
		})
	})
}

func FuzzDecodeSegment(f *testing.F) {
	old := randomBytes(10_000)
	f.Add((&matchFinder{}).encodeSegment(rebuiltProgram(old), old), 11_000)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, encoded []byte, size int) {
		size = min(max(size, 0), segmentSize)
		if content, err := decodeSegment(encoded, old, size); err == nil && len(content) != size {
			t.Errorf("%d bytes instead of %d", len(content), size)
		}
	})
}

func FuzzEncodeSegment_RoundTrip(f *testing.F) {
	f.Add([]byte("abcdefghijklmnopqrstuvwxyz"), []byte("abcdefghijklmnopqrsTuvwxyzabcdefghijklmnopqrst"))
	find := &matchFinder{}
	f.Fuzz(func(t *testing.T, old, next []byte) {
		if got, err := decodeSegment(find.encodeSegment(next, old), old, len(next)); err != nil || !bytes.Equal(got, next) {
			t.Errorf("%v", err)
		}
	})
}
