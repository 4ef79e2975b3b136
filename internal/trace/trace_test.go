package trace

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

// affects are the namespaces that steps of the recorded run changed; their events in JSON do not have them.
var affects = map[string][]string{
	"namespaces":         {"namespace local-path-storage", "namespace kotsadm", "namespace registry"},
	"local-path-storage": {"release local-path-storage/local-path-storage"}, "console": {"namespace kotsadm"}, "console-certificate": {"namespace kotsadm"},
	"console-proxy": {"release kotsadm/console-proxy"}, "registry": {"release registry/registry"},
}

// recordedRun returns an install that was recorded on a machine with two processors, under load.
func recordedRun(t testing.TB) Run {
	t.Helper()
	raw, err := os.ReadFile("testdata/events.jsonl")
	testkit.Must(t, err)
	var rec Recorder
	var last time.Time
	for line := range bytes.Lines(raw) {
		var e step.Event
		testkit.Must(t, json.Unmarshal(line, &e))
		e.Title, e.Affects, last = "The step "+e.Step, affects[e.Step], e.Time
		rec.Event(e)
	}
	run := Run{Verb: "install", Version: "v1", Start: at("03:56:19.7"), End: last.Add(100 * time.Millisecond), Steps: rec.Steps(last)}
	run.Objects = append(recordedObjects(t), Object{Kind: Unit, Name: "k0scontroller.service", Milestones: []Milestone{{"started", at("03:56:25.3")}}})
	return run
}

func recordedObjects(t testing.TB) []Object {
	t.Helper()
	raw, err := os.ReadFile("testdata/objects.json")
	testkit.Must(t, err)
	lists := map[string]json.RawMessage{}
	testkit.Must(t, json.Unmarshal(raw, &lists))
	content := map[string][]byte{}
	for kind, list := range lists {
		content[kind] = list
	}
	objects, err := ParseObjects(content)
	testkit.Must(t, err)
	return objects
}

// at returns a time of the day of the recorded run.
func at(clock string) time.Time {
	t, err := time.Parse(time.RFC3339, "2026-11-30T"+clock+"Z")
	if err != nil {
		panic(err)
	}
	return t
}

func TestRecorder_KeepsWaitsAndOutcomes(t *testing.T) {
	var r Recorder
	for _, e := range []step.Event{
		{Step: "a", Time: at("03:00:01"), State: step.Started, Message: "why it is needed"},
		{Step: "a", Time: at("03:00:02"), State: step.Progress, Message: "pod p: Pending"},
		{Step: "a", Time: at("03:00:03"), State: step.Progress, Message: "pod p: Pending"},
		{Step: "a", Time: at("03:00:04"), State: step.Progress, Message: "importing x", Bytes: 1, Total: 9},
		{Step: "a", Time: at("03:00:05"), State: step.Progress, Message: "node n has not registered"},
		{Step: "a", Time: at("03:00:07"), State: step.Finished},
		{Step: "b", Time: at("03:00:08"), State: step.Skipped},
		{Step: "c", Time: at("03:00:09"), State: step.Started},
		{Step: "c", Time: at("03:00:10"), State: step.Failed, Message: "cause"},
		{Step: "c", Time: at("03:00:11"), State: step.Started},
		{Step: "c", Time: at("03:00:12"), State: step.Progress, Message: "still"},
	} {
		r.Event(e)
	}
	var got strings.Builder
	for _, s := range r.Steps(at("03:00:20")) {
		fmt.Fprintf(&got, "%s %s %s-%s\n", s.ID, s.State, s.Start.Format("05"), s.End.Format("05"))
		for _, w := range s.Waits {
			fmt.Fprintf(&got, "  %s %s-%s\n", w.Reason, w.Start.Format("05"), w.End.Format("05"))
		}
	}
	want := "a done 01-07\n  pod p: Pending 02-04\n  node n has not registered 05-07\nb skipped 08-08\nc failed 09-10\nc started 11-20\n  still 12-20\n"
	if got.String() != want {
		t.Errorf("got:\n%swant:\n%s", got.String(), want)
	}
}

