//go:build bench

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
)

// snapshotMB is the size of the data in the volume that is backed up.
const snapshotMB = 1000

// backupRounds is how often a snapshot of new data is measured: the times of Velero are whole seconds, so that the table has means.
const backupRounds = 3

// TestBench_BackupAgainstKopia measures a snapshot of a volume of 1 GB, the same once more without a change, and kopia alone with
// the same files and the same object store; and a backup of the control plane. It prints a table, and fails only if a backup is
// not complete: the figures have no limits.
func TestBench_BackupAgainstKopia(t *testing.T) {
	ctx := timeoutContext(t, 50)
	program := buildKopia(t, ctx)
	h := newBenchHost(t, "backup")
	h.Copy(buildWithVelero(t), bundle)
	h.Copy(program, "/root/kopia")
	h.MustRun(ctx, binary, "install", "--yes", "--bundle", bundle)
	startBenchWorkload(t, ctx, h)

	var first snapshotTimes
	var alone time.Duration
	empty := bytesInStore(t, ctx, h)
	for round := range backupRounds {
		writeBenchData(t, ctx, h)
		took := measureSnapshot(t, ctx, h, fmt.Sprint("first-", round))
		first.whole, first.volume, first.copied = first.whole+took.whole/backupRounds, first.volume+took.volume/backupRounds, first.copied+took.copied/backupRounds
		alone += measureKopia(t, ctx, h, fmt.Sprint("kopia-", round)) / backupRounds
	}
	afterFirst := bytesInStore(t, ctx, h)
	second := measureSnapshot(t, ctx, h, "second")
	afterSecond := bytesInStore(t, ctx, h)
	start := time.Now()
	h.MustRun(ctx, binary, "backup", "--to", "/root/control-plane", "--unencrypted")
	controlPlane := time.Since(start)

	ratio := func(took time.Duration) string { return fmt.Sprintf("%.2f", alone.Seconds()/took.Seconds()) }
	var b strings.Builder
	fmt.Fprintf(&b, "| what | kopia alone | plinth | speed ratio | aim |\n| --- | --- | --- | --- | --- |\n")
	fmt.Fprintf(&b, "| data of a volume of %d MB | %s | %s | %s | 0.70 |\n", snapshotMB, formatSeconds(alone), formatSeconds(first.copied), ratio(first.copied))
	fmt.Fprintf(&b, "| with the start and the end of the pod that reads it | %s | %s | %s | |\n", formatSeconds(alone), formatSeconds(first.volume), ratio(first.volume))
	fmt.Fprintf(&b, "| whole snapshot with it | %s | %s | %s | |\n", formatSeconds(alone), formatSeconds(first.whole), ratio(first.whole))
	fmt.Fprintf(&b, "| the same again, time | | %s | | |\n", formatSeconds(second.whole))
	stored := (afterFirst - empty) / backupRounds
	fmt.Fprintf(&b, "| the same again, stored bytes | | %.2f %% of %d MB | | 5 %% |\n", 100*float64(afterSecond-afterFirst)/float64(stored), stored/1e6)
	fmt.Fprintf(&b, "| backup of the control plane | | %s | | 5 s |\n", formatSeconds(controlPlane))
	t.Logf("\n%s", b.String())
}

