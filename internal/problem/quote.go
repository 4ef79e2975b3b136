package problem

import "strings"

// plainLetters are those that a POSIX shell takes as they are.
const plainLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@%+,"

// QuoteWord returns word quoted for a POSIX shell, if it needs quotes: for commands in hints.
func QuoteWord(word string) string {
	if word != "" && strings.Trim(word, plainLetters) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
