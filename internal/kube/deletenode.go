package kube

import (
	"context"
	"slices"

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
	for _, p := range list.Items {
		if p.Spec.NodeName != node {
			continue
		}
		if err := ForceDeletePod(ctx, c, NodePod{Namespace: p.Namespace, Name: p.Name}); err != nil {
			return err
		}
	}
	return nil
}

// ReplaceablePods returns the pods in namespaces that run on one of nodes, and that their controller would start on another
// node: not those of DaemonSets, and not those that have a volume of that node only or have ended.
func ReplaceablePods(ctx context.Context, c *Client, nodes, namespaces []string) (all []NodePod, err error) {
	for _, node := range nodes {
		pods, err := PodsToEvict(ctx, c, node)
		if err != nil {
			return nil, err
		}
		all = append(all, slices.DeleteFunc(pods, func(p NodePod) bool {
			return p.Unmanaged || len(p.LocalPVCs) > 0 || !slices.Contains(namespaces, p.Namespace)
		})...)
	}
	return all, nil
}

// ForceDeletePod deletes a pod whose kubelet does not answer. If it does later, it ends the containers of the pod.
func ForceDeletePod(ctx context.Context, c *Client, p NodePod) error {
	var gracePeriod int64
	err := c.Core().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &gracePeriod})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
