package host

import (
	"fmt"
	"path/filepath"
)

// Local is the machine this program runs on. Files live below root ("/" on a
// real host; tests move it); commands, units and processes are the machine's.
func Local(root string) Host {
	run := &execCommands{}
	files := localFiles{root: root}
	return Host{Commands: run, Files: files, Streams: files, Units: systemd{run: run}, Processes: procfs{root: root}, AddressSets: ipsets{}}
}

// path maps a path of the host to a path of this process.
func (f localFiles) path(p string) (string, error) {
	if !filepath.IsAbs(p) {
		return "", fmt.Errorf("path %q is not absolute", p)
	}
	return filepath.Join(f.root, filepath.Clean(p)), nil
}
