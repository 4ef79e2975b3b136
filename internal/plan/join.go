package plan

import (
	"github.com/plinthdev/plinth/internal/plan/entry"
	"github.com/plinthdev/plinth/internal/step"
)

// Join returns the steps that make a host a node of an existing cluster. access is nil for a
// controller.
func Join(c Cluster, admitter entry.Door, access *entry.Way) []step.Step {
	token := entry.Admission{Host: c.Host, K0s: c.K0s, Door: admitter, Now: c.Now}
	steps := []step.Step{
		c.remember(),
		c.dataDir(),
		c.Kept.Keep(c.Host),
		c.kernel(),
		c.file("k0s-binary", "Put k0s in place", c.K0sFile),
	}
	hasConsole := c.KotsFile.Path != ""
	if hasConsole {
		steps = append(steps, c.file("kots-binary", "Put the kots CLI in place", c.KotsFile))
	}
	steps = append(steps, c.k0sConfig())
	steps = append(steps, access.Prepare()...)
	steps = append(steps, c.agent()...) // on a worker k0s reaches the API server through the agent
	steps = append(steps,
		token.Ask(), // after the steps that download files, because the k0s token is short-lived
		c.k0sService(),
		c.k0sStart(),
		c.importImages("images-boot", "Import the images the node boots with", c.Images.Boot),
		c.nodeReady(),
		c.importImages("images-rest", "Import the images of the add-ons", c.Images.Rest),
		token.Forget(),
	)
	if hasConsole && c.Console.Namespace != "" {
		steps = append(steps, c.consoleCopies())
	}
	return steps
}

// agentSteps returns the steps that start the agent, which serves other hosts that join the cluster.
func (c Cluster) agent() []step.Step {
	if c.Agent.Path == "" {
		return nil
	}
	return []step.Step{c.file("agent-binary", "Put Plinth's agent in place", c.Agent), entry.Agent(c.Host, c.Agent.Path, c.DataDir)}
}
