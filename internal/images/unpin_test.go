package images

import (
	"slices"
	"testing"
)

func TestUnpin_LeavesImagesThatAreImportedAgain(t *testing.T) {
	m := newFakeContainerd(t)
	src := newSource()
	a, b := src.image(t, "docker.io/library/a:1", "one"), src.image(t, "docker.io/library/b:1", "two")
	pinned := func(want ...string) {
		t.Helper()
		if got, err := m.PinnedImages(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Errorf("pinned are %v, %v; want %v", got, err, want)
		}
	}
	if err := m.Import(t.Context(), src, []Image{a, b}, 1, ignoreProgress); err != nil {
		t.Fatal(err)
	}
	pinned(a.Ref, b.Ref)
	if err := m.Unpin(t.Context(), []string{a.Ref, "docker.io/library/none:1"}); err != nil {
		t.Fatal(err)
	}
	pinned(b.Ref)
	if missing, err := m.MissingImages(t.Context(), []Image{a, b}); err != nil || len(missing) != 1 || missing[0].Ref != a.Ref {
		t.Errorf("an image that kubelet may remove counts as imported: %v, %v", missing, err)
	}
	src.reads()
	if err := m.Import(t.Context(), src, []Image{a}, 1, ignoreProgress); err != nil {
		t.Fatal(err)
	}
	pinned(a.Ref, b.Ref)
	if n := src.reads(); n != 0 {
		t.Errorf("%d blobs were read again", n)
	}
}
