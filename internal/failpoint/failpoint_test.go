package failpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
)

// points returns the failpoints of a run with one step.
func points() []Point {
	var all []Point
	for _, object := range []string{Run, Journal, "k0s-start"} {
		for _, m := range Phases(object) {
			all = append(all, Point{"install", object, m})
		}
	}
	return all
}

func TestParse_ReadsRulesAsRuleStringWritesThem(t *testing.T) {
	const text = "install/k0s-start:applied=kill;install/journal:torn#3=enospc;install/journal:write#2+=eio;" +
		"install/k0s-start:begun=error;install/k0s-start:working#7=delay(1.5s);install/run:started=kill(20ms)"
	rules, err := Parse(" "+strings.ReplaceAll(text, ";", " ; ")+";", points())
	if err != nil {
		t.Fatal(err)
	}
	var back []string
	for _, r := range rules {
		back = append(back, r.String())
	}
	if got := strings.Join(back, ";"); got != text {
		t.Errorf("%s\nwant %s", got, text)
	}
	if rules, err := Parse("", points()); len(rules) != 0 || err != nil {
		t.Errorf("empty text: %v, %v", rules, err)
	}
}

func TestParse_KnowsChartsByTheirPrefix(t *testing.T) {
	known := []Point{{"install", "console", Begun}, {"install", AnyChart, Begun}}
	for name, want := range map[string]string{
		"install/chart-hello:begun":   "chart-hello",
		"install/chart-hello-2:begun": "chart-hello-2",
		"install/chart-*:begun":       "",
		"install/chart-:begun":        "",
		"install/chart-a/b:begun":     "",
		"install/chart-hello:ended":   "",
		"upgrade/chart-hello:begun":   "",
		"install/chart-hello:begun2":  "",
	} {
		t.Run(name, func(t *testing.T) {
			rules, err := Parse(name+"=kill", known)
			got := ""
			if err == nil {
				got = rules[0].Point.Object
			}
			if got != want {
				t.Errorf("object %q, want %q (%v)", got, want, err)
			}
		})
	}
}

