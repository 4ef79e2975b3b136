package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Lock is a lock in the cluster: one node at a time does what must not happen on two at once. It is a
// ConfigMap in kube-system, which only the administrator's credential writes.
type Lock struct {
	Name    string        // of the ConfigMap
	Node    string        // that acquires it; the node itself has at most one process that does
	Purpose string        // for users: "restart k0s"
	TTL     time.Duration // how long a node that was lost can hold it
}

// LockedError is returned if another node holds the lock.
type LockedError struct {
	Node    string // "" if it has just been acquired
	Purpose string
	Since   string // RFC 3339
}

// Error returns who holds the lock.
func (e *LockedError) Error() string {
	if e.Node == "" {
		return "another node has just started the same"
	}
	return fmt.Sprintf("node %s does the same since %s: %s", e.Node, e.Since, e.Purpose)
}

// AcquireLock acquires the lock for l.Node at the time now. It does not wait: while another node holds
// it, the error is a *LockedError. A node that holds the lock already, for example since a run of it was
// killed, acquires it again.
func (c *Client) AcquireLock(ctx context.Context, l Lock, now time.Time) error {
	maps := c.core.ConfigMaps(nodeRecordsNamespace)
	data := map[string]string{"node": l.Node, "purpose": l.Purpose, "since": now.UTC().Format(time.RFC3339), "until": now.Add(l.TTL).UTC().Format(time.RFC3339)}
	have, err := maps.Get(ctx, l.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: l.Name}, Data: data}, metav1.CreateOptions{FieldManager: fieldManager})
	case err != nil:
		return err
	default:
		until, parseErr := time.Parse(time.RFC3339, have.Data["until"])
		if parseErr == nil && now.Before(until) && have.Data["node"] != l.Node {
			return &LockedError{Node: have.Data["node"], Purpose: have.Data["purpose"], Since: have.Data["since"]}
		}
		have.Data = data
		_, err = maps.Update(ctx, have, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return &LockedError{}
	}
	return err
}

// ReleaseLock releases the lock, if l.Node holds it.
func (c *Client) ReleaseLock(ctx context.Context, l Lock) error {
	maps := c.core.ConfigMaps(nodeRecordsNamespace)
	have, err := maps.Get(ctx, l.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && have.Data["node"] != l.Node {
		return nil
	}
	if err != nil {
		return err
	}
	err = maps.Delete(ctx, l.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID, ResourceVersion: &have.ResourceVersion}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // its time was over, and another node has it
		return nil
	}
	return err
}
