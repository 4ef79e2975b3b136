package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/planfile"
	"github.com/plinthdev/plinth/internal/action/preflight"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
)

// Restoration is what an install on a new host restores: a control plane, or a snapshot of the console with its
// applications.
type Restoration struct {
	From    string                    // identifies the data: a run with others does not resume this one
	AppID   string                    // identifies the application bundle with images for the data; "" for none
	Receipt journal.Receipt           // of the cluster before; zero if it is not known
	Paths   []hostpreflight.WritePath // to which the restore writes beside an install
	TakenAt time.Time                 // when the data was saved; zero if it is not known
	Folder  string                    // of the object store from which snapshots are restored, and which keeps it; "" for that of the Installer
	// Check refuses a bundle, or a host, that does not fit the data.
	Check func(ctx context.Context, env *action.Env, c Candidate) error
	// Steps returns the steps of the restore.
	Steps func(c plan.Cluster) []step.Step
	// Question returns what is asked before the first change, as sentences that each end with a newline.
	Question func(c Candidate) string
}

// Candidate is a host on which something is to be restored, with the bundle for it.
type Candidate struct {
	Host    facts.Facts // those that need no network requests
	Node    string      // name that its node will have
	Bundle  digest.Digest
	Release int64 // of the bundle
	Config  config.Config
}

// restoreVerb is the name of a restore in the journal.
const restoreVerb = "restore"

// RestoreOnNewHost is Run for a host without a cluster that gets the data r. Nothing on the host but the log changes
// until the bundle and the host are verified; the caller has verified the data.
func RestoreOnNewHost(ctx context.Context, env *action.Env, opts Options, r Restoration) (Result, error) {
	bundle, cfg, err := source.Load(ctx, env, opts.Source, &opts.LoadOptions)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = bundle.Close() }()

	o := operation{opts: opts, config: cfg, opened: bundle, bundle: bundle.Bundle, restored: &r,
		receipt: journal.Receipt{InstalledAt: r.Receipt.InstalledAt, API: r.Receipt.API, LoadBalancer: r.Receipt.LoadBalancer}}
	if o.args, err = journalArgs(ctx, o.bundle, cfg, opts); err != nil {
		return Result{}, err
	}
	o.args.From, o.args.AppBundle = r.From, r.AppID
	out, err := action.Execute(ctx, env, o.newHostOperation())
	res := Result{Changed: out.Changed, Preflights: out.Preflights, Log: out.Log, Trace: out.Trace, Warnings: slices.Concat(o.warnings, o.tolerated)}
	if err != nil {
		return res, err
	}
	if opts.Plan {
		res.Plan = out.Planned
	}
	res.Kubeconfig, res.ConsoleURL = k0s.AdminConf, o.consoleURL()
	return res, nil
}

// newHostOperation returns the restore as action.Execute runs it.
func (o *operation) newHostOperation() action.Operation {
	return action.Operation{
		Verb:        restoreVerb,
		PlanOnly:    o.opts.Plan,
		Trace:       o.opts.Trace,
		Inspect:     o.inspectNewHost,             // refuse a host with a cluster, and what does not fit the data
		Preflights:  o.runPreflights,              // check the host, as an install does
		Steps:       o.newHostSteps,               // the steps of the restore, for this host
		IsRecorded:  func() bool { return false }, // the end of a restore that has done all steps is recorded, too
		Confirm:     o.confirmRestore,             // ask once; name what is lost
		Fetch:       o.fetchBundle,
		JournalArgs: o.journalArgs,
		Prepare:     o.storeFacts,
		Record:      o.writeReceipt,
	}
}

