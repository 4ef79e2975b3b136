package problem

import (
	"strings"
	"testing"
)

func TestEditDistance_CountsChangedAddedAndRemovedBytes(t *testing.T) {
	long := strings.Repeat("x", maxWord+1)
	for name, c := range map[string]struct {
		a, b string
		want int
	}{
		"equal":    {"memory", "memory", 0},
		"swapped":  {"memory", "memroy", 2},
		"added":    {"bundle", "bundles", 1},
		"empty":    {"", "abc", 3},
		"too long": {long, long, maxWord + 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := EditDistance(c.a, c.b); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func FuzzEditDistance(f *testing.F) {
	f.Add("memory", "memroy")
	f.Add("", "x")
	f.Fuzz(func(t *testing.T, a, b string) {
		if max(len(a), len(b)) > maxWord {
			return
		}
		d := EditDistance(a, b)
		if d != EditDistance(b, a) || d > max(len(a), len(b)) || (d == 0) != (a == b) {
			t.Errorf("distance of %q and %q = %d", a, b, d)
		}
	})
}
