//go:build e2e

package e2e

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/plinthdev/plinth/e2e/lab"
)

// TestRestore_ControlPlane has three controllers and a worker, and loses two controllers for good: once the
// survivor uses its own data, and once a backup. Pods on the worker must keep running.
func TestRestore_ControlPlane(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long loses controllers for good")
	}
	runParallel(t)
	ctx := timeoutContext(t, 40)
	a, w := startHostWithPlinth(t, "a"), startHostWithPlinth(t, "w")
	runPlinth(t, ctx, a, 0, "install", "--bundle", bundle, "--yes")
	joinHost(t, ctx, w, 0, createToken(t, ctx, a, "--role", "worker").Result.Token, "--bundle", bundle)
	joinControllers := func(names ...string) (all []*lab.Host) {
		token := createToken(t, ctx, a, "--role", "controller", "--uses", "2").Result.Token
		for _, name := range names {
			h := startHostWithPlinth(t, name)
			joinHost(t, ctx, h, 0, token, "--bundle", bundle)
			all = append(all, h)
		}
		waitForStatus(t, ctx, a, 3*time.Minute, strings.Join(names, " and ")+" have joined", allReady(4, 3))
		return all
	}
	lost := joinControllers("c", "d")
	startSleeper(t, ctx, a, w)

	t.Run("a backup is written, verified and restored nowhere else", func(t *testing.T) { checkBackup(t, ctx, a.ForTest(t), w.ForTest(t)) })
	t.Run("a survivor with its own data", func(t *testing.T) {
		a.MustRun(ctx, binary, "kubectl", "create", "configmap", "own")
		loseControllers(t, ctx, a.ForTest(t), lost...)
		before := sleeperState(t, ctx, w)
		killAndResume(t, ctx, a, "restore", "--from-this-node", "--remove-lost-controllers", "--yes")
		checkRestored(t, ctx, a.ForTest(t), w.ForTest(t), before)
		a.MustRun(ctx, binary, "kubectl", "get", "configmap", "own")
	})
	if t.Failed() {
		return
	}
	lost = joinControllers("f", "g")
	t.Run("a survivor with a backup", func(t *testing.T) {
		identity := newIdentity(t)
		a.MustRun(ctx, "sh", "-c", "umask 077; echo '"+identity.String()+"' > /root/key.txt")
		a.MustRun(ctx, binary, "kubectl", "create", "configmap", "before")
		runPlinth(t, ctx, a, 0, "backup", "--to", "/root/second", "--recipient", identity.Recipient().String())
		a.MustRun(ctx, binary, "kubectl", "create", "configmap", "after")
		loseControllers(t, ctx, a.ForTest(t), lost...)
		before := sleeperState(t, ctx, w)
		a.MustRun(ctx, "sh", "-c", "cp /root/second /root/damaged && printf x | dd of=/root/damaged bs=1 seek=9000 conv=notrunc")
		if r := runPlinth(t, ctx, a, 6, "restore", "--control-plane", "/root/damaged", "--identity-file", "/root/key.txt",
			"--yes"); r.Error == nil || !strings.Contains(r.Error.Cause, "it is damaged") {
			t.Errorf("%+v", r.Error)
		}
		killAndResume(t, ctx, a, "restore", "--control-plane", "/root/second", "--identity-file", "/root/key.txt", "--remove-lost-controllers", "--yes")
		checkRestored(t, ctx, a.ForTest(t), w.ForTest(t), before)
		a.MustRun(ctx, binary, "kubectl", "get", "configmap", "before")
		if _, _, code := a.Run(ctx, binary, "kubectl", "get", "configmap", "after"); code == 0 {
			t.Error("what was written after the backup exists")
		}
	})
}

