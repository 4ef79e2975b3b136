package kube

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// revokedListName is the ConfigMap with the nodes that were removed, one key
// for each node. Kubernetes has no other means to revoke a node's certificate
// before it expires.
const revokedListName = "plinth-removed-nodes"

// revocationManifest rejects every change that a removed node still attempts:
// to register again, to renew its certificate, to request a token for a pod.
// Its read access ends with its Node object, except for the list of nodes.
const revocationManifest = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: plinth-removed-nodes}
spec:
  failurePolicy: Fail
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules:
    - {apiGroups: ["*"], apiVersions: ["*"], operations: [CREATE, UPDATE, DELETE], resources: ["*/*"]}
  matchConditions:
  - {name: by-a-node, expression: "request.userInfo.username.startsWith('system:node:')"}
  validations:
  - expression: "!has(params.data) || !(request.userInfo.username.substring(12) in params.data)"
    message: this node was removed from the cluster
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: plinth-removed-nodes}
spec:
  policyName: plinth-removed-nodes
  validationActions: [Deny]
  paramRef: {name: plinth-removed-nodes, namespace: kube-system, parameterNotFoundAction: Allow}
`

func revokedListRef() Object {
	return Object{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: revokedListName}
}

// IsNodeRevoked reports whether the credentials of a node were revoked.
func IsNodeRevoked(ctx context.Context, c *Client, node string) (bool, error) {
	obj, err := c.Get(ctx, revokedListRef())
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	data, _, _ := unstructured.NestedStringMap(obj.Object, "data")
	_, ok := data[node]
	return ok, nil
}

// RevokeNode revokes the credentials of a node: the API server rejects its
// changes from now on, until ReadmitNode.
func RevokeNode(ctx context.Context, c *Client, node, when string) error {
	objects, err := Decode([]byte(revocationManifest))
	if err != nil {
		return err
	}
	list := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": revokedListName, "namespace": "kube-system"}}}
	have, err := c.Get(ctx, revokedListRef())
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	data := map[string]any{}
	if have != nil {
		if d, ok := have.Object["data"].(map[string]any); ok {
			data = d
		}
	}
	data[node] = when
	list.Object["data"] = data
	return c.Apply(ctx, "kube-system", append(objects, list)...)
}

// ReadmitNode allows a host with that name to be a node again. It is called
// when the host joins with a token.
func ReadmitNode(ctx context.Context, c *Client, node string) error {
	was, err := IsNodeRevoked(ctx, c, node)
	if err != nil || !was {
		return err
	}
	return c.Patch(ctx, revokedListRef(), fmt.Appendf(nil, `{"data":{%q:null}}`, node))
}

// NodeObjects returns the objects that represent a node in the cluster, in the
// order in which they are deleted.
func NodeObjects(node string) []Object {
	return []Object{
		{APIVersion: "etcd.k0sproject.io/v1beta1", Kind: "EtcdMember", Name: node},
		{APIVersion: "v1", Kind: "Node", Name: node},
	}
}

// DeletePods force-deletes the pods of a node that was removed: its kubelet can
// no longer report that they have ended, and their replacements wait for that.
// The pod garbage collector would take a minute.
func DeletePods(ctx context.Context, c *Client, node string) error {
	list, err := c.Core().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return err
	}
	var gracePeriod int64
	for _, p := range list.Items {
		if p.Spec.NodeName != node {
			continue
		}
		err := c.Core().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &gracePeriod})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
