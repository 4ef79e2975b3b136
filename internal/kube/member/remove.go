package member

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/kube"
)

// revokedName is the list of nodes that were removed: a ConfigMap with a key
// each. Kubernetes has no other way to take a node's certificate back before
// it ends.
const revokedName = "plinth-removed-nodes"

// revocation refuses every change that a removed node still tries: to register
// again, to renew its certificate, to ask for a pod's token. What it may read
// ends with its Node, but for the list of nodes.
const revocation = `
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

func revoked() kube.Object {
	return kube.Object{APIVersion: "v1", Kind: "ConfigMap", Namespace: "kube-system", Name: revokedName}
}

// Revoked reports whether the credentials of a node were revoked.
func Revoked(ctx context.Context, c *kube.Client, node string) (bool, error) {
	obj, err := c.Get(ctx, revoked())
	if errors.Is(err, kube.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	data, _, _ := unstructured.NestedStringMap(obj.Object, "data")
	_, ok := data[node]
	return ok, nil
}

// Revoke takes a node's credentials back: what it still holds is refused from
// now on, until Readmit.
func Revoke(ctx context.Context, c *kube.Client, node, when string) error {
	objects, err := kube.Decode([]byte(revocation))
	if err != nil {
		return err
	}
	list := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": revokedName, "namespace": "kube-system"}}}
	have, err := c.Get(ctx, revoked())
	if err != nil && !errors.Is(err, kube.ErrNotFound) {
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

// Readmit lets a host of that name be a node again; to be called when it joins
// with a token.
func Readmit(ctx context.Context, c *kube.Client, node string) error {
	was, err := Revoked(ctx, c, node)
	if err != nil || !was {
		return err
	}
	return c.Patch(ctx, revoked(), fmt.Appendf(nil, `{"data":{%q:null}}`, node))
}

// Objects lists what stands for a node in the cluster, in the order in which
// it goes.
func Objects(node string) []kube.Object {
	return []kube.Object{
		{APIVersion: "etcd.k0sproject.io/v1beta1", Kind: "EtcdMember", Name: node},
		{APIVersion: "v1", Kind: "Node", Name: node},
	}
}

// Forget removes the pods of a node that is no more from the list: kubelet, which
// would say that they have ended, is not asked any more, and what comes in
// their place waits for that. The API server's own sweep takes a minute.
func Forget(ctx context.Context, c *kube.Client, node string) error {
	list, err := c.Core().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return err
	}
	var at int64
	for _, p := range list.Items {
		if p.Spec.NodeName != node {
			continue
		}
		err := c.Core().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &at})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}
