//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/internal/pki"
)

// storeSize is the size of the file system of the object store, of which a test fills the rest.
const storeSize = "500m"

// TestSnapshots_Faults breaks the store of snapshots, Velero and the pods of an application: each fault has to be in the status,
// in the words of its cause, and gone after its fix. Backups of the control plane go to the same store.
func TestSnapshots_Faults(t *testing.T) {
	if testing.Short() {
		t.Skip("it installs a cluster of its own")
	}
	runParallel(t)
	ctx := timeoutContext(t, 60)
	c := snapshotCluster{Host: startHostWithPlinth(t, "faults"), bundle: "/srv/snapshots.bundle"}
	c.Copy(buildWithVelero(t), c.bundle)
	c.MustRun(ctx, "mkdir", snapshotFolder)
	c.MustRun(ctx, "mount", "-t", "tmpfs", "-o", "mode=0700,size="+storeSize, "none", snapshotFolder)
	runPlinth(t, ctx, c.Host, 0, "install", "--bundle", c.bundle, "--yes")
	kubectlApply(t, ctx, c.Host, volumeWorkload("toy", "1Gi"))
	c.kubectl(t, ctx, "rollout", "status", "-n", "toy", "deployment/toy", "--timeout=5m")
	c.kubectl(t, ctx, "exec", "-n", "toy", "deployment/toy", "--", "sh", "-c", "head -c 100000000 /dev/urandom >/data/file")
	t.Cleanup(func() {
		if t.Failed() {
			for _, args := range []string{"get backups,podvolumebackups,backupstoragelocations -n velero -o yaml", "logs -n velero deployment/velero --tail=80"} {
				out, errs, _ := c.Run(ctx, append([]string{binary, "kubectl"}, strings.Fields(args)...)...)
				t.Log(args+"\n", lastLines(out, 200), errs)
			}
		}
	})

	t.Run("the control plane to the store", func(t *testing.T) { c.checkControlPlaneToStore(t, ctx) })
	t.Run("wrong credentials", func(t *testing.T) {
		wrong := base64.StdEncoding.EncodeToString([]byte("[default]\naws_access_key_id = unknown-key\naws_secret_access_key = wrong\n"))
		c.kubectl(t, ctx, "patch", "secret", "-n", "velero", "cloud-credentials", "--type=merge", "-p", `{"data":{"cloud":"`+wrong+`"}}`)
		c.kubectl(t, ctx, "delete", "pod", "-n", "velero", "-l", "deploy=velero", "--now") // kubelet updates the file after a minute or more
		c.checkLocation(t, ctx, "Unavailable", "unknown-key", "AdminUserNotFound", "InvalidAccessKeyId", "403")
		c.fixByInstall(t, ctx)
	})
	t.Run("an unknown authority", func(t *testing.T) {
		other, err := pki.NewCA("other", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		c.kubectl(t, ctx, "patch", "backupstoragelocation", "-n", "velero", "default", "--type=merge",
			"-p", `{"spec":{"objectStorage":{"caCert":"`+base64.StdEncoding.EncodeToString(other.Cert)+`"}}}`)
		c.checkLocation(t, ctx, "Unavailable", "certificate signed by unknown authority")
		c.fixByInstall(t, ctx)
	})
	t.Run("the store is away", func(t *testing.T) { c.checkStoreAway(t, ctx) })
	t.Run("half a snapshot", func(t *testing.T) { c.checkHalfSnapshot(t, ctx) })
	t.Run("the store is full", func(t *testing.T) { c.checkFullStore(t, ctx) })
	t.Run("a volume whose pod is gone", func(t *testing.T) { c.checkPodGone(t, ctx) })
	t.Run("a backup of the control plane that is killed", func(t *testing.T) { checkKilledBackup(t, ctx, c.ForTest(t)) })
}

// checkLocation waits until the location of snapshots is in a phase, and fails unless the status has one of the causes.
func (c snapshotCluster) checkLocation(t *testing.T, ctx context.Context, phase string, causes ...string) {
	t.Helper()
	waitForOutput(t, ctx, c.ForTest(t), 5*time.Minute, phase+" location", func(out string) bool { return out == phase },
		binary, "kubectl", "get", "backupstoragelocation", "-n", "velero", "default", "-o", "jsonpath={.status.phase}")
	out := c.ForTest(t).MustRun(ctx, binary, "status")
	if warned := strings.Contains(out, "until it is available, snapshots fail"); warned != (phase != "Available") {
		t.Errorf("the status of a location that is %s: %s", phase, out)
	}
	for _, cause := range causes {
		if strings.Contains(out, cause) {
			return
		}
	}
	if len(causes) > 0 {
		t.Errorf("none of %q is in %s", causes, out)
	}
}

// fixByInstall installs the same bundle again, which restores the location and its credentials.
func (c snapshotCluster) fixByInstall(t *testing.T, ctx context.Context) {
	t.Helper()
	runPlinth(t, ctx, c.ForTest(t), 0, "install", "--bundle", c.bundle, "--yes")
	c.checkLocation(t, ctx, "Available")
}

// snapshot takes a snapshot of the toy application and returns its phase.
func (c snapshotCluster) snapshot(t *testing.T, ctx context.Context, name string) string {
	t.Helper()
	c.startSnapshot(t, ctx, name)
	return c.waitForSnapshot(t, ctx, name)
}

// startSnapshot starts a snapshot of the toy application.
func (c snapshotCluster) startSnapshot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	kubectlApply(t, ctx, c.ForTest(t), `{"apiVersion":"velero.io/v1","kind":"Backup","metadata":{"name":"`+name+`","namespace":"velero"},
		"spec":{"includedNamespaces":["toy"]}}`)
}

