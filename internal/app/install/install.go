// Package install installs a cluster from a bundle on the first host.
package install

import (
	"context"
	"errors"
	"fmt"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/app/compose"
	"github.com/plinthdev/plinth/internal/app/delivery"
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/app/run"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui/runlog"
)

// Options are the options of an install.
type Request struct {
	manifest.Request                  // what to install
	Delivery         delivery.Request // source of the bundle and key that verifies it; its Bundle is overwritten with Options.Bundle
	IgnorePreflights []string         // ids of checks that may fail
	Plan             bool             // only return the plan
	PlanFile         string           // apply exactly this plan, or nothing
	Restart          bool             // roll back an unfinished install that has other arguments
	APIAddress       string           // additional name or address of the Kubernetes API, of a load balancer in front of the controllers; "" for the known one
	RollBack         bool             // roll back a first install when one of its steps fails

	asked map[string]string // the arguments, as the journal stores them
	from  delivery.Delivery // the bundle, after it was opened
}

// Result is the result of an install.
type Result struct {
	Changed    bool                  `json:"changed"`              // false when there was nothing to do
	Plan       []step.Planned        `json:"plan,omitempty"`       // only with Options.Plan
	Bound      *Bound                `json:"inputs,omitempty"`     // state on which the plan depends
	Preflights *hostpreflight.Report `json:"preflights,omitempty"` // report of the host preflights
	ConsoleURL string                `json:"consoleURL,omitempty"`
	Password   string                `json:"password,omitempty"` // of the console; only from the run that created it
	Kubeconfig string                `json:"kubeconfig,omitempty"`
	Log        string                `json:"log,omitempty"`
}

// operation is an install on this host.
type job struct{ *run.Run }

// Run installs the cluster on this host. Nothing on the host but the log changes until
// the bundle, the configuration and the host have been verified.
func Install(ctx context.Context, r *run.Run, req Request) (Result, error) {
	o := job{r}
	if err := run.NeedRoot("install"); err != nil {
		return Result{}, err
	}
	if err := o.Usable("install"); err != nil {
		return Result{}, err
	}
	req.Delivery.Bundle = req.Bundle
	d, err := delivery.Open(ctx, r, req.Delivery)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = d.Close() }()
	b := d.Bundle
	req.Bundle, req.from = d.Path, d
	m, err := manifest.Read(ctx, b, req.Request, o.Now())
	m.Trust = d.Trust
	for _, n := range m.Notices {
		o.Note(n)
	}
	if err != nil {
		return Result{}, err
	}
	if req.asked, err = args(b, m, req); err != nil {
		return Result{}, err
	}
	if req.Plan {
		return o.planInstall(ctx, b, m, req)
	}
	var res Result
	err = o.Changing(ctx, "install", func(r *run.Run, log *runlog.Log) error {
		if err := (job{r}).settle(ctx, req); err != nil {
			return err
		}
		res, err = job{r}.install(ctx, b, m, req, log)
		return err
	})
	return res, err
}

// planOnly returns the plan of the install without changing the host.
func (o job) planInstall(ctx context.Context, b *airgap.Bundle, m manifest.Set, req Request) (Result, error) {
	readOnly := job{o.ReadOnly()}
	j, err := readOnly.Journal()
	if err != nil {
		return Result{}, err
	}
	site, err := readOnly.survey(ctx, j, m, req)
	if err == nil {
		err = readOnly.prove(ctx, &site, b, m, req)
	}
	res := Result{Preflights: site.preflights}
	if err != nil {
		return res, err
	}
	steps, err := compose.Install(ctx, readOnly.site(site, m), b, m, req.SkipKotsCheck)
	if err == nil {
		res.Plan, err = readOnly.Steps("install", nil).Plan(ctx, steps)
	}
	if err == nil {
		res.Bound, err = bind(site, req.asked, o.DataDir, res.Plan)
	}
	return res, err
}

