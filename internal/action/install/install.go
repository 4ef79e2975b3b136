// Package install installs a cluster from a bundle on the first host.
package install

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/planfile"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/action/upgrade"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// Options are the options of an install.
type Options struct {
	config.LoadOptions                        // what to install
	Source             source.Request         // source of the bundle and key that verifies it; its Bundle is not used
	IgnorePreflights   []string               // ids of checks that may fail
	Plan               bool                   // only return the plan
	PlanFile           string                 // apply exactly this plan, or nothing
	Restart            bool                   // roll back an unfinished install that has other arguments
	APIAddress         string                 // additional name or address of the Kubernetes API, of a load balancer in front of the controllers; "" for the known one
	Addresses          []string               // of the load balancer; none for the known ones
	NodeAddress        preflight.AddressFlags // how the address of this host is chosen
	ConfigureFirewall  string                 // networks of the nodes, for rules in the firewalls of this host; preflight.OwnNetwork for that of its address, "" for none
	RollBackOnFailure  bool                   // roll back a first install when one of its steps fails
	Trace              string                 // file for the trace of the run; "" for none
}

// Result is the result of an install.
type Result struct {
	Changed    bool                  `json:"changed"`              // false when there was nothing to do
	Plan       []step.Planned        `json:"plan,omitempty"`       // only with Options.Plan
	Inputs     *planfile.Inputs      `json:"inputs,omitempty"`     // state on which the plan depends
	Preflights *hostpreflight.Report `json:"preflights,omitempty"` // report of the host preflights
	ConsoleURL string                `json:"consoleURL,omitempty"`
	// ConsoleCommand makes the console available at http://localhost:8800; only of RunExisting.
	ConsoleCommand string        `json:"consoleCommand,omitempty"`
	Password       string        `json:"password,omitempty"` // of the console; only from the run that created it
	Kubeconfig     string        `json:"kubeconfig,omitempty"`
	Log            string        `json:"log,omitempty"`
	Trace          *action.Trace `json:"trace,omitempty"`
	Warnings       []string      `json:"-"` // what was skipped or lost: only of RestoreOnNewHost
}

// Run installs the cluster on this host. Nothing on the host but the log changes
// until the bundle, the configuration and the host have been verified.
func Run(ctx context.Context, env *action.Env, opts Options) (Result, error) {
	if err := env.RequireHost("install"); err != nil {
		return Result{}, err
	}

	// Open the bundle and verify the vendor's signature; load and lint the Installer, the Application and the license.
	bundle, cfg, err := source.Load(ctx, env, opts.Source, &opts.LoadOptions)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = bundle.Close() }()

	// Another bundle on a host with a cluster is an upgrade.
	needed, err := upgrade.IsNeeded(env, bundle.Digest().String(), cfg)
	switch {
	case err != nil:
		return Result{}, err
	case needed:
		return runUpgrade(ctx, env, opts, bundle, cfg)
	}
	// Execute calls the functions of o in this order; they follow in this package.
	o := operation{opts: opts, config: cfg, opened: bundle, bundle: bundle.Bundle}
	if o.args, err = journalArgs(ctx, o.bundle, cfg, opts); err != nil {
		return Result{}, err
	}
	if o.plan, err = planfile.Open(opts.PlanFile, "install"); err != nil {
		return Result{}, err
	}
	out, err := action.Execute(ctx, env, action.Operation{
		Verb:        "install",
		PlanOnly:    opts.Plan,
		Trace:       opts.Trace,
		Resolve:     o.resolveUnfinishedRun, // resume, refuse or roll back an unfinished run
		Inspect:     o.inspect,              // read the receipt; check the version gate
		IsUpToDate:  o.isUpToDate,           // nothing to do: skip the preflights
		Preflights:  o.runPreflights,        // check the host
		Steps:       o.steps,                // plan.Install, for this host
		CheckPlan:   o.verifyPlan,           // the plan of --plan-file, or nothing
		IsRecorded:  o.isRecorded,           // the receipt names this bundle and the host
		Confirm:     o.confirm,              // ask once
		Fetch:       o.fetchBundle,          // fetch what is missing; verify every byte
		JournalArgs: o.journalArgs,          // what a resumed run must repeat
		Prepare:     o.storeFacts,           // keep the facts of the host for later runs
		Record:      o.writeReceipt,         // what is installed now
		Failed:      o.rollBack,             // with --rollback-on-failure
	})
	res := Result{Changed: out.Changed, Preflights: out.Preflights, Log: out.Log, Trace: out.Trace}
	if err != nil {
		return res, err
	}
	if opts.Plan {
		res.Plan, res.Inputs = out.Planned, o.plan.Inputs
		return res, nil
	}
	res.Kubeconfig, res.ConsoleURL = k0s.AdminConf, o.consoleURL()
	if out.Changed && o.isFirst() && cfg.Installer.Spec.Kotsadm != nil {
		res.Password, err = o.createFirstPassword(ctx, env)
	}
	return res, err
}

