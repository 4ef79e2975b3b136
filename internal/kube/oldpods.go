package kube

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// OldImage returns the reason why a pod of a namespace has not been replaced yet, or "": the first pod whose name begins
// with one of prefixes and that runs another image than those of refs.
func (c *Client) OldImage(ctx context.Context, namespace string, prefixes, refs []string) (string, error) {
	pods, err := c.awaitedPods(ctx, namespace)
	if err != nil {
		return "", err
	}
	for i := range pods {
		if image := oldImage(&pods[i], prefixes, refs); image != "" {
			return "pod " + pods[i].Name + " still runs " + image, nil
		}
	}
	return "", nil
}

// oldImage returns the first image of a pod that is not one of refs, or "". A pod whose name does not begin with one of
// prefixes has none.
func oldImage(p *corev1.Pod, prefixes, refs []string) string {
	if !slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(p.Name, prefix) }) || isIgnoredPod(p) {
		return ""
	}
	for _, container := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if !slices.Contains(refs, container.Image) {
			return container.Image
		}
	}
	return ""
}

// ReplaceOldPod deletes the first pod that OldImage could name, if a DaemonSet that already has the images of refs creates it
// again, and all its other pods are Ready. It is for clusters with ignored nodes: while the pod of a node is away, the rolling
// update of a DaemonSet replaces no other one, because the missing one counts as unavailable (Kubernetes 1.33,
// pkg/controller/daemon/update.go, rollingUpdate).
func (c *Client) ReplaceOldPod(ctx context.Context, namespace string, prefixes, refs []string) error {
	pods, err := c.awaitedPods(ctx, namespace)
	if err != nil {
		return err
	}
	for i := range pods {
		owner := metav1.GetControllerOf(&pods[i])
		if oldImage(&pods[i], prefixes, refs) == "" || owner == nil || owner.Kind != "DaemonSet" {
			continue
		}
		set, err := c.Get(ctx, Object{APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: namespace, Name: owner.Name})
		if err != nil {
			return err
		}
		desired, _, _ := unstructured.NestedInt64(set.Object, "status", "desiredNumberScheduled")
		if hasImages(set, refs) && int64(countReady(pods, owner.UID)+len(c.ignored)) >= desired {
			return c.Delete(ctx, Object{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: pods[i].Name})
		}
	}
	return nil
}

// hasImages reports whether the template of a DaemonSet has only images of refs.
func hasImages(set *unstructured.Unstructured, refs []string) bool {
	containers, _, _ := unstructured.NestedSlice(set.Object, "spec", "template", "spec", "containers")
	return len(containers) > 0 && !slices.ContainsFunc(containers, func(c any) bool {
		container, _ := c.(map[string]any)
		image, _ := container["image"].(string)
		return !slices.Contains(refs, image)
	})
}

// countReady returns how many of the pods belong to an owner and are Ready.
func countReady(pods []corev1.Pod, owner types.UID) (n int) {
	for i := range pods {
		if by := metav1.GetControllerOf(&pods[i]); by != nil && by.UID == owner && !isIgnoredPod(&pods[i]) && podReason(&pods[i]) == "" {
			n++
		}
	}
	return n
}
