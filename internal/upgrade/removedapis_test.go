package upgrade_test

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes/scheme"

	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/upgrade"
)

// The API types that this build is compiled with declare which minor removes them. Those that are never stored, and
// those of minors outside of the table, need no row.
func TestRemovedAPIs_AgreeWithTheTypesOfKubernetes(t *testing.T) {
	notStored := []string{"SelfSubjectReview", "APIGroupDiscovery"}
	minors := spec.Versions().Kubernetes
	first, last := minors[0].Minor, minors[len(minors)-1].Minor+1
	table := upgrade.AllRemovedAPIs()
	for gvk, typ := range scheme.Scheme.AllKnownTypes() {
		obj, err := scheme.Scheme.New(gvk)
		if err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		removed, ok := obj.(interface{ APILifecycleRemoved() (major, minor int) })
		if !ok || strings.HasSuffix(gvk.Kind, "List") || slices.Contains(notStored, gvk.Kind) {
			continue
		}
		_, minor := removed.APILifecycleRemoved()
		if minor < first || minor > last {
			continue
		}
		row, ok := upgrade.FindRemoved(table, gvk.GroupVersion().String(), gvk.Kind)
		if !ok || row.Minor > minor { // some are removed earlier than announced
			t.Errorf("%s: removed in 1.%d, the table has %+v", gvk, minor, row)
		}
	}
	for i, r := range table {
		if r.Minor < first || r.Minor > last || len(r.Kinds) == 0 || r.Use == "" || r.Use == r.APIVersion || i > 0 && r.Minor < table[i-1].Minor {
			t.Errorf("%+v: not between 1.%d and 1.%d, not in order, or incomplete", r, first, last)
		}
	}
}

func TestRemovedBetween(t *testing.T) {
	table := []upgrade.RemovedAPI{{Minor: 34, APIVersion: "a/v1beta1"}, {Minor: 35, APIVersion: "b/v1beta1"}, {Minor: 36, APIVersion: "c/v1beta1"}}
	for name, c := range map[string]struct{ from, to, want string }{
		"a patch":    {"v1.33.4+k0s.0", "v1.33.8+k0s.1", ""},
		"a minor":    {"v1.33.8+k0s.1", "v1.34.1+k0s.0", "a/v1beta1"},
		"two minors": {"v1.34.1+k0s.0", "v1.36.1+k0s.0", "b/v1beta1 c/v1beta1"},
		"none left":  {"v1.36.1+k0s.0", "v1.37.1+k0s.0", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, r := range upgrade.RemovedBetween(table, c.from, c.to) {
				got = append(got, r.APIVersion)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestCheckAPIs_NamesEveryUser(t *testing.T) {
	removed := []upgrade.RemovedAPI{{Minor: 34, APIVersion: "a.example/v1beta1", Kinds: []string{"Thing"}, Use: "a.example/v1"}, {Minor: 34, APIVersion: "b.example/v1beta1", Kinds: []string{"Other"}, Use: "b.example/v1"}}
	uses := []upgrade.APIUse{
		{APIVersion: "a.example/v1beta1", Kind: "Thing", Namespace: "shop", Name: "one", Manager: "kubectl"},
		{APIVersion: "a.example/v1beta1", Kind: "Thing", Name: "two", Release: "shop/web"},
		{APIVersion: "a.example/v1", Kind: "Thing", Name: "three", Manager: "kubectl"},
		{APIVersion: "a.example/v1beta1", Kind: "Elsewhere", Name: "four", Manager: "kubectl"},
	}
	got := upgrade.CheckAPIs(removed, uses)
	const want = "a.example/v1beta1: Kubernetes 1.34 removes it, and it is still used by Thing shop/one (written by kubectl), Thing two in the Helm release shop/web; " +
		"write these objects with a.example/v1, and upgrade these releases to charts that do"
	if len(got) != 1 || got[0].String() != want || got[0].Exit != problem.ExitPreflight {
		t.Errorf("%q", got)
	}
	if got := upgrade.CheckAPIs(nil, uses); len(got) != 0 {
		t.Errorf("nothing is removed: %q", got)
	}
}
