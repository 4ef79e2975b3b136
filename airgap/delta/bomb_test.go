package delta

import (
	"bytes"
	"strings"
	"testing"
)

// A patch of some hundred bytes may tell of gigabytes: what comes of it ends
// where the index says.
func TestAPatchThatBombsEndsWhereTheIndexSays(t *testing.T) {
	old := section(bytes.Repeat([]byte("old"), 1000))
	var patch bytes.Buffer
	if err := encode(t.Context(), &patch, old, section(make([]byte, 64<<20))); err != nil {
		t.Fatal(err)
	}
	if patch.Len() > 64<<10 {
		t.Fatalf("%d bytes are no bomb", patch.Len())
	}
	got := counter{}
	err := decode(&limited{&got, 10 << 20}, &patch, old)
	if err == nil || !strings.Contains(err.Error(), "more than is declared") || got.n > 10<<20 {
		t.Errorf("%d bytes, %v", got.n, err)
	}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
