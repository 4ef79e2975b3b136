package checks

import (
	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// withDropIns adds drop-ins of containerd for a k0s whose containerd reads this version of the configuration.
func withDropIns(version int, all ...facts.DropIn) func(*facts.Facts, *hp.Requirements) {
	return func(f *facts.Facts, req *hp.Requirements) {
		f.Runtime.DropIns = all
		req.Containerd = hp.Containerd{Version: version, DropIn: "/etc/k0s/containerd.d/plinth.toml"}
	}
}

func runtimeFaults() []fault {
	const id, file = "containerd-drop-ins", "/etc/k0s/containerd.d/nvidia.toml"
	old := []string{facts.RuntimePlugin1}
	plinth := facts.DropIn{Path: "/etc/k0s/containerd.d/plinth.toml", Version: "2", Plugins: old}
	return []fault{
		{id, "of containerd 1.7, with k0s 1.36", hp.Fail, withDropIns(3, facts.DropIn{Path: file, Version: "2", Plugins: old}, plinth)},
		{id, "of containerd 1.7, upgrade to k0s 1.36", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			withDropIns(3, facts.DropIn{Path: file, Version: "2", Plugins: old}, plinth)(f, req)
			req.Verb, req.Owned = hp.Upgrade, hp.Owned{Installed: true, Paths: []string{"/etc/k0s/containerd.d/plinth.toml"}}
		}},
		{id, "of containerd 1.7, join to k0s 1.36", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			withDropIns(3, facts.DropIn{Path: file, Version: "2"})(f, req)
			req.Verb, req.Role = hp.Join, hp.Worker
		}},
		{id, "of containerd 1.7, not managed by k0s", hp.Fail, func(f *facts.Facts, req *hp.Requirements) {
			withDropIns(3, facts.DropIn{Path: file, Version: "2"})(f, req)
			f.Runtime.Unmanaged = true
		}},
		{id, "no version, with the plug-in of containerd 1.7", hp.Fail, withDropIns(3, facts.DropIn{Path: file, Plugins: old})},
		{id, "version 3, with the plug-in of containerd 1.7", hp.Fail, withDropIns(3, facts.DropIn{Path: file, Version: "3", Plugins: old})},
		{id, "two files", hp.Fail, withDropIns(3, facts.DropIn{Path: file, Version: "2"}, facts.DropIn{Path: "/etc/k0s/containerd.d/zfs.toml", Version: `"3"`})},
		{id, "no TOML", hp.Fail, withDropIns(3, facts.DropIn{Path: file, Error: "invalid TOML: toml: line 1 (last key \"a\"): expected value but found '\\n' instead"})},
		{id, "a folder", hp.Fail, withDropIns(3, facts.DropIn{Path: file, Error: "cannot be read: is a directory"})},
		{id, "of containerd 2", hp.Pass, withDropIns(3, facts.DropIn{Path: file, Version: "3", Plugins: facts.RuntimePlugins2()[1:]}, facts.DropIn{Path: "/etc/k0s/containerd.d/x.toml"}, plinth)},
		{id, "only Plinth's own", hp.Pass, withDropIns(3, plinth)},
		{id, "of containerd 2, with k0s 1.35", hp.Warn, withDropIns(2, facts.DropIn{Path: file, Version: "3", Plugins: facts.RuntimePlugins2()[1:]})},
		{id, "version 3, with the plug-in of containerd 1.7, with k0s 1.35", hp.Fail, withDropIns(2, facts.DropIn{Path: file, Version: "3", Plugins: old})},
		{id, "no number, with k0s 1.35", hp.Fail, withDropIns(2, facts.DropIn{Path: file, Version: `"2"`})},
		{id, "no TOML, with k0s 1.35, not managed by k0s", hp.Pass, func(f *facts.Facts, req *hp.Requirements) {
			withDropIns(2, facts.DropIn{Path: file, Error: "invalid TOML"})(f, req)
			f.Runtime.Unmanaged = true
		}},
		{id, "of containerd 1.7, with k0s 1.35", hp.Pass, withDropIns(2, facts.DropIn{Path: file, Version: "2", Plugins: old})},
		{id, "version 3, without plug-ins for Kubernetes, with k0s 1.35", hp.Pass, withDropIns(2, facts.DropIn{Path: file, Version: "3"})},
		{id, "of containerd 1.7, no bundle", hp.Skipped, withDropIns(0, facts.DropIn{Path: file, Version: "2", Plugins: old})},
		{id, "cannot be read", hp.Unknown, func(f *facts.Facts, req *hp.Requirements) {
			withDropIns(3)(f, req)
			f.Unknown = []facts.Unknown{{Fact: facts.FactRuntime, Reason: "open /etc/k0s/containerd.d: permission denied"}}
		}},
	}
}
