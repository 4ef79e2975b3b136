package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
)

// Removal is what a host records about itself after its cluster has removed it.
type Removal struct {
	Node    string    `json:"node"`              // Kubernetes name
	UID     string    `json:"uid"`               // of the admission that was ended
	By      string    `json:"by"`                // who removed it, for users
	At      time.Time `json:"at"`                // when, UTC
	Stopped bool      `json:"stopped,omitempty"` // k0s and the programs of its pods were ended since
}

// RemovalPath returns the file in which a host records its removal.
func RemovalPath(dataDir string) string { return dataDir + "/agent/removed.json" }

// ReadRemoval returns the removal of this host. ok is false if the cluster has not removed it, or has admitted it
// again since.
func ReadRemoval(h host.Files, dataDir string) (r Removal, ok bool, err error) {
	raw, err := h.ReadFile(RemovalPath(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil {
		return r, false, fmt.Errorf("%s: %w", RemovalPath(dataDir), err)
	}
	i, err := ReadIdentity(h, dataDir)
	if err != nil {
		return r, false, err
	}
	self, admitted := i.NodeID()
	return r, admitted && r.UID != "" && self.UID == r.UID, nil
}

// Write records the removal, readable only by root.
func (r Removal) Write(h host.Files, dataDir string) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return h.Write(RemovalPath(dataDir), strings.NewReader(string(raw)+"\n"), 0o600)
}

// String returns the sentence for users, without what to do.
func (r Removal) String() string {
	return fmt.Sprintf("this host was removed from the cluster by %s at %s", r.By, r.At.UTC().Format(time.RFC3339))
}
