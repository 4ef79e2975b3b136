//go:build bench

package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/plinthdev/plinth/e2e/lab"
)

// ballast is the number of bytes added to an image to make the bundle larger than 1 GB.
const ballast = 700 << 20

// TestBenchMemory_WithLargeBundle measures the resident memory of the commands that
// read or write whole bundles, with a bundle of more than 1 GB.
func TestBenchMemory_WithLargeBundle(t *testing.T) {
	ctx := timeoutContext(t, 30)
	dir := filepath.Join(shipmentDir(), "big")
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	writeHeavyPayload(t, dir)
	big := filepath.Join(dir, "big.bundle")
	var out strings.Builder
	fmt.Fprint(&out, "| what | resident memory | aim |\n| --- | --- | --- |\n")
	for _, args := range [][]string{
		{"bundle", "build", "--installer", "../installer.yaml", "--application", "testdata/application.yaml", "--source", dir, "--output-file", big},
		{"bundle", "verify", big},
	} {
		held, words, err := measurePeakMemory(t, ctx, requireEnv(t, "PLINTH_E2E_BINARY"), args...)
		if err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, words)
		}
		fmt.Fprintf(&out, "| %s | %d MB | 300 MB |\n", strings.Join(args[:2], " "), held/1e6)
	}
	st, err := os.Stat(big)
	if err != nil || st.Size() < 1e9 {
		t.Fatalf("the bundle has %d bytes: %v", st.Size(), err)
	}
	h := lab.Up(t, "big")
	h.Copy(requireEnv(t, "PLINTH_E2E_BINARY"), binary)
	h.Copy(big, bundle)
	if err := os.RemoveAll(dir); err != nil { // it may be in memory, as the lab's disks
		t.Fatal(err)
	}
	h.MustRun(ctx, binary, "install", "--yes", "--bundle", bundle, "--allow-unsigned")
	var megabytes float64
	if _, err := fmt.Sscanf(h.MustRun(ctx, "sh", "-c", "grep -ho 'peak memory [0-9.]* MB' /var/log/plinth/install-*.log"), "peak memory %f MB", &megabytes); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "| install | %.0f MB | 300 MB |\n", megabytes)
	t.Logf("with a bundle of %d MB\n\n%s", st.Size()/1e6, out.String())
}

// writeHeavyPayload writes the payload with ballast in one of its images to dir.
func writeHeavyPayload(t *testing.T, dir string) {
	t.Helper()
	all, err := layout.ImageIndexFromPath(requireEnv(t, "PLINTH_E2E_PAYLOAD"))
	if err != nil {
		t.Fatal(err)
	}
	index, err := all.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var old v1.Descriptor
	for _, d := range index.Manifests {
		if d.Annotations["dev.plinth.kind"] == "image" {
			old = d // any image; the last one is used
		}
	}
	img, err := all.Image(old.Digest)
	if err == nil {
		img, err = mutate.AppendLayers(img, static.NewLayer(incompressibleTar(t), types.OCIUncompressedLayer))
	}
	if err != nil {
		t.Fatal(err)
	}
	heavy := mutate.AppendManifests(mutate.RemoveManifests(all, match.Digests(old.Digest)),
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Annotations: old.Annotations, Platform: old.Platform}})
	if _, err := layout.Write(dir, heavy); err != nil {
		t.Fatal(err)
	}
}

// incompressibleTar returns a tar with one large file of random bytes.
func incompressibleTar(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	buf.Grow(ballast + 4096)
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "ballast", Typeflag: tar.TypeReg, Mode: 0o644, Size: ballast}); err != nil {
		t.Fatal(err)
	}
	noise, block := rand.NewChaCha8([32]byte{}), make([]byte, 1<<20)
	for range ballast >> 20 {
		_, _ = noise.Read(block) // never fails
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
