package action

import (
	"context"
	"errors"
	"strings"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/ui"
)

// Operation is one verb that changes this host or its cluster. Execute calls
// its functions in the order of the fields; a nil function has nothing to do.
// From Inspect to CheckPlan, the environment refuses to change the host.
type Operation struct {
	Verb     string // name of the verb: "install"
	PlanOnly bool   // stop after the plan; nothing on the host changes, not even the log
	Trace    string // file for the trace of the run; "" for none

	// Resolve decides what happens with an unfinished earlier run. It may roll it
	// back, if the user requests and confirms that.
	Resolve func(ctx context.Context, env *Env) error
	// Inspect reads what earlier runs left and refuses what cannot be done.
	Inspect func(ctx context.Context, env *Env) error
	// IsUpToDate reports whether nothing has to be done, without preflights.
	IsUpToDate func(ctx context.Context, env *Env) (bool, error)
	// Preflights checks the host. A report with failed checks comes with an error.
	Preflights func(ctx context.Context, env *Env) (*hostpreflight.Report, error)
	// Steps returns the steps that env's host needs: first to plan, then to apply.
	Steps func(ctx context.Context, env *Env) ([]step.Step, error)
	// Unplanned applies the steps without a plan, unless only the plan is requested:
	// a step that cannot be inspected must not prevent the others.
	Unplanned bool
	// CheckPlan refuses a plan that is not the requested one.
	CheckPlan func(env *Env, planned []step.Planned) error
	// IsRecorded reports whether the receipt already describes the result. If it
	// does, a run without needed steps ends here; nil means that it does.
	IsRecorded func() bool

	// Confirm asks before the first change; planned are the steps.
	Confirm func(ctx context.Context, env *Env, planned []step.Planned) error
	// Fetch downloads what the steps need and this host lacks, and verifies every
	// byte. It may write to FetchDir only.
	Fetch func(ctx context.Context, env *Env) error
	// JournalArgs returns the arguments that the journal stores for this run; count
	// is the number of steps to apply. Without arguments the run is not recorded.
	JournalArgs func(env *Env, count int) *journal.Args
	// WithoutJournal continues when the journal cannot be written, with a warning.
	WithoutJournal bool
	// Prepare is called after the run is in the journal, before the first step.
	Prepare func(env *Env) error
	// Apply runs the steps; nil means runner.Run.
	Apply func(ctx context.Context, env *Env, runner step.Runner, steps []step.Step) error
	// Record stores the result, such as the receipt, after all steps.
	Record func(env *Env) error
	// RemovesJournal is set by a verb whose last step removes the journal.
	RemovesJournal bool
	// Failed handles the failure of a step or of Record, and returns the error to report.
	Failed func(ctx context.Context, env *Env, failure error) error
}

// Outcome is the result of Execute.
type Outcome struct {
	Changed    bool                  // whether the host or the cluster was changed
	Planned    []step.Planned        // the plan; nil when an earlier function failed or found nothing to do
	Preflights *hostpreflight.Report // nil when no preflights ran
	Log        string                // file of the log; "" with PlanOnly
	Trace      *Trace                // nil if none was requested, or it could not be written
}

// Execute runs an operation: inspect, preflights, plan, confirm, fetch, journal,
// apply, record. Until everything that can be checked in advance is verified and
// confirmed, nothing on the host changes except the lock, the log and FetchDir.
func Execute(ctx context.Context, env *Env, op Operation) (Outcome, error) {
	if op.PlanOnly { // it needs neither lock nor log
		return ExecuteLocked(ctx, env, op)
	}
	var out Outcome
	err := env.WithLock(ctx, strings.ReplaceAll(op.Verb, " ", "-"), func(env *Env, _ *ui.RunLog) (err error) {
		out, err = ExecuteLocked(ctx, env, op)
		return err
	})
	return out, err
}

// ExecuteLocked is Execute for a caller that holds the lock of the host.
func ExecuteLocked(ctx context.Context, env *Env, op Operation) (Outcome, error) {
	if op.PlanOnly {
		var out Outcome
		err := op.planOnly(ctx, env.ReadOnly(), &out)
		return out, err
	}
	out := Outcome{Log: env.LogFile}
	if op.Trace == "" {
		return out, op.execute(ctx, env, &out)
	}
	t, err := env.beginTrace(op.Verb, op.Trace)
	if err != nil {
		return out, err
	}
	err = op.execute(ctx, env, &out)
	out.Trace = t.end(ctx, env, op.Verb)
	return out, err
}

