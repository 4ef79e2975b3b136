package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/leftover"
	"github.com/plinthdev/plinth/internal/node/snapshot"
)

// Verification compares a host after a reset with its state before the install.
type Proof struct {
	Compared int      `json:"compared"`            // number of objects that were compared
	Left     []string `json:"leftovers,omitempty"` // objects that can only come from the cluster
	Since    []string `json:"since,omitempty"`     // other differences: changes by the host's owner since the install, and loaded kernel modules
}

// BeforeDir is the folder in the data folder in which RecordHostState stores files.
const BeforeDir = "before"

// snapshotPath returns the path of the snapshot of the host before the install.
func photoFile(dataDir string) string { return path.Join(dataDir, BeforeDir, "host.json") }

// saveSnapshot takes a snapshot of the host before an install and stores it in dataDir.
func photograph(ctx context.Context, h host.Host, c leftover.Cluster, dataDir string) error {
	raw, err := json.Marshal(snapshot.Take(ctx, h, c))
	if err != nil {
		return err
	}
	return h.Write(photoFile(dataDir), bytes.NewReader(raw), 0o600)
}

// VerifyReset compares the host with the snapshot that RecordHostState stored in dataDir. It
// changes nothing.
func Prove(ctx context.Context, h host.Host, c leftover.Cluster, dataDir string) (*Proof, error) {
	file := photoFile(dataDir)
	raw, err := h.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var before snapshot.Snapshot
	if err := json.Unmarshal(raw, &before); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	p := &Proof{Compared: before.Count()}
	for _, change := range snapshot.Diff(before, snapshot.Take(ctx, h, c)) {
		if change.Ours(c) {
			p.Left = append(p.Left, change.String())
		} else {
			p.Since = append(p.Since, change.String())
		}
	}
	return p, nil
}
