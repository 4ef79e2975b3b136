package spec

import (
	"errors"

	"github.com/plinthdev/plinth/internal/compat"
	"github.com/plinthdev/plinth/internal/problem"
)

// CheckGate compares the kotsadm version of the Installer with the version bounds of
// each Application. It returns the result that decides, and the title of its
// Application: the first that does not allow the install, because KOTS can choose any
// Application of a release, else the first with bounds. If a manifest is missing, the
// result has a note about that. firstInstall reports that there is no receipt on the
// host and no KOTS in the cluster.
func CheckGate(in *Installer, apps []*Application, firstInstall bool) (result compat.Result, title string) {
	if len(apps) > 0 {
		title = apps[0].Title
	}
	switch {
	case in == nil || in.Spec.Kotsadm == nil:
		return compat.NewUnchecked("the Installer has no kotsadm"), title
	case len(apps) == 0:
		return compat.NewUnchecked("there is no Application manifest"), title
	}
	for i, app := range apps {
		v := compat.Check(compat.Input{Actual: in.Spec.Kotsadm.Version, Min: app.MinKotsVersion, Target: app.TargetKotsVersion,
			FirstInstall: firstInstall, Known: Versions().KOTSReleases()})
		if !v.Allowed() {
			return v, app.Title
		}
		if i == 0 || result.Outcome == compat.Unchecked && v.Outcome == compat.Pass {
			result, title = v, app.Title
		}
	}
	return result, title
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
