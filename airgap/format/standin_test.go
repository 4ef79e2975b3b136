package format

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestStandIn_NamesWhatIsInside(t *testing.T) {
	const kubernetes = `[{"module":"k8s.io/kubernetes","version":"v1.33.13"}]`
	for name, c := range map[string]struct {
		kind                            Kind
		name, version, module, upstream string
		want                            string
	}{
		"k0s":                   {KindHost, "k0s", "v1.33.8+k0s.1", "github.com/k0sproject/k0s@v1.33.9-0.20260218131128-cd041608f44a", kubernetes, "k8s.io/kubernetes v1.33.13"},
		"a later k0s":           {KindHost, "k0s", "v1.33.8+k0s.1", "github.com/k0sproject/k0s@v1.33.13-0.20260218131128-cd041608f44a", "", "github.com/k0sproject/k0s v1.33.13-0.20260218131128-cd041608f44a"},
		"k0s of the release":    {KindHost, "k0s", "v1.33.8+k0s.1", "github.com/k0sproject/k0s@v1.33.8", "", ""},
		"kots":                  {KindHost, "kots", "1.131.2", "github.com/replicatedhq/kots@v1.131.2", "", ""},
		"rqlite":                {KindImage, "docker.io/kotsadm/rqlite:10.2.7", "v8.43.4", "github.com/rqlite/rqlite/v8@v8.43.4", "", "github.com/rqlite/rqlite/v8 v8.43.4"},
		"kube-proxy":            {KindImage, "quay.io/k0sproject/kube-proxy:v1.33.8", "v1.33.13", "k8s.io/kubernetes@v1.33.13", kubernetes, "k8s.io/kubernetes v1.33.13"},
		"pause":                 {KindImage, "quay.io/k0sproject/pause:3.10.1", "3.10.1", "k8s.io/kubernetes@v1.33.13", "", ""},
		"Debian's busybox":      {KindImage, "docker.io/library/busybox:1.35.0", "1:1.35.0-4+deb12u1+b1", "deb:busybox-static@1:1.35.0-4+deb12u1+b1", "", ""},
		"a revision of its own": {KindImage, "quay.io/k0sproject/metrics-server:v0.7.2-0", "v0.7.2", "sigs.k8s.io/metrics-server@v0.7.2", "", ""},
		"from a registry":       {KindImage, "docker.io/kotsadm/rqlite:10.2.7", "10.2.7", "", "", ""},
		"no tag":                {KindImage, "docker.io/kotsadm/rqlite", "v8.43.4", "github.com/rqlite/rqlite/v8@v8.43.4", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			it := Item{Kind: c.kind, Name: c.name, Version: c.version, Manifest: ocispec.Descriptor{Annotations: map[string]string{AnnotationModule: c.module, AnnotationModules: c.upstream}}}
			if got := it.StandIn(); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func FuzzStandIn(f *testing.F) {
	f.Add("docker.io/kotsadm/rqlite:10.2.7", "v8.43.4", "github.com/rqlite/rqlite/v8@v8.43.4", "[]")
	f.Fuzz(func(t *testing.T, name, version, module, upstream string) {
		for _, kind := range []Kind{KindHost, KindImage} {
			it := Item{Kind: kind, Name: name, Version: version, Manifest: ocispec.Descriptor{Annotations: map[string]string{AnnotationModule: module, AnnotationModules: upstream}}}
			if got := it.StandIn(); got != "" && !strings.Contains(got, " ") {
				t.Errorf("%q", got)
			}
		}
	})
}