func TestParse_RejectsInvalidRules(t *testing.T) {
	for text, want := range map[string]string{
		"install/k0s-start:applied":                 "has no action",
		"install/k0s-stat:applied=kill":             `no failpoint is called "install/k0s-stat:applied"`,
		"=kill":                                     `no failpoint is called ""`,
		"install/k0s-start:applied=explode":         "one of kill, error",
		"install/k0s-start:applied#0=kill":          "from 1",
		"install/k0s-start:applied#x=kill":          "from 1",
		"install/k0s-start:applied=delay":           "delay requires a time",
		"install/k0s-start:applied=delay()":         "in parentheses",
		"install/k0s-start:applied=delay(5s":        "in parentheses",
		"install/k0s-start:applied=delay(-5s)":      "in parentheses",
		"install/k0s-start:applied=kill(2h)":        "at most an hour",
		"install/k0s-start:applied=error(5s)":       "does not accept a time",
		"install/k0s-start:working=error":           "only kill and delay",
		"install/run:started=enospc":                "only kill and delay",
		"install/journal:torn=kill;;x=kill":         `no failpoint is called "x"`,
		"install/k0s-start:applied=kill,x:y=delay1": "one of kill, error",
	} {
		t.Run(text, func(t *testing.T) {
			if _, err := Parse(text, points()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("install/k0s-start:applied=kill")
	f.Add("install/journal:torn#3+=enospc;install/run:started=kill(20ms)")
	f.Add("install/k0s-start:working#7=delay(1.5s) ; ")
	f.Add("a#=()")
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := Parse(text, points())
		if err != nil {
			return
		}
		var b strings.Builder
		for _, r := range rules {
			fmt.Fprintf(&b, "%s;", r)
		}
		again, err := Parse(b.String(), points())
		if err != nil || len(again) != len(rules) {
			t.Fatalf("%q became %q: %v", text, b.String(), err)
		}
		for i := range rules {
			if rules[i] != again[i] {
				t.Errorf("%q: %+v became %+v", text, rules[i], again[i])
			}
		}
	})
}

// armed returns a Set of the rules in text whose effects only append to done.
func armed(t *testing.T, text string, done *[]string) *Set {
	t.Helper()
	rules, err := Parse(text, points())
	if err != nil {
		t.Fatal(err)
	}
	note := func(s string) { *done = append(*done, s) }
	return Arm(rules, Effects{Log: note, Kill: func() { note("killed") }, Sleep: func(d time.Duration) { note("paused " + d.String()) }})
}

func TestSet_ActsWhenItsPointsAreReached(t *testing.T) {
	var done []string
	s := armed(t, "install/k0s-start:begun#2=kill;install/k0s-start:applied=enospc;install/journal:write#2+=eio;install/k0s-start:ended=delay(3s)", &done)
	at := func(object string, m Phase) error { return s.Reach("install", object, m) }
	if at("k0s-start", Begun) != nil || len(done) != 0 {
		t.Errorf("acted too early: %v", done)
	}
	_ = at("k0s-start", Begun)
	_ = at("k0s-start", Begun)
	if got := strings.Join(done, ", "); got != "failpoint install/k0s-start:begun: this process ends now, killed" {
		t.Error(got)
	}
	if err := at("k0s-start", Applied); !errors.Is(err, host.ErrNoSpace) {
		t.Error(err)
	}
	if err := at("k0s-start", Applied); err != nil {
		t.Errorf("second time: %v", err)
	}
	if err := errors.Join(at(Journal, Write), s.Reach("reset", "k0s-start", Applied)); err != nil {
		t.Errorf("not armed: %v", err)
	}
	if a, b := at(Journal, Write), at(Journal, Write); !errors.Is(a, host.ErrDiskIO) || !errors.Is(b, host.ErrDiskIO) {
		t.Errorf("%v, %v", a, b)
	}
	if err := at("k0s-start", Ended); err != nil || done[len(done)-1] != "paused 3s" {
		t.Errorf("%v, %v", err, done)
	}
}

func TestObserve_SeesEachTimeAPointIsReached(t *testing.T) {
	var seen []string
	set := Observe(points(), func(p Point) { seen = append(seen, p.String()) })
	for _, phase := range []Phase{Begun, Applied, Begun} {
		if err := set.Reach("install", "k0s-start", phase); err != nil {
			t.Error(err)
		}
	}
	if err := set.Reach("install", "another-step", Begun); err != nil {
		t.Error(err)
	}
	if got := strings.Join(seen, " "); got != "install/k0s-start:begun install/k0s-start:applied install/k0s-start:begun" {
		t.Errorf("saw %q", got)
	}
}

func TestArm_ReturnsNilWithoutRules(t *testing.T) {
	s := Arm(nil, Effects{})
	if s != nil || s.Reach("install", "k0s-start", Applied) != nil {
		t.Error("an empty set acts")
	}
	files := hosttest.New(t).Host().Files
	if s.WrapFiles("install", files, map[string]string{"/j": Journal}) != files {
		t.Error("files are wrapped without a rule")
	}
	if n := testing.AllocsPerRun(100, func() { _ = s.Reach("install", "k0s-start", Applied) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// died is the panic value that simulates the death of the process.
type died struct{}

func TestWrapFiles_KilledWriteLeavesOldOrNewContent(t *testing.T) {
	for phase, want := range map[Phase]struct{ content, temp string }{
		Write: {"old", ""}, Torn: {"old", "new "}, Temp: {"old", "new text"}, Renamed: {"new text", ""},
	} {
		t.Run(string(phase), func(t *testing.T) {
			fake := hosttest.New(t)
			path := "/var/lib/plinth/journal.json"
			local := filepath.Join(fake.Root, path)
			if err := fake.Host().Write(path, strings.NewReader("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			rules, err := Parse("install/journal:"+string(phase)+"=kill", points())
			if err != nil {
				t.Fatal(err)
			}
			set := Arm(rules, Effects{Log: func(string) {}, Kill: func() { panic(died{}) }})
			files := set.WrapFiles("install", fake.Host().Files, map[string]string{path: Journal})
			func() {
				defer func() {
					if recover() != (died{}) {
						t.Error("the process was not killed")
					}
				}()
				_ = files.Write(path, strings.NewReader("new text"), 0o600)
			}()
			content, _ := os.ReadFile(local)
			temp, _ := os.ReadFile(host.TempPath(local))
			if string(content) != want.content || string(temp) != want.temp {
				t.Errorf("content %q, temporary file %q", content, temp)
			}
		})
	}
}

func TestWrapFiles_FailedWriteKeepsOldContentAndRemovesTemporaryFile(t *testing.T) {
	for _, phase := range []Phase{Write, Torn, Temp} {
		t.Run(string(phase), func(t *testing.T) {
			fake := hosttest.New(t)
			path := "/var/lib/plinth/journal.json"
			if err := fake.Host().Write(path, strings.NewReader("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			var done []string
			files := armed(t, "install/journal:"+string(phase)+"=enospc", &done).WrapFiles("install", fake.Host().Files, map[string]string{path: Journal})
			if err := files.Write(path, strings.NewReader("new text"), 0o600); !errors.Is(err, host.ErrNoSpace) {
				t.Error(err)
			}
			content, _ := fake.Host().ReadFile(path)
			if _, err := fake.Host().Lstat(host.TempPath(path)); string(content) != "old" || err == nil {
				t.Errorf("content %q, temporary file %v", content, err)
			}
			if err := files.Write("/other", strings.NewReader("x"), 0o600); err != nil {
				t.Errorf("another file: %v", err)
			}
		})
	}
}
