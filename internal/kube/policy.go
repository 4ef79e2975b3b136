package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// trustManifest holds the roles and policies that rest on the node records.
//
// Roles: nodes read the records, by which a worker finds the controllers, and list nodes, which the Node authorizer
// has not allowed since Kubernetes 1.32 and status on a worker needs.
//
// Policy plinth-node-identity refuses every write of a node whose certificate does not have the UID of its current
// admission. Kubernetes has no other means to revoke a certificate before it expires.
//
// Policy plinth-node-role refuses the label by which k0s and Kubernetes recognize controllers, unless the node was
// admitted as one. The admission plugin NodeRestriction guards only names below kubernetes.io.
//
// Policy plinth-node-records protects the records. While they are missing, parameterNotFoundAction makes the API
// server refuse what the other two policies match, by every user: it looks for the parameters before it evaluates
// the match conditions (k8s.io/apiserver, plugin/policy/validating/dispatcher.go). Therefore no user may delete
// them, and those two do not match writes to them, so that they can be restored.
//
// Policy plinth-kube-router refuses every write of kube-router, whose token root on each worker can read. k0s lets its
// account write all Leases and the status of all Services (k0s 1.33, pkg/component/controller/kuberouter.go). The program
// writes these only for its allocator of load balancer addresses (kube-router 2.1.0, pkg/controllers/lballoc), which k0s
// does not run and spec.k0s.config cannot turn on.
const trustManifest = `
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
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: "plinth:nodes", namespace: kube-system}
rules:
- apiGroups: [""]
  resources: [configmaps]
  resourceNames: [plinth-nodes]
  verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: "plinth:nodes", namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: "plinth:nodes"}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: plinth-node-records}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {}
    objectSelector: {}
    resourceRules:
    - {apiGroups: [""], apiVersions: ["*"], operations: [CREATE, UPDATE, DELETE], resources: [configmaps]}
  matchConditions:
  - name: node-records
    expression: >-
      request.namespace == 'kube-system' &&
      (oldObject != null ? oldObject.metadata.name : object.metadata.name) == 'plinth-nodes'
  validations:
  - expression: request.operation != 'DELETE'
    message: without the records of nodes, the API server refuses every change in the cluster
  - expression: >-
      !request.userInfo.username.startsWith('system:node:') &&
      !(has(request.userInfo.groups) && 'system:nodes' in request.userInfo.groups)
    message: nodes may only read the records
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: plinth-node-records}
spec:
  policyName: plinth-node-records
  validationActions: [Deny]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: plinth-node-identity}
spec:
  failurePolicy: Fail
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    namespaceSelector: {}
    objectSelector: {}
    resourceRules:
    - {apiGroups: ["*"], apiVersions: ["*"], operations: [CREATE, UPDATE, DELETE, CONNECT], resources: ["*/*"]}
    excludeResourceRules:
    - apiGroups: [""]
      apiVersions: ["*"]
      operations: [CREATE, UPDATE]
      resources: [configmaps]
      resourceNames: [plinth-nodes]
  matchConditions:
  - name: by-a-node
    expression: >-
      request.userInfo.username.startsWith('system:node:') ||
      has(request.userInfo.groups) && 'system:nodes' in request.userInfo.groups
  variables:
  - name: node
    expression: "request.userInfo.username.startsWith('system:node:') ? request.userInfo.username.substring(12) : ''"
  - name: uid
    expression: "has(request.userInfo.uid) ? request.userInfo.uid : ''"
  - name: admitted
    expression: >-
      variables.node != '' && has(params.data) && ('uid_' + variables.node) in params.data ?
      params.data['uid_' + variables.node] : ''
  validations:
  - expression: >-
      variables.uid != '' &&
      variables.admitted in ['worker:' + variables.uid, 'controller:' + variables.uid]
    messageExpression: >-
      variables.node == '' ? 'user ' + request.userInfo.username + ' is not a node' :
      variables.admitted == '' ? 'node ' + variables.node + ' was removed from the cluster or never admitted to it' :
      'this certificate of node ' + variables.node + ' is of an earlier admission'
  # A request of a kubelet has some hundred bytes; the API server alone would accept a megabyte.
  - expression: >-
      request.resource.resource != 'certificatesigningrequests' || request.operation != 'CREATE' ||
      size(object.spec.request) <= 22000
    message: the certificate request is too large
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: plinth-node-identity}
spec:
  policyName: plinth-node-identity
  validationActions: [Deny]
  paramRef: {name: plinth-nodes, namespace: kube-system, parameterNotFoundAction: Deny}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: plinth-node-role}
spec:
  failurePolicy: Fail
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    namespaceSelector: {}
    objectSelector: {}
    resourceRules:
    - {apiGroups: [""], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: [nodes, nodes/status]}
  matchConditions:
  - name: by-a-node
    expression: >-
      request.userInfo.username.startsWith('system:node:') ||
      has(request.userInfo.groups) && 'system:nodes' in request.userInfo.groups
  variables:
  - name: node
    expression: "request.userInfo.username.startsWith('system:node:') ? request.userInfo.username.substring(12) : ''"
  - name: isController
    expression: >-
      variables.node != '' && has(params.data) && ('uid_' + variables.node) in params.data &&
      params.data['uid_' + variables.node].startsWith('controller:')
  - name: labels
    expression: "has(object.metadata.labels) ? object.metadata.labels : {}"
  - name: oldLabels
    expression: "oldObject != null && has(oldObject.metadata.labels) ? oldObject.metadata.labels : {}"
  validations:
  - expression: object.metadata.name == variables.node
    message: a node may only write its own Node object
  - expression: >-
      variables.isController ||
      variables.labels.all(k, !(k == 'node.k0sproject.io/role' || k.startsWith('node-role.kubernetes.io/')) ||
      k in variables.oldLabels && variables.oldLabels[k] == variables.labels[k])
    message: only a controller may set the labels node.k0sproject.io/role and node-role.kubernetes.io/* of its node
  - expression: >-
      variables.isController ||
      variables.oldLabels.all(k, !(k == 'node.k0sproject.io/role' || k.startsWith('node-role.kubernetes.io/')) ||
      k in variables.labels)
    message: only a controller may remove the labels node.k0sproject.io/role and node-role.kubernetes.io/* of its node
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: plinth-node-role}
spec:
  policyName: plinth-node-role
  validationActions: [Deny]
  paramRef: {name: plinth-nodes, namespace: kube-system, parameterNotFoundAction: Deny}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: plinth-kube-router}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {}
    objectSelector: {}
    resourceRules:
    - {apiGroups: ["*"], apiVersions: ["*"], operations: [CREATE, UPDATE, DELETE, CONNECT], resources: ["*/*"]}
  matchConditions:
  - name: by-kube-router
    expression: request.userInfo.username == 'system:serviceaccount:kube-system:kube-router'
  validations:
  - expression: "false"
    message: kube-router only reads
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: plinth-kube-router}
spec:
  policyName: plinth-kube-router
  validationActions: [Deny]
`

