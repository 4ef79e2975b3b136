// Package cli owns the command line: which commands there are, their flags in,
// requests to the application and results out. It refuses to decide anything.
package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/plinthdev/plinth/internal/cli/session"
	"github.com/plinthdev/plinth/internal/problem"
)

// Process is what a run is given by the process that it runs in.
type Process = session.Process

// ErrInterrupted is the cause to cancel Run's context with when the user asks
// to stop.
var ErrInterrupted = session.ErrInterrupted

// ExitInterrupted is the exit code of a process that is interrupted twice.
const ExitInterrupted = problem.ExitInterrupted

// Run runs one command line and returns the exit code of the public contract.
// Cancelling ctx abandons the current step safely.
func Run(ctx context.Context, p Process, args []string) (code int) {
	return session.Run(ctx, p, args, root)
}

// commands makes the commands of a session.
type commands struct{ *session.Session }

// root is the whole command tree.
func root(s *session.Session) *cobra.Command {
	c := commands{s}
	return s.Root(append(c.tools(),
		c.lint(),
		c.bundle(),
		c.seal(),
		c.release(),
		c.preflight(),
		c.install(),
		c.token(),
		c.join(),
		c.agent(),
		c.status(),
		c.console(),
		c.node(),
		c.reset(),
		c.drill(),
		c.version(),
		c.completion(),
	)...)
}
