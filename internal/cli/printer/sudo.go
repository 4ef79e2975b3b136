package printer

import (
	"regexp"
	"strings"

	"github.com/plinthdev/plinth/internal/ui"
)

// rootCommand matches a command that needs root, with the character or the sudo before it.
var rootCommand = regexp.MustCompile("(?m)(sudo |^|[\\s`('\"])((?:\\./|/usr/local/bin/)?plinth (?:-\\S+ (?:/\\S+ )?)*(?:" + ui.RootCommands + ")\\b)")

// AddSudo returns text with sudo before each plinth command in it that needs root.
func AddSudo(text string) string {
	return rootCommand.ReplaceAllStringFunc(text, func(found string) string {
		parts := rootCommand.FindStringSubmatch(found)
		return strings.TrimSuffix(parts[1], "sudo ") + "sudo " + parts[2]
	})
}
