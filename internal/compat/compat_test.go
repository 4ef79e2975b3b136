package compat_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/compat"
)

const (
	pass  = compat.Pass
	block = compat.Block
	// refuse marks the rows where Plinth differs on purpose: KOTS logs a value that
	// is not a version and continues as if it were absent; Plinth does not guess.
	refuse = compat.Undecidable
	// open marks the rows without any bound: allowed, with a note.
	open = compat.Unchecked
)

type row struct {
	actual, min, target string
	install, update     compat.Outcome
	normalized          string // of the bound that failed on install; "" if not checked
}

// gateTable contains every row of the table of the reference.
var gateTable = []row{
	{"1.75.0", "", "1.75.0", pass, pass, ""},
	{"v1.75.0", "", " 1.75.0 ", pass, pass, ""},
	{"1.75.1", "", "1.75.0", block, pass, "1.75.0"},
	{"1.75.1", "", "1.75", block, pass, "1.75.0"},
	{"1.75.0", "", "1.75", pass, pass, ""},
	{"1.75.0", "", "1", block, pass, "1.0.0"},
	{"1.75.0-beta.1", "", "1.75.0", pass, pass, ""},
	{"1.75.0", "", "1.75.0-beta.1", block, pass, "1.75.0-beta.1"},
	{"1.75.0+build.5", "", "1.75.0", pass, pass, ""},
	{"1.100.0", "", "1.99.9", block, pass, "1.99.9"},
	{"1.99.9", "", "1.100.0", pass, pass, ""},
	{"1.75.1", "", "", open, open, ""},
	{"1.61.0", "1.62.0", "", block, block, "1.62.0"},
	{"1.62.0-beta.1", "1.62.0", "", block, block, "1.62.0"},
	{"1.62.0", "1.62.0", "1.62.0", pass, pass, ""},
	{"1.129.4-ec.3", "1.129.4", "", block, block, "1.129.4"},
}

// moreVectors contains further rows of the reference, and its invalid values.
var moreVectors = []row{
	{"1.75.1", "", "v1.75.0", block, pass, "1.75.0"},
	{"v1.75.1", "", " 1.75.0 ", block, pass, "1.75.0"},
	{"1.75.1", "", "1.75.0+z", block, pass, "1.75.0+z"},
	{"1.75.0-alpha.2", "", "1.75.0-alpha.10", pass, pass, ""},
	{"1.75.0-alpha.10", "", "1.75.0-alpha.2", block, pass, "1.75.0-alpha.2"},
	{"1.80.0", "1.62.0", "1.75.0", block, pass, "1.75.0"},
	{"1.61.0", "1.62.0", "1.75.0", block, block, "1.62.0"},
	{"1.75.1", "", "1.75.x", refuse, refuse, ""},
	{"1.75.1", "latest", "", refuse, refuse, ""},
	{"1.75.1", "", "V1.75.0", refuse, refuse, ""},
	{"1.75.1", "1.75.0.1", "", refuse, refuse, ""},
	{"1.75.1", "", "01.75.0", refuse, refuse, ""},
	{"1.75.1", "", "1.75-beta", refuse, refuse, ""},
	{"1.75.1", "", "  ", refuse, refuse, ""},
	{"1.50.0", "1.62.0", "latest", refuse, refuse, ""}, // KOTS: blocked by min
	{"latest", "", "", refuse, refuse, ""},             // KOTS: allowed
}

// realKOTS contains all decisions recorded from KOTS v1.131.2's own function.
var realKOTS = []row{
	{"1.75.0", "", "1.75.0", pass, pass, ""},
	{"1.75.1", "", "1.75.0", block, pass, ""},
	{"1.75.1", "", "1.75", block, pass, ""},
	{"1.75.0", "", "1.75", pass, pass, ""},
	{"1.75.0", "", "1", block, pass, ""},
	{"1.75.0-beta.1", "", "1.75.0", pass, pass, ""},
	{"1.75.0", "", "1.75.0-beta.1", block, pass, ""},
	{"1.75.0+b", "", "1.75.0", pass, pass, ""},
	{"1.100.0", "", "1.99.9", block, pass, ""},
	{"1.99.9", "", "1.100.0", pass, pass, ""},
	{"1.75.1", "", "1.75.x", refuse, refuse, ""},  // KOTS: allowed
	{"1.75.1", "", "latest", refuse, refuse, ""},  // KOTS: allowed
	{"1.75.1", "", "V1.75.0", refuse, refuse, ""}, // KOTS: allowed
	{"1.75.1", "", "v1.75.0", block, pass, ""},
	{"1.75.1", "", "1.75.0.1", refuse, refuse, ""}, // KOTS: allowed
	{"1.75.1", "", "", open, open, ""},
	{"v1.75.0", "", " 1.75.0 ", pass, pass, ""},
	{"v1.75.1", "", " 1.75.0 ", block, pass, ""},
	{"1.62.0-beta.1", "1.62.0", "", block, block, ""},
	{"1.61.0", "1.62.0", "", block, block, ""},
	{"1.62.0", "1.62.0", "", pass, pass, ""},
	{"1.61.0", "1.62.0", "1.75.0", block, block, ""},
	{"1.80.0", "1.62.0", "1.75.0", block, pass, ""},
	{"1.75.1", "", "vv1.75.0", refuse, refuse, ""},  // KOTS: allowed
	{"1.75.1", "", "01.75.0", refuse, refuse, ""},   // KOTS: allowed
	{"1.75.1", "", "1.75-beta", refuse, refuse, ""}, // KOTS: allowed
	{"v0.0.0-unknown", "", "1.0.0", pass, pass, ""},
	{"v0.0.0-unknown", "1.0.0", "", block, block, ""},
	{"v2026.8.9-x-nightly", "", "1.131.2", block, pass, ""},
	{"garbage", "2.0.0", "1.0.0", refuse, refuse, ""}, // KOTS: allowed
	{"1.75.1", "", "1.75.0+z", block, pass, ""},
	{"1.75.0-alpha.2", "", "1.75.0-alpha.10", pass, pass, ""},
	{"1.75.0-alpha.10", "", "1.75.0-alpha.2", block, pass, ""},
	{"v1.131.2", "", "1.131.2", pass, pass, ""},
	{"v1.131.2", "", "1.131.1", block, pass, ""},
	{"v1.131.2", "", "1.0.0", block, pass, ""},
}

