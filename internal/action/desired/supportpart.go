package desired

import "time"

// SupportUnit is the transient unit in which a node collects its part of a support bundle: the agent, which starts it,
// may not read the host. A node collects one part at a time.
const SupportUnit = "plinth-support-bundle"

// SupportRunTime is when systemd ends a collection that does not end by itself.
const SupportRunTime = 90 * time.Second

// SupportDir is the folder in the data folder for the part that is collected. The agent removes what is in it.
func SupportDir(dataDir string) string { return dataDir + "/agent/support" }

// SupportPartPath is the file with the part of the collection id, once it is complete.
func SupportPartPath(dataDir, id string) string { return SupportDir(dataDir) + "/" + id + ".tar.gz" }
