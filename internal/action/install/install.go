// Package install installs a cluster from a bundle on the first host.
package install

import (
	"context"
	"errors"
	"fmt"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
)

// Options are the options of an install.
type Options struct {
	config.LoadOptions                // what to install
	Source             source.Request // source of the bundle and key that verifies it; its Bundle is overwritten with Options.Bundle
	IgnorePreflights   []string       // ids of checks that may fail
	Plan               bool           // only return the plan
	PlanFile           string         // apply exactly this plan, or nothing
	Restart            bool           // roll back an unfinished install that has other arguments
	APIAddress         string         // additional name or address of the Kubernetes API, of a load balancer in front of the controllers; "" for the known one
	RollBackOnFailure  bool           // roll back a first install when one of its steps fails

	args   map[string]string // the arguments, as the journal stores them
	opened source.Bundle     // the bundle, after it was opened
}

// Result is the result of an install.
type Result struct {
	Changed    bool                  `json:"changed"`              // false when there was nothing to do
	Plan       []step.Planned        `json:"plan,omitempty"`       // only with Options.Plan
	Inputs     *PlanInputs           `json:"inputs,omitempty"`     // state on which the plan depends
	Preflights *hostpreflight.Report `json:"preflights,omitempty"` // report of the host preflights
	ConsoleURL string                `json:"consoleURL,omitempty"`
	Password   string                `json:"password,omitempty"` // of the console; only from the run that created it
	Kubeconfig string                `json:"kubeconfig,omitempty"`
	Log        string                `json:"log,omitempty"`
}

// operation is an install on this host.
type operation struct{ *action.Env }

// Run installs the cluster on this host. Nothing on the host but the log changes until
// the bundle, the configuration and the host have been verified.
func Run(ctx context.Context, r *action.Env, req Options) (Result, error) {
	o := operation{r}
	if err := action.RequireRoot("install"); err != nil {
		return Result{}, err
	}
	if err := o.CheckDataDir("install"); err != nil {
		return Result{}, err
	}
	req.Source.Bundle = req.Bundle
	d, err := source.Open(ctx, r, req.Source)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = d.Close() }()
	b := d.Bundle
	req.Bundle, req.opened = d.Path, d
	m, err := config.Load(ctx, b, req.LoadOptions, o.Now())
	m.Trust = d.Trust
	for _, n := range m.Notices {
		o.Note(n)
	}
	if err != nil {
		return Result{}, err
	}
	if req.args, err = journalArgs(b, m, req); err != nil {
		return Result{}, err
	}
	if req.Plan {
		return o.planOnly(ctx, b, m, req)
	}
	var res Result
	err = o.WithLock(ctx, "install", func(r *action.Env, log *ui.RunLog) error {
		if err := (operation{r}).resolveUnfinishedRun(ctx, req); err != nil {
			return err
		}
		res, err = operation{r}.execute(ctx, b, m, req, log)
		return err
	})
	return res, err
}

// planOnly returns the plan of the install without changing the host.
func (o operation) planOnly(ctx context.Context, b *airgap.Bundle, m config.Config, req Options) (Result, error) {
	readOnly := operation{o.ReadOnly()}
	j, err := readOnly.OpenJournal()
	if err != nil {
		return Result{}, err
	}
	site, err := readOnly.inspect(ctx, j, m, req)
	if err == nil {
		err = readOnly.runPreflights(ctx, &site, b, m, req)
	}
	res := Result{Preflights: site.preflights}
	if err != nil {
		return res, err
	}
	steps, err := desired.InstallSteps(ctx, readOnly.target(site, m), b, m, req.SkipKotsCheck)
	if err == nil {
		res.Plan, err = readOnly.StepRunner("install", nil).Plan(ctx, steps)
	}
	if err == nil {
		res.Inputs, err = newPlanInputs(site, req.args, o.DataDir, res.Plan)
	}
	return res, err
}

