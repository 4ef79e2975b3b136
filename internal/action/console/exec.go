package console

import (
	"errors"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/problem"
)

// Tool is a program that users run against this host's cluster.
type Tool string

// Tools that are installed with a cluster.
const (
	Kubectl Tool = "kubectl"
	Kots    Tool = "kots"
	Shell   Tool = "shell"
)

// ToolCommand describes how to run a tool: program, arguments and additional environment.
type ToolCommand struct {
	Argv []string
	Env  []string
}

// NewToolCommand returns the command that runs tool t with args against this
// host's cluster. The install need not be finished, because an unfinished
// cluster is the one that has to be inspected. shell is the user's shell, used
// for Shell; "" is /bin/sh.
func NewToolCommand(r *action.Env, t Tool, args []string, shell string) (ToolCommand, error) {
	doing := "run " + string(t)
	if err := action.RequireRoot(doing); err != nil {
		return ToolCommand{}, err
	}
	if _, err := r.Host.Lstat(k0s.AdminConf); err != nil {
		if receipt, _, err := journal.ReadReceipt(r.Host, r.DataDir); err == nil && action.RefuseWorker(doing, receipt) != nil {
			return ToolCommand{}, action.RefuseWorker(doing, receipt)
		}
		return ToolCommand{}, problem.New(problem.ExitUsage, doing, errors.New("no cluster runs on this host"), "install one first: plinth install --bundle FILE")
	}
	// By default kubectl writes its cache to the home directory, which reset
	// does not clean.
	env := []string{"KUBECONFIG=" + k0s.AdminConf, "KUBECACHEDIR=" + r.DataDir + "/kubectl"}
	switch t {
	case Kubectl:
		return ToolCommand{Argv: append([]string{k0s.BinaryPath, "kubectl"}, args...), Env: env}, nil
	case Kots:
		return ToolCommand{Argv: append([]string{kots.BinaryPath}, args...), Env: env}, nil
	}
	if shell == "" {
		shell = "/bin/sh"
	}
	return ToolCommand{Argv: append([]string{shell}, args...), Env: env}, nil
}
