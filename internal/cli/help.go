package cli

import (
	"embed"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/problem"
)

// helpTexts holds one file per command: a summary line, what the command does
// in one or two sentences, "Exit codes:", "Examples:" and "Guide:" with a page
// of the documentation. Long explanations belong on that page: the help of a
// command must fit one screen, 40 lines of 100 columns.
//
//go:embed help/*.txt
var helpTexts embed.FS

// maxHelpColumns is the longest line of a help.
const maxHelpColumns = 100

// Keys of a command's annotations.
const (
	exitCodesKey = "exit codes"
	guideKey     = "guide"
)

// setHelp sets the help of cmd and of all commands below it. It panics if a
// help file is missing, which every test would notice.
func setHelp(cmd *cobra.Command) {
	text, err := helpTexts.ReadFile("help/" + strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".txt")
	if err != nil {
		panic(err)
	}
	short, rest, _ := strings.Cut(string(text), "\n\n")
	long, rest, _ := strings.Cut(rest, "\n\nExit codes: ")
	exits, rest, _ := strings.Cut(rest, "\n\nExamples:\n")
	examples, guide, _ := strings.Cut(rest, "\n\nGuide: ")
	cmd.Short, cmd.Long, cmd.Example = short, long, examples
	cmd.Annotations = map[string]string{exitCodesKey: exits, guideKey: strings.TrimSpace(guide)}
	cmd.InitDefaultHelpFlag()
	cmd.Flags().Lookup("help").Hidden = true // every command has it
	for _, c := range cmd.Commands() {
		setHelp(c)
	}
}

// writeHelp writes the help of cmd to w, for a terminal of width columns; 0 if it is not known.
func writeHelp(w io.Writer, cmd *cobra.Command, width int) {
	use, long, columns := cmd.UseLine(), cmd.Long, maxHelpColumns
	if width > 0 && width < columns {
		long, columns = joinLines(long), width
	}
	switch {
	case cmd.HasAvailableSubCommands() && strings.Contains(cmd.Use, " "): // it also does something itself
		use += " | COMMAND"
	case cmd.HasAvailableSubCommands():
		use += " COMMAND"
	}
	gap := "\n"
	if !cmd.HasParent() { // its list of commands is the longest
		gap = ""
	}
	fmt.Fprintf(w, "%s\n\nUsage: %s\n%s%s\n", cmd.Short, use, gap, long)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nCommands (for more: plinth help %sCOMMAND):\n%s", subcommandPath(cmd), commandList(cmd))
	}
	if cmd.HasParent() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if f := cmd.LocalNonPersistentFlags(); f.HasAvailableFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", f.FlagUsages())
	}
	if cmd.HasParent() {
		fmt.Fprint(w, "\nGlobal flags: -o text|json, --progress, --log-file, --data-dir, --no-color, -v; see: plinth --help\n")
	} else {
		fmt.Fprintf(w, "\nGlobal flags:\n%s", cmd.PersistentFlags().FlagUsages())
	}
	fmt.Fprint(w, exitList(cmd, columns))
	fmt.Fprintf(w, "Guide: %s\n", cmd.Annotations[guideKey])
}

// joinLines returns text with each paragraph in one line, so that it can be broken at another width.
func joinLines(text string) string {
	const paragraph = "\n\n"
	all := strings.Split(text, paragraph)
	for i := range all {
		all[i] = strings.ReplaceAll(all[i], "\n", " ")
	}
	return strings.Join(all, paragraph)
}

// subcommandPath returns the path of cmd without "plinth" and with a trailing
// space, such as "bundle ".
func subcommandPath(cmd *cobra.Command) string {
	_, path, found := strings.Cut(cmd.CommandPath()+" ", " ")
	if !found {
		return ""
	}
	return path
}

// commandList returns one line per visible subcommand of cmd. It leaves out
// "help", which the line above the list names.
func commandList(cmd *cobra.Command) string {
	var b strings.Builder
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			fmt.Fprintf(&b, "  %-*s  %s\n", c.NamePadding(), c.Name(), c.Short)
		}
	}
	return b.String()
}

// exitList returns the exit codes of cmd with their short meanings, as lines
// of at most columns.
func exitList(cmd *cobra.Command, columns int) string {
	line := "Exit codes:"
	var b strings.Builder
	for i, word := range strings.Fields(cmd.Annotations[exitCodesKey]) {
		code, _ := strconv.Atoi(word) // anything else is shown as an unknown code
		short, _ := describeExitCode(code)
		entry := " " + strconv.Itoa(code) + " " + short
		if i > 0 {
			line += ","
		}
		if len(line)+len(entry) > columns-1 { // the comma that may follow
			b.WriteString(line + "\n")
			line = " "
		}
		line += entry
	}
	b.WriteString(line + "\n")
	return b.String()
}

// writeExitCodes writes the meaning of every exit code of the public contract
// to w as a Markdown table.
func writeExitCodes(w io.Writer) {
	fmt.Fprint(w, "| code | meaning |\n|---|---|\n")
	for code := range problem.ExitInterrupted + 1 {
		if _, meaning := describeExitCode(code); meaning != "" {
			fmt.Fprintf(w, "| %d | %s |\n", code, meaning)
		}
	}
}

// describeExitCode returns what an exit code of the public contract means, in
// two or three words and as a sentence. The sentence is empty for other codes.
func describeExitCode(code int) (short, meaning string) {
	switch code {
	case problem.ExitOK:
		return "done", "Done, or nothing to do."
	case problem.ExitInternal:
		return "internal error", "Unexpected internal error; the message says what was changed."
	case problem.ExitUsage:
		return "usage error", "Unknown flag, missing argument, root required, a flag required in place of a prompt, a prompt answered with no, or an unusable data folder. Nothing was changed."
	case problem.ExitConfig:
		return "invalid file", "Invalid Installer, Application or other input file. Nothing was changed."
	case problem.ExitGate:
		return "KOTS version gate", "This version of the admin console is not compatible with the application. Nothing was changed."
	case problem.ExitPreflight:
		return "preflights failed", "Host preflights failed or, with --existing-cluster, a check of the cluster or the registry. Nothing was changed."
	case problem.ExitBundle:
		return "unusable bundle", "The bundle or backup is missing, damaged, unsigned, or signed or encrypted with another key. Nothing was changed."
	case problem.ExitStep:
		return "step failed", "A step failed. The same command resumes it."
	case problem.ExitLocked:
		return "locked", "Another command holds the lock. Nothing was changed."
	case problem.ExitJoin:
		return "join refused", "The token is not valid, or this host does not match the cluster. Nothing was changed."
	case problem.ExitLeftover:
		return "leftovers", "The reset finished, but it could not remove everything. It lists what is left."
	case problem.ExitInterrupted:
		return "interrupted", "Interrupted; the message says how to resume."
	default:
		return "unknown", ""
	}
}
