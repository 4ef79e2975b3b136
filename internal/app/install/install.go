// Package install owns the main job: it opens the bundle, reads the manifests,
// asks the gate and the preflights, puts host, bundle, journal and steps
// together, and runs them. It refuses to know flags, terminals and how anything
// is done below a step.
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

// Request is what an install is asked for.
type Request struct {
	manifest.Request                  // what is to be installed
	Delivery         delivery.Request // where the bundle comes from and who vouches for it; its Bundle is that of Request
	IgnorePreflights []string         // ids of checks that may fail
	Plan             bool             // only say what would be done
	PlanFile         string           // do exactly this plan, or nothing
	Restart          bool             // take back an unfinished install that was asked for something else
	APIAddress       string           // further name or address of the API, of a balancer before the controllers; "" for what is known
	RollBack         bool             // take a first install back when a step of it fails

	asked map[string]string // the same for the journal
	from  delivery.Delivery // the bundle, once it is open
}

// Result is how an install ended.
type Result struct {
	Changed    bool                  `json:"changed"`              // false: there was nothing to do
	Plan       []step.Planned        `json:"plan,omitempty"`       // with Request.Plan
	Bound      *Bound                `json:"bound,omitempty"`      // what the plan holds for
	Preflights *hostpreflight.Report `json:"preflights,omitempty"` // what was found on the host
	ConsoleURL string                `json:"consoleURL,omitempty"`
	Password   string                `json:"password,omitempty"` // of the console; only when this run made it
	Kubeconfig string                `json:"kubeconfig,omitempty"`
	Log        string                `json:"log,omitempty"`
}

// job is an install on this host.
type job struct{ *run.Run }

