package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/problem"
)

// Record is what a host remembers of its backups. Its JSON format is part of that of the status.
type Record struct {
	Path     string        `json:"path,omitempty"` // of the last good backup; "" for none
	TakenAt  time.Time     `json:"takenAt,omitzero"`
	Size     int64         `json:"size,omitempty"` // bytes
	Digest   digest.Digest `json:"digest,omitempty"`
	Verified Verified      `json:"verified,omitempty"`
	FailedAt *time.Time    `json:"failedAt,omitempty"` // of the last backup, if it failed
	Failure  string        `json:"failure,omitempty"`  // why

	Manual    *Attempt `json:"manual,omitempty"`    // the last one that a user started; nil for none
	Scheduled *Attempt `json:"scheduled,omitempty"` // the last one that the schedule started; nil for none
}

// ScheduledVariable is the variable of the environment of a backup that the schedule has started.
const ScheduledVariable = node.ScheduledBackupVariable

// Attempt is a backup that was started. One that was killed, or whose host has stopped, has no end.
type Attempt struct {
	StartedAt time.Time  `json:"startedAt"`
	EndedAt   *time.Time `json:"endedAt,omitempty"`
	Failure   string     `json:"failure,omitempty"` // why it failed; "" if it did not
}

// Problem returns why a has no backup; "" if it has one, or runs. running reports whether a backup runs now.
func (a *Attempt) Problem(running bool) string {
	switch {
	case a == nil:
		return ""
	case a.Failure != "":
		return "failed at " + a.EndedAt.Format(time.RFC3339) + ": " + a.Failure
	case a.EndedAt == nil && !running:
		return "did not end: it was killed, or this host stopped"
	}
	return ""
}

// maxDuration is after what time systemd ends a scheduled backup: TimeoutStartSec of its unit.
const maxDuration = 2 * time.Hour

// ScheduleFailed reports whether the last run of the schedule failed, or did not end in time.
func (r Record) ScheduleFailed(now time.Time) bool {
	return r.Scheduled != nil && r.Scheduled.Problem(now.Sub(r.Scheduled.StartedAt) <= maxDuration) != ""
}

// attempt returns where the last attempt of a user, or of the schedule, is stored in r.
func (r *Record) attempt(scheduled bool) **Attempt {
	if scheduled {
		return &r.Scheduled
	}
	return &r.Manual
}

// started returns r with a backup that begins at a time.
func (r Record) started(scheduled bool, at time.Time) Record {
	*r.attempt(scheduled) = &Attempt{StartedAt: at}
	return r
}

// ended returns r with the end of the backup that began last. why is why it failed, "" if it did not.
func (r Record) ended(scheduled bool, at time.Time, why string) Record {
	a := *r.attempt(scheduled)
	if a == nil {
		a = &Attempt{StartedAt: at}
	}
	*r.attempt(scheduled) = &Attempt{StartedAt: a.StartedAt, EndedAt: &at, Failure: why}
	r.FailedAt, r.Failure = nil, why
	if why != "" {
		r.FailedAt = &at
	}
	return r
}

// interrupted returns r after the backup was interrupted. What a user interrupts has not failed.
func (r Record) interrupted(scheduled bool, at time.Time) Record {
	if scheduled {
		return r.ended(scheduled, at, "it was interrupted")
	}
	r.Manual = nil
	return r
}

// recordPath returns the path of the record.
func recordPath(dataDir string) string { return path.Join(dataDir, "backup.json") }

// ReadRecord returns the record of a host; ok is false if there was no backup.
func ReadRecord(h host.Files, dataDir string) (r Record, ok bool, err error) {
	raw, err := h.ReadFile(recordPath(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("%s: %w", recordPath(dataDir), problem.PathCause(err))
	}
	return r, true, nil
}

// writeRecord stores the record of a host.
func writeRecord(h host.Files, dataDir string, r Record) error {
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return h.Write(recordPath(dataDir), bytes.NewReader(append(raw, '\n')), 0o600)
}
