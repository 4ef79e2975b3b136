package helm_test

import (
	"slices"
	"testing"

	"github.com/plinthdev/plinth/internal/helm"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/upgrade"
)

func TestFindAPIUses_NamesReleases(t *testing.T) {
	removed := []upgrade.RemovedAPI{{APIVersion: "v1", Kinds: []string{"ConfigMap"}}}
	_, c := kubetest.New(t)
	if uses, err := helm.FindAPIUses(t.Context(), c, removed); err != nil || len(uses) > 0 {
		t.Errorf("no releases: %v %+v", err, uses)
	}
	const old, current = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: old}\n", "apiVersion: v1\nkind: Secret\nmetadata: {name: current}\n"
	r := newRelease(t, map[string]string{"a.yaml": old, "b.yaml": current})
	if err := helm.InstallOrUpgrade(t.Context(), c, r, longWait()); err != nil {
		t.Fatal(err)
	}
	uses, err := helm.FindAPIUses(t.Context(), c, removed)
	if want := []upgrade.APIUse{{APIVersion: "v1", Kind: "ConfigMap", Name: "old", Release: "a/toy"}}; err != nil || !slices.Equal(uses, want) {
		t.Errorf("%v %+v", err, uses)
	}
	if err := helm.InstallOrUpgrade(t.Context(), c, newRelease(t, map[string]string{"b.yaml": current}), longWait()); err != nil {
		t.Fatal(err)
	}
	if uses, err := helm.FindAPIUses(t.Context(), c, removed); err != nil || len(uses) > 0 {
		t.Errorf("only a superseded revision uses it: %v %+v", err, uses)
	}
}
