package install

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/reset"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// Keys under which the journal stores the further arguments of an install.
const (
	argBundle  = "bundle"
	argAPI     = "apiAddress"
	argLicense = "license"
	argConfig  = "configValues"
	argApp     = "appBundle"
)

// journalArgs returns the arguments of an install as the journal stores them: files by
// their digests, because they may contain secrets.
func journalArgs(b *airgap.Bundle, m config.Config, req Options) (map[string]string, error) {
	all := map[string]string{argBundle: b.Digest().String(), action.ArgPodCIDR: m.Installer.Spec.Network.PodCIDR, action.ArgName: m.Installer.Metadata.Name}
	for arg, path := range map[string]string{argLicense: req.License, argConfig: req.ConfigValues} {
		if path == "" {
			continue
		}
		files, err := config.ReadFiles([]string{path})
		if err != nil {
			return nil, err
		}
		all[arg] = fmt.Sprintf("sha256:%x", sha256.Sum256(files[0].Data))
	}
	if m.AppID != "" {
		all[argApp] = m.AppID[:strings.LastIndex(m.AppID, " ")] // without the digest of the two files above
	}
	return all, nil
}

// trackedArg is an argument of an install: its key in the journal and its name in
// messages.
type trackedArg struct{ key, name string }

// resumeArgs returns the arguments that must not change when a run is resumed. License,
// config values and application bundle may change: only the last step uses them, and
// one that KOTS refused has to be replaced.
func resumeArgs() []trackedArg {
	return []trackedArg{{action.ArgName, "the cluster's name"}, {argBundle, "the bundle"}, {action.ArgPodCIDR, "the pod network"}, {argAPI, "the API address"}}
}

// planArgs returns the arguments that must not change between a plan and its install.
func planArgs() []trackedArg {
	return append(resumeArgs(), trackedArg{argLicense, "the license"}, trackedArg{argConfig, "the config values"}, trackedArg{argApp, "the application bundle"})
}

// diffArgs returns a message for each of the tracked arguments that differs between was and is.
func diffArgs(args []trackedArg, was, is map[string]string) []string {
	var all []string
	for _, t := range args {
		if old, new := was[t.key], is[t.key]; old != new {
			all = append(all, fmt.Sprintf("%s was %s and is now %s", t.name, orNone(old), orNone(new)))
		}
	}
	return all
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// unfinishedRun returns the last run of this host and reports whether it is unfinished.
func unfinishedRun(j *journal.Journal) (journal.Run, bool) {
	runs := j.Runs()
	if len(runs) == 0 || !runs[len(runs)-1].Unfinished() {
		return journal.Run{}, false
	}
	return runs[len(runs)-1], true
}

// checkResumable returns a usage problem when the unfinished run last is a reset, or an
// install with other arguments than args.
func checkResumable(last journal.Run, args map[string]string) error {
	started := last.StartedAt.Format(time.RFC3339)
	if last.Verb == "reset" {
		return problem.Newf(problem.ExitUsage, "install", "finish it first: plinth reset cluster; nothing on this host was changed", "the reset started at %s is not finished: the host is not clean enough for a cluster", started)
	}
	if diff := diffArgs(resumeArgs(), last.Args, args); last.Verb == "install" && len(diff) > 0 {
		return problem.Newf(problem.ExitUsage, "resume the install started at "+started, "resume with the same arguments, or roll back and start again with --restart; nothing on this host was changed",
			"it has other arguments: %s", strings.Join(diff, "; "))
	}
	return nil
}

// resumeMessage returns the message that names the step at which an unfinished install
// resumes.
func resumeMessage(last journal.Run, todo []step.Planned) string {
	at := last.ReachedStep()
	for i, p := range todo {
		if p.Step == at {
			at = fmt.Sprintf("step %d of %d, %s (%s)", i+1, len(todo), p.Step, p.Title)
		}
	}
	return fmt.Sprintf("resuming the install started at %s, at %s", last.StartedAt.Format(time.RFC3339), at)
}

// resolveUnfinishedRun handles an unfinished run before this one starts: it resumes it,
// refuses the install, or rolls the run back if --restart was given. It never rolls back
// a cluster that was installed completely before.
func (o operation) resolveUnfinishedRun(ctx context.Context, req Options) error {
	j, err := o.OpenJournal()
	if err != nil {
		return err
	}
	last, ok := unfinishedRun(j)
	if !ok {
		return nil
	}
	args := map[string]string{}
	maps.Copy(args, req.args)
	args[argAPI] = cmp.Or(req.APIAddress, last.Args[argAPI]) // without the flag, the address stays the same
	refusal := checkResumable(last, args)
	if refusal == nil || !req.Restart || last.Verb != "install" {
		return refusal
	}
	if _, installed, err := journal.ReadReceipt(o.Host, o.DataDir); err != nil || installed {
		return err // a complete cluster is never rolled back; the run continues with the new arguments
	}
	if err := o.Confirm(ctx, "Roll back the unfinished install started at "+last.StartedAt.Format(time.RFC3339)+" and start again?"); err != nil {
		return err
	}
	_, err = reset.RollBack(ctx, o.Env, j, !o.hasRetainedData())
	return err
}

// hasRetainedData reports whether an earlier reset retained data in the data folder.
func (o operation) hasRetainedData() bool {
	_, err := o.Host.Lstat(o.DataDir + "/" + journal.RetainedFile)
	return err == nil
}

// rollBack rolls back a failed first install. It returns an error that contains failed
// and the state of the host.
func (o operation) rollBack(ctx context.Context, j *journal.Journal, keptData bool, failed error) error {
	o.Note("the install failed: " + failed.Error())
	o.Note("rolling back its changes because of --rollback-on-failure")
	_, err := reset.RollBack(ctx, o.Env, j, !keptData)
	if err != nil {
		return errors.Join(failed, err)
	}
	hint := "everything was rolled back: this host is as it was before"
	if was := problem.Hint(failed); was != "" {
		hint = was + "\n" + hint
	}
	return problem.New(problem.ExitCode(failed), "install", failed, hint)
}
