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
	failed := written(100 * time.Hour)
	failed.FailedAt = &now
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
	} {
		t.Run(name, func(t *testing.T) {
			got := scheduleWarning(spec.Backup{Schedule: "daily"}, c.last, c.timer, now)
			if (got != "") != (c.want != "") || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