// buildKopia builds the kopia of the Velero in the payload, and returns the path of the program. The modules have to be in the
// cache, where the build of the payload has put them.
func buildKopia(t *testing.T, ctx context.Context) string {
	t.Helper()
	dir := t.TempDir()
	for from, to := range map[string]string{"../distro/velero/go.mod": "go.mod", "../distro/velero/go.sum": "go.sum", "testdata/kopia/main.go": "main.go"} {
		raw, err := os.ReadFile(from)
		if err == nil {
			text := strings.Replace(string(raw), "module github.com/vmware-tanzu/velero\n", "module kopia\n", 1)
			err = os.WriteFile(filepath.Join(dir, to), []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-mod=mod", "-o", "kopia", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOPROXY=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return filepath.Join(dir, "kopia")
}

// startBenchWorkload starts the pod with the volume.
func startBenchWorkload(t *testing.T, ctx context.Context, h *lab.Host) {
	t.Helper()
	kubectl := []string{binary, "kubectl"}
	kubectlApply(t, ctx, h, volumeWorkload("bench", "2Gi"))
	h.MustRun(ctx, append(kubectl, "rollout", "status", "-n", "bench", "deployment/bench", "--timeout=5m")...)
}

// writeBenchData writes files that cannot be compressed to the volume.
func writeBenchData(t *testing.T, ctx context.Context, h *lab.Host) {
	t.Helper()
	h.MustRun(ctx, append([]string{binary, "kubectl"}, "exec", "-n", "bench", "deployment/bench", "--", "sh", "-c",
		fmt.Sprintf("for i in 0 1 2 3 4 5 6 7 8 9; do head -c %d000000 /dev/urandom >/data/$i; done; sync", snapshotMB/10))...)
}

// bytesInStore returns the size of what the object store has.
func bytesInStore(t *testing.T, ctx context.Context, h *lab.Host) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.Fields(h.MustRun(ctx, "du", "-sb", snapshotFolder+"/objects/snapshots"))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// snapshotTimes are the times of a snapshot, of the volume in it, and of the data of the volume. Velero's pod for a volume waits
// before it copies, and for a second when it has (Velero 1.18.3, pkg/cmd/cli/podvolume/backup.go).
type snapshotTimes struct{ whole, volume, copied time.Duration }

// measureSnapshot takes a snapshot, which must be complete. The times of Velero are whole seconds.
func measureSnapshot(t *testing.T, ctx context.Context, h *lab.Host, name string) (took snapshotTimes) {
	t.Helper()
	manifest := `{"apiVersion":"velero.io/v1","kind":"Backup","metadata":{"name":"` + name + `","namespace":"velero"},"spec":{"includedNamespaces":["bench"]}}`
	start := time.Now()
	kubectlApply(t, ctx, h, manifest)
	took.whole = waitUntil(t, ctx, h, start, binary+" kubectl get backup -n velero "+name+" -o jsonpath='{.status.phase}' | grep -qE 'Completed|Failed'")
	var volumes struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Phase                               string
				StartTimestamp, CompletionTimestamp time.Time
				Progress                            struct{ BytesDone int64 }
			}
		}
	}
	raw := h.MustRun(ctx, binary, "kubectl", "get", "podvolumebackups", "-n", "velero", "-l", "velero.io/backup-name="+name, "-o", "json")
	if err := json.Unmarshal([]byte(raw), &volumes); err != nil || len(volumes.Items) != 1 || volumes.Items[0].Status.Phase != "Completed" {
		t.Fatalf("the volumes in the snapshot %s are %+v, %v", name, volumes, err)
	}
	status := volumes.Items[0].Status
	if phase := h.MustRun(ctx, binary, "kubectl", "get", "backup", "-n", "velero", name, "-o", "jsonpath={.status.phase}"); phase != "Completed" {
		t.Fatalf("the snapshot %s is %s", name, phase)
	}
	took.volume = max(status.CompletionTimestamp.Sub(status.StartTimestamp), time.Second)
	took.copied = dataPathTime(t, ctx, h, volumes.Items[0].Metadata.Name)
	t.Logf("%s: %s, its volume %s, its data %s, %d MB", name, took.whole, took.volume, took.copied, status.Progress.BytesDone/1e6)
	return took
}

// dataPathTime returns the time between Velero's events about the begin and the end of the copy of a volume.
func dataPathTime(t *testing.T, ctx context.Context, h *lab.Host, volume string) time.Duration {
	t.Helper()
	at := func(reason string) time.Time {
		out := h.MustRun(ctx, binary, "kubectl", "get", "events", "-n", "velero", "--field-selector", "involvedObject.name="+volume+",reason="+reason,
			"-o", "jsonpath={.items[0].firstTimestamp}")
		when, err := time.Parse(time.RFC3339, strings.TrimSpace(out))
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	return max(at("Data-Path-Completed").Sub(at("Data-Path-Started")), time.Second)
}

// measureKopia backs the same files up with kopia alone, to a new bucket of the same object store.
func measureKopia(t *testing.T, ctx context.Context, h *lab.Host, bucket string) time.Duration {
	t.Helper()
	h.MustRun(ctx, "sh", "-c", "cd "+snapshotFolder+"/objects && mkdir "+bucket+" && chown --reference=snapshots "+bucket)
	out := h.MustRun(ctx, "sh", "-euc", `kubectl="`+binary+` kubectl"
		$kubectl get backupstoragelocation -n velero default -o jsonpath='{.spec.objectStorage.caCert}' | base64 -d >/root/ca.pem
		url=$($kubectl get backupstoragelocation -n velero default -o jsonpath='{.spec.config.s3Url}')
		volume=$($kubectl get pvc -n bench data -o jsonpath='{.spec.volumeName}')
		folder=$($kubectl get pv $volume -o jsonpath='{.spec.local.path}')
		export AWS_ACCESS_KEY_ID=$($kubectl get secret -n velero object-store -o go-template='{{index .data "access-key-id" | base64decode}}')
		export AWS_SECRET_ACCESS_KEY=$($kubectl get secret -n velero object-store -o go-template='{{index .data "secret-access-key" | base64decode}}')
		/root/kopia ${url#https://} /root/ca.pem `+bucket+` $folder`)
	seconds, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil {
		t.Fatalf("kopia printed %q", out)
	}
	return time.Duration(seconds * float64(time.Second))
}
