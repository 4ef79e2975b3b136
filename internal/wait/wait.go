// Package wait owns the one polling loop: what is waited for, for how long,
// and the last reason why it is not there yet. It refuses to give up with a
// bare timeout.
package wait

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
)

// Condition answers whether the wait is over. reason says, for a person, why
// not yet ("pod kube-system/coredns-x: ContainerCreating"). A non-nil err ends
// the wait at once.
type Condition func(ctx context.Context) (done bool, reason string, err error)

// Options bound a wait.
type Options struct {
	What     string              // what is waited for: "node n1 to be Ready"
	Timeout  time.Duration       // upper bound
	Interval time.Duration       // pause between two looks; 0 means 500 ms
	OnReason func(reason string) // told the reason whenever it changes; may be nil
	// Culprit is asked once when the time is over, to name who is to blame
	// and its last log line; nil or "" where nothing is known.
	Culprit func(ctx context.Context) string
	Next    string // the command that shows more; "" for none
}

// TimeoutError says what did not happen, and the last reason seen.
type TimeoutError struct {
	What    string        // Options.What
	Timeout time.Duration // how long it was waited for
	Reason  string        // last reason given by the condition
	Culprit string        // who is to blame, if known
	Next    string        // Options.Next
}

// Hint is what to type to see more; "" when nothing is known.
func (e *TimeoutError) Hint() string {
	if e.Next == "" {
		return ""
	}
	return "to see more: " + e.Next
}

// Error names what was waited for, the last state and the culprit.
func (e *TimeoutError) Error() string {
	s := fmt.Sprintf("waited %s for %s; last seen: %s", e.Timeout.Round(time.Second), e.What, e.Reason)
	if e.Culprit != "" {
		s += "; " + e.Culprit
	}
	return s
}

// Until polls cond until it is done, fails, the time is over (*TimeoutError)
// or ctx ends (its cause).
func Until(ctx context.Context, o Options, cond Condition) error {
	if o.Interval == 0 {
		o.Interval = 500 * time.Millisecond
	}
	inner, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	tick := time.NewTicker(o.Interval)
	defer tick.Stop()
	last := nothing
	for {
		done, reason, err := cond(inner)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case inner.Err() != nil && (err == nil || errors.Is(err, context.DeadlineExceeded)):
			if done {
				return nil
			}
			if last == nothing && reason != "" {
				last = reason // the only look took all the time
			}
			return timeout(ctx, o, last)
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

// Pause ends after d, or with the cause of ctx when that ends first.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// nothing stands for a reason until there is one.
const nothing = "nothing yet"

func timeout(ctx context.Context, o Options, last string) error {
	e := &TimeoutError{What: o.What, Timeout: o.Timeout, Reason: problem.Plain(last), Next: o.Next}
	if o.Culprit != nil {
		ask, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		e.Culprit = problem.Plain(o.Culprit(ask))
	}
	return e
}
