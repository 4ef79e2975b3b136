package plan

import (
	"context"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/step"
)

// agentSteps returns the steps that start the agent, which serves other hosts that join the cluster.
func (c Cluster) agentSteps() []step.Step {
	if c.AgentFile.Path == "" {
		return nil
	}
	return []step.Step{c.placeFile("agent-binary", "Put Plinth's agent in place", c.AgentFile), agentStep(c.Host, c.AgentFile, c.DataDir)}
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
