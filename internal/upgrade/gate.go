package upgrade

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
)

// CheckGate applies the KOTS version gate to an upgrade: the KOTS of the Installer in must not be below the
// minKotsVersion of an Application in the bundle, nor of one that is deployed, which would no longer work. As in KOTS
// itself (IsKotsVersionCompatibleWithApp with isInstall=false), targetKotsVersion does not block an existing
// installation: a KOTS above it is only noted. Of a deployed Application a bound that is not a version is only noted,
// too: KOTS ignores it, and the bundle cannot correct it.
func CheckGate(in *spec.Installer, bundled, deployed []*spec.Application) (refusals []Refusal, notes []string) {
	if in.Spec.Kotsadm == nil {
		return nil, nil
	}
	result, title := spec.CheckGate(in, bundled, false)
	if refusal, ok := gateRefusal(result, title); ok {
		refusals = append(refusals, refusal)
	}
	for _, app := range deployed {
		result, title := spec.CheckGate(in, []*spec.Application{app}, false)
		title = "the deployed " + cmp.Or(title, "application")
		refusal, refused := gateRefusal(result, title)
		switch {
		case result.Outcome == compat.Undecidable:
			notes = append(notes, refusal.Reason)
		case refused:
			refusals = append(refusals, refusal)
		}
	}
	for _, app := range append(bundled[:len(bundled):len(bundled)], deployed...) {
		if note := targetNote(in.Spec.Kotsadm.Version, app); note != "" {
			notes = append(notes, note)
		}
	}
	return refusals, unique(notes)
}

// gateRefusal returns the refusal of a result of the gate; ok is false if the gate allows the upgrade.
func gateRefusal(result compat.Result, title string) (r Refusal, ok bool) {
	var p *problem.Problem
	if !errors.As(spec.GateError("upgrade", result, title), &p) {
		return Refusal{}, false
	}
	fix := "use a bundle with another KOTS, or a release of the application that allows this one"
	if result.Fitting != "" {
		fix = "use a bundle with KOTS " + result.Fitting + " (the newest known that fits), or a release of the application that allows " + result.Actual
	}
	return Refusal{Subject: compat.FieldAddOn, Reason: p.Err.Error(), Fix: fix, Exit: p.Exit}, true
}

// targetNote returns a note if a version of KOTS is above the targetKotsVersion of app, or "".
func targetNote(kots string, app *spec.Application) string {
	first := compat.Check(compat.Input{Actual: kots, Target: app.TargetKotsVersion, FirstInstall: true})
	if first.Outcome != compat.Block {
		return ""
	}
	return fmt.Sprintf("KOTS %s is later than the targetKotsVersion of %s, %s; KOTS allows that in an existing installation", first.Actual, cmp.Or(app.Title, "the application"), first.Normalized)
}

// unique returns the texts without repetitions.
func unique(texts []string) (out []string) {
	seen := map[string]bool{}
	for _, t := range texts {
		if !seen[t] {
			out = append(out, t)
		}
		seen[t] = true
	}
	return out
}
