//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/testapp"
)

// restoredFolder is where the store of the lost host is on the new one: not where its Installer says.
const restoredFolder = "/mnt/snapshots"

// TestRestore_Application loses the only host of a cluster with an application. A new host with another name and another
// address gets the console, the application and its data from the store with the snapshots, by one command that is killed
// several times.
func TestRestore_Application(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long loses hosts for good")
	}
	runParallel(t)
	ctx := timeoutContext(t, 50)
	a := startHostWithPlinth(t, "lost")
	const withVelero = "/srv/velero.bundle"
	local := buildWithVelero(t)
	a.Copy(local, withVelero)
	app := copyAppBundle(t, ctx, a, testapp.Release{VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: "1.131.2", Volume: true})
	password := runPlinth(t, ctx, a, 0, "install", "--bundle", withVelero, "--license", copyLicense(t, a), "--app-bundle", app, "--yes").Result.Password
	writeAppData(t, ctx, a, "kotsadm")
	before := appData(t, ctx, a, "kotsadm")
	snapshot := takeSnapshot(t, ctx, a, "kotsadm")

	n := startHostWithPlinth(t, "fresh")
	n.Copy(local, withVelero)
	args := []string{"restore", "--from", restoredFolder, "--bundle", withVelero, "--yes"}
	t.Run("a store is refused by name", func(t *testing.T) { checkStoreRefusals(t, ctx, a.ForTest(t), n.ForTest(t), withVelero) })
	moveStore(t, ctx, a, n)

	t.Run("what does not fit is refused", func(t *testing.T) {
		n := n.ForTest(t)
		checkRestoreRefusal(t, ctx, n, 2, "there is no snapshot other", append(args, "--snapshot", "other")...)
		checkRestoreRefusal(t, ctx, n, 2, "spec.velero is not in its Installer", "restore", "--from", restoredFolder, "--bundle", bundle, "--yes")
		if r := runPlinth(t, ctx, n, 0, append(args, "--plan")...); !planContains(r, "restore-registry", "restore-console", "restore-application") {
			t.Errorf("the plan is %+v", r.Result.Plan)
		}
		n.MustRun(ctx, "sh", "-c", "! test -e /etc/k0s/k0s.yaml && ! test -e /var/lib/k0s")
	})
	if t.Failed() {
		return
	}
	for _, point := range []string{"snapshot-location:applied", "restore-registry:applied", "restore-console:begun", "restore-application:begun"} {
		kill(t, ctx, n, "restore/"+point, args...)
		if point == "restore-console:begun" {
			killDuringRestore(t, ctx, n, snapshot+".kotsadm", args...)
		}
	}
	killDuringRestore(t, ctx, n, snapshot+".my-app", args...)
	r := runPlinth(t, ctx, n, 0, args...)
	if want := "https://" + n.IP() + ":8800"; r.Result.NewHost.ConsoleURL != want || r.Result.Snapshot.Name != snapshot {
		t.Errorf("%+v, want %s", r.Result, want)
	}

	t.Run("data equal, byte for byte", func(t *testing.T) {
		if after := appData(t, ctx, n.ForTest(t), "kotsadm"); after != before {
			t.Errorf("restored %s, was %s", after, before)
		}
	})
	t.Run("images come from the registry of the new cluster", func(t *testing.T) {
		if out := n.ForTest(t).MustRun(ctx, binary, "kubectl", "get", "deployment", "-n", "kotsadm", "hello", "-o", "wide"); !strings.Contains(out, ":5000/") {
			t.Error(out)
		}
	})
	t.Run("the console knows the password and the application", func(t *testing.T) {
		browseConsole(t, consoleSession{"https://" + n.IP() + ":8800", password}, "restored-snapshot", "Dashboard")
	})
	t.Run("a second restore is refused", func(t *testing.T) {
		checkRestoreRefusal(t, ctx, n.ForTest(t), 2, "this host has a cluster", args...)
	})
	t.Run("the new cluster takes snapshots", func(t *testing.T) { takeSnapshot(t, ctx, n.ForTest(t), "kotsadm") })
	t.Run("a second install changes nothing", func(t *testing.T) {
		if r := runPlinth(t, ctx, n.ForTest(t), 0, "install", "--bundle", withVelero, "--yes"); r.Result.Changed {
			t.Errorf("%+v", r.Result)
		}
	})
}

