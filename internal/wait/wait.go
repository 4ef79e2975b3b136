// Package wait polls a condition until it is met or a timeout expires. The error of a
// timeout names what was waited for and the last reason why the condition was not met.
package wait

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
)

// Condition reports whether the wait is over. If it is not, reason describes why in
// words for the user ("pod kube-system/coredns-x: ContainerCreating"). A non-nil err
// ends the wait immediately.
type Condition func(ctx context.Context) (done bool, reason string, err error)

// Options configures a wait.
type Options struct {
	What     string              // what is waited for: "node n1 to be Ready"
	Timeout  time.Duration       // maximum duration of the wait
	Interval time.Duration       // interval between two checks; 0 means 500 ms
	OnReason func(reason string) // called with the reason whenever it changes; may be nil
	// Diagnose is called once after a timeout. It returns the component that caused
	// the timeout, with its last log line, or "" if it is unknown. It may be nil.
	Diagnose    func(ctx context.Context) string
	NextCommand string // command that shows details; "" for none
}

// TimeoutError describes a condition that was not met in time.
type TimeoutError struct {
	What        string        // Options.What
	Timeout     time.Duration // Options.Timeout
	Reason      string        // last reason returned by the condition
	Diagnosis   string        // what Options.Diagnose returned
	NextCommand string        // Options.NextCommand
}

// Hint returns a hint with the command that shows details; "" if there is none.
func (e *TimeoutError) Hint() string {
	if e.NextCommand == "" {
		return ""
	}
	return "to see more: " + e.NextCommand
}

// Error returns a message with the condition, the last reason and the diagnosis.
func (e *TimeoutError) Error() string {
	s := fmt.Sprintf("waited %s for %s; last seen: %s", e.Timeout.Round(time.Second), e.What, e.Reason)
	if e.Diagnosis != "" {
		s += "; " + e.Diagnosis
	}
	return s
}

// Until polls cond until it is done or returns an error. It returns a *TimeoutError
// after o.Timeout, and the cause of ctx if ctx ends first.
func Until(ctx context.Context, o Options, cond Condition) error {
	if o.Interval == 0 {
		o.Interval = 500 * time.Millisecond
	}
	inner, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	tick := time.NewTicker(o.Interval)
	defer tick.Stop()
	last := noReason
	for {
		done, reason, err := cond(inner)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case inner.Err() != nil && (err == nil || errors.Is(err, context.DeadlineExceeded)):
			if done {
				return nil
			}
			if last == noReason && reason != "" {
				last = reason // the first check used up the whole timeout
			}
			return newTimeoutError(ctx, o, last)
		case err != nil:
			return err
		case done:
			return nil
		}
		if reason != last {
			last = reason
			if o.OnReason != nil {
				o.OnReason(reason)
			}
		}
		select {
		case <-inner.Done():
		case <-tick.C:
		}
	}
}

// Sleep returns after d, or with the cause of ctx if ctx ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// ErrNoReply is the error of ForReply for a call that has not returned in time.
var ErrNoReply = errors.New("no answer in time")

// ForReply returns what ask returns. It waits until ctx has ended and then for grace, in which ask can notice that. After
// that it returns ErrNoReply, or the cause of a ctx that was canceled. It is for calls that nothing can interrupt, such as
// reading from a disk that does not answer. Such a call continues: it must not write what others read.
func ForReply[T any](ctx context.Context, grace time.Duration, ask func(context.Context) (T, error)) (T, error) {
	type reply struct {
		value T
		err   error
	}
	replies := make(chan reply, 1)
	go func() {
		value, err := ask(ctx)
		replies <- reply{value, err}
	}()
	select {
	case r := <-replies:
		return r.value, r.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case r := <-replies:
		return r.value, r.err
	case <-timer.C:
	}
	var none T
	if errors.Is(ctx.Err(), context.Canceled) {
		return none, context.Cause(ctx)
	}
	return none, ErrNoReply
}

// noReason is used as the reason until cond has returned one.
const noReason = "nothing yet"

// newTimeoutError returns the error of a wait, with the diagnosis of o.Diagnose.
func newTimeoutError(ctx context.Context, o Options, last string) error {
	e := &TimeoutError{What: o.What, Timeout: o.Timeout, Reason: problem.ExplainTimeout(last), NextCommand: o.NextCommand}
	if o.Diagnose != nil {
		diagnoseCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		e.Diagnosis = problem.ExplainTimeout(o.Diagnose(diagnoseCtx))
	}
	return e
}
