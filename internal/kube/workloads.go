package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// WaitWorkloads waits until each Deployment, StatefulSet or DaemonSet in
// objects runs its newest revision with all its pods Ready. Objects of other
// kinds only have to exist.
func (c *Client) WaitWorkloads(ctx context.Context, w Wait, objects ...Object) error {
	var names []string
	for _, o := range objects {
		names = append(names, o.String())
	}
	var waiting Object
	return w.waitUntil(ctx, strings.Join(names, ", ")+" to be ready", c.Kubectl()+" get pods,events -A", func(ctx context.Context) (bool, string, error) {
		for _, o := range objects {
			reason, err := c.WorkloadReason(ctx, o)
			if err != nil {
				return retryReason(err)
			}
			if reason != "" {
				waiting = o
				return false, o.String() + ": " + reason, nil
			}
		}
		return true, "", nil
	}, func(ctx context.Context) string { return c.diagnoseWorkload(ctx, waiting) })
}

// WorkloadReason returns the reason why a workload is not ready, or "" if it
// is. A missing object is a reason, not an error.
func (c *Client) WorkloadReason(ctx context.Context, o Object) (string, error) {
	obj, err := c.Get(ctx, o)
	if errors.Is(err, ErrNotFound) {
		return "does not exist yet", nil
	}
	if err != nil {
		return "", err
	}
	reason := rolloutReason(obj)
	if reason == "" {
		return "", nil
	}
	pods, err := c.core.Pods(o.Namespace).List(ctx, metav1.ListOptions{LabelSelector: podSelector(obj)})
	if err != nil {
		return "", err
	}
	if p := findFailingPod(pods.Items); p != nil {
		reason += "; pod " + podReason(p)
	}
	return reason, nil
}

func (c *Client) diagnoseWorkload(ctx context.Context, o Object) string {
	obj, err := c.Get(ctx, o)
	if err != nil {
		return ""
	}
	return c.Diagnose(ctx, o.Namespace, podSelector(obj))
}

// rolloutReason returns, from an object alone, the reason why its rollout is
// not complete, or "" if it is. The status is ignored while its controller has
// not observed the latest generation.
func rolloutReason(obj *unstructured.Unstructured) string {
	var want, current, ready int64
	switch obj.GetKind() {
	case "Deployment", "StatefulSet":
		want = 1
		if n, found, _ := unstructured.NestedInt64(obj.Object, "spec", "replicas"); found {
			want = n
		}
		current, ready = statusInt(obj, "updatedReplicas"), statusInt(obj, "readyReplicas")
	case "DaemonSet":
		want = statusInt(obj, "desiredNumberScheduled")
		current, ready = statusInt(obj, "updatedNumberScheduled"), statusInt(obj, "numberReady")
	default:
		return ""
	}
	switch {
	case statusInt(obj, "observedGeneration") < obj.GetGeneration():
		return "its controller has not observed the latest change yet"
	case obj.GetKind() == "DaemonSet" && want == 0 && !selectsNodes(obj):
		return "not scheduled to any node yet"
	case current < want:
		return fmt.Sprintf("%d of %d pods updated", current, want)
	case ready < want:
		return fmt.Sprintf("%d of %d pods Ready", ready, want)
	}
	if total := statusInt(obj, "replicas"); obj.GetKind() == "Deployment" && total > want {
		return fmt.Sprintf("%d old pods are terminating", total-want)
	}
	return ""
}

// selectsNodes reports whether a DaemonSet is for some nodes only: there may be none of them.
func selectsNodes(obj *unstructured.Unstructured) bool {
	selector, _, _ := unstructured.NestedMap(obj.Object, "spec", "template", "spec", "nodeSelector")
	affinity, _, _ := unstructured.NestedMap(obj.Object, "spec", "template", "spec", "affinity", "nodeAffinity")
	return len(selector)+len(affinity) > 0
}

func statusInt(obj *unstructured.Unstructured, field string) int64 {
	n, _, _ := unstructured.NestedInt64(obj.Object, "status", field)
	return n
}

func podSelector(obj *unstructured.Unstructured) string {
	match, _, _ := unstructured.NestedStringMap(obj.Object, "spec", "selector", "matchLabels")
	return labels.SelectorFromSet(match).String()
}
