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

// patient has a timeout that no test reaches.
var patient = wait.Options{What: "node n1 to be Ready", Timeout: time.Hour, Interval: time.Millisecond}

func TestUntil_ReturnsAtOnceIfDone(t *testing.T) {
	o := patient
	o.Interval = time.Hour
	o.OnReason = func(reason string) { t.Errorf("unexpected reason %q", reason) }
	if err := wait.Until(t.Context(), o, func(context.Context) (bool, string, error) { return true, "", nil }); err != nil {
		t.Error(err)
	}
}

func TestUntil_ReportsReasonsOnlyWhenTheyChange(t *testing.T) {
	reasons := []string{"pulling", "pulling", "starting", "starting", "pulling"}
	var reported []string
	checks := 0
	o := patient
	o.OnReason = func(reason string) { reported = append(reported, reason) }
	err := wait.Until(t.Context(), o, func(context.Context) (bool, string, error) {
		if checks++; checks > len(reasons) {
			return true, "", nil
		}
		return false, reasons[checks-1], nil
	})
	if want := []string{"pulling", "starting", "pulling"}; err != nil || !slices.Equal(reported, want) {
		t.Errorf("reported %q, want %q; error %v", reported, want, err)
	}
}

func TestUntil_ReturnsErrorOfConditionAtOnce(t *testing.T) {
	broken := errors.New("broken for good")
	checks := 0
	err := wait.Until(t.Context(), patient, func(context.Context) (bool, string, error) {
		checks++
		return false, "", broken
	})
	if !errors.Is(err, broken) || checks != 1 {
		t.Errorf("after %d checks: %v", checks, err)
	}
}

func TestUntil_TimesOutWithReasonAndDiagnosis(t *testing.T) {
	o := patient
	o.Timeout = 20 * time.Millisecond
	diagnoses := 0
	o.Diagnose = func(ctx context.Context) string {
		diagnoses++
		if ctx.Err() != nil {
			t.Error("the diagnosis gets a context that has ended")
		}
		return `pod web-0 says "no such table"`
	}
	err := wait.Until(t.Context(), o, func(context.Context) (bool, string, error) { return false, "pod web-0: CrashLoopBackOff", nil })
	var late *wait.TimeoutError
	if !errors.As(err, &late) {
		t.Fatalf("error is %v", err)
	}
	if diagnoses != 1 {
		t.Errorf("%d diagnoses, want 1", diagnoses)
	}
	if want := (wait.TimeoutError{What: "node n1 to be Ready", Timeout: o.Timeout, Reason: "pod web-0: CrashLoopBackOff", Diagnosis: `pod web-0 says "no such table"`}); *late != want {
		t.Errorf("error is %+v", *late)
	}
	late.Timeout = 90 * time.Second
	if want := `waited 1m30s for node n1 to be Ready; last seen: pod web-0: CrashLoopBackOff; pod web-0 says "no such table"`; late.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", late, want)
	}
}

func TestUntil_KeepsLastReasonWhenACheckTimesOut(t *testing.T) {
	for name, checks := range map[string][]string{
		"hanging check after one with a reason":  {"connection refused", "hangs"},
		"check that returns its reason too late": {"late reason"},
		"hanging checks only":                    {"hangs"},
	} {
		t.Run(name, func(t *testing.T) {
			o := patient
			o.Timeout = 20 * time.Millisecond
			n := 0
			err := wait.Until(t.Context(), o, func(ctx context.Context) (bool, string, error) {
				n++
				switch check := checks[min(n, len(checks))-1]; check {
				case "hangs":
					<-ctx.Done()
					return false, "", fmt.Errorf("ask: %w", ctx.Err())
				case "late reason":
					<-ctx.Done()
					return false, check, nil
				default:
					return false, check, nil
				}
			})
			want := checks[0]
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

func TestUntil_SucceedsIfDoneAtTheTimeout(t *testing.T) {
	o := patient
	o.Timeout = time.Millisecond
	if err := wait.Until(t.Context(), o, func(ctx context.Context) (bool, string, error) {
		<-ctx.Done()
		return true, "", nil
	}); err != nil {
		t.Error(err)
	}
}

func TestUntil_ReturnsTheCauseOfCancellation(t *testing.T) {
	stop := errors.New("the user said stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	o := patient
	o.Diagnose = func(context.Context) string { t.Error("a canceled wait must not be diagnosed"); return "" }
	err := wait.Until(ctx, o, func(inner context.Context) (bool, string, error) {
		cancel(stop)
		<-inner.Done()
		return false, "", inner.Err()
	})
	if !errors.Is(err, stop) {
		t.Errorf("during a check: error is %v", err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	o.Interval = time.Hour // only the end of ctx can end the interval
	o.OnReason = func(string) { cancel(stop) }
	if err := wait.Until(ctx, o, func(context.Context) (bool, string, error) { return false, "not yet", nil }); !errors.Is(err, stop) {
		t.Errorf("between two checks: error is %v", err)
	}
}

func TestTimeoutError_NamesConditionReasonAndDiagnosis(t *testing.T) {
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
		"last reason":            {func(context.Context) (bool, string, error) { return false, "pod a: Pending", nil }, "", "waited 0s for x; last seen: pod a: Pending"},
		"reason and diagnosis":   {func(context.Context) (bool, string, error) { return false, "pod a: Pending", nil }, "last event: no space", "waited 0s for x; last seen: pod a: Pending; last event: no space"},
		"request that times out": {slow("Get https://a: "), "", "waited 0s for x; last seen: Get https://a: no answer in time"},
		"no finished check":      {func(ctx context.Context) (bool, string, error) { <-ctx.Done(); return false, "", ctx.Err() }, "k0s is failed", "waited 0s for x; last seen: nothing yet; k0s is failed"},
	} {
		t.Run(name, func(t *testing.T) {
			o := wait.Options{What: "x", Timeout: 20 * time.Millisecond, Interval: time.Millisecond, NextCommand: "plinth status", Diagnose: func(context.Context) string { return c.culprit }}
			err := wait.Until(t.Context(), o, c.cond)
			var e *wait.TimeoutError
			if !errors.As(err, &e) || e.Error() != c.want || e.Hint() != "to see more: plinth status" {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestSleep_EndsWithItsContext(t *testing.T) {
	if err := wait.Sleep(t.Context(), time.Millisecond); err != nil {
		t.Error(err)
	}
	why := errors.New("stopped")
	ctx, stop := context.WithCancelCause(t.Context())
	stop(why)
	if err := wait.Sleep(ctx, time.Hour); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

func TestForReply_DoesNotWaitForWhatHangs(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	never := func(context.Context) (int, error) { <-hang; return 1, nil }
	over, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	canceled, stop := context.WithCancel(t.Context())
	stop()
	t.Run("reply", func(t *testing.T) {
		if n, err := wait.ForReply(t.Context(), 0, func(context.Context) (int, error) { return 7, errors.New("with an error") }); n != 7 || err == nil {
			t.Errorf("%d %v", n, err)
		}
	})
	t.Run("reply within the grace", func(t *testing.T) {
		notice := func(ctx context.Context) (int, error) { <-ctx.Done(); return 7, nil }
		if n, err := wait.ForReply(over, time.Hour, notice); n != 7 || err != nil {
			t.Errorf("%d %v", n, err)
		}
	})
	t.Run("no reply", func(t *testing.T) {
		if n, err := wait.ForReply(over, time.Millisecond, never); n != 0 || !errors.Is(err, wait.ErrNoReply) {
			t.Errorf("%d %v", n, err)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		if _, err := wait.ForReply(canceled, time.Millisecond, never); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
