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

// Object names one object of the cluster.
type Object struct {
	APIVersion string // "apps/v1"
	Kind       string // "Deployment"
	Namespace  string // empty for what is not namespaced
	Name       string
}

// String is "Deployment kotsadm/console-proxy".
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Decode splits a stream of YAML documents into objects; empty documents are
// left out.
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

// Ref is the name of obj; namespace is used where obj names none.
func Ref(obj *unstructured.Unstructured, namespace string) Object {
	if ns := obj.GetNamespace(); ns != "" {
		namespace = ns
	}
	return Object{APIVersion: obj.GetAPIVersion(), Kind: obj.GetKind(), Namespace: namespace, Name: obj.GetName()}
}

// Apply puts the objects into the cluster by server-side apply, in the order
// given; those without a namespace that need one get namespace. It takes over
// fields that another manager holds: what Plinth's manifests say is meant.
// It may be run again at any point.
func (c *Client) Apply(ctx context.Context, namespace string, objects ...*unstructured.Unstructured) error {
	for _, obj := range objects {
		if err := c.applyOne(ctx, namespace, obj); err != nil {
			return fmt.Errorf("apply %s: %w", Ref(obj, namespace), err)
		}
	}
	return nil
}

func (c *Client) applyOne(ctx context.Context, namespace string, obj *unstructured.Unstructured) error {
	res, err := c.resource(Ref(obj, namespace))
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

// Get reads one object; one that is not there, or whose kind the cluster does
// not know, is ErrNotFound.
func (c *Client) Get(ctx context.Context, o Object) (*unstructured.Unstructured, error) {
	res, err := c.resource(o)
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

// Exists reports whether the object is there.
func (c *Client) Exists(ctx context.Context, o Object) (bool, error) {
	_, err := c.Get(ctx, o)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Patch changes the fields that merge names (RFC 7386) of one object.
func (c *Client) Patch(ctx context.Context, o Object, merge []byte) error {
	res, err := c.resource(o)
	if err != nil {
		return err
	}
	_, err = res.Patch(ctx, o.Name, types.MergePatchType, merge, metav1.PatchOptions{FieldManager: fieldManager})
	return err
}

// Delete removes one object and what it owns; one that is gone is no error.
func (c *Client) Delete(ctx context.Context, o Object) error {
	res, err := c.resource(o)
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

// resource finds the API endpoint of o's kind. A kind that is not known is
// looked up once more with a fresh list, since a CRD may have come.
func (c *Client) resource(o Object) (dynamic.ResourceInterface, error) {
	gvk := schema.FromAPIVersionAndKind(o.APIVersion, o.Kind)
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.dynamic.Resource(mapping.Resource).Namespace(o.Namespace), nil
	}
	return c.dynamic.Resource(mapping.Resource), nil
}
