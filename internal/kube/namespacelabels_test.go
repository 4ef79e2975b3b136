package kube_test

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestEnsureNamespaceLabels_SetsMissingLabelsAndKeepsOthers(t *testing.T) {
	const level = "pod-security.kubernetes.io/"
	p := map[string]string{level + "enforce": "restricted", level + "warn": "restricted", level + "audit": "restricted"}
	for name, tc := range map[string]struct {
		before map[string]any // labels; nil: the namespace does not exist
		want   string         // of enforce
		why    string
	}{
		"no namespace":       {nil, "restricted", "is missing"},
		"no labels":          {map[string]any{"a": "b"}, "restricted", "has no label"},
		"an administrator's": {map[string]any{level + "enforce": "baseline"}, "baseline", "has no label"},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := kubetest.New(t)
			if tc.before != nil {
				s.Put("/api/v1/namespaces/registry", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": "registry", "labels": tc.before}})
			}
			if why, err := c.NamespaceNeeded(t.Context(), "registry", p); err != nil || !strings.Contains(why, tc.why) {
				t.Errorf("%q %v", why, err)
			}
			testkit.Must(t, c.EnsureNamespaceLabels(t.Context(), "registry", p))
			meta, _ := s.Object("/api/v1/namespaces/registry")["metadata"].(map[string]any)
			labels, _ := meta["labels"].(map[string]any)
			if labels[level+"enforce"] != tc.want || labels[level+"warn"] != "restricted" || labels[level+"audit"] != "restricted" || tc.before["a"] != labels["a"] {
				t.Errorf("%v", labels)
			}
			if why, err := c.NamespaceNeeded(t.Context(), "registry", p); err != nil || why != "" {
				t.Errorf("afterwards: %q %v", why, err)
			}
		})
	}
}
