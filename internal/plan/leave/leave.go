// Package leave owns the step lists by which a node is emptied and taken out
// of its cluster. It refuses to change the host of that node.
package leave

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/member"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/wait"
)

// Node is a node that leaves, or is emptied.
type Node struct {
	Name     string
	Known    bool // the cluster has a node of that name
	Gone     bool // nobody is there to stop its pods
	Nameless bool // nothing but a member of etcd that never started; Name is its address
	Kube     *kube.Client
	Timeout  time.Duration // for its pods to leave
	Now      func() time.Time
	// Votes reports whether the node is a member of etcd still, and Unvote takes
	// it out; nil for one that has no vote.
	Votes  func(context.Context) (bool, error)
	Unvote func(context.Context) error
}

// Drain moves a node's pods elsewhere.
func Drain(d Node) []step.Step { return []step.Step{d.cordon(), d.drain()} }

// Remove takes a node out of the cluster: its vote before its place, so
// that a run that ends halfway leaves no voter that nobody knows. Of a member of
// etcd that never started there is nothing else.
func Remove(d Node) []step.Step {
	var steps []step.Step
	if d.Known {
		steps = Drain(d)
	}
	if d.Votes != nil {
		steps = append(steps, d.etcdMember())
	}
	if d.Nameless {
		return steps
	}
	return append(steps, d.credentials(), d.claims(), d.objects())
}

func (d Node) cordon() step.Step {
	return step.Step{ID: "node-cordon", Title: "Place no new pods on " + d.Name, Touches: []string{"Node " + d.Name},
		Check: func(ctx context.Context) (step.State, error) {
			n, err := d.Kube.Node(ctx, d.Name)
			if err != nil || n.Cordoned {
				return step.Done(), err
			}
			return step.Needed("pods may be placed on it"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error { return member.SetPlacing(ctx, d.Kube, d.Name, false) },
	}
}

func (d Node) drain() step.Step {
	return step.Step{ID: "node-drain", Title: "Move the pods of " + d.Name + " elsewhere", Touches: []string{"pods on " + d.Name},
		Check: func(ctx context.Context) (step.State, error) {
			pods, err := member.Pods(ctx, d.Kube, d.Name)
			if err != nil || !member.Staying(pods, d.Gone) {
				return step.Done(), err
			}
			return step.Needed(fmt.Sprintf("%d pods are on it, such as %s", len(pods), pods[0])), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			return member.Drain(ctx, d.Kube, kube.Wait{Timeout: d.Timeout, Report: report}, d.Name, d.Gone)
		},
	}
}

func (d Node) etcdMember() step.Step {
	return step.Step{ID: "node-etcd", Title: "Take the vote of " + d.Name + " away", Touches: []string{"etcd member " + d.Name},
		Check: func(ctx context.Context) (step.State, error) {
			votes, err := d.Votes(ctx)
			if err != nil || !votes {
				return step.Done(), err
			}
			return step.Needed("it is a member of etcd"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			if err := d.Unvote(ctx); err != nil {
				return err
			}
			// Where it led, the others choose a new leader first.
			o := wait.Options{What: "the API to answer without " + d.Name, Timeout: time.Minute, Next: "sudo plinth node list", OnReason: func(r string) { report(r, 0, 0) }}
			return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
				_, err := d.Kube.Nodes(ctx)
				if err != nil {
					return false, err.Error(), nil
				}
				return true, "", nil
			})
		},
	}
}

func (d Node) credentials() step.Step {
	return step.Step{ID: "node-credentials", Title: "Revoke the credentials of " + d.Name, Touches: []string{"ValidatingAdmissionPolicy plinth-removed-nodes"},
		Check: func(ctx context.Context) (step.State, error) {
			revoked, err := member.Revoked(ctx, d.Kube, d.Name)
			if err != nil || revoked {
				return step.Done(), err
			}
			return step.Needed("it may still act as a node"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			return member.Revoke(ctx, d.Kube, d.Name, d.Now().UTC().Format(time.RFC3339))
		},
	}
}

// claims lets StatefulSets make anew what was on the node alone: bound to a node
// that is no more, their pods would wait for ever.
func (d Node) claims() step.Step {
	return step.Step{ID: "node-claims", Title: "Let go of the volumes of " + d.Name, Touches: []string{"volumes on " + d.Name},
		Check: func(ctx context.Context) (step.State, error) {
			claims, err := member.Claims(ctx, d.Kube, d.Name)
			if err != nil || len(claims) == 0 {
				return step.Done(), err
			}
			return step.Needed("the data of " + claims[0].String() + " would be looked for there"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			claims, err := member.Claims(ctx, d.Kube, d.Name)
			if err != nil {
				return err
			}
			return member.Release(ctx, d.Kube, claims)
		},
	}
}

func (d Node) objects() step.Step {
	there := func(ctx context.Context) (found []kube.Object, err error) {
		for _, o := range member.Objects(d.Name) {
			ok, err := d.Kube.Exists(ctx, o)
			if err != nil {
				return nil, err
			}
			if ok {
				found = append(found, o)
			}
		}
		return found, nil
	}
	return step.Step{ID: "node-objects", Title: "Remove " + d.Name + " from the list of nodes", Touches: []string{"Node " + d.Name},
		Check: func(ctx context.Context) (step.State, error) {
			found, err := there(ctx)
			if err != nil || len(found) == 0 {
				return step.Done(), err
			}
			return step.Needed(found[0].String() + " is there"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			found, err := there(ctx)
			var wrong []string
			for _, o := range found {
				if err := d.Kube.Delete(ctx, o); err != nil {
					wrong = append(wrong, o.String()+": "+err.Error())
				}
			}
			if len(wrong) > 0 {
				return errors.New(strings.Join(wrong, "; "))
			}
			if err != nil {
				return err
			}
			return member.Forget(ctx, d.Kube, d.Name)
		},
	}
}
