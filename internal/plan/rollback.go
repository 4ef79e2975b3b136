package plan

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/images"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/step"
)

// NotRestored returns the error of an upgrade that has failed, and whose state before could not be restored because of err.
func NotRestored(failed, err error) error {
	return fmt.Errorf("%w; and the state before could not be restored: %w", failed, err)
}

// Reversal describes the rollback of an upgrade: what is restored, and from where.
type Reversal struct {
	Snapshot       Snapshot
	WithData       bool   // restore etcd and the console's database, too: the upgrade has changed the cluster
	Why            string // why it is rolled back, for the cluster's record
	Records        Records
	Data           ClusterData // nil for that of the cluster
	Health         Health
	Others         OtherNodes
	AddOnSteps     []step.Step // restore the add-ons and the console by their own means, if the data of etcd stays
	RestoreConsole bool        // the database of the console is restored, although the data of etcd stays
}

// NeedsData reports whether the rollback of an upgrade has to restore the data of the cluster, given
// the steps that the upgrade began. A new k0s that only ran has changed nothing that the old one cannot
// read, unless it has another Kubernetes minor: etcd may store its data in another format then.
func NeedsData(began []string, otherMinor bool) bool {
	restarted := false
	for _, id := range began {
		switch id {
		case "nodes-deliver", "nodes-upgraded", "upgrade-lock", "snapshot-files", RecordHostStateID, "data-dir", programStepID, "kernel", "images-boot", "images-rest", "snapshot-data",
			"node-ready", "system-images", "system-pods-start", "system-pods", removeMetricsServerID, "kots-binary", "agent-binary", "agent", BackupScheduleID, "keep-bundle", "health", "upgrade-end":
		case UpgradeK0sID:
			restarted = true
		default:
			if !strings.HasPrefix(id, UpgradeNodePrefix) {
				return true
			}
		}
	}
	return restarted && otherMinor
}

// rollback is the rollback of one node, from inside its cluster.
type rollback struct {
	Cluster
	Reversal
	ownOnly bool // end only an upgrade that this node coordinates
}

// Rollback returns the steps that restore the state before an upgrade on the only controller of a cluster. c has the
// settings of that state. With data, k0s and all pods are stopped first: what they know of the cluster is newer than
// what they would find. Steps that were done by a killed run are done.
func Rollback(c Cluster, r Reversal) []step.Step {
	c.SkipNodes = r.Others.Skipped
	b := rollback{Cluster: c, Reversal: r}
	if b.Data == nil {
		b.Data = clusterData{c}
	}
	data := r.Snapshot.Data
	withEtcd := r.WithData && data != nil && data.Etcd != nil
	steps := b.rollbackNodes()
	if withEtcd {
		steps = append(steps, b.stop()...)
	}
	steps = append(steps, b.restoreFiles())
	if withEtcd {
		steps = append(steps, b.restoreEtcd())
	}
	steps = append(steps, c.startK0sAndWait("rollback-start"), c.waitNodeReady())
	if withEtcd {
		steps = append(steps, b.waitPodsRestarted())
	}
	steps = append(steps, c.removeMetricsServer()...)
	steps = append(steps, c.waitSystemImages(), c.waitSystemPodsReady())
	if !withEtcd {
		steps = append(steps, b.AddOnSteps...)
	}
	if (withEtcd || b.RestoreConsole) && data != nil && data.Console != nil {
		steps = append(steps, b.restoreConsole())
	}
	steps = append(steps, b.startAgent(), b.startBackupTimer())
	if c.Console.URL != "" {
		steps = append(steps, c.waitConsole(consoleTimeout))
	}
	return append(steps, b.compareHealth(), b.recordEnd(), b.removeSnapshot())
}

