package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
)

// Frame draws a text on a terminal, each time in place of the text before.
type Frame struct {
	Out  io.Writer
	Size func() (columns, rows int) // of the terminal now; 0 if unknown

	rows int // that the text takes on the terminal
}

// Draw replaces the text that was drawn before with text, which ends with a newline. Of a text with more rows than the
// terminal, the first ones scroll out as usual: they can be read there, and are not erased by the next one.
func (f *Frame) Draw(text string) error {
	columns, rows := f.Size()
	up := f.rows
	if rows > 0 {
		up = min(up, rows-1)
	}
	erase := "" // cursor up and erase to the end of the screen, ECMA-48 §8.3.22 and §8.3.39
	if up > 0 {
		erase = fmt.Sprintf("\r\x1b[%dA\x1b[J", up)
	}
	f.rows = 0
	for line := range strings.Lines(text) {
		f.rows++
		if columns > 0 {
			f.rows += max(0, runewidth.StringWidth(strings.TrimSuffix(line, "\n"))-1) / columns
		}
	}
	_, err := io.WriteString(f.Out, erase+text)
	return err
}
