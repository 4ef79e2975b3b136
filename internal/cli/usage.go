package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/plinthdev/plinth/internal/cli/printer"
	"github.com/plinthdev/plinth/internal/problem"
)

// noArgs rejects any argument. For an argument that looks like a bundle it
// suggests --bundle.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unexpected argument %q", args[0])
	if cmd.Flags().Lookup("bundle") != nil && strings.HasSuffix(args[0], ".bundle") {
		return &suggestionError{err, "--bundle " + printer.QuoteShellWord(args[0])}
	}
	return err
}

// suggestionError is an error with what the user probably wanted to type.
type suggestionError struct {
	error
	suggestion string
}

// exactlyOne requires one argument; what is its name in the usage line, such
// as BUNDLE.
func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fmt.Errorf("unexpected argument %q", args[1])
		}
		return atLeastOne(what)(cmd, args)
	}
}

// exactlyTwo requires two arguments; first and second are their names in the
// usage line, such as OLD and NEW.
func exactlyTwo(first, second string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return errors.New("missing arguments " + first + " and " + second)
		case len(args) == 1:
			return errors.New("missing argument " + second)
		case len(args) > 2:
			return fmt.Errorf("unexpected argument %q", args[2])
		}
		return nil
	}
}

// atLeastOne requires one argument or more; what is its name in the usage line.
func atLeastOne(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return errors.New("missing argument " + what)
		}
		return nil
	}
}

// atMostOne allows one argument or none.
func atMostOne(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("unexpected argument %q", args[1])
	}
	return nil
}

// rejectEmptyFlags returns args with an additional check: a flag that was set
// must not be empty, as after the expansion of an unset shell variable. With an
// empty --verify-key, for example, the bundle would not be verified.
func rejectEmptyFlags(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		var empty []string
		cmd.Flags().Visit(func(f *pflag.Flag) {
			if f.Value.Type() == "string" && f.Value.String() == "" {
				empty = append(empty, f.Name)
			}
		})
		if len(empty) > 0 {
			return flagsError(empty, "empty")
		}
		return args(cmd, given)
	}
}

// onlySubcommands returns args with an additional check before: an argument of a command that has
// subcommands is meant to be one of them.
func onlySubcommands(args cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := rejectUnknownCommand(cmd, given); err != nil {
			return err
		}
		return args(cmd, given)
	}
}

// flagsError returns an error that says which flags are in the given state:
// "empty" or "missing".
func flagsError(names []string, state string) error {
	if len(names) == 1 {
		return fmt.Errorf("flag --%s is %s", names[0], state)
	}
	return fmt.Errorf("flags --%s are %s", strings.Join(names, " and --"), state)
}

// flagValuesKey is the key of a flag's annotation with the words that it accepts.
const flagValuesKey = "values"

// requireFlags returns args with an additional check: flags must be set.
func requireFlags(args cobra.PositionalArgs, flags ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		var missing []string
		for _, name := range flags {
			if f := cmd.Flag(name); f.Value.String() == "" || !f.Changed {
				missing = append(missing, name)
			}
		}
		if len(missing) == 1 && cmd.Flag(missing[0]).Annotations[flagValuesKey] != nil {
			values := cmd.Flag(missing[0]).Annotations[flagValuesKey]
			return &suggestionError{flagsError(missing, "missing"), "--" + missing[0] + " " + strings.Join(values, " or --"+missing[0]+" ")}
		}
		if len(missing) > 0 {
			return flagsError(missing, "missing")
		}
		return args(cmd, given)
	}
}

// rejectUnknownCommand returns an error if args begin with a word that is not a
// subcommand of cmd.
func rejectUnknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasParent() {
		if word := commandSynonyms()[args[0]]; word != "" {
			return &unknownError{kind: "command", name: args[0], suggestion: word}
		}
		if hint := missingCommands()[args[0]]; hint != "" {
			return &missingCommandError{name: args[0], hint: hint}
		}
	}
	return newUnknownError("command", args[0], subcommandNames(cmd))
}

// unknownCommandFirst returns the error about an unknown command that args begin with, or err. The
// flags of such a command are unknown too, and would be reported in its place.
func unknownCommandFirst(cmd *cobra.Command, args []string, err error) error {
	var flag *pflag.NotExistError
	if cmd.HasParent() || !errors.As(err, &flag) || len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return err
	}
	if found, _, findErr := cmd.Find(args[:1]); findErr == nil && found != cmd {
		return err
	}
	return rejectUnknownCommand(cmd, args)
}

