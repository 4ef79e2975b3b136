package kube

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/plinthdev/plinth/internal/upgrade"
)

// FindAPIUses returns the objects that were written with one of the removed APIs, by what their managed fields record,
// and all objects of a kind that the cluster serves in no other version. Manifests of Helm releases are not searched:
// package helm does that.
func FindAPIUses(ctx context.Context, c *Client, removed []upgrade.RemovedAPI) (uses []upgrade.APIUse, err error) {
	for _, row := range removed {
		for _, kind := range row.Kinds {
			found, err := findUsesOf(ctx, c, row.APIVersion, kind)
			if err != nil {
				return nil, err
			}
			uses = append(uses, found...)
		}
	}
	return uses, nil
}

// findUsesOf returns the uses of one kind of a removed API version.
func findUsesOf(ctx context.Context, c *Client, apiVersion, kind string) (uses []upgrade.APIUse, err error) {
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind()) // in the version that the API server prefers
	if meta.IsNoMatchError(err) {
		return nil, nil // not served at all
	}
	if err != nil {
		return nil, err
	}
	list, err := c.dynamic.Resource(mapping.Resource).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	onlyVersion := mapping.GroupVersionKind.Version == gvk.Version
	for i := range list.Items {
		obj := &list.Items[i]
		if managers := managersOf(obj, apiVersion); onlyVersion || len(managers) > 0 {
			if len(managers) == 0 {
				managers = []string{"an unknown manager"}
			}
			uses = append(uses, upgrade.APIUse{APIVersion: apiVersion, Kind: kind, Namespace: obj.GetNamespace(), Name: obj.GetName(), Manager: strings.Join(managers, ", ")})
		}
	}
	return uses, nil
}

// managersOf returns the field managers that wrote an object with an API version.
func managersOf(obj *unstructured.Unstructured, apiVersion string) (managers []string) {
	for _, m := range obj.GetManagedFields() {
		if m.APIVersion == apiVersion {
			managers = append(managers, m.Manager)
		}
	}
	return managers
}
