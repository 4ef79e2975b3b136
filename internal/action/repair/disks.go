package repair

import (
	"context"
	"slices"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/checks"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/problem"
)

// writePaths returns what a repair writes to: little, but k0s and the pods start again, and a disk that is full in the middle
// of it leaves them stopped. etcd begins a new file of its log with 64 MB.
func writePaths(dataDir string) []hostpreflight.WritePath {
	return []hostpreflight.WritePath{
		{Path: k0s.DataDir, Purpose: "certificates, etcd and pods that start again", Bytes: 2.5e8},
		{Path: dataDir, Purpose: "the journal and certificates of Plinth", Bytes: 2e7},
		{Path: "/etc", Purpose: "configuration and service units", Bytes: 1e6},
		{Path: "/var/log", Purpose: "logs", Bytes: 1e8},
	}
}

// gatherFacts returns the facts of env's host that a repair needs.
func gatherFacts(ctx context.Context, env *action.Env) facts.Facts {
	need := facts.Request{LocalOnly: true}
	for _, p := range writePaths(env.DataDir) {
		need.Paths = append(need.Paths, p.Path)
	}
	return probe.Gather(ctx, env.Host, need)
}

// diskChecks are the preflights that a repair runs.
var diskChecks = []string{"disk-space", "disk-mount-options"}

// checkDisks refuses a host on whose disks a repair could not write.
func checkDisks(found facts.Facts, dataDir string) error {
	run := slices.DeleteFunc(checks.All(), func(c hostpreflight.Check) bool { return !slices.Contains(diskChecks, c.ID) })
	report, err := hostpreflight.Run(run, found, hostpreflight.Requirements{WritePaths: writePaths(dataDir)}, nil)
	if err != nil {
		return err
	}
	for _, e := range report.Results {
		if e.State == hostpreflight.Fail {
			return problem.Newf(problem.ExitPreflight, doing, e.Fix+"; nothing was changed", "%s", e.Found)
		}
	}
	return nil
}
