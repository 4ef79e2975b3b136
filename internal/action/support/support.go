// Package support collects the state of this host and its cluster, names the likely causes of what does not work, and
// packs both into a support bundle. It changes nothing, and works while the cluster is down.
package support

import (
	"context"
	"slices"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/supportbundle"
)

// Report is the result of Diagnose. Its JSON format is public.
type Report struct {
	Host     string              `json:"host"`
	Role     string              `json:"role,omitempty"` // controller or worker; "" if nothing is installed
	Time     time.Time           `json:"time"`           // UTC
	Findings []diagnosis.Finding `json:"findings"`       // most likely cause first; empty if nothing was found
	Unknown  []facts.Unknown     `json:"unknown,omitempty"`
}

// diagnoseTimeout limits the collection for Diagnose. Each part of it has a shorter limit of its own.
const diagnoseTimeout = 20 * time.Second

// Diagnose returns what is wrong on this host and in its cluster, most likely cause first. It changes nothing. A
// cluster that does not answer is a finding, not an error.
func Diagnose(ctx context.Context, env *action.Env) (Report, error) {
	if err := action.RequireRoot("diagnose this host"); err != nil {
		return Report{}, err
	}
	collecting, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	r := newReport(openCollector(collecting, env).snapshot(collecting)) // what does not answer in time is unknown in it
	return r, context.Cause(ctx)
}

// likelyCauseTimeout limits what is added to the time of a run that has failed.
const likelyCauseTimeout = 6 * time.Second

// LikelyCause returns the most likely cause of a run that has failed on this host; ok is false if none is known. It takes
// at most 8 seconds: likelyCauseTimeout, and grace.
func LikelyCause(ctx context.Context, env *action.Env) (f diagnosis.Finding, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, likelyCauseTimeout)
	defer cancel()
	return likelyCause(diagnose(openCollector(ctx, env).snapshot(ctx)))
}

// nonCauseRules are rules that name what a failed run has reported itself, or an effect of it.
var nonCauseRules = []string{"run-unfinished", "preflight-fails", "api-not-answering", "etcd-not-answering", "k0s-not-running"}

// likelyCause returns the first error in found that can be a cause.
func likelyCause(found []diagnosis.Finding) (diagnosis.Finding, bool) {
	for _, f := range found {
		if f.Severity == diagnosis.Error && !slices.Contains(nonCauseRules, f.Rule) {
			return f, true
		}
	}
	return diagnosis.Finding{}, false
}

// diagnose returns the findings in s, without secrets in the lines of logs that they show.
func diagnose(s diagnosis.Snapshot) []diagnosis.Finding {
	r := supportbundle.NewRedactor()
	found := diagnosis.Diagnose(s)
	for i := range found {
		found[i].Evidence = r.RedactLines(found[i].Evidence)
	}
	return found
}

// newReport returns the report of a snapshot.
func newReport(s diagnosis.Snapshot) Report {
	r := Report{Host: s.Host.Hostname, Time: s.Time, Findings: diagnose(s), Unknown: append(s.Missing, s.Host.Unknown...)}
	if r.Findings == nil {
		r.Findings = []diagnosis.Finding{}
	}
	switch {
	case s.Install.Worker:
		r.Role = "worker"
	case s.Install.Installed || s.K0s.Load == "loaded":
		r.Role = "controller"
	}
	return r
}
