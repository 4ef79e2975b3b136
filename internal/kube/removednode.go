package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// RemovedNode is the note that the cluster has removed a node. It is for one admission: a later one of the same
// name has another UID. That a record is missing says less: a cluster that was restored from an older backup has
// no record of a host that joined later.
type RemovedNode struct {
	Node string    `json:"node"` // Kubernetes name
	By   string    `json:"by"`   // who removed it, for users
	At   time.Time `json:"at"`   // UTC
}

// removedNodesName is the ConfigMap of the notes, with one key for each UID.
const removedNodesName = "plinth-removed-nodes"

// maxRemoved limits the notes in the ConfigMap, whose size is limited to 1 MiB.
const maxRemoved = 2000

// NoteRemovedNode adds a note about the admission with a UID, and deletes the oldest ones if there is no room.
func (c *Client) NoteRemovedNode(ctx context.Context, uid string, r RemovedNode) error {
	if r.Node == "" || uid == "" {
		return fmt.Errorf("cannot note the removal of node %q with UID %q", r.Node, uid)
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	conflict := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }
	return retry.OnError(retry.DefaultBackoff, conflict, func() error {
		configMaps := c.core.ConfigMaps(nodeRecordsNamespace)
		obj, err := configMaps.Get(ctx, removedNodesName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			obj = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: removedNodesName, Namespace: nodeRecordsNamespace}, Data: map[string]string{uid: string(text)}}
			_, err = configMaps.Create(ctx, obj, metav1.CreateOptions{FieldManager: fieldManager})
			return err
		}
		if err != nil {
			return err
		}
		if obj.Data == nil {
			obj.Data = map[string]string{}
		}
		deleteOldest(obj.Data, maxRemoved-1)
		obj.Data[uid] = string(text)
		_, err = configMaps.Update(ctx, obj, metav1.UpdateOptions{FieldManager: fieldManager})
		return err
	})
}

// deleteOldest deletes the oldest notes, so that at most count are left. It compares notes with each other, not
// with a clock: one controller whose clock is far ahead must not delete those of all others.
func deleteOldest(notes map[string]string, count int) {
	if len(notes) <= count {
		return
	}
	at := map[string]time.Time{}
	for uid, text := range notes {
		var r RemovedNode
		_ = json.Unmarshal([]byte(text), &r) // one that is damaged has no time, and is deleted first
		at[uid] = r.At
	}
	byAge := slices.SortedFunc(maps.Keys(at), func(x, y string) int { return at[x].Compare(at[y]) })
	for _, uid := range byAge[:len(notes)-count] {
		delete(notes, uid)
	}
}

// RemovedNode returns the note about the admission with a UID. ok is false if there is none.
func (c *Client) RemovedNode(ctx context.Context, uid string) (r RemovedNode, ok bool, err error) {
	obj, err := c.core.ConfigMaps(nodeRecordsNamespace).Get(ctx, removedNodesName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	text, ok := obj.Data[uid]
	if !ok {
		return r, false, nil
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, false, fmt.Errorf("the note about a removed node in ConfigMap %s/%s is damaged: %w", nodeRecordsNamespace, removedNodesName, err)
	}
	return r, true, nil
}