// TestRestore_KURLLayout restores a snapshot in the layout of those that KOTS takes in a kURL cluster, as far as that is
// possible without one: the console and the application are in the namespace default, and the store has no content of the registry. The
// images come from the application's .airgap file.
func TestRestore_KURLLayout(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long loses hosts for good")
	}
	runParallel(t)
	ctx := timeoutContext(t, 50)
	a, n := startHostWithPlinth(t, "kurl"), startHostWithPlinth(t, "plinth")
	const inDefault, inKotsadm = "/srv/default.bundle", "/srv/kotsadm.bundle"
	local := buildWithVelero(t, "    namespace: kotsadm", "    namespace: default")
	a.Copy(local, inDefault)
	n.Copy(local, inDefault)
	n.Copy(buildWithVelero(t), inKotsadm)
	release := testapp.Release{VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: newKOTSVersion, Volume: true}
	app := copyAppBundle(t, ctx, a, release)
	password := runPlinth(t, ctx, a, 0, "install", "--bundle", inDefault, "--license", copyLicense(t, a), "--app-bundle", app, "--yes").Result.Password
	writeAppData(t, ctx, a, "default")
	before := appData(t, ctx, a, "default")
	takeSnapshot(t, ctx, a, "default")
	moveStore(t, ctx, a, n)
	n.MustRun(ctx, "sh", "-c", "rm -r "+restoredFolder+"/objects/snapshots/backups/*-registry")
	app = copyAppBundle(t, ctx, n, release)

	args := []string{"restore", "--from", restoredFolder, "--yes", "--app-bundle", app, "--bundle"}
	checkRestoreRefusal(t, ctx, n, 2, "its console is in the namespace default", append(args, inKotsadm)...)
	kill(t, ctx, n, "restore/restore-images:applied", append(args, inDefault)...)
	r := runPlinth(t, ctx, n, 0, append(args, inDefault)...)
	if after := appData(t, ctx, n, "default"); after != before {
		t.Errorf("restored %s, was %s", after, before)
	}
	browseConsole(t, consoleSession{r.Result.NewHost.ConsoleURL, password}, "restored-kurl", "Dashboard")
}

// writeAppData writes a file to the volume of the application.
func writeAppData(t *testing.T, ctx context.Context, h *lab.Host, namespace string) {
	t.Helper()
	h.MustRun(ctx, binary, "kubectl", "exec", "-n", namespace, "deployment/hello", "--", "sh", "-c",
		"mkdir -p /data/sub && head -c 20000000 /dev/urandom >/data/sub/file && chown 1234:5678 /data/sub/file && chmod 0640 /data/sub/file")
}

// moveStore copies the files of the store of a to restoredFolder on n, and loses a.
func moveStore(t *testing.T, ctx context.Context, a, n *lab.Host) {
	t.Helper()
	store := filepath.Join(t.TempDir(), "store.tar")
	a.MustRun(ctx, "tar", "-C", snapshotFolder, "-cf", "/root/store.tar", ".")
	a.Fetch("/root/store.tar", store)
	a.Down()
	n.Copy(store, "/root/store.tar")
	n.MustRun(ctx, "sh", "-c", "mkdir "+restoredFolder+" && tar -C "+restoredFolder+" -xf /root/store.tar && rm /root/store.tar")
}

// planContains reports whether a plan has steps.
func planContains(r reply, ids ...string) bool {
	found := 0
	for _, p := range r.Result.Plan {
		for _, id := range ids {
			if p.Step == id {
				found++
			}
		}
	}
	return found == len(ids)
}

// appData returns the digest, the owner and the mode of the data of the application.
func appData(t *testing.T, ctx context.Context, h *lab.Host, namespace string) string {
	t.Helper()
	return h.MustRun(ctx, binary, "kubectl", "exec", "-n", namespace, "deployment/hello", "--", "sh", "-c", "sha256sum /data/sub/file; stat -c '%u:%g %a' /data/sub/file")
}

