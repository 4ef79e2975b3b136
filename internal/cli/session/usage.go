package session

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/plinthdev/plinth/internal/cli/answer"
	"github.com/plinthdev/plinth/internal/cli/teach"
	"github.com/plinthdev/plinth/internal/problem"
)

// NoArgs refuses any argument. One that looks like a bundle was meant to be one.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unexpected argument %q", args[0])
	if cmd.Flags().Lookup("bundle") != nil && strings.HasSuffix(args[0], ".bundle") {
		return &meant{err, "--bundle " + answer.Quote(args[0])}
	}
	return err
}

// meant is an error of somebody who meant something that there is.
type meant struct {
	error
	near string
}

// Exactly wants one argument; what names it: "a bundle".
func Exactly(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fmt.Errorf("unexpected argument %q", args[1])
		}
		return AtLeast(what)(cmd, args)
	}
}

// Pair wants two arguments; what names them.
func Pair(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < 2:
			return errors.New(what + " are wanted")
		case len(args) > 2:
			return fmt.Errorf("unexpected argument %q", args[2])
		}
		return nil
	}
}

// AtLeast wants one argument or more.
func AtLeast(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return errors.New(what + " is missing")
		}
		return nil
	}
}

// AtMostOne takes one argument or none.
func AtMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("unexpected argument %q", args[1])
	}
	return nil
}

// filled refuses flags with an empty value, as an unset variable of a shell leaves
// them: without its key a bundle would count as asked for unproved.
func filled(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		var empty []string
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if f.Value.Type() == "string" && f.Value.String() == "" {
				empty = append(empty, f.Name)
			}
		})
		if len(empty) > 0 {
			return flagsAre(empty, "empty")
		}
		return args(cmd, given)
	}
}

// flagsAre says what is wrong with some flags.
func flagsAre(names []string, what string) error {
	if len(names) == 1 {
		return fmt.Errorf("the flag --%s is %s", names[0], what)
	}
	return fmt.Errorf("the flags --%s are %s", strings.Join(names, " and --"), what)
}

// Needs wants flags to be set as well.
func Needs(args cobra.PositionalArgs, flags ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		var missing []string
		for _, name := range flags {
			if cmd.Flag(name).Value.String() == "" {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			return flagsAre(missing, "missing")
		}
		return args(cmd, given)
	}
}

// noSuchCommand refuses words that are no command of cmd.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if word := otherWords()[args[0]]; word != "" && !cmd.HasParent() {
		return &unknownError{what: "command", name: args[0], near: word}
	}
	return Unknown("command", args[0], names(cmd))
}

// otherWords are what other tools call what a command does.
func otherWords() map[string]string {
	const reset = "plinth reset cluster"
	return map[string]string{"uninstall": reset, "remove": reset, "delete": reset, "destroy": reset, "teardown": reset,
		"leave": "plinth reset node", "init": "plinth install", "up": "plinth install", "check": "plinth preflight", "validate": "plinth lint", "password": "plinth console reset-password"}
}

// Unknown says that name is none of words; what says what they are: "shell".
func Unknown(what, name string, words []string) error {
	return &unknownError{what: what, name: name, near: teach.Nearest(name, words)}
}

// unknownError is a word that means nothing here.
type unknownError struct{ what, name, near string }

func (e *unknownError) Error() string { return fmt.Sprintf("unknown %s %q", e.what, e.name) }

// usage makes a problem of what cobra says of a command line.
func usage(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	hint := "see: " + cmd.CommandPath() + " --help"
	var flag *pflag.NotExistError
	if errors.As(err, &flag) {
		dashes := "--"
		if flag.GetSpecifiedShortnames() != "" {
			dashes = "-"
		}
		near := teach.Nearest(flag.GetSpecifiedName(), flagNames(cmd))
		if near != "" {
			near = "--" + near
		}
		err = &unknownError{what: "flag", name: dashes + flag.GetSpecifiedName(), near: near}
	}
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		err = wrongValue(value)
	}
	var other *meant
	if errors.As(err, &other) {
		hint = fmt.Sprintf("did you mean %s?\n%s", other.near, hint)
	}
	var unknown *unknownError
	if errors.As(err, &unknown) && unknown.near != "" {
		hint = fmt.Sprintf("did you mean %s?\n%s", unknown.near, hint)
	}
	return problem.New(problem.ExitUsage, "understand the command line", err, hint)
}

// wrongValue says what a flag takes, in place of what Go's parsers say.
func wrongValue(e *pflag.InvalidValueError) error {
	takes := map[string]string{"bool": "true or false", "duration": "a time such as 90s, 30m or 24h", "int": "a whole number", "int64": "a whole number"}
	if want := takes[e.GetFlag().Value.Type()]; want != "" {
		return fmt.Errorf("--%s takes %s, not %q", e.GetFlag().Name, want, e.GetValue())
	}
	return e
}

func flagNames(cmd *cobra.Command) []string {
	var all []string
	cmd.InheritedFlags() // merges the parents' flags into cmd's
	cmd.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	return all
}

// formatOf finds out which form of answer a command line that was not
// understood asked for.
func formatOf(cmd *cobra.Command, args []string) format {
	if f := cmd.Flags().Lookup("output"); f != nil {
		if _, ours := f.Value.(choices); !ours {
			return formatText
		}
	}
	for i, a := range args {
		switch {
		case a == "--":
			return formatText
		case a == "--output=json", a == "-ojson", a == "-o=json",
			(a == "-o" || a == "--output") && i+1 < len(args) && args[i+1] == "json":
			return formatJSON
		}
	}
	return formatText
}
