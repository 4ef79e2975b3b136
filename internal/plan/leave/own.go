package leave

import (
	"context"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// Own is a node that takes itself out of its cluster.
type Own struct {
	Name    string
	Kube    *kube.Client  // its own way to the API; nil when that does not answer
	Timeout time.Duration // for its pods to leave
	// Known asks another controller whether the cluster still counts on the node.
	Known func(context.Context) (bool, error)
	// Leave asks another controller to let it go; again says that an error may
	// pass by itself.
	Leave func(context.Context) (again bool, err error)
}

// partingTimeout bounds the attempts to be let go: a controller that joins
// meanwhile has the turn for three minutes.
const partingTimeout = 4 * time.Minute

// Steps empties the node, as far as its API can be asked, and has the cluster
// take away its vote, its credentials and its place. The vote goes last of what
// the node itself needs: without it a controller's own API ends.
func (o Own) Steps() []step.Step {
	var steps []step.Step
	if o.Kube != nil {
		steps = Drain(Node{Name: o.Name, Kube: o.Kube, Timeout: o.Timeout})
	}
	return append(steps, step.Step{ID: LeaveID, Title: "Leave the cluster", Touches: []string{"Node " + o.Name, "etcd member " + o.Name},
		Check: func(ctx context.Context) (step.State, error) {
			known, err := o.Known(ctx)
			if err != nil || !known {
				return step.Done(), err
			}
			return step.Needed("the cluster counts on " + o.Name), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			w := wait.Options{What: "the cluster to let " + o.Name + " go", Timeout: partingTimeout, Interval: 3 * time.Second, Next: "sudo plinth node list   (on a controller)", OnReason: func(r string) { report(r, 0, 0) }}
			return wait.Until(ctx, w, func(ctx context.Context) (bool, string, error) {
				again, err := o.Leave(ctx)
				if err != nil && again {
					return false, err.Error(), nil
				}
				return true, "", err
			})
		},
	})
}

// LeaveID is the step after which the cluster no longer counts on the node.
const LeaveID = "node-leave"
