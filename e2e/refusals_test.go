//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/testapp"
)

// refusal is a command that must be refused: the preparation of the host, the
// arguments, and the expected exit code and output.
type refusal struct {
	name        string
	prepare     string // shell, on the host; "" for nothing
	stdinScript string // shell, on the host; its output is the standard input
	args        []string
	code        int
	want        string // part of the output
	undo        string // shell, on the host
	user        bool   // run by a user who is not root
}

const installArgs = "install --yes --bundle "

// badInputs returns invalid inputs of an install. The host must be unchanged after each.
func badInputs() []refusal {
	typed := strings.Fields
	return []refusal{
		{name: "unknown flag", args: typed("install --bundel x"), code: 2, want: "--bundle"},
		{name: "not root", user: true, args: typed("install --bundle " + bundle), code: 2, want: "needs root"},
		{name: "no answer without a terminal", args: typed("install --bundle " + bundle), code: 2, want: "--yes"},
		{name: "no bundle given", args: typed("install --yes"), code: 2, want: "--bundle"},
		{name: "bundle that is not there", args: typed(installArgs + "/srv/none"), code: 6, want: "/srv/none"},
		{name: "not a bundle", args: typed(installArgs + "/etc/passwd"), code: 6, want: "/etc/passwd"},
		{name: "truncated bundle", prepare: "head -c 1000000 " + bundle + " >/srv/cut", args: typed(installArgs + "/srv/cut"), code: 6, want: "truncated", undo: "rm /srv/cut"},
		{name: "altered bundle", prepare: "cp " + bundle + " /srv/bad; s=$(stat -c %s /srv/bad); printf X | dd of=/srv/bad bs=1 seek=$((s/2)) conv=notrunc status=none",
			args: typed(installArgs + "/srv/bad"), code: 6, want: "digest", undo: "rm /srv/bad"},
		{name: "altered bundle through a pipe", stdinScript: "{ head -c 400000000 " + bundle + "; printf X; tail -c +400000002 " + bundle + "; }", args: typed(installArgs + "-"), code: 6, want: "digest"},
		{name: "a sender that breaks off", stdinScript: "head -c 300000000 " + bundle, args: typed(installArgs + "-"), code: 6, want: "truncated", undo: "rm -r /var/cache/plinth"},
		{name: "a bundle where the answer should come from", stdinScript: "cat " + bundle, args: typed("install --bundle -"), code: 2, want: "--yes"},
		{name: "API port taken", prepare: "systemd-run -q --unit=taker socat TCP-LISTEN:6443,fork /dev/null; for i in 1 2 3 4 5 6 7 8 9; do ss -ltn | grep -q :6443 && break; sleep .2; done",
			args: typed(installArgs + bundle), code: 5, want: "6443/tcp (kube-apiserver) is in use by socat, pid ", undo: "systemctl stop taker; systemctl reset-failed taker 2>/dev/null || true"},
		{name: "console port taken", prepare: "systemd-run -q --unit=taker socat TCP-LISTEN:8800,fork /dev/null; for i in 1 2 3 4 5 6 7 8 9; do ss -ltn | grep -q :8800 && break; sleep .2; done",
			args: typed(installArgs + bundle), code: 5, want: "8800", undo: "systemctl stop taker; systemctl reset-failed taker 2>/dev/null || true"},
		{name: "k0s from elsewhere", prepare: "mkdir -p /var/lib/k0s/pki && touch /var/lib/k0s/pki/ca.crt", args: typed(installArgs + bundle), code: 5, want: "k0s", undo: "rm -r /var/lib/k0s"},
		{name: "unknown preflight to ignore", args: typed(installArgs + bundle + " --ignore-host-preflight memry"), code: 2, want: "memory"},
	}
}

func TestInstall_RefusalsLeaveHostUnchanged(t *testing.T) {
	ctx := timeoutContext(t, 15)
	h := startHostWithPlinth(t, "refuse")
	h.MustRun(ctx, "mkdir", "-p", "/var/log/plinth")
	fresh := h.Baseline(ctx)
	for _, r := range append(badInputs(), hostFaults()...) {
		t.Run(r.name, func(t *testing.T) { checkRefusal(t, ctx, h.ForTest(t), r) })
	}
	checkUnchanged(t, fresh, h.Baseline(ctx))
}

func checkRefusal(t *testing.T, ctx context.Context, h *lab.Host, r refusal) {
	t.Helper()
	if r.prepare != "" {
		h.MustRun(ctx, "sh", "-c", r.prepare)
	}
	if r.undo != "" {
		defer h.MustRun(ctx, "sh", "-c", r.undo)
	}
	argv := append([]string{binary}, r.args...)
	if r.user {
		argv = append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, argv...)
	}
	if r.stdinScript != "" {
		argv = []string{"sh", "-c", r.stdinScript + " 2>/dev/null | " + strings.Join(argv, " ")}
	}
	stdout, stderr, code := h.Run(ctx, argv...)
	if code != r.code || !strings.Contains(stdout+stderr, r.want) {
		t.Errorf("exit %d, want %d, and %q in:\n%s%s", code, r.code, r.want, stdout, stderr)
	}
	if r.code != 0 && (!strings.Contains(stderr, "cannot ") || !strings.Contains(stderr, "→")) {
		t.Errorf("not in the form of an error with a hint:\n%s", stderr)
	}
}

// TestGate_StopsBeforeHostChanges tests the gate: an install that KOTS would refuse
// stops before it changes the host. The manifest in the application bundle takes
// precedence over the one in the bundle.
func TestGate_StopsBeforeHostChanges(t *testing.T) {
	ctx := timeoutContext(t, 15)
	h := startHostWithPlinth(t, "gate")
	h.MustRun(ctx, "mkdir", "-p", "/var/log/plinth")
	apps := map[string]string{
		"1.75.0":  copyAppBundle(t, ctx, h, testapp.Release{VersionLabel: "above-target", Cursor: 1, TargetKOTS: "1.75.0"}),
		"1.200.0": copyAppBundle(t, ctx, h, testapp.Release{VersionLabel: "below-minimum", Cursor: 1, MinKOTS: "1.200.0"}),
	}
	lic := copyLicense(t, h)
	fresh := h.Baseline(ctx)
	for bound, app := range apps {
		t.Run(bound, func(t *testing.T) {
			h := h.ForTest(t)
			args := []string{binary, "install", "--yes", "--bundle", bundle, "--license", lic, "--app-bundle", app}
			stdout, stderr, code := h.Run(ctx, args...)
			if code != 4 || !strings.Contains(stderr, bound) || !strings.Contains(stderr, "nothing on this host has changed") {
				t.Errorf("exit %d\n%s%s", code, stdout, stderr)
			}
		})
	}
	checkUnchanged(t, fresh, h.Baseline(ctx))
}

func TestInstall_RefusesTooSmallHost(t *testing.T) {
	ctx := timeoutContext(t, 10)
	h := startHostWithPlinth(t, "small", lab.Memory("1G"), lab.Disk("3G"))
	h.MustRun(ctx, "mkdir", "-p", "/var/log/plinth")
	fresh := h.Baseline(ctx)
	stdout, stderr, code := h.Run(ctx, binary, "install", "--yes", "--bundle", bundle)
	for _, check := range []string{"memory", "disk-space"} {
		if code != 5 || !strings.Contains(stderr, check) {
			t.Errorf("exit %d, and %s is not named as failed:\n%s%s", code, check, stdout, stderr)
		}
	}
	checkUnchanged(t, fresh, h.Baseline(ctx))
}
