package member

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/wait"
)

// Pod is a pod on a node that is drained.
type Pod struct {
	Namespace, Name string
	Alone           bool     // nothing would start it elsewhere
	Volumes         []string // claims whose data is on this node alone
	Leaving         bool     // it was told to go
}

// String is "kotsadm/kotsadm-0".
func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// pollEvery is the pause between two rounds of a drain.
const pollEvery = time.Second

// SetPlacing says whether new pods may be placed on a node.
func SetPlacing(ctx context.Context, c *kube.Client, node string, allowed bool) error {
	return c.Patch(ctx, kube.Object{APIVersion: "v1", Kind: "Node", Name: node}, fmt.Appendf(nil, `{"spec":{"unschedulable":%v}}`, !allowed))
}

// Pods lists the pods that have to leave a node: all but those that belong to it
// (of a DaemonSet, of kubelet itself) and those that have ended.
func Pods(ctx context.Context, c *kube.Client, node string) ([]Pod, error) {
	list, err := c.Core().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, err
	}
	var out []Pod
	for i := range list.Items {
		p := &list.Items[i]
		if p.Spec.NodeName != node || staysHere(p) {
			continue
		}
		volumes, err := localClaims(ctx, c, p, node)
		if err != nil {
			return nil, err
		}
		out = append(out, Pod{Namespace: p.Namespace, Name: p.Name, Alone: metav1.GetControllerOf(p) == nil, Volumes: volumes, Leaving: p.DeletionTimestamp != nil})
	}
	return out, nil
}

// staysHere reports whether a pod belongs to its node, or has ended.
func staysHere(p *corev1.Pod) bool {
	owner := metav1.GetControllerOf(p)
	_, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror || owner != nil && owner.Kind == "DaemonSet" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// localClaims lists the claims of a pod whose volume is on node and nowhere
// else.
func localClaims(ctx context.Context, c *kube.Client, p *corev1.Pod, node string) (out []string, err error) {
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
		if err == nil && onlyOn(volume, node) {
			out = append(out, claim.Name)
		}
	}
	return out, nil
}

// onlyOn reports whether a volume can be used on node alone.
func onlyOn(v *corev1.PersistentVolume, node string) bool { return homeOf(v) == node }

// homeOf is the one node that can use a volume: a term that names this host and
// no other; "" where several can.
func homeOf(v *corev1.PersistentVolume) string {
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

// Staying reports whether some of a node's pods have yet to leave. gone says that
// the node is dead: nobody is there to stop its pods, so telling them is enough.
func Staying(pods []Pod, gone bool) bool {
	return slices.ContainsFunc(pods, func(p Pod) bool { return !gone || !p.Leaving })
}

// Drain evicts the pods of a node until none is left that has to leave. What
// keeps one from going, such as a PodDisruptionBudget, is the reason that w is
// told.
func Drain(ctx context.Context, c *kube.Client, w kube.Wait, node string, gone bool) error {
	told := ""
	o := wait.Options{What: "the pods of " + node + " to leave", Timeout: w.Timeout, Interval: pollEvery,
		Next: "sudo plinth kubectl get pods,poddisruptionbudgets -A -o wide"}
	if w.Report != nil {
		o.OnReason = func(reason string) {
			if reason != told {
				told = reason
				w.Report(reason, 0, 0)
			}
		}
	}
	return wait.Until(ctx, o, func(ctx context.Context) (bool, string, error) {
		pods, err := Pods(ctx, c, node)
		if err != nil {
			return false, "the API server does not answer yet: " + err.Error(), nil
		}
		if !Staying(pods, gone) {
			return true, "", nil
		}
		var held []string
		for _, p := range pods {
			if p.Leaving {
				continue
			}
			why, err := evict(ctx, c, p)
			if err != nil {
				return false, "", fmt.Errorf("evict pod %s: %w", p, err)
			}
			if why != "" {
				held = append(held, "pod "+p.String()+" stays: "+why)
			}
		}
		if len(held) > 0 {
			return false, strings.Join(held, "; "), nil
		}
		return false, fmt.Sprintf("%d pods on their way out, such as %s", len(pods), pods[0]), nil
	})
}

// evict asks for one pod to go; why says what keeps it for now.
func evict(ctx context.Context, c *kube.Client, p Pod) (why string, err error) {
	err = c.Core().Pods(p.Namespace).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}})
	var status apierrors.APIStatus
	switch {
	case err == nil, apierrors.IsNotFound(err):
		return "", nil
	case apierrors.IsTooManyRequests(err):
		why = err.Error()
		if errors.As(err, &status) && status.Status().Details != nil {
			for _, cause := range status.Status().Details.Causes {
				why = cause.Message // names the budget, and what it allows
			}
		}
		return why, nil
	case apierrors.IsInternalError(err):
		return err.Error(), nil // two budgets for one pod: a person has to mend that, within the bound
	}
	return "", err
}
