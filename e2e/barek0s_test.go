//go:build e2e || bench

package e2e

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/e2e/lab"
)

// prepareBareK0s installs k0s and its images on a host as its documentation says for an air gap, and does not start it.
func prepareBareK0s(t *testing.T, ctx context.Context, h *lab.Host) {
	t.Helper()
	archive := systemImagesArchive(t, ctx, h)
	h.MustRun(ctx, "mkdir", "-p", "/var/lib/k0s/images")
	h.Copy(archive, "/var/lib/k0s/images/images.tar")
	h.Copy(extractK0s(t, ctx), "/usr/local/bin/k0s")
	h.MustRun(ctx, "k0s", "install", "controller", "--enable-worker", "--no-taints", "--disable-components=konnectivity-server", "--kubelet-extra-args=--node-ip="+h.IP())
}

// extractK0s returns the path of the k0s executable, extracted from the bundle.
func extractK0s(t *testing.T, ctx context.Context) string {
	t.Helper()
	return extractProgram(t, ctx, "k0s")
}

// extractProgram returns the path of an executable, k0s or kots, extracted from the bundle.
func extractProgram(t *testing.T, ctx context.Context, name string) string {
	t.Helper()
	b, err := airgap.Open(ctx, requireEnv(t, "PLINTH_E2E_BUNDLE"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r, err := b.OpenHostFile(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out := filepath.Join(t.TempDir(), name)
	f, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		t.Fatal(err)
	}
	return out
}

// waitUntil asks on the host, five times a second, so that asking costs the same
// on both sides.
func waitUntil(t *testing.T, ctx context.Context, h *lab.Host, start time.Time, condition string) time.Duration {
	t.Helper()
	h.MustRun(ctx, "bash", "-c", "for i in $(seq 1800); do "+condition+" 2>/dev/null && exit 0; sleep 0.2; done; exit 1")
	return time.Since(start)
}

// bundleItem is one entry in the output of `bundle inspect`.
type bundleItem struct{ Kind, Name, Digest string }

func inspectBundle(t *testing.T, ctx context.Context, h *lab.Host) []bundleItem {
	t.Helper()
	var doc struct{ Result struct{ Items []bundleItem } }
	if err := json.Unmarshal([]byte(h.MustRun(ctx, binary, "-o", "json", "bundle", "inspect", bundle)), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Result.Items
}

// systemImagesArchive writes an OCI archive of the images that k0s itself runs.
func systemImagesArchive(t *testing.T, ctx context.Context, h *lab.Host) string {
	t.Helper()
	wanted := map[string]bool{}
	for _, i := range inspectBundle(t, ctx, h) {
		if i.Kind == "image" && strings.HasPrefix(i.Name, "quay.io/k0sproject/") {
			wanted[i.Name] = true
		}
	}
	all, err := layout.ImageIndexFromPath(requireEnv(t, "PLINTH_E2E_PAYLOAD"))
	if err != nil {
		t.Fatal(err)
	}
	some := mutate.RemoveManifests(all, func(d v1.Descriptor) bool { return !wanted[d.Annotations["org.opencontainers.image.ref.name"]] })
	return writeOCIArchive(t, ctx, some)
}

// writeOCIArchive writes an index of images to a tar and returns its path.
func writeOCIArchive(t *testing.T, ctx context.Context, index v1.ImageIndex) string {
	t.Helper()
	dir, archive := t.TempDir(), filepath.Join(t.TempDir(), "images.tar")
	if _, err := layout.Write(dir, index); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(ctx, "tar", "-C", dir, "-cf", archive, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return archive
}
