package step

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
)

// Recorder records each step before and after it is applied; the journal implements it.
// An error of BeginStep stops the run: a step that cannot be recorded is not applied.
type Recorder interface {
	BeginStep(id string, affects []string) error
	EndStep(id string, cause error) error
}

// Runner checks and runs the steps of a verb.
type Runner struct {
	Verb       string           // install, reset, …
	Recorder   Recorder         // records the steps; nil for none
	OnEvent    func(Event)      // receives the progress; nil for none
	Now        func() time.Time // clock
	ResumeHint string           // how to resume the run, for hints: "run the same command again"
	// FirstHint returns what to do before the run is resumed, if an error has no hint of its own; "" for nothing. It may be nil.
	FirstHint func(error) string
	// OnBoundary is called at each boundary of a step; the step fails with its error.
	// Fault tests use it to kill the run there; nil for none.
	OnBoundary func(id string, b Boundary) error
	// First and Count number the steps of a verb that calls Run more than once: the
	// index of the first step of the list, and the number of steps of the verb. A Count
	// of 0 is the length of the list.
	First, Count int
}

// From returns r for a list that starts at the step with the index first.
func (r Runner) From(first int) Runner {
	r.First = first
	return r
}

// Boundary is a point in the execution of a step that has something to do.
type Boundary string

// The boundaries, in the order in which a step reaches them.
const (
	AtNeeded  Boundary = "needed"  // checked, not recorded
	AtBegun   Boundary = "begun"   // recorded, not applied
	AtWorking Boundary = "working" // at each progress report of Apply; errors are ignored
	AtApplied Boundary = "applied" // applied, its end not recorded
	AtEnded   Boundary = "ended"   // its end recorded
)

func (r Runner) reachBoundary(id string, b Boundary) error {
	if r.OnBoundary == nil {
		return nil
	}
	return r.OnBoundary(id, b)
}

// Planned is a step in a plan. Its JSON encoding is public.
type Planned struct {
	Step    string   `json:"step"`              // Step.ID
	Title   string   `json:"title"`             // Step.Title
	State   string   `json:"state"`             // done, needed, unknown
	Reason  string   `json:"reason,omitempty"`  // needed: the reason; unknown: the id of the step that must run first
	Affects []string `json:"affects,omitempty"` // host paths, units and cluster objects that it may change
	Bytes   int64    `json:"bytes,omitempty"`   // total size of the files that it removes
}

// Plan returns the state of every step of steps and changes nothing. It fails if a Check fails.
func (r Runner) Plan(ctx context.Context, steps []Step) ([]Planned, error) {
	names := map[StateKind]string{KindDone: "done", KindNeeded: "needed", KindUnknown: "unknown"}
	plan := make([]Planned, 0, len(steps))
	for _, s := range steps {
		st, err := s.Check(ctx)
		if err != nil {
			return nil, problem.New(problem.ExitInternal, "check whether to "+lowerFirst(s.Title), err, "")
		}
		plan = append(plan, Planned{Step: s.ID, Title: s.Title, State: names[st.Kind], Reason: st.Reason, Affects: s.Affects})
	}
	return plan, nil
}

// Run checks the steps in order, applies those that are needed, and stops at the first failure.
// It returns the number of applied steps.
func (r Runner) Run(ctx context.Context, steps []Step) (applied int, err error) {
	for i := range steps {
		did, err := r.runStep(ctx, i, steps)
		if did {
			applied++
		}
		if err != nil {
			return applied, err
		}
	}
	return applied, nil
}

// RunAll is Run, except that it continues after a failed step and returns all errors. Only an
// interruption stops it. A reset uses it, where one failure must not prevent the removal of the rest.
func (r Runner) RunAll(ctx context.Context, steps []Step) (applied int, err error) {
	var errs []error
	for i := range steps {
		did, err := r.runStep(ctx, i, steps)
		if did {
			applied++
		}
		errs = append(errs, err)
		if problem.ExitCode(err) == problem.ExitInterrupted {
			break
		}
	}
	return applied, errors.Join(errs...)
}

