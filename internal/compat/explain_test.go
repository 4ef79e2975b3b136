package compat_test

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/compat"
)

func TestExplain_GivesCauseAndHint(t *testing.T) {
	known := []string{"1.109.0", "1.130.8", "1.130.9", "1.131.2", "1.132.0"}
	for name, c := range map[string]struct {
		in    compat.Input
		title string
		want  string
	}{
		"target": {
			compat.Input{Actual: "1.131.2", Min: "1.62.0", Target: "1.75", FirstInstall: true, Known: known}, "My App",
			`this version of My App requires a different version of KOTS: the add-on is KOTS 1.131.2, which is above the application's targetKotsVersion "1.75" (that is 1.75.0)
→ no KOTS that this version of plinth knows fits: use a release of My App whose targetKotsVersion is 1.131.2 or later
  nothing on this host has changed`,
		},
		"min quotes its own value": {
			compat.Input{Actual: "v1.131.2", Min: "1.200.0", Target: "1.300.0", Known: known}, "",
			`this version of the application requires a different version of KOTS: the add-on is KOTS 1.131.2, which is below the application's minKotsVersion "1.200.0"
→ no KOTS that this version of plinth knows fits: use a newer plinth, and an Installer or bundle whose spec.kotsadm.version is 1.200.0 or later,
  or a release of the application whose minKotsVersion is 1.131.2 or lower
  nothing on this host has changed`,
		},
		"target with a known KOTS below it": {
			compat.Input{Actual: "1.131.2", Target: "1.131", FirstInstall: true, Known: known}, "My App",
			`this version of My App requires a different version of KOTS: the add-on is KOTS 1.131.2, which is above the application's targetKotsVersion "1.131" (that is 1.131.0)
→ Install KOTS version 1.130.9 and try again: use an Installer or bundle whose spec.kotsadm.version is 1.130.9 (the newest known that fits; ` + "`plinth lint`" + ` reports whether this version of plinth can install it),
  or a release of My App whose targetKotsVersion is 1.131.2 or later
  nothing on this host has changed`,
		},
		"undecidable": {
			compat.Input{Actual: "1.131.2", Min: "1.62.x", Target: "latest"}, "My App",
			`the compatibility of this KOTS add-on with My App cannot be determined: spec.minKotsVersion is "1.62.x", and it does not have the format 1.2.3; spec.targetKotsVersion is "latest", and it does not have the format 1.2.3
→ write a version such as 1.131.2
  nothing on this host has changed`,
		},
		"no bound": {
			compat.Input{Actual: "1.131.2"}, "My App",
			"the KOTS version gate had nothing to check: the Application sets neither spec.minKotsVersion nor spec.targetKotsVersion",
		},
		"pass": {compat.Input{Actual: "1.131.2", Target: "1.131.2"}, "My App", "KOTS 1.131.2 is compatible with My App"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := compat.Check(c.in).Explain(c.title).String(); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestNewUnchecked_ExplainsWhatIsMissing(t *testing.T) {
	v := compat.NewUnchecked("there is no Application manifest")
	if !v.Allowed() || !strings.HasSuffix(v.Explain("").Cause, "nothing to check: there is no Application manifest") {
		t.Errorf("got %+v, %q", v, v.Explain(""))
	}
}

func TestExplain_TruncatesAndEscapesValues(t *testing.T) {
	v := compat.Check(compat.Input{Actual: "1.0.0", Target: "\x1b[31m" + strings.Repeat("9", 1000)})
	if got := v.Explain("\x1b[2J" + strings.Repeat("x", 1000)).Cause; len(got) > 400 || strings.Contains(got, "\x1b") {
		t.Errorf("got %q", got)
	}
}
