package k0s

import (
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/spec"
)

func installer(overlay map[string]any) *spec.Installer {
	in := &spec.Installer{}
	in.Spec.K0s.Config = overlay
	in.Spec.Network = spec.Network{PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12", NodePortRange: "80-32767"}
	return in
}

// k0s itself says which images the version that Plinth is built with uses: its own constants.
func TestKnownImages_AgreeWithTheLinkedK0s(t *testing.T) {
	own, err := InstallerImages(installer(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if known, err := KnownImages("v1.33.8+k0s.1"); err != nil || !slices.Equal(known, own) {
		t.Errorf("images.yaml has %v (%v), k0s has %v", known, err, own)
	}
}

func TestKnownImages_AreCompleteForEveryVersion(t *testing.T) {
	versions, err := KnownImageVersions()
	if err != nil || len(versions) < 5 {
		t.Fatalf("%v, %v", versions, err)
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			known, err := KnownImages(version)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := InstallerImages(installer(nil), known); err != nil || !slices.Equal(got, known) {
				t.Errorf("%v, want %v (%v)", got, known, err)
			}
			if _, err := ParseImageList([]byte(strings.Join(known, "\n"))); err != nil {
				t.Error(err)
			}
			release, _, _ := strings.Cut(version, "+")
			if !slices.ContainsFunc(known, func(ref string) bool { return strings.HasPrefix(ref, "quay.io/k0sproject/kube-proxy:"+release) }) {
				t.Errorf("the version of kube-proxy is not that of Kubernetes: %v", known)
			}
		})
	}
}

// The bundle of an Installer decides which images its nodes run, whichever k0s Plinth is built with.
func TestRenderConfig_NamesTheImagesOfTheBundle(t *testing.T) {
	known, err := KnownImages("v1.36.3+k0s.2")
	if err != nil {
		t.Fatal(err)
	}
	images := func(values map[string]any) map[string]any {
		return map[string]any{"spec": map[string]any{"images": values}}
	}
	for name, c := range map[string]struct {
		overlay map[string]any
		want    string
	}{
		"no overlay":       {nil, "quay.io/k0sproject/coredns:1.14.6-k0s.0"},
		"another registry": {images(map[string]any{"repository": "registry.example.com/mirror"}), "registry.example.com/mirror/k0sproject/coredns:1.14.6-k0s.0"},
		"another image":    {images(map[string]any{"coredns": map[string]any{"image": "example.com/dns", "version": "7"}}), "example.com/dns:7"},
		"another version":  {images(map[string]any{"coredns": map[string]any{"version": "7"}}), "quay.io/k0sproject/coredns:7"},
	} {
		t.Run(name, func(t *testing.T) {
			in := installer(c.overlay)
			built, err := InstallerImages(in, known)
			if err != nil || !slices.Contains(built, c.want) || len(built) != len(known) {
				t.Fatalf("the bundle gets %v, want %s (%v)", built, c.want, err)
			}
			s := NewSettings(in, "192.0.2.1", "node")
			s.Images = built // what a host knows
			if used, err := Images(s); err != nil || !slices.Equal(used, built) {
				t.Errorf("the node runs %v, the bundle has %v (%v)", used, built, err)
			}
			config, err := RenderConfig(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, ref := range built {
				if tag := ref[strings.LastIndex(ref, ":")+1:]; !strings.Contains(string(config), tag) {
					t.Errorf("the configuration lacks %s", ref)
				}
			}
		})
	}
}

func TestParseImageList_RejectsListsThatLackAnImage(t *testing.T) {
	known, err := KnownImages("v1.33.8+k0s.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, out := range map[string]string{
		"empty":        "",
		"not a list":   "Error: unknown command",
		"one missing":  strings.Join(known[1:], "\n"),
		"without tags": strings.ReplaceAll(strings.Join(known, "\n"), ":", ""),
	} {
		t.Run(name, func(t *testing.T) {
			if refs, err := ParseImageList([]byte(out)); err == nil || !strings.Contains(err.Error(), "has no tag of") {
				t.Errorf("%v, %v", refs, err)
			}
		})
	}
}

func FuzzParseImageList(f *testing.F) {
	f.Add([]byte("quay.io/k0sproject/pause:3.10.1\n"))
	f.Add([]byte(":\n/:\nx/k0sproject/pause"))
	f.Fuzz(func(t *testing.T, out []byte) {
		refs, err := ParseImageList(out)
		if err == nil && len(refs) < 6 {
			t.Errorf("accepted %q", out)
		}
	})
}