// RollbackNode returns the steps that restore the state before an upgrade on one node, of a cluster that keeps its data:
// that of a node which another controller has upgraded, or of a controller beside others.
func RollbackNode(c Cluster, r Reversal) []step.Step {
	b := rollback{Cluster: c, Reversal: r}
	steps := []step.Step{b.restoreFiles(), c.startK0sAndWait("rollback-start"), c.waitNodeReady(), b.startAgent(), b.startBackupTimer(), b.removeSnapshot()}
	if c.K0s.Worker { // k0s reaches the controllers through the agent
		steps = []step.Step{b.restoreFiles(), b.startAgent(), c.startK0sAndWait("rollback-start"), c.waitNodeReady(), b.removeSnapshot()}
	}
	return steps
}

// stop returns the steps that stop k0s and end the pods. k0s does not start at boot then.
func (b rollback) stop() []step.Step {
	return b.stopSteps(func() (bool, error) { return b.Snapshot.isMarked(b.Host, etcdRestored), nil }, "rollback-stop", "rollback-pods")
}

// RollbackFilesID is the id of the step of a rollback that restores the files of the host. Not all of them are Plinth's.
const RollbackFilesID = "rollback-files"

// restoreFiles returns the step that restores the files of the host.
func (b rollback) restoreFiles() step.Step {
	var affects []string
	for _, f := range b.Snapshot.Files.Files {
		affects = append(affects, f.Path)
	}
	return step.Step{ID: RollbackFilesID, Title: "Restore the files of this host", Affects: append(affects, b.Snapshot.Files.Trees...),
		Check: func(ctx context.Context) (step.State, error) {
			restore, remove, err := b.Snapshot.Files.Changed(ctx, b.Host)
			switch {
			case err != nil:
				return step.State{}, err
			case len(restore) > 0:
				return step.Needed(restore[0].Path + " differs from the saved one" + andMore(len(restore)+len(remove)-1)), nil
			case len(remove) > 0:
				return step.Needed(remove[0] + " did not exist" + andMore(len(remove)-1)), nil
			}
			return step.Done(), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			if err := b.K0s.RequireRestart(ctx); err != nil {
				return err
			}
			if err := b.stopChangedUnits(ctx); err != nil {
				return err
			}
			return b.Snapshot.Files.Restore(ctx, b.Host)
		},
	}
}

// andMore returns the end of a reason for n further files.
func andMore(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(", and %d more differ", n)
}

// agentUnitPath returns the path of the agent's unit file.
func (b rollback) agentUnitPath() string {
	return node.NewAgentService(b.Host, node.Artifact{}, b.DataDir).UnitPath()
}

// stopChangedUnits stops the agent and the timer of backups if their unit files will be restored or removed: startAgent and
// startBackupTimer start the restored ones. The unit of the agent names its program.
func (b rollback) stopChangedUnits(ctx context.Context) error {
	restore, remove, err := b.Snapshot.Files.Changed(ctx, b.Host)
	if err != nil {
		return err
	}
	for _, f := range restore {
		remove = append(remove, f.Path)
	}
	_, timer := node.BackupTimerPaths()
	for p, unit := range map[string]string{b.agentUnitPath(): node.AgentUnit, timer: cleanup.BackupTimer} {
		if slices.Contains(remove, p) {
			if err := b.Host.StopUnit(ctx, unit); err != nil {
				return err
			}
		}
	}
	return nil
}

// startAgent returns the step that starts the agent again.
func (b rollback) startAgent() step.Step {
	return b.startUnit("rollback-agent", "Start Plinth's agent", node.AgentUnit, b.agentUnitPath())
}

// startBackupTimer returns the step that starts the timer of backups again.
func (b rollback) startBackupTimer() step.Step {
	_, timer := node.BackupTimerPaths()
	return b.startUnit("rollback-backup-schedule", "Start the timer of backups", cleanup.BackupTimer, timer)
}

