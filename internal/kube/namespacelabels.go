package kube

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NamespaceNeeded returns the reason why EnsureNamespaceLabels must be called, or "".
func (c *Client) NamespaceNeeded(ctx context.Context, name string, labels map[string]string) (string, error) {
	ns, err := c.core.Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "namespace " + name + " is missing", nil
	}
	if err != nil {
		return "", err
	}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		if _, set := ns.Labels[label]; !set {
			return "namespace " + name + " has no label " + label, nil
		}
	}
	return "", nil
}

// EnsureNamespaceLabels creates a namespace if it does not exist, and sets those of labels that it
// does not have. It keeps other values: an administrator may have chosen another level.
func (c *Client) EnsureNamespaceLabels(ctx context.Context, name string, labels map[string]string) error {
	if err := c.EnsureNamespace(ctx, name); err != nil {
		return err
	}
	ns, err := c.core.Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	missing := maps.Clone(labels)
	maps.DeleteFunc(missing, func(label, _ string) bool { _, set := ns.Labels[label]; return set })
	if len(missing) == 0 {
		return nil
	}
	merge, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": missing}})
	if err != nil {
		return err
	}
	return c.Patch(ctx, Object{APIVersion: "v1", Kind: "Namespace", Name: name}, merge)
}
