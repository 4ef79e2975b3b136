package build

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/distro/workshop"
)

func TestMissingPackagesAreNamed(t *testing.T) {
	names := packageList("# about\n\ngcc\n make \n")
	got := missingPackages(names, func(n string) bool { return n == "gcc" })
	if strings.Join(got, " ") != "make" {
		t.Errorf("got %v", got)
	}
}

func TestLittleDiskSpaceStopsBeforeAPart(t *testing.T) {
	e := engine(t, "..", t.TempDir())
	if err := e.checkDisk("x", 1<<62); err == nil || !strings.Contains(err.Error(), "disk space left") {
		t.Errorf("got %v", err)
	}
	if err := e.checkDisk("x", 1); err != nil {
		t.Error(err)
	}
}

// A real recipe, cheap enough to build twice in a unit test; it needs the
// module in the module cache, so that the test stays off the network.
func TestPauseIsReproducible(t *testing.T) {
	real := engine(t, "..", t.TempDir())
	t.Setenv("GOPROXY", "off")
	if _, err := workshop.ModuleDir(context.Background(), real.Set.Recipes["pause"]); err != nil {
		t.Skip("the module of pause is not in the module cache")
	}
	got, err := real.Verify(context.Background(), []string{"pause"})
	if err != nil || !strings.Contains(got, "have the same digests") {
		t.Errorf("%q, %v", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(real.Dir, "verify-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if _, err := os.Stat(real.CompleteMark()); err == nil {
		t.Error("a part of the payload counts as all of it")
	}
}
