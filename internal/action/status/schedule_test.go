package status

import (
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action/backup"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/spec"
)

func TestClockWarning_NamesBothTimes(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		age  time.Duration
		want string // part of the warning; "" for none
	}{
		"an hour ago":        {time.Hour, ""},
		"a minute ahead":     {-time.Minute, ""},
		"an hour ahead":      {-time.Hour, "is of 2026-01-02T04:04:05Z, and this host's clock shows 2026-01-02T03:04:05Z"},
		"there is no backup": {now.Sub(time.Time{}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := clockWarning(backup.Record{TakenAt: now.Add(-c.age)}, now)
			if (got != "") != (c.want != "") || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestScheduleWarning_NamesWhatIsMissing(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	runs, stopped := host.UnitState{Load: "loaded", Active: "active", Sub: "waiting"}, host.UnitState{Load: "loaded", Active: "inactive", Sub: "dead"}
	written := func(age time.Duration) backup.Record { return backup.Record{Path: "/mnt/b", TakenAt: now.Add(-age)} }
	failed, manual := written(100*time.Hour), written(time.Hour)
	failed.FailedAt = &now
	manual.Scheduled = &backup.Attempt{StartedAt: now.Add(-49 * time.Hour), EndedAt: &now}
	for name, c := range map[string]struct {
		last  backup.Record
		timer host.UnitState
		want  string // part of the warning; "" for none
	}{
		"a good one":       {written(25 * time.Hour), runs, ""},
		"one was missed":   {written(49 * time.Hour), runs, "at 2025-12-31T02:04:05Z, although they are scheduled (daily)"},
		"none yet":         {backup.Record{}, runs, "not written a backup of the control plane yet"},
		"timer is stopped": {written(time.Hour), stopped, "plinth-backup.timer is inactive; start it"},
		"the last failed":  {failed, runs, ""}, // which is a warning of its own
		"only by hand":     {manual, runs, "the schedule (daily) has started its last backup of the control plane at 2025-12-31T02:04:05Z"},
	} {
		t.Run(name, func(t *testing.T) {
			got := scheduleWarning(spec.Backup{Schedule: "daily"}, c.last, c.timer, now)
			if (got != "") != (c.want != "") || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestBackupWarnings_NameWhatFailed(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 1, 2, hour, 0, 0, 0, time.UTC) }
	ended := func(hour int) *time.Time {
		end := at(hour)
		return &end
	}
	good := backup.Record{Path: "/mnt/b", TakenAt: at(6), Manual: &backup.Attempt{StartedAt: at(6), EndedAt: ended(6)}}
	killed, failed, both, byHand, manualKilled := good, good, good, good, good
	killed.Scheduled = &backup.Attempt{StartedAt: at(2)}
	failed.Scheduled = &backup.Attempt{StartedAt: at(2), EndedAt: ended(3), Failure: "no space left"}
	both.Scheduled, both.FailedAt, both.Failure = &backup.Attempt{StartedAt: at(7), EndedAt: ended(8), Failure: "no space left"}, ended(8), "no space left"
	byHand.FailedAt, byHand.Failure = ended(9), "no such folder"
	manualKilled.Manual = &backup.Attempt{StartedAt: at(8)}
	const good6 = "; the last good one is of 2026-01-02T06:00:00Z; write one now: "
	for name, c := range map[string]struct {
		record    backup.Record
		running   bool
		failure   string // beginning of the warning; "" for none
		scheduled string
	}{
		"a good one":                 {record: good},
		"the schedule was killed":    {record: killed, scheduled: "the last scheduled backup of the control plane, started at 2026-01-02T02:00:00Z, did not end: it was killed, or this host stopped" + good6},
		"the schedule runs":          {record: killed, running: true},
		"the schedule failed before": {record: failed, scheduled: "the last scheduled backup of the control plane, started at 2026-01-02T02:00:00Z, failed at 2026-01-02T03:00:00Z: no space left" + good6},
		"the schedule failed last":   {record: both, scheduled: "the last scheduled backup of the control plane, started at 2026-01-02T07:00:00Z, failed at 2026-01-02T08:00:00Z: no space left" + good6},
		"a user's failed":            {record: byHand, failure: "the last backup of the control plane failed at 2026-01-02T09:00:00Z: no such folder"},
		"a user's was killed":        {record: manualKilled, failure: "the last backup of the control plane that was started at 2026-01-02T08:00:00Z did not end: it was killed"},
		"a user's runs":              {record: manualKilled, running: true},
		"there is no good one":       {record: backup.Record{Scheduled: killed.Scheduled}, scheduled: "the last scheduled backup of the control plane, started at 2026-01-02T02:00:00Z, did not end: it was killed, or this host stopped; this host has written no good one; "},
	} {
		t.Run(name, func(t *testing.T) {
			failure, scheduled := failureWarning(c.record, c.running), scheduledWarning(c.record, c.running)
			if !strings.HasPrefix(failure, c.failure) || (failure == "") != (c.failure == "") || !strings.HasPrefix(scheduled, c.scheduled) || (scheduled == "") != (c.scheduled == "") {
				t.Errorf("%q, %q", failure, scheduled)
			}
		})
	}
}
