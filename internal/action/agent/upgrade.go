package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/plan"
)

// nodeUpgrader starts the upgrade of this node for controllers. The agent itself changes nothing.
type nodeUpgrader struct {
	*action.Env
	selfDigest func() digest.Digest // digest of the installed program

	mu sync.Mutex // while a phase is started: its file is written before its unit runs
}

var _ agent.NodeUpgrader = (*nodeUpgrader)(nil)

func newNodeUpgrader(env *action.Env, store blobStore) *nodeUpgrader {
	return &nodeUpgrader{Env: env, selfDigest: store.selfDigest}
}

// UpgradeState returns the state of this node and of the last phase of its upgrade. It reads what the phase has written
// after the state of its unit: a phase that ends meanwhile is reported as running, not as killed.
func (u *nodeUpgrader) UpgradeState(ctx context.Context) (s agent.UpgradeState, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	running, err := u.phaseRuns(ctx)
	if err != nil {
		return s, err
	}
	receipt, ok, err := journal.ReadReceipt(u.Host, u.DataDir)
	if err != nil || !ok {
		return s, errors.Join(err, errors.New("no finished install or join is on this host"))
	}
	if s, err = desired.ReadNodePhase(u.Host, u.DataDir); err != nil {
		return s, err
	}
	s.Node, s.Installed, s.Program, s.K0s, s.Version = receipt.Node, receipt.Bundle, u.selfDigest(), receipt.Versions["k0s"], u.Version
	snapshot, found, err := plan.FindSnapshot(u.Host, u.DataDir)
	if err != nil {
		return s, err
	}
	if found {
		s.Snapshot = snapshot.To
	}
	if s.Running = running; s.Phase != "" && !s.Running && s.Ended.IsZero() {
		s.Failed = fmt.Sprintf("it was killed, or node %s was switched off, while it did this: %s", s.Node, s.Step)
	}
	if holder, held := u.LockHolder(); held && !s.Running {
		s.Busy = holder.String()
	}
	return s, nil
}

// phaseRuns reports whether a phase of this node's upgrade runs.
func (u *nodeUpgrader) phaseRuns(ctx context.Context) (bool, error) {
	st, err := u.Host.UnitState(ctx, desired.NodePhaseUnit+".service")
	return st.StartingOrRunning() || st.Active == "deactivating", err
}

// StartUpgrade starts a phase as a transient unit: outside of the restrictions of the agent's unit, and so that it
// outlives the agent, which it restarts. One call at a time decides whether a phase runs.
func (u *nodeUpgrader) StartUpgrade(ctx context.Context, q agent.UpgradeRequest) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	running, err := u.phaseRuns(ctx)
	if err != nil {
		return err
	}
	if running {
		s, err := desired.ReadNodePhase(u.Host, u.DataDir)
		if err != nil || s.Phase == q.Phase && s.Bundle == q.Bundle {
			return err
		}
		return &agent.StatusError{Reason: fmt.Sprintf("it still does another part of an upgrade: %s of bundle %s", s.Phase, s.Bundle), Status: http.StatusLocked}
	}
	if holder, held := u.LockHolder(); held {
		return &agent.StatusError{Reason: "another run changes this host: " + holder.String(), Status: http.StatusLocked}
	}
	program, err := u.programFor(q)
	if err != nil {
		return err
	}
	// Else the end of an earlier run of the same phase would be taken for that of this one, if it cannot even start.
	if err := desired.WriteNodePhase(u.Host, u.DataDir, agent.UpgradeState{Phase: q.Phase, Bundle: q.Bundle, Changed: u.Now().UTC()}); err != nil {
		return err
	}
	argv := []string{"systemd-run", "--quiet", "--collect", "--unit=" + desired.NodePhaseUnit, "--description=Plinth upgrades this node",
		program, "--data-dir", strings.ReplaceAll(u.DataDir, "$", "$$"), "agent", "--upgrade-phase", string(q.Phase), "--upgrade-bundle", q.Bundle.String()}
	if q.Program != "" { // systemd drops an empty argument
		argv = append(argv, "--upgrade-program", q.Program.String())
	}
	_, err = u.Host.Run(ctx, host.Cmd{Argv: argv, Timeout: time.Minute})
	return err
}

// programFor returns the path of the plinth executable that runs a phase: that of this node, or one that the phase
// agent.UpgradeProgram has fetched.
func (u *nodeUpgrader) programFor(q agent.UpgradeRequest) (string, error) {
	if q.Program == "" || q.Program == u.selfDigest() || q.Phase == agent.UpgradeProgram {
		return node.AgentBinary, nil
	}
	staged := desired.StagedProgram(q.Bundle, q.Program)
	if _, err := u.Host.Lstat(staged); !errors.Is(err, fs.ErrNotExist) {
		return staged, err
	}
	if q.Phase == agent.UpgradeRollback || q.Phase == agent.UpgradeCommit { // every version can do these
		return node.AgentBinary, nil
	}
	return "", &agent.StatusError{Reason: "it has not fetched the plinth executable that upgrades it: " + q.Program.String(), Status: http.StatusConflict}
}

// upgradeOffer returns what this controller serves of the bundle of an upgrade that it coordinates or has fetched.
func upgradeOffer(env *action.Env) func(context.Context, digest.Digest) (agent.UpgradeOffer, error) {
	return func(_ context.Context, d digest.Digest) (agent.UpgradeOffer, error) {
		missing := &agent.StatusError{Reason: "this controller does not serve that bundle", Status: http.StatusNotFound}
		if d.Validate() != nil {
			return agent.UpgradeOffer{}, missing
		}
		_, origin, err := desired.ReadStagedIndex(env.Host, d)
		if errors.Is(err, fs.ErrNotExist) {
			return agent.UpgradeOffer{}, missing
		}
		return agent.UpgradeOffer{Bundle: d, Signature: origin.Signature, KeyRotation: origin.KeyRotation}, err
	}
}