// TestRestore_NewHost has a controller and a worker, and loses the controller for good. A new host with another name and
// another address gets the control plane of a backup; the worker joins again, and its pods keep running meanwhile.
func TestRestore_NewHost(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long loses controllers for good")
	}
	ctx := timeoutContext(t, 40)
	a, w := startHostWithPlinth(t, "a"), startHostWithPlinth(t, "w")
	password := runPlinth(t, ctx, a, 0, "install", "--bundle", bundle, "--yes").Result.Password
	joinHost(t, ctx, w, 0, createToken(t, ctx, a, "--role", "worker").Result.Token, "--bundle", bundle)
	waitForStatus(t, ctx, a, 3*time.Minute, "the worker has joined", allReady(2, 1))
	startSleeper(t, ctx, a, w)
	a.MustRun(ctx, binary, "kubectl", "create", "configmap", "marker", "--from-literal=key=value")
	a.MustRun(ctx, binary, "kubectl", "create", "secret", "generic", "marker", "--from-literal=key=secret")

	identity := newIdentity(t)
	runPlinth(t, ctx, a, 0, "backup", "--to", "/root/b.plinth-backup", "--recipient", identity.Recipient().String())
	file := filepath.Join(t.TempDir(), "b.plinth-backup")
	a.Fetch("/root/b.plinth-backup", file)
	before, lost := sleeperState(t, ctx, w), a.IP()
	n := startHostWithPlinth(t, "n")
	n.Copy(file, "/root/b.plinth-backup")
	n.MustRun(ctx, "sh", "-c", "umask 077; echo '"+identity.String()+"' > /root/key.txt")
	args := []string{"restore", "--control-plane", "/root/b.plinth-backup", "--identity-file", "/root/key.txt", "--bundle", bundle, "--yes"}

	t.Run("a controller that runs is not lost", func(t *testing.T) {
		checkRestoreRefusal(t, ctx, n.ForTest(t), 2, "answers", args...)
	})
	a.Down()
	t.Run("what does not fit is refused", func(t *testing.T) {
		n := n.ForTest(t)
		n.MustRun(ctx, "sh", "-c", "cp /root/b.plinth-backup /root/damaged && printf x | dd of=/root/damaged bs=1 seek=9000 conv=notrunc")
		checkRestoreRefusal(t, ctx, n, 6, "it is damaged", "restore", "--control-plane", "/root/damaged", "--identity-file", "/root/key.txt", "--bundle", bundle, "--yes")
		checkRestoreRefusal(t, ctx, n, 2, "the data folder of the cluster is", append(args, "--data-dir", "/srv/plinth")...)
		checkRestoreRefusal(t, ctx, w.ForTest(t), 2, "this host has a cluster", args...)
	})
	if t.Failed() {
		return
	}
	killNewHost(t, ctx, n, args...)
	waitForStatus(t, ctx, n, time.Minute, "the new host is the only controller", func(v clusterStatus) bool { return len(v.API) == 1 && len(v.Etcd) == 1 })
	if got := n.MustRun(ctx, binary, "kubectl", "get", "configmap", "marker", "-o", "jsonpath={.data.key}"); got != "value" {
		t.Errorf("the marker has %q", got)
	}
	if got := n.MustRun(ctx, binary, "kubectl", "get", "secret", "marker", "-o", "jsonpath={.data.key}"); got != "c2VjcmV0" {
		t.Errorf("the marker Secret has %q", got)
	}
	if out := n.MustRun(ctx, binary, "kubectl", "get", "nodes", "-o", "wide"); strings.Contains(out, lost) {
		t.Errorf("the lost controller is still there:\n%s", out)
	}

	t.Run("the worker comes back with its pods", func(t *testing.T) {
		n, w := n.ForTest(t), w.ForTest(t)
		r, _ := joinHost(t, ctx, w, 0, createToken(t, ctx, n, "--role", "worker").Result.Token)
		if !r.Result.Changed {
			t.Error("the join has changed nothing")
		}
		checkRestored(t, ctx, n, w, before)
	})
	t.Run("the console", func(t *testing.T) {
		browseConsole(t, consoleSession{"https://" + n.IP() + ":8800", password}, "restored", "license")
	})
	t.Run("the host can be reset", func(t *testing.T) {
		n := n.ForTest(t)
		n.MustRun(ctx, binary, "kubectl", "delete", "pod", "sleeper", "--now")
		runPlinth(t, ctx, w.ForTest(t), 0, "reset", "node", "--yes", "--delete-data")
		runPlinth(t, ctx, n, 0, "reset", "cluster", "--yes", "--cluster", "my-app")
	})
}

// checkRestoreRefusal runs a command that must exit with code, because of text.
func checkRestoreRefusal(t *testing.T, ctx context.Context, h *lab.Host, code int, text string, args ...string) {
	t.Helper()
	if r := runPlinth(t, ctx, h, code, args...); r.Error == nil || !strings.Contains(r.Error.Cause, text) {
		t.Errorf("%q is missing in %+v", text, r.Error)
	}
}

// killNewHost kills a restore on a new host at its decisive points, and runs it to its end.
func killNewHost(t *testing.T, ctx context.Context, n *lab.Host, args ...string) {
	t.Helper()
	for _, point := range []string{"restore-keys:applied", "restore-etcd:begun", "restore-etcd:applied", "k0s-start:applied", "restore-lost:applied"} {
		kill(t, ctx, n, "restore/"+point, args...)
	}
	runPlinth(t, ctx, n, 0, args...)
}

