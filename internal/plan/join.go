package plan

import (
	"github.com/plinthdev/plinth/internal/plan/entry"
	"github.com/plinthdev/plinth/internal/step"
)

// Join makes a host a node of a cluster that is there; way is nil for a
// controller.
func Join(c Cluster, door entry.Door, way *entry.Way) []step.Step {
	admission := entry.Admission{Host: c.Host, K0s: c.K0s, Door: door, Now: c.Now}
	steps := []step.Step{
		c.remember(),
		c.dataDir(),
		c.Kept.Keep(c.Host),
		c.kernel(),
		c.file("k0s-binary", "Put k0s in place", c.K0sFile),
	}
	controls := c.KotsFile.Path != ""
	if controls {
		steps = append(steps, c.file("kots-binary", "Put the kots CLI in place", c.KotsFile))
	}
	steps = append(steps, c.k0sConfig())
	steps = append(steps, way.Prepare()...)
	steps = append(steps, c.agent()...) // on a worker it is what k0s reaches the API by
	steps = append(steps,
		admission.Ask(), // after all that needs time to fetch: the k0s token is short-lived
		c.k0sService(),
		c.k0sStart(),
		c.importImages("images-boot", "Import the images the node boots with", c.Images.Boot),
		c.nodeReady(),
		c.importImages("images-rest", "Import the images of the add-ons", c.Images.Rest),
		admission.Forget(),
	)
	if controls && c.Console.Namespace != "" {
		steps = append(steps, c.consoleCopies())
	}
	return steps
}

// agent has this node serve what hosts that join need.
func (c Cluster) agent() []step.Step {
	if c.Agent.Path == "" {
		return nil
	}
	return []step.Step{c.file("agent-binary", "Put Plinth's agent in place", c.Agent), entry.Agent(c.Host, c.Agent.Path, c.DataDir)}
}