// runStep checks the step at index, applies it if needed, and checks it again. It reports whether it started to apply it.
func (r Runner) runStep(ctx context.Context, index int, steps []Step) (applied bool, err error) {
	s := steps[index]
	next := make([]string, 0, len(steps)-index-1)
	for _, later := range steps[index+1:] {
		next = append(next, later.ID)
	}
	emit := func(state EventState, message string, bytes, total int64) {
		if r.OnEvent != nil {
			r.OnEvent(Event{V: 1, Time: r.Now().UTC(), Verb: r.Verb, Step: s.ID, State: state, Message: message, Bytes: bytes, Total: total, Title: s.Title,
				Index: r.First + index, Count: max(r.Count, len(steps)), Stopped: state == Failed && ctx.Err() != nil, Affects: s.Affects, Next: next})
		}
	}
	defer func() {
		if err != nil {
			err = r.wrapError(ctx, s, err)
			emit(Failed, err.Error(), 0, 0)
		}
	}()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	before, err := s.Check(ctx)
	if err != nil {
		return false, err
	}
	if before.Kind == KindDone {
		emit(Skipped, "", 0, 0)
		return false, nil
	}
	if err := r.reachBoundary(s.ID, AtNeeded); err != nil {
		return false, err
	}
	emit(Started, before.Reason, 0, 0)
	if r.Recorder != nil {
		if err := r.Recorder.BeginStep(s.ID, s.Affects); err != nil {
			return false, err
		}
	}
	report := func(m string, b, t int64) {
		emit(Progress, m, b, t)
		_ = r.reachBoundary(s.ID, AtWorking)
	}
	if err = r.reachBoundary(s.ID, AtBegun); err == nil {
		err = s.Apply(ctx, report)
	}
	if err == nil {
		err = verify(ctx, s, report)
	}
	if err == nil {
		err = r.reachBoundary(s.ID, AtApplied)
	}
	if r.Recorder != nil {
		if e := r.Recorder.EndStep(s.ID, err); err == nil {
			err = e
		}
	}
	if err == nil {
		err = r.reachBoundary(s.ID, AtEnded)
	}
	if err == nil {
		emit(Finished, "", 0, 0)
	}
	return true, err
}

// verify returns an error if Check of the applied step s does not report KindDone. What was done can be undone in between:
// Kubernetes replaces a pod that was Ready when a step waited for it. So the step is applied a second time.
func verify(ctx context.Context, s Step, report Report) error {
	for isSecond := false; ; isSecond = true {
		after, err := s.Check(ctx)
		if err != nil || after.Kind == KindDone {
			return err
		}
		if isSecond {
			return fmt.Errorf("applied without an error, but still needed: %s", after.Reason)
		}
		report("applied, but needed again: "+after.Reason, 0, 0)
		if err := s.Apply(ctx, report); err != nil {
			return err
		}
	}
}

// wrapError returns err with the title of the step s, an exit code and a hint how to resume.
// A Problem that has an exit code is returned as it is.
func (r Runner) wrapError(ctx context.Context, s Step, err error) error {
	if ctx.Err() != nil {
		return problem.New(problem.ExitInterrupted, r.Verb, fmt.Errorf("interrupted at step %q (%s)", s.ID, lowerFirst(s.Title)), r.ResumeHint)
	}
	var p *problem.Problem
	if errors.As(err, &p) && p.Exit != 0 {
		return err
	}
	hint := problem.Hint(err)
	var late interface{ Hint() string } // the hint of a timeout does not contain how to resume
	switch {
	case hint == "":
		hint = r.resumeHint(err)
	case errors.As(err, &late) && hint == late.Hint():
		hint += "\n" + r.ResumeHint
	}
	return problem.New(problem.ExitStep, lowerFirst(s.Title), err, hint)
}

// resumeHint returns how to resume the run after err, with what has to be done before.
func (r Runner) resumeHint(err error) string {
	if r.FirstHint != nil {
		if first := r.FirstHint(err); first != "" {
			return first + "\n" + r.ResumeHint
		}
	}
	return r.ResumeHint
}

func lowerFirst(title string) string {
	if title == "" {
		return title
	}
	return strings.ToLower(title[:1]) + title[1:]
}
