// Package tool owns how the pinned tools are run against this host's cluster.
// It refuses to start them: the process becomes them.
package tool

import (
	"errors"

	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/problem"
)

// Tool is a program that the user runs against this host's cluster.
type Tool string

// The tools that come with a cluster.
const (
	Kubectl Tool = "kubectl"
	Kots    Tool = "kots"
	Shell   Tool = "shell"
)

// Exec is how to run a tool: program, arguments and additional environment.
type Exec struct {
	Argv []string
	Env  []string
}

// Command is how to run the pinned tool with args against this host's
// cluster, also one that is not finished: that is when one has to look. shell
// is the user's shell, for Shell.
func Command(r *run.Run, t Tool, args []string, shell string) (Exec, error) {
	doing := "run " + string(t)
	if err := run.NeedRoot(doing); err != nil {
		return Exec{}, err
	}
	if _, err := r.Host.Lstat(k0s.AdminConf); err != nil {
		return Exec{}, problem.New(problem.ExitUsage, doing, errors.New("no cluster runs on this host"), "install one first: plinth install --bundle FILE")
	}
	// Without a place of its own kubectl would leave its cache in the home
	// folder, where no reset looks.
	env := []string{"KUBECONFIG=" + k0s.AdminConf, "KUBECACHEDIR=" + r.DataDir + "/kubectl"}
	switch t {
	case Kubectl:
		return Exec{Argv: append([]string{k0s.Binary, "kubectl"}, args...), Env: env}, nil
	case Kots:
		return Exec{Argv: append([]string{kots.Binary}, args...), Env: env}, nil
	}
	if shell == "" {
		shell = "/bin/sh"
	}
	return Exec{Argv: append([]string{shell}, args...), Env: env}, nil
}