func TestParseObjects_ReadsWhatTheClusterTells(t *testing.T) {
	var got bytes.Buffer
	for _, o := range recordedObjects(t) {
		fmt.Fprintln(&got, o)
		for _, m := range o.Milestones {
			fmt.Fprintf(&got, "  %s %s\n", m.At.Format("15:04:05.999999"), m.Name)
		}
	}
	testkit.Golden(t, "testdata/objects.golden", got.Bytes())
}

func TestParseObjects_RefusesDamagedLists(t *testing.T) {
	for _, raw := range []string{"", "{", `{"items":[{"metadata":{"creationTimestamp":"yesterday"}}]}`} {
		t.Run(raw, func(t *testing.T) {
			if _, err := ParseObjects(map[string][]byte{Pod: []byte(raw)}); err == nil {
				t.Error("no error")
			}
		})
	}
}

// checkPath fails unless path covers the run without gaps.
func checkPath(t *testing.T, r Run, path []Segment) {
	t.Helper()
	next := 0.0
	for _, s := range path {
		if math.Abs(s.Start-next) > 0.002 || s.Seconds <= 0 && len(path) > 1 {
			t.Errorf("%+v begins at %.3f, want %.3f", s, s.Start, next)
		}
		next = s.Start + s.Seconds
	}
	if all := r.End.Sub(r.Start).Seconds(); math.Abs(next-all) > 0.002 {
		t.Errorf("the path ends at %.3f of %.3f s", next, all)
	}
}

func TestCriticalPath_OfRecordedRun(t *testing.T) {
	r := recordedRun(t)
	path := r.CriticalPath()
	checkPath(t, r, path)
	testkit.Golden(t, "testdata/path.golden", []byte(FormatPath(r.Verb, path)))
}

func TestCriticalPath_FollowsWhatWaited(t *testing.T) {
	install := Step{ID: "install", Title: "Install", Start: at("03:00:00.2"), End: at("03:00:10.5"), Affects: []string{"namespace app"},
		Waits: []Wait{{Reason: "pods"}}}
	pod := func(namespace, name string, milestones ...Milestone) Object {
		return Object{Kind: Pod, Namespace: namespace, Name: name, Milestones: milestones}
	}
	for name, tc := range map[string]struct {
		run  Run
		want string
	}{
		"a run without steps": {Run{}, "before the first step 12.0"},
		"a step without waits": {Run{Steps: []Step{{ID: "work", Start: at("03:00:01"), End: at("03:00:11")}}},
			"before the first step 1.0; step work 10.0; after the last step 1.0"},
		"the last pod of the namespace counts": {Run{Steps: []Step{install}, Objects: []Object{
			pod("app", "fast", Milestone{"created", at("03:00:01")}, Milestone{"Ready", at("03:00:03")}),
			pod("app", "slow", Milestone{"created", at("03:00:02")}, Milestone{"Ready", at("03:00:09")}),
			pod("other", "x", Milestone{"created", at("03:00:02")}, Milestone{"Ready", at("03:00:10")})}},
			"before the first step 0.2; step install 1.8; pod app/slow 7.0; step install 1.5; after the last step 1.5"},
		"a step that ran meanwhile is not on the path": {Run{Steps: []Step{
			{ID: "start", Start: at("03:00:01"), End: at("03:00:02")},
			{ID: "copy", Start: at("03:00:03"), End: at("03:00:07")},
			{ID: "pods", Start: at("03:00:07"), End: at("03:00:10"), Waits: []Wait{{Reason: "1 of 2 pods Ready; pod p: p is running but not Ready"}}}},
			Objects: []Object{pod("kube-system", "p", Milestone{"created", at("03:00:02")}, Milestone{"Ready", at("03:00:09")}),
				pod("kube-system", "p-2", Milestone{"created", at("03:00:05")}, Milestone{"Ready", at("03:00:09")})}},
			"before the first step 1.0; step start 1.0; pod kube-system/p 7.0; step pods 1.0; after the last step 2.0"},
		"a pod waits for its claim and its node, and the node for the network": {Run{Steps: []Step{
			{ID: "k0s", Start: at("03:00:00.5"), End: at("03:00:01")},
			{ID: "wait", Start: at("03:00:01"), End: at("03:00:12"), Waits: []Wait{{Reason: "pod q/p: Pending"}, {Reason: "pod p: Pending"}}}},
			Objects: []Object{
				{Kind: Unit, Name: "k0scontroller.service", Milestones: []Milestone{{"started", at("03:00:01")}}},
				{Kind: API, Name: "server", Milestones: []Milestone{{"answers", at("03:00:02")}}},
				{Kind: Node, Name: "n", Milestones: []Milestone{{"registered", at("03:00:03")}, {"Ready", at("03:00:06")}}},
				{Kind: Pod, Namespace: "kube-system", Name: "kube-router-x", node: "n", daemon: true,
					Milestones: []Milestone{{"created", at("03:00:04")}, {"started kube-router", at("03:00:05")}}},
				{Kind: claim, Namespace: "q", Name: "data", Milestones: []Milestone{{"created", at("03:00:02")}, {"bound", at("03:00:07")}}},
				{Kind: Pod, Namespace: "q", Name: "p", node: "n", claims: []string{"data"},
					Milestones: []Milestone{{"created", at("03:00:02")}, {"scheduled", at("03:00:06")}, {"Ready", at("03:00:11")}}},
			}},
			"before the first step 0.5; step k0s 0.5; API server 1.0; node n 1.0; pod kube-system/kube-router-x 1.0; " +
				"pod kube-system/kube-router-x 1.0; node n 1.0; pod q/p 5.0; step wait 1.0"},
		"what happened before the run does not count": {Run{Steps: []Step{install}, Objects: []Object{
			pod("app", "old", Milestone{"created", at("02:59:00")}, Milestone{"Ready", at("03:00:04")})}},
			"before the first step 0.2; step install 10.3; after the last step 1.5"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.run.Start, tc.run.End = at("03:00:00"), at("03:00:12")
			path := tc.run.CriticalPath()
			checkPath(t, tc.run, path)
			var got []string
			for _, s := range path {
				got = append(got, fmt.Sprintf("%s %.1f", s.What, s.Seconds))
			}
			if all := strings.Join(got, "; "); all != tc.want {
				t.Errorf("got %s, want %s", all, tc.want)
			}
		})
	}
}

