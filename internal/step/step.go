// Package step runs lists of steps: each step is checked, applied if needed, and checked again.
package step

import (
	"context"
	"time"
)

// State is the result of a step's Check.
type State struct {
	Kind   StateKind
	Reason string // KindNeeded: the reason; KindUnknown: the id of the step that must run first
}

// StateKind is one of KindNeeded, KindDone and KindUnknown.
type StateKind int

// The possible results of a Check.
const (
	KindNeeded  StateKind = iota // the host does not have the desired state of the step
	KindDone                     // the host has the desired state of the step
	KindUnknown                  // cannot be determined before an earlier step has run
)

// Done returns the state of a step that has nothing to do.
func Done() State { return State{Kind: KindDone} }

// Needed returns the state of a step whose Apply has work to do, because of why.
func Needed(why string) State { return State{Kind: KindNeeded, Reason: why} }

// Unknown returns the state of a step that cannot be checked before the step with the id after has run.
func Unknown(after string) State { return State{Kind: KindUnknown, Reason: after} }

// Step is a unit of change that can be checked and resumed.
type Step struct {
	ID    string // kebab-case, unique in its verb, and stable, because the journal contains it
	Title string // what it does, as shown to the user: "Start k0s"
	// Check inspects the host and changes nothing.
	Check func(context.Context) (State, error)
	// Apply brings the host to the desired state. It is safe to run it again after a crash at any point.
	Apply func(context.Context, Report) error
	// Affects lists the host paths, units and cluster objects that Apply may
	// change, for the plan and the journal.
	Affects []string
}

// Report reports the progress of a step to its caller: the current action or the
// reason for waiting, and the processed and total bytes (0, 0 if the progress is not measured in bytes).
// It is an alias of a plain function type so that domain packages do not have to import this package.
type Report = func(message string, bytes, total int64)

// EventState is the state that an Event reports.
type EventState string

// States of the public event stream.
const (
	Started  EventState = "started"
	Progress EventState = "progress"
	Skipped  EventState = "skipped"
	Finished EventState = "done"
	Failed   EventState = "failed"
)

// Event is a change in the progress of a step. Its JSON encoding is public.
type Event struct {
	V       int        `json:"v"`    // version of the encoding: 1
	Time    time.Time  `json:"time"` // UTC
	Verb    string     `json:"verb"` // install, reset, …
	Step    string     `json:"step"` // Step.ID
	State   EventState `json:"state"`
	Message string     `json:"message,omitempty"` // current action, reason for waiting, or reason of the failure
	Bytes   int64      `json:"bytes,omitempty"`   // processed so far
	Total   int64      `json:"total,omitempty"`   // 0 if unknown
	Title   string     `json:"-"`                 // Step.Title, for renderers
	Index   int        `json:"-"`                 // position of the step in its verb, from 0
	Count   int        `json:"-"`                 // number of steps in the verb
	Stopped bool       `json:"-"`                 // it failed because the user interrupted it
	Affects []string   `json:"-"`                 // Step.Affects
	Next    []string   `json:"-"`                 // ids of the steps after it in its list
}
