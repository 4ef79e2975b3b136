// Package teach owns what the command line says of itself: the help of every
// command, kept as text files, the meaning of the exit codes, and which word
// was probably meant. It refuses to know what a command does with its flags.
package teach

import (
	"embed"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/problem"
)

// helpTexts holds one file a command: its first line is the summary, the text
// up to "Exit codes:" what the command does, then the codes, then examples.
//
//go:embed help/*.txt
var helpTexts embed.FS

// codes is where a command's annotations keep its exit codes.
const codes = "exit codes"

// Tree gives cmd and all below it their help.
func Tree(cmd *cobra.Command) {
	text, err := helpTexts.ReadFile("help/" + strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".txt")
	if err != nil {
		panic(err) // a command without help is a bug that every test meets
	}
	short, rest, _ := strings.Cut(string(text), "\n\n")
	long, rest, _ := strings.Cut(rest, "\n\nExit codes: ")
	exits, examples, _ := strings.Cut(rest, "\n\nExamples:\n")
	cmd.Short, cmd.Long, cmd.Example = short, long, strings.TrimRight(examples, "\n")
	cmd.Annotations = map[string]string{codes: exits}
	cmd.InitDefaultHelpFlag()
	cmd.Flags().Lookup("help").Hidden = true // every command has it
	for _, c := range cmd.Commands() {
		Tree(c)
	}
}

// Write prints all that is to be known of a command.
func Write(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, "%s\n\n  %s\n\n%s\n", cmd.Short, cmd.UseLine(), cmd.Long)
	if cmd.HasAvailableSubCommands() {
		fmt.Fprint(w, "\nCommands:\n", commandList(cmd))
	}
	fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	if f := cmd.LocalNonPersistentFlags(); f.HasAvailableFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", f.FlagUsages())
	}
	global := cmd.InheritedFlags()
	if !cmd.HasParent() {
		global = cmd.PersistentFlags()
	}
	if global.HasAvailableFlags() {
		fmt.Fprintf(w, "\nGlobal flags:\n%s", global.FlagUsages())
	}
	fmt.Fprint(w, "\nExit codes:\n", exitList(cmd))
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\n\"plinth help %sCOMMAND\" explains a command.\n", below(cmd))
	}
}

// below is cmd's path below plinth, with a space behind: "bundle ".
func below(cmd *cobra.Command) string {
	_, path, found := strings.Cut(cmd.CommandPath()+" ", " ")
	if !found {
		return ""
	}
	return path
}

func commandList(cmd *cobra.Command) string {
	var b strings.Builder
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(&b, "  %-*s  %s\n", cmd.NamePadding(), c.Name(), c.Short)
		}
	}
	return b.String()
}

func exitList(cmd *cobra.Command) string {
	var b strings.Builder
	for word := range strings.FieldsSeq(cmd.Annotations[codes]) {
		code, _ := strconv.Atoi(word) // a word that is none shows as an unknown code
		fmt.Fprintf(&b, "  %3d  %s\n", code, exitMeaning(code))
	}
	return b.String()
}

// exitMeaning says what an exit code of the public contract means.
func exitMeaning(code int) string {
	switch code {
	case problem.ExitOK:
		return "done, or nothing to do"
	case problem.ExitInternal:
		return "unexpected internal error"
	case problem.ExitUsage:
		return "usage: unknown flag, missing argument, needs root, or needs a flag in place of a prompt; nothing was changed"
	case problem.ExitConfig:
		return "invalid Installer, Application or config file; nothing was changed"
	case problem.ExitGate:
		return "this version of the admin console is not compatible with the application; nothing was changed"
	case problem.ExitPreflight:
		return "host preflights failed; nothing was changed"
	case problem.ExitBundle:
		return "the bundle is missing or damaged; nothing was changed"
	case problem.ExitStep:
		return "a step failed; the same command resumes it"
	case problem.ExitLocked:
		return "another run holds the lock; nothing was changed"
	case problem.ExitJoin:
		return "join refused: the token does not count, or this host does not fit the cluster; nothing was changed"
	case problem.ExitLeftover:
		return "the reset finished, but something is left; it is listed"
	case problem.ExitInterrupted:
		return "interrupted"
	default:
		return "unknown"
	}
}
