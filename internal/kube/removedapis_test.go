package kube_test

import (
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/upgrade"
)

func TestFindAPIUses_NamesObjectsAndManagers(t *testing.T) {
	s, c := kubetest.New(t)
	put := func(at, kind, name string, fields ...string) {
		var managed []any
		for i := 0; i < len(fields); i += 2 {
			managed = append(managed, map[string]any{"manager": fields[i], "operation": "Update", "apiVersion": fields[i+1]})
		}
		s.Put(at+name, map[string]any{"apiVersion": "x", "kind": kind, "metadata": map[string]any{"name": name, "namespace": "shop", "managedFields": managed}})
	}
	put("/apis/apps/v1/namespaces/shop/deployments/", "Deployment", "old", "kubectl", "apps/v1beta2", "kube-controller-manager", "apps/v1", "helm", "apps/v1beta2")
	put("/apis/apps/v1/namespaces/shop/deployments/", "Deployment", "new", "kubectl", "apps/v1")
	put("/apis/policy/v1/namespaces/shop/poddisruptionbudgets/", "PodDisruptionBudget", "any")
	removed := []upgrade.RemovedAPI{{APIVersion: "apps/v1beta2", Kinds: []string{"Deployment", "StatefulSet"}}, {APIVersion: "policy/v1", Kinds: []string{"PodDisruptionBudget"}}, {APIVersion: "gone.example/v1", Kinds: []string{"Thing"}}}
	uses, err := kube.FindAPIUses(t.Context(), c, removed)
	want := []upgrade.APIUse{{APIVersion: "apps/v1beta2", Kind: "Deployment", Namespace: "shop", Name: "old", Manager: "kubectl, helm"},
		{APIVersion: "policy/v1", Kind: "PodDisruptionBudget", Namespace: "shop", Name: "any", Manager: "an unknown manager"}} // served in no other version
	if err != nil || !slices.Equal(uses, want) {
		t.Errorf("%v %+v", err, uses)
	}
	if uses, err := kube.FindAPIUses(t.Context(), c, nil); err != nil || len(uses) > 0 {
		t.Errorf("nothing is removed: %v %+v", err, uses)
	}
}