func TestEncode_IsReadByViewers(t *testing.T) {
	r := recordedRun(t)
	r.Missing = []string{"something"}
	raw, err := r.Encode()
	testkit.Must(t, err)
	if !IsTrace(raw) || IsTrace([]byte(`{"displayTimeUnit":"ms"}`)) {
		t.Error("IsTrace")
	}
	var file chromeFile
	testkit.Must(t, json.Unmarshal(raw, &file))
	for _, end := range file.TraceEvents {
		if arrow := end.Phase == "s" || end.Phase == "f"; arrow && !slices.ContainsFunc(file.TraceEvents, func(e chromeEvent) bool {
			return e.Phase == "X" && e.TID == end.TID && e.TS <= end.TS && end.TS < e.TS+e.Dur
		}) {
			t.Errorf("no slice is at the end of the arrow %+v", end)
		}
	}
	testkit.Golden(t, "testdata/trace.golden", bytes.ReplaceAll(raw, []byte("},{"), []byte("},\n{")))
	if bytes.Contains(raw, []byte("s3cret")) {
		t.Error("the trace has the environment of a container or the message of an event")
	}
}

func FuzzParseObjects(f *testing.F) {
	raw, err := os.ReadFile("testdata/objects.json")
	testkit.Must(f, err)
	lists := map[string]json.RawMessage{}
	testkit.Must(f, json.Unmarshal(raw, &lists))
	f.Add([]byte(lists[Pod]), []byte(lists[event]))
	f.Add([]byte(`{"items":[{}]}`), []byte(`{"items":[{"involvedObject":{"kind":"Pod","fieldPath":"{"},"reason":"Pulled"}]}`))
	base := recordedRun(f)
	f.Fuzz(func(t *testing.T, pods, events []byte) {
		objects, err := ParseObjects(map[string][]byte{Pod: pods, event: events})
		if err != nil {
			return
		}
		r := base
		r.Objects = slices.Concat(base.Objects, objects)
		checkPath(t, r, r.CriticalPath())
		if _, err := r.Encode(); err != nil {
			t.Error(err)
		}
	})
}
