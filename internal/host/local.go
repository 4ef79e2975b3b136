package host

import (
	"fmt"
	"path/filepath"
)

// Local returns the machine that this program runs on. Files are below root ("/" on a real host;
// tests use another folder); commands, units and processes are the machine's.
func Local(root string) Host {
	run := &execCommands{}
	files := localFiles{root: root}
	return Host{Commands: run, Files: files, Links: files, Streams: files, Units: systemd{run: run}, Processes: procfs{root: root}, AddressSets: ipsets{}}
}

// localPath returns the path on this machine of the path p of the host.
func (f localFiles) localPath(p string) (string, error) {
	if !filepath.IsAbs(p) {
		return "", fmt.Errorf("path %q is not absolute", p)
	}
	return filepath.Join(f.root, filepath.Clean(p)), nil
}
