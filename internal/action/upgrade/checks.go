package upgrade

import (
	"context"
	"encoding/json"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/spec"
)

// checkInstallers returns what differs between two Installers, or why one cannot replace the other.
func checkInstallers(was, is *spec.Installer) (changes []string, err error) {
	return spec.Diff(was, is)
}

// clusterHealth compares the cluster with its state before an upgrade.
type clusterHealth struct {
	env     *action.Env
	address string          // of this host
	console journal.Console // zero if there is none
	dropped []addons.AddOn  // whose workloads are removed
}

var _ plan.Health = clusterHealth{}

func (h clusterHealth) Gather(ctx context.Context) (json.RawMessage, error) {
	return json.RawMessage("{}"), nil
}

func (h clusterHealth) Worse(ctx context.Context, before json.RawMessage) ([]string, error) {
	return nil, nil
}
