package delta

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

func section(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// noise is content in which nothing repeats.
func noise(n int) []byte {
	random, out := rand.New(rand.NewPCG(3, 1)), make([]byte, n)
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return out
}

// rebuilt is like a program that was built again: every 20 bytes an address
// is another, and in the middle something was put in.
func rebuilt(old []byte) []byte {
	next := bytes.Clone(old)
	for i := 0; i+4 < len(next); i += 20 {
		next[i] += 8
	}
	half := len(next) / 2
	return append(append(bytes.Clone(next[:half]), noise(1000)...), next[half:]...)
}

func TestAPatchGivesExactlyTheNewContent(t *testing.T) {
	old := noise(5 << 20)
	for name, c := range map[string]struct {
		old, next []byte
		most      int // bytes of the patch
	}{
		"nothing at all":      {nil, nil, 0},
		"from nothing":        {nil, []byte("hello"), 100},
		"to nothing":          {old[:1000], nil, 0},
		"equal":               {old[:1<<20], old[:1<<20], 1000},
		"short":               {[]byte("abc"), []byte("abd"), 100},
		"built again":         {old[:1<<20], rebuilt(old[:1<<20]), 20_000},
		"moved by a lot":      {old, append(noise(100_000)[500:], old...), 110_000},
		"the end was removed": {old[:2<<20], old[:1<<20], 1000},
		"another":             {old[:1<<20], noise(2 << 20)[1<<20+7:], 1<<20 + 10_000},
	} {
		var patch, out bytes.Buffer
		if err := encode(t.Context(), &patch, section(c.old), section(c.next)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := decode(&out, bytes.NewReader(patch.Bytes()), section(c.old)); err != nil || !bytes.Equal(out.Bytes(), c.next) {
			t.Errorf("%s: gives %d bytes of %d, %v", name, out.Len(), len(c.next), err)
		}
		if patch.Len() > c.most {
			t.Errorf("%s: the patch has %d bytes, more than %d", name, patch.Len(), c.most)
		}
		if patch.Len() > 0 {
			if err := decode(io.Discard, bytes.NewReader(patch.Bytes()[:patch.Len()-1]), section(c.old)); err == nil {
				t.Errorf("%s: a patch that was cut is taken", name)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	old := noise(10_000)
	for _, next := range [][]byte{nil, old, rebuilt(old)} {
		var patch bytes.Buffer
		if err := encode(f.Context(), &patch, section(old), section(next)); err != nil {
			f.Fatal(err)
		}
		f.Add(patch.Bytes())
	}
	f.Fuzz(func(t *testing.T, patch []byte) {
		_ = decode(io.Discard, bytes.NewReader(patch), section(old))
	})
}

func FuzzFollow(f *testing.F) {
	old := noise(10_000)
	f.Add((&finder{}).differences(rebuilt(old), old), 11_000)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, told []byte, size int) {
		size = min(max(size, 0), segment)
		if content, err := follow(told, old, size); err == nil && len(content) != size {
			t.Errorf("%d bytes instead of %d", len(content), size)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("abcdefghijklmnopqrstuvwxyz"), []byte("abcdefghijklmnopqrsTuvwxyzabcdefghijklmnopqrst"))
	find := &finder{}
	f.Fuzz(func(t *testing.T, old, next []byte) {
		if got, err := follow(find.differences(next, old), old, len(next)); err != nil || !bytes.Equal(got, next) {
			t.Errorf("%v", err)
		}
	})
}