// waitForSnapshot waits until a snapshot has ended, and returns its phase.
func (c snapshotCluster) waitForSnapshot(t *testing.T, ctx context.Context, name string) string {
	t.Helper()
	return waitForOutput(t, ctx, c.ForTest(t), 10*time.Minute, "end of the snapshot "+name,
		func(out string) bool { return strings.Contains(out, "Failed") || out == "Completed" },
		binary, "kubectl", "get", "backup", "-n", "velero", name, "-o", "jsonpath={.status.phase}")
}

// checkStoreAway stops the store: snapshots fail at once, and so do backups of the control plane.
func (c snapshotCluster) checkStoreAway(t *testing.T, ctx context.Context) {
	c.kubectl(t, ctx, "scale", "-n", "velero", "deployment/object-store", "--replicas=0")
	c.checkLocation(t, ctx, "Unavailable")
	if phase := c.snapshot(t, ctx, "away"); phase != "FailedValidation" {
		t.Errorf("the snapshot is %s", phase)
	}
	checkStatusText(t, ctx, c.ForTest(t), "the snapshot away failed at", "Unavailable status")
	c.checkBackupToStore(t, ctx, 2, "cannot be reached", c.storeFlags(t, ctx)...)
	c.kubectl(t, ctx, "scale", "-n", "velero", "deployment/object-store", "--replicas=1")
	c.kubectl(t, ctx, "rollout", "status", "-n", "velero", "deployment/object-store", "--timeout=3m")
	c.checkLocation(t, ctx, "Available")
	c.checkGoodSnapshot(t, ctx, "back")
}

// checkGoodSnapshot takes a snapshot that must be complete, after which the status has no warning of snapshots.
func (c snapshotCluster) checkGoodSnapshot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	if phase := c.snapshot(t, ctx, name); phase != "Completed" {
		t.Fatalf("the snapshot %s is %s", name, phase)
	}
	checkStatusText(t, ctx, c.ForTest(t), "Last snapshot:", name)
	if out := c.ForTest(t).MustRun(ctx, binary, "status"); strings.Contains(out, "the snapshot ") || strings.Contains(out, "has no data") {
		t.Errorf("the status still warns: %s", out)
	}
}