// TrustNeeded returns why the roles and policies that rest on the node records must be applied, or "".
func (c *Client) TrustNeeded(ctx context.Context) (string, error) {
	objects, err := Decode([]byte(trustManifest))
	if err != nil {
		return "", err
	}
	for _, want := range objects {
		ref := RefOf(want, "")
		have, err := c.Get(ctx, ref)
		switch {
		case errors.Is(err, ErrNotFound):
			return ref.String() + " is missing", nil
		case err != nil:
			return "", err
		case !isApplied(have, want):
			return ref.String() + " differs", nil
		}
	}
	return "", nil
}

// isApplied reports whether have, an object of the cluster, is want with the defaults of the API server.
func isApplied(have, want *unstructured.Unstructured) bool {
	for field, value := range want.Object {
		if field != "metadata" && !containsValue(have.Object[field], value) {
			return false
		}
	}
	return true
}

// containsValue reports whether have is want with the defaults of the API server. Lists are equal in length, and an
// empty object in want is empty.
func containsValue(have, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok || len(w) == 0 && len(h) != 0 {
			return false
		}
		for k, v := range w {
			if !containsValue(h[k], v) {
				return false
			}
		}
		return true
	case []any:
		h, ok := have.([]any)
		return ok && slices.EqualFunc(h, w, containsValue)
	}
	return have == want
}

// ApplyTrust applies the roles and policies that rest on the node records: nodes may read the records, and no node
// may write without the UID of its current admission or claim the role of a controller. It fails if there are no
// records, because the API server would refuse every change in the cluster.
func (c *Client) ApplyTrust(ctx context.Context) error {
	records, err := c.NodeRecords(ctx)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return fmt.Errorf("%s has no record of a node", nodeRecordsRef())
	}
	objects, err := Decode([]byte(trustManifest))
	if err != nil {
		return err
	}
	for _, want := range objects {
		if err := c.applyTrustObject(ctx, want); err != nil {
			return err
		}
	}
	return nil
}

// applyTrustObject creates or replaces an object of trustManifest. It does not merge: a condition that someone added
// to a policy would remain.
func (c *Client) applyTrustObject(ctx context.Context, want *unstructured.Unstructured) error {
	have, err := c.Get(ctx, RefOf(want, ""))
	switch {
	case errors.Is(err, ErrNotFound):
		return c.Apply(ctx, "", want)
	case err != nil || isApplied(have, want):
		return err
	}
	res, err := c.resourceFor(RefOf(want, ""))
	if err != nil {
		return err
	}
	want.SetResourceVersion(have.GetResourceVersion())
	if _, err := res.Update(ctx, want, metav1.UpdateOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("replace %s: %w", RefOf(want, ""), err)
	}
	return nil
}
