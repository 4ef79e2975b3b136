package delta

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/testkit"
)

// byteCounter counts the bytes written to it, and read from the content behind it.
type byteCounter struct {
	io.ReaderAt
	n int64
}

func (c *byteCounter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func (c *byteCounter) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n += int64(n)
	return n, err
}

// packSegment returns a segment of a patch; the sizes of the header may be false.
func packSegment(t testing.TB, h segmentHeader, encoded []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	testkit.Must(t, err)
	frame := enc.EncodeAll(encoded, nil)
	h.FrameSize = uint32(len(frame))
	var buf bytes.Buffer
	testkit.Must(t, binary.Write(&buf, binary.BigEndian, h))
	return append(buf.Bytes(), frame...)
}

// encodedLiterals returns an encoded segment of n zero bytes without a copy.
func encodedLiterals(n int) []byte { return make([]byte, 2+n) }

// Every number in a patch is false here. The work must depend on the declared size
// of the new content only.
func TestDecodePatch_BoundsWork(t *testing.T) {
	old := make([]byte, windowSize)
	window := segmentHeader{OldSize: windowSize}
	with := func(h segmentHeader, newSize uint32) segmentHeader { h.NewSize = newSize; return h }
	full := packSegment(t, with(window, segmentSize), encodedLiterals(segmentSize))
	idle := binary.AppendUvarint(binary.AppendUvarint(nil, 3*1_000_000), 0) // orders that add nothing
	idle = append(idle, make([]byte, 3*1_000_000)...)
	for name, c := range map[string]struct {
		patch []byte
		size  int64 // declared
		want  string
	}{
		"segments that add nothing":    {bytes.Repeat(packSegment(t, window, []byte{0, 0}), 10_000), 1 << 20, "has 0 bytes"},
		"segments of one byte":         {bytes.Repeat(packSegment(t, with(window, 1), encodedLiterals(1)), 10_000), 1 << 20, "has 1 bytes"},
		"more segments than declared":  {bytes.Repeat(full, 1000), 2 * segmentSize, "more bytes than the index declares"},
		"nothing is declared":          {bytes.Repeat(full, 1000), 0, "more bytes than the index declares"},
		"fewer segments than declared": {full, 2 * segmentSize, "cannot read the patch"},
		"orders that add nothing":      {packSegment(t, with(window, 1<<20), idle), 1 << 20, "adds no byte"},
		"more literals than declared":  {packSegment(t, with(window, 100), encodedLiterals(1<<20)), 100, "different size"},
		"encoded segment too long":     {packSegment(t, with(window, 100), make([]byte, maxSegmentData+1)), 100, "cannot read the patch"},
		"window overflows":             {packSegment(t, segmentHeader{OldOffset: math.MaxInt64, OldSize: windowSize, NewSize: 1}, encodedLiterals(1)), 1, "does not exist"},
		"window at a negative offset":  {packSegment(t, segmentHeader{OldOffset: -1, OldSize: 1, NewSize: 1}, encodedLiterals(1)), 1, "does not exist"},
		"window behind the end":        {packSegment(t, segmentHeader{OldOffset: 1, OldSize: windowSize, NewSize: 1}, encodedLiterals(1)), 1, "does not exist"},
		"window of 4 GiB":              {packSegment(t, segmentHeader{OldSize: math.MaxUint32, NewSize: 1}, encodedLiterals(1)), 1, "does not exist"},
		"frame of 4 GiB":               {packSegment(t, with(window, 1), encodedLiterals(1))[:16:16], 1, "cannot read the patch"},
		"bomb that gives 64 MiB":       {bombPatch(t), 10 << 20, "it must have 2097152"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "frame of 4 GiB" {
				c.patch = binary.BigEndian.AppendUint32(c.patch, math.MaxUint32)
				c.want = "does not exist"
			}
			written, read := &byteCounter{}, &byteCounter{ReaderAt: bytes.NewReader(old)}
			testkit.CheckBounds(t, func() {
				err := decodePatch(written, bytes.NewReader(c.patch), io.NewSectionReader(read, 0, int64(len(old))), c.size)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			})
			if most := c.size + windowSize*(1+c.size/segmentSize); written.n > c.size || read.n > most {
				t.Errorf("%d bytes are written of %d, %d are read, at most %d may be", written.n, c.size, read.n, most)
			}
		})
	}
}

// bombPatch returns a patch of a few hundred bytes that gives 64 MiB.
func bombPatch(t testing.TB) []byte {
	t.Helper()
	var patch bytes.Buffer
	testkit.Must(t, encodePatch(t.Context(), &patch, sectionOf(bytes.Repeat([]byte("old"), 1000)), sectionOf(make([]byte, 64<<20))))
	if patch.Len() > 64<<10 {
		t.Fatalf("a patch of %d bytes is too large for this test", patch.Len())
	}
	return patch.Bytes()
}

func TestNewBudget_IsLinearInTheOlderFile(t *testing.T) {
	for size, want := range map[int64]limit.Budget{0: limit.DeltaMargin, 1 << 20: limit.DeltaMargin + limit.DeltaFactor<<20, math.MaxInt64: limit.DeltaMargin + limit.DeltaFactor*limit.Blob} {
		if got := newBudget(size); got != want {
			t.Errorf("%d bytes: %d, want %d", size, got, want)
		}
	}
}
