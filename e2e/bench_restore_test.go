//go:build bench

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/testapp"
)

// TestBench_RestoreAgainstInstall measures how long a host without a cluster takes until the application is ready: with a first
// install of the console and the application, and with a restore of a snapshot of both and of 100 MB in a volume, one after
// the other on fresh hosts of one lab. It also measures a backup of the control plane and its restore on a fresh host.
func TestBench_RestoreAgainstInstall(t *testing.T) {
	ctx := timeoutContext(t, 50)
	local := buildWithVelero(t)
	a := newBenchHost(t, "before")
	a.Copy(local, bundle)
	app := copyAppBundle(t, ctx, a, testapp.Release{VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: newKOTS, Volume: true})
	license := copyLicense(t, a)
	install := measureUntilReady(t, ctx, a, "install", "--bundle", bundle, "--license", license, "--app-bundle", app, "--yes")
	a.MustRun(ctx, binary, "kubectl", "exec", "-n", "kotsadm", "deployment/hello", "--", "sh", "-c", "head -c 100000000 /dev/urandom >/data/file")
	began := time.Now()
	takeSnapshot(t, ctx, a, "kotsadm")
	snapshot := time.Since(began)
	began = time.Now()
	a.MustRun(ctx, binary, "backup", "--to", "/root/control-plane", "--unencrypted")
	backup := time.Since(began)
	files := t.TempDir()
	a.MustRun(ctx, "tar", "-C", snapshotFolder, "-cf", "/root/store", ".")
	for _, name := range []string{"store", "control-plane"} {
		a.Fetch("/root/"+name, filepath.Join(files, name))
	}
	a.Down()

	n := newBenchHost(t, "snapshot")
	n.Copy(local, bundle)
	n.Copy(filepath.Join(files, "store"), "/root/store")
	n.MustRun(ctx, "sh", "-c", "mkdir /mnt/snapshots && tar -C /mnt/snapshots -xf /root/store && rm /root/store")
	restore := measureUntilReady(t, ctx, n, "restore", "--from", "/mnt/snapshots", "--bundle", bundle, "--yes")
	n.Down()

	n = newBenchHost(t, "fresh")
	n.Copy(local, bundle)
	n.Copy(filepath.Join(files, "control-plane"), "/root/control-plane")
	began = time.Now()
	out := n.MustRun(ctx, binary, "-o", "json", "restore", "--control-plane", "/root/control-plane", "--bundle", bundle, "--yes")
	t.Logf("restore of the control plane: %s", stepTimes(out, began))
	controlPlane := time.Since(began)

	t.Logf("\n%-44s %8s %8s\n%s%s%s%s%s", "", "seconds", "ratio",
		benchRow("first install, until the application is ready", install, install),
		benchRow("snapshot of all, with 100 MB in a volume", snapshot, install),
		benchRow("its restore, until the application is ready", restore, install),
		benchRow("backup of the control plane", backup, install),
		benchRow("its restore on a fresh host", controlPlane, install))
}

// benchRow returns a line with a duration and its ratio to that of the install.
func benchRow(what string, took, install time.Duration) string {
	return fmt.Sprintf("%-44s %8.1f %8.2f\n", what, took.Seconds(), took.Seconds()/install.Seconds())
}

// measureUntilReady returns how long a command takes, until the application is ready.
func measureUntilReady(t *testing.T, ctx context.Context, h *lab.Host, args ...string) time.Duration {
	t.Helper()
	began := time.Now()
	out := h.MustRun(ctx, append([]string{binary, "-o", "json"}, args...)...)
	t.Logf("%s: %s", args[0], stepTimes(out, began))
	h.MustRun(ctx, binary, "kubectl", "rollout", "status", "-n", "kotsadm", "deployment/hello", "--timeout=5m")
	return time.Since(began)
}
