package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/step"
)

// stepID returns the id of the step that installs an add-on. Those of the vendor's charts have a prefix, because
// the vendor chooses their names.
func stepID(a addons.AddOn) string {
	if a.External {
		return "chart-" + a.Name
	}
	return a.Name
}

// releaseOf returns the Helm release of an add-on.
func releaseOf(a addons.AddOn) helm.Release {
	return helm.Release{Name: a.Release, Namespace: a.Namespace, Archive: a.Chart.Archive, Values: a.Values, External: a.External, APIVersions: a.APIVersions, Kubernetes: a.Kubernetes}
}

// ownAddOns returns the add-ons of Plinth, whose pods are limited to what they need. What a chart of the vendor needs
// is not known.
func (c Cluster) ownAddOns() []addons.AddOn {
	return slices.DeleteFunc(slices.Clone(c.AddOns), func(a addons.AddOn) bool { return a.External })
}

// tolerateFailure returns s, a step of the chart a, as a step that warns if it fails. The run continues, and the
// next one tries again.
func (c Cluster) tolerateFailure(s step.Step, a addons.AddOn) step.Step {
	check, apply, failed := s.Check, s.Apply, false
	s.Check = func(ctx context.Context) (step.State, error) {
		if failed {
			return step.Done(), nil
		}
		return check(ctx)
	}
	s.Apply = func(ctx context.Context, report step.Report) error {
		err := apply(ctx, report)
		if err == nil || ctx.Err() != nil {
			return err
		}
		failed = true
		cause, _, _ := strings.Cut(err.Error(), "\n")
		text := fmt.Sprintf("%s is not strict, so its failure is tolerated: %s", a.Title, cause)
		report(text, 0, 0)
		if c.Warn != nil {
			c.Warn(text)
		}
		return nil
	}
	return s
}
