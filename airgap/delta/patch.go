package delta

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A patch is a list of segments. Each is a header and a zstd frame that encodes the
// next bytes of the new content relative to a window of the old content. The
// window is chosen where the old content is similar, so that memory use does not
// depend on the size of either.
const (
	segmentSize = 4 << 20  // bytes of new content in each segment but the last
	windowSize  = 16 << 20 // maximum bytes of old content that a segment can refer to
)

// segmentHeader is stored in front of each frame, in big-endian order.
type segmentHeader struct {
	OldOffset int64  // offset of the window in the old content
	OldSize   uint32 // bytes of the window
	NewSize   uint32 // bytes of new content
	FrameSize uint32 // bytes of the frame
}

// encodePatch writes to w the patch that turns old into next.
func encodePatch(ctx context.Context, w io.Writer, old, next *io.SectionReader) error {
	known, err := indexChunks(old)
	if err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	buf, window, find := make([]byte, segmentSize), make([]byte, windowSize), &matchFinder{}
	shift := int64(0)
	for at := int64(0); at < next.Size(); at += segmentSize {
		content := buf[:min(segmentSize, next.Size()-at)]
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := next.ReadAt(content, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		shift = known.medianShift(content, at, shift)
		from := max(0, min(at+shift-(windowSize-segmentSize)/2, old.Size()-windowSize))
		before := window[:min(windowSize, old.Size()-from)]
		if _, err := old.ReadAt(before, from); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		frame := enc.EncodeAll(find.encodeSegment(content, before), nil)
		h := segmentHeader{from, uint32(len(before)), uint32(len(content)), uint32(len(frame))}
		if err := binary.Write(w, binary.BigEndian, h); err != nil {
			return err
		}
		if _, err := w.Write(frame); err != nil {
			return err
		}
	}
	return nil
}

// checkSizes returns an error unless the segment gives the next of left bytes of
// new content from a window of oldSize bytes.
func (h segmentHeader) checkSizes(oldSize, left int64) error {
	switch {
	case left == 0:
		return errors.New("the patch gives more bytes than the index declares")
	case int64(h.NewSize) != min(segmentSize, left):
		return fmt.Errorf("a segment of the patch has %d bytes, it must have %d", h.NewSize, min(segmentSize, left))
	case h.OldSize > windowSize || h.FrameSize > 2*segmentSize || h.OldOffset < 0 || h.OldOffset > oldSize-int64(h.OldSize):
		return errInvalidSegment
	}
	return nil
}

// decodePatch writes to w the size bytes of new content that a patch and the old
// content give. It fails if the patch gives another size. Each segment gives
// segmentSize bytes, so the work is linear in size.
func decodePatch(w io.Writer, patch io.Reader, old *io.SectionReader, size int64) error {
	r := bufio.NewReaderSize(patch, 1<<20)
	var frame, encoded []byte
	window, left := make([]byte, min(windowSize, old.Size())), size
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxSegmentData))
	if err != nil {
		return err
	}
	defer dec.Close()
	for {
		var h segmentHeader
		if err := binary.Read(r, binary.BigEndian, &h); err != nil {
			if left == 0 && err == io.EOF {
				return nil
			}
			return fmt.Errorf("cannot read the patch: %w", err)
		}
		if err := h.checkSizes(old.Size(), left); err != nil {
			return err
		}
		left -= int64(h.NewSize)
		frame = slices.Grow(frame[:0], int(h.FrameSize))[:h.FrameSize]
		if _, err := io.ReadFull(r, frame); err != nil {
			return fmt.Errorf("cannot read the patch: %w", err)
		}
		if _, err := old.ReadAt(window[:h.OldSize], h.OldOffset); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if encoded, err = dec.DecodeAll(frame, encoded[:0]); err != nil {
			return fmt.Errorf("cannot read the patch: %w", err)
		}
		content, err := decodeSegment(encoded, window[:h.OldSize], int(h.NewSize))
		if err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
	}
}

// chunkIndex contains the offsets of chunks of content, by the first 8 bytes of
// their SHA-256.
type chunkIndex map[[8]byte]int64

// indexChunks returns the index of the chunks of old content.
func indexChunks(old *io.SectionReader) (chunkIndex, error) {
	known, buf := chunkIndex{}, make([]byte, segmentSize)
	for at := int64(0); at < old.Size(); at += segmentSize {
		content := buf[:min(segmentSize, old.Size()-at)]
		if _, err := old.ReadAt(content, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		splitChunks(content, func(off int, sum [8]byte) { known[sum] = at + int64(off) })
	}
	return known, nil
}

// medianShift returns by how many bytes the offset of content in the old content
// differs from its new offset at: the median over the chunks that are in the
// index, or before if none is.
func (m chunkIndex) medianShift(content []byte, at, before int64) int64 {
	var found []int64
	splitChunks(content, func(off int, sum [8]byte) {
		if old, ok := m[sum]; ok {
			found = append(found, old-at-int64(off))
		}
	})
	if len(found) == 0 {
		return before
	}
	slices.Sort(found)
	return found[len(found)/2]
}

// splitChunks calls found for each chunk of content. It splits where a rolling hash
// of the last 64 bytes has 12 zero bits, so that equal content is split equally at
// any offset.
func splitChunks(content []byte, found func(off int, sum [8]byte)) {
	table := gearTable()
	begin, hash := -1, uint64(0)
	for i, b := range content {
		hash = hash<<1 + table[b]
		if hash>>52 != 0 {
			continue
		}
		if begin >= 0 && i-begin >= 256 {
			sum := sha256.Sum256(content[begin:i])
			found(begin, [8]byte(sum[:8]))
		}
		begin = i
	}
}

// gearTable returns a fixed pseudo-random number for each byte value (splitmix64).
func gearTable() (table [256]uint64) {
	state := uint64(0)
	for i := range table {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		table[i] = z ^ z>>31
	}
	return table
}