// killDuringRestore kills a restore with SIGKILL while Velero runs the restore object.
func killDuringRestore(t *testing.T, ctx context.Context, n *lab.Host, object string, args ...string) {
	t.Helper()
	script := `"$@" >/dev/null 2>&1 & pid=$!
		while kill -0 $pid 2>/dev/null; do
			if ` + binary + ` kubectl get restores.velero.io -n velero ` + object + ` >/dev/null 2>&1; then kill -9 $pid; wait $pid; exit 9; fi
			sleep 0.2
		done`
	began := time.Now()
	_, _, code := n.Run(ctx, append([]string{"sh", "-c", script, "sh", binary}, args...)...)
	t.Logf("killed during %s after %.0fs: exit %d", object, time.Since(began).Seconds(), code)
	if code != 9 {
		t.Errorf("the restore ended before %s was seen", object)
	}
}

// writeSecret writes a file on h that only root can read. Its content is in no argument.
func writeSecret(t *testing.T, ctx context.Context, h *lab.Host, path, content string) {
	t.Helper()
	_, stderr, code := h.Start(ctx, lab.Cmd{Args: []string{"sh", "-c", `umask 077 && cat >"$1"`, "sh", path}, Stdin: strings.NewReader(content)}).Wait()
	if code != 0 {
		t.Fatalf("writing %s: exit %d\n%s", path, code, stderr)
	}
}

// checkStoreRefusals uses the object store of a from n, a host outside of its cluster, and expects refusals before
// anything on n has changed.
func checkStoreRefusals(t *testing.T, ctx context.Context, a, n *lab.Host, bundle string) {
	secret := func(name, key string) string {
		return strings.TrimSpace(a.MustRun(ctx, "sh", "-c", binary+" kubectl get secret -n velero "+name+" -o jsonpath='{.data."+key+"}' | base64 -d"))
	}
	n.MustRun(ctx, "sh", "-c", "cat >/root/ca.pem <<'END'\n"+secret("object-store-ca", `tls\.crt`)+"\nEND")
	n.MustRun(ctx, "ip", "route", "add", "10.96.0.12/32", "via", a.IP())
	defer n.MustRun(ctx, "ip", "route", "del", "10.96.0.12/32")
	defer n.MustRun(ctx, "rm", "-f", "/root/credentials")
	id, key := secret("object-store", "access-key-id"), secret("object-store", "secret-access-key")
	for name, c := range map[string]struct{ id, key, endpoint, ca, from, want string }{
		"unreachable":       {id, key, "https://" + n.IP() + ":9", "/root/ca.pem", "s3://snapshots", "cannot be reached"},
		"unknown authority": {id, key, "https://10.96.0.12", "", "s3://snapshots", "authority that this host does not know"},
		"wrong secret key":  {id, "other", "https://10.96.0.12", "/root/ca.pem", "s3://snapshots", "the secret key is wrong"},
		"wrong access key":  {"other", key, "https://10.96.0.12", "/root/ca.pem", "s3://snapshots", "it does not know the access key"},
		"no such bucket":    {id, key, "https://10.96.0.12", "/root/ca.pem", "s3://missing", "it has no such bucket"},
		"this host itself":  {id, key, "https://127.0.0.1:7070", "/root/ca.pem", "s3://snapshots", "pods cannot reach 127.0.0.1:7070"},
		"":                  {id, key, "https://10.96.0.12", "/root/ca.pem", "s3://snapshots", ""},
	} {
		writeSecret(t, ctx, n, "/root/credentials", fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", c.id, c.key))
		args := []string{binary, "-o", "json", "restore", "--from", c.from, "--s3-endpoint", c.endpoint, "--s3-credentials-file", "/root/credentials", "--bundle", bundle, "--plan",
			"--ignore-host-preflight", "cidr-services"} // the route to the store
		if c.ca != "" {
			args = append(args, "--s3-ca-file", c.ca)
		}
		stdout, stderr, code := n.Run(ctx, args...)
		switch r := parseReply(t, stdout); {
		case c.want == "" && (code != 0 || !planContains(r, "restore-credentials", "restore-location", "restore-console")):
			t.Errorf("a store that can be used: exit %d, %+v\n%s", code, r.Error, lastLines(stderr, 10))
		case c.want != "" && (code != 2 || r.Error == nil || !strings.Contains(r.Error.Cause, c.want)):
			t.Errorf("%s: exit %d, %+v", name, code, r.Error)
		}
		if strings.Contains(stdout+stderr, key) {
			t.Errorf("%s: the secret key is in the output", name)
		}
	}
	n.MustRun(ctx, "sh", "-c", "! test -e /etc/k0s/k0s.yaml && ! test -e /var/lib/k0s")
}
