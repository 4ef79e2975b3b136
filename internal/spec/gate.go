package spec

import (
	"errors"

	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/problem"
)

// CheckGate compares the kotsadm version of the Installer with the version bounds
// of the Application. If one of them is missing, the verdict has a note about that.
// firstInstall reports that there is no receipt on the host and no KOTS in the
// cluster.
func CheckGate(in *Installer, app *Application, firstInstall bool) compat.Result {
	switch {
	case in == nil || in.Spec.Kotsadm == nil:
		return compat.NewUnchecked("the Installer has no kotsadm")
	case app == nil:
		return compat.NewUnchecked("there is no Application manifest")
	}
	return compat.Check(compat.Input{
		Actual:       in.Spec.Kotsadm.Version,
		Min:          app.MinKotsVersion,
		Target:       app.TargetKotsVersion,
		FirstInstall: firstInstall,
		Known:        Versions().KOTSReleases(),
	})
}

// GateError returns nil if v allows the install, else an error: with exit code 4
// if the gate blocks it, with exit code 3 if a value is not a version. title is the
// title of the application.
func GateError(doing string, v compat.Result, title string) error {
	if v.Allowed() {
		return nil
	}
	exit := problem.ExitGate
	if v.Outcome == compat.Undecidable {
		exit = problem.ExitConfig
	}
	words := v.Explain(title)
	return problem.New(exit, doing, errors.New(words.Cause), words.Hint)
}