func TestCheck_AgreesWithTheReference(t *testing.T) { testRows(t, gateTable) }
func TestCheck_AgreesWithMoreVectors(t *testing.T)  { testRows(t, moreVectors) }
func TestCheck_AgreesWithRealKOTS(t *testing.T)     { testRows(t, realKOTS) }
func TestCheck_TablesAreAsLongAsTheReference(t *testing.T) {
	if len(gateTable) != 16 || len(realKOTS) != 36 {
		t.Fatalf("gate table %d rows, recorded decisions %d rows; want 16 and 36", len(gateTable), len(realKOTS))
	}
}

func testRows(t *testing.T, rows []row) {
	t.Helper()
	for i, r := range rows {
		for _, first := range []bool{true, false} {
			want, verb := r.update, "update"
			if first {
				want, verb = r.install, "install"
			}
			name := fmt.Sprintf("%02d %s of %q with min %q and target %q: %s", i+1, verb, r.actual, r.min, r.target, want)
			t.Run(name, func(t *testing.T) {
				got := compat.Check(compat.Input{Actual: r.actual, Min: r.min, Target: r.target, FirstInstall: first})
				if got.Outcome != want {
					t.Fatalf("got %s: %+v", got.Outcome, got)
				}
				if got.Allowed() != (want == pass || want == open) {
					t.Errorf("Allowed() = %v for %s", got.Allowed(), want)
				}
				if first && r.normalized != "" && got.Normalized != r.normalized {
					t.Errorf("normalized bound = %q, want %q", got.Normalized, r.normalized)
				}
				if (got.Bound != "") != (want == block) || (got.Note != "") != (want == open) || (len(got.Invalid) > 0) != (want == refuse) {
					t.Errorf("the details do not fit the outcome: %+v", got)
				}
			})
		}
	}
}

func TestCheck_NamesTheBoundThatFailed(t *testing.T) {
	// KOTS prints target here, although min failed.
	got := compat.Check(compat.Input{Actual: "1.61.0", Min: "v1.62", Target: "1.75.0", FirstInstall: true})
	if got.Bound != compat.FieldMin || got.Value != "v1.62" || got.Normalized != "1.62.0" || got.Actual != "1.61.0" {
		t.Errorf("got %+v", got)
	}
}

