package status

import (
	"context"
	"fmt"
	"time"

	"github.com/plinthdev/plinth/internal/action"
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
	holder, held := action.LockHolder(h)
	running := held && holder.Verb == backup.Verb
	if warning := failureWarning(r, running); warning != "" {
		s.Warnings = append(s.Warnings, warning)
	}
	if scheduled == nil {
		return nil
	}
	s.Backup.Schedule, s.Backup.To = scheduled.Schedule, scheduled.To
	timer, err := h.UnitState(ctx, cleanup.BackupTimer)
	if err != nil {
		return err
	}
	for _, warning := range []string{scheduledWarning(r, running), scheduleWarning(*scheduled, r, timer, now)} {
		if warning != "" {
			s.Warnings = append(s.Warnings, warning)
		}
	}
	return nil
}

// failureWarning returns a warning of a last backup that has failed, or that a user has started and that did not end, without a
// good one since; "" for neither. running reports whether a backup runs now. A failure of the schedule has a warning of its
// own.
func failureWarning(r backup.Record, running bool) string {
	why, m := "", r.Manual
	switch {
	case r.FailedAt != nil && (r.Scheduled == nil || r.Scheduled.EndedAt == nil || !r.Scheduled.EndedAt.Equal(*r.FailedAt)):
		why = "failed at " + r.FailedAt.Format(time.RFC3339) + ": " + r.Failure
	case m != nil && m.EndedAt == nil && m.StartedAt.After(r.TakenAt) && m.Problem(running) != "":
		why = "that was started at " + m.StartedAt.Format(time.RFC3339) + " " + m.Problem(running)
	default:
		return ""
	}
	return "the last backup of the control plane " + why
}

// scheduledWarning returns a warning of a last run of the schedule that failed or did not end, also if a user has written a
// backup since: the next one would fail, too. It is "" for none.
func scheduledWarning(r backup.Record, running bool) string {
	why := r.Scheduled.Problem(running)
	if why == "" {
		return ""
	}
	good := "this host has written no good one"
	if r.Path != "" {
		good = "the last good one is of " + r.TakenAt.Format(time.RFC3339)
	}
	return fmt.Sprintf("the last scheduled backup of the control plane, started at %s, %s; %s; %s", r.Scheduled.StartedAt.Format(time.RFC3339), why, good, startNow)
}

// startNow says how to run the schedule now, and where its log is.
const startNow = "write one now: sudo systemctl start " + cleanup.BackupService + "; its log: sudo journalctl -u " + cleanup.BackupService

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
	schedule, err := spec.ParseSchedule(b.Schedule)
	tooOld := func(at time.Time) bool { return err == nil && now.Sub(at) > 2*schedule.Interval }
	switch {
	case !timer.Running():
		return fmt.Sprintf("backups of the control plane are scheduled (%s), but %s is %s; start it: sudo systemctl enable --now %s", b.Schedule,
			cleanup.BackupTimer, timer.Active, cleanup.BackupTimer)
	case last.FailedAt != nil, last.ScheduleFailed(now):
		return ""
	case last.Path == "":
		return fmt.Sprintf("this host has not written a backup of the control plane yet, which is scheduled (%s); %s", b.Schedule, startNow)
	case tooOld(last.TakenAt):
		return fmt.Sprintf("this host has written its last backup of the control plane at %s, although they are scheduled (%s); %s", last.TakenAt.Format(time.RFC3339), b.Schedule, startNow)
	case last.Scheduled != nil && tooOld(last.Scheduled.StartedAt):
		return fmt.Sprintf("the schedule (%s) has started its last backup of the control plane at %s; %s", b.Schedule, last.Scheduled.StartedAt.Format(time.RFC3339), startNow)
	}
	return ""
}