// inspectNewHost refuses a host with a cluster or with another unfinished run, and reads the facts on which the steps
// depend.
func (o *operation) inspectNewHost(ctx context.Context, env *action.Env) error {
	switch _, installed, err := journal.ReadReceipt(env.Host, env.DataDir); {
	case err != nil:
		return err
	case installed:
		return problem.New(problem.ExitUsage, restoreVerb, errors.New("this host has a cluster"), "use a host without a cluster; nothing was changed")
	}
	if err := o.checkNewHostRuns(env); err != nil {
		return err
	}
	found := preflight.GatherBasic(ctx, env)
	if err := o.inspectHost(env, found); err != nil {
		return err
	}
	found.Network.NodeAddress = o.address
	o.candidate = Candidate{Host: found, Node: o.node, Bundle: o.bundle.Digest(), Release: o.bundle.Release(), Config: o.config}
	if err := o.restored.Check(ctx, env, o.candidate); err != nil {
		return err
	}
	if err := o.resolveAPIAddress(ctx, env.Journal()); err != nil {
		return err
	}
	if err := o.inspectFirewall(env); err != nil {
		return err
	}
	return o.resolveParts(ctx, env)
}

// checkNewHostRuns refuses a restore while another run is unfinished, and finds out whether an unfinished restore only
// lacks its end.
func (o *operation) checkNewHostRuns(env *action.Env) error {
	refuse := func(why, fix string) error {
		return problem.New(problem.ExitUsage, restoreVerb, errors.New(why), fix+"; nothing on this host was changed")
	}
	if why, fix := desired.RunRefusal(env.Host, env.DataDir, env.Journal()); why != "" {
		return refuse(why, fix)
	}
	last, ok := env.Journal().LastUnfinished()
	if !ok {
		return nil
	}
	started := last.StartedAt.Format(time.RFC3339)
	const fix = "finish it first: run the same command again; or remove what it has done: sudo plinth reset cluster"
	args := o.args
	args.APIAddress = last.Args.APIAddress // without the flag, the address stays the same
	if o.opts.APIAddress != "" {
		args.APIAddress = o.opts.APIAddress
	}
	switch diff := planfile.DiffArgs(planfile.ResumeArgs(), last.Args, args); {
	case last.Verb != restoreVerb:
		return refuse(fmt.Sprintf("the %s started at %s is not finished", last.Verb, started), fix)
	case last.Args.From != args.From:
		return refuse(fmt.Sprintf("the restore started at %s is not finished, and restores other data (%s)", started, last.Args.From), fix)
	case len(diff) > 0:
		return refuse(fmt.Sprintf("the restore started at %s has other arguments: %s", started, strings.Join(diff, "; ")), fix)
	}
	for _, run := range env.Journal().Runs() {
		switch {
		case run.Verb != restoreVerb, !run.Unfinished():
			o.ended = false
		case run.HasBegun(plan.RestoreEndID):
			o.ended = true
		}
	}
	return nil
}

// newHostSteps returns the steps of the restore on env's host.
func (o *operation) newHostSteps(ctx context.Context, env *action.Env) ([]step.Step, error) {
	if o.ended {
		return plan.EndRestore(plan.Cluster{Host: env.Host, DataDir: env.DataDir}), nil
	}
	return desired.RestoreOnNewHostSteps(ctx, o.target(env), o.bundle, o.config, o.restored.Steps)
}

// confirmRestore asks before the first change; it names the step at which an unfinished restore resumes.
func (o *operation) confirmRestore(ctx context.Context, env *action.Env, todo []step.Planned) error {
	if last, ok := env.Journal().LastUnfinished(); ok {
		env.Note(resumeMessage(last, todo))
	}
	return env.Confirm(ctx, o.restored.Question(o.candidate)+
		o.describeChange("Restore", todo))
}

// addRequirements adds what a restore requires of a host beside an install: space for the data, and a clock that is not
// before the backup, or the cluster's certificates may not be valid yet.
func (r Restoration) addRequirements(want *hostpreflight.Requirements) {
	want.WritePaths = append(want.WritePaths, r.Paths...)
	want.SetSnapshotFolder(r.Folder)
	if r.TakenAt.After(want.NotBefore) {
		want.NotBefore = r.TakenAt
	}
}
