package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/step"
)

// Reset takes a cluster off its host: the service first, then each kind of
// thing it left, in the order in which they can go.
func Reset(h host.Host, kinds []leftover.Kind) []step.Step {
	steps := []step.Step{stopService(h)}
	for _, k := range kinds {
		steps = append(steps, takeBack(k))
	}
	return steps
}

func stopService(h host.Host) step.Step {
	units := []string{k0s.Unit, k0s.WorkerUnit}
	return step.Step{ID: "stop-k0s", Title: "Stop k0s", Touches: units,
		Check: func(ctx context.Context) (step.State, error) {
			for _, u := range units {
				st, err := h.UnitState(ctx, u)
				if err != nil {
					return step.State{}, err
				}
				if st.Active != "inactive" && st.Active != "failed" || st.Enable == "enabled" {
					return step.Needed(fmt.Sprintf("%s is %s, %s", u, st.Active, st.Enable)), nil
				}
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			return errors.Join(h.StopUnit(ctx, units[0]), h.StopUnit(ctx, units[1]))
		},
	}
}

func takeBack(k leftover.Kind) step.Step {
	return step.Step{ID: k.ID, Title: k.Title,
		Check: func(ctx context.Context) (step.State, error) {
			found, err := k.Find(ctx)
			if err != nil || len(found) == 0 {
				return step.Done(), err
			}
			return step.Needed(strings.Join(found, "\n")), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			res := k.Remove(ctx)
			for _, gone := range res.Removed {
				report("removed "+gone, 0, 0)
			}
			if len(res.Left) > 0 {
				return errors.Join(res.Err, errors.New("still there: "+strings.Join(res.Left, ", ")))
			}
			return res.Err
		},
	}
}
