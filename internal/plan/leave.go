package plan

import (
	"context"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// LeaveSteps creates the steps with which a node leaves its cluster by itself.
type LeaveSteps struct {
	Name    string
	Kube    *kube.Client  // client with the credentials of this node; nil if the API server does not answer
	Timeout time.Duration // for the pods to leave the node
	// InCluster asks another controller whether the node still belongs to the cluster.
	InCluster func(context.Context) (bool, error)
	// RequestLeave asks another controller to remove the node. retry reports whether the
	// error may be temporary.
	RequestLeave func(context.Context) (retry bool, err error)
}

// leaveTimeout is how long the node tries to leave. A controller that is joining
// at the same time holds the join lock for three minutes.
const leaveTimeout = 4 * time.Minute

// List returns the steps that drain the node, if the API server answers, and then let the cluster remove
// its etcd member, its credentials and its Node object. The etcd member is needed until then, because the
// API server of a controller stops without it.
func (o LeaveSteps) List() []step.Step {
	var steps []step.Step
	if o.Kube != nil {
		steps = DrainNode(LeavingNode{Name: o.Name, Kube: o.Kube, Timeout: o.Timeout})
	}
	return append(steps, step.Step{ID: LeaveStepID, Title: "Leave the cluster", Affects: []string{"Node " + o.Name, "etcd member " + o.Name},
		Check: func(ctx context.Context) (step.State, error) {
			known, err := o.InCluster(ctx)
			if err != nil || !known {
				return step.Done(), err
			}
			return step.Needed(o.Name + " still belongs to the cluster"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			w := wait.Options{What: "the cluster to remove " + o.Name, Timeout: leaveTimeout, Interval: 3 * time.Second, NextCommand: "sudo plinth node list   (on a controller)", OnReason: func(r string) { report(r, 0, 0) }}
			return wait.Until(ctx, w, func(ctx context.Context) (bool, string, error) {
				retry, err := o.RequestLeave(ctx)
				if err != nil && retry {
					return false, err.Error(), nil
				}
				return true, "", err
			})
		},
	})
}

// LeaveStepID is the id of the step after which the node no longer belongs to the cluster.
const LeaveStepID = "node-leave"
