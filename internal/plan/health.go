package plan

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// Health compares the cluster with its state before an upgrade.
type Health interface {
	// Gather returns the current state, in a format of its own.
	Gather(ctx context.Context) (json.RawMessage, error)
	// Worse returns what is worse than before, the likely cause first; nothing if the cluster is as healthy.
	Worse(ctx context.Context, before json.RawMessage) ([]string, error)
}

// healthTimeout is how long the cluster may take to become as healthy as before.
const healthTimeout = 5 * time.Minute

// healthStep returns the step id that compares the cluster with its state before.
func healthStep(id string, h Health, before func() (json.RawMessage, error)) step.Step {
	worse := func(ctx context.Context) (string, error) {
		was, err := before()
		if err != nil || was == nil {
			return "", err
		}
		all, err := h.Worse(ctx, was)
		return strings.Join(all, "; "), err
	}
	return step.Step{ID: id, Title: "Compare the cluster with its state before",
		Check: func(ctx context.Context) (step.State, error) {
			why, err := worse(ctx)
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			return stepState(why, nil)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			return wait.Until(ctx, wait.Options{What: "the cluster to be as healthy as before the upgrade", Timeout: healthTimeout, Interval: time.Second,
				NextCommand: "sudo plinth kubectl get pods,events -A", OnReason: func(reason string) { report(reason, 0, 0) }},
				func(ctx context.Context) (bool, string, error) {
					why, err := worse(ctx)
					if err != nil {
						return false, err.Error(), nil
					}
					return why == "", why, nil
				})
		},
	}
}
