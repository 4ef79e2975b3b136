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
