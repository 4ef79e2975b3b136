package ui

import (
	"regexp"
	"strings"

	"github.com/mattn/go-runewidth"
)

// commandStart matches the beginning of a shell command. A command is not wrapped: users copy it.
var commandStart = regexp.MustCompile("^[`(]?(?:sudo|echo|curl|systemctl|journalctl|(?:plinth|\\.{0,2}/\\S+) (?:-\\S+|" + CommandPattern(RootCommands, UserCommands) + ")) ")

// Wrap returns text with the lines that are longer than width columns broken between words. A line
// that continues another is indented like its last column: behind the last gap of two spaces or
// more. From the first word of a shell command on, the rest of a line stays in one piece. A width
// of 0 breaks nothing.
func Wrap(text string, width int) string {
	if width <= 0 {
		return text
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		body, newline := strings.CutSuffix(line, "\n")
		out.WriteString(wrapLine(body, width))
		if newline {
			out.WriteByte('\n')
		}
	}
	return out.String()
}

// wrapLine returns line, broken between words at width columns.
func wrapLine(line string, width int) string {
	if runewidth.StringWidth(line) <= width {
		return line
	}
	indent := strings.Repeat(" ", hangingIndent(line, width*2/3))
	var out strings.Builder
	start := len(line) - len(strings.TrimLeft(line, " "))
	out.WriteString(line[:start])
	used := start
	for rest := line[start:]; rest != ""; {
		word := rest
		gap := ""
		if i := strings.IndexByte(rest, ' '); i >= 0 && !commandStart.MatchString(rest+" ") {
			word = rest[:i]
			gap = rest[i : len(rest)-len(strings.TrimLeft(rest[i:], " "))]
		}
		rest = rest[len(word)+len(gap):]
		size := runewidth.StringWidth(word)
		if used+size > width && used > len(indent) && used > start {
			trimmed := strings.TrimRight(out.String(), " ")
			out.Reset()
			out.WriteString(trimmed + "\n" + indent)
			used = len(indent)
		}
		out.WriteString(word + gap)
		used += size + len(gap)
	}
	return strings.TrimRight(out.String(), " ")
}

// hangingIndent returns the column of the text behind the last gap of two spaces or more before the
// column limit.
func hangingIndent(line string, limit int) int {
	at := len(line) - len(strings.TrimLeft(line, " "))
	for i := at; i+2 < len(line) && i+2 <= limit; i++ {
		if line[i] == ' ' && line[i+1] == ' ' && line[i+2] != ' ' {
			at = i + 2
		}
	}
	if at > limit {
		return 2
	}
	return at
}
