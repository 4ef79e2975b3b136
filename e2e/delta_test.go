//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
)

// deltaFile is the path of the delta on a host.
const deltaFile = "/srv/my-app-1-to-2.delta"

// buildNextRelease builds a second release and copies only its delta to the host. The
// first release, patched here with the delta, must equal the second byte for byte.
func buildNextRelease(t *testing.T, h *lab.Host) {
	t.Helper()
	_, old := shippedFiles(t)
	d, err := prepareShipment()
	if err != nil {
		t.Fatal(err)
	}
	plinth, in := requireEnv(t, "PLINTH_E2E_BINARY"), func(name string) string { return filepath.Join(shipmentDir(), name) }
	next, delta, merged := in("next"), in("delta"), in("merged")
	defer func() { _, _ = os.Remove(next), os.Remove(merged) }()
	for _, args := range [][]string{
		{plinth, "bundle", "build", "--installer", "../installer.yaml", "--application", "testdata/application.yaml", "--source", requireEnv(t, "PLINTH_E2E_PAYLOAD"),
			"--sign-key", privateKey(d), "--release", "2", "--output-file", next},
		{plinth, "bundle", "diff", old, next, "--output-file", delta},
		{plinth, "bundle", "patch", old, delta, "--output-file", merged},
		{"cmp", next, merged},
		{plinth, "bundle", "verify", "--verify-key", d.key, merged},
	} {
		if err := runLocal(args[0], args[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	h.Copy(delta, deltaFile)
}
