// Package failpoint kills, delays or fails a run at named points, for fault tests. Without rules, a point
// costs one comparison with nil.
package failpoint

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/plinthdev/plinth/internal/host"
)

// Point is a point in a run at which a rule can act: "install/k0s-start:applied".
type Point struct {
	Verb   string // install, reset, …
	Object string // id of a step; Journal, Receipt or Run. AnyChart is each step of a vendor's chart
	Phase  Phase
}

// AnyChart is the object of the points of all charts of an Installer, whose names the vendor chooses.
const AnyChart = "chart-*"

// named returns the point with a name if the name is that of p, or of one of the points that p stands for.
func (p Point) named(name string) (Point, bool) {
	prefix, suffix, several := strings.Cut(p.String(), "*")
	if !several {
		return p, name == prefix
	}
	rest, begins := strings.CutPrefix(name, prefix)
	rest, ends := strings.CutSuffix(rest, suffix)
	p.Object = strings.Replace(p.Object, "*", rest, 1)
	return p, begins && ends && rest != "" && !strings.ContainsAny(rest, "/:*")
}

// String returns the name of the point, VERB/OBJECT:PHASE.
func (p Point) String() string { return p.Verb + "/" + p.Object + ":" + string(p.Phase) }

// Objects that are not steps.
const (
	Run     = "run"     // the run as a whole
	Journal = "journal" // each write of the journal
	Receipt = "receipt" // each write of the receipt
)

// Phase is a phase of a step, of the write of a file, or of a run.
type Phase string

// Phases of a step that has something to do, in order.
const (
	Needed  Phase = "needed"  // the step was checked, nothing is recorded
	Begun   Phase = "begun"   // the step is recorded in the journal, the host is unchanged
	Working Phase = "working" // each time the step reports its progress
	Applied Phase = "applied" // the host is changed, the journal does not contain it yet
	Ended   Phase = "ended"   // the end of the step is recorded in the journal
)

// Phases of a write, in order.
const (
	Write   Phase = "write"   // before the temporary file is written
	Torn    Phase = "torn"    // half of the temporary file is written
	Temp    Phase = "temp"    // the temporary file is complete, the file still has the old content
	Renamed Phase = "renamed" // the file has the new content, Write has not returned
)

// Started is the only phase of a run: it holds the lock and has changed nothing.
const Started Phase = "started"

// Phases returns the phases of object, in order.
func Phases(object string) []Phase {
	switch object {
	case Run:
		return []Phase{Started}
	case Journal, Receipt:
		return []Phase{Write, Torn, Temp, Renamed}
	}
	return []Phase{Needed, Begun, Working, Applied, Ended}
}

// Effects are the functions by which a Set acts on its process.
type Effects struct {
	Log   func(text string)   // prints KillMessage
	Kill  func()              // ends the process immediately, like kill -9
	Sleep func(time.Duration) // returns after the duration
}

// KillMessage returns the message that a run prints before the rule r kills it.
func KillMessage(r Rule) string { return "failpoint " + r.Point.String() + ": this process ends now" }

// Set is a set of armed rules. A nil Set does nothing.
type Set struct {
	rules   []Rule
	effects Effects
	mu      sync.Mutex
	hits    []int // number of times that the point of each rule was reached
}

// Arm returns a Set of rules that acts through effects. It returns nil if there are no rules.
func Arm(rules []Rule, effects Effects) *Set {
	if len(rules) == 0 {
		return nil
	}
	return &Set{rules: rules, effects: effects, hits: make([]int, len(rules))}
}

// Observe returns a Set that calls see each time a run reaches one of the points, and acts on nothing. Simulations use it to
// copy the state that a kill there would leave.
func Observe(points []Point, see func(Point)) *Set {
	rules := make([]Rule, len(points))
	for i, p := range points { // a delay of i+1 represents points[i]
		rules[i] = Rule{Point: p, Nth: 1, Repeat: true, Action: Delay, Duration: time.Duration(i + 1)}
	}
	return Arm(rules, Effects{Sleep: func(d time.Duration) { see(points[d-1]) }})
}

// Reach runs the rules of the point verb/object:phase. The caller must fail with the returned error.
// Reach does not return if a rule kills the process.
func (s *Set) Reach(verb, object string, phase Phase) error {
	if s == nil {
		return nil
	}
	here := Point{verb, object, phase}
	for i, r := range s.rules {
		if r.Point == here && r.isDue(s.countHit(i)) {
			if err := s.runAction(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// countHit returns how often the point of rule i was reached, including this time.
func (s *Set) countHit(i int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hits[i]++
	return s.hits[i]
}

func (s *Set) runAction(r Rule) error {
	switch r.Action {
	case Kill:
		if r.Duration == 0 {
			s.killProcess(r)
			return nil
		}
		go func() {
			s.effects.Sleep(r.Duration)
			s.killProcess(r)
		}()
	case Delay:
		s.effects.Sleep(r.Duration)
	case NoSpace:
		return fmt.Errorf("failpoint %s: %w", r.Point, host.ErrNoSpace)
	case BadDisk:
		return fmt.Errorf("failpoint %s: %w", r.Point, host.ErrDiskIO)
	case Fail:
		return fmt.Errorf("failpoint %s", r.Point)
	}
	return nil
}

func (s *Set) killProcess(r Rule) {
	s.effects.Log(KillMessage(r))
	s.effects.Kill()
}
