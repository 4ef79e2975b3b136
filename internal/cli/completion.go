package cli

import (
	"fmt"
	"io"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/problem"
)

func (s commandSet) completionCommand() *cobra.Command {
	cmd := s.NewCommand("completion bash|zsh|fish", exactlyOne("SHELL: bash, zsh or fish"), nil)
	cmd.ValidArgs = []string{"bash", "zsh", "fish"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		root := cmd.Root()
		root.Use = completionName(s.Name)
		generate, ok := map[string]func(io.Writer) error{
			"bash": func(w io.Writer) error { return writeBashCompletion(w, root) },
			"zsh":  root.GenZshCompletion,
			"fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
		}[args[0]]
		if !ok {
			root.Use = programName
			return newUnknownError("shell", args[0], cmd.ValidArgs)
		}
		s.Parsed = true
		if err := generate(s.Out); err != nil {
			return problem.New(problem.ExitInternal, "write the completion script", err, "")
		}
		return nil
	}
	return cmd
}

// programName is the name of the program in help and hints.
const programName = "plinth"

// completionName returns the name for which a completion script is registered: that by which the
// program was called, if the names of functions and variables of all shells can contain it.
func completionName(calledBy string) string {
	if regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`).MatchString(calledBy) {
		return calledBy
	}
	return programName
}

// bashWords is appended to cobra's script. It replaces the function that needs the package
// bash-completion, which many servers lack: without it, the words of the line are split here. Bash
// splits at "=" and ":", too; those words are joined again.
const bashWords = `
__%[1]s_init_completion()
{
    if declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
        COMPREPLY=()
        _get_comp_words_by_ref "$@" cur prev words cword
        return
    fi
    local i part spaces rest=${COMP_LINE:0:COMP_POINT}
    COMPREPLY=() words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        part=${COMP_WORDS[i]}
        spaces=${rest%%%%[![:space:]]*}
        rest=${rest#"$spaces"}
        if ((i == COMP_CWORD)); then
            part=$rest
        fi
        rest=${rest#"$part"}
        if [[ $i -gt 0 && -z $spaces && ( $part == [=:]* || ${COMP_WORDS[i-1]} == *[=:] ) ]]; then
            words[${#words[@]}-1]+=$part
        else
            words+=("$part")
        fi
    done
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=${words[cword > 0 ? cword - 1 : 0]}
}
`

// writeBashCompletion writes a script that completes the commands of root in bash, with or without
// the package bash-completion.
func writeBashCompletion(w io.Writer, root *cobra.Command) error {
	if err := root.GenBashCompletionV2(w, true); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, bashWords, root.Name())
	return err
}
