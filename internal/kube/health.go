package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/plinthdev/plinth/internal/upgrade"
)

// systemNamespace is the namespace of the pods that k0s itself runs.
const systemNamespace = "kube-system"

// Health returns the state of the cluster's nodes, system pods and workloads, without Checks, which the API server
// does not answer.
func Health(ctx context.Context, c *Client) (h upgrade.Health, err error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return h, err
	}
	for _, n := range nodes {
		h.Nodes = append(h.Nodes, upgrade.NodeHealth{Name: n.Name, Ready: n.Ready, Cordoned: n.Cordoned, Reason: n.Reason})
	}
	pods, err := c.Core().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return h, err
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		owner := metav1.GetControllerOf(p)
		if p.Namespace == systemNamespace && owner != nil && owner.Kind == "DaemonSet" && !isIgnoredPod(p) {
			h.Pods = append(h.Pods, upgrade.PodHealth{Node: p.Spec.NodeName, DaemonSet: owner.Name, Reason: podReason(p)})
		}
	}
	for _, kind := range []string{"Deployment", "StatefulSet", "DaemonSet"} {
		workloads, err := listAll(ctx, c, "apps/v1", kind)
		if err != nil {
			return h, err
		}
		for i := range workloads {
			h.Workloads = append(h.Workloads, workloadHealth(&workloads[i], pods.Items))
		}
	}
	return h, nil
}

// workloadHealth returns the state of a workload. pods are those of all namespaces.
func workloadHealth(obj *unstructured.Unstructured, pods []corev1.Pod) upgrade.WorkloadHealth {
	w := upgrade.WorkloadHealth{Kind: obj.GetKind(), Namespace: obj.GetNamespace(), Name: obj.GetName(), Reason: rolloutReason(obj)}
	ready := "readyReplicas"
	if w.Kind == "DaemonSet" {
		ready = "numberReady"
	}
	w.Ready = int(statusInt(obj, ready))
	if w.Reason == "" {
		return w
	}
	if p := findFailingPod(podsOf(obj, pods)); p != nil {
		w.Reason += "; pod " + podReason(p)
	}
	return w
}

// podsOf returns the pods that the selector of an object matches, in its namespace.
func podsOf(obj *unstructured.Unstructured, pods []corev1.Pod) (matching []corev1.Pod) {
	selector := selectorOf(obj)
	for i := range pods {
		if p := &pods[i]; p.Namespace == obj.GetNamespace() && selector.Matches(labels.Set(p.Labels)) {
			matching = append(matching, *p)
		}
	}
	return matching
}

// selectorOf returns spec.selector of a workload or a PodDisruptionBudget. It matches nothing if it cannot be read.
func selectorOf(obj *unstructured.Unstructured) labels.Selector {
	raw, found, err := unstructured.NestedMap(obj.Object, "spec", "selector")
	if err != nil || !found {
		return labels.Nothing()
	}
	var selector metav1.LabelSelector
	if err := fromUnstructured(raw, &selector); err != nil {
		return labels.Nothing()
	}
	s, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		return labels.Nothing()
	}
	return s
}

// listAll returns the objects of a kind in all namespaces; none if the cluster does not have the kind.
func listAll(ctx context.Context, c *Client, apiVersion, kind string) ([]unstructured.Unstructured, error) {
	api, err := c.resourceFor(Object{APIVersion: apiVersion, Kind: kind})
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// fromUnstructured converts a part of an object to a type of the Kubernetes API.
func fromUnstructured(from map[string]any, to any) error {
	return runtime.DefaultUnstructuredConverter.FromUnstructured(from, to)
}
