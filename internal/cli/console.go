package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/app/console"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/app/tool"
	"github.com/plinthdev/plinth/internal/cli/session"
	"github.com/plinthdev/plinth/internal/problem"
)

func (s commands) console() *cobra.Command {
	url := s.Command("url", session.NoArgs, s.With(session.Once, nil,
		func(_ context.Context, r *run.Run, _ []string) (session.Reply, error) {
			url, err := console.URL(r)
			return session.Answer(map[string]string{"url": url}, func(w io.Writer) { fmt.Fprintln(w, url) }).Unless(err)
		}))
	password := s.Command("reset-password", session.NoArgs, s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			password, err := console.ResetPassword(ctx, r)
			return session.Answer(map[string]string{"password": password}, func(w io.Writer) { fmt.Fprintln(w, password) }).Unless(err)
		}))
	return s.Group("console", url, password, s.setCertificate())
}

func (s commands) setCertificate() *cobra.Command {
	var cert, key string
	cmd := s.Command("set-certificate --cert FILE --key FILE", session.Needs(session.NoArgs, "cert", "key"), s.With(session.Once, nil,
		func(ctx context.Context, r *run.Run, _ []string) (session.Reply, error) {
			changed, err := console.SetCertificate(ctx, r, cert, key)
			return session.Answer(map[string]bool{"changed": changed}, func(w io.Writer) {
				what := "Nothing to do: the console already uses this certificate."
				if changed {
					what = "The console uses the new certificate."
				}
				fmt.Fprintln(w, what+"\n\nNext: plinth console url")
			}).Unless(err)
		}))
	cmd.Flags().StringVar(&cert, "cert", "", "certificate `file`, PEM")
	cmd.Flags().StringVar(&key, "key", "", "private key `file` of the certificate, PEM")
	return cmd
}

// toolCommands returns the commands that replace plinth with another program.
// Everything after the name of the program is passed to it unchanged.
func (s commands) tools() []*cobra.Command {
	var all []*cobra.Command
	for use, t := range map[string]tool.Tool{"kubectl ARGUMENT...": tool.Kubectl, "kots ARGUMENT...": tool.Kots, "shell ARGUMENT...": tool.Shell} {
		cmd := s.Command(use, cobra.ArbitraryArgs, s.With(session.Once, nil,
			func(_ context.Context, r *run.Run, args []string) (session.Reply, error) {
				return session.Reply{}, s.become(r, t, args)
			}))
		cmd.DisableFlagParsing = true
		all = append(all, cmd)
	}
	return all
}

// execTool replaces this process with a tool. It returns only if that fails.
func (s commands) become(r *run.Run, t tool.Tool, args []string) error {
	program, err := tool.Command(r, t, args, variable(s.Environ, "SHELL"))
	if err != nil {
		return err
	}
	if err := s.Exec(program.Argv[0], program.Argv, override(s.Environ, program.Env)); err != nil {
		return problem.New(problem.ExitInternal, "run "+program.Argv[0], err, "if the file is missing, run `plinth install` again to restore it")
	}
	return nil
}

// lookupVariable returns the value of an environment variable, "" if it is not set.
func variable(environ []string, key string) string {
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
func override(environ, more []string) []string {
	kept := slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		return slices.ContainsFunc(more, func(m string) bool { return strings.HasPrefix(m, key+"=") })
	})
	return append(kept, more...)
}
