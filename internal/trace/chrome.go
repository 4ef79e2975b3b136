package trace

import (
	"bytes"
	"encoding/json"
	"time"
)

// header is the beginning of every trace that Encode returns.
const header = `{"displayTimeUnit":"ms","otherData":{"program":"plinth",`

// IsTrace reports whether content is a trace that Encode returned.
func IsTrace(content []byte) bool { return bytes.HasPrefix(content, []byte(header)) }

// chromeFile is a file in the JSON object format of Google's document "Trace Event Format".
type chromeFile struct {
	DisplayTimeUnit string        `json:"displayTimeUnit"`
	OtherData       otherData     `json:"otherData"`
	TraceEvents     []chromeEvent `json:"traceEvents"`
}

// otherData describes the run.
type otherData struct {
	Program   string   `json:"program"`
	Version   string   `json:"version"`
	Verb      string   `json:"verb"`
	Started   string   `json:"started"` // RFC 3339, UTC
	Precision string   `json:"precision"`
	Missing   []string `json:"missing,omitempty"` // what could not be read
}

// chromeEvent is an event of the format. Times are microseconds since the start of the run.
type chromeEvent struct {
	Name  string            `json:"name"`
	Phase string            `json:"ph"`            // X: complete, M: metadata, s and f: start and end of an arrow
	Cat   string            `json:"cat,omitempty"` // an arrow needs one
	TS    int64             `json:"ts"`
	Dur   int64             `json:"dur"` // Perfetto ignores a slice without one
	PID   int               `json:"pid"`
	TID   int               `json:"tid"`
	ID    int               `json:"id,omitempty"` // of an arrow
	Bind  string            `json:"bp,omitempty"` // e: an arrow ends at the slice around it, not at the next one
	Args  map[string]string `json:"args,omitempty"`
}

// Encode returns the run in the trace event format, which Perfetto and chrome://tracing read. The critical path, the
// steps, the host with the cluster, and each namespace are processes in it; each object is a thread.
func (r Run) Encode() ([]byte, error) {
	w := chromeWriter{start: r.Start, pids: map[string]int{}, tids: map[string]int{}}
	for _, s := range r.CriticalPath() {
		at := r.Start.Add(duration(s.Start))
		w.addSlice("critical path", r.Verb, chromeEvent{Name: s.What, Args: map[string]string{"until": s.Until}}, at, at.Add(duration(s.Seconds)))
	}
	for _, s := range r.Steps {
		w.addSlice("steps", r.Verb, chromeEvent{Name: s.ID, Args: map[string]string{"title": s.Title, "state": string(s.State)}}, s.Start, s.End)
		for _, wait := range s.Waits {
			w.addSlice("steps", r.Verb, chromeEvent{Name: wait.Reason}, wait.Start, wait.End)
		}
	}
	for _, p := range r.links() {
		last := p.waitedFor()
		from := p.At.Add(-arrowEnd) // an arrow needs a slice at each end
		switch {
		case p.before != nil:
			from = p.before.At
		case last != nil && last.At.Before(from):
			from = last.At
		}
		w.addSlice(group(p.object), p.object.String(), chromeEvent{Name: p.Name, Args: map[string]string{"at": p.At.Format(time.RFC3339)}}, from, p.At)
		if last != nil && last != p.before {
			w.addArrow(last, p)
		}
	}
	out, err := json.Marshal(chromeFile{"ms", otherData{"plinth", r.Version, r.Verb, r.Start.UTC().Format(time.RFC3339Nano),
		"times of cluster objects are whole seconds", r.Missing}, w.events})
	return append(out, '\n'), err
}

// arrowEnd is the time between the end of an arrow and the end of its slice.
const arrowEnd = time.Microsecond

// group returns the process of an object in the trace.
func group(o *Object) string {
	if o.Namespace == "" {
		return "host and cluster"
	}
	return "namespace " + o.Namespace
}

// duration returns a number of seconds as a duration.
func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// chromeWriter numbers processes, threads and arrows.
type chromeWriter struct {
	start      time.Time
	pids, tids map[string]int
	arrows     int
	events     []chromeEvent
}

// addSlice adds e as a slice from begin to end in a thread of a process.
func (w *chromeWriter) addSlice(process, thread string, e chromeEvent, begin, end time.Time) {
	e.PID, e.TID = w.number(process, thread)
	e.Phase, e.TS = "X", w.timestamp(begin)
	e.Dur = w.timestamp(end) - e.TS
	w.events = append(w.events, e)
}

// timestamp returns t in the trace. The rounded time of an object can lie before the start of the run.
func (w *chromeWriter) timestamp(t time.Time) int64 { return max(t.Sub(w.start).Microseconds(), 0) }

// addArrow adds an arrow between the slices of two milestones.
func (w *chromeWriter) addArrow(from, to *point) {
	w.arrows++
	for _, end := range []struct {
		phase, bind string
		at          *point
	}{{"s", "", from}, {"f", "e", to}} {
		e := chromeEvent{Name: "waited for", Cat: "wait", Phase: end.phase, Bind: end.bind, ID: w.arrows, TS: w.timestamp(end.at.At.Add(-arrowEnd))}
		e.PID, e.TID = w.number(group(end.at.object), end.at.object.String())
		w.events = append(w.events, e)
	}
}

// number returns the numbers of a process and of a thread in it. It names those that are new.
func (w *chromeWriter) number(process, thread string) (pid, tid int) {
	name := func(what, name string) {
		w.events = append(w.events, chromeEvent{Name: what, Phase: "M", PID: pid, TID: tid, Args: map[string]string{"name": name}})
	}
	pid, known := w.pids[process]
	if !known {
		pid = len(w.pids) + 1
		w.pids[process] = pid
		name("process_name", process)
	}
	if tid, known = w.tids[process+" "+thread]; !known {
		tid = len(w.tids) + 1
		w.tids[process+" "+thread] = tid
		name("thread_name", thread)
	}
	return pid, tid
}