// commandSynonyms returns the commands for words that other tools use for the
// same operation.
func commandSynonyms() map[string]string {
	const reset, status = "plinth reset cluster", "plinth status"
	return map[string]string{"uninstall": reset, "remove": reset, "delete": reset, "destroy": reset, "teardown": reset,
		"leave": "plinth reset node", "init": "plinth install", "up": "plinth install", "update": "plinth upgrade", "check": "plinth preflight", "validate": "plinth lint", "password": "plinth console reset-password",
		"stat": status, "state": status, "info": status, "health": status, "ps": status}
}

// missingCommands returns what to do instead of each command that does not exist, and that users
// try or the documentation announces.
func missingCommands() map[string]string {
	const logs = "run: plinth status\nthe logs of Plinth are in /var/log/plinth, those of k0s in: journalctl -u k0scontroller"
	return map[string]string{"logs": logs, "log": logs}
}

// missingCommandError is the error for a command of missingCommands.
type missingCommandError struct{ name, hint string }

func (e *missingCommandError) Error() string { return fmt.Sprintf("there is no command %q", e.name) }

// newUnknownError returns an error that name is not one of words, with the
// nearest of them as a suggestion. what says what the words are, such as "shell".
func newUnknownError(what, name string, words []string) error {
	return &unknownError{kind: what, name: name, suggestion: problem.Nearest(name, words)}
}

// unknownError is the error for an unknown command, flag or argument.
type unknownError struct{ kind, name, suggestion string }

func (e *unknownError) Error() string { return fmt.Sprintf("unknown %s %q", e.kind, e.name) }

// usageError returns err, an error of cobra or of a check of the arguments, as
// a problem with exit code 2 and a hint.
func usageError(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	if words := cmd.Flags().Args(); cmd.Name() == "help" && len(words) > 0 { // the list of commands in which the word is missing
		if group, _, findErr := cmd.Root().Find(words); findErr == nil {
			cmd = group
		}
	}
	hint := "see: " + cmd.CommandPath() + " --help"
	var flag *pflag.NotExistError
	if errors.As(err, &flag) {
		dashes := "--"
		if flag.GetSpecifiedShortnames() != "" {
			dashes = "-"
		}
		near := problem.Nearest(flag.GetSpecifiedName(), flagNames(cmd))
		if near != "" {
			near = "--" + near
		}
		err = &unknownError{kind: "flag", name: dashes + flag.GetSpecifiedName(), suggestion: near}
	}
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		err = flagValueError(value)
	}
	err = exclusiveFlagsError(err)
	var other *suggestionError
	if errors.As(err, &other) {
		hint = fmt.Sprintf("did you mean %s?\n%s", other.suggestion, hint)
	}
	var missing *missingCommandError
	if errors.As(err, &missing) {
		hint = missing.hint + "\n" + hint
	}
	var unknown *unknownError
	if errors.As(err, &unknown) && unknown.suggestion != "" {
		hint = fmt.Sprintf("did you mean %s?\n%s", unknown.suggestion, hint)
	}
	return problem.New(problem.ExitUsage, "parse the command line", err, hint)
}

// flagValueError returns an error that says which values the flag accepts,
// instead of the message of Go's parsers.
func flagValueError(e *pflag.InvalidValueError) error {
	takes := map[string]string{"bool": "true or false", "duration": "a duration such as 90s, 30m or 24h", "int": "a whole number", "int64": "a whole number"}
	if want := takes[e.GetFlag().Value.Type()]; want != "" {
		return fmt.Errorf("--%s must be %s, not %q", e.GetFlag().Name, want, e.GetValue())
	}
	if cause := e.Unwrap(); cause != nil && strings.HasPrefix(cause.Error(), "must be ") {
		return fmt.Errorf("--%s %w, not %q", e.GetFlag().Name, cause, e.GetValue())
	}
	return e
}

// exclusiveFlags matches cobra's error about flags that exclude each other (cobra 1.10, flag_groups.go), of which cobra has no
// type.
var exclusiveFlags = regexp.MustCompile(`^if any flags in the group \[.*\] are set none of the others can be; \[(.*)\] were all set$`)

// exclusiveFlagsError returns an error that names the flags that exclude each other, if err is cobra's error about them, or
// err.
func exclusiveFlagsError(err error) error {
	found := exclusiveFlags.FindStringSubmatch(err.Error())
	if found == nil {
		return err
	}
	names := strings.Fields(found[1])
	last := len(names) - 1
	return fmt.Errorf("--%s and --%s exclude each other", strings.Join(names[:last], ", --"), names[last])
}

// flagNames returns the names of all flags of cmd, inherited ones included.
func flagNames(cmd *cobra.Command) []string {
	var all []string
	cmd.InheritedFlags() // merges the parents' flags into cmd's
	cmd.Flags().VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	return all
}

// requestedFormat returns the output format that args request. It is for a
// command line that could not be parsed, so its error has the right format too.
func requestedFormat(args []string) outputFormat {
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