// newIdentity returns a private key of age.
func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

// checkBackup writes a backup to a folder on a controller, and refuses to use it on a worker.
func checkBackup(t *testing.T, ctx context.Context, a, w *lab.Host) {
	a.MustRun(ctx, "mkdir", "/root/backups")
	began := time.Now()
	runPlinth(t, ctx, a, 0, "backup", "--to", "/root/backups", "--recipient", newIdentity(t).Recipient().String(), "--keep", "2")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the backup took %s", took)
	}
	file := strings.TrimSpace(a.MustRun(ctx, "sh", "-c", "ls /root/backups/*.plinth-backup"))
	if mode := a.MustRun(ctx, "stat", "-c", "%a", file); strings.TrimSpace(mode) != "600" {
		t.Errorf("%s has mode %s", file, mode)
	}
	runPlinth(t, ctx, a, 0, "backup", "verify", file)
	if r := runPlinth(t, ctx, a, 2, "restore", "--from-this-node", "--yes"); r.Error == nil || !strings.Contains(r.Error.Cause, "has its quorum") {
		t.Errorf("%+v", r.Error)
	}
	if r := runPlinth(t, ctx, w, 2, "backup", "--to", "/root/b", "--unencrypted"); r.Error == nil || !strings.Contains(r.Error.Cause, "is a worker") {
		t.Errorf("%+v", r.Error)
	}
}

// loseControllers cuts the power of hosts, and waits until the API of a does not answer.
func loseControllers(t *testing.T, ctx context.Context, a *lab.Host, hosts ...*lab.Host) {
	t.Helper()
	for _, h := range hosts {
		h.CutPower()
	}
	for range 120 {
		if _, _, code := a.Run(ctx, binary, "kubectl", "--request-timeout=2s", "get", "nodes"); code != 0 {
			return
		}
		a.MustRun(ctx, "sleep", "0.5")
	}
	t.Fatal("the API answers without a quorum")
}

// killAndResume kills a restore before and after it replaces the data of etcd, and runs it to its end.
func killAndResume(t *testing.T, ctx context.Context, a *lab.Host, args ...string) {
	t.Helper()
	for _, point := range []string{"restore/restore-save:applied", "restore/restore-etcd:begun", "restore/restore-etcd:applied"} {
		kill(t, ctx, a, point, args...)
	}
	runPlinth(t, ctx, a, 0, args...)
}

// startSleeper starts a pod on the worker that nothing restarts, and that stays while the worker does not answer.
func startSleeper(t testing.TB, ctx context.Context, a, w *lab.Host) {
	t.Helper()
	image := a.MustRun(ctx, binary, "kubectl", "get", "statefulset", "-n", "kotsadm", "kotsadm", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	a.MustRun(ctx, binary, "kubectl", "run", "sleeper", "--image="+image, "--image-pull-policy=Never", "--restart=Always",
		`--overrides={"spec":{"nodeName":"`+w.Name+`","tolerations":[{"operator":"Exists"}]}}`, "--command", "--", "sleep", "infinity")
	if out, errs, code := a.Run(ctx, binary, "kubectl", "wait", "--for=condition=Ready", "--timeout=120s", "pod/sleeper"); code != 0 {
		t.Fatalf("%s%s\n%s", out, errs, describeCluster(ctx, a))
	}
}

// sleeperState returns the process id of the pod of startSleeper on the worker.
func sleeperState(t testing.TB, ctx context.Context, w *lab.Host) string {
	t.Helper()
	return strings.TrimSpace(w.MustRun(ctx, "pgrep", "-f", "^sleep infinity$"))
}

// checkRestored verifies that a is the only controller, and that the pod on the worker was not restarted.
func checkRestored(t *testing.T, ctx context.Context, a, w *lab.Host, before string) {
	t.Helper()
	waitForStatus(t, ctx, a, 3*time.Minute, "the restored cluster", allReady(2, 1))
	if after := sleeperState(t, ctx, w); after != before {
		t.Errorf("the pod on the worker was restarted: process %s, and then %s", before, after)
	}
	// The worker lists its objects again: a new pod on it starts.
	a.MustRun(ctx, binary, "kubectl", "delete", "pod", "sleeper", "--now")
	startSleeper(t, ctx, a, w)
}
