package delta

import (
	"bytes"
	"strings"
	"testing"
)

// A patch of a few hundred bytes can decode to gigabytes. The writer must stop it at
// the size that the index declares.
func TestLimitedWriter_StopsPatchBombAtTheDeclaredSize(t *testing.T) {
	old := sectionOf(bytes.Repeat([]byte("old"), 1000))
	var patch bytes.Buffer
	if err := encodePatch(t.Context(), &patch, old, sectionOf(make([]byte, 64<<20))); err != nil {
		t.Fatal(err)
	}
	if patch.Len() > 64<<10 {
		t.Fatalf("a patch of %d bytes is too large for this test", patch.Len())
	}
	got := byteCounter{}
	err := decodePatch(&limitedWriter{&got, 10 << 20}, &patch, old)
	if err == nil || !strings.Contains(err.Error(), "more bytes than the index declares") || got.n > 10<<20 {
		t.Errorf("%d bytes, %v", got.n, err)
	}
}

// byteCounter counts the bytes written to it.
type byteCounter struct{ n int64 }

func (c *byteCounter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