// Install is the main job. Until every proof has been given nothing on the
// host changes but the log.
func Install(ctx context.Context, r *run.Run, req Request) (Result, error) {
	a := job{r}
	if err := run.NeedRoot("install"); err != nil {
		return Result{}, err
	}
	if err := a.Usable("install"); err != nil {
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
	m, err := manifest.Read(ctx, b, req.Request, a.Now())
	m.Trust = d.Trust
	for _, n := range m.Notices {
		a.Note(n)
	}
	if err != nil {
		return Result{}, err
	}
	if req.asked, err = args(b, m, req); err != nil {
		return Result{}, err
	}
	if req.Plan {
		return a.planInstall(ctx, b, m, req)
	}
	var res Result
	err = a.Changing(ctx, "install", func(r *run.Run, log *runlog.Log) error {
		if err := (job{r}).settle(ctx, req); err != nil {
			return err
		}
		res, err = job{r}.install(ctx, b, m, req, log)
		return err
	})
	return res, err
}

// planInstall says what Install would do, by looks alone.
func (a job) planInstall(ctx context.Context, b *airgap.Bundle, m manifest.Set, req Request) (Result, error) {
	look := job{a.ReadOnly()}
	j, err := look.Journal()
	if err != nil {
		return Result{}, err
	}
	site, err := look.survey(ctx, j, m, req)
	if err == nil {
		err = look.prove(ctx, &site, b, m, req)
	}
	res := Result{Preflights: site.preflights}
	if err != nil {
		return res, err
	}
	steps, err := compose.Install(ctx, look.site(site, m), b, m, req.SkipKotsCheck)
	if err == nil {
		res.Plan, err = look.Steps("install", nil).Plan(ctx, steps)
	}
	if err == nil {
		res.Bound, err = bind(site, req.asked, a.DataDir, res.Plan)
	}
	return res, err
}

// install proves, asks, and runs the steps.
func (a job) install(ctx context.Context, b *airgap.Bundle, m manifest.Set, req Request, log *runlog.Log) (Result, error) {
	j, err := a.Journal()
	if err != nil {
		return Result{}, err
	}
	look := job{a.ReadOnly()}
	site, err := look.survey(ctx, j, m, req)
	res := Result{Log: a.LogFile}
	if err != nil {
		return res, err
	}
	if done, err := look.nothingToDo(ctx, &site, b, m, req); err != nil || done {
		res.Kubeconfig, res.ConsoleURL = k0s.AdminConf, urlOf(m, site)
		return res, err
	}
	err = look.prove(ctx, &site, b, m, req)
	if res.Preflights = site.preflights; err != nil {
		return res, err
	}
	log.Note(site.preflights.Text())
	steps, err := compose.Install(ctx, look.site(site, m), b, m, req.SkipKotsCheck)
	if err != nil {
		return res, err
	}
	todo, err := look.Steps("install", nil).Plan(ctx, steps)
	if err != nil {
		return res, err
	}
	if err := a.held(site, req, todo); err != nil {
		return res, err
	}
	res.Kubeconfig, res.ConsoleURL = k0s.AdminConf, urlOf(m, site)
	if plan.Needed(todo) == 0 && site.receipt.Bundle == b.Digest().String() {
		return res, nil
	}
	if b, err = a.bring(ctx, req.from); err != nil {
		return res, err
	}
	for _, warning := range site.preflights.Warnings() {
		a.Note(warning)
	}
	if err := a.confirmInstall(ctx, site, m, todo); err != nil {
		return res, err
	}
	res.Changed = true
	first, keptData := site.receipt.Installed.IsZero(), a.hasKept()
	if steps, err = compose.Install(ctx, a.site(site, m), b, m, req.SkipKotsCheck); err != nil {
		return res, err
	}
	if err := a.record(site.journal, site.keep.Bind(run.Steps(req.asked, plan.Needed(todo))), func() error {
		if err := site.keep.Write(a.Run); err != nil {
			return err
		}
		if _, err := a.Steps("install", site.journal).Run(ctx, steps); err != nil {
			return err
		}
		r, err := a.newReceipt(site, b, m)
		if err != nil {
			return err
		}
		return errors.Join(journal.WriteReceipt(a.Host, a.DataDir, r), delivery.Discard(a.Run))
	}); err != nil {
		if req.RollBack && first && problem.ExitCode(err) != problem.ExitInterrupted {
			err = a.rollBack(ctx, site.journal, keptData, err)
		}
		return res, err
	}
	// The first install ends with the password: shown once, kept nowhere.
	if m.Installer.Spec.Kotsadm != nil && first {
		res.Password, err = a.firstPassword(ctx, m)
	}
	return res, err
}

// nothingToDo reports whether the host is what the bundle wants. Where nothing
// will change nothing has to be proved: the preflights are not asked.
func (a job) nothingToDo(ctx context.Context, s *site, b *airgap.Bundle, m manifest.Set, req Request) (bool, error) {
	if s.receipt.Bundle != b.Digest().String() || req.PlanFile != "" || len(req.IgnorePreflights) > 0 {
		return false, nil
	}
	a.near(ctx, s)
	steps, err := compose.Install(ctx, a.site(*s, m), b, m, req.SkipKotsCheck)
	if err != nil {
		return false, err
	}
	todo, err := a.Steps("install", nil).Plan(ctx, steps)
	return err == nil && plan.Needed(todo) == 0, err
}

// record runs fn as one run of install in the journal.
func (a job) record(j *journal.Journal, asked map[string]string, fn func() error) error {
	if err := j.Begin("install", asked); err != nil {
		return err
	}
	err := fn()
	return errors.Join(err, j.End(err))
}

// firstPassword makes the console's password.
func (a job) firstPassword(ctx context.Context, m manifest.Set) (string, error) {
	k, err := a.KOTS(m.Installer.Spec.Kotsadm.Namespace)
	if err != nil {
		return "", err
	}
	password, err := k.ResetPassword(ctx)
	if err != nil {
		return "", problem.New(problem.ExitStep, "make the console's password", err, "everything else is installed; make one with: plinth console reset-password")
	}
	a.Secrets.Hide(password)
	return password, nil
}

func (a job) confirmInstall(ctx context.Context, s site, m manifest.Set, todo []step.Planned) error {
	if last, ok := unfinished(s.journal); ok && last.Verb == "install" {
		a.Note(resuming(last, todo))
	}
	return a.Confirm(ctx, fmt.Sprintf("Install %s on this host (%s, %d of %d steps to do)?", m.Installer.Metadata.Name, s.address, plan.Needed(todo), len(todo)))
}

// urlOf is where the console answers, "" for a cluster without one.
func urlOf(m manifest.Set, s site) string {
	k := m.Installer.Spec.Kotsadm
	if k == nil {
		return ""
	}
	return compose.ConsoleURL(journal.Console{Port: k.UIBindPort, Hostname: k.Hostname}, s.address.String())
}

// newReceipt says what is installed now.
func (a job) newReceipt(s site, b *airgap.Bundle, m manifest.Set) (journal.Receipt, error) {
	now := a.Now().UTC()
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
