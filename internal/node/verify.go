package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/cleanup"
)

// Verification compares a host after a reset with its state before the install.
type Verification struct {
	Compared     int      `json:"compared"`            // number of objects that were compared
	Leftovers    []string `json:"leftovers,omitempty"` // objects that can only come from the cluster
	OtherChanges []string `json:"since,omitempty"`     // other differences: changes by the host's owner since the install, and loaded kernel modules
}

// BeforeDir is the folder in the data folder in which RecordHostState stores files.
const BeforeDir = "before"

// snapshotPath returns the path of the snapshot of the host before the install.
func snapshotPath(dataDir string) string { return path.Join(dataDir, BeforeDir, "host.json") }

// saveSnapshot takes a snapshot of the host before an install and stores it in dataDir.
func saveSnapshot(ctx context.Context, h host.Host, c cleanup.Scope, dataDir string) error {
	raw, err := json.Marshal(cleanup.TakeSnapshot(ctx, h, c))
	if err != nil {
		return err
	}
	return h.Write(snapshotPath(dataDir), bytes.NewReader(raw), 0o600)
}

// VerifyReset compares the host with the snapshot that RecordHostState stored in dataDir. It
// changes nothing.
func VerifyReset(ctx context.Context, h host.Host, c cleanup.Scope, dataDir string) (*Verification, error) {
	file := snapshotPath(dataDir)
	raw, err := h.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var before cleanup.Snapshot
	if err := json.Unmarshal(raw, &before); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	p := &Verification{Compared: before.Count()}
	for _, change := range cleanup.DiffSnapshots(before, cleanup.TakeSnapshot(ctx, h, c)) {
		switch {
		case change.FromCluster(c):
			p.Leftovers = append(p.Leftovers, change.String())
		case change.Section == cleanup.Programs: // others run and end all the time
		default:
			p.OtherChanges = append(p.OtherChanges, change.String())
		}
	}
	return p, nil
}
