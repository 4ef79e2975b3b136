package kube

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PodsReason says why the namespace's pods are not all up now, in WaitPods'
// sense; empty when they are.
func (c *Client) PodsReason(ctx context.Context, namespace string, expect ...string) (string, error) {
	list, err := c.core.Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	return podsReason(list.Items, expect), nil
}

// Starting names a pod of the namespace whose containers have not all been
// started; empty when all have, or when there is no pod.
func (c *Client) Starting(ctx context.Context, namespace string) (string, error) {
	list, err := c.core.Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for i := range list.Items {
		p := &list.Items[i]
		started := len(p.Status.ContainerStatuses) > 0
		for _, s := range p.Status.ContainerStatuses {
			started = started && s.State.Waiting == nil
		}
		if !started && !ignored(p) {
			return p.Name, nil
		}
	}
	return "", nil
}
