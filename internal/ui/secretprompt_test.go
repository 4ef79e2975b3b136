package ui

import (
	"strings"
	"testing"
)

func TestReadLine_LeavesTheNextLine(t *testing.T) {
	in := strings.NewReader("first\nsecond\n")
	for _, want := range []string{"first", "second"} {
		if got, err := readLine(in); err != nil || got != want {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}

func TestReadLine_FailsByName(t *testing.T) {
	for name, c := range map[string]struct{ in, err string }{
		"the end":           {"", "EOF"},
		"an unfinished one": {"fir", "EOF"},
		"an endless one":    {strings.Repeat("x", 5000), "it has more than 4096 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := readLine(strings.NewReader(c.in)); got != "" || err == nil || err.Error() != c.err {
				t.Errorf("%q, %v, want %s", got, err, c.err)
			}
		})
	}
}
