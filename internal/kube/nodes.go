package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Node is the part of a cluster node that Plinth reads.
type Node struct {
	Name      string   // name in the cluster
	Ready     bool     // reported by kubelet to the control plane
	Reason    string   // why it is not Ready, reported by the cluster; empty if it is
	Version   string   // version of kubelet
	Addresses []string // internal and external IP addresses, in the order of the cluster

	Controller bool // it runs the control plane
	Cordoned   bool // no new pods are placed on it
}

// controllerLabel is on a node that runs the control plane from the moment it
// registers. k0s adds the label of Kubernetes,
// node-role.kubernetes.io/control-plane, within the next minute, which is too
// late for callers that need it at once.
const (
	controllerLabel = "node.k0sproject.io/role"
	controllerRole  = "control-plane"
)

// IsController reports whether labels are those of a node that runs the control
// plane.
func IsController(labels map[string]string) bool { return labels[controllerLabel] == controllerRole }

// Nodes returns the cluster's nodes, sorted by name.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	return c.listNodes(ctx, metav1.ListOptions{})
}

// Controllers returns the nodes that run the control plane, from the cache of
// the API server: cheap enough to be called often by every node.
func (c *Client) Controllers(ctx context.Context) ([]Node, error) {
	return c.listNodes(ctx, metav1.ListOptions{LabelSelector: controllerLabel + "=" + controllerRole, ResourceVersion: "0"})
}

func (c *Client) listNodes(ctx context.Context, opts metav1.ListOptions) ([]Node, error) {
	list, err := c.core.Nodes().List(ctx, opts)
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
	out.Controller = IsController(n.Labels)
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
			out.Addresses = append(out.Addresses, a.Address)
		}
	}
	for _, cond := range n.Status.Conditions {
		if cond.Type != corev1.NodeReady {
			continue
		}
		out.Ready = cond.Status == corev1.ConditionTrue
		if out.Reason = cond.Reason + ": " + cond.Message; out.Ready {
			out.Reason = ""
		}
	}
	return out
}
