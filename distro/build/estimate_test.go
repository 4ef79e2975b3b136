package build

import (
	"encoding/json"
	"testing"
	"time"
)

func TestRecordedSeconds_AreOfRecipes(t *testing.T) {
	var recorded map[string]float64
	if err := json.Unmarshal(recordedSeconds, &recorded); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kubernetes", "k0s", "kots"} {
		if recorded[name] < 60 {
			t.Errorf("%s: %g s", name, recorded[name])
		}
	}
}

func TestEstimator_Remaining(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	after := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	for name, tc := range map[string]struct {
		run  func(e *estimator)
		now  int
		want time.Duration
	}{
		"at the start, of two jobs":              {func(*estimator) {}, 0, 500 * time.Second},
		"of a machine that does one at a time":   {func(e *estimator) { e.start("a", after(0)); e.finish("a") }, 600, 400 * time.Second},
		"half of a part is over":                 {func(e *estimator) { e.start("a", after(0)) }, 300, 700 * time.Second},
		"a part that takes longer than recorded": {func(e *estimator) { e.start("b", after(0)) }, 1080, 1920 * time.Second},
		"an unknown part":                        {func(e *estimator) { e.left += e.seconds("other") }, 0, 545 * time.Second},
		"nothing is left":                        {func(e *estimator) { e.finish("a"); e.finish("b") }, 500, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEstimator(nil, 2, began)
			e.recorded = map[string]float64{"a": 600, "b": 400}
			e.left = 1000
			tc.run(e)
			if got := e.remaining(after(tc.now)).Round(time.Second); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestFormatRemaining(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "", 20 * time.Second: "", 45 * time.Second: ", about a minute left", 25*time.Minute + 10*time.Second: ", about 25 minutes left",
	} {
		t.Run(d.String(), func(t *testing.T) {
			if got := formatRemaining(d); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}
