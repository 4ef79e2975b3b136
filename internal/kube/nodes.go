package kube

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Node is the part of a Node object that Plinth reads. The node itself writes
// it. Its role and address are in its NodeRecord.
type Node struct {
	Name     string    // name in the cluster
	Ready    bool      // reported by kubelet to the control plane
	Reason   string    // why it is not Ready, reported by the cluster; empty if it is
	Version  string    // version of kubelet
	Cordoned bool      // no new pods are placed on it
	Address  string    // internal address that kubelet reports; its record has the admitted one
	Reported time.Time // when kubelet last reported whether it is Ready; precise to a second
}

// Nodes returns the cluster's nodes, sorted by name.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	list, err := c.core.Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	nodes := make([]Node, 0, len(list.Items))
	for i := range list.Items {
		nodes = append(nodes, describeNode(&list.Items[i]))
	}
	return nodes, nil
}

// Node returns one node, or ErrNotFound if it has not registered.
func (c *Client) Node(ctx context.Context, name string) (Node, error) {
	n, err := c.core.Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return Node{Name: name}, ErrNotFound
	}
	if err != nil {
		return Node{Name: name}, err
	}
	return describeNode(n), nil
}

// NodeHeartbeat returns when the kubelet of a node has last reported, by the clock of the node; the zero time if it
// never has.
func (c *Client) NodeHeartbeat(ctx context.Context, name string) (time.Time, error) {
	lease, err := c.Get(ctx, Object{APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Namespace: corev1.NamespaceNodeLease, Name: name})
	if errors.Is(err, ErrNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	text, _, _ := unstructured.NestedString(lease.Object, "spec", "renewTime")
	return time.Parse(time.RFC3339Nano, text)
}

// WaitNode waits until the node is registered and Ready.
func (c *Client) WaitNode(ctx context.Context, w Wait, name string) error {
	return w.waitUntil(ctx, "node "+name+" to be Ready", "sudo plinth kubectl describe node "+name, func(ctx context.Context) (bool, string, error) {
		n, err := c.Node(ctx, name)
		if err == ErrNotFound {
			return false, "node " + name + " has not registered", nil
		}
		if err != nil {
			return retryReason(err)
		}
		return n.Ready, "node " + name + ": " + n.Reason, nil
	}, func(ctx context.Context) string { return c.Diagnose(ctx, "kube-system", "") }) // such as the pod of the network
}

func describeNode(n *corev1.Node) Node {
	out := Node{Name: n.Name, Version: n.Status.NodeInfo.KubeletVersion, Reason: "kubelet has not reported", Cordoned: n.Spec.Unschedulable}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP && out.Address == "" {
			out.Address = a.Address
		}
	}
	for _, cond := range n.Status.Conditions {
		if cond.Type != corev1.NodeReady {
			continue
		}
		out.Ready, out.Reported = cond.Status == corev1.ConditionTrue, cond.LastHeartbeatTime.Time
		if out.Reason = cond.Reason + ": " + cond.Message; out.Ready {
			out.Reason = ""
		}
	}
	return out
}
