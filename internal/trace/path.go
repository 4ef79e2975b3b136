package trace

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Run is one run of a verb, for its trace.
type Run struct {
	Verb       string
	Version    string // of plinth
	Start, End time.Time
	Steps      []Step
	Objects    []Object
	Missing    []string // what could not be read, in words
}

// Segment is a part of the critical path: what the run waited for in that time. Its JSON encoding is public.
type Segment struct {
	Start   float64 `json:"start"`   // seconds since the start of the run
	Seconds float64 `json:"seconds"` // its duration
	What    string  `json:"what"`    // "step node-ready", "pod kube-system/coredns-x", or a part of the run outside of the steps
	Until   string  `json:"until"`   // what ended it: the milestone of an object, or the title of the step
}

// point is a milestone of an object, with those that it can have waited for.
type point struct {
	Milestone
	object *Object
	before *point // of the same object; nil for the first one
	after  []*point
}

// waitedFor returns the last of the points that p can have waited for; nil for none.
func (p *point) waitedFor() (last *point) {
	for _, a := range p.after {
		if !a.At.After(p.At) && (last == nil || !a.At.Before(last.At)) {
			last = a
		}
	}
	return last
}

// resolution is the precision of the cluster's times.
const resolution = time.Second

// links returns the milestones of the run's objects that lie in the run, each with those that it can have waited for.
func (r Run) links() []*point {
	var all []*point
	by := map[string][]*point{} // by object, and by kind
	for i := range r.Objects {
		o := &r.Objects[i]
		var before *point
		for _, m := range o.Milestones {
			if m.At.Before(r.Start.Truncate(resolution)) || m.At.After(r.End) {
				continue
			}
			p := &point{Milestone: m, object: o, before: before}
			if before != nil {
				p.after = []*point{before}
			}
			all, by[o.String()], by[o.Kind], before = append(all, p), append(by[o.String()], p), append(by[o.Kind], p), p
		}
	}
	for _, p := range all {
		for _, kind := range neededKinds[p.object.Kind] {
			for _, q := range by[kind] {
				if r.canWaitFor(p, q) {
					p.after = append(p.after, q)
				}
			}
		}
		for _, c := range p.object.claims {
			if p.Name == "scheduled" { // the scheduler binds the claims first
				p.after = append(p.after, by[Object{Kind: claim, Namespace: p.object.Namespace, Name: c}.String()]...)
			}
		}
	}
	return all
}

// neededKinds are the kinds of objects that an object of a kind can wait for, besides its claims.
var neededKinds = map[string][]string{API: {Unit}, Node: {API, Pod}, Pod: {API, Node}, deployment: {Pod}}

// canWaitFor reports whether the milestone p of an object needs the milestone q of one of a needed kind.
func (r Run) canWaitFor(p, q *point) bool {
	o, other := p.object, q.object
	switch {
	case o.Kind == API:
		return strings.HasPrefix(other.Name, "k0s")
	case p.Name == "registered":
		return other.Kind == API
	case o.Kind == Node && p.Name == "Ready": // kubelet waits for the configuration of the pod network
		return other.node == o.Name && other.daemon && strings.HasPrefix(other.Name, "kube-router-") && strings.HasPrefix(q.Name, "started")
	case o.Kind == Pod && p.Name == "created":
		return (other.Kind == API || o.daemon && other.Name == o.node && q.Name == "registered") && r.creator(p) == nil
	case o.Kind == Pod && p.Name == "scheduled" && !o.daemon: // a node that is not Ready has a taint
		return other.Kind == Node && other.Name == o.node && q.Name == "Ready"
	case p.Name == "Available":
		return other.Namespace == o.Namespace && strings.HasPrefix(other.Name, o.Name+"-") && q.Name == "Ready"
	}
	return false
}

// creator returns the step that created the object of p: the last one that ran then and changes its namespace. It is nil
// for what k0s creates itself.
func (r Run) creator(p *point) *Step {
	for i := range slices.Backward(r.Steps) {
		s := &r.Steps[i]
		if s.Start.Before(p.At.Add(resolution)) && !s.End.Before(p.At) && s.changesNamespace(p.object.Namespace) {
			return s
		}
	}
	return nil
}

