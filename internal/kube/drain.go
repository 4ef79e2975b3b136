package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plinthdev/plinth/internal/wait"
)

// NodePod is a pod on a node that is drained.
type NodePod struct {
	Namespace, Name string
	Node            string
	Unmanaged       bool     // it has no controller that would start it on another node
	LocalPVCs       []string // claims whose data only this node has
	Terminating     bool     // it is terminating
}

// String returns a name such as "kotsadm/kotsadm-0".
func (p NodePod) String() string { return p.Namespace + "/" + p.Name }

// drainInterval is the pause between two rounds of a drain.
const drainInterval = time.Second

// SetSchedulable uncordons a node if allowed is true, and cordons it if not: no
// new pods are scheduled to a cordoned node.
func SetSchedulable(ctx context.Context, c *Client, node string, allowed bool) error {
	return c.Patch(ctx, Object{APIVersion: "v1", Kind: "Node", Name: node}, fmt.Appendf(nil, `{"spec":{"unschedulable":%v}}`, !allowed))
}

// PodsToEvict returns the pods that a drain of the node must evict: all except
// those that belong to the node (of a DaemonSet or of kubelet itself) and those
// that have ended.
func PodsToEvict(ctx context.Context, c *Client, node string) ([]NodePod, error) {
	list, err := c.Core().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, err
	}
	var out []NodePod
	for i := range list.Items {
		p := &list.Items[i]
		if p.Spec.NodeName != node || staysOnNode(p) {
			continue
		}
		volumes, err := localPVCNames(ctx, c, p, node)
		if err != nil {
			return nil, err
		}
		out = append(out, NodePod{Namespace: p.Namespace, Name: p.Name, Node: node, Unmanaged: metav1.GetControllerOf(p) == nil, LocalPVCs: volumes, Terminating: p.DeletionTimestamp != nil})
	}
	return out, nil
}

// staysOnNode reports whether a pod belongs to its node, or has ended.
func staysOnNode(p *corev1.Pod) bool {
	owner := metav1.GetControllerOf(p)
	_, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror || owner != nil && owner.Kind == "DaemonSet" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// localPVCNames returns the claims of a pod whose volume only node can use.
func localPVCNames(ctx context.Context, c *Client, p *corev1.Pod, node string) (out []string, err error) {
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		claim, err := c.Core().PersistentVolumeClaims(p.Namespace).Get(ctx, v.PersistentVolumeClaim.ClaimName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && claim.Spec.VolumeName == "" {
			continue
		}
		if err != nil {
			return nil, err
		}
		volume, err := c.Core().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil && isLocalTo(volume, node) {
			out = append(out, claim.Name)
		}
	}
	return out, nil
}

// isLocalTo reports whether node is the only node that can use a volume.
func isLocalTo(v *corev1.PersistentVolume, node string) bool { return volumeNode(v) == node }

// volumeNode returns the only node that can use a volume, from a node selector
// term with one host name, or "" if several nodes can.
func volumeNode(v *corev1.PersistentVolume) string {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return ""
	}
	for _, term := range v.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range append(term.MatchExpressions, term.MatchFields...) {
			if e.Operator == corev1.NodeSelectorOpIn && len(e.Values) == 1 {
				return e.Values[0]
			}
		}
	}
	return ""
}

// HasPodsToEvict reports whether pods are still to be evicted. If dead is true,
// kubelet no longer runs and cannot stop the pods of the node, so that
// terminating pods do not count.
func HasPodsToEvict(pods []NodePod, dead bool) bool {
	return slices.ContainsFunc(pods, func(p NodePod) bool { return !dead || !p.Terminating })
}

// Drain evicts the pods of a node until none is left to evict. If a pod cannot
// be evicted, for example because of a PodDisruptionBudget, w reports the
// reason. dead means that kubelet on the node no longer runs.
func Drain(ctx context.Context, c *Client, w Wait, node string, dead bool) error {
	return drain(ctx, c, w, node, func(pods []NodePod) []NodePod {
		if !HasPodsToEvict(pods, dead) {
			return nil
		}
		return pods
	})
}

// DrainMovable evicts those pods of a node that can run on another one meanwhile, for a restart of k0s that containers
// survive. The others stay: those without a controller, which nothing would start again, and those with a volume that
// only this node has.
func DrainMovable(ctx context.Context, c *Client, w Wait, node string) error {
	return drain(ctx, c, w, node, func(pods []NodePod) []NodePod {
		return slices.DeleteFunc(pods, func(p NodePod) bool { return p.Unmanaged || len(p.LocalPVCs) > 0 })
	})
}

// drain evicts the pods of a node that toEvict returns, until it returns none.
func drain(ctx context.Context, c *Client, w Wait, node string, toEvict func([]NodePod) []NodePod) error {
	reported := ""
	o := wait.Options{What: "the pods of node " + node + " to be evicted", Timeout: w.Timeout, Interval: drainInterval,
		NextCommand: "sudo plinth kubectl get pods,poddisruptionbudgets -A -o wide"}
	if w.Report != nil {
		o.OnReason = func(reason string) {
			if reason != reported {
				reported = reason
				w.Report(reason, 0, 0)
			}
		}
	}
	return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		pods, err := PodsToEvict(ctx, c, node)
		if err != nil {
			return false, "the API server does not respond yet: " + err.Error(), nil
		}
		if pods = toEvict(pods); len(pods) == 0 {
			return true, "", nil
		}
		var blocked []string
		for _, p := range pods {
			if p.Terminating {
				continue
			}
			reason, err := evictPod(ctx, c, p)
			if err != nil {
				return false, "", fmt.Errorf("evict pod %s: %w", p, err)
			}
			if reason != "" {
				blocked = append(blocked, "pod "+p.String()+" cannot be evicted: "+reason)
			}
		}
		if len(blocked) > 0 {
			return false, strings.Join(blocked, "; "), nil
		}
		return false, fmt.Sprintf("%d pods are terminating, such as %s", len(pods), pods[0]), nil
	})
}

// evictPod requests the eviction of one pod, and returns the reason if it
// cannot be evicted now. An API server that does not answer, such as while etcd
// moves its leader, is such a reason: only an answer that another request would
// get, too, is an error.
func evictPod(ctx context.Context, c *Client, p NodePod) (reason string, err error) {
	err = c.Core().Pods(p.Namespace).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}})
	var status apierrors.APIStatus
	answered := errors.As(err, &status)
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return "", nil
	case apierrors.IsTooManyRequests(err):
		reason = err.Error()
		if answered && status.Status().Details != nil {
			for _, cause := range status.Status().Details.Causes {
				reason = cause.Message // names the budget and what it allows
			}
		}
		return reason, nil
	case answered && status.Status().Code >= http.StatusBadRequest && status.Status().Code < http.StatusInternalServerError:
		return "", err
	}
	return err.Error(), nil // also two budgets for one pod: an administrator must fix that before the timeout
}
