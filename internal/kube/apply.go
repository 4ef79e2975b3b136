package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

// Object identifies one object of the cluster.
type Object struct {
	APIVersion string // "apps/v1"
	Kind       string // "Deployment"
	Namespace  string // empty if the kind is not namespaced
	Name       string
}

// String returns a name such as "Deployment kotsadm/console-proxy".
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Decode returns the objects of a stream of YAML documents; empty documents are
// skipped.
func Decode(manifests []byte) ([]*unstructured.Unstructured, error) {
	d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096)
	var out []*unstructured.Unstructured
	for {
		u := &unstructured.Unstructured{}
		err := d.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(out)+1, err)
		}
		if len(u.Object) > 0 {
			out = append(out, u)
		}
	}
}

// RefOf returns the Object that identifies obj; namespace is used if obj has
// none.
func RefOf(obj *unstructured.Unstructured, namespace string) Object {
	if ns := obj.GetNamespace(); ns != "" {
		namespace = ns
	}
	return Object{APIVersion: obj.GetAPIVersion(), Kind: obj.GetKind(), Namespace: namespace, Name: obj.GetName()}
}

// Apply applies the objects with server-side apply, in the order given.
// Namespaced objects without a namespace get namespace. It takes over fields of
// other managers, because the manifests of Plinth are authoritative. It can be
// repeated at any point.
func (c *Client) Apply(ctx context.Context, namespace string, objects ...*unstructured.Unstructured) error {
	for _, obj := range objects {
		if err := c.applyOne(ctx, namespace, obj); err != nil {
			return fmt.Errorf("apply %s: %w", RefOf(obj, namespace), err)
		}
	}
	return nil
}

func (c *Client) applyOne(ctx context.Context, namespace string, obj *unstructured.Unstructured) error {
	res, err := c.resourceFor(RefOf(obj, namespace))
	if err != nil {
		return err
	}
	body, err := obj.MarshalJSON()
	if err != nil {
		return err
	}
	force := true
	_, err = res.Patch(ctx, obj.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: fieldManager, Force: &force})
	return err
}

// Get returns one object. It returns ErrNotFound if the object does not exist
// or the cluster does not have its kind.
func (c *Client) Get(ctx context.Context, o Object) (*unstructured.Unstructured, error) {
	res, err := c.resourceFor(o)
	if meta.IsNoMatchError(err) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	obj, err := res.Get(ctx, o.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, ErrNotFound
	}
	return obj, err
}

// Exists reports whether the object exists.
func (c *Client) Exists(ctx context.Context, o Object) (bool, error) {
	_, err := c.Get(ctx, o)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Patch applies a JSON merge patch (RFC 7386) to one object.
func (c *Client) Patch(ctx context.Context, o Object, merge []byte) error {
	res, err := c.resourceFor(o)
	if err != nil {
		return err
	}
	_, err = res.Patch(ctx, o.Name, types.MergePatchType, merge, metav1.PatchOptions{FieldManager: fieldManager})
	return err
}

// Delete deletes one object and the objects that it owns. A missing object is
// not an error.
func (c *Client) Delete(ctx context.Context, o Object) error {
	res, err := c.resourceFor(o)
	if meta.IsNoMatchError(err) {
		return nil
	}
	if err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	err = res.Delete(ctx, o.Name, metav1.DeleteOptions{PropagationPolicy: &background})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// mappingFor returns the API endpoint of a kind, and whether it is namespaced. For
// an unknown kind it reads the list of kinds again, because a CRD may have been
// added: the mapper does not, because its cache never counts as old.
func (c *Client) mappingFor(apiVersion, kind string) (*meta.RESTMapping, error) {
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		c.mapper.Reset()
		mapping, err = c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	return mapping, err
}

// resourceFor returns the API endpoint of the kind of o.
func (c *Client) resourceFor(o Object) (dynamic.ResourceInterface, error) {
	mapping, err := c.mappingFor(o.APIVersion, o.Kind)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.dynamic.Resource(mapping.Resource).Namespace(o.Namespace), nil
	}
	return c.dynamic.Resource(mapping.Resource), nil
}
