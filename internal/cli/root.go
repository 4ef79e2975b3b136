// Package cli is the command line of plinth: it maps commands and flags to
// calls of the packages in internal/action and prints the results.
package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/problem"
)

// ExitInterrupted is the exit code of a process that is interrupted twice.
const ExitInterrupted = problem.ExitInterrupted

// Run runs one command line and returns the exit code of the public contract.
// Canceling ctx stops safely at the current step.
func Run(ctx context.Context, p Process, args []string) (code int) {
	return runCommandLine(ctx, p, args, newRootCommand)
}

// commandSet creates the commands of one runner.
type commandSet struct{ *runner }

// newRootCommand returns the whole command tree.
func newRootCommand(s *runner) *cobra.Command {
	c := commandSet{s}
	return s.NewRoot(append(c.toolCommands(),
		c.lintCommand(),
		c.convertCommand(),
		c.lockCommand(),
		c.addonsCommand(),
		c.bundleCommand(),
		c.publishCommand(),
		c.preflightCommand(),
		c.installCommand(),
		c.tokenCommand(),
		c.joinCommand(),
		c.agentCommand(),
		c.statusCommand(),
		c.diagnoseCommand(),
		c.supportBundleCommand(),
		c.upgradeCommand(),
		c.consoleCommand(),
		c.nodeCommand(),
		c.certificatesCommand(),
		c.backupCommand(),
		c.restoreCommand(),
		c.repairCommand(),
		c.resetCommand(),
		c.debugCommand(),
		c.versionCommand(),
		c.completionCommand(),
	)...)
}

// addOutputFileFlag adds the flag for the file that a command writes.
func addOutputFileFlag(f *pflag.FlagSet, path *string) {
	f.StringVar(path, "output-file", "", "`file` to write; required")
}

// NeedsSudo reports whether a user has to type sudo before a command that needs root: the process
// does not run as root, or sudo started it from the shell of another user. uid is the effective
// user, environ are the variables of the process.
func NeedsSudo(uid int, environ []string) bool {
	for _, v := range environ {
		if by, ok := strings.CutPrefix(v, "SUDO_UID="); ok && by != "0" {
			return true
		}
	}
	return uid != 0
}

// CommandName returns how the user calls this program in the next command; calledBy is the first word
// of its arguments. It is "" if its file was removed.
func CommandName(calledBy string) string { return action.CommandName(calledBy) }
