package app

import (
	"context"
	"errors"
	"time"

	"github.com/plinthdev/plinth/internal/app/compose"
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/app/status"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kots/front"
	"github.com/plinthdev/plinth/internal/kots/pki"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// ConsoleURL is where the console of this host's cluster answers.
func (a *App) ConsoleURL() (string, error) {
	r, err := a.withConsole("tell the console's URL")
	if err != nil {
		return "", err
	}
	return compose.ConsoleURL(r.Console, r.Address), nil
}

// ConsoleResetPassword gives the console a new random password and returns it;
// it exists nowhere else in the clear.
func (a *App) ConsoleResetPassword(ctx context.Context) (password string, err error) {
	r, err := a.withConsole("reset the console's password")
	if err != nil {
		return "", err
	}
	err = a.changing("console-reset-password", func(run *App, _ *runlog.Log) error {
		k, err := run.kots(r.Console.Namespace)
		if err != nil {
			return err
		}
		password, err = k.ResetPassword(ctx)
		run.Secrets.Hide(password)
		return err
	})
	return password, err
}

// ConsoleSetCertificate puts the user's certificate and key before the console.
func (a *App) ConsoleSetCertificate(ctx context.Context, certFile, keyFile string) error {
	const doing = "set the console's certificate"
	r, err := a.withConsole(doing)
	if err != nil {
		return err
	}
	files, err := manifest.Files([]string{certFile, keyFile})
	if err != nil {
		return err
	}
	var hosts []string
	if r.Console.Hostname != "" {
		hosts = []string{r.Console.Hostname}
	}
	return a.changing("console-set-certificate", func(run *App, _ *runlog.Log) error {
		k, err := run.kots(r.Console.Namespace)
		if err != nil {
			return err
		}
		wait := kube.Wait{Timeout: 2 * time.Minute, Report: func(message string, _, _ int64) { run.Note(message) }}
		url := compose.ConsoleURL(journal.Console{Port: r.Console.Port}, r.Address)
		return front.Front{Kube: k.Kube, Namespace: k.Namespace}.SetCertificate(ctx, pki.Pair{Cert: files[0].Data, Key: files[1].Data}, hosts, url, wait)
	})
}

// withConsole is the receipt of a host whose cluster has a console.
func (a *App) withConsole(doing string) (journal.Receipt, error) {
	r, err := a.installed(doing)
	if err == nil && r.Console.Port == 0 {
		err = problem.New(problem.ExitUsage, doing, errors.New("this cluster has no KOTS console"), "it comes with spec.kotsadm in the Installer")
	}
	return r, err
}

// installed is the receipt of this host; a usage problem when there is none.
func (a *App) installed(doing string) (journal.Receipt, error) {
	if err := needRoot(doing); err != nil {
		return journal.Receipt{}, err
	}
	r, ok, err := journal.ReadReceipt(a.host, a.DataDir)
	if err == nil && !ok {
		err = problem.New(problem.ExitUsage, doing, errors.New("no finished install is on this host"), "install first, or finish it: plinth install --bundle FILE")
	}
	return r, err
}

// kots drives the console in namespace.
func (a *App) kots(namespace string) (*kots.KOTS, error) {
	client, err := status.Client(a.host)
	if err != nil {
		return nil, err
	}
	return plan.KOTS(a.host, client, namespace, a.DataDir), nil
}

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

// ToolCommand is how to run the pinned tool with args against this host's
// cluster, also one that is not finished: that is when one has to look. shell
// is the user's shell, for Shell.
func (a *App) ToolCommand(t Tool, args []string, shell string) (Exec, error) {
	doing := "run " + string(t)
	if err := needRoot(doing); err != nil {
		return Exec{}, err
	}
	if _, err := a.host.Lstat(k0s.AdminConf); err != nil {
		return Exec{}, problem.New(problem.ExitUsage, doing, errors.New("no cluster runs on this host"), "install one first: plinth install --bundle FILE")
	}
	// Without a place of its own kubectl would leave its cache in the home
	// folder, where no reset looks.
	env := []string{"KUBECONFIG=" + k0s.AdminConf, "KUBECACHEDIR=" + a.DataDir + "/kubectl"}
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
