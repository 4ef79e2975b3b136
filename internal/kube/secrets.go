package kube

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Secret is the part of a Kubernetes secret that Plinth uses.
type Secret struct {
	Namespace, Name string
	Type            string            // empty for Opaque
	Labels          map[string]string // nil keeps the existing ones
	Annotations     map[string]string // nil keeps the existing ones
	Data            map[string][]byte // replaces the existing data
}

// Secret returns a secret, or ErrNotFound if it does not exist.
func (c *Client) Secret(ctx context.Context, namespace, name string) (Secret, error) {
	s, err := c.core.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return Secret{}, ErrNotFound
	}
	if err != nil {
		return Secret{}, err
	}
	return Secret{
		Namespace: namespace, Name: name, Type: string(s.Type),
		Labels: s.Labels, Annotations: s.Annotations, Data: s.Data,
	}, nil
}

// PutSecret creates or replaces a secret. The type of an existing secret cannot
// change and is kept.
func (c *Client) PutSecret(ctx context.Context, s Secret) error {
	old, err := c.core.Secrets(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = c.core.Secrets(s.Namespace).Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: s.Namespace, Labels: s.Labels, Annotations: s.Annotations},
			Type:       corev1.SecretType(s.Type),
			Data:       s.Data,
		}, metav1.CreateOptions{FieldManager: fieldManager})
		return err
	}
	if err != nil {
		return err
	}
	old.Data = s.Data
	if s.Labels != nil {
		old.Labels = s.Labels
	}
	if s.Annotations != nil {
		old.Annotations = s.Annotations
	}
	_, err = c.core.Secrets(s.Namespace).Update(ctx, old, metav1.UpdateOptions{FieldManager: fieldManager})
	return err
}

// EnsureNamespace creates a namespace if it does not exist.
func (c *Client) EnsureNamespace(ctx context.Context, name string) error {
	_, err := c.core.Namespaces().Get(ctx, name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err = c.core.Namespaces().Create(ctx, ns, metav1.CreateOptions{FieldManager: fieldManager})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
