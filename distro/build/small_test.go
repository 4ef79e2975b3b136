package build

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/distro/recipe"
)

func TestWantedPaths(t *testing.T) {
	for _, c := range []struct {
		want, name string
		ok         bool
	}{
		{"/bin/busybox", "/bin/busybox", true},
		{"/bin/busybox", "/bin/busybox2", false},
		{"/lib/*.so*", "/lib/x.so.1", true},
		{"/lib/*.so*", "/lib/gconv/x.so", false},
		{"/etc/a/", "/etc/a/b/c", true},
		{"/etc/a/", "/etc/ab", false},
	} {
		if got := wanted(c.want, c.name); got != c.ok {
			t.Errorf("wanted(%q, %q) = %v", c.want, c.name, got)
		}
	}
}

func TestGoNamesBinariesByTheirPackage(t *testing.T) {
	for pkg, want := range map[string]string{"k8s.io/kubernetes/cmd/kubelet": "kubelet", "./plugins/main/bridge": "bridge", "go.etcd.io/etcd/server/v3": "server"} {
		if got := goName(pkg); got != want {
			t.Errorf("goName(%q) = %q, want %q", pkg, got, want)
		}
	}
}

func TestLinkerFlagsCarryVersionAndFixedTime(t *testing.T) {
	ws := &workspace{r: recipe.Recipe{Version: "v1", Epoch: 1771420288}}
	got := ws.ldflags(recipe.GoBuild{Cgo: true, Ldflags: []string{"-X a.v=${VERSION}", "-X a.d=${BUILD_DATE}"}})
	for _, want := range []string{"-s -w -buildid=", "-static", "-X a.v=v1", "-X a.d=2026-02-18T13:11:28Z"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}

func TestTheCallersGoSettingsDoNotReachTheBuild(t *testing.T) {
	t.Setenv("GOFLAGS", "-tags=evil")
	t.Setenv("CGO_CFLAGS", "-O3")
	env := strings.Join(baseEnv(recipe.Recipe{Epoch: 1}, &workspace{}), "\n")
	if strings.Contains(env, "evil") || strings.Contains(env, "-O3") || !strings.Contains(env, "PATH=") {
		t.Errorf("environment:\n%s", env)
	}
}

func TestMissingPackagesAreNamed(t *testing.T) {
	names := packageList("# about\n\ngcc\n make \n")
	got := missingPackages(names, func(n string) bool { return n == "gcc" })
	if strings.Join(got, " ") != "make" {
		t.Errorf("got %v", got)
	}
}

func TestLittleDiskSpaceStopsBeforeAPart(t *testing.T) {
	e := &Engine{Cache: t.TempDir()}
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
	if _, err := ModuleDir(context.Background(), real.Set.Recipes["pause"]); err != nil {
		t.Skip("the module of pause is not in the module cache")
	}
	got, err := real.Verify(context.Background(), []string{"pause"})
	if err != nil || !strings.Contains(got, "have the same digests") {
		t.Errorf("%q, %v", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(real.Cache, "verify-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if _, err := os.Stat(filepath.Join(real.Layout(), ".complete")); err == nil {
		t.Error("a part of the payload counts as all of it")
	}
}
