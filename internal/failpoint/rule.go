package failpoint

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Variable is the environment variable that arms points: rules joined by
// semicolons, each POINT[#N[+]]=ACTION.
const Variable = "PLINTH_FAILPOINTS"

// Action is what happens at an armed point.
type Action string

// The actions. Kill and Delay may be followed by a time in brackets:
// kill(3s) kills 3 s later, wherever the run is by then.
const (
	Kill    Action = "kill"   // SIGKILL to this process
	Fail    Action = "error"  // the place fails
	NoSpace Action = "enospc" // the place fails as on a full disk
	BadDisk Action = "eio"    // the place fails as on a broken disk
	Delay   Action = "delay"  // the place takes that much longer
)

// Rule arms one point.
type Rule struct {
	Point  Point
	Nth    int           // the time the point is reached at which it acts, from 1
	Onward bool          // at each later time too
	Action Action        // what happens
	After  time.Duration // of Kill: how much later; of Delay: how long
}

// String is the rule as Parse reads it.
func (r Rule) String() string {
	s := r.Point.String()
	if r.Nth > 1 || r.Onward {
		s += "#" + strconv.Itoa(r.Nth)
	}
	if r.Onward {
		s += "+"
	}
	s += "=" + string(r.Action)
	if r.After > 0 {
		s += "(" + r.After.String() + ")"
	}
	return s
}

func (r Rule) due(hit int) bool { return hit == r.Nth || r.Onward && hit > r.Nth }

// UnknownError is a name that is no point.
type UnknownError struct{ Name string }

// Error names it.
func (e *UnknownError) Error() string { return fmt.Sprintf("no failpoint is called %q", e.Name) }

// Parse reads the value of Variable; known is every point there is. A name
// that is none of them is an *UnknownError. An empty text arms nothing.
func Parse(text string, known []Point) ([]Rule, error) {
	var rules []Rule
	for entry := range strings.SplitSeq(text, ";") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		r, err := parseRule(entry, known)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseRule(entry string, known []Point) (Rule, error) {
	place, act, ok := strings.Cut(entry, "=")
	if !ok {
		return Rule{}, fmt.Errorf("%q has no action: write POINT=ACTION", entry)
	}
	r := Rule{Nth: 1}
	name, nth, counted := strings.Cut(place, "#")
	i := slices.IndexFunc(known, func(p Point) bool { return p.String() == name })
	if i < 0 {
		return Rule{}, &UnknownError{Name: name}
	}
	r.Point = known[i]
	if counted {
		nth, r.Onward = strings.CutSuffix(nth, "+")
		n, err := strconv.ParseUint(nth, 10, 31)
		if err != nil || n == 0 {
			return Rule{}, fmt.Errorf("%q: behind # stands the time to act at, from 1, and + for all later ones too", entry)
		}
		r.Nth = int(n)
	}
	var err error
	if r.Action, r.After, err = parseAction(act); err != nil {
		return Rule{}, fmt.Errorf("%q: %w", entry, err)
	}
	if r.Action != Kill && r.Action != Delay && (r.Point.Moment == Working || r.Point.Moment == Started) {
		return Rule{}, fmt.Errorf("%q: a run can be killed or delayed there, not fail", entry)
	}
	return r, nil
}

func parseAction(text string) (Action, time.Duration, error) {
	word, rest, timed := strings.Cut(text, "(")
	a := Action(word)
	if !slices.Contains([]Action{Kill, Fail, NoSpace, BadDisk, Delay}, a) {
		return "", 0, fmt.Errorf("the action is one of kill, error, enospc, eio, delay(TIME)")
	}
	if !timed {
		if a == Delay {
			return "", 0, errors.New("delay needs a time, such as delay(500ms)")
		}
		return a, 0, nil
	}
	inner, closed := strings.CutSuffix(rest, ")")
	d, err := time.ParseDuration(inner)
	switch {
	case a != Kill && a != Delay:
		return "", 0, fmt.Errorf("%s takes no time", a)
	case !closed || err != nil || d <= 0 || d > time.Hour:
		return "", 0, errors.New("a time stands in brackets, such as (500ms), and is at most an hour")
	}
	return a, d, nil
}
