package builder

import (
	"strings"
	"testing"

	"github.com/plinthdev/plinth/distro/recipe"
)

func TestGoName_DropsMajorVersion(t *testing.T) {
	for pkg, want := range map[string]string{"k8s.io/kubernetes/cmd/kubelet": "kubelet", "./plugins/main/bridge": "bridge", "go.etcd.io/etcd/server/v3": "server"} {
		t.Run(pkg, func(t *testing.T) {
			if got := goName(pkg); got != want {
				t.Errorf("goName(%q) = %q, want %q", pkg, got, want)
			}
		})
	}
}

func TestLinkerFlags_HaveVersionAndFixedTime(t *testing.T) {
	ws := &workspace{recipe: recipe.Recipe{Version: "v1", Epoch: 1771420288}}
	got := ws.linkerFlags(recipe.GoBuild{Cgo: true, Ldflags: []string{"-X a.v=${VERSION}", "-X a.d=${BUILD_DATE}"}})
	for _, want := range []string{"-s -w -buildid=", "-static", "-X a.v=v1", "-X a.d=2026-02-18T13:11:28Z"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}

func TestBaseEnv_DropsCallersGoSettings(t *testing.T) {
	t.Setenv("GOFLAGS", "-tags=evil")
	t.Setenv("CGO_CFLAGS", "-O3")
	env := strings.Join((&workspace{}).baseEnv(), "\n")
	if strings.Contains(env, "evil") || strings.Contains(env, "-O3") || !strings.Contains(env, "PATH=") {
		t.Errorf("environment:\n%s", env)
	}
}