// planOnly inspects the host and plans the steps; the environment readOnly cannot
// change the host.
func (op Operation) planOnly(ctx context.Context, readOnly *Env, out *Outcome) error {
	if _, err := readOnly.OpenJournal(); err != nil {
		return err
	}
	if err := optional(ctx, readOnly, op.Inspect); err != nil {
		return err
	}
	return op.plan(ctx, readOnly, out)
}

// execute runs op up to its end.
func (op Operation) execute(ctx context.Context, env *Env, out *Outcome) error {
	if err := optional(ctx, env, op.Resolve); err != nil {
		return err
	}
	if _, err := env.OpenJournal(); err != nil {
		return err
	}
	readOnly := env.ReadOnly()
	if err := optional(ctx, readOnly, op.Inspect); err != nil {
		return err
	}
	if op.IsUpToDate != nil {
		if done, err := op.IsUpToDate(ctx, readOnly); err != nil || done {
			return err
		}
	}
	if !op.Unplanned {
		if err := op.plan(ctx, readOnly, out); err != nil {
			return err
		}
		if plan.CountNeeded(out.Planned) == 0 && (op.IsRecorded == nil || op.IsRecorded()) {
			return nil
		}
	}
	if out.Preflights != nil {
		if warnings := out.Preflights.WarningText(env.Verbose); warnings != "" {
			env.Note(warnings)
		}
	}
	if op.Confirm != nil {
		if err := op.Confirm(ctx, env, out.Planned); err != nil {
			return err
		}
	}
	if err := optional(ctx, env, op.Fetch); err != nil {
		return err
	}
	out.Changed = true
	err := op.apply(ctx, env, plan.CountNeeded(out.Planned))
	if err != nil && op.Failed != nil {
		err = op.Failed(ctx, env, err)
	}
	return err
}

// plan runs the preflights and plans the steps, without changing the host.
func (op Operation) plan(ctx context.Context, readOnly *Env, out *Outcome) (err error) {
	if op.Preflights != nil {
		out.Preflights, err = op.Preflights(ctx, readOnly)
		if out.Preflights != nil && readOnly.log != nil {
			readOnly.log.Note(out.Preflights.Text())
		}
		if err != nil {
			return err
		}
	}
	steps, err := op.Steps(ctx, readOnly)
	if err != nil {
		return err
	}
	if out.Planned, err = readOnly.StepRunner(op.Verb, nil).Plan(ctx, steps); err != nil {
		return err
	}
	if op.CheckPlan != nil {
		return op.CheckPlan(readOnly, out.Planned)
	}
	return nil
}

// apply runs the steps and stores the result, as one run in the journal.
func (op Operation) apply(ctx context.Context, env *Env, count int) error {
	steps, err := op.Steps(ctx, env)
	if err != nil {
		return err
	}
	var args *journal.Args
	if op.JournalArgs != nil {
		args = op.JournalArgs(env, count)
	}
	if args == nil {
		return op.run(ctx, env, nil, steps)
	}
	j := env.Journal()
	if err := j.BeginRun(op.Verb, *args); err != nil {
		if !op.WithoutJournal {
			return err
		}
		env.Note("warning: " + err.Error())
		return op.run(ctx, env, nil, steps)
	}
	err = op.run(ctx, env, j, steps)
	if err == nil && op.RemovesJournal {
		return nil
	}
	return errors.Join(err, j.EndRun(err))
}

// run applies the steps, recorded by j unless it is nil, and stores the result.
func (op Operation) run(ctx context.Context, env *Env, j *journal.Journal, steps []step.Step) error {
	if op.Prepare != nil {
		if err := op.Prepare(env); err != nil {
			return err
		}
	}
	runner := env.StepRunner(op.Verb, nil)
	if j != nil {
		runner.Recorder = j
	}
	var err error
	if op.Apply != nil {
		err = op.Apply(ctx, env, runner, steps)
	} else {
		_, err = runner.Run(ctx, steps)
	}
	if err == nil && op.Record != nil {
		err = op.Record(env)
	}
	return err
}

// optional calls fn unless it is nil.
func optional(ctx context.Context, env *Env, fn func(context.Context, *Env) error) error {
	if fn == nil {
		return nil
	}
	return fn(ctx, env)
}

// RequireHost returns a usage problem unless verb may run on this host: as root,
// and with a data folder that belongs to Plinth or can.
func (env *Env) RequireHost(verb string) error {
	if err := RequireRoot(verb); err != nil {
		return err
	}
	return env.CheckDataDir(verb)
}

var _ step.Recorder = (*journal.Journal)(nil)
var _ plan.StateStore = (*journal.Journal)(nil)
