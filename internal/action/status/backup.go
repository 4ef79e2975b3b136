package status

import (
	"context"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/spec"
)

// clockTolerance is by how much a clock may be set back without a warning.
const clockTolerance = 5 * time.Minute

// addBackup adds the last backup and the schedule to s, and warnings if backups fail or are missing.
func (s *Status) addBackup(ctx context.Context, h host.Host, dataDir string, now time.Time) error {
	r, ok, err := backup.ReadRecord(h, dataDir)
	if err != nil {
		s.Warnings = append(s.Warnings, "what is known of the last backup cannot be read: "+err.Error())
	}
	var scheduled *spec.Backup
	if s.Installed && s.Role != nodes.Worker {
		if in := desired.ReadInstalledInstaller(ctx, h, dataDir); in != nil {
			scheduled = in.Spec.Backup
		}
	}
	if (err != nil || !ok) && scheduled == nil {
		return nil
	}
	s.Backup = &Backup{Record: r}
	if r.Path != "" {
		s.Backup.AgeSeconds = int64(now.Sub(r.TakenAt).Seconds())
	}
	if warning := clockWarning(r, now); warning != "" {
		s.Warnings = append(s.Warnings, warning)
	}
	if r.FailedAt != nil {
		s.Warnings = append(s.Warnings, fmt.Sprintf("the last backup of the control plane failed at %s: %s", r.FailedAt.Format(time.RFC3339), r.Failure))
	}
	if scheduled == nil {
		return nil
	}
	s.Backup.Schedule, s.Backup.To = scheduled.Schedule, scheduled.To
	timer, err := h.UnitState(ctx, cleanup.BackupTimer)
	if err != nil {
		return err
	}
	if warning := scheduleWarning(*scheduled, r, timer, now); warning != "" {
		s.Warnings = append(s.Warnings, warning)
	}
	return nil
}

// clockWarning returns a warning of a last backup in the future, or "".
func clockWarning(last backup.Record, now time.Time) string {
	if !last.TakenAt.After(now.Add(clockTolerance)) {
		return ""
	}
	return fmt.Sprintf("the last backup of the control plane is of %s, and this host's clock shows %s: the clock is wrong now, or was then; check it: timedatectl",
		last.TakenAt.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

// scheduleWarning returns why this host has no recent backup although b schedules them, or "". A last backup that failed has
// a warning of its own.
func scheduleWarning(b spec.Backup, last backup.Record, timer host.UnitState, now time.Time) string {
	const writeNow = "write one now: sudo systemctl start " + cleanup.BackupService + "; its log: sudo journalctl -u " + cleanup.BackupService
	schedule, err := spec.ParseSchedule(b.Schedule)
	switch {
	case !timer.Running():
		return fmt.Sprintf("backups of the control plane are scheduled (%s), but %s is %s; start it: sudo systemctl enable --now %s", b.Schedule,
			cleanup.BackupTimer, timer.Active, cleanup.BackupTimer)
	case last.FailedAt != nil:
		return ""
	case last.Path == "":
		return fmt.Sprintf("this host has not written a backup of the control plane yet, which is scheduled (%s); %s", b.Schedule, writeNow)
	case err == nil && now.Sub(last.TakenAt) > 2*schedule.Interval:
		return fmt.Sprintf("this host has written its last backup of the control plane at %s, although they are scheduled (%s); %s", last.TakenAt.Format(time.RFC3339), b.Schedule, writeNow)
	}
	return ""
}
