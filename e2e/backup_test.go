//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/e2e/lab"
)

// scheduledFolder is the folder of scheduled backups, without that of the node.
const scheduledFolder = "/srv/backups/my-app"

// TestBackup_Schedule installs a cluster whose Installer schedules backups, lets its service run, and removes and restores
// the schedule by an upgrade and its rollback.
func TestBackup_Schedule(t *testing.T) {
	if testing.Short() {
		t.Skip("it installs a cluster of its own")
	}
	runParallel(t)
	ctx := timeoutContext(t, 40)
	h := startHostWithPlinth(t, "schedule")
	const scheduled, dropped = "/srv/scheduled.bundle", "/srv/dropped.bundle"
	payload, identity := requireEnv(t, "PLINTH_E2E_PAYLOAD"), newIdentity(t)
	h.Copy(buildVariant(t, payload, 2, "\n  # hostPreflights:", fmt.Sprintf("\n  backup: {schedule: \"02:30\", to: %s, keep: 2, recipients: [%s]}\n\n  # hostPreflights:",
		scheduledFolder, identity.Recipient())), scheduled)
	h.Copy(buildVariant(t, payload, 3), dropped)
	if _, stderr, code := h.Run(ctx, binary, "install", "--bundle", scheduled, "--yes"); code != 0 || !strings.Contains(stderr, "backup-schedule") {
		t.Fatalf("exit %d, or no warning of the missing folder: %s", code, lastLines(stderr, 20))
	}

	t.Run("a folder that is missing is named", func(t *testing.T) {
		h := h.ForTest(t)
		if _, _, code := h.Run(ctx, "systemctl", "start", "plinth-backup.service"); code == 0 {
			t.Error("a backup to a folder that does not exist was written")
		}
		checkStatusText(t, ctx, h, "the last scheduled backup of the control plane", "there is no such folder")
	})
	if !t.Run("the service writes, verifies and keeps backups", func(t *testing.T) { checkScheduledBackups(t, ctx, h.ForTest(t), identity.String()) }) {
		t.Log(h.MustRun(ctx, "journalctl", "--no-pager", "-u", "plinth-backup.service"))
	}
	t.Run("a second install changes nothing", func(t *testing.T) {
		if r := runPlinth(t, ctx, h.ForTest(t), 0, "install", "--bundle", scheduled, "--yes"); r.Result.Changed {
			t.Errorf("%+v", r.Result)
		}
	})
	t.Run("an upgrade removes the schedule, and its rollback restores it", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "upgrade", "--bundle", dropped, "--yes")
		if out := h.MustRun(ctx, "sh", "-c", "systemctl list-timers --all --no-legend; ls /etc/systemd/system"); strings.Contains(out, "plinth-backup") {
			t.Error(out)
		}
		runPlinth(t, ctx, h, 0, "upgrade", "--rollback", "--yes")
		h.MustRun(ctx, "systemctl", "is-active", "plinth-backup.timer")
		h.MustRun(ctx, "systemctl", "is-enabled", "plinth-backup.timer")
	})
	t.Run("a reset removes the schedule and leaves backups", func(t *testing.T) {
		h := h.ForTest(t)
		runPlinth(t, ctx, h, 0, "reset", "cluster", "--cluster", "my-app", "--yes")
		h.MustRun(ctx, "sh", "-c", "! ls /etc/systemd/system /etc/systemd/system/timers.target.wants /var/lib/systemd/timers | grep plinth")
		h.MustRun(ctx, "sh", "-c", "ls "+scheduledFolder+"/*/*.plinth-backup")
	})
}

// checkStatusText fails unless the status for people contains each of the texts.
func checkStatusText(t *testing.T, ctx context.Context, h *lab.Host, texts ...string) {
	t.Helper()
	out := h.MustRun(ctx, binary, "status")
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("the status lacks %q: %s", text, out)
		}
	}
}

// checkScheduledBackups starts the service three times, and verifies what it has written with the private key.
func checkScheduledBackups(t *testing.T, ctx context.Context, h *lab.Host, key string) {
	h.MustRun(ctx, "mkdir", "-p", scheduledFolder)
	for range 3 {
		h.MustRun(ctx, "systemctl", "start", "plinth-backup.service")
		h.MustRun(ctx, "sleep", "1") // names have seconds
	}
	files := strings.Fields(h.MustRun(ctx, "sh", "-c", "ls "+scheduledFolder+"/"+h.Name+"/*.plinth-backup"))
	if len(files) != 2 {
		t.Errorf("%q instead of the last two", files)
	}
	if mode := h.MustRun(ctx, "stat", "-c", "%a", scheduledFolder+"/"+h.Name); strings.TrimSpace(mode) != "700" {
		t.Errorf("the folder has mode %s", mode)
	}
	h.MustRun(ctx, "sh", "-c", "umask 077; echo '"+key+"' > /root/key.txt")
	runPlinth(t, ctx, h, 0, "backup", "verify", "--identity-file", "/root/key.txt", files[0])
	checkStatusText(t, ctx, h, "Last backup:", "Scheduled: 02:30, to "+scheduledFolder)
	if out := h.MustRun(ctx, binary, "backup", "list", scheduledFolder); strings.Count(out, "  recipients  ") != 2 {
		t.Error(out)
	}
}
