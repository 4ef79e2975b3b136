package problem

import (
	"fmt"
	"strings"
	"unicode"
)

// plainLetters are those that a POSIX shell takes as they are.
const plainLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,"

// QuoteWord returns word quoted for a POSIX shell, if it needs quotes: for commands in hints. A command stays on one line: a
// control character is written in the quotes $'…' of POSIX.1-2024.
func QuoteWord(word string) string {
	if word != "" && strings.Trim(word, plainLetters) == "" {
		return word
	}
	if strings.ContainsFunc(word, unicode.IsControl) {
		return "$'" + escapeControls(word) + "'"
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// escapeControls returns word for the quotes $'…'.
func escapeControls(word string) string {
	var b strings.Builder
	for _, r := range word {
		switch {
		case r == '\'' || r == '\\':
			b.WriteString(`\` + string(r))
		case unicode.IsControl(r):
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, `\%03o`, c)
			}
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