// execute verifies the host, asks for confirmation and runs the steps.
func (o job) install(ctx context.Context, b *airgap.Bundle, m manifest.Set, req Request, log *runlog.Log) (Result, error) {
	j, err := o.Journal()
	if err != nil {
		return Result{}, err
	}
	readOnly := job{o.ReadOnly()}
	site, err := readOnly.survey(ctx, j, m, req)
	res := Result{Log: o.LogFile}
	if err != nil {
		return res, err
	}
	if done, err := readOnly.nothingToDo(ctx, &site, b, m, req); err != nil || done {
		res.Kubeconfig, res.ConsoleURL = k0s.AdminConf, urlOf(m, site)
		return res, err
	}
	err = readOnly.prove(ctx, &site, b, m, req)
	if res.Preflights = site.preflights; err != nil {
		return res, err
	}
	log.Note(site.preflights.Text())
	steps, err := compose.Install(ctx, readOnly.site(site, m), b, m, req.SkipKotsCheck)
	if err != nil {
		return res, err
	}
	todo, err := readOnly.Steps("install", nil).Plan(ctx, steps)
	if err != nil {
		return res, err
	}
	if err := o.held(site, req, todo); err != nil {
		return res, err
	}
	res.Kubeconfig, res.ConsoleURL = k0s.AdminConf, urlOf(m, site)
	if plan.Needed(todo) == 0 && site.receipt.Bundle == b.Digest().String() {
		return res, nil
	}
	if b, err = o.bring(ctx, req.from); err != nil {
		return res, err
	}
	for _, warning := range site.preflights.Warnings() {
		o.Note(warning)
	}
	if err := o.confirmInstall(ctx, site, m, todo); err != nil {
		return res, err
	}
	res.Changed = true
	first, keptData := site.receipt.Installed.IsZero(), o.hasKept()
	if steps, err = compose.Install(ctx, o.site(site, m), b, m, req.SkipKotsCheck); err != nil {
		return res, err
	}
	if err := o.record(site.journal, site.keep.Bind(run.Steps(req.asked, plan.Needed(todo))), func() error {
		if err := site.keep.Write(o.Run); err != nil {
			return err
		}
		if _, err := o.Steps("install", site.journal).Run(ctx, steps); err != nil {
			return err
		}
		r, err := o.newReceipt(site, b, m)
		if err != nil {
			return err
		}
		return errors.Join(journal.WriteReceipt(o.Host, o.DataDir, r), delivery.Discard(o.Run))
	}); err != nil {
		if req.RollBack && first && problem.ExitCode(err) != problem.ExitInterrupted {
			err = o.rollBack(ctx, site.journal, keptData, err)
		}
		return res, err
	}
	// The first install ends with the password: it is shown once and stored nowhere.
	if m.Installer.Spec.Kotsadm != nil && first {
		res.Password, err = o.firstPassword(ctx, m)
	}
	return res, err
}

// isUpToDate reports whether the host is already in the state that bundle b defines.
// When nothing will change, the preflights need not run.
func (o job) nothingToDo(ctx context.Context, s *site, b *airgap.Bundle, m manifest.Set, req Request) (bool, error) {
	if s.receipt.Bundle != b.Digest().String() || req.PlanFile != "" || len(req.IgnorePreflights) > 0 {
		return false, nil
	}
	o.near(ctx, s)
	steps, err := compose.Install(ctx, o.site(*s, m), b, m, req.SkipKotsCheck)
	if err != nil {
		return false, err
	}
	todo, err := o.Steps("install", nil).Plan(ctx, steps)
	return err == nil && plan.Needed(todo) == 0, err
}

// runInJournal runs fn and records it in j as one run of install with these arguments.
func (o job) record(j *journal.Journal, args map[string]string, fn func() error) error {
	if err := j.Begin("install", args); err != nil {
		return err
	}
	err := fn()
	return errors.Join(err, j.End(err))
}

// createFirstPassword sets a new password of the console and returns it.
func (o job) firstPassword(ctx context.Context, m manifest.Set) (string, error) {
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

func (o job) confirmInstall(ctx context.Context, s site, m manifest.Set, todo []step.Planned) error {
	if last, ok := unfinished(s.journal); ok && last.Verb == "install" {
		o.Note(resuming(last, todo))
	}
	return o.Confirm(ctx, fmt.Sprintf("Install %s on this host (%s, %d of %d steps to do)?", m.Installer.Metadata.Name, s.address, plan.Needed(todo), len(todo)))
}

// consoleURL returns the URL of the console, or "" for a cluster without a console.
func urlOf(m manifest.Set, s site) string {
	k := m.Installer.Spec.Kotsadm
	if k == nil {
		return ""
	}
	return compose.ConsoleURL(journal.Console{Port: k.UIBindPort, Hostname: k.Hostname}, s.address.String())
}

// newReceipt returns the receipt for what is installed now.
func (o job) newReceipt(s site, b *airgap.Bundle, m manifest.Set) (journal.Receipt, error) {
	now := o.Now().UTC()
	in := m.Installer
	digest, err := in.Digest()
	r := journal.Receipt{Name: in.Metadata.Name, Role: "controller", Node: s.node, Address: s.address.String(), API: s.api,
		Bundle: b.Digest().String(), Installer: digest, Facts: s.keep.Digest.String(), Versions: map[string]string{"k0s": in.Spec.K0s.Version}, Warnings: m.Trust.Warnings(s.warnings), Vendor: delivery.Vendor(m.Trust),
		Installed: s.receipt.Installed, Updated: now}
	if r.Installed.IsZero() {
		r.Installed = now
	}
	for _, pin := range in.AddOns() {
		r.Versions[pin.Key] = pin.Version
	}
	for _, part := range s.parts {
		r.AddOns = append(r.AddOns, journal.AddOn{Name: part.Name, Version: part.Version, Namespace: part.Namespace})
	}
	if k := in.Spec.Kotsadm; k != nil {
		r.Console = journal.Console{Namespace: k.Namespace, Port: k.UIBindPort, Hostname: k.Hostname, Slug: k.ApplicationSlug}
	}
	return r, err
}

var _ plan.Memory = (*journal.Journal)(nil)