// execute verifies the host, asks for confirmation and runs the steps.
func (o operation) execute(ctx context.Context, b *airgap.Bundle, m config.Config, req Options, log *ui.RunLog) (Result, error) {
	j, err := o.OpenJournal()
	if err != nil {
		return Result{}, err
	}
	readOnly := operation{o.ReadOnly()}
	site, err := readOnly.inspect(ctx, j, m, req)
	res := Result{Log: o.LogFile}
	if err != nil {
		return res, err
	}
	if done, err := readOnly.isUpToDate(ctx, &site, b, m, req); err != nil || done {
		res.Kubeconfig, res.ConsoleURL = k0s.AdminConf, consoleURL(m, site)
		return res, err
	}
	err = readOnly.runPreflights(ctx, &site, b, m, req)
	if res.Preflights = site.preflights; err != nil {
		return res, err
	}
	log.Note(site.preflights.Text())
	steps, err := desired.InstallSteps(ctx, readOnly.target(site, m), b, m, req.SkipKotsCheck)
	if err != nil {
		return res, err
	}
	todo, err := readOnly.StepRunner("install", nil).Plan(ctx, steps)
	if err != nil {
		return res, err
	}
	if err := o.verifyPlanFile(site, req, todo); err != nil {
		return res, err
	}
	res.Kubeconfig, res.ConsoleURL = k0s.AdminConf, consoleURL(m, site)
	if plan.CountNeeded(todo) == 0 && site.receipt.Bundle == b.Digest().String() {
		return res, nil
	}
	if b, err = o.fetchBundle(ctx, req.opened); err != nil {
		return res, err
	}
	for _, warning := range site.preflights.Warnings() {
		o.Note(warning)
	}
	if err := o.confirmInstall(ctx, site, m, todo); err != nil {
		return res, err
	}
	res.Changed = true
	first, keptData := site.receipt.InstalledAt.IsZero(), o.hasRetainedData()
	if steps, err = desired.InstallSteps(ctx, o.target(site, m), b, m, req.SkipKotsCheck); err != nil {
		return res, err
	}
	if err := o.runInJournal(site.journal, site.snapshot.AddDigest(action.WithStepCount(req.args, plan.CountNeeded(todo))), func() error {
		if err := site.snapshot.Write(o.Env); err != nil {
			return err
		}
		if _, err := o.StepRunner("install", site.journal).Run(ctx, steps); err != nil {
			return err
		}
		r, err := o.newReceipt(site, b, m)
		if err != nil {
			return err
		}
		return errors.Join(journal.WriteReceipt(o.Host, o.DataDir, r), source.DiscardFetched(o.Env))
	}); err != nil {
		if req.RollBackOnFailure && first && problem.ExitCode(err) != problem.ExitInterrupted {
			err = o.rollBack(ctx, site.journal, keptData, err)
		}
		return res, err
	}
	// The first install ends with the password: it is shown once and stored nowhere.
	if m.Installer.Spec.Kotsadm != nil && first {
		res.Password, err = o.createFirstPassword(ctx, m)
	}
	return res, err
}

// isUpToDate reports whether the host is already in the state that bundle b defines.
// When nothing will change, the preflights need not run.
func (o operation) isUpToDate(ctx context.Context, s *hostState, b *airgap.Bundle, m config.Config, req Options) (bool, error) {
	if s.receipt.Bundle != b.Digest().String() || req.PlanFile != "" || len(req.IgnorePreflights) > 0 {
		return false, nil
	}
	o.basicFacts(ctx, s)
	steps, err := desired.InstallSteps(ctx, o.target(*s, m), b, m, req.SkipKotsCheck)
	if err != nil {
		return false, err
	}
	todo, err := o.StepRunner("install", nil).Plan(ctx, steps)
	return err == nil && plan.CountNeeded(todo) == 0, err
}

// runInJournal runs fn and records it in j as one run of install with these arguments.
func (o operation) runInJournal(j *journal.Journal, args map[string]string, fn func() error) error {
	if err := j.BeginRun("install", args); err != nil {
		return err
	}
	err := fn()
	return errors.Join(err, j.EndRun(err))
}

// createFirstPassword sets a new password of the console and returns it.
func (o operation) createFirstPassword(ctx context.Context, m config.Config) (string, error) {
	k, err := o.KOTS(m.Installer.Spec.Kotsadm.Namespace)
	if err != nil {
		return "", err
	}
	password, err := k.ResetPassword(ctx)
	if err != nil {
		return "", problem.New(problem.ExitStep, "create the console password", err, "everything else is installed; create a password with: plinth console reset-password")
	}
	o.Secrets.Hide(password)
	return password, nil
}

func (o operation) confirmInstall(ctx context.Context, s hostState, m config.Config, todo []step.Planned) error {
	if last, ok := unfinishedRun(s.journal); ok && last.Verb == "install" {
		o.Note(resumeMessage(last, todo))
	}
	return o.Confirm(ctx, fmt.Sprintf("Install %s on this host (%s, %d of %d steps to do)?", m.Installer.Metadata.Name, s.address, plan.CountNeeded(todo), len(todo)))
}

// consoleURL returns the URL of the console, or "" for a cluster without a console.
func consoleURL(m config.Config, s hostState) string {
	k := m.Installer.Spec.Kotsadm
	if k == nil {
		return ""
	}
	return desired.ConsoleURL(journal.Console{Port: k.UIBindPort, Hostname: k.Hostname}, s.address.String())
}

// newReceipt returns the receipt for what is installed now.
func (o operation) newReceipt(s hostState, b *airgap.Bundle, m config.Config) (journal.Receipt, error) {
	now := o.Now().UTC()
	in := m.Installer
	digest, err := in.Digest()
	r := journal.Receipt{Name: in.Metadata.Name, Role: "controller", Node: s.node, Address: s.address.String(), API: s.apiAddress,
		Bundle: b.Digest().String(), Installer: digest, Facts: s.snapshot.Digest.String(), Versions: map[string]string{"k0s": in.Spec.K0s.Version}, Warnings: m.Trust.AppendWarning(s.warnings), Vendor: source.VendorRecord(m.Trust),
		InstalledAt: s.receipt.InstalledAt, UpdatedAt: now}
	if r.InstalledAt.IsZero() {
		r.InstalledAt = now
	}
	for _, pin := range in.AddOns() {
		r.Versions[pin.Key] = pin.Version
	}
	for _, part := range s.addOns {
		r.AddOns = append(r.AddOns, journal.AddOn{Name: part.Name, Version: part.Version, Namespace: part.Namespace})
	}
	if k := in.Spec.Kotsadm; k != nil {
		r.Console = journal.Console{Namespace: k.Namespace, Port: k.UIBindPort, Hostname: k.Hostname, Slug: k.ApplicationSlug}
	}
	return r, err
}

var _ plan.StateStore = (*journal.Journal)(nil)
