package problem

import (
	"os/exec"
	"testing"
)

func TestQuoteWord_IsOneWordOnOneLine(t *testing.T) {
	for word, want := range map[string]string{
		"/mnt/backup":       "/mnt/backup",
		"":                  "''",
		"a b":               "'a b'",
		"it's":              `'it'\''s'`,
		"a\nb":              `$'a\012b'`,
		"it's a\ttab\\\x1b": `$'it\'s a\011tab\\\033'`,
		"ä\u0085":           `$'ä\302\205'`,
	} {
		t.Run(word, func(t *testing.T) {
			got := QuoteWord(word)
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
			out, err := exec.Command("bash", "-c", "printf %s "+got).Output()
			if err != nil || string(out) != word {
				t.Errorf("the shell reads %q, %v", out, err)
			}
		})
	}
}