func TestCheck_SuggestsTheNewestKnownKOTSThatPasses(t *testing.T) {
	known := []string{"1.132.0", "1.130.9", "1.130.10", "1.131.2", "latest"}
	for name, c := range map[string]struct {
		in   compat.Input
		want string
	}{
		"below target":              {compat.Input{Actual: "1.131.2", Target: "1.131.1", FirstInstall: true}, "1.130.10"},
		"equal to target":           {compat.Input{Actual: "1.132.0", Target: "1.131.2", FirstInstall: true}, "1.131.2"},
		"above min":                 {compat.Input{Actual: "1.130.9", Min: "1.131.0", FirstInstall: true}, "1.132.0"},
		"between min and target":    {compat.Input{Actual: "1.130.9", Min: "1.131.0", Target: "1.131.9", FirstInstall: true}, "1.131.2"},
		"target of an update":       {compat.Input{Actual: "1.130.9", Min: "1.131.0", Target: "1.131.9"}, "1.132.0"},
		"target below all":          {compat.Input{Actual: "1.131.2", Target: "1.75", FirstInstall: true}, ""},
		"min above all":             {compat.Input{Actual: "1.131.2", Min: "2.0.0"}, ""},
		"no number between the two": {compat.Input{Actual: "1.131.2", Min: "1.131.0", Target: "1.131.1", FirstInstall: true}, ""},
		"nothing to suggest":        {compat.Input{Actual: "1.131.2", Target: "1.131.2", FirstInstall: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.Known = known
			if got := compat.Check(c.in).Fitting; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestCheck_NamesEveryInvalidValue(t *testing.T) {
	got := compat.Check(compat.Input{Actual: "x", Min: "latest", Target: "1.75.0.1"})
	var fields []string
	for _, inv := range got.Invalid {
		fields = append(fields, inv.Field)
	}
	if s := strings.Join(fields, " "); s != "spec.kotsadm.version spec.minKotsVersion spec.targetKotsVersion" {
		t.Errorf("fields = %s", s)
	}
}

func TestParseVersion_AcceptsWhatKOTSAccepts(t *testing.T) {
	for in, want := range map[string]string{
		"1": "1.0.0", "1.2": "1.2.0", "1.2.3": "1.2.3", "v1.2.3": "1.2.3", "\t v1.2.3 \n": "1.2.3",
		"1.2.3-a.b-c": "1.2.3-a.b-c", "1.2.3+b": "1.2.3+b", "1.2.3-a+b": "1.2.3-a+b", "0.0.0": "0.0.0",
		"1.2.3+a-b": "1.2.3+a-b", "1.2.3+v1.2": "1.2.3+v1.2", "18446744073709551615.0.0": "18446744073709551615.0.0",
		"1.2.3-18446744073709551616a": "1.2.3-18446744073709551616a",
	} {
		t.Run(fmt.Sprintf("valid %q", in), func(t *testing.T) {
			got, err := compat.ParseVersion(in)
			if err != nil || got.String() != want {
				t.Errorf("got %v, %v, want %s", got, err, want)
			}
		})
	}
	for _, in := range []string{
		"", " ", "v", "vv1.2.3", "V1.2.3", "v 1.2.3", "latest", "1.x", "1.2.x", "1.2.3.4", "01.2.3", "1.02.3", "1.2.03", "1.", "1.2.", ".1.2",
		"1..2", "1-a", "1.2-a", "1.2+b", "1+b", "1.2.3-", "1.2.3+", "1.2.3-a..b", "1.2.3-01", "1.2.3-ä", "1.2.3+a+b", "1.2.3 4", "-1.2.3",
		"+1.2.3", "1.-2.3", ">=1.2.3", "1.2.3 - 1.2.4", "~1.2.3", "١.2.3", "1e3.0.0", "0x1.0.0", "18446744073709551616.0.0",
		"1.2.3-18446744073709551616", "1.2.3\x00", "${VERSION}",
	} {
		t.Run(fmt.Sprintf("invalid %q", in), func(t *testing.T) {
			if got, err := compat.ParseVersion(in); err == nil {
				t.Errorf("got %v, want an error", got)
			} else if in != "" && len(in) > 5 && strings.Contains(err.Error(), in) {
				t.Errorf("the error repeats the input: %v", err)
			}
		})
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, rows := range [][]row{gateTable, moreVectors, realKOTS} {
		for _, r := range rows {
			f.Add(r.actual, r.target)
			f.Add(r.min, r.target)
		}
	}
	f.Add("1.2.3-18446744073709551615", "1.2.3-a")
	f.Fuzz(func(t *testing.T, a, b string) {
		va, errA := compat.ParseVersion(a)
		vb, errB := compat.ParseVersion(b)
		if errA == nil {
			checkSelf(t, a, va)
		}
		if errA != nil || errB != nil {
			return
		}
		if va.Compare(vb) != -vb.Compare(va) {
			t.Errorf("the order of %q and %q is not antisymmetric", a, b)
		}
		up := compat.Check(compat.Input{Actual: a, Target: b, FirstInstall: true}).Outcome == compat.Block
		down := compat.Check(compat.Input{Actual: b, Min: a}).Outcome == compat.Block
		if up != down || up != (va.Compare(vb) > 0) {
			t.Errorf("Min and Target disagree on %q and %q", a, b)
		}
	})
}

// checkSelf checks what must be true of every version v parsed from s.
func checkSelf(t *testing.T, s string, v compat.Version) {
	t.Helper()
	again, err := compat.ParseVersion(v.String())
	if err != nil || again.Compare(v) != 0 || again.String() != v.String() {
		t.Errorf("%q is normalized to %q, which is parsed as %v, %v", s, v, again, err)
	}
	plain, _, _ := strings.Cut(v.String(), "+")
	built, err := compat.ParseVersion(plain + "+other")
	if err != nil || built.Compare(v) != 0 {
		t.Errorf("build metadata changes the order of %q: %v", s, err)
	}
	got := compat.Check(compat.Input{Actual: s, Min: s, Target: s, FirstInstall: true})
	if got.Outcome != compat.Pass {
		t.Errorf("%q does not pass its own bounds: %+v", s, got)
	}
}
