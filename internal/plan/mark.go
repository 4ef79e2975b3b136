package plan

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
)

// mark is a ConfigMap with one value, by which a step records what its Check could not find out otherwise.
type mark struct{ name, key string }

// read returns the value in a namespace; ok is false without a mark.
func (m mark) read(ctx context.Context, c *kube.Client, namespace string) (value string, ok bool, err error) {
	have, err := c.Get(ctx, kube.RefOf(m.object(""), namespace))
	switch {
	case errors.Is(err, kube.ErrNotFound):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	return unstructured.NestedString(have.Object, "data", m.key)
}

// write stores the value in a namespace.
func (m mark) write(ctx context.Context, c *kube.Client, namespace, value string) error {
	return c.Apply(ctx, namespace, m.object(value))
}

func (m mark) object(value string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": m.name}, "data": map[string]any{m.key: value}}}
}
