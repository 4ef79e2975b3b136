package ui

import (
	"strings"
	"testing"
)

func TestWrap_BreaksLinesBetweenWords(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		width int
		want  string
	}{
		"short":               {"two words\n", 40, "two words\n"},
		"unknown width":       {strings.Repeat("word ", 40), 0, strings.Repeat("word ", 40)},
		"a long line":         {"cannot install: this host has no default route at all\n→ add one", 30, "cannot install: this host has\nno default route at all\n→ add one"},
		"columns":             {"Admin console  https://10.0.0.2:8800 is ready since a minute", 40, "Admin console  https://10.0.0.2:8800 is\n               ready since a minute"},
		"indented":            {"  warn  memory is low: 1 GB, wanted 2 GB", 30, "  warn  memory is low: 1 GB,\n        wanted 2 GB"},
		"a command":           {"→ check whether the cluster is up: plinth status --data-dir /srv/plinth", 40, "→ check whether the cluster is up:\nplinth status --data-dir /srv/plinth"},
		"plinth, a noun":      {"Prints one line that fetches plinth and joins the cluster", 30, "Prints one line that fetches\nplinth and joins the cluster"},
		"only a command":      {"  echo plinth1-abcdefghijklmnopqrstuvwxyz | sudo plinth join -", 40, "  echo plinth1-abcdefghijklmnopqrstuvwxyz | sudo plinth join -"},
		"one long word":       {"sha256:0123456789012345678901234567890123456789", 20, "sha256:0123456789012345678901234567890123456789"},
		"wide characters":     {"日本語 日本語 日本語", 14, "日本語 日本語\n日本語"},
		"a program elsewhere": {"Next: ./my-plinth install --bundle my-app.bundle\n", 20, "Next:\n./my-plinth install --bundle my-app.bundle\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Wrap(c.text, c.width); got != c.want {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}

func FuzzWrap(f *testing.F) {
	f.Add("a line of  some columns\nand: sudo plinth status", 12)
	f.Fuzz(func(t *testing.T, text string, width int) {
		if width > 1<<10 {
			return
		}
		if got := Wrap(text, width); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(text), " ") {
			t.Errorf("words of %q changed: %q", text, got)
		}
	})
}
