package kube

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeObjects returns the objects that represent a node in the cluster, in the
// order in which they are deleted.
func NodeObjects(node string) []Object {
	return []Object{
		{APIVersion: "etcd.k0sproject.io/v1beta1", Kind: "EtcdMember", Name: node},
		{APIVersion: "v1", Kind: "Node", Name: node},
	}
}

// DeletePods force-deletes the pods of a node that was removed: its kubelet can
// no longer report that they have ended, and their replacements wait for that.
// The pod garbage collector would take a minute.
func DeletePods(ctx context.Context, c *Client, node string) error {
	list, err := c.Core().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return err
	}
	var gracePeriod int64
	for _, p := range list.Items {
		if p.Spec.NodeName != node {
			continue
		}
		err := c.Core().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &gracePeriod})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
