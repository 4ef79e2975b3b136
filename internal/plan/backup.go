package plan

import (
	"context"

	"github.com/plinthdev/plinth/internal/step"
)

// Backup is what a backup of the control plane does, one function a step.
type Backup struct {
	Spool string // folder for the snapshot of etcd, until the backup is written
	File  string // path of the backup

	SaveEtcd    func(context.Context, step.Report) error
	WriteFile   func(context.Context, step.Report) error
	Verify      func(context.Context, step.Report) error
	RemoveOlder func(context.Context, step.Report) error // nil to keep older backups
}

// WriteBackup returns the steps of a backup. Each is needed once: a run that was killed starts again.
func WriteBackup(b Backup) []step.Step {
	steps := []step.Step{
		applyOnce("backup-etcd", "Take a snapshot of etcd", b.SaveEtcd, b.Spool),
		applyOnce("backup-write", "Write the backup", b.WriteFile, b.File),
		applyOnce("backup-verify", "Read the backup back", b.Verify),
	}
	if b.RemoveOlder != nil {
		steps = append(steps, applyOnce("backup-keep", "Remove older backups", b.RemoveOlder, b.File))
	}
	return steps
}

// applyOnce returns a step that is done once apply was called without an error.
func applyOnce(id, title string, apply func(context.Context, step.Report) error, affects ...string) step.Step {
	done := false
	return step.Step{ID: id, Title: title, Affects: affects,
		Check: func(context.Context) (step.State, error) {
			if done {
				return step.Done(), nil
			}
			return step.Needed("it is part of every backup"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			err := apply(ctx, report)
			done = err == nil
			return err
		},
	}
}
