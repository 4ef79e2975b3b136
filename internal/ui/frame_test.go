package ui

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/testkit"
)

// screen is a terminal that knows only what Frame writes.
type screen struct {
	columns, rows int
	lines         []string // those that have scrolled out, too
	cursor        int      // line of the cursor
}

func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	if rest, ok := strings.CutPrefix(text, "\r\x1b["); ok {
		var up int
		_, err := fmt.Sscanf(rest, "%dA\x1b[J", &up)
		if err != nil {
			return 0, err
		}
		top := max(0, len(s.lines)-s.rows+1) // first line on the screen
		s.cursor = max(top, s.cursor-up)
		s.lines = s.lines[:s.cursor]
		_, text, _ = strings.Cut(rest, "\x1b[J")
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		for len(line) > s.columns {
			s.lines, line = append(s.lines, line[:s.columns]), line[s.columns:]
		}
		s.lines = append(s.lines, line)
	}
	s.cursor = len(s.lines)
	return len(p), nil
}

func TestFrame_ReplacesTheTextBefore(t *testing.T) {
	for name, c := range map[string]struct {
		texts []string
		want  []string // lines of the terminal, with those that have scrolled out
	}{
		"one text":                       {[]string{"a\nb\n"}, []string{"$ plinth", "a", "b"}},
		"a shorter one":                  {[]string{"a\nb\nc\n", "d\n"}, []string{"$ plinth", "d"}},
		"a longer one":                   {[]string{"a\n", "b\nc\nd\n"}, []string{"$ plinth", "b", "c", "d"}},
		"three":                          {[]string{"a\n", "b\nc\n", "d\n"}, []string{"$ plinth", "d"}},
		"empty lines":                    {[]string{"a\n\nb\n", "c\n"}, []string{"$ plinth", "c"}},
		"a line that the terminal wraps": {[]string{"0123456789abc\nd\n", "e\n"}, []string{"$ plinth", "e"}},
		"a line as wide as the terminal": {[]string{"0123456789\nd\n", "e\n"}, []string{"$ plinth", "e"}},
		"more rows than the terminal":    {[]string{"1\n2\n3\n4\n5\n6\n", "a\nb\n"}, []string{"$ plinth", "1", "2", "a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &screen{columns: 10, rows: 5, lines: []string{"$ plinth"}, cursor: 1}
			f := Frame{Out: s, Size: func() (int, int) { return s.columns, s.rows }}
			for _, text := range c.texts {
				testkit.Must(t, f.Draw(text))
			}
			if got := strings.Join(s.lines, "|"); got != strings.Join(c.want, "|") {
				t.Errorf("%s, want %s", got, strings.Join(c.want, "|"))
			}
		})
	}
}

func TestFrame_OfUnknownSizeCountsLines(t *testing.T) {
	var out strings.Builder
	f := Frame{Out: &out, Size: func() (int, int) { return 0, 0 }}
	testkit.Must(t, f.Draw("a\nb\n"), f.Draw("c\n"))
	if want := "a\nb\n\r\x1b[2A\x1b[Jc\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestFrame_ReturnsTheErrorOfWriting(t *testing.T) {
	f := Frame{Out: &brokenWriter{}, Size: func() (int, int) { return 0, 0 }}
	if f.Draw("a\n") == nil {
		t.Error("no error")
	}
}
