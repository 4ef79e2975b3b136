package member_test

import (
	"testing"

	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/kube/member"
)

func TestNodesAreGrantedOnceToSeeEachOther(t *testing.T) {
	s, c := kubetest.New(t)
	if why, err := member.AccessNeeded(t.Context(), c); why != "ClusterRole plinth:nodes is missing" || err != nil {
		t.Errorf("%q %v", why, err)
	}
	if err := member.GrantAccess(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if why, err := member.AccessNeeded(t.Context(), c); why != "" || err != nil {
		t.Errorf("granted, yet %q %v", why, err)
	}
	const role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/plinth:nodes"
	changed := s.Object(role)
	changed["rules"] = []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"nodes"}, "verbs": []any{"get"}}}
	s.Put(role, changed)
	if why, err := member.AccessNeeded(t.Context(), c); why != "ClusterRole plinth:nodes differs" || err != nil {
		t.Errorf("changed by hand: %q %v", why, err)
	}
}