// checkHalfSnapshot ends Velero in the middle of a snapshot: it has failed, and the next one is good.
func (c snapshotCluster) checkHalfSnapshot(t *testing.T, ctx context.Context) {
	c.startSnapshot(t, ctx, "half")
	waitForOutput(t, ctx, c.ForTest(t), time.Minute, "running snapshot", func(out string) bool { return out == "InProgress" },
		binary, "kubectl", "get", "backup", "-n", "velero", "half", "-o", "jsonpath={.status.phase}")
	c.kubectl(t, ctx, "delete", "pod", "-n", "velero", "-l", "deploy=velero", "--now")
	if phase := c.waitForSnapshot(t, ctx, "half"); phase != "Failed" {
		t.Errorf("the snapshot is %s", phase)
	}
	checkStatusText(t, ctx, c.ForTest(t), "the snapshot half failed at", "InProgress")
	c.checkGoodSnapshot(t, ctx, "whole")
}

// checkFullStore fills the file system of the store: the snapshot of new data fails, and works after space was made.
func (c snapshotCluster) checkFullStore(t *testing.T, ctx context.Context) {
	h := c.ForTest(t)
	h.MustRun(ctx, "sh", "-c", "dd if=/dev/zero of="+snapshotFolder+"/filler bs=1M 2>/dev/null; truncate -s -8M "+snapshotFolder+"/filler")
	c.kubectl(t, ctx, "exec", "-n", "toy", "deployment/toy", "--", "sh", "-c", "head -c 60000000 /dev/urandom >/data/more")
	if phase := c.snapshot(t, ctx, "full"); phase != "PartiallyFailed" && phase != "Failed" {
		t.Errorf("the snapshot is %s", phase)
	}
	checkStatusText(t, ctx, h, "the snapshot full failed at")
	h.MustRun(ctx, "sh", "-c", "dd if=/dev/zero of="+snapshotFolder+"/filler2 bs=1M 2>/dev/null || true")
	if r := c.backupToStore(t, ctx, 7, c.storeFlags(t, ctx)...); r.Error == nil || !strings.Contains(r.Error.Hint, "the free space of its disk") {
		t.Errorf("%+v", r.Error)
	}
	h.MustRun(ctx, "sh", "-c", "rm "+snapshotFolder+"/filler*")
	c.checkGoodSnapshot(t, ctx, "space")
}

// checkPodGone stops the pod of a volume: Velero calls the snapshot without its data complete, and the status names the claim.
func (c snapshotCluster) checkPodGone(t *testing.T, ctx context.Context) {
	c.kubectl(t, ctx, "scale", "-n", "toy", "deployment/toy", "--replicas=0")
	c.kubectl(t, ctx, "wait", "-n", "toy", "--for=delete", "pod", "-l", "app=toy", "--timeout=2m")
	if phase := c.snapshot(t, ctx, "empty"); phase != "Completed" {
		t.Errorf("the snapshot is %s", phase)
	}
	checkStatusText(t, ctx, c.ForTest(t), "the last snapshot, empty, has no data of the claims toy/data: their pods did not run")
	c.kubectl(t, ctx, "scale", "-n", "toy", "deployment/toy", "--replicas=1")
	c.kubectl(t, ctx, "rollout", "status", "-n", "toy", "deployment/toy", "--timeout=2m")
	c.checkGoodSnapshot(t, ctx, "with-pod")
}

// storeFlags returns the flags for the object store, with its authority and its credentials in files.
func (c snapshotCluster) storeFlags(t *testing.T, ctx context.Context) []string {
	t.Helper()
	h := c.ForTest(t)
	h.MustRun(ctx, "sh", "-c", "umask 077; cd /root; "+
		binary+" kubectl get secret -n velero cloud-credentials -o go-template='{{.data.cloud | base64decode}}' >credentials; "+
		binary+" kubectl get backupstoragelocation -n velero default -o jsonpath='{.spec.objectStorage.caCert}' | base64 -d >store-ca.pem")
	url := c.kubectl(t, ctx, "get", "backupstoragelocation", "-n", "velero", "default", "-o", "jsonpath={.spec.config.s3Url}")
	return []string{"--s3-endpoint", url, "--s3-ca-file", "/root/store-ca.pem", "--s3-credentials-file", "/root/credentials"}
}

// backupToStore writes a backup of the control plane to the bucket backups, and must exit with code.
func (c snapshotCluster) backupToStore(t *testing.T, ctx context.Context, code int, flags ...string) reply {
	t.Helper()
	return runPlinth(t, ctx, c.ForTest(t), code, append([]string{"backup", "--to", "s3://backups/my-app", "--unencrypted"}, flags...)...)
}

