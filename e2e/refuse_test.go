//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/toyapp"
)

// refusal is a command that must be refused: the preparation of the host, the
// arguments, and the expected exit code and output.
type refusal struct {
	name    string
	prepare string // shell, on the host; "" for nothing
	piped   string // shell, on the host; its output is the standard input
	args    []string
	code    int
	says    string // part of the output
	undo    string // shell, on the host
	user    bool   // run by a user who is not root
}

const install = "install --yes --bundle "

// badInputs returns invalid inputs of an install. The host must be unchanged after each.
func refusals() []refusal {
	typed := strings.Fields
	return []refusal{
		{name: "unknown flag", args: typed("install --bundel x"), code: 2, says: "--bundle"},
		{name: "not root", user: true, args: typed("install --bundle " + bundle), code: 2, says: "needs root"},
		{name: "no answer without a terminal", args: typed("install --bundle " + bundle), code: 2, says: "--yes"},
		{name: "no bundle given", args: typed("install --yes"), code: 2, says: "--bundle"},
		{name: "bundle that is not there", args: typed(install + "/srv/none"), code: 6, says: "/srv/none"},
		{name: "not a bundle", args: typed(install + "/etc/passwd"), code: 6, says: "/etc/passwd"},
		{name: "truncated bundle", prepare: "head -c 1000000 " + bundle + " >/srv/cut", args: typed(install + "/srv/cut"), code: 6, says: "truncated", undo: "rm /srv/cut"},
		{name: "altered bundle", prepare: "cp " + bundle + " /srv/bad; s=$(stat -c %s /srv/bad); printf X | dd of=/srv/bad bs=1 seek=$((s/2)) conv=notrunc status=none",
			args: typed(install + "/srv/bad"), code: 6, says: "digest", undo: "rm /srv/bad"},
		{name: "altered bundle through a pipe", piped: "{ head -c 400000000 " + bundle + "; printf X; tail -c +400000002 " + bundle + "; }", args: typed(install + "-"), code: 6, says: "digest"},
		{name: "a sender that breaks off", piped: "head -c 300000000 " + bundle, args: typed(install + "-"), code: 6, says: "truncated", undo: "rm -r /var/cache/plinth"},
		{name: "a bundle where the answer should come from", piped: "cat " + bundle, args: typed("install --bundle -"), code: 2, says: "--yes"},
		{name: "API port taken", prepare: "systemd-run -q --unit=taker socat TCP-LISTEN:6443,fork /dev/null; for i in 1 2 3 4 5 6 7 8 9; do ss -ltn | grep -q :6443 && break; sleep .2; done",
			args: typed(install + bundle), code: 5, says: "6443/tcp (kube-apiserver) is in use by socat, pid ", undo: "systemctl stop taker; systemctl reset-failed taker 2>/dev/null || true"},
		{name: "console port taken", prepare: "systemd-run -q --unit=taker socat TCP-LISTEN:8800,fork /dev/null; for i in 1 2 3 4 5 6 7 8 9; do ss -ltn | grep -q :8800 && break; sleep .2; done",
			args: typed(install + bundle), code: 5, says: "8800", undo: "systemctl stop taker; systemctl reset-failed taker 2>/dev/null || true"},
		{name: "k0s from elsewhere", prepare: "mkdir -p /var/lib/k0s/pki && touch /var/lib/k0s/pki/ca.crt", args: typed(install + bundle), code: 5, says: "k0s", undo: "rm -r /var/lib/k0s"},
		{name: "unknown preflight to ignore", args: typed(install + bundle + " --ignore-host-preflight memry"), code: 2, says: "memory"},
	}
}

func TestInstall_RefusalsLeaveHostUnchanged(t *testing.T) {
	ctx := minutes(t, 15)
	h := upWithPlinth(t, "refuse")
	h.Must(ctx, "mkdir", "-p", "/var/log/plinth")
	fresh := h.Baseline(ctx)
	for _, r := range append(refusals(), hostFaults()...) {
		t.Run(r.name, func(t *testing.T) { refuse(t, ctx, h.For(t), r) })
	}
	same(t, fresh, h.Baseline(ctx))
}

func refuse(t *testing.T, ctx context.Context, h *lab.Host, r refusal) {
	t.Helper()
	if r.prepare != "" {
		h.Must(ctx, "sh", "-c", r.prepare)
	}
	if r.undo != "" {
		defer h.Must(ctx, "sh", "-c", r.undo)
	}
	argv := append([]string{binary}, r.args...)
	if r.user {
		argv = append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, argv...)
	}
	if r.piped != "" {
		argv = []string{"sh", "-c", r.piped + " 2>/dev/null | " + strings.Join(argv, " ")}
	}
	stdout, stderr, code := h.Run(ctx, argv...)
	if code != r.code || !strings.Contains(stdout+stderr, r.says) {
		t.Errorf("exit %d, want %d, and %q in:\n%s%s", code, r.code, r.says, stdout, stderr)
	}
	if r.code != 0 && (!strings.Contains(stderr, "cannot ") || !strings.Contains(stderr, "→")) {
		t.Errorf("not in the form of an error with a hint:\n%s", stderr)
	}
}

// TestGate_StopsBeforeHostChanges tests the gate: an install that KOTS would refuse
// stops before it changes the host. The manifest in the application bundle takes
// precedence over the one in the bundle.
func TestGate_StopsBeforeHostChanges(t *testing.T) {
	ctx := minutes(t, 15)
	h := upWithPlinth(t, "gate")
	h.Must(ctx, "mkdir", "-p", "/var/log/plinth")
	apps := map[string]string{
		"1.75.0":  ship(t, ctx, h, toyapp.Release{VersionLabel: "above-target", Cursor: 1, TargetKOTS: "1.75.0"}),
		"1.200.0": ship(t, ctx, h, toyapp.Release{VersionLabel: "below-minimum", Cursor: 1, MinKOTS: "1.200.0"}),
	}
	lic := license(t, h)
	fresh := h.Baseline(ctx)
	for bound, app := range apps {
		t.Run(bound, func(t *testing.T) {
			h := h.For(t)
			args := []string{binary, "install", "--yes", "--bundle", bundle, "--license", lic, "--app-bundle", app}
			stdout, stderr, code := h.Run(ctx, args...)
			if code != 4 || !strings.Contains(stderr, bound) || !strings.Contains(stderr, "nothing on this host has changed") {
				t.Errorf("exit %d\n%s%s", code, stdout, stderr)
			}
		})
	}
	same(t, fresh, h.Baseline(ctx))
}

func TestInstall_RefusesTooSmallHost(t *testing.T) {
	ctx := minutes(t, 10)
	h := upWithPlinth(t, "small", lab.Memory("1G"), lab.Disk("3G"))
	h.Must(ctx, "mkdir", "-p", "/var/log/plinth")
	fresh := h.Baseline(ctx)
	stdout, stderr, code := h.Run(ctx, binary, "install", "--yes", "--bundle", bundle)
	for _, check := range []string{"memory", "disk-space"} {
		if code != 5 || !strings.Contains(stderr, check) {
			t.Errorf("exit %d, and %s is not named as failed:\n%s%s", code, check, stdout, stderr)
		}
	}
	same(t, fresh, h.Baseline(ctx))
}
