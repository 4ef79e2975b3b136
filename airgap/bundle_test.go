package airgap_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/format"
)

// openBundle opens the bundle at path until the end of the test.
func openBundle(t testing.TB, path string) *airgap.Bundle {
	t.Helper()
	b, err := airgap.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestBundle_ReturnsWhatWasBuiltIntoIt(t *testing.T) {
	b := openBundle(t, airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	ctx := t.Context()
	if got, err := b.Installer(ctx); err != nil || string(got) != airgaptest.Installer {
		t.Errorf("Installer() = %q, %v", got, err)
	}
	if got, found, err := b.Application(ctx); err != nil || !found || string(got) != airgaptest.Application {
		t.Errorf("Application() = %q, %t, %v", got, found, err)
	}
	if got, err := b.Chart(ctx, "local-path"); err != nil || !strings.Contains(string(got), "a chart") {
		t.Errorf("Chart() = %q, %v", got, err)
	}
	if got := b.Charts(); !slices.Equal(got, []airgap.Chart{{Name: "local-path", Version: "0.0.30"}}) {
		t.Errorf("Charts() = %v", got)
	}
	for _, f := range airgaptest.HostFiles() {
		r, err := b.OpenHostFile(ctx, f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != f.Content {
			t.Errorf("%s = %q, %v", f.Name, got, err)
		}
		_ = r.Close()
	}
	for i, f := range b.HostFiles() {
		want := airgaptest.HostFiles()[i]
		if f.Name != want.Name || f.Version != want.Version || f.Mode != 0o755 || f.Size != int64(len(want.Content)) || f.Digest != digest.FromString(want.Content) {
			t.Errorf("HostFiles()[%d] = %+v", i, f)
		}
	}
	if err := b.Verify(ctx, nil); err != nil {
		t.Error(err)
	}
	if b.Name() != "my-app" || b.Platform() != "linux/amd64" {
		t.Errorf("name %q, platform %q", b.Name(), b.Platform())
	}
}

func TestImages_KeepOrderAndDigests(t *testing.T) {
	b := openBundle(t, airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	images := b.Images()
	for i, want := range airgaptest.Images() {
		built := airgaptest.BuildImage(t, want)
		d, _ := built.Digest()
		got := images[i]
		if got.Ref != want.Ref || got.Manifest.Digest.String() != d.String() || len(got.Layers) != len(want.Files) {
			t.Errorf("image %d is %+v", i, got)
		}
		if got.Unpacked != 2048*int64(len(want.Files)) { // a tar with one small file and its padding
			t.Errorf("%s unpacks to %d", got.Ref, got.Unpacked)
		}
	}
	size := b.ContentSize()
	if size.Unpacked != 4*2048 { // five layers, one of them shared
		t.Errorf("ContentSize() = %+v", size)
	}
	if sum := b.Inspect(); sum.Totals.Shared == 0 || sum.Totals.Blobs != len(slices.Collect(allDigests(b))) {
		t.Errorf("Inspect().Totals = %+v", sum.Totals)
	}
}

// allDigests yields the digest of every blob in the bundle once.
func allDigests(b *airgap.Bundle) func(func(digest.Digest) bool) {
	seen := map[digest.Digest]bool{}
	return func(yield func(digest.Digest) bool) {
		for _, it := range b.Items() {
			for _, d := range it.Blobs() {
				if !seen[d.Digest] && !yield(d.Digest) {
					return
				}
				seen[d.Digest] = true
			}
		}
	}
}

// TestBundle_IsReadableBySkopeo runs the commands in docs/reference/bundle-format.md.
func TestBundle_IsReadableBySkopeo(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Fatal("skopeo is missing: make test-unit installs it")
	}
	path, dir := airgaptest.WriteBundle(t, airgaptest.NewRequest(t)), t.TempDir()
	skopeo := func(args ...string) []byte {
		cmd := exec.Command("skopeo", append([]string{"--insecure-policy", "--tmpdir", dir}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("skopeo %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	for i, img := range openBundle(t, path).Images() {
		from := "oci-archive:" + path + ":" + img.Ref
		if raw := skopeo("inspect", "--raw", from); digest.FromBytes(raw) != img.Manifest.Digest {
			t.Errorf("%s is %s", img.Ref, raw)
		}
		to := filepath.Join(dir, strconv.Itoa(i))
		skopeo("copy", "--preserve-digests", from, "oci:"+to)
		copied, err := layout.ImageIndexFromPath(to)
		if err != nil {
			t.Fatal(err)
		}
		if m, err := copied.IndexManifest(); err != nil || m.Manifests[0].Digest.String() != img.Manifest.Digest.String() {
			t.Errorf("%s was copied as %+v, %v", img.Ref, m, err)
		}
	}
}

func TestBundle_UnpacksToLayoutForOtherTools(t *testing.T) {
	dir := extract(t, airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	images := 0
	for _, desc := range manifest.Manifests {
		if desc.Annotations[format.AnnotationKind] != "image" {
			continue
		}
		img, err := index.Image(desc.Digest)
		if err != nil {
			t.Fatal(err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			r, err := l.Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			got, err := digest.FromReader(r)
			if want, _ := l.DiffID(); err != nil || got.String() != want.String() {
				t.Errorf("layer of %s unpacks to %s, want %s (%v)", desc.Annotations[format.AnnotationImageName], got, want, err)
			}
		}
		images++
	}
	if images != len(airgaptest.Images()) {
		t.Errorf("%d images", images)
	}
}

func TestInspect_MarshalsEveryItemToJSON(t *testing.T) {
	b := openBundle(t, airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	raw, err := json.Marshal(b.Inspect())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"kind":"installer"`, `"kind":"application"`, `"kind":"chart"`, `"name":"k0s"`, `"version":"v1.33.8+k0s.1"`,
		`"name":"docker.io/kotsadm/kotsadm:v1.131.2"`, `"licenses":"Apache-2.0"`, `"module":"example.com/pause:3.10"`, `"digest":"` + b.Digest().String()} {
		if !bytes.Contains(raw, []byte(want)) {
			t.Errorf("%s lacks %s", raw, want)
		}
	}
}

func TestDigest_IsDigestOfIndex(t *testing.T) {
	path := airgaptest.WriteBundle(t, airgaptest.NewRequest(t))
	index, err := os.ReadFile(filepath.Join(extract(t, path), "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if got := openBundle(t, path).Digest(); got != digest.FromBytes(index) {
		t.Errorf("Digest() = %s", got)
	}
}
