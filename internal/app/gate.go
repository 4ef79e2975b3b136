package app

import (
	"github.com/plinthdev/plinth/internal/app/manifest"
	"github.com/plinthdev/plinth/internal/spec"
)

// gate asks whether this KOTS may carry this application, before anything on
// the host changes.
func (a *App) gate(m manifest.Set, first, skip bool) (warnings []string, err error) {
	verdict := spec.Gate(m.Installer, m.Lint.Application, first)
	words := verdict.Explain(m.Title())
	switch {
	case m.Installer.Spec.Kotsadm == nil:
		return nil, nil
	case verdict.Allowed() && verdict.Note != "":
		a.Note("note: " + words.Cause)
		return nil, nil
	case verdict.Allowed():
		return nil, nil
	case skip:
		warning := "the KOTS version gate was skipped on request, though " + words.Cause
		a.Note("warning: " + warning)
		return []string{warning}, nil
	}
	return nil, spec.GateProblem("install", verdict, m.Title())
}