// startUnit returns the step that starts a unit, if its file exists.
func (b rollback) startUnit(id, title, unit, file string) step.Step {
	return step.Step{ID: id, Title: title, Affects: []string{unit},
		Check: func(ctx context.Context) (step.State, error) {
			if _, err := b.Host.Lstat(file); errors.Is(err, fs.ErrNotExist) {
				return step.Done(), nil
			}
			st, err := b.Host.UnitState(ctx, unit)
			if err != nil || st.StartingOrRunning() && st.Enable == "enabled" {
				return step.Done(), err
			}
			return step.Needed(fmt.Sprintf("%s is %s (%s)", unit, st.Active, st.Sub)), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error { return b.Host.StartUnit(ctx, unit) },
	}
}

// restoreEtcd returns the step that restores the data of etcd while k0s is stopped. The snapshot is verified before
// the data is removed.
func (b rollback) restoreEtcd() step.Step {
	return step.Step{ID: "rollback-etcd", Title: "Restore the data of the control plane", Affects: []string{k0s.EtcdDir},
		Check: func(context.Context) (step.State, error) {
			if b.Snapshot.isMarked(b.Host, etcdRestored) {
				return step.Done(), nil
			}
			return step.Needed("it is that of the upgraded cluster"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			if err := b.Snapshot.verifyData(b.Host, *b.Snapshot.Data.Etcd); err != nil {
				return err
			}
			report("restoring etcd", 0, 0)
			if err := b.K0s.RestoreEtcd(ctx, b.Snapshot.etcdSnapshot(b.Host), path.Join(b.Snapshot.Dir, "work")); err != nil {
				return err
			}
			return b.Snapshot.mark(b.Host, etcdRestored)
		},
	}
}

// waitPodsRestarted returns the step that waits until the cluster knows that its pods have ended and were started
// again. Until then it has the state of all pods from the snapshot, in which they were Ready.
func (b rollback) waitPodsRestarted() step.Step {
	return b.waitPodsStartedAfter("rollback-restarted", "rollback-start", path.Join(b.Snapshot.Dir, etcdRestored))
}

// restoreConsole returns the step that restores the console's database.
func (b rollback) restoreConsole() step.Step {
	return step.Step{ID: "rollback-console", Title: "Restore the console's database", Affects: []string{"namespace " + b.Console.Namespace},
		Check: func(context.Context) (step.State, error) {
			if b.Snapshot.isMarked(b.Host, consoleRestored) {
				return step.Done(), nil
			}
			return step.Needed("it is that of the upgraded console"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			f := *b.Snapshot.Data.Console
			if err := b.Snapshot.verifyData(b.Host, f); err != nil {
				return err
			}
			open := func() (io.ReadCloser, error) { return b.Snapshot.openData(b.Host, f) }
			if err := b.Data.LoadConsole(ctx, open, f.Size, kube.Wait{Timeout: 5 * time.Minute, Report: report, Diagnose: b.K0s.Diagnose}); err != nil {
				return err
			}
			return b.Snapshot.mark(b.Host, consoleRestored)
		},
	}
}

// compareHealth returns the step that waits until the cluster is as healthy as before the upgrade.
func (b rollback) compareHealth() step.Step {
	return healthStep("rollback-health", b.Health, func() (json.RawMessage, error) {
		if b.Snapshot.Data == nil {
			return nil, nil
		}
		return b.Snapshot.Data.Health, nil
	})
}

// recordEnd returns the step that records the end of the rollback in the cluster.
func (b rollback) recordEnd() step.Step {
	done := func(r kube.UpgradeRecord) bool {
		return r.Phase == kube.UpgradeRolledBack && r.To == b.Snapshot.To || b.ownOnly && r.Coordinator != b.NodeName
	}
	return step.Step{ID: "rollback-end", Title: "Record the end of the rollback in the cluster", Affects: []string{upgradeObject},
		Check: func(ctx context.Context) (step.State, error) {
			records, err := b.upgradeRecords(ctx, b.Records)
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			r, err := records.UpgradeRecord(ctx)
			switch {
			case err != nil:
				return step.Needed(err.Error()), ctx.Err()
			case done(r), r.To != b.Snapshot.To: // the upgrade was killed before the cluster knew of it
				return step.Done(), nil
			}
			return step.Needed("the cluster still has the record of the upgrade"), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			records, err := b.upgradeRecords(ctx, b.Records)
			if err != nil {
				return err
			}
			return records.UpdateUpgradeRecord(ctx, func(r *kube.UpgradeRecord) error {
				if done(*r) {
					return nil
				}
				r.From, r.To, r.Phase, r.Why = b.Snapshot.From, b.Snapshot.To, kube.UpgradeRolledBack, b.Why
				return nil
			})
		},
	}
}

// EndUpgrade returns the steps that end an upgrade which has changed nothing: it was killed before it had saved the
// files of the host, or another node had begun the same one. That one is left as it is.
func EndUpgrade(c Cluster, r Reversal) []step.Step {
	b := rollback{Cluster: c, Reversal: r, ownOnly: true}
	return []step.Step{b.recordEnd(), b.removeSnapshot()}
}

// removeSnapshot returns the step that removes the snapshot, which is of no use after the rollback.
func (b rollback) removeSnapshot() step.Step {
	s := RemoveSnapshot(b.Host, b.DataDir)
	s.ID = "rollback-snapshot"
	return s
}

// UnpinImages returns the step that lets kubelet remove the images of earlier bundles when the disk is almost full: nothing
// can go back to them. keep are the references of those that the cluster needs.
func UnpinImages(c Cluster, keep []string) step.Step {
	old := func(ctx context.Context, timeout time.Duration) (*images.Store, []string, error) {
		store, err := c.openImageStore(ctx, timeout)
		if err != nil {
			return nil, nil, err
		}
		refs, err := store.PinnedImages(ctx)
		if err != nil {
			return nil, nil, errors.Join(err, store.Close())
		}
		return store, slices.DeleteFunc(refs, func(ref string) bool { return slices.Contains(keep, ref) }), nil
	}
	return step.Step{ID: "unpin-images", Title: "Let kubelet remove the images of earlier bundles", Affects: []string{k0s.DataDir + "/containerd"},
		Check: func(ctx context.Context) (step.State, error) {
			store, refs, err := old(ctx, 2*time.Second)
			if err != nil {
				return step.Needed(err.Error()), ctx.Err()
			}
			if err := store.Close(); err != nil || len(refs) == 0 {
				return step.Done(), err
			}
			return step.Needed(refs[0] + " is kept" + moreSuffix(len(refs)-1)), nil
		},
		Apply: func(ctx context.Context, _ step.Report) error {
			store, refs, err := old(ctx, 10*time.Second)
			if err != nil {
				return c.explainDown(ctx, err)
			}
			return errors.Join(store.Unpin(ctx, refs), store.Close())
		},
	}
}

// RemoveSnapshot returns the step that removes the snapshot of the last upgrade. After that, the upgrade cannot be
// rolled back.
func RemoveSnapshot(h host.Files, dataDir string) step.Step {
	dir := SnapshotsDir(dataDir)
	return step.Step{ID: "remove-snapshot", Title: "Remove the snapshot", Affects: []string{dir},
		Check: func(context.Context) (step.State, error) {
			_, err := h.Lstat(dir)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return step.Done(), nil
			case err != nil:
				return step.State{}, err
			}
			return step.Needed(dir + " exists"), nil
		},
		Apply: func(context.Context, step.Report) error { return removeSnapshots(h, dir) },
	}
}

// removeSnapshots removes the folder of the snapshots, their descriptions first: a snapshot from which a killed run
// has removed a part must not be found again.
func removeSnapshots(h host.Files, dir string) error {
	entries, err := h.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if err := h.RemoveAll(path.Join(dir, e.Name(), snapshotFile)); err != nil {
			return err
		}
	}
	return h.RemoveAll(dir)
}
