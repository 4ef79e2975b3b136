// Package step owns the step machine: a verb is a list of steps, each of which
// is looked at, applied when needed, and looked at again. It refuses to know
// what a step does.
package step

import (
	"context"
	"time"
)

// State is what a look at the host says of a step.
type State struct {
	Kind StateKind
	Why  string // why it is needed, or what must happen before it can be told
}

// StateKind is one of Done, Needed and Unknown.
type StateKind int

// The three answers of a Check.
const (
	IsNeeded  StateKind = iota // the host differs from what the step wants
	IsDone                     // the host is as the step wants it
	IsUnknown                  // cannot be told before an earlier step has run
)

// Done says that nothing is to be done.
func Done() State { return State{Kind: IsDone} }

// Needed says that Apply has work to do, and why.
func Needed(why string) State { return State{Kind: IsNeeded, Why: why} }

// Unknown says that it cannot be told yet, and after which step it can.
func Unknown(after string) State { return State{Kind: IsUnknown, Why: after} }

// Step is one named, checkable, resumable unit of change.
type Step struct {
	ID    string // kebab-case, unique in its verb, stable: the journal refers to it
	Title string // what it does, for a person: "Start k0s"
	// Check looks at the host and changes nothing.
	Check func(context.Context) (State, error)
	// Apply makes it so. It may be run again after a crash at any point.
	Apply func(context.Context, Report) error
	// Touches names the host paths, units and cluster objects that Apply may
	// change, for the plan and the journal.
	Touches []string
}

// Report tells whoever runs the step how far it is: what is being done or
// waited for, and bytes done of total (0, 0 when bytes are not the measure).
// It is a plain function type so that domain packages need not know steps.
type Report = func(message string, bytes, total int64)

// EventState is the state an Event reports.
type EventState string

// States of the public event stream.
const (
	Started  EventState = "started"
	Progress EventState = "progress"
	Skipped  EventState = "skipped"
	Finished EventState = "done"
	Failed   EventState = "failed"
)

// Event is one thing that happened to a step; its JSON form is public.
type Event struct {
	V       int        `json:"v"`    // version of this form: 1
	Time    time.Time  `json:"time"` // when, UTC
	Verb    string     `json:"verb"` // install, reset, …
	Step    string     `json:"step"` // Step.ID
	State   EventState `json:"state"`
	Message string     `json:"message,omitempty"` // what is being done or waited for, or why it failed
	Bytes   int64      `json:"bytes,omitempty"`   // done so far
	Total   int64      `json:"total,omitempty"`   // of so many; 0 when it cannot be told
	Title   string     `json:"-"`                 // Step.Title, for renderers
	Index   int        `json:"-"`                 // position of the step in its verb, from 0
	Count   int        `json:"-"`                 // number of steps in the verb
}
