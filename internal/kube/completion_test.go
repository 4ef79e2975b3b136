package kube

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestCompletion_FollowsTheKind(t *testing.T) {
	condition := func(kind, status, message string) map[string]any {
		return map[string]any{"conditions": []any{map[string]any{"type": kind, "status": status, "message": message}}}
	}
	for name, c := range map[string]struct {
		kind   string
		status map[string]any
		done   bool
		failed string
	}{
		"a running Job":          {kind: "Job", status: condition("Complete", "False", "")},
		"a complete Job":         {kind: "Job", status: condition("Complete", "True", ""), done: true},
		"a failed Job":           {kind: "Job", status: condition("Failed", "True", "too many retries"), failed: "too many retries"},
		"a Job without a status": {kind: "Job"},
		"a pending Pod":          {kind: "Pod", status: map[string]any{"phase": "Pending"}},
		"a Pod that succeeded":   {kind: "Pod", status: map[string]any{"phase": "Succeeded"}, done: true},
		"a Pod that failed":      {kind: "Pod", status: map[string]any{"phase": "Failed"}, failed: "its program ended with an error"},
		"a ConfigMap":            {kind: "ConfigMap", done: true},
	} {
		t.Run(name, func(t *testing.T) {
			obj := &unstructured.Unstructured{Object: map[string]any{"kind": c.kind, "status": c.status}}
			if done, failed := completion(obj); done != c.done || failed != c.failed {
				t.Errorf("%v %q", done, failed)
			}
		})
	}
}

// A DaemonSet for some nodes only is ready where there are none of them.
func TestRolloutReason_OfDaemonSetsForSomeNodes(t *testing.T) {
	for name, c := range map[string]struct {
		spec map[string]any
		want string
	}{
		"for all nodes":   {spec: map[string]any{}, want: "not scheduled to any node yet"},
		"with a selector": {spec: map[string]any{"nodeSelector": map[string]any{"gpu": "yes"}}},
		"with affinity":   {spec: map[string]any{"affinity": map[string]any{"nodeAffinity": map[string]any{"a": "b"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			obj := &unstructured.Unstructured{Object: map[string]any{"kind": "DaemonSet", "spec": map[string]any{"template": map[string]any{"spec": c.spec}},
				"status": map[string]any{"observedGeneration": int64(1), "desiredNumberScheduled": int64(0)}}}
			if got := rolloutReason(obj); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("%q", got)
			}
		})
	}
}
