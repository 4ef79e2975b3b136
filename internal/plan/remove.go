package plan

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/wait"
)

// LeavingNode is a node to drain or to remove from its cluster.
type LeavingNode struct {
	Name      string
	InCluster bool // the cluster has a node with this name
	NotReady  bool // the node is not Ready, so nothing stops its pods
	EtcdOnly  bool // only a member of etcd that never started; Name is its address
	Kube      *kube.Client
	Timeout   time.Duration // for the pods to leave the node
	RemovedBy string        // who removes it, for users of its host
	// InEtcd reports whether the node is still a member of etcd, and RemoveFromEtcd removes
	// the member. Both are nil for a node that is not a member.
	InEtcd         func(context.Context) (bool, error)
	RemoveFromEtcd func(context.Context) error
}

// DrainNode returns the steps that move the pods of d to other nodes.
func DrainNode(d LeavingNode) []step.Step { return []step.Step{d.cordonNode(), d.drainNode()} }

// RemoveNode returns the steps that remove d from the cluster: first its etcd member, then its Node object, so
// that an interrupted run does not leave a voting member of etcd without a node. A member of
// etcd that never started has nothing else to remove.
func RemoveNode(d LeavingNode) []step.Step {
	var steps []step.Step
	if d.InCluster {
		steps = DrainNode(d)
	}
	if d.InEtcd != nil {
		steps = append(steps, d.removeEtcdMember())
	}
	if d.EtcdOnly {
		return steps
	}
	return append(steps, d.deleteRecord(), d.releaseVolumes(), d.deleteObjects())
}

func (d LeavingNode) cordonNode() step.Step {
	return step.Step{ID: "node-cordon", Title: "Place no new pods on " + d.Name, Affects: []string{"Node " + d.Name},
		Check: func(ctx context.Context) (step.State, error) {
			n, err := d.Kube.Node(ctx, d.Name)
			if err != nil || n.Cordoned {
				return step.Done(), err
			}
			return step.Needed("new pods can be scheduled on it"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			return kube.SetSchedulable(ctx, d.Kube, d.Name, false)
		},
	}
}

func (d LeavingNode) drainNode() step.Step {
	return step.Step{ID: "node-drain", Title: "Move the pods of " + d.Name + " elsewhere", Affects: []string{"pods on " + d.Name},
		Check: func(ctx context.Context) (step.State, error) {
			pods, err := kube.PodsToEvict(ctx, d.Kube, d.Name)
			if err != nil || !kube.HasPodsToEvict(pods, d.NotReady) {
				return step.Done(), err
			}
			return step.Needed(fmt.Sprintf("it runs %d pods, such as %s", len(pods), pods[0])), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			return kube.Drain(ctx, d.Kube, kube.Wait{Timeout: d.Timeout, Report: report}, d.Name, d.NotReady)
		},
	}
}

func (d LeavingNode) removeEtcdMember() step.Step {
	return step.Step{ID: "node-etcd", Title: "Take the vote of " + d.Name + " away", Affects: []string{"etcd member " + d.Name},
		Check: func(ctx context.Context) (step.State, error) {
			votes, err := d.InEtcd(ctx)
			if err != nil || !votes {
				return step.Done(), err
			}
			return step.Needed("it is a member of etcd"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			if err := d.RemoveFromEtcd(ctx); err != nil {
				return err
			}
			// If it was the leader, the other members elect a new one first.
			o := wait.Options{What: "the API server to answer without " + d.Name, Timeout: time.Minute, NextCommand: "sudo plinth node list", OnReason: func(r string) { report(r, 0, 0) }}
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

// deleteRecord returns the step that deletes the record of the node, without which the API server refuses it, and
// ends its uses of tokens: otherwise the host could have itself admitted again.
func (d LeavingNode) deleteRecord() step.Step {
	return step.Step{ID: "node-credentials", Title: "Revoke the credentials of " + d.Name, Affects: []string{"ConfigMaps plinth-nodes and plinth-removed-nodes"},
		Check: func(ctx context.Context) (step.State, error) {
			records, err := d.Kube.NodeRecords(ctx)
			if err != nil {
				return step.Done(), err
			}
			if _, ok := records[d.Name]; !ok {
				return step.Done(), nil
			}
			return step.Needed("its credentials are still valid"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			records, err := d.Kube.NodeRecords(ctx)
			if err != nil {
				return err
			}
			record, ok := records[d.Name]
			if !ok { // the host itself or another administrator has just removed it
				return nil
			}
			if err := (token.Store{Core: d.Kube.Core(), Now: time.Now}).EndUses(ctx, record.AgentKey); err != nil {
				return err
			}
			// First, because the host learns of its removal by the note, once there is no record.
			if err := d.Kube.NoteRemovedNode(ctx, record.UID, kube.RemovedNode{Node: d.Name, By: d.RemovedBy, At: time.Now().UTC()}); err != nil {
				return err
			}
			return d.Kube.UpdateNodeRecords(ctx, func(records kube.NodeRecords) error {
				if records[d.Name].UID == record.UID { // and not an admission since, of which there is no note
					delete(records, d.Name)
				}
				return nil
			})
		},
	}
}

// releaseVolumes returns the step that deletes the claims of volumes that exist only on the node, so that
// StatefulSets create new volumes. Pods that are bound to a removed node would wait forever.
func (d LeavingNode) releaseVolumes() step.Step {
	return step.Step{ID: "node-claims", Title: "Release the volumes of " + d.Name, Affects: []string{"volumes on " + d.Name},
		Check: func(ctx context.Context) (step.State, error) {
			claims, err := kube.ReleasablePVCs(ctx, d.Kube, d.Name)
			if err != nil || len(claims) == 0 {
				return step.Done(), err
			}
			return step.Needed(claims[0].String() + " is bound to a volume on it"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			claims, err := kube.ReleasablePVCs(ctx, d.Kube, d.Name)
			if err != nil {
				return err
			}
			return kube.ReleasePVCs(ctx, d.Kube, claims)
		},
	}
}

func (d LeavingNode) deleteObjects() step.Step {
	existing := func(ctx context.Context) (found []kube.Object, err error) {
		for _, o := range kube.NodeObjects(d.Name) {
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
	return step.Step{ID: "node-objects", Title: "Remove " + d.Name + " from the list of nodes", Affects: []string{"Node " + d.Name},
		Check: func(ctx context.Context) (step.State, error) {
			found, err := existing(ctx)
			if err != nil || len(found) == 0 {
				return step.Done(), err
			}
			return step.Needed(found[0].String() + " exists"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			found, err := existing(ctx)
			var failed []string
			for _, o := range found {
				if err := d.Kube.Delete(ctx, o); err != nil {
					failed = append(failed, o.String()+": "+err.Error())
				}
			}
			if len(failed) > 0 {
				return errors.New(strings.Join(failed, "; "))
			}
			if err != nil {
				return err
			}
			return kube.DeletePods(ctx, d.Kube, d.Name)
		},
	}
}
