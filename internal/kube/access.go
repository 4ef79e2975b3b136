package kube

import (
	"context"
	"encoding/json"
)

// DefaultClassAnnotation marks the StorageClass of volumes that name none
// (kubernetes.io/docs/concepts/storage/storage-classes/#default-storageclass).
const DefaultClassAnnotation = "storageclass.kubernetes.io/is-default-class"

// CanDoEverything reports whether the user of the client may do everything in all namespaces, as cluster-admin may. It
// is the question that KOTS asks before it installs its console (KOTS 1.131.2, cmd/kots/cli/install.go, CheckRBAC).
func (c *Client) CanDoEverything(ctx context.Context) (bool, error) {
	const question = `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview",` +
		`"spec":{"resourceAttributes":{"verb":"*","group":"*","version":"*","resource":"*"}}}`
	raw, err := c.core.RESTClient().Post().AbsPath("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").
		SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").Body([]byte(question)).DoRaw(ctx)
	if err != nil {
		return false, err
	}
	var review struct{ Status struct{ Allowed bool } }
	err = json.Unmarshal(raw, &review)
	return review.Status.Allowed, err
}

// StorageClasses returns the names of all StorageClasses, and which of them are the default; in a valid cluster at most
// one is.
func (c *Client) StorageClasses(ctx context.Context) (all, defaults []string, err error) {
	raw, err := c.ListRaw(ctx, "/apis/storage.k8s.io/v1/storageclasses")
	if err != nil {
		return nil, nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name        string
				Annotations map[string]string
			}
		}
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, nil, err
	}
	for _, class := range list.Items {
		all = append(all, class.Metadata.Name)
		if class.Metadata.Annotations[DefaultClassAnnotation] == "true" {
			defaults = append(defaults, class.Metadata.Name)
		}
	}
	return all, defaults, nil
}
