package plan

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// addOnsTimeout is how long a restore waits for the add-ons. Velero checks its object store once a minute.
const addOnsTimeout = 3 * time.Minute

// waitAddOns returns the step that waits for Plinth's add-ons in the restored cluster, without the pods on lost nodes: their
// releases are in the backup, so no step installs them and waits for them. started is the id of the step that starts k0s. The
// control plane is restored also if an add-on is not ready in time: the user is told its name and the cause. Without
// add-ons, there is no such step. The console has one of its own.
func (o restore) waitAddOns(started string) []step.Step {
	waited := slices.DeleteFunc(slices.Clone(o.AddOns), func(a addons.AddOn) bool { return a.External || a.Deploy == addons.DeployKOTS })
	if len(waited) == 0 {
		return nil
	}
	lost := slices.DeleteFunc(slices.Clone(o.Nodes), func(name string) bool { return name == o.NodeName })
	reason := func(ctx context.Context) (string, error) {
		client, err := o.kubeClient(ctx)
		if err != nil {
			return "", err
		}
		return notReadyAddOns(ctx, client.IgnoringNodes(lost...), waited)
	}
	gaveUp := false
	return []step.Step{{ID: "restore-addons", Title: "Wait for the add-ons",
		Check: func(ctx context.Context) (step.State, error) {
			if gaveUp {
				return step.Done(), nil
			}
			if done, err := o.isRestored(); err != nil || !done {
				return step.Unknown(started), err
			}
			why, err := reason(ctx)
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			return stepState(why, nil)
		},
		Apply: func(ctx context.Context, report step.Report) error {
			last := ""
			err := wait.Until(ctx, wait.Options{What: "the add-ons to be ready", Timeout: addOnsTimeout, NextCommand: "plinth status",
				OnReason: func(reason string) { report(reason, 0, 0) }},
				func(ctx context.Context) (bool, string, error) {
					why, err := reason(ctx)
					if err != nil {
						why = err.Error()
					}
					last = why
					return why == "", why, nil
				})
			if err == nil || ctx.Err() != nil {
				return err
			}
			gaveUp = true
			report("not ready: "+last, 0, 0)
			if o.NotReady != nil {
				o.NotReady(last)
			}
			return nil
		},
	}}
}

// notReadyAddOns returns which of the add-ons are not ready, and why; "" if all are.
func notReadyAddOns(ctx context.Context, client *kube.Client, all []addons.AddOn) (string, error) {
	var reasons []string
	for _, a := range all {
		why, err := client.PodsReason(ctx, a.Namespace)
		if err != nil {
			return "", err
		}
		if why != "" {
			reasons = append(reasons, a.Title+": "+why)
		}
	}
	return strings.Join(reasons, "; "), nil
}
