package kube_test

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/token"
)

const policiesPath = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/"

// trusted returns a cluster with one node and with the policies.
func trusted(t *testing.T) (*kubetest.Server, *kube.Client) {
	s, c := kubetest.New(t)
	kubetest.RecordNodes(t, c, kube.NodeRecord{Node: "a", Role: token.Controller})
	if why, err := c.TrustNeeded(t.Context()); why != "ClusterRole plinth:nodes is missing" || err != nil {
		t.Errorf("%q %v", why, err)
	}
	if err := c.ApplyTrust(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, c
}

func TestApplyTrust_RequiresRecords(t *testing.T) {
	s, c := kubetest.New(t)
	if err := c.ApplyTrust(t.Context()); err == nil || err.Error() != "ConfigMap kube-system/plinth-nodes has no record of a node" {
		t.Errorf("%v", err)
	}
	if w := s.Writes(); w != nil {
		t.Errorf("writes: %q", w)
	}
}

func TestApplyTrust_RestoresWhatWasChanged(t *testing.T) {
	s, c := trusted(t)
	for name, tt := range map[string]struct {
		path, why string
		change    func(map[string]any)
	}{
		"a rule of the role": {"/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles/plinth:nodes", "Role kube-system/plinth:nodes differs", func(o map[string]any) {
			o["rules"] = []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"configmaps"}, "verbs": []any{"get", "list", "watch"}}}
		}},
		"a further condition": {policiesPath + "plinth-node-identity", "ValidatingAdmissionPolicy plinth-node-identity differs", func(o map[string]any) {
			spec := o["spec"].(map[string]any)
			spec["matchConditions"] = append(spec["matchConditions"].([]any), map[string]any{"name": "never", "expression": "false"})
		}},
		"a narrower selector": {policiesPath + "plinth-node-role", "ValidatingAdmissionPolicy plinth-node-role differs", func(o map[string]any) {
			o["spec"].(map[string]any)["matchConstraints"].(map[string]any)["objectSelector"] = map[string]any{"matchLabels": map[string]any{"a": "b"}}
		}},
		"only a warning": {strings.Replace(policiesPath, "policies", "policybindings", 1) + "plinth-node-identity", "ValidatingAdmissionPolicyBinding plinth-node-identity differs", func(o map[string]any) {
			o["spec"].(map[string]any)["validationActions"] = []any{"Warn"}
		}},
		"defaults of the API server": {policiesPath + "plinth-node-role", "", func(o map[string]any) {
			o["spec"].(map[string]any)["matchConstraints"].(map[string]any)["matchPolicy"] = "Equivalent"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if why, err := c.TrustNeeded(t.Context()); why != "" || err != nil {
				t.Fatalf("before: %q %v", why, err)
			}
			obj := s.Object(tt.path)
			if obj == nil {
				t.Fatal("there is no object")
			}
			tt.change(obj)
			s.Put(tt.path, obj)
			if why, err := c.TrustNeeded(t.Context()); why != tt.why || err != nil {
				t.Errorf("changed: %q %v", why, err)
			}
			if err := c.ApplyTrust(t.Context()); err != nil {
				t.Error(err)
			}
			if why, err := c.TrustNeeded(t.Context()); why != "" || err != nil {
				t.Errorf("applied again: %q %v", why, err)
			}
		})
	}
	s.Writes()
	if err := c.ApplyTrust(t.Context()); err != nil || s.Writes() != nil {
		t.Errorf("it wrote although nothing differs: %v", err)
	}
}

// TestApplyTrust_PoliciesFailClosed verifies what is not in an expression: a policy that the API server
// cannot evaluate, and records that are missing, refuse the request.
func TestApplyTrust_PoliciesFailClosed(t *testing.T) {
	s, _ := trusted(t)
	for _, name := range []string{"plinth-node-identity", "plinth-node-role", "plinth-node-records", "plinth-kube-router"} {
		policy, _ := s.Object(policiesPath + name)["spec"].(map[string]any)
		binding, _ := s.Object(strings.Replace(policiesPath, "policies", "policybindings", 1) + name)["spec"].(map[string]any)
		if policy["failurePolicy"] != "Fail" || binding["policyName"] != name || len(binding["validationActions"].([]any)) != 1 || binding["validationActions"].([]any)[0] != "Deny" {
			t.Errorf("%s: %v %v", name, policy, binding)
		}
		if name == "plinth-node-records" || name == "plinth-kube-router" {
			continue // they must work without records
		}
		want := map[string]any{"name": "plinth-nodes", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}
		if params, _ := binding["paramRef"].(map[string]any); !maps.Equal(params, want) {
			t.Errorf("%s: %v", name, params)
		}
	}
}

// TestApplyTrust_RefusesEveryWriteOfKubeRouter verifies that the policy has no other condition than the user and no
// exception; e2e shows that the API server evaluates it so.
func TestApplyTrust_RefusesEveryWriteOfKubeRouter(t *testing.T) {
	s, _ := trusted(t)
	policy, _ := s.Object(policiesPath + "plinth-kube-router")["spec"].(map[string]any)
	want := map[string]any{"failurePolicy": "Fail",
		"matchConstraints": map[string]any{"namespaceSelector": map[string]any{}, "objectSelector": map[string]any{}, "resourceRules": []any{map[string]any{
			"apiGroups": []any{"*"}, "apiVersions": []any{"*"}, "operations": []any{"CREATE", "UPDATE", "DELETE", "CONNECT"}, "resources": []any{"*/*"}}}},
		"matchConditions": []any{map[string]any{"name": "by-kube-router", "expression": "request.userInfo.username == 'system:serviceaccount:kube-system:kube-router'"}},
		"validations":     []any{map[string]any{"expression": "false", "message": "kube-router only reads"}}}
	if !reflect.DeepEqual(policy, want) {
		t.Errorf("%v", policy)
	}
}
