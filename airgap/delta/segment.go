package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// What a segment tells: three lists, one after the other, the first two with
// their lengths in front. Orders are three numbers each: how many literal bytes come
// next, how far from the end of the last copy the next one begins in the old
// content, how long it is. Differences are what is added to each copied byte:
// in a program that was built again most are zero, for only addresses change.
// Literals are all that is not copied. (The idea is that of bsdiff.)

const (
	exact   = 16          // bytes that must be equal to begin a copy
	give    = 48          // how much worse a copy may become before it ends
	every   = 2           // of the old content's places are looked up
	maxTold = 4 * segment // bytes of orders, differences and literals
)

// finder finds equal places; the table is used again for each segment.
type finder struct{ table [1 << 22]uint32 }

func slot(b []byte) uint64 { return binary.LittleEndian.Uint64(b) * 0x9e3779b97f4a7c15 >> 42 }

// differences tells content by old.
func (f *finder) differences(content, old []byte) []byte {
	clear(f.table[:])
	for i := 0; i+exact <= len(old); i += every {
		f.table[slot(old[i:])] = uint32(i) + 1
	}
	var orders, added, literals []byte
	done, end := 0, 0 // in content and in old
	for i := 0; i+exact <= len(content); {
		from := f.find(content[i:], old, end+i-done)
		if from < 0 {
			i++
			continue
		}
		for i > done && from > 0 && content[i-1] == old[from-1] {
			i, from = i-1, from-1
		}
		n := alike(content[i:], old[from:])
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
	told := binary.AppendUvarint(nil, uint64(len(orders)))
	told = binary.AppendUvarint(told, uint64(len(added)))
	return append(append(append(told, orders...), added...), literals...)
}

// find gives a place of old that begins as content does, or -1; at is where
// the last copy would go on.
func (f *finder) find(content, old []byte, at int) int {
	if at+exact <= len(old) && bytes.Equal(content[:exact], old[at:at+exact]) {
		return at
	}
	from := int(f.table[slot(content)]) - 1
	if from < 0 || from+exact > len(old) || !bytes.Equal(content[:exact], old[from:from+exact]) {
		return -1
	}
	return from
}

// alike is how many bytes are worth copying: as long as more than half of
// them are equal, give or take a little.
func alike(content, old []byte) (length int) {
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
		if score < best-give {
			break
		}
	}
	return length
}

var errTold = errors.New("patch: a segment refers to what there is not")

// follow makes size bytes of new content of what a segment tells.
func follow(told, old []byte, size int) ([]byte, error) {
	orders, added, literals, err := lists(told)
	if err != nil {
		return nil, err
	}
	content, end := make([]byte, 0, size), int64(0)
	for len(orders) > 0 {
		plain, a := binary.Uvarint(orders)
		jump, b := binary.Varint(orders[max(a, 0):])
		copied, c := binary.Uvarint(orders[max(a, 0)+max(b, 0):])
		if a <= 0 || b <= 0 || c <= 0 || plain > uint64(len(literals)) || copied > uint64(len(added)) {
			return nil, errTold
		}
		orders = orders[a+b+c:]
		content, literals = append(content, literals[:plain]...), literals[plain:]
		from := end + jump
		if from < 0 || from > int64(len(old)) || copied > uint64(int64(len(old))-from) {
			return nil, errTold
		}
		for k := range int64(copied) {
			content = append(content, added[k]+old[from+k])
		}
		added, end = added[copied:], from+int64(copied)
	}
	content = append(content, literals...)
	if len(content) != size || len(added) > 0 {
		return nil, errors.New("patch: a segment gives other content")
	}
	return content, nil
}

// lists takes apart what a segment tells.
func lists(told []byte) (orders, added, literals []byte, err error) {
	first, n := binary.Uvarint(told)
	second, m := binary.Uvarint(told[max(n, 0):])
	if n <= 0 || m <= 0 {
		return nil, nil, nil, errTold
	}
	told = told[n+m:]
	if first > uint64(len(told)) || second > uint64(len(told))-first {
		return nil, nil, nil, errTold
	}
	return told[:first], told[first : first+second], told[first+second:], nil
}
