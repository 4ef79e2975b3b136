package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/console"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commandSet) consoleCommand() *cobra.Command {
	url := s.NewCommand("url", noArgs, s.WithEnv(singleDocument, nil,
		func(_ context.Context, env *action.Env, _ []string) (commandOutput, error) {
			url, err := console.URL(env)
			return newOutput(map[string]string{"url": url}, func(w io.Writer) { fmt.Fprintln(w, url) }).OrError(err)
		}))
	password := s.NewCommand("reset-password", noArgs, s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			password, err := console.ResetPassword(ctx, env)
			return newOutput(map[string]string{"password": password}, func(w io.Writer) { fmt.Fprintln(w, password) }).OrError(err)
		}))
	return s.NewGroup("console", url, password, s.setCertificateCommand())
}

func (s commandSet) setCertificateCommand() *cobra.Command {
	var cert, key string
	cmd := s.NewCommand("set-certificate --cert FILE --key FILE", requireFlags(noArgs, "cert", "key"), s.WithEnv(singleDocument, nil,
		func(ctx context.Context, env *action.Env, _ []string) (commandOutput, error) {
			changed, err := console.SetCertificate(ctx, env, cert, key)
			return newOutput(map[string]bool{"changed": changed}, func(w io.Writer) {
				what := "Nothing to do: the console already uses this certificate."
				if changed {
					what = "The console uses the new certificate."
				}
				fmt.Fprintln(w, what+"\n\nNext: plinth console url")
			}).OrError(err)
		}))
	cmd.Flags().StringVar(&cert, "cert", "", "certificate `file`, PEM")
	cmd.Flags().StringVar(&key, "key", "", "private key `file` of the certificate, PEM")
	return cmd
}

// toolCommands returns the commands that replace plinth with another program.
// Everything after the name of the program is passed to it unchanged.
func (s commandSet) toolCommands() []*cobra.Command {
	var all []*cobra.Command
	for use, t := range map[string]console.Tool{"kubectl ARGUMENT...": console.Kubectl, "kots ARGUMENT...": console.Kots, "shell ARGUMENT...": console.Shell} {
		var cmd *cobra.Command
		cmd = s.NewCommand(use, cobra.ArbitraryArgs, s.WithEnv(singleDocument, nil,
			func(_ context.Context, env *action.Env, args []string) (commandOutput, error) {
				err := s.execTool(env, t, args)
				if err != nil && len(args) > 0 && (args[0] == "--help" || args[0] == "-h") { // the tool cannot explain itself here
					err = cmd.Help()
				}
				return commandOutput{}, err
			}))
		cmd.DisableFlagParsing = true
		all = append(all, cmd)
	}
	return all
}

// execTool replaces this process with a tool. It returns only if that fails.
func (s commandSet) execTool(env *action.Env, t console.Tool, args []string) error {
	program, err := console.NewToolCommand(env, t, args, lookupVariable(s.Environ, "SHELL"))
	if err != nil {
		return err
	}
	if err := s.Exec(program.Argv[0], program.Argv, overrideEnviron(s.Environ, program.Env)); err != nil {
		return problem.New(problem.ExitInternal, "run "+program.Argv[0], err, "if the file is missing, run `plinth install` again to restore it")
	}
	return nil
}

// lookupVariable returns the value of an environment variable, "" if it is not set.
func lookupVariable(environ []string, key string) string {
	for _, kv := range environ {
		if value, ok := strings.CutPrefix(kv, key+"="); ok {
			return value
		}
	}
	return ""
}

// overrideEnviron returns environ with the variables in more instead of its
// own values. A variable must occur only once: programs differ on which of two
// values they use.
func overrideEnviron(environ, more []string) []string {
	kept := slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		return slices.ContainsFunc(more, func(m string) bool { return strings.HasPrefix(m, key+"=") })
	})
	return append(kept, more...)
}
