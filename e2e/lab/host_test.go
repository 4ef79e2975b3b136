//go:build e2e

package lab

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRun_RunsCommandsInHost(t *testing.T) {
	ctx, h := context.Background(), Up(t, "a")
	stdout, stderr, code := h.Run(ctx, "sh", "-c", "hostname; echo oops >&2; exit 3")
	if stdout != "a\n" || stderr != "oops\n" || code != 3 {
		t.Errorf("got %q, %q, %d", stdout, stderr, code)
	}
	p := h.Start(ctx, Cmd{Args: []string{"cat"}, Stdin: strings.NewReader("hello")})
	if stdout, _, code = p.Wait(); stdout != "hello" || code != 0 {
		t.Errorf("stdin: got %q, %d", stdout, code)
	}
	p = h.Start(ctx, Cmd{Args: []string{"tty"}, TTY: true})
	if stdout, _, _ = p.Wait(); !strings.HasPrefix(stdout, "/dev/pts/") {
		t.Errorf("terminal: got %q", stdout)
	}
	if _, _, code := h.Run(ctx, "no-such-command"); code != 127 {
		t.Errorf("no such command: exit %d", code)
	}
}

func TestStart_FollowsSignalsAndKillsCommands(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h := Up(t, "a")
	p := h.Start(ctx, Cmd{Args: []string{"bash", "-c", `trap 'echo bye; exit 42' INT; echo ready; sleep 60 >/dev/null 2>&1 & wait`}})
	if !p.WaitFor(ctx, "ready") {
		t.Fatal("did not become ready")
	}
	if err := p.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if stdout, _, code := p.Wait(); stdout != "ready\nbye\n" || code != 42 {
		t.Errorf("got %q, %d", stdout, code)
	}
	p = h.Start(ctx, Cmd{Args: []string{"sh", "-c", "echo ready; exec sleep 4711"}})
	if !p.WaitFor(ctx, "ready") || p.WaitFor(ctx, "ready") == p.WaitFor(shortContext(t), "never") {
		t.Error("WaitFor returns the same for text that never comes")
	}
	p.Kill()
	// The kernel sends the parent-death signal; the process ends soon after.
	if out := h.MustRun(ctx, "sh", "-c", "for i in $(seq 50); do pgrep -x sleep -a | grep 4711 || exit 0; sleep 0.1; done; exit 1"); strings.Count(out, "\n") > 40 {
		t.Errorf("killed, but still there: %s", out)
	}
	stopped, stop := context.WithCancel(ctx)
	p = h.Start(stopped, Cmd{Args: []string{"sleep", "4712"}})
	stop()
	if _, _, code := p.Wait(); code == 0 {
		t.Error("the end of the context did not end the command")
	}
	if err := p.Signal(syscall.SIGTERM); err == nil {
		t.Error("Signal succeeded on a process that has ended")
	}
}

func shortContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestHost_CopiesFilesAndKeepsDisk(t *testing.T) {
	ctx, h := context.Background(), Up(t, "a", Disk("3G"))
	local := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(local, []byte("content"), 0o640); err != nil {
		t.Fatal(err)
	}
	h.Copy(local, "/root/y")
	h.Snapshot("s")
	h.MustRun(ctx, "rm", "/root/y")
	h.Restore("s")
	h.Fetch("/root/y", local+".back")
	if got, err := os.ReadFile(local + ".back"); err != nil || string(got) != "content" {
		t.Errorf("got %q, %v", got, err)
	}
	h.MustRun(ctx, "sh", "-c", "echo kept >/root/z")
	h.CutPower()
	h.Boot()
	if got := h.MustRun(ctx, "cat", "/root/z"); got != "kept" {
		t.Errorf("after a power cut: %q", got)
	}
}

// baselineChanges makes one change per section that a baseline must notice, with
// common commands.
const baselineChanges = `set -e
touch /opt/left /run/left; chmod 600 /etc/fstab; echo x >>/etc/motd
mkdir /mnt/m; mount -t tmpfs none /mnt/m
printf '[Service]\nExecStart=/bin/sleep infinity\n' >/etc/systemd/system/left.service
systemctl daemon-reload; systemctl start left.service
useradd left
for c in /sys/fs/cgroup /sys/fs/cgroup/memory; do mkdir $c/kubepods 2>/dev/null || true; done
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link add left0 type bridge; ip addr add 10.9.8.7/24 dev left0; ip link set left0 up
iptables -N LEFT; nft add table inet left
socat TCP-LISTEN:7777 STDOUT >/dev/null 2>&1 &
sleep 1`

func TestBaseline_NoticesOnlyChanges(t *testing.T) {
	ctx, h := context.Background(), Up(t, "a")
	before := h.Baseline(ctx).Without(MachineSysctls)
	h.MustRun(ctx, "systemctl", "daemon-reload")
	h.MustRun(ctx, "systemd-run", "-q", "--wait", "true")
	if d := Diff(before, h.Baseline(ctx).Without(MachineSysctls)); d != nil {
		t.Errorf("differences on an unchanged host:\n%s", strings.Join(d, "\n"))
	}
	h.MustRun(ctx, "sh", "-c", baselineChanges)
	diff := strings.Join(Diff(before, h.Baseline(ctx).Without(MachineSysctls)), "\n")
	for _, want := range []string{
		"files: + /opt/left ", "files: ~ /etc/fstab", "contents: ~ /etc/motd", "runtime files: + /run/left",
		"mounts: + /mnt/m ", "units: + left.service", "active units: + left.service", "users: + left:", "processes: + socat",
		"/kubepods ", "sysctls: ~ net.ipv4.ip_forward: 0 → 1", "links: + left0", "addresses: + left0", "routes: + 10.9.8.0/24 dev left0",
		":LEFT ", "nftables: + table inet left", "ports: + tcp 0.0.0.0:7777",
	} {
		if !strings.Contains(diff, want) {
			t.Errorf("not noticed: %s", want)
		}
	}
	t.Log(diff)
	h.CutPower()
	h.Boot()
	h.MustRun(ctx, "sh", "-c", "userdel left; rm /opt/left /etc/systemd/system/left.service; rmdir /mnt/m; chmod 644 /etc/fstab; cp -a /usr/share/base-files/motd /etc/motd; systemctl daemon-reload")
	if d := Diff(before, h.Baseline(ctx).Without(MachineSysctls)); d != nil {
		t.Errorf("differences after a cleanup and a reboot:\n%s", strings.Join(d, "\n"))
	}
}
