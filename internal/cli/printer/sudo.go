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

// NeedsSudo reports whether a user has to type sudo before a command that needs root: the process
// does not run as root, or sudo started it from the shell of another user. uid is the effective
// user, environ are the variables of the process.
func NeedsSudo(uid int, environ []string) bool {
	for _, v := range environ {
		if by, ok := strings.CutPrefix(v, "SUDO_UID="); ok && by != "0" {
			return true
		}
	}
	return uid != 0
}