// steps returns the steps of the install on env's host.
func (o *operation) steps(ctx context.Context, env *action.Env) ([]step.Step, error) {
	return desired.InstallSteps(ctx, o.target(env), o.bundle, o.config, o.opts.SkipKotsCheck)
}

// isUpToDate reports whether the host is already in the state that the bundle defines.
// When nothing will change, the preflights need not run.
func (o *operation) isUpToDate(ctx context.Context, env *action.Env) (bool, error) {
	if !o.isRecorded() || o.firewall.Pending() || o.opts.PlanFile != "" || len(o.opts.IgnorePreflights) > 0 {
		return false, nil
	}
	steps, err := o.steps(ctx, env)
	if err != nil {
		return false, err
	}
	todo, err := env.StepRunner("install", nil).Plan(ctx, steps)
	return err == nil && plan.CountNeeded(todo) == 0, err
}

// isRecorded reports whether the receipt of this host names this bundle and the host.
func (o *operation) isRecorded() bool { return desired.IsRecorded(o.receipt, o.bundle.Digest()) }

// isFirst reports whether this host had no finished install before this run.
func (o *operation) isFirst() bool { return o.receipt.InstalledAt.IsZero() }

// confirm asks before the first change; it names the step at which an unfinished
// install resumes.
func (o *operation) confirm(ctx context.Context, env *action.Env, todo []step.Planned) error {
	if last, ok := env.Journal().LastUnfinished(); ok && last.Verb == "install" {
		env.Note(resumeMessage(last, todo))
	}
	o.retainedData = hasRetainedData(env)
	err := env.Confirm(ctx, o.describeChange("Install", todo))
	var declined *problem.Problem
	if o.rolledBack && errors.As(err, &declined) {
		declined.Hint = "the unfinished install was rolled back; nothing else was changed"
	}
	return err
}

// storeFacts stores the facts of the host for later runs.
func (o *operation) storeFacts(env *action.Env) error { return o.snapshot.Write(env) }

// createFirstPassword sets a new password of the console and returns it. It is shown
// once and stored nowhere. It returns "" if the user has set one before the install was
// finished, to deploy the application in the console.
func (o *operation) createFirstPassword(ctx context.Context, env *action.Env) (string, error) {
	k, err := env.KOTS(o.config.Installer.Spec.Kotsadm.Namespace)
	if err != nil {
		return "", err
	}
	if isSet, err := k.HasPassword(ctx); err == nil && isSet {
		return "", nil
	}
	password, err := k.ResetPassword(ctx)
	if err != nil {
		return "", problem.New(problem.ExitStep, "create the console password", err, "everything else is installed; create a password with: plinth console reset-password")
	}
	env.Secrets.Hide(password)
	return password, nil
}

// consoleURL returns the URL of the console, or "" for a cluster without a console.
func (o *operation) consoleURL() string {
	k := o.config.Installer.Spec.Kotsadm
	if k == nil {
		return ""
	}
	return desired.ConsoleURL(journal.Console{Port: k.UIBindPort, Hostname: k.Hostname}, o.address.String())
}

// writeReceipt records what is installed now, and discards the fetched files.
func (o *operation) writeReceipt(env *action.Env) error {
	r, err := desired.NewReceipt(o.config.Installer, o.receipt, env.Now())
	if err != nil {
		return err
	}
	r.Role, r.Node, r.MachineID, r.Address, r.API = "controller", o.node, o.machineID, o.address.String(), o.apiAddress
	r.Firewall = o.firewall.State.Request
	r.LoadBalancer = o.addresses
	r.Bundle, r.Facts = o.bundle.Digest().String(), o.snapshot.Digest.String()
	r.Warnings, r.Vendor = o.config.Trust.AppendWarning(o.warnings), source.VendorRecord(o.config.Trust)
	for _, part := range o.addOns {
		r.AddOns = append(r.AddOns, journal.AddOn{Name: part.Name, Version: part.Version, Namespace: part.Namespace, External: part.External})
	}
	return errors.Join(journal.WriteReceipt(env.Host, env.DataDir, r), source.DiscardFetched(env))
}
