package upgrade_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/upgrade"
)

func TestCheckGate(t *testing.T) {
	app := func(minimum, target string) []*spec.Application {
		return []*spec.Application{{Title: "My App", MinKotsVersion: minimum, TargetKotsVersion: target}}
	}
	const note = "KOTS 1.131.2 is later than the targetKotsVersion of My App, 1.130.9; KOTS allows that in an existing installation"
	for name, c := range map[string]struct {
		bundled, deployed []*spec.Application
		exit              int      // of the only refusal; 0 for none
		contains          []string // parts of the refusal
		notes             []string
	}{
		"no application":                      {},
		"no bounds":                           {bundled: app("", "")},
		"both are allowed":                    {bundled: app("1.131.2", "1.131.2"), deployed: app("v1.131", "")},
		"the bundle needs a later KOTS":       {bundled: app("1.131.4", ""), exit: problem.ExitGate, contains: []string{"spec.kotsadm.version: this version of My App requires a different version of KOTS", "below the application's minKotsVersion \"1.131.4\"", "KOTS 1.134.2 (the newest known that fits)"}},
		"the deployed one needs a later KOTS": {bundled: app("", ""), deployed: app("1.131.4", ""), exit: problem.ExitGate, contains: []string{"of the deployed My App requires", "minKotsVersion"}},
		"none fits":                           {bundled: app("9.0.0", ""), exit: problem.ExitGate, contains: []string{"use a bundle with another KOTS"}},
		"target does not block":               {bundled: app("", "1.130.9"), notes: []string{note}},
		"target of both, said once":           {bundled: app("", "1.130.9"), deployed: app("", "1.130.9"), notes: []string{note}},
		"target of the deployed one":          {deployed: app("", "1.130.9"), notes: []string{note}},
		"a bound of the bundle is no version": {bundled: app("1.131.x", ""), exit: problem.ExitConfig, contains: []string{"cannot be determined"}},
		"one of the deployed is no version": {deployed: app("1.131.x", ""), notes: []string{
			`the compatibility of this KOTS add-on with the deployed My App cannot be determined: spec.minKotsVersion is "1.131.x", and it does not have the format 1.2.3`}},
	} {
		t.Run(name, func(t *testing.T) {
			in := &spec.Installer{Spec: spec.Spec{Kotsadm: &spec.Kotsadm{Version: "1.131.2"}}}
			refusals, notes := upgrade.CheckGate(in, c.bundled, c.deployed)
			if !slices.Equal(notes, c.notes) {
				t.Errorf("notes %q", notes)
			}
			if len(refusals) != min(c.exit, 1) {
				t.Fatalf("%q", refusals)
			}
			for _, part := range c.contains {
				if r := refusals[0]; r.Exit != c.exit || !strings.Contains(r.String(), part) {
					t.Errorf("exit %d, %q; want exit %d, %q", r.Exit, r, c.exit, part)
				}
			}
			in.Spec.Kotsadm = nil
			if refusals, notes := upgrade.CheckGate(in, c.bundled, c.deployed); len(refusals)+len(notes) > 0 {
				t.Errorf("without a console: %q %q", refusals, notes)
			}
		})
	}
}

func TestCheckOrder(t *testing.T) {
	for name, c := range map[string]struct {
		was, is upgrade.Bundle
		refused string
	}{
		"later":                       {upgrade.Bundle{Digest: "a", Release: 3}, upgrade.Bundle{Digest: "b", Release: 4}, ""},
		"the same number":             {upgrade.Bundle{Digest: "a", Release: 3}, upgrade.Bundle{Digest: "b", Release: 3}, ""},
		"the installed bundle":        {upgrade.Bundle{Digest: "a", Release: 3}, upgrade.Bundle{Digest: "a", Release: 3}, ""},
		"no numbers":                  {upgrade.Bundle{Digest: "a", Release: 0}, upgrade.Bundle{Digest: "b", Release: 0}, ""},
		"older":                       {upgrade.Bundle{Digest: "a", Release: 3}, upgrade.Bundle{Digest: "b", Release: 2}, "release: was release 3, is release 2: the bundle is older than the installed one"},
		"no number after one with it": {upgrade.Bundle{Digest: "a", Release: 3}, upgrade.Bundle{Digest: "b", Release: 0}, "is a release without a number"},
	} {
		t.Run(name, func(t *testing.T) {
			got := upgrade.CheckOrder(c.was, c.is)
			if (got == nil) != (c.refused == "") || got != nil && (got.Exit != problem.ExitBundle || !strings.Contains(got.String(), c.refused)) {
				t.Errorf("%+v, want %q", got, c.refused)
			}
		})
	}
}
