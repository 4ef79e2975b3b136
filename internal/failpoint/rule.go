package failpoint

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// EnvVar is the environment variable that arms points: rules separated by
// semicolons, each POINT[#N[+]]=ACTION.
const EnvVar = "PLINTH_FAILPOINTS"

// Action is the effect of a rule.
type Action string

// The actions. Kill and Delay accept a duration in parentheses:
// kill(3s) kills the process 3 s later, wherever the run is by then.
const (
	Kill    Action = "kill"   // send SIGKILL to this process
	Fail    Action = "error"  // fail
	NoSpace Action = "enospc" // fail as on a full disk
	BadDisk Action = "eio"    // fail as on a broken disk
	Delay   Action = "delay"  // wait for the duration
)

// Rule arms a point.
type Rule struct {
	Point    Point
	Nth      int           // acts when the point is reached for the Nth time, from 1
	Repeat   bool          // also acts each later time
	Action   Action        // effect
	Duration time.Duration // Kill: time until the kill; Delay: time to wait
}

// String returns the rule in the syntax of Parse.
func (r Rule) String() string {
	s := r.Point.String()
	if r.Nth > 1 || r.Repeat {
		s += "#" + strconv.Itoa(r.Nth)
	}
	if r.Repeat {
		s += "+"
	}
	s += "=" + string(r.Action)
	if r.Duration > 0 {
		s += "(" + r.Duration.String() + ")"
	}
	return s
}

func (r Rule) isDue(hit int) bool { return hit == r.Nth || r.Repeat && hit > r.Nth }

// UnknownError is the error for a name that is not a failpoint.
type UnknownError struct{ Name string }

// Error names the unknown failpoint.
func (e *UnknownError) Error() string { return fmt.Sprintf("no failpoint is called %q", e.Name) }

// Parse returns the rules in text, the value of EnvVar; known are all points.
// The error for a name that is not a known point is an *UnknownError. An empty text has no rules.
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
	found := false
	for _, p := range known {
		if r.Point, found = p.named(name); found {
			break
		}
	}
	if !found {
		return Rule{}, &UnknownError{Name: name}
	}
	if counted {
		nth, r.Repeat = strings.CutSuffix(nth, "+")
		n, err := strconv.ParseUint(nth, 10, 31)
		if err != nil || n == 0 {
			return Rule{}, fmt.Errorf("%q: # must be followed by a number from 1, and optionally + for all later times", entry)
		}
		r.Nth = int(n)
	}
	var err error
	if r.Action, r.Duration, err = parseAction(act); err != nil {
		return Rule{}, fmt.Errorf("%q: %w", entry, err)
	}
	if r.Action != Kill && r.Action != Delay && (r.Point.Phase == Working || r.Point.Phase == Started) {
		return Rule{}, fmt.Errorf("%q: only kill and delay are possible at this failpoint", entry)
	}
	return r, nil
}

func parseAction(text string) (Action, time.Duration, error) {
	word, rest, timed := strings.Cut(text, "(")
	a := Action(word)
	if !slices.Contains([]Action{Kill, Fail, NoSpace, BadDisk, Delay}, a) {
		return "", 0, fmt.Errorf("the action must be one of kill, error, enospc, eio, delay(TIME)")
	}
	if !timed {
		if a == Delay {
			return "", 0, errors.New("delay requires a time, such as delay(500ms)")
		}
		return a, 0, nil
	}
	inner, closed := strings.CutSuffix(rest, ")")
	d, err := time.ParseDuration(inner)
	switch {
	case a != Kill && a != Delay:
		return "", 0, fmt.Errorf("%s does not accept a time", a)
	case !closed || err != nil || d <= 0 || d > time.Hour:
		return "", 0, errors.New("a time must be in parentheses, such as (500ms), and at most an hour")
	}
	return a, d, nil
}
