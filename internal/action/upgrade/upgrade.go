// Package upgrade moves a cluster to another bundle, and back.
package upgrade

import (
	"context"
	"errors"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/planfile"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
)

// Options are the options of an upgrade.
type Options struct {
	config.LoadOptions                // what to install
	Source             source.Request // source of the bundle and key that verifies it; its Bundle is not used
	IgnorePreflights   []string       // ids of checks that may fail
	Plan               bool           // only return the plan
	PlanFile           string         // apply exactly this plan, or nothing
	NoDrain            bool           // restart k0s under running pods
	SkipNodes          []string       // names of nodes to leave out
	MaxUnavailable     int            // workers that are upgraded at the same time; 0 for one
	Addresses          []string       // of the load balancer; none for the known ones
	Trace              string         // file for the trace of the run; "" for none
	Install            bool           // the user typed `plinth install`, and has to be told that it becomes an upgrade
}

// Result is the result of an upgrade, or of a rollback.
type Result struct {
	Changed    bool                  `json:"changed"`              // false when there was nothing to do
	From       string                `json:"from,omitempty"`       // digest of the bundle before
	To         string                `json:"to,omitempty"`         // digest of the bundle after
	Changes    []string              `json:"changes,omitempty"`    // fields of the Installer that differ
	Plan       []step.Planned        `json:"plan,omitempty"`       // only with Options.Plan
	Inputs     *planfile.Inputs      `json:"inputs,omitempty"`     // state on which the plan depends
	Preflights *hostpreflight.Report `json:"preflights,omitempty"` // report of the host preflights
	RolledBack bool                  `json:"rolledBack,omitempty"` // the upgrade failed, and the state before it was restored
	ConsoleURL string                `json:"consoleURL,omitempty"`
	Log        string                `json:"log,omitempty"`
	Trace      *action.Trace         `json:"trace,omitempty"`
}

// Run moves the cluster of this host to another bundle, or to a changed Installer. Nothing but the log
// changes until the bundle, the configuration, the cluster and the host have been verified. If a step
// fails, or the cluster is not as healthy as before, the state before the upgrade is restored.
func Run(ctx context.Context, env *action.Env, opts Options) (Result, error) {
	if err := env.RequireHost("upgrade"); err != nil {
		return Result{}, err
	}
	receipt, err := env.RequireInstalled("upgrade")
	if err == nil {
		err = action.RefuseWorker("upgrade", receipt)
	}
	if err != nil {
		return Result{}, err
	}
	bundle, cfg, err := source.Load(ctx, env, opts.Source, &opts.LoadOptions)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = bundle.Close() }()
	return RunOpened(ctx, env, opts, bundle, cfg)
}

// RunOpened is Run with an open bundle and its configuration.
func RunOpened(ctx context.Context, env *action.Env, opts Options, bundle source.Bundle, cfg config.Config) (Result, error) {
	// Execute calls the functions of o in this order; they follow in this package.
	o := operation{opts: opts, config: cfg, opened: bundle, bundle: bundle.Bundle, to: bundle.Digest().String()}
	var err error
	if o.plan, err = planfile.Open(opts.PlanFile, "upgrade"); err != nil {
		return Result{}, err
	}
	out, err := action.Execute(ctx, env, o.engineOperation())
	res := Result{Changed: out.Changed, From: o.from, To: o.to, Changes: o.changes, Preflights: out.Preflights, RolledBack: o.rolledBack, Log: out.Log, Trace: out.Trace}
	if err != nil {
		return res, err
	}
	if opts.Plan {
		res.Plan, res.Inputs = out.Planned, o.plan.Inputs
	}
	if k := cfg.Installer.Spec.Kotsadm; k != nil {
		res.ConsoleURL = desired.ConsoleURL(journal.Console{Port: k.UIBindPort, Hostname: k.Hostname}, o.address.String())
	}
	return res, nil
}

// engineOperation returns the upgrade as action.Execute runs it.
func (o *operation) engineOperation() action.Operation {
	return action.Operation{
		Verb:        Verb,
		PlanOnly:    o.opts.Plan,
		Trace:       o.opts.Trace,
		Resolve:     o.finishRollback, // of an earlier upgrade
		Inspect:     o.inspect,        // read the receipt; check versions, Installer and cluster
		IsUpToDate:  o.isUpToDate,     // nothing to do: skip the preflights
		Preflights:  o.runPreflights,  // check the host
		Steps:       o.steps,          // plan.Upgrade, for this host
		CheckPlan:   o.verifyPlan,     // the plan of --plan-file, or nothing
		IsRecorded:  o.isRecorded,     // the receipt names this bundle, and no run is unfinished
		Confirm:     o.confirm,        // ask once
		Fetch:       o.fetchBundle,    // fetch what is missing; verify every byte
		JournalArgs: o.journalArgs,    // what a resumed run must repeat
		Prepare:     o.storeFacts,     // keep the facts of the host for later runs
		Record:      o.writeReceipt,   // what is installed now
		Failed:      o.rollBack,       // restore the state before
	}
}

// Verbs of the runs in the journal.
const (
	Verb         = "upgrade"
	RollbackVerb = "rollback"
)

// UnfinishedRun returns the last run of j if it is an unfinished upgrade or rollback.
func UnfinishedRun(j *journal.Journal) (journal.Run, bool) {
	last, ok := j.LastUnfinished()
	return last, ok && (last.Verb == Verb || last.Verb == RollbackVerb)
}

// IsNeeded reports whether an install of a bundle with the configuration cfg is an upgrade: another
// bundle of the same product is installed, or an upgrade to this one is unfinished.
func IsNeeded(env *action.Env, bundle string, cfg config.Config) (bool, error) {
	r, installed, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err != nil || !installed || r.Role == token.Worker || r.Name != cfg.Installer.Metadata.Name {
		return false, err
	}
	j, err := journal.Open(env.Host, env.DataDir, env.Now)
	if err != nil {
		return false, err
	}
	last, unfinished := UnfinishedRun(j)
	return r.Bundle != bundle || unfinished && last.Args.Bundle == bundle, nil
}

// errNotInstalled is the cause of a refusal without a cluster.
var errNotInstalled = errors.New("the documents of the installed bundle cannot be read")

// unreadable returns the problem of a host whose installed Installer cannot be read.
func unreadable(dir string) error {
	return problem.New(problem.ExitUsage, "upgrade", errNotInstalled, "check the folder "+dir+"; `plinth install` with the installed bundle writes it again")
}
