package printer

import (
	"regexp"
	"strings"

	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/ui"
)

// rootCommand matches a command that needs root, with the character or the sudo before it.
var rootCommand = regexp.MustCompile("(?m)(sudo (?:-E )?|^|[\\s`('\"])((?:\\./|/usr/local/bin/)?plinth (?:-\\S+ (?:/\\S+ )?)*" + ui.CommandPattern(ui.RootCommands) + "\\b)")

// AddSudo returns text with sudo before each plinth command in it that needs root. An install in an existing cluster needs
// none. storeFromEnvironment means that the environment says how an object store is reached: a command for one keeps it.
func AddSudo(text string, storeFromEnvironment bool) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		sudo := "sudo "
		if storeFromEnvironment && strings.Contains(line, objectstore.Scheme) {
			sudo = "sudo -E "
		}
		if !strings.Contains(line, "--existing-cluster") {
			line = rootCommand.ReplaceAllStringFunc(line, func(found string) string {
				parts := rootCommand.FindStringSubmatch(found)
				if strings.HasPrefix(parts[1], "sudo ") {
					parts[1] = ""
				}
				return parts[1] + sudo + parts[2]
			})
		}
		b.WriteString(line)
	}
	return b.String()
}

// command matches a plinth command with the character before it. "see: plinth --help" is one too.
var command = regexp.MustCompile("(?m)(^|[\\s`('\"])plinth( (?:-\\S+ (?:/\\S+ )?)*(?:--help|" + ui.CommandPattern(ui.RootCommands, ui.UserCommands) + ")\\b)")

// elsewhere matches the part of a line that says that a command is for another host, on which
// plinth is on the PATH. The commands "node" and "token" are for such a host, too.
var elsewhere = regexp.MustCompile(`(?i)\bon (a|each|another|the other)\b|\(on |\bthere: |^ *(sudo )?plinth (node|token) `)

// NameProgram returns text in which the plinth commands for this host begin with name.
func NameProgram(text, name string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !elsewhere.MatchString(line) {
			line = command.ReplaceAllStringFunc(line, func(found string) string {
				parts := command.FindStringSubmatch(found)
				return parts[1] + QuoteShellWord(name) + parts[2]
			})
		}
		b.WriteString(line)
	}
	return b.String()
}
