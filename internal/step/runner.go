package step

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
)

// Recorder is told what happens to each step before and after it happens; a
// journal. Its errors stop the run: what cannot be remembered is not done.
type Recorder interface {
	BeginStep(id string, touches []string) error
	EndStep(id string, cause error) error
}

// Runner runs the steps of one verb.
type Runner struct {
	Verb     string           // install, reset, …
	Recorder Recorder         // remembers; nil for none
	Events   func(Event)      // is told; nil for none
	Now      func() time.Time // the clock
	Resume   string           // what to type to go on, for hints: "run the same command again"
	// At is reached at each boundary of a step; its error is the step's. It is
	// for tests of what a run that dies there leaves; nil for none.
	At func(id string, b Boundary) error
}

// Boundary is a moment of a step that has something to do.
type Boundary string

// The boundaries, in their order.
const (
	AtNeeded  Boundary = "needed"  // looked at, nothing written down
	AtBegun   Boundary = "begun"   // written down, not applied
	AtWorking Boundary = "working" // at each report of Apply; an error has no effect
	AtApplied Boundary = "applied" // applied, its end not written down
	AtEnded   Boundary = "ended"   // its end written down
)

// at reaches a boundary.
func (r Runner) at(id string, b Boundary) error {
	if r.At == nil {
		return nil
	}
	return r.At(id, b)
}

// Planned is one step as a plan shows it; its JSON form is public.
type Planned struct {
	Step    string   `json:"step"`              // Step.ID
	Title   string   `json:"title"`             // Step.Title
	State   string   `json:"state"`             // done, needed, unknown
	Why     string   `json:"why,omitempty"`     // why it is needed, or after which step it can be told
	Touches []string `json:"touches,omitempty"` // host paths, units and cluster objects it may change
	Bytes   int64    `json:"bytes,omitempty"`   // of the files that it removes
}

// Plan looks at every step and changes nothing.
func (r Runner) Plan(ctx context.Context, steps []Step) ([]Planned, error) {
	names := map[StateKind]string{IsDone: "done", IsNeeded: "needed", IsUnknown: "unknown"}
	plan := make([]Planned, 0, len(steps))
	for _, s := range steps {
		st, err := s.Check(ctx)
		if err != nil {
			return nil, problem.New(problem.ExitInternal, "tell whether to "+lower(s.Title), err, "")
		}
		plan = append(plan, Planned{Step: s.ID, Title: s.Title, State: names[st.Kind], Why: st.Why, Touches: s.Touches})
	}
	return plan, nil
}

// Run brings every step to done, in order, and stops at the first that fails.
// It returns how many steps it applied.
func (r Runner) Run(ctx context.Context, steps []Step) (applied int, err error) {
	for i, s := range steps {
		did, err := r.one(ctx, i, len(steps), s)
		if did {
			applied++
		}
		if err != nil {
			return applied, err
		}
	}
	return applied, nil
}

// RunAll tries every step, also after one has failed, and returns all that
// went wrong. It is for taking back, where the rest must not wait for one.
func (r Runner) RunAll(ctx context.Context, steps []Step) (applied int, err error) {
	var errs []error
	for i, s := range steps {
		did, err := r.one(ctx, i, len(steps), s)
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

// one looks at a step, applies it when needed, and looks again.
func (r Runner) one(ctx context.Context, index, count int, s Step) (applied bool, err error) {
	emit := func(state EventState, message string, bytes, total int64) {
		if r.Events != nil {
			r.Events(Event{V: 1, Time: r.Now().UTC(), Verb: r.Verb, Step: s.ID, State: state, Message: message,
				Bytes: bytes, Total: total, Title: s.Title, Index: index, Count: count})
		}
	}
	defer func() {
		if err != nil {
			err = r.explain(ctx, s, err)
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
	if before.Kind == IsDone {
		emit(Skipped, "", 0, 0)
		return false, nil
	}
	if err := r.at(s.ID, AtNeeded); err != nil {
		return false, err
	}
	emit(Started, before.Why, 0, 0)
	if r.Recorder != nil {
		if err := r.Recorder.BeginStep(s.ID, s.Touches); err != nil {
			return false, err
		}
	}
	if err = r.at(s.ID, AtBegun); err == nil {
		err = s.Apply(ctx, func(m string, b, t int64) {
			emit(Progress, m, b, t)
			_ = r.at(s.ID, AtWorking)
		})
	}
	if err == nil {
		err = recheck(ctx, s)
	}
	if err == nil {
		err = r.at(s.ID, AtApplied)
	}
	if r.Recorder != nil {
		if e := r.Recorder.EndStep(s.ID, err); err == nil {
			err = e
		}
	}
	if err == nil {
		err = r.at(s.ID, AtEnded)
	}
	if err == nil {
		emit(Finished, "", 0, 0)
	}
	return true, err
}

// recheck proves that Apply did what Check asks for.
func recheck(ctx context.Context, s Step) error {
	after, err := s.Check(ctx)
	if err != nil {
		return err
	}
	if after.Kind != IsDone {
		return fmt.Errorf("it was done, yet the host still says: %s", after.Why)
	}
	return nil
}

// explain gives a step's failure its words and exit code; a cause that has
// both keeps them.
func (r Runner) explain(ctx context.Context, s Step, err error) error {
	if ctx.Err() != nil {
		return problem.New(problem.ExitInterrupted, r.Verb, fmt.Errorf("interrupted at step %q (%s)", s.ID, lower(s.Title)), r.Resume)
	}
	var p *problem.Problem
	if errors.As(err, &p) && p.Exit != 0 {
		return err
	}
	hint := problem.Hint(err)
	var late interface{ Hint() string } // a wait that took too long does not know how to go on
	switch {
	case hint == "":
		hint = r.Resume
	case errors.As(err, &late) && hint == late.Hint():
		hint += "\n" + r.Resume
	}
	return problem.New(problem.ExitStep, lower(s.Title), err, hint)
}

func lower(title string) string {
	if title == "" {
		return title
	}
	return strings.ToLower(title[:1]) + title[1:]
}
