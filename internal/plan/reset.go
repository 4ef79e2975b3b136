package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/step"
)

// Reset returns the steps that remove a cluster from its host, one for each of kinds, in that order.
func Reset(kinds []cleanup.Kind) []step.Step {
	steps := make([]step.Step, 0, len(kinds))
	for _, k := range kinds {
		steps = append(steps, removeStep(k))
	}
	return steps
}

// removeStep returns the step that finds and removes the leftovers of the kind k.
func removeStep(k cleanup.Kind) step.Step {
	return step.Step{ID: k.ID, Title: k.Title,
		Check: func(ctx context.Context) (step.State, error) {
			found, err := k.Find(ctx)
			switch {
			case err != nil || len(found) == 0:
				return step.Done(), err
			case len(found) == 1:
				return step.Needed(found[0]), nil
			}
			return step.Needed(fmt.Sprintf("%d found, such as %s", len(found), found[0])), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			res := k.Remove(ctx)
			for _, gone := range res.Removed {
				report("removed "+gone, 0, 0)
			}
			if len(res.Remaining) > 0 {
				return errors.Join(res.Err, errors.New("not removed: "+strings.Join(res.Remaining, ", ")))
			}
			return res.Err
		},
	}
}
