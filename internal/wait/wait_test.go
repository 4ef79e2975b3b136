package wait_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/wait"
)

// patient has time for everything that a test does.
var patient = wait.Options{What: "node n1 to be Ready", Timeout: time.Hour, Interval: time.Millisecond}

func TestWhatIsDoneIsNotWaitedFor(t *testing.T) {
	o := patient
	o.Interval = time.Hour
	o.OnReason = func(reason string) { t.Errorf("told %q", reason) }
	if err := wait.Until(t.Context(), o, func(context.Context) (bool, string, error) { return true, "", nil }); err != nil {
		t.Error(err)
	}
}

func TestReasonsAreToldOnlyWhenTheyChange(t *testing.T) {
	reasons := []string{"pulling", "pulling", "starting", "starting", "pulling"}
	var told []string
	looks := 0
	o := patient
	o.OnReason = func(reason string) { told = append(told, reason) }
	err := wait.Until(t.Context(), o, func(context.Context) (bool, string, error) {
		if looks++; looks > len(reasons) {
			return true, "", nil
		}
		return false, reasons[looks-1], nil
	})
	if want := []string{"pulling", "starting", "pulling"}; err != nil || !slices.Equal(told, want) {
		t.Errorf("told %q, want %q; error %v", told, want, err)
	}
}

func TestAnErrorEndsTheWaitAtOnce(t *testing.T) {
	broken := errors.New("broken for good")
	looks := 0
	err := wait.Until(t.Context(), patient, func(context.Context) (bool, string, error) {
		looks++
		return false, "", broken
	})
	if !errors.Is(err, broken) || looks != 1 {
		t.Errorf("after %d looks: %v", looks, err)
	}
}

func TestATimeoutSaysWhatWhyAndWho(t *testing.T) {
	o := patient
	o.Timeout = 20 * time.Millisecond
	asked := 0
	o.Culprit = func(ctx context.Context) string {
		asked++
		if ctx.Err() != nil {
			t.Error("the culprit is asked for with a context that is over")
		}
		return `pod web-0 says "no such table"`
	}
	err := wait.Until(t.Context(), o, func(context.Context) (bool, string, error) { return false, "pod web-0: CrashLoopBackOff", nil })
	var late *wait.TimeoutError
	if !errors.As(err, &late) {
		t.Fatalf("error is %v", err)
	}
	if asked != 1 {
		t.Errorf("the culprit was asked for %d times", asked)
	}
	if want := (wait.TimeoutError{What: "node n1 to be Ready", Timeout: o.Timeout, Reason: "pod web-0: CrashLoopBackOff", Culprit: `pod web-0 says "no such table"`}); *late != want {
		t.Errorf("it is %+v", *late)
	}
	late.Timeout = 90 * time.Second
	if want := `waited 1m30s for node n1 to be Ready; last seen: pod web-0: CrashLoopBackOff; pod web-0 says "no such table"`; late.Error() != want {
		t.Errorf("it reads\n%s\nwant\n%s", late, want)
	}
}

func TestATimeoutIsToldByTheLastReasonNotByTheEndOfTheLook(t *testing.T) {
	for name, looks := range map[string][]string{
		"a look that hangs after one that told":    {"connection refused", "hangs"},
		"a look that tells when it is out of time": {"tells late"},
		"nothing but hanging":                      {"hangs"},
	} {
		t.Run(name, func(t *testing.T) {
			o := patient
			o.Timeout = 20 * time.Millisecond
			n := 0
			err := wait.Until(t.Context(), o, func(ctx context.Context) (bool, string, error) {
				n++
				switch what := looks[min(n, len(looks))-1]; what {
				case "hangs":
					<-ctx.Done()
					return false, "", fmt.Errorf("ask: %w", ctx.Err())
				case "tells late":
					<-ctx.Done()
					return false, what, nil
				default:
					return false, what, nil
				}
			})
			want := looks[0]
			if want == "hangs" {
				want = "nothing yet"
			}
			var late *wait.TimeoutError
			if !errors.As(err, &late) || late.Reason != want || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error is %v, want the reason %q", err, want)
			}
		})
	}
}

func TestDoneAtTheLastMomentIsDone(t *testing.T) {
	o := patient
	o.Timeout = time.Millisecond
	if err := wait.Until(t.Context(), o, func(ctx context.Context) (bool, string, error) {
		<-ctx.Done()
		return true, "", nil
	}); err != nil {
		t.Error(err)
	}
}

func TestACancelledWaitReturnsTheCause(t *testing.T) {
	stop := errors.New("the user said stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	o := patient
	o.Culprit = func(context.Context) string { t.Error("nobody is to blame"); return "" }
	err := wait.Until(ctx, o, func(inner context.Context) (bool, string, error) {
		cancel(stop)
		<-inner.Done()
		return false, "", inner.Err()
	})
	if !errors.Is(err, stop) {
		t.Errorf("in a look: error is %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	o.Interval = time.Hour // only the end of ctx can end the pause
	o.OnReason = func(string) { cancel(stop) }
	if err := wait.Until(ctx, o, func(context.Context) (bool, string, error) { return false, "not yet", nil }); !errors.Is(err, stop) {
		t.Errorf("between two looks: error is %v", err)
	}
}

func TestATimeoutNamesWhatItWaitedForAndWhoIsToBlame(t *testing.T) {
	slow := func(reason string) wait.Condition {
		return func(ctx context.Context) (bool, string, error) {
			<-ctx.Done()
			return false, reason + ctx.Err().Error(), nil
		}
	}
	for name, c := range map[string]struct {
		cond    wait.Condition
		culprit string
		want    string
	}{
		"the state last seen":          {func(context.Context) (bool, string, error) { return false, "pod a: Pending", nil }, "", "waited 0s for x; last seen: pod a: Pending"},
		"and who is to blame":          {func(context.Context) (bool, string, error) { return false, "pod a: Pending", nil }, "last event: no space", "waited 0s for x; last seen: pod a: Pending; last event: no space"},
		"a question without an answer": {slow("Get https://a: "), "", "waited 0s for x; last seen: Get https://a: no answer in time"},
		"a look that never was":        {func(ctx context.Context) (bool, string, error) { <-ctx.Done(); return false, "", ctx.Err() }, "k0s is failed", "waited 0s for x; last seen: nothing yet; k0s is failed"},
	} {
		t.Run(name, func(t *testing.T) {
			o := wait.Options{What: "x", Timeout: 20 * time.Millisecond, Interval: time.Millisecond, Next: "plinth status", Culprit: func(context.Context) string { return c.culprit }}
			err := wait.Until(t.Context(), o, c.cond)
			var e *wait.TimeoutError
			if !errors.As(err, &e) || e.Error() != c.want || e.Hint() != "to see more: plinth status" {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestAPauseEndsWithItsContext(t *testing.T) {
	if err := wait.Pause(t.Context(), time.Millisecond); err != nil {
		t.Error(err)
	}
	why := errors.New("stopped")
	ctx, stop := context.WithCancelCause(t.Context())
	stop(why)
	if err := wait.Pause(ctx, time.Hour); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}
