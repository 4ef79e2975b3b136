package addons

import (
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/problem"
)

func TestCatalog_ListsEveryAddOn(t *testing.T) {
	infos, err := Catalog()
	if err != nil {
		t.Fatal(err)
	}
	all, err := All()
	if err != nil || len(infos) != len(all)+1 { // and metrics-server
		t.Fatalf("%d of %d add-ons, %v", len(infos), len(all), err)
	}
	if !slices.IsSortedFunc(infos, func(a, b Info) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%+v", infos)
	}
	for _, i := range infos {
		if i.Key == "" || i.Title == "" || i.Supported == "" || i.License == "" {
			t.Errorf("%+v is incomplete", i)
		}
	}
}

func TestDescribe_ReturnsTheImagesOfAVersion(t *testing.T) {
	for name, c := range map[string]struct {
		addOn, version string
		exit           int
		want           string // an image, or a part of the error
	}{
		"the newest":           {"registry", "", 0, "docker.io/distribution/distribution:"},
		"by its key":           {"localPathStorage", "", 0, "docker.io/rancher/local-path-provisioner:v"},
		"one of a range":       {"kotsadm", "1.131.2", 0, "docker.io/kotsadm/kotsadm:v1.131.2"},
		"any of a range":       {"kotsadm", "", 0, "docker.io/kotsadm/kotsadm:vVERSION"},
		"by its title":         {"traefik", "", 0, "docker.io/library/traefik:v"},
		"a version of k0s's":   {"metricsServer", "1.0.0", problem.ExitConfig, "its version is that of k0s"},
		"an unknown one":       {"longhorn", "", problem.ExitUsage, "this build of plinth has no such add-on"},
		"an unknown version":   {"registry", "0.1.0", problem.ExitConfig, `version "0.1.0" is not supported`},
		"a version of no kind": {"kotsadm", "latest", problem.ExitConfig, "is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := Describe(c.addOn, c.version)
			if c.exit != 0 {
				if problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil || !slices.ContainsFunc(info.Images, func(ref string) bool { return strings.HasPrefix(ref, c.want) }) {
				t.Errorf("%+v, %v", info, err)
			}
		})
	}
}
