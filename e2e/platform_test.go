//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// TestPlatform_Debian checks, installs, boots again, installs again and resets on each
// release of Debian that the lab has. The short tests run one of them, another one each
// day: not Debian 12, on which all other tests run.
func TestPlatform_Debian(t *testing.T) {
	runParallel(t)
	releases := []string{"11", "13", "12"}
	if testing.Short() {
		today := time.Now().YearDay() % 2
		releases = releases[today : today+1]
	}
	for _, release := range releases {
		t.Run(release, func(t *testing.T) { checkLifeOnDebian(t, timeoutContext(t, 20), release) })
	}
}

func checkLifeOnDebian(t *testing.T, ctx context.Context, release string) {
	h := startHostWithPlinth(t, "debian-"+release, lab.OS("debian-"+release))
	fresh := h.Baseline(ctx)

	t.Run("preflight knows the release", func(t *testing.T) {
		var report struct {
			Result struct {
				Results []struct{ ID, State, Found string }
			}
		}
		out := h.ForTest(t).MustRun(ctx, binary, "-o", "json", "preflight", "--bundle", bundle)
		if err := json.Unmarshal([]byte(lastLines(out, 1)), &report); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		known := false
		for _, r := range report.Result.Results {
			known = known || r.ID == "os" && r.State == "pass" && strings.HasPrefix(r.Found, "Debian GNU/Linux "+release+" ")
			if r.State == "warn" || r.State == "unknown" {
				t.Logf("%s: %s: %s", r.State, r.ID, r.Found)
			}
		}
		if !known {
			t.Errorf("the check os does not know the release: %s", out)
		}
	})
	install := []string{"install", "--bundle", bundle, "--yes"}
	if !t.Run("install", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, install...)
		waitForConsole(t, ctx, time.Now(), h)
	}) {
		t.FailNow()
	}
	t.Run("the cluster is ready after a boot", func(t *testing.T) {
		h := h.ForTest(t)
		h.Stop()
		h.Boot()
		booted := time.Now()
		waitForStatus(t, ctx, h, 3*time.Minute, "the node is ready after the boot", allReady(1, 1))
		waitForConsole(t, ctx, booted, h)
		h.MustRun(ctx, binary, "kubectl", "-n", "kube-system", "wait", "--for=condition=Ready", "pod", "--all", "--timeout=180s")
		t.Logf("all system pods are ready after %.1fs", time.Since(booted).Seconds())
	})
	t.Run("a second install changes nothing", func(t *testing.T) {
		if r := runPlinth(t, ctx, h.ForTest(t), 0, install...); r.Result.Changed {
			t.Errorf("changed: %+v", r.Events)
		}
		// That install skipped the checks; the ones of an upgrade would not.
		runPlinth(t, ctx, h.ForTest(t), 0, "preflight", "--bundle", bundle, "--quick")
	})
	t.Run("reset leaves no difference", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "reset", "cluster", "--yes", "--cluster", "my-app", "--delete-data")
		checkUnchanged(t, fresh, h.Baseline(ctx))
	})
}

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
