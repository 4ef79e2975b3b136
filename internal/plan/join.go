package plan

import (
	"github.com/plinthdev/plinth/internal/step"
)

// Join returns the steps that make a host a node of an existing cluster. access is nil for a
// controller.
func Join(c Cluster, admitter Admitter, access *APIAccess) []step.Step {
	admission := admission{Host: c.Host, DataDir: c.DataDir, K0s: c.K0s, Admitter: admitter, Now: c.Now}
	steps := []step.Step{
		c.recordHostState(),
		c.createDataDir(),
	}
	steps = append(steps, c.programSteps()...)
	steps = append(steps, c.firewallSteps()...)
	steps = append(steps,
		c.BundleCache.storeStep(c.Host),
		c.prepareKernel(),
		c.placeK0s(),
	)
	hasConsole := c.KotsFile.Path != ""
	if hasConsole {
		steps = append(steps, c.placeFile("kots-binary", "Put the kots CLI in place", c.KotsFile))
	}
	steps = append(steps, c.writeK0sConfig())
	steps = append(steps, access.seedSteps()...)
	steps = append(steps, c.agentSteps()...) // on a worker k0s reaches the API server through the agent
	steps = append(steps,
		admission.requestStep(), // after the steps that download files: a controller holds the join lock from here on
		c.registerK0s(),
		c.startK0s(),
		c.importImages("images-boot", "Import the images the node boots with", c.Images.Boot),
		c.waitNodeReady(),
		c.importImages("images-rest", "Import the images of the add-ons", c.Images.Rest),
		admission.removeTokenStep(),
	)
	if hasConsole && c.Console.Namespace != "" {
		steps = append(steps, c.enableConsoleHA())
	}
	return append(steps, c.scheduleSteps()...)
}
