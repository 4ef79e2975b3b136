package step

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/problem"
)

// light is a host with one switch for each step.
type light map[string]bool

func (l light) step(id string, apply func() error) Step {
	return Step{ID: id, Title: "Light " + id,
		Check: func(context.Context) (State, error) {
			if l[id] {
				return Done(), nil
			}
			return Needed("dark"), nil
		},
		Apply: func(_ context.Context, report Report) error {
			report("lighting", 1, 2)
			if apply != nil {
				return apply()
			}
			l[id] = true
			return nil
		}}
}

// memory is a Recorder that stores what it is called with.
type memory []string

func (m *memory) BeginStep(id string, _ []string) error { *m = append(*m, "begin "+id); return nil }
func (m *memory) EndStep(id string, cause error) error {
	s := "end " + id
	if cause != nil {
		s += ": " + cause.Error()
	}
	*m = append(*m, s)
	return nil
}

func runner(events *[]string, mem *memory) Runner {
	return Runner{Verb: "install", Recorder: mem, Now: func() time.Time { return time.Unix(0, 0) }, ResumeHint: "run it again",
		OnEvent: func(e Event) { *events = append(*events, string(e.State)+" "+e.Step) }}
}

func TestRun_SaysWhatToDoBeforeItIsResumed(t *testing.T) {
	full, other := errors.New("no space left on device"), errors.New("no answer")
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"a known cause":       {full, "free space first\nrun it again"},
		"another one":         {other, "run it again"},
		"one with its advice": {problem.New(0, "write", full, "use another disk"), "use another disk"},
	} {
		t.Run(name, func(t *testing.T) {
			var events []string
			r := runner(&events, &memory{})
			r.FirstHint = func(err error) string {
				if errors.Is(err, full) {
					return "free space first"
				}
				return ""
			}
			_, err := r.Run(t.Context(), []Step{light{}.step("a", func() error { return c.err })})
			if got := problem.Hint(err); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestRun_AppliesNeededStepsAndSkipsDoneSteps(t *testing.T) {
	l := light{"a": true}
	var events []string
	var mem memory
	steps := []Step{l.step("a", nil), l.step("b", nil)}
	n, err := runner(&events, &mem).Run(t.Context(), steps)
	if err != nil || n != 1 {
		t.Fatalf("applied %d, err %v", n, err)
	}
	if got := strings.Join(events, ", "); got != "skipped a, started b, progress b, done b" {
		t.Errorf("events: %s", got)
	}
	if got := strings.Join(mem, ", "); got != "begin b, end b" {
		t.Errorf("recorded: %s", got)
	}
	events, mem = nil, nil
	if n, err := runner(&events, &mem).Run(t.Context(), steps); n != 0 || err != nil || len(mem) != 0 {
		t.Errorf("second run applied %d, recorded %v, err %v", n, mem, err)
	}
}

func TestRun_StopsAtFirstFailureWithExitStep(t *testing.T) {
	l := light{}
	var events []string
	var mem memory
	n, err := runner(&events, &mem).Run(t.Context(), []Step{l.step("a", func() error { return errors.New("no oil") }), l.step("b", nil)})
	if n != 1 || l["b"] {
		t.Errorf("continued after a failure: applied %d", n)
	}
	if got, want := err.Error(), "cannot light a: no oil"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if problem.ExitCode(err) != problem.ExitStep || problem.Hint(err) != "run it again" {
		t.Errorf("exit %d, hint %q", problem.ExitCode(err), problem.Hint(err))
	}
}

func TestRun_FailsIfApplyChangesNothing(t *testing.T) {
	l := light{}
	var events []string
	_, err := runner(&events, &memory{}).Run(t.Context(), []Step{l.step("a", func() error { return nil })})
	if err == nil || !strings.Contains(err.Error(), "still needed: dark") {
		t.Errorf("error %v", err)
	}
}

func TestRun_AppliesAgainWhatIsUndoneMeanwhile(t *testing.T) {
	l := light{}
	var events []string
	applied := 0
	s := l.step("a", func() error {
		applied++
		l["a"] = applied == 2
		return nil
	})
	if _, err := runner(&events, &memory{}).Run(t.Context(), []Step{s}); err != nil || applied != 2 {
		t.Errorf("applied %d times: %v", applied, err)
	}
}

func TestRunAll_ContinuesAndReturnsEveryFailure(t *testing.T) {
	l := light{}
	var events []string
	no := func() error { return errors.New("no oil") }
	_, err := runner(&events, &memory{}).RunAll(t.Context(), []Step{l.step("a", no), l.step("b", nil), l.step("c", no)})
	if !l["b"] || err == nil || strings.Count(err.Error(), "no oil") != 2 {
		t.Errorf("b lit %v, err %v", l["b"], err)
	}
}

func TestRun_ReportsInterruptionAndHowToResume(t *testing.T) {
	l := light{}
	ctx, cancel := context.WithCancel(t.Context())
	var events []string
	r, stopped := runner(&events, &memory{}), false
	r.OnEvent = func(e Event) { stopped = e.State == Failed && e.Stopped }
	_, err := r.Run(ctx, []Step{l.step("a", func() error { cancel(); return ctx.Err() }), l.step("b", nil)})
	if !stopped {
		t.Error("the step is reported as failed, not as stopped")
	}
	if problem.ExitCode(err) != problem.ExitInterrupted || problem.Hint(err) != "run it again" {
		t.Errorf("exit %d, hint %q, err %v", problem.ExitCode(err), problem.Hint(err), err)
	}
}

func TestRunner_NumbersTheStepsOfOneVerbOnce(t *testing.T) {
	l := light{}
	var events []string
	r, numbers := runner(&events, &memory{}), ""
	r.Count = 3
	r.OnEvent = func(e Event) {
		if e.State == Started {
			numbers += fmt.Sprintf("[%d/%d] %s ", e.Index+1, e.Count, e.Step)
		}
	}
	_, err := r.Run(t.Context(), []Step{l.step("a", nil)})
	_, err2 := r.From(1).RunAll(t.Context(), []Step{l.step("b", nil), l.step("c", nil)})
	if err != nil || err2 != nil || numbers != "[1/3] a [2/3] b [3/3] c " {
		t.Errorf("%v, %v: %s", err, err2, numbers)
	}
}

func TestRunner_EventsTellWhatAStepAffectsAndWhatFollows(t *testing.T) {
	l := light{"b": true}
	a := l.step("a", nil)
	a.Affects = []string{"namespace app"}
	var got []string
	r := runner(nil, &memory{})
	r.OnEvent = func(e Event) { got = append(got, fmt.Sprintf("%s %s%v%v", e.State, e.Step, e.Affects, e.Next)) }
	if _, err := r.Run(t.Context(), []Step{a, l.step("b", nil), l.step("c", nil)}); err != nil {
		t.Error(err)
	}
	want := "started a[namespace app][b c], progress a[namespace app][b c], done a[namespace app][b c], " +
		"skipped b[][c], started c[][], progress c[][], done c[][]"
	if all := strings.Join(got, ", "); all != want {
		t.Errorf("got %s, want %s", all, want)
	}
}

func TestPlan_ChangesNothing(t *testing.T) {
	l := light{"a": true}
	var events []string
	plan, err := runner(&events, &memory{}).Plan(t.Context(), []Step{l.step("a", nil), l.step("b", nil)})
	if err != nil || len(plan) != 2 || plan[0].State != "done" || plan[1].State != "needed" || plan[1].Reason != "dark" {
		t.Errorf("plan %+v, err %v", plan, err)
	}
	if l["b"] || len(events) != 0 {
		t.Errorf("plan acted: %v %v", l, events)
	}
}
