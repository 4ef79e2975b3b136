// Package failpoint owns the places at which a run can be made to die or to
// fail on purpose: their names, the rules that arm them, and what they do. It
// refuses to read the environment and to decide who may arm anything: the
// process's edge does, once. Unarmed, a place costs one comparison with nil.
package failpoint

import (
	"fmt"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/host"
)

// Point is one place: "install/k0s-start:applied".
type Point struct {
	Verb   string // install, reset, …
	Object string // a step's id; Journal, Receipt or Run
	Moment Moment
}

// String is the point's name.
func (p Point) String() string { return p.Verb + "/" + p.Object + ":" + string(p.Moment) }

// Objects that are no steps.
const (
	Run     = "run"     // the run as a whole
	Journal = "journal" // each write of the journal
	Receipt = "receipt" // each write of the receipt
)

// Moment is when, in the life of a step, of a file or of a run.
type Moment string

// Moments of a step that has something to do, in their order.
const (
	Needed  Moment = "needed"  // the host was looked at, nothing is written down
	Begun   Moment = "begun"   // the journal knows of the step, the host has not been changed
	Working Moment = "working" // each time the step tells how far it is
	Applied Moment = "applied" // the host is changed, the journal does not know
	Ended   Moment = "ended"   // the journal knows
)

// Moments of a write, in their order.
const (
	Write   Moment = "write"   // before its temporary file
	Torn    Moment = "torn"    // half of the temporary file is written
	Temp    Moment = "temp"    // the temporary file is whole, the name still has the old content
	Renamed Moment = "renamed" // the name has the new content, the caller does not know
)

// Started is the moment of a run: it holds the lock and has changed nothing.
const Started Moment = "started"

// Moments lists the moments of an object.
func Moments(object string) []Moment {
	switch object {
	case Run:
		return []Moment{Started}
	case Journal, Receipt:
		return []Moment{Write, Torn, Temp, Renamed}
	}
	return []Moment{Needed, Begun, Working, Applied, Ended}
}

// Effects is how a Set acts on the process that it runs in.
type Effects struct {
	Say   func(text string)   // is told LastWords
	Kill  func()              // ends the process at once, as kill -9 does
	Pause func(time.Duration) // returns after that time
}

// LastWords is what a run says before r kills it.
func LastWords(r Rule) string { return "failpoint " + r.Point.String() + ": this process ends now" }

// Set is armed rules. A nil Set is inert.
type Set struct {
	rules   []Rule
	effects Effects
	mu      sync.Mutex
	hits    []int // how often each rule's point has been reached
}

// Arm makes a Set of rules; nil when there is none.
func Arm(rules []Rule, effects Effects) *Set {
	if len(rules) == 0 {
		return nil
	}
	return &Set{rules: rules, effects: effects, hits: make([]int, len(rules))}
}

// At is reached at a point; its error is the one that the place must fail
// with. It does not return where a rule kills.
func (s *Set) At(verb, object string, moment Moment) error {
	if s == nil {
		return nil
	}
	here := Point{verb, object, moment}
	for i, r := range s.rules {
		if r.Point == here && r.due(s.count(i)) {
			if err := s.act(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// count says how often rule i's point has been reached, this time included.
func (s *Set) count(i int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits[i]++
	return s.hits[i]
}

func (s *Set) act(r Rule) error {
	switch r.Action {
	case Kill:
		if r.After == 0 {
			s.kill(r)
			return nil
		}
		go func() {
			s.effects.Pause(r.After)
			s.kill(r)
		}()
	case Delay:
		s.effects.Pause(r.After)
	case NoSpace:
		return fmt.Errorf("failpoint %s: %w", r.Point, host.ErrNoSpace)
	case BadDisk:
		return fmt.Errorf("failpoint %s: %w", r.Point, host.ErrBadDisk)
	case Fail:
		return fmt.Errorf("failpoint %s", r.Point)
	}
	return nil
}

func (s *Set) kill(r Rule) {
	s.effects.Say(LastWords(r))
	s.effects.Kill()
}
