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

// Proof is how a host after a reset compares to what it was before the install.
type Proof struct {
	Compared int      `json:"compared"`        // things that were looked at
	Left     []string `json:"left,omitempty"`  // what can only come from the cluster
	Since    []string `json:"since,omitempty"` // other differences: what the host's owner did meanwhile, and loaded kernel modules
}

// BeforeDir is the folder in the data folder that Record keeps things in.
const BeforeDir = "before"

// photoFile is where what could be seen of the host is kept.
func photoFile(dataDir string) string { return path.Join(dataDir, BeforeDir, "host.json") }

// photograph keeps what can be seen of the host before an install.
func photograph(ctx context.Context, h host.Host, c leftover.Cluster, dataDir string) error {
	raw, err := json.Marshal(snapshot.Take(ctx, h, c))
	if err != nil {
		return err
	}
	return h.Write(photoFile(dataDir), bytes.NewReader(raw), 0o600)
}

// Prove compares the host with what Record kept.
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
