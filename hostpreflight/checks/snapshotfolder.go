package checks

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/problem"
)

// runSnapshotFolder is the program whose result checkSnapshotFolder reads, by its name in the facts.
const runSnapshotFolder = "plinth-snapshot-folder"

// snapshotFolderRuns returns the program for checkSnapshotFolder: stat writes the type and the mode in hexadecimal.
func snapshotFolderRuns(req hp.Requirements) []facts.CommandKey {
	if req.SnapshotFolder == "" || req.IsWorker() {
		return nil
	}
	return []facts.CommandKey{{Name: runSnapshotFolder, Argv: []string{"stat", "-c", "%f", "--", req.SnapshotFolder}, Env: []string{"LC_ALL=C"},
		Timeout: 5 * time.Second}} // a share may not answer
}

// Bits of the mode that stat writes (inode(7)).
const (
	typeMask    = 0o170000
	typeFolder  = 0o040000
	modeBits    = 0o7777
	othersWrite = 0o002
)

func checkSnapshotFolder(f facts.Facts, req hp.Requirements) hp.Result {
	folder := req.SnapshotFolder
	if folder == "" {
		return hp.Skip("install", "the Installer has no folder for snapshots")
	}
	i := slices.IndexFunc(f.Runs, func(r facts.CommandResult) bool { return r.Name == runSnapshotFolder })
	if i < 0 {
		return hp.Undetermined(folder + ": " + cmp.Or(f.UnknownReason(facts.FactRun+":"+runSnapshotFolder), "it was not checked"))
	}
	r := f.Runs[i]
	mode, err := strconv.ParseUint(strings.TrimSpace(r.Output), 16, 32)
	switch {
	case r.Code != 0 && strings.Contains(r.Error, "No such file or directory"):
		return hp.Passed("%s does not exist yet", folder)
	case r.Code != 0 || err != nil:
		return hp.Undetermined(folder + ": " + cmp.Or(r.Error, "its mode cannot be read"))
	case mode&typeMask != typeFolder:
		return hp.Failed("remove it, or name another folder", "%s is not a folder", folder)
	case mode&othersWrite != 0:
		return hp.Failed("sudo chmod o-w "+problem.QuoteWord(folder)+"; for a mount that has no modes, mount it so that only root can write to it",
			"all users can write to %s (mode %04o)", folder, mode&modeBits)
	}
	return hp.Passed("%s, mode %04o", folder, mode&modeBits)
}
