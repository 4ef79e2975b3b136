//go:build e2e || bench

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/testapp"
)

// loadTestImage returns the only image of the test application: a shell that is part
// of the payload anyway.
func loadTestImage(t *testing.T, ctx context.Context, h *lab.Host) (ref string, img v1.Image) {
	t.Helper()
	out := h.MustRun(ctx, binary, "bundle", "inspect", bundle)
	for _, word := range strings.Fields(out) {
		if strings.HasPrefix(word, "docker.io/library/busybox:") {
			ref = word
		}
	}
	img, err := testapp.LoadImage(requireEnv(t, "PLINTH_E2E_PAYLOAD"), ref)
	if err != nil {
		t.Fatal(err)
	}
	return ref, img
}

// copyAppBundle builds an application bundle, copies it to the host and returns its
// path there.
func copyAppBundle(t *testing.T, ctx context.Context, h *lab.Host, r testapp.Release) string {
	t.Helper()
	remote := "/srv/app-" + r.VersionLabel + ".airgap"
	h.Copy(buildAppBundle(t, ctx, h, r), remote)
	return remote
}

// buildAppBundle builds an application bundle for the host and returns its path on this machine.
func buildAppBundle(t *testing.T, ctx context.Context, h *lab.Host, r testapp.Release) string {
	t.Helper()
	r.ImageRef, r.Image = loadTestImage(t, ctx, h)
	local := filepath.Join(t.TempDir(), "app.airgap")
	if err := r.WriteFile(local); err != nil {
		t.Fatal(err)
	}
	return local
}

// copyLicense copies KOTS's own test license to the host and returns its path there.
func copyLicense(t *testing.T, h *lab.Host) string {
	t.Helper()
	h.Copy(writeLicense(t, testapp.License), "/srv/license.yaml")
	return "/srv/license.yaml"
}

// writeLicense writes a license to a file of this machine and returns its path.
func writeLicense(t *testing.T, read func() ([]byte, error)) string {
	t.Helper()
	data, err := read()
	if err != nil {
		t.Fatal(err)
	}
	local := filepath.Join(t.TempDir(), "license.yaml")
	if err := os.WriteFile(local, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return local
}

// snapshotFolder is the folder of the object store on the host of the test.
const snapshotFolder = "/srv/snapshots"

// buildWithVelero builds a bundle with Velero, its store in a folder of the host; replacements are those of buildVariant.
func buildWithVelero(t testing.TB, replacements ...string) string {
	t.Helper()
	return buildVariant(t, requireEnv(t, "PLINTH_E2E_PAYLOAD"), 2, append(replacements, "\n  # hostPreflights:",
		"\n  velero: {version: 1.18.3, objectStore: {folder: "+snapshotFolder+"}}\n\n  # hostPreflights:")...)
}

// takeSnapshot takes a full snapshot, waits until the agent has taken that of the registry, too, and returns its name.
func takeSnapshot(t testing.TB, ctx context.Context, h *lab.Host, namespace string) string {
	t.Helper()
	h.MustRun(ctx, binary, "kots", "backup", "--namespace", namespace)
	newest := h.MustRun(ctx, "sh", "-c", binary+" kubectl get backups -n velero --sort-by=.metadata.creationTimestamp --no-headers -o custom-columns=N:.metadata.name,P:.status.phase | grep -v -e -registry | tail -n 1")
	fields := strings.Fields(newest)
	if len(fields) != 2 {
		t.Fatalf("there is no snapshot: %q", newest)
	}
	name, phase := fields[0], fields[1]
	if phase != "Completed" {
		t.Fatalf("the snapshot %s is %s", name, phase)
	}
	for range 120 {
		out, _, _ := h.Run(ctx, binary, "kubectl", "get", "backup", "-n", "velero", name+"-registry", "-o", "jsonpath={.status.phase}")
		if out == "Completed" {
			return name
		}
		h.MustRun(ctx, "sleep", "1")
	}
	t.Fatalf("the registry has no snapshot:\n%s", h.MustRun(ctx, binary, "kubectl", "get", "backups", "-n", "velero", "-o", "wide"))
	return ""
}
