package kube

import (
	"context"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// nodeAccessManifest allows nodes to list nodes, which the Node authorizer has
// not allowed since Kubernetes 1.32. The load balancer of a worker finds the
// controllers that way, and status on a worker shows the cluster.
const nodeAccessManifest = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "plinth:nodes"}
rules:
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "plinth:nodes"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "plinth:nodes"}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}
`

// NodeAccessNeeded returns the reason why nodes may not list nodes yet, or ""
// if they may.
func NodeAccessNeeded(ctx context.Context, c *Client) (string, error) {
	objects, err := Decode([]byte(nodeAccessManifest))
	if err != nil {
		return "", err
	}
	for _, want := range objects {
		ref := RefOf(want, "")
		have, err := c.Get(ctx, ref)
		if errors.Is(err, ErrNotFound) {
			return ref.String() + " is missing", nil
		}
		if err != nil {
			return "", err
		}
		if !hasSameList(want, have, "rules") || !hasSameList(want, have, "subjects") {
			return ref.String() + " differs", nil
		}
	}
	return "", nil
}

// hasSameList reports whether a list field of want equals that of have, in the
// keys that want sets.
func hasSameList(want, have *unstructured.Unstructured, field string) bool {
	w, _, _ := unstructured.NestedSlice(want.Object, field)
	h, _, _ := unstructured.NestedSlice(have.Object, field)
	return slices.EqualFunc(w, h, func(x, y any) bool {
		xm, ok1 := x.(map[string]any)
		ym, ok2 := y.(map[string]any)
		if !ok1 || !ok2 {
			return false
		}
		for k, v := range xm {
			if !equalValues(v, ym[k]) {
				return false
			}
		}
		return true
	})
}

// equalValues reports whether two strings or two lists of strings are equal.
func equalValues(x, y any) bool {
	xs, ok1 := x.([]any)
	ys, ok2 := y.([]any)
	if ok1 && ok2 {
		return slices.Equal(xs, ys)
	}
	return !ok1 && !ok2 && x == y
}

// GrantNodeAccess allows nodes to list nodes.
func GrantNodeAccess(ctx context.Context, c *Client) error {
	objects, err := Decode([]byte(nodeAccessManifest))
	if err != nil {
		return err
	}
	return c.Apply(ctx, "", objects...)
}
