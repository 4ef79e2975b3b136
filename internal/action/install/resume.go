package install

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/planfile"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/action/reset"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// journalArgs returns the arguments of an install as the journal stores them: files by
// their digests, because they may contain secrets.
func journalArgs(ctx context.Context, b *airgap.Bundle, cfg config.Config, opts Options) (args journal.Args, err error) {
	args = journal.Args{Cluster: cfg.Installer.Metadata.Name, Bundle: b.Digest().String(), PodCIDR: cfg.Installer.Spec.Network.PodCIDR,
		Console: desired.ConsoleRecord(cfg.Installer)}
	if args.License, err = fileDigest(ctx, opts.License); err != nil {
		return args, err
	}
	if args.ConfigValues, err = fileDigest(ctx, opts.ConfigValues); err != nil {
		return args, err
	}
	if cfg.AppID != "" {
		args.AppBundle = cfg.AppID[:strings.LastIndex(cfg.AppID, " ")] // without the digest of the two files above
	}
	return args, nil
}

// fileDigest returns the digest of the file at path, "" for no path.
func fileDigest(ctx context.Context, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	files, err := config.ReadFiles(ctx, []string{path})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(files[0].Data)), nil
}

// journalArgs returns the arguments of this run, with the number of steps to apply.
func (o *operation) journalArgs(_ *action.Env, count int) *journal.Args {
	args := o.args
	args.Facts, args.Steps = o.snapshot.Digest.String(), count
	args.Node, args.MachineID, args.Address = o.node, o.machineID, o.address.String()
	return &args
}

// checkResumable returns a usage problem when the unfinished install last has other
// arguments than args.
func checkResumable(last journal.Run, args journal.Args) error {
	if diff := planfile.DiffArgs(planfile.ResumeArgs(), last.Args, args); len(diff) > 0 {
		return problem.Newf(problem.ExitUsage, "resume the install started at "+last.StartedAt.Format(time.RFC3339), "resume with the same arguments, or roll back and start again with --restart; nothing on this host was changed",
			"it has other arguments: %s", strings.Join(diff, "; "))
	}
	return nil
}

// resumeMessage returns the message that names the step at which an unfinished install or restore resumes.
func resumeMessage(last journal.Run, todo []step.Planned) string {
	at := last.ReachedStep()
	for i, p := range todo {
		if p.Step == at {
			at = fmt.Sprintf("step %d of %d, %s (%s)", i+1, len(todo), p.Step, p.Title)
		}
	}
	return fmt.Sprintf("resuming the %s started at %s, at %s", last.Verb, last.StartedAt.Format(time.RFC3339), at)
}

// resolveUnfinishedRun handles an unfinished run before this one starts: it resumes it,
// refuses the install, or rolls the run back if --restart was given. It never rolls back
// a cluster that was installed completely before.
func (o *operation) resolveUnfinishedRun(ctx context.Context, env *action.Env) error {
	j, err := env.OpenJournal()
	if err != nil {
		return err
	}
	last, ok := j.LastUnfinished()
	if !ok || last.Verb != "install" {
		return nil // inspect refuses an unfinished reset
	}
	args := o.args
	args.APIAddress = cmp.Or(o.opts.APIAddress, last.Args.APIAddress) // without the flag, the address stays the same
	refusal := checkResumable(last, args)
	if refusal == nil && o.opts.Restart { // without --restart, inspect refuses it
		refusal = o.inspectHost(env, preflight.GatherBasic(ctx, env))
	}
	if refusal == nil || !o.opts.Restart {
		return refusal
	}
	if _, installed, err := journal.ReadReceipt(env.Host, env.DataDir); err != nil || installed {
		return err // a complete cluster is never rolled back; the run continues with the new arguments
	}
	deleteData := !hasRetainedData(env) // volumes that an earlier reset kept stay
	if err := env.Confirm(ctx, reset.DescribeRollBack(env, deleteData)+"Roll back the unfinished install started at "+last.StartedAt.Format(time.RFC3339)+" and start again?"); err != nil {
		return err
	}
	err = reset.RollBack(ctx, env, deleteData)
	o.rolledBack = err == nil
	return err
}

// hasRetainedData reports whether an earlier reset retained data in the data folder.
func hasRetainedData(env *action.Env) bool {
	_, err := env.Host.Lstat(env.DataDir + "/" + journal.RetainedFile)
	return err == nil
}

// rollBack rolls back a first install that failed, if --rollback-on-failure was given.
// It returns an error that contains the failure and the state of the host.
func (o *operation) rollBack(ctx context.Context, env *action.Env, failed error) error {
	if !o.opts.RollBackOnFailure || !o.isFirst() || problem.ExitCode(failed) == problem.ExitInterrupted {
		return failed
	}
	env.Note("the install failed: " + failed.Error())
	env.Note("rolling back its changes because of --rollback-on-failure")
	if err := reset.RollBack(ctx, env, !o.retainedData); err != nil {
		return errors.Join(failed, err)
	}
	hint := "everything was rolled back: this host is as it was before"
	if was := problem.Hint(failed); was != "" {
		hint = was + "\n" + hint
	}
	return problem.New(problem.ExitCode(failed), "install", failed, hint)
}
