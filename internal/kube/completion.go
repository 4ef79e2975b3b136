package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/dynamic"
)

// moreCommand is the command that shows more of pods and events.
const moreCommand = "sudo plinth kubectl get pods,events -A"

// GetClientFor returns a client for the objects of a kind, and reports whether they have a namespace. The
// function lookup of Helm's templates uses it.
func (c *Client) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	mapping, err := c.mappingFor(apiVersion, kind)
	if err != nil {
		return nil, false, err
	}
	return c.dynamic.Resource(mapping.Resource), mapping.Scope.Name() == meta.RESTScopeNameNamespace, nil
}

// ApplyWhenServed is Apply for one object. It waits until the cluster serves its kind, which a program of a chart
// before it may define, and until the webhooks that review it answer.
func (c *Client) ApplyWhenServed(ctx context.Context, w Wait, namespace string, obj *unstructured.Unstructured) error {
	ref := RefOf(obj, namespace)
	return w.waitUntil(ctx, "the cluster to accept "+ref.String(), moreCommand, func(ctx context.Context) (bool, string, error) {
		err := c.Apply(ctx, namespace, obj)
		switch {
		case err == nil:
			return true, "", nil
		case meta.IsNoMatchError(errors.Unwrap(err)), apierrors.IsInternalError(err) && strings.Contains(err.Error(), "failed calling webhook"):
			return false, err.Error(), nil
		}
		return false, "", err
	}, func(context.Context) string { return "" })
}

// WaitCompleted waits until a Job is complete or a Pod has succeeded; objects of other kinds only have to exist.
// If it fails instead, the error has the cause and the last line of its log.
func (c *Client) WaitCompleted(ctx context.Context, w Wait, o Object) error {
	return w.waitUntil(ctx, o.String()+" to complete", moreCommand, func(ctx context.Context) (bool, string, error) {
		obj, err := c.Get(ctx, o)
		if errors.Is(err, ErrNotFound) {
			return false, o.String() + " does not exist", nil
		}
		if err != nil {
			return retryReason(err)
		}
		done, failed := completion(obj)
		if failed != "" {
			return false, "", fmt.Errorf("%s failed: %s%s", o, failed, c.describeLastPod(ctx, o))
		}
		return done, o.String() + " is not complete", nil
	}, func(ctx context.Context) string { return c.Diagnose(ctx, o.Namespace, completionSelector(o)) })
}

// completion reports whether an object is complete; failed is why it never will be, or "".
func completion(obj *unstructured.Unstructured) (done bool, failed string) {
	switch obj.GetKind() {
	case "Job":
		conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
		for _, item := range conditions {
			condition, _ := item.(map[string]any)
			switch {
			case condition["status"] != "True":
			case condition["type"] == "Complete":
				return true, ""
			case condition["type"] == "Failed":
				return false, cmp.Or(fmt.Sprint(condition["message"]), fmt.Sprint(condition["reason"]))
			}
		}
		return false, ""
	case "Pod":
		phase, _, _ := unstructured.NestedString(obj.Object, "status", "phase")
		if phase == string(corev1.PodFailed) {
			reason, _, _ := unstructured.NestedString(obj.Object, "status", "message")
			return false, cmp.Or(reason, "its program ended with an error")
		}
		return phase == string(corev1.PodSucceeded), ""
	}
	return true, ""
}

// completionSelector returns the selector of the pods of a Job; "" for any pods of its namespace.
func completionSelector(o Object) string {
	if o.Kind != "Job" {
		return ""
	}
	return labels.SelectorFromSet(labels.Set{"job-name": o.Name}).String()
}

// describeLastPod returns the last log line of the newest pod of a Job, or of the pod o, as the end of a sentence.
func (c *Client) describeLastPod(ctx context.Context, o Object) string {
	name := o.Name
	if o.Kind == "Job" {
		list, err := c.core.Pods(o.Namespace).List(ctx, metav1.ListOptions{LabelSelector: completionSelector(o)})
		if err != nil || len(list.Items) == 0 {
			return ""
		}
		name = slices.MaxFunc(list.Items, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) }).Name
	}
	lines, err := c.PodLog(ctx, o.Namespace, name, LogOptions{Lines: 1})
	if err != nil || len(lines) == 0 {
		return "; pod " + o.Namespace + "/" + name
	}
	return "; last log line of pod " + o.Namespace + "/" + name + ": " + oneLine(lines[len(lines)-1])
}

// WaitDeleted waits until an object does not exist.
func (c *Client) WaitDeleted(ctx context.Context, w Wait, o Object) error {
	return w.waitUntil(ctx, o.String()+" to be deleted", moreCommand, func(ctx context.Context) (bool, string, error) {
		there, err := c.Exists(ctx, o)
		if err != nil {
			return retryReason(err)
		}
		return !there, o.String() + " still exists", nil
	}, func(context.Context) string { return "" })
}

// WaitEstablished waits until the API server serves the objects that a CustomResourceDefinition defines.
func (c *Client) WaitEstablished(ctx context.Context, w Wait, o Object) error {
	return w.waitUntil(ctx, o.String()+" to be established", moreCommand, func(ctx context.Context) (bool, string, error) {
		obj, err := c.Get(ctx, o)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return retryReason(err)
		}
		reason := "it does not exist yet"
		if obj != nil {
			reason = "the API server does not serve it yet"
			conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
			for _, item := range conditions {
				condition, _ := item.(map[string]any)
				switch {
				case condition["type"] == "Established" && condition["status"] == "True":
					return true, "", nil
				case condition["type"] == "NamesAccepted" && condition["status"] == "False":
					reason = fmt.Sprint(condition["message"])
				}
			}
		}
		return false, o.String() + ": " + reason, nil
	}, func(context.Context) string { return "" })
}
