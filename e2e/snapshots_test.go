//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
)

// TestSnapshots_BringAVolumeBack installs Velero with its object store in a folder of the host, backs a workload with a
// volume up, deletes it, and restores it.
func TestSnapshots_BringAVolumeBack(t *testing.T) {
	if testing.Short() {
		t.Skip("it installs a cluster of its own")
	}
	runParallel(t)
	ctx := timeoutContext(t, 40)
	h := startHostWithPlinth(t, "snapshots")
	const snapshots = "/srv/snapshots.bundle"
	h.Copy(buildWithVelero(t), snapshots)
	runPlinth(t, ctx, h, 0, "install", "--bundle", snapshots, "--yes")
	kubectl := func(args ...string) string {
		t.Helper()
		return h.MustRun(ctx, append([]string{binary, "kubectl"}, args...)...)
	}

	t.Run("Velero reaches the store, and the console finds Velero", func(t *testing.T) { checkStoreAvailable(t, ctx, h.ForTest(t)) })
	t.Run("a second install changes nothing", func(t *testing.T) {
		if r := runPlinth(t, ctx, h.ForTest(t), 0, "install", "--bundle", snapshots, "--yes"); r.Result.Changed {
			t.Errorf("%+v", r.Result)
		}
	})
	t.Run("the node agent cannot start other pods", func(t *testing.T) { checkNodeAgentIsConfined(t, ctx, h.ForTest(t)) })
	if !t.Run("a deleted volume is restored byte for byte", func(t *testing.T) { checkRestoredVolume(t, ctx, h.ForTest(t)) }) {
		t.Log(kubectl("logs", "-n", "velero", "daemonset/node-agent", "--tail=50"))
		t.Log(kubectl("logs", "-n", "velero", "deployment/velero", "--tail=50"))
	}
	t.Run("a reset leaves the snapshots", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "reset", "cluster", "--cluster", "my-app", "--yes")
		h.MustRun(ctx, "test", "-f", snapshotFolder+"/objects/snapshots/backups/toy/velero-backup.json")
	})
}

// checkStoreAvailable fails unless Velero has reached its location, the console's CLI finds Velero, and status has no
// warning about snapshots.
func checkStoreAvailable(t *testing.T, ctx context.Context, h *lab.Host) {
	if phase := h.MustRun(ctx, binary, "kubectl", "get", "backupstoragelocation", "-n", "velero", "default", "-o", "jsonpath={.status.phase}"); phase != "Available" {
		t.Errorf("the location is %s", phase)
	}
	if out, errs, code := h.Run(ctx, binary, "kots", "get", "backups", "-n", "kotsadm"); code != 0 {
		t.Errorf("kots get backups: exit %d\n%s%s", code, out, errs)
	}
	h.MustRun(ctx, binary, "kubectl", "exec", "-n", "kotsadm", "kotsadm-0", "--", "curl", "--version") // its scripts for snapshots need it
	if out := h.MustRun(ctx, binary, "status"); strings.Contains(out, "snapshots fail") || strings.Contains(out, "snapshots leave out") {
		t.Errorf("status warns:\n%s", out)
	}
	if out := h.MustRun(ctx, binary, "certificates", "list"); !strings.Contains(out, "object-store-ca") {
		t.Errorf("the certificates of the store are not listed:\n%s", out)
	}
}

