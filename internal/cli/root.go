// Package cli is the command line of plinth: it maps commands and flags to
// requests of the application and prints the results.
package cli

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/plinthdev/plinth/internal/cli/session"
	"github.com/plinthdev/plinth/internal/problem"
)

// Process holds what a run uses of the process around it.
type Process = session.Process

// ErrInterrupted is the cause with which to cancel the context of Run when the
// user asks to stop.
var ErrInterrupted = session.ErrInterrupted

// ExitInterrupted is the exit code of a process that is interrupted twice.
const ExitInterrupted = problem.ExitInterrupted

// Run runs one command line and returns the exit code of the public contract.
// Canceling ctx stops safely at the current step.
func Run(ctx context.Context, p Process, args []string) (code int) {
	return session.Run(ctx, p, args, root)
}

// commandSet creates the commands of one Runner.
type commands struct{ *session.Session }

// newRootCommand returns the whole command tree.
func root(s *session.Session) *cobra.Command {
	c := commands{s}
	return s.Root(append(c.tools(),
		c.lint(),
		c.bundle(),
		c.publishCommand(),
		c.preflight(),
		c.install(),
		c.token(),
		c.join(),
		c.agent(),
		c.status(),
		c.console(),
		c.node(),
		c.reset(),
		c.debugCommand(),
		c.version(),
		c.completion(),
	)...)
}

// addOutputFileFlag adds the flag for the file that a command writes.
func addOutputFileFlag(f *pflag.FlagSet, path *string) {
	f.StringVar(path, "output-file", "", "`file` to write; required")
}