// CriticalPath returns what the run waited for, without gaps, from its start to its end. It follows the steps from the
// last one back. Where a step waited for an object, it follows what that object waited for in turn, back to the step
// that ran when the first of these objects began; steps that ran meanwhile are not on the path.
func (r Run) CriticalPath() []Segment {
	b := pathBuilder{run: r, cursor: r.End}
	points := r.links()
	what, until := "after the last step", "end of the run"
	for i := len(r.Steps) - 1; i >= 0; i-- {
		b.add(r.Steps[i].End, what, until)
		for p := b.lastWait(points, r.Steps[i]); p != nil; p = b.lastWait(points, r.Steps[i]) {
			b.add(p.At, "step "+r.Steps[i].ID, r.Steps[i].Title)
			for q := p.waitedFor(); q != nil; p, q = q, q.waitedFor() {
				b.add(q.At, p.object.String(), p.Name)
			}
			for i > 0 && !r.Steps[i].Start.Before(p.At.Add(resolution)) {
				i--
			}
		}
		b.add(r.Steps[i].Start, "step "+r.Steps[i].ID, r.Steps[i].Title)
		what, until = "check of "+r.Steps[i].ID, r.Steps[i].Title
	}
	b.add(r.Start, "before the first step", "preflights, plan and question")
	slices.Reverse(b.path)
	return b.path
}

// pathBuilder builds a path from its end.
type pathBuilder struct {
	run    Run
	cursor time.Time // start of the path so far
	ends   time.Time // end of its first segment
	path   []Segment // last one first
}

// add adds the time from start to the cursor, if start is earlier. It extends a segment of the same kind.
func (b *pathBuilder) add(start time.Time, what, until string) {
	if start.Before(b.run.Start) {
		start = b.run.Start
	}
	if !start.Before(b.cursor) {
		return
	}
	end := b.cursor
	if n := len(b.path); n > 0 && b.path[n-1].What == what && b.path[n-1].Until == until {
		end = b.ends
		b.path = b.path[:n-1]
	}
	b.path = append(b.path, Segment{What: what, Until: until, Start: round(start.Sub(b.run.Start)), Seconds: round(end.Sub(start))})
	b.cursor, b.ends = start, end
}

// lastWait returns the last milestone before the cursor that s waited for; nil if there is none.
func (b *pathBuilder) lastWait(points []*point, s Step) (last *point) {
	for _, p := range points {
		if p.At.Before(b.cursor) && p.At.After(s.Start) && s.waitsFor(p.object) && (last == nil || !p.At.Before(last.At)) {
			last = p
		}
	}
	return last
}

// round returns d in seconds, rounded to milliseconds.
func round(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// FormatPath returns the table of a path. It joins segments that follow each other and take less than half a second or a
// hundredth of the run.
func FormatPath(verb string, path []Segment) string {
	total := 0.0
	for _, s := range path {
		total += s.Seconds
	}
	minor := max(0.5, total/100)
	var out strings.Builder
	fmt.Fprintf(&out, "What the %s waited for, %.1f s in all (times of cluster objects are whole seconds):\n", verb, total)
	t := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  AT\tTOOK\tWHAT\tUNTIL")
	for i := 0; i < len(path); {
		first, last, n := path[i], path[i], 1
		for last.Seconds < minor && i+n < len(path) && path[i+n].Seconds < minor {
			last = path[i+n]
			n++
		}
		what, until := last.What, last.Until
		if first.What != last.What {
			what, until = fmt.Sprintf("%d short parts", n), last.What+": "+last.Until
		}
		fmt.Fprintf(t, "  %.1f s\t%.1f s\t%s\t%s\n", first.Start, last.Start+last.Seconds-first.Start, what, until)
		i += n
	}
	_ = t.Flush() // a strings.Builder does not fail
	return out.String()
}
