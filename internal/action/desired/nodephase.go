package desired

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
)

// NodePhaseUnit is the transient unit in which a node runs a phase of its upgrade: the agent, which starts it, may not
// change the host, and is itself restarted by the upgrade. A node runs one phase at a time.
const NodePhaseUnit = "plinth-upgrade-node"

// nodePhasePath is the file in the data folder with the state of the last phase.
func nodePhasePath(dataDir string) string { return dataDir + "/node-upgrade.json" }

// ReadNodePhase returns what the last phase of this node's upgrade wrote; zero if there was none. Only the fields of the
// phase are set.
func ReadNodePhase(h host.Files, dataDir string) (s agent.UpgradeState, err error) {
	raw, err := h.ReadFile(nodePhasePath(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// WriteNodePhase stores the state of a phase.
func WriteNodePhase(h host.Files, dataDir string, s agent.UpgradeState) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return h.Write(nodePhasePath(dataDir), bytes.NewReader(raw), 0o600)
}
