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
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/app/reset"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// The journal's names for what else an install was asked for.
const (
	argBundle  = "bundle"
	argAPI     = "apiAddress"
	argLicense = "license"
	argConfig  = "configValues"
	argApp     = "appBundle"
)

// args is what an install is asked for, as the journal remembers it: files by
// their digests, for they may hold secrets.
func args(b *airgap.Bundle, m manifest.Set, req Request) (map[string]string, error) {
	all := map[string]string{argBundle: b.Digest().String(), run.ArgPodCIDR: m.Installer.Spec.Network.PodCIDR, run.ArgName: m.Installer.Metadata.Name}
	for arg, path := range map[string]string{argLicense: req.License, argConfig: req.ConfigValues} {
		if path == "" {
			continue
		}
		files, err := manifest.Files([]string{path})
		if err != nil {
			return nil, err
		}
		all[arg] = fmt.Sprintf("sha256:%x", sha256.Sum256(files[0].Data))
	}
	if m.AppID != "" {
		all[argApp] = m.AppID[:strings.LastIndex(m.AppID, " ")] // without the digest of the two above
	}
	return all, nil
}

// term is one thing that an install is asked for: its name in the journal and
// for people.
type term struct{ arg, name string }

// lasting is what a run that goes on must be asked for as before. License,
// config values and application bundle may differ: they serve the last step
// alone, and one that KOTS refused has to be replaced.
func lasting() []term {
	return []term{{run.ArgName, "the cluster's name"}, {argBundle, "the bundle"}, {run.ArgPodCIDR, "the pods' network"}, {argAPI, "the API's address"}}
}

// binding is what a plan holds for.
func binding() []term {
	return append(lasting(), term{argLicense, "the license"}, term{argConfig, "the config values"}, term{argApp, "the application bundle"})
}

// differences names which terms of two runs are not the same.
func differences(terms []term, was, is map[string]string) []string {
	var all []string
	for _, a := range terms {
		if old, new := was[a.arg], is[a.arg]; old != new {
			all = append(all, fmt.Sprintf("%s was %s and is now %s", a.name, orNone(old), orNone(new)))
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

// unfinished is the run that this host's last run left unfinished, if it did.
func unfinished(j *journal.Journal) (journal.Run, bool) {
	runs := j.Runs()
	if len(runs) == 0 || !runs[len(runs)-1].Unfinished() {
		return journal.Run{}, false
	}
	return runs[len(runs)-1], true
}

// mayGoOn refuses an install that would go on from an unfinished run which was
// asked for something else.
func mayGoOn(last journal.Run, asked map[string]string) error {
	began := last.Began.Format(time.RFC3339)
	if last.Verb == "reset" {
		return problem.Newf(problem.ExitUsage, "install", "finish it first: plinth reset cluster; nothing on this host was changed", "the reset begun at %s is not finished: what it left is no place for a cluster", began)
	}
	if diff := differences(lasting(), last.Args, asked); last.Verb == "install" && len(diff) > 0 {
		return problem.Newf(problem.ExitUsage, "resume the install begun at "+began, "give what it was begun with to go on, or --restart to take it back and begin anew; nothing on this host was changed",
			"it was asked for something else: %s", strings.Join(diff, "; "))
	}
	return nil
}

// resuming says where an unfinished install goes on.
func resuming(last journal.Run, todo []step.Planned) string {
	at := last.At()
	for i, p := range todo {
		if p.Step == at {
			at = fmt.Sprintf("step %d of %d, %s (%s)", i+1, len(todo), p.Step, p.Title)
		}
	}
	return fmt.Sprintf("resuming the install begun at %s, at %s", last.Began.Format(time.RFC3339), at)
}

// settle decides what becomes of an unfinished run before this one begins: go
// on from it, refuse, or, on request, take it back. A finished install below it
// is never taken back.
func (a job) settle(ctx context.Context, req Request) error {
	j, err := a.Journal()
	if err != nil {
		return err
	}
	last, ok := unfinished(j)
	if !ok {
		return nil
	}
	asked := map[string]string{}
	maps.Copy(asked, req.asked)
	asked[argAPI] = cmp.Or(req.APIAddress, last.Args[argAPI]) // who says nothing means what was said
	refusal := mayGoOn(last, asked)
	if refusal == nil || !req.Restart || last.Verb != "install" {
		return refusal
	}
	if _, installed, err := journal.ReadReceipt(a.Host, a.DataDir); err != nil || installed {
		return err // a cluster that was finished once only goes on, now as asked
	}
	if err := a.Confirm(ctx, "Take back the unfinished install begun at "+last.Began.Format(time.RFC3339)+" and begin anew?"); err != nil {
		return err
	}
	_, err = reset.TakeBack(ctx, a.Run, j, !a.hasKept())
	return err
}

// hasKept reports whether an earlier reset kept data in the data folder.
func (a job) hasKept() bool {
	_, err := a.Host.Lstat(a.DataDir + "/" + journal.KeptFile)
	return err == nil
}

// rollBack takes a failed first install back, and says in its error what
// became of the host.
func (a job) rollBack(ctx context.Context, j *journal.Journal, keptData bool, failed error) error {
	a.Note("the install failed: " + failed.Error())
	a.Note("taking back what it changed, as --rollback-on-failure asks")
	_, err := reset.TakeBack(ctx, a.Run, j, !keptData)
	if err != nil {
		return errors.Join(failed, err)
	}
	hint := "everything was taken back: this host is as it was before"
	if was := problem.Hint(failed); was != "" {
		hint = was + "\n" + hint
	}
	return problem.New(problem.ExitCode(failed), "install", failed, hint)
}