// checkNodeAgentIsConfined fails if the account of the node agent may start a pod of another account, or do what only
// Velero may.
func checkNodeAgentIsConfined(t *testing.T, ctx context.Context, h *lab.Host) {
	as := []string{binary, "kubectl", "--as=system:serviceaccount:velero:node-agent", "-n", "velero"}
	for _, verb := range [][]string{{"create", "restores.velero.io"}, {"create", "backups.velero.io"}, {"update", "pods"}, {"create", "pods", "--subresource=exec"}, {"create", "serviceaccounts", "--subresource=token"},
		{"create", "secrets"}, {"list", "secrets"}, {"get", "secrets/object-store-ca"}} {
		if out, _, code := h.Run(ctx, append(append([]string{}, as...), append([]string{"auth", "can-i"}, verb...)...)...); code == 0 {
			t.Errorf("may %s: %s", strings.Join(verb, " "), out)
		}
	}
	for name, account := range map[string]string{"another account": "velero", "no node in the token": "node-agent"} {
		manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"intruder","namespace":"velero"},"spec":{"serviceAccountName":%q,"nodeName":%q,
			"containers":[{"name":"x","image":"docker.io/library/busybox:1.35.0"}]}}`, account, h.Name)
		_, errs, code := h.Start(ctx, lab.Cmd{Args: append(append([]string{}, as...), "create", "-f", "-"), Stdin: strings.NewReader(manifest)}).Wait()
		if code == 0 || !strings.Contains(errs, "plinth-velero-node-agent") {
			t.Errorf("%s: exit %d, %s", name, code, errs)
		}
	}
}

// checkRestoredVolume backs the toy workload up, deletes it, restores it, and compares the digest of its data.
func checkRestoredVolume(t *testing.T, ctx context.Context, h *lab.Host) {
	kubectl := func(args ...string) string {
		t.Helper()
		return h.MustRun(ctx, append([]string{binary, "kubectl"}, args...)...)
	}
	waitDone := func(kind, name, fields string) {
		t.Helper()
		kubectl("wait", "-n", "velero", "--for=jsonpath={.status.completionTimestamp}", "--timeout=10m", kind+"/"+name)
		if phase := kubectl("get", "-n", "velero", kind, name, "-o", "jsonpath="+fields); strings.TrimSpace(phase) != "Completed" {
			t.Fatalf("%s %s is %s", kind, name, phase)
		}
	}
	kubectlApply(t, ctx, h, volumeWorkload("toy", "1Gi"))
	kubectl("rollout", "status", "-n", "toy", "deployment/toy", "--timeout=5m")
	kubectl("exec", "-n", "toy", "deployment/toy", "--", "sh", "-c", "mkdir -p /data/sub && head -c 20000000 /dev/urandom >/data/sub/file && chown 1234:5678 /data/sub/file && chmod 0640 /data/sub/file")
	digest := func() string {
		t.Helper()
		return kubectl("exec", "-n", "toy", "deployment/toy", "--", "sh", "-c", "sha256sum /data/sub/file; stat -c '%u:%g %a' /data/sub/file")
	}
	before := digest()
	volume := kubectl("get", "pvc", "-n", "toy", "data", "-o", "jsonpath={.spec.volumeName}")
	if path := kubectl("get", "pv", volume, "-o", "jsonpath={.spec.local.path}"); path == "" {
		t.Fatal("the volume is not of the type local: Velero skips it")
	}

	kubectlApply(t, ctx, h, `{"apiVersion":"velero.io/v1","kind":"Backup","metadata":{"name":"toy","namespace":"velero"},"spec":{"includedNamespaces":["toy"]}}`)
	waitDone("backup", "toy", "{.status.phase} {.status.errors} {.status.warnings}")
	if volumes := kubectl("get", "podvolumebackups", "-n", "velero", "-l", "velero.io/backup-name=toy", "-o", "jsonpath={range .items[*]}{.spec.volume}={.status.phase} {end}"); volumes != "data=Completed" {
		t.Fatalf("the volumes in the backup are %q", volumes)
	}
	kubectl("delete", "namespace", "toy", "--timeout=5m")
	kubectlApply(t, ctx, h, `{"apiVersion":"velero.io/v1","kind":"Restore","metadata":{"name":"toy","namespace":"velero"},"spec":{"backupName":"toy"}}`)
	waitDone("restore", "toy", "{.status.phase} {.status.errors}") // Kubernetes has created the ConfigMap kube-root-ca.crt again: a warning
	kubectl("rollout", "status", "-n", "toy", "deployment/toy", "--timeout=5m")
	if after := digest(); after != before {
		t.Errorf("restored %s, was %s", after, before)
	}
}
