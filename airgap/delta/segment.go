package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// An encoded segment has three lists: orders, differences and literals. The lengths
// of the first two come first. An order is three numbers: how many literal bytes
// come next, the distance in the old content from the end of the last copy to the
// start of the next one, and the length of that copy. Differences are added to each
// copied byte; in a rebuilt program most are zero, because only addresses change.
// Literals are the bytes that are not copied. (The idea comes from bsdiff.)

const (
	minMatch       = 16              // bytes that must be equal to start a copy
	maxScoreDrop   = 48              // by how much the score of a copy may fall before the copy ends
	indexStep      = 2               // every second offset of the old content is in the table
	maxSegmentData = 4 * segmentSize // maximum bytes of an encoded segment
)

// matchFinder finds equal bytes in the old content; its table is reused for each
// segment.
type matchFinder struct{ table [1 << 22]uint32 }

// hashSlot returns the slot of the table for the first 8 bytes of b.
func hashSlot(b []byte) uint64 { return binary.LittleEndian.Uint64(b) * 0x9e3779b97f4a7c15 >> 42 }

// encodeSegment returns content encoded relative to old.
func (f *matchFinder) encodeSegment(content, old []byte) []byte {
	clear(f.table[:])
	for i := 0; i+minMatch <= len(old); i += indexStep {
		f.table[hashSlot(old[i:])] = uint32(i) + 1
	}
	var orders, added, literals []byte
	done, end := 0, 0 // in content and in old
	for i := 0; i+minMatch <= len(content); {
		from := f.findMatch(content[i:], old, end+i-done)
		if from < 0 {
			i++
			continue
		}
		for i > done && from > 0 && content[i-1] == old[from-1] {
			i, from = i-1, from-1
		}
		n := matchLength(content[i:], old[from:])
		orders = binary.AppendUvarint(orders, uint64(i-done))
		orders = binary.AppendVarint(orders, int64(from-end))
		orders = binary.AppendUvarint(orders, uint64(n))
		literals = append(literals, content[done:i]...)
		for k := range n {
			added = append(added, content[i+k]-old[from+k])
		}
		i += n
		done, end = i, from+n
	}
	literals = append(literals, content[done:]...)
	encoded := binary.AppendUvarint(nil, uint64(len(orders)))
	encoded = binary.AppendUvarint(encoded, uint64(len(added)))
	return append(append(append(encoded, orders...), added...), literals...)
}

// findMatch returns an offset at which old starts like content, or -1. at is the
// offset at which the last copy would continue.
func (f *matchFinder) findMatch(content, old []byte, at int) int {
	if at+minMatch <= len(old) && bytes.Equal(content[:minMatch], old[at:at+minMatch]) {
		return at
	}
	from := int(f.table[hashSlot(content)]) - 1
	if from < 0 || from+minMatch > len(old) || !bytes.Equal(content[:minMatch], old[from:from+minMatch]) {
		return -1
	}
	return from
}

// matchLength returns how many bytes to copy: as long as more than half of them are
// equal, within the tolerance maxScoreDrop.
func matchLength(content, old []byte) (length int) {
	score, best := 0, 0
	for k := range min(len(content), len(old)) {
		if content[k] == old[k] {
			score++
		} else {
			score--
		}
		if score > best {
			best, length = score, k+1
		}
		if score < best-maxScoreDrop {
			break
		}
	}
	return length
}

var (
	errInvalidSegment = errors.New("a segment of the patch refers to content that does not exist")
	errSegmentSize    = errors.New("a segment of the patch gives a different size than declared")
)

// decodeSegment returns the size bytes of new content that an encoded segment and
// the old content give.
func decodeSegment(encoded, old []byte, size int) ([]byte, error) {
	orders, added, literals, err := splitSegment(encoded)
	if err != nil {
		return nil, err
	}
	content, end := make([]byte, 0, size), int64(0)
	for len(orders) > 0 {
		plain, a := binary.Uvarint(orders)
		jump, b := binary.Varint(orders[max(a, 0):])
		copied, c := binary.Uvarint(orders[max(a, 0)+max(b, 0):])
		if a <= 0 || b <= 0 || c <= 0 || plain > uint64(len(literals)) || copied > uint64(len(added)) {
			return nil, errInvalidSegment
		}
		switch n := plain + copied; {
		case n == 0:
			return nil, errors.New("an order of the patch adds no byte")
		case n > uint64(size-len(content)):
			return nil, errSegmentSize
		}
		orders = orders[a+b+c:]
		content, literals = append(content, literals[:plain]...), literals[plain:]
		if jump < -end || jump > int64(len(old))-end || copied > uint64(int64(len(old))-end-jump) {
			return nil, errInvalidSegment
		}
		from := end + jump
		for k := range int64(copied) {
			content = append(content, added[k]+old[from+k])
		}
		added, end = added[copied:], from+int64(copied)
	}
	if len(literals) != size-len(content) || len(added) > 0 {
		return nil, errSegmentSize
	}
	return append(content, literals...), nil
}

// splitSegment returns the three lists of an encoded segment.
func splitSegment(encoded []byte) (orders, added, literals []byte, err error) {
	first, n := binary.Uvarint(encoded)
	second, m := binary.Uvarint(encoded[max(n, 0):])
	if n <= 0 || m <= 0 {
		return nil, nil, nil, errInvalidSegment
	}
	encoded = encoded[n+m:]
	if first > uint64(len(encoded)) || second > uint64(len(encoded))-first {
		return nil, nil, nil, errInvalidSegment
	}
	return encoded[:first], encoded[first : first+second], encoded[first+second:], nil
}
