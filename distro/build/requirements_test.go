package build

import (
	"context"
	"github.com/plinthdev/plinth/internal/testkit"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/distro/builder"
	"github.com/plinthdev/plinth/distro/debian"
)

func TestMissingPackages_ListsWhatIsNotInstalled(t *testing.T) {
	names := packageList("# about\n\ngcc\n make \n")
	got := missingPackages(names, func(n string) bool { return n == "gcc" })
	if strings.Join(got, " ") != "make" {
		t.Errorf("got %v", got)
	}
}

func TestCheckDisk_RequiresFreeSpace(t *testing.T) {
	e := newEngine(t, "..", t.TempDir())
	if err := e.checkDisk("x", 1<<62); err == nil || !strings.Contains(err.Error(), "disk space left") {
		t.Errorf("got %v", err)
	}
	if err := e.checkDisk("x", 1); err != nil {
		t.Error(err)
	}
}

// The recipe is real, and cheap enough to be built twice in a unit test.
func TestVerify_PauseIsReproducible(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("../pause/recipe.yaml")
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, dir, "pause/recipe.yaml", string(text))
	testkit.WriteFile(t, dir, "payload.yaml", "images: [{ref: 'example.com/pause:1', part: pause, files: {/pause: pause/pause}}]\n")
	testkit.WriteFile(t, dir, debian.LockFile, "")
	testkit.WriteFile(t, dir, packagesFile, "")
	e := newEngine(t, dir, t.TempDir())
	if _, err := builder.ModuleDir(context.Background(), e.Set.Recipes["pause"]); err != nil {
		t.Fatal(err)
	}
	got, err := e.Verify(context.Background(), []string{"pause"})
	if err != nil || !strings.Contains(got, "1 host artifacts and images have the same digests") {
		t.Errorf("%q, %v", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(e.Dir, "verify*")); len(left) > 0 {
		t.Errorf("leftover files: %v", left)
	}
	if e.IsComplete() {
		t.Error("a payload with only some parts counts as complete")
	}
}
