package plan

import (
	"context"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/step"
)

// agentSteps returns the steps that start the agent, which serves other hosts that join the cluster.
func (c Cluster) agentSteps() []step.Step {
	if c.AgentFile.Path == "" {
		return nil
	}
	return []step.Step{c.placeFile("agent-binary", "Put Plinth's agent in place", c.AgentFile), agentStep(c.Host, c.AgentFile, c.DataDir)}
}

// BackupScheduleID is the id of the step that schedules backups.
const BackupScheduleID = "backup-schedule"

// scheduleSteps returns the step that starts the timer of backups; none without a schedule.
func (c Cluster) scheduleSteps() []step.Step {
	if !c.BackupTimer.Exists() {
		return nil
	}
	return []step.Step{c.scheduleStep()}
}

// scheduleStep returns the step that starts the timer of backups, or removes one that is not wanted any more.
func (c Cluster) scheduleStep() step.Step {
	t := c.BackupTimer
	service, timer := node.BackupTimerPaths()
	s := step.Step{ID: BackupScheduleID, Title: "Schedule backups of the control plane", Affects: []string{service, timer, cleanup.BackupTimer},
		Check: func(ctx context.Context) (step.State, error) { return stepState(t.Check(ctx, c.Host)) },
		Apply: func(ctx context.Context, _ step.Report) error { return t.Apply(ctx, c.Host) },
	}
	if !t.Exists() {
		s.Title = "Remove the schedule of backups"
	}
	return s
}

// agentStep returns the step that starts Plinth's agent, or restarts it after its program was changed.
func agentStep(h host.Host, program node.Artifact, dataDir string) step.Step {
	unit := node.NewAgentService(h, program, dataDir)
	return step.Step{ID: "agent", Title: "Start Plinth's agent", Affects: []string{unit.UnitPath(), node.AgentUnit},
		Check: func(ctx context.Context) (step.State, error) {
			return stepState(unit.Check(ctx))
		},
		Apply: func(ctx context.Context, _ step.Report) error { return unit.Apply(ctx) },
	}
}
