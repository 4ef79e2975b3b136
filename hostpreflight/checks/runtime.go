package checks

import (
	"fmt"
	"slices"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// runtimeChecks returns the checks of the configuration of k0s's containerd.
func runtimeChecks() []hp.Check {
	return []hp.Check{
		{ID: "containerd-drop-ins", Group: "Already on this host", Title: "Own configuration of containerd", Severity: hp.Fail,
			Expected: "files in /etc/k0s/containerd.d for the containerd of the bundle's k0s: version 3 from k0s 1.36 on, version 2 before; warns of settings that it ignores",
			Rationale: "k0s 1.36 has containerd 2, and does not start if a file there has another version or the plug-in of containerd 1.7 (k0s docs/runtime.md); " +
				"containerd 1.7 ignores the plug-ins of containerd 2.",
			Run: hp.RequireFact(facts.FactRuntime, checkRuntimeDropIns)},
	}
}

func checkRuntimeDropIns(f facts.Facts, req hp.Requirements) hp.Result {
	version := req.Containerd.Version
	if version == 0 {
		return hp.Skip("install", "depends on the k0s of the bundle")
	}
	if version < 3 && f.Runtime.Unmanaged {
		return hp.Passed("k0s reads none, because /etc/k0s/containerd.toml is not its own")
	}
	var all []hp.Result
	for _, d := range f.Runtime.DropIns {
		if d.Path != req.Containerd.DropIn {
			all = append(all, checkRuntimeDropIn(d, version))
		}
	}
	if all == nil {
		return hp.Passed("none")
	}
	return hp.WorstResult(all)
}

// checkRuntimeDropIn reports what a containerd that reads this version of the configuration does with d. Sources: containerd
// 1.7.30, services/server/config, where the last version of all files counts, which is that of k0s unless a file has the
// plug-in that k0s merges with its own; k0s 1.35.7 and 1.36.3, pkg/component/worker/containerd/configurer.go.
func checkRuntimeDropIn(d facts.DropIn, version int) hp.Result {
	if d.Error != "" {
		return hp.Failed(fmt.Sprintf("correct the file, or remove it: k0s does not start with it\nsudoedit %s", d.Path), "%s: %s", d.Path, d.Error)
	}
	old := slices.Contains(d.Plugins, facts.RuntimePlugin1)
	sameVersion := d.Version == "" || d.Version == fmt.Sprint(version)
	isNumber := strings.Trim(d.Version, "0123456789") == ""
	switch {
	case version >= 3 && (!sameVersion || old):
		return hp.Failed(convertFix, "%s", describeDropIn(d)).WithExpected("version %d or none, without the plug-in %s", version, facts.RuntimePlugin1)
	case version < 3 && (!isNumber || !sameVersion && old):
		return hp.Failed("set version = 2 in "+d.Path, "%s", describeDropIn(d)).WithExpected("version %d or none", version)
	case version < 3 && len(d.Plugins) > 0 && !old:
		return hp.Warned(fmt.Sprintf("for this k0s, use version = 2 and the plug-in %s in %s", facts.RuntimePlugin1, d.Path),
			"%s, which containerd 1.7 ignores", describeDropIn(d)).WithExpected("version %d or none, with the plug-in %s", version, facts.RuntimePlugin1)
	}
	return hp.Passed("%s", describeDropIn(d))
}

// convertFix is how to convert drop-ins for containerd 2. A copy with another ending, which k0s does not read, is for a rollback.
// Source of what is moved: containerd 2.2.3, plugins/cri/{images,runtime}/plugin.go (configMigration).
const convertFix = "keep a copy for a rollback (sudo cp FILE.toml FILE.toml.v2), then convert the file for containerd 2:\n" +
	"set version = 3, and instead of " + facts.RuntimePlugin1 + " use io.containerd.cri.v1.images for registry, snapshotter and pulls\n" +
	"and io.containerd.cri.v1.runtime for the rest; remove sandbox_image, which k0s sets, and make cni.bin_dir the list bin_dirs"

// describeDropIn returns the version and the plug-ins of d in words.
func describeDropIn(d facts.DropIn) string {
	text := d.Path + ": no version"
	if d.Version != "" {
		text = d.Path + ": version " + d.Version
	}
	if len(d.Plugins) > 0 {
		text += ", with the plug-in " + strings.Join(d.Plugins, " and ")
	}
	return text
}
