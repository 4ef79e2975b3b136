package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// UpgradePhase is what an upgrade of the cluster does now, or how it ended.
type UpgradePhase string

// The phases, in the order in which an upgrade reaches them.
const (
	UpgradeStarted     UpgradePhase = "started"      // nothing in the cluster is changed
	UpgradeNodes       UpgradePhase = "nodes"        // nodes get the new version
	UpgradeAddOns      UpgradePhase = "add-ons"      // all nodes have it; the add-ons and the console get it
	UpgradeDone        UpgradePhase = "done"         // finished; it can be rolled back while its snapshot is kept
	UpgradeRollingBack UpgradePhase = "rolling-back" // the state before the upgrade is restored
	UpgradeRolledBack  UpgradePhase = "rolled-back"  // the state before the upgrade is restored completely
)

// UpgradeRecord is what the cluster knows of its last upgrade. While the upgrade is active, it is the lock that
// refuses a second one. Only the administrator's credential writes it.
type UpgradeRecord struct {
	From        string       `json:"from"`          // digest of the bundle that was installed
	To          string       `json:"to"`            // digest of the bundle that the upgrade installs
	Cluster     string       `json:"cluster"`       // metadata.name of the Installer
	Phase       UpgradePhase `json:"phase"`         // what it does now, or how it ended
	Coordinator string       `json:"coordinator"`   // node on which the command runs
	StartedAt   time.Time    `json:"startedAt"`     // UTC
	Why         string       `json:"why,omitempty"` // why it was rolled back, or why it has stopped

	Nodes map[string]UpgradeNode `json:"nodes,omitempty"` // of a cluster with several nodes, by name, except the coordinator
}

// UpgradeNode is what the cluster knows of the upgrade of one node.
type UpgradeNode struct {
	State    UpgradeNodeState `json:"state"`
	Since    time.Time        `json:"since"`              // UTC
	Why      string           `json:"why,omitempty"`      // why it failed or was rolled back
	Cordoned bool             `json:"cordoned,omitempty"` // by the upgrade, which has to undo it
}

// UpgradeNodeState is what an upgrade does with a node, or has done.
type UpgradeNodeState string

// The states of a node. A node without one has not been touched.
const (
	NodeDelivering  UpgradeNodeState = "delivering"   // it fetches programs and images
	NodeDelivered   UpgradeNodeState = "delivered"    // it has all that it needs, and runs the old version
	NodeDraining    UpgradeNodeState = "draining"     // its pods are moved to other nodes
	NodeUpgrading   UpgradeNodeState = "upgrading"    // its k0s is restarted
	NodeUpgraded    UpgradeNodeState = "upgraded"     // it runs the new version, and the cluster is healthy
	NodeFailed      UpgradeNodeState = "failed"       // it runs neither version
	NodeRollingBack UpgradeNodeState = "rolling-back" // its state before is restored
	NodeRolledBack  UpgradeNodeState = "rolled-back"  // it runs the old version again
	NodeSkipped     UpgradeNodeState = "skipped"      // on request
)

// SetNode records the state of a node. Since changes only with the state.
func (r *UpgradeRecord) SetNode(name string, n UpgradeNode) {
	was, known := r.Nodes[name]
	if known && was.State == n.State {
		n.Since = was.Since
	}
	if r.Nodes = maps.Clone(r.Nodes); r.Nodes == nil {
		r.Nodes = map[string]UpgradeNode{}
	}
	r.Nodes[name] = n
}

// SkipNodes records nodes that the upgrade leaves out. One that the upgrade has cordoned, and that was lost since, is
// uncordoned once it gets the new version.
func (r *UpgradeRecord) SkipNodes(names []string, now time.Time) {
	for _, name := range names {
		r.SetNode(name, UpgradeNode{State: NodeSkipped, Since: now.UTC(), Why: "skipped on request", Cordoned: r.Nodes[name].Cordoned})
	}
}

// ReachedNodes reports whether a node other than the coordinator may run the new version.
func (r UpgradeRecord) ReachedNodes() bool {
	for _, n := range r.Nodes {
		switch n.State {
		case NodeUpgrading, NodeUpgraded, NodeFailed, NodeRollingBack:
			return true
		}
	}
	return false
}

// Active reports whether the upgrade is not finished: another one must not begin.
func (r UpgradeRecord) Active() bool {
	return r.To != "" && r.Phase != UpgradeDone && r.Phase != UpgradeRolledBack
}

// String describes the upgrade for users, without its bundles.
func (r UpgradeRecord) String() string {
	return fmt.Sprintf("the upgrade that was started on node %s at %s (%s)", r.Coordinator, r.StartedAt.Format(time.RFC3339), r.Phase)
}

// The ConfigMap of the record has it as JSON under one key.
const (
	upgradeRecordName = "plinth-upgrade"
	upgradeRecordKey  = "upgrade"
)

// UpgradeRecord reads the record; zero if the cluster was never upgraded.
func (c *Client) UpgradeRecord(ctx context.Context) (r UpgradeRecord, err error) {
	obj, err := c.core.ConfigMaps(nodeRecordsNamespace).Get(ctx, upgradeRecordName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	return parseUpgradeRecord(obj.Data)
}

// parseUpgradeRecord returns the record in the data of the ConfigMap.
func parseUpgradeRecord(data map[string]string) (r UpgradeRecord, err error) {
	if err := json.Unmarshal([]byte(data[upgradeRecordKey]), &r); err != nil {
		return r, fmt.Errorf("the ConfigMap %s/%s is damaged: %w", nodeRecordsNamespace, upgradeRecordName, err)
	}
	return r, nil
}

// UpdateUpgradeRecord changes the record; change gets the current one, and is called again after a conflict with
// another writer. It may return an error, which ends the update.
func (c *Client) UpdateUpgradeRecord(ctx context.Context, change func(*UpgradeRecord) error) error {
	conflict := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	return retry.OnError(retry.DefaultBackoff, conflict, func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return c.updateUpgradeRecord(ctx, change)
	})
}

// updateUpgradeRecord tries the update once.
func (c *Client) updateUpgradeRecord(ctx context.Context, change func(*UpgradeRecord) error) error {
	configMaps := c.core.ConfigMaps(nodeRecordsNamespace)
	obj, err := configMaps.Get(ctx, upgradeRecordName, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	var record UpgradeRecord
	switch {
	case missing:
		obj = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: upgradeRecordName, Namespace: nodeRecordsNamespace}}
	case err != nil:
		return err
	default:
		if record, err = parseUpgradeRecord(obj.Data); err != nil {
			return err
		}
	}
	was := record
	was.Nodes = maps.Clone(record.Nodes)
	if err := change(&record); err != nil || !missing && reflect.DeepEqual(record, was) {
		return err
	}
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	obj.Data = map[string]string{upgradeRecordKey: string(text)}
	if missing {
		_, err = configMaps.Create(ctx, obj, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		_, err = configMaps.Update(ctx, obj, metav1.UpdateOptions{FieldManager: fieldManager}) // refused if the record was changed since
	}
	return err
}
