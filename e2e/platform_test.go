//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestArm64_RunsInAnEmulator runs the executable for arm64, which `make build-all` builds, in the
// emulator of QEMU for single programs. There is no lab host of that processor.
func TestArm64_RunsInAnEmulator(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long builds the executable for arm64")
	}
	program := requireEnv(t, "PLINTH_E2E_ARM64")
	run := func(file string, args ...string) ([]byte, error) {
		return exec.CommandContext(t.Context(), "qemu-aarch64", append([]string{file}, args...)...).Output()
	}
	t.Run("version", func(t *testing.T) {
		out, err := run(program, "version", "-o", "json")
		if err != nil || !strings.Contains(string(out), `"linux/arm64"`) {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("lint", func(t *testing.T) {
		if out, err := run(program, "lint", "../installer.yaml"); err != nil || !strings.Contains(string(out), "valid") {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("preflight", func(t *testing.T) {
		out, _ := run(program, "preflight", "--quick", "-o", "json") // this machine need not be ready
		var report struct{ Result struct{ Passed int } }
		if err := json.Unmarshal(out, &report); err != nil || report.Result.Passed < 50 {
			t.Errorf("%v, %d checks passed: %.300s", err, report.Result.Passed, out)
		}
	})
	t.Run("with an embedded key", func(t *testing.T) {
		d, err := prepareShipment()
		if err != nil {
			t.Fatal(err)
		}
		sealed := filepath.Join(t.TempDir(), "my-plinth")
		plinth := requireEnv(t, "PLINTH_E2E_BINARY")
		if out, err := exec.CommandContext(t.Context(), plinth, "bundle", "embed", "--program", program, "--verify-key", d.key, "--output-file", sealed).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		// The key is read: the bundle, for amd64, is verified with it.
		if out, err := run(sealed, "bundle", "verify", d.bundle); err != nil || !strings.Contains(string(out), "Verified with key") {
			t.Errorf("%v: %s", err, out)
		}
		refused := exec.CommandContext(t.Context(), "qemu-aarch64", sealed, "install", "--bundle", d.bundle, "--data-dir", filepath.Join(t.TempDir(), "data"), "--plan")
		out, _ := refused.CombinedOutput()
		if code := refused.ProcessState.ExitCode(); code != 6 || !strings.Contains(string(out), "it is for linux/amd64, this program is for linux/arm64") {
			t.Errorf("exit %d: %s", code, out)
		}
		if _, err := os.Stat("/var/lib/plinth"); err == nil {
			t.Error("a refused install created its data folder")
		}
	})
}
