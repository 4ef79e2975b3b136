package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// CleanText returns s for a terminal. A name in a bundle or a file, or the output of a program, could
// hold characters that move the cursor, change the title or reorder the text. Each character that is
// not graphic, such as an escape, a bidirectional override or a zero-width space, becomes visible as
// \u{1b}, and each byte that is not UTF-8 as \x{9b}. Newline and tab stay.
func CleanText(s string) string { return escapeRunes(s, "\n\t", visibleEscape) }

// CleanLine is CleanText for a value within a line or a table: newline and tab become visible too, so
// that the value cannot look like a line or a column of Plinth's own.
func CleanLine(s string) string { return escapeRunes(s, "", visibleEscape) }

// WriteJSON writes v as one line of JSON. Characters that CleanText makes visible are escaped as
// \u001b; a program that parses the line gets them unchanged.
func WriteJSON(w io.Writer, v any) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := io.WriteString(w, escapeRunes(line.String(), "\n", jsonEscape))
	return err
}

// escapeRunes replaces each character of s that is neither graphic nor in keep with what escape returns
// for it; raw are its bytes in s.
func escapeRunes(s, keep string, escape func(r rune, raw string) string) string {
	var out strings.Builder
	for i, size := 0, 0; i < len(s); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(s[i:])
		raw := s[i : i+size]
		if isInvalid(r, raw) || !unicode.IsGraphic(r) && !strings.ContainsRune(keep, r) {
			raw = escape(r, raw)
		}
		out.WriteString(raw)
	}
	return out.String()
}

// isInvalid reports whether r was decoded from a byte that is not UTF-8.
func isInvalid(r rune, raw string) bool { return r == utf8.RuneError && len(raw) == 1 }

// visibleEscape returns the form of r in text.
func visibleEscape(r rune, raw string) string {
	if isInvalid(r, raw) {
		return fmt.Sprintf(`\x{%02x}`, raw[0])
	}
	return fmt.Sprintf(`\u{%x}`, r)
}

// jsonEscape returns the form of r in a JSON string (RFC 8259, section 7).
func jsonEscape(r rune, _ string) string {
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	return fmt.Sprintf(`\u%04x`, r)
}
