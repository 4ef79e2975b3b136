// Package console manages the KOTS admin console of this host's cluster: its URL, password and TLS certificate.
package console

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui"
)

// URL returns the address of the console of this host's cluster.
func URL(env *action.Env) (string, error) {
	receipt, err := openableConsole(env, "show the console's URL")
	if err != nil {
		return "", err
	}
	return desired.ConsoleURL(receipt.Console, receipt.Address), nil
}

// ResetPassword sets a new random console password and returns it. The
// password is stored nowhere else in clear text.
func ResetPassword(ctx context.Context, env *action.Env) (password string, err error) {
	const doing = "reset the console's password"
	receipt, err := openableConsole(env, doing)
	if err == nil {
		err = action.RefuseWorker(doing, receipt)
	}
	if err != nil {
		return "", err
	}
	err = env.WithLock(ctx, "console-reset-password", func(env *action.Env, _ *ui.RunLog) error {
		k, err := env.KOTS(receipt.Console.Namespace)
		if err != nil {
			return err
		}
		password, err = k.ResetPassword(ctx)
		env.Secrets.Hide(password)
		return err
	})
	return password, err
}

// SetCertificate configures the user's certificate and key (PEM files) for the
// console. changed is false when they are already in use.
func SetCertificate(ctx context.Context, env *action.Env, certFile, keyFile string) (changed bool, err error) {
	const doing = "set the console's certificate"
	receipt, err := consoleReceipt(env, doing)
	if err == nil {
		err = action.RefuseWorker(doing, receipt)
	}
	if err != nil {
		return false, err
	}
	files, err := config.ReadFiles(ctx, []string{certFile, keyFile})
	if err != nil {
		return false, err
	}
	pair := pki.Pair{Cert: files[0].Data, Key: files[1].Data}
	var hosts []string
	if receipt.Console.Hostname != "" {
		hosts = []string{receipt.Console.Hostname}
	}
	err = env.WithLock(ctx, "console-set-certificate", func(env *action.Env, _ *ui.RunLog) error {
		k, err := env.KOTS(receipt.Console.Namespace)
		if err != nil {
			return err
		}
		wait := kube.Wait{Timeout: 2 * time.Minute, Report: func(message string, _, _ int64) { env.Note(message) },
			Diagnose: func(ctx context.Context) string { return k.Kube.Diagnose(ctx, k.Namespace, "") }}
		url := desired.ConsoleURL(journal.Console{Port: receipt.Console.Port}, receipt.Address)
		proxy := kots.ConsoleProxy{Kube: k.Kube, Namespace: k.Namespace}
		there, err := proxy.HasCertificate(ctx, pair)
		if changed = !there; err != nil || there {
			return err
		}
		err = proxy.SetCertificate(ctx, pair, hosts, url, wait)
		if problem.ExitCode(err) == problem.ExitInternal {
			err = problem.New(problem.ExitStep, "serve the console's new certificate", err,
				"see why with: sudo plinth kubectl -n "+k.Namespace+" get pods; then run the same command again: it resumes where it stopped")
		}
		return err
	})
	return changed, err
}

// openableConsole returns the receipt of this host or, if its install is not finished, what the receipt will record of the
// console. An install fails at its application if KOTS does not deploy it, because its preflights fail or its configuration is
// incomplete: users can only continue in the console.
func openableConsole(env *action.Env, doing string) (journal.Receipt, error) {
	if err := action.RequireRoot(doing); err != nil {
		return journal.Receipt{}, err
	}
	if _, installed, err := journal.ReadReceipt(env.Host, env.DataDir); err == nil && !installed {
		if receipt, ok := unfinishedConsole(env); ok {
			return receipt, nil
		}
	}
	return consoleReceipt(env, doing)
}

// unfinishedConsole returns what the receipt of an unfinished install will record of the console. ok is false if the install
// has not reached the application, before which the console runs.
func unfinishedConsole(env *action.Env) (r journal.Receipt, ok bool) {
	j, err := env.OpenJournal()
	if err != nil {
		return r, false // there is nothing to open, as far as this host knows
	}
	last, unfinished := j.LastUnfinished()
	consoleRuns := slices.ContainsFunc(j.Runs(), func(run journal.Run) bool { return run.HasBegun(plan.ApplicationID) })
	if !unfinished || last.Verb != "install" || last.Args.Console.Port == 0 || !consoleRuns {
		return r, false
	}
	return journal.Receipt{Name: last.Args.Cluster, Role: "controller", Node: last.Args.Node, Address: last.Args.Address, Console: last.Args.Console}, true
}

// consoleReceipt returns the receipt of this host. It is a usage problem if its
// cluster has no console here.
func consoleReceipt(env *action.Env, doing string) (journal.Receipt, error) {
	receipt, err := env.RequireInstalled(doing)
	if err == nil {
		err = checkConsole(env, doing, receipt)
	}
	return receipt, err
}

// checkConsole returns a usage problem if the cluster of receipt was installed without
// a console, or has removed this host: what runs here is not the cluster's any more.
func checkConsole(env *action.Env, doing string, receipt journal.Receipt) error {
	removed, isRemoved, err := node.ReadRemoval(env.Host, env.DataDir)
	switch {
	case receipt.Console.Port == 0:
		return problem.New(problem.ExitUsage, doing, errors.New("this cluster has no KOTS console"), "a console is installed when the Installer has spec.kotsadm")
	case err == nil && isRemoved: // a damaged record is replaced with the next removal
		return problem.New(problem.ExitUsage, doing, errors.New(removed.String()), "run it on another node of the cluster; to reset this host: sudo plinth reset node")
	}
	return nil
}