// checkBackupToStore fails unless a backup of the control plane is refused because of text.
func (c snapshotCluster) checkBackupToStore(t *testing.T, ctx context.Context, code int, text string, flags ...string) {
	t.Helper()
	if r := c.backupToStore(t, ctx, code, flags...); r.Error == nil || !strings.Contains(r.Error.Cause, text) {
		t.Errorf("%q is missing in %+v", text, r.Error)
	}
}

// checkControlPlaneToStore writes a backup of the control plane to the store, with its real server, and verifies it there. What
// the store refuses is refused in words.
func (c snapshotCluster) checkControlPlaneToStore(t *testing.T, ctx context.Context) {
	h := c.ForTest(t)
	flags := c.storeFlags(t, ctx)
	c.checkBackupToStore(t, ctx, 2, "it has no such bucket", flags...)
	h.MustRun(ctx, "sh", "-c", "cd "+snapshotFolder+"/objects && mkdir backups && chown --reference=snapshots backups")
	c.backupToStore(t, ctx, 0, flags...)
	list := h.MustRun(ctx, append([]string{binary, "backup", "list", "s3://backups/my-app"}, flags...)...)
	var object string
	for _, word := range strings.Fields(list) {
		if strings.HasPrefix(word, "s3://") {
			object = word
		}
	}
	runPlinth(t, ctx, h, 0, append([]string{"backup", "verify", object}, flags...)...)
	checkStatusText(t, ctx, h, "Last backup:", object)

	h.MustRun(ctx, "sh", "-c", "umask 077; sed 's/^aws_secret_access_key.*/aws_secret_access_key = another-key/' /root/credentials >/root/wrong")
	c.checkBackupToStore(t, ctx, 2, "the secret key is wrong", append(flags[:4:4], "--s3-credentials-file", "/root/wrong")...)
	c.checkBackupToStore(t, ctx, 2, "authority that this host does not know", append(flags[:2:2], flags[4:]...)...)
	checkStatusText(t, ctx, h, "the last backup of the control plane failed at", "Last backup:")
	c.backupToStore(t, ctx, 0, flags...)
	file := snapshotFolder + "/objects/backups/" + strings.TrimPrefix(object, "s3://backups/")
	h.MustRun(ctx, "sh", "-c", "printf x | dd of="+file+" bs=1 seek=9000 conv=notrunc")
	r := runPlinth(t, ctx, h, 6, append([]string{"backup", "verify", object}, flags...)...)
	if r.Error == nil || !strings.Contains(r.Error.Cause, "it is damaged") {
		t.Errorf("%+v", r.Error)
	}
}

// checkKilledBackup kills a backup of the control plane at each step: what it leaves is a complete backup or none, and the next
// one is good.
func checkKilledBackup(t *testing.T, ctx context.Context, h *lab.Host) {
	const folder = "/root/killed"
	h.MustRun(ctx, "mkdir", folder)
	backup := []string{"backup", "--to", folder, "--unencrypted", "--keep", "2"}
	for _, point := range []string{"backup-etcd:begun", "backup-etcd:applied", "backup-write:begun", "backup-write:applied",
		"backup-verify:applied", "backup-keep:begun"} {
		kill(t, ctx, h, "backup/"+point, backup...)
		for _, file := range strings.Fields(h.MustRun(ctx, "sh", "-c", "ls "+folder+"/*.plinth-backup 2>/dev/null || true")) {
			runPlinth(t, ctx, h, 0, "backup", "verify", file)
		}
		h.MustRun(ctx, "sleep", "1") // names have seconds
	}
	runPlinth(t, ctx, h, 0, backup...)
	files := strings.Fields(h.MustRun(ctx, "sh", "-c", "ls -A "+folder))
	if _, _, code := h.Run(ctx, "test", "-e", "/var/lib/plinth/backup"); code == 0 || len(files) != 2 {
		t.Errorf("the copy of etcd is left, or the folder has %q", files)
	}
	checkStatusText(t, ctx, h, fmt.Sprintf("%s/%s", folder, files[len(files)-1]))
}
