package plan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/step"
)

// saveFiles returns the step that saves every file of the host that the upgrade may change. It removes
// the snapshot of an earlier upgrade.
func (u nodeUpgrade) saveFiles() step.Step {
	return step.Step{ID: "snapshot-files", Title: "Save the files of this host", Affects: []string{SnapshotsDir(u.DataDir)},
		Check: func(context.Context) (step.State, error) {
			if _, taken, err := u.snapshot(); err != nil || taken || !u.changes() {
				return step.Done(), err
			}
			return step.Needed("they are not saved"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			if err := removeSnapshots(u.Host, SnapshotsDir(u.DataDir)); err != nil {
				return err
			}
			for _, dir := range []string{SnapshotsDir(u.DataDir), u.dir} {
				if err := u.Host.MkdirAll(dir, 0o700); err != nil {
					return err
				}
			}
			report("copying files", 0, 0)
			files, err := u.filesToSave(ctx)
			if err != nil {
				return err
			}
			s := Snapshot{Others: u.Others.Batches, Follows: u.Follows, Dir: u.dir, From: u.From, To: u.To, Node: u.NodeName, Versions: u.Versions, TakenAt: u.Now().UTC()}
			if s.Files, err = node.TakeFileSnapshot(u.Host, path.Join(u.dir, snapshotFiles), files, u.treesToSave()); err != nil {
				return err
			}
			return s.write(u.Host)
		},
	}
}

// filesToSave returns the files that the upgrade may change. The programs, which are large, are left out
// if they stay as they are.
func (u nodeUpgrade) filesToSave(ctx context.Context) ([]string, error) {
	agent := node.NewAgentService(u.Host, u.AgentFile, u.DataDir)
	all := append(u.K0s.ConfigPaths(), u.K0s.UnitPath(), cleanup.ModulesFile, cleanup.SysctlFile, agent.UnitPath(), u.Receipt)
	if u.PointerFile != "" {
		all = append(all, u.PointerFile)
	}
	if !u.K0s.Worker {
		service, timer := node.BackupTimerPaths()
		all = append(all, service, timer)
	}
	for _, program := range []node.Artifact{u.K0sFile, u.KotsFile, u.AgentFile, u.ProgramFile} {
		if program.Path == "" {
			continue
		}
		why, err := program.Check(ctx, u.Host)
		if err != nil {
			return nil, err
		}
		if why != "" {
			all = append(all, program.Path)
		}
	}
	return all, nil
}

// treesToSave returns the folders whose files the upgrade may change, add or remove.
func (u nodeUpgrade) treesToSave() []string {
	return []string{k0s.RegistryDir, path.Dir(k0s.ContainerdDropInPath), u.K0s.UnitPath() + ".d", u.BundleCache.Dir}
}

// saveData returns the step that saves the data of the control plane and the console, and the health of
// the cluster, right before the first change of the cluster.
func (u nodeUpgrade) saveData() step.Step {
	return step.Step{ID: "snapshot-data", Title: "Save the data of the control plane and the console", Affects: []string{u.dir},
		Check: func(context.Context) (step.State, error) {
			if saved, err := u.isSaved(); err != nil || saved || !u.changes() {
				return step.Done(), err
			}
			return step.Needed("it is not saved"), nil
		},
		Apply: func(ctx context.Context, report step.Report) (err error) {
			s, ok, err := u.snapshot()
			if err != nil || !ok {
				return errors.Join(err, errors.New("the files of this host are not saved"))
			}
			data := SnapshotData{TakenAt: u.Now().UTC()}
			if u.K0s.Worker { // it has none, but what was delivered to it is complete
				s.Data = &data
				return s.write(u.Host)
			}
			if data.Health, err = u.Health.Gather(ctx); err != nil {
				return fmt.Errorf("cannot read the state of the cluster: %w", err)
			}
			report("saving etcd", 0, 0)
			if data.Etcd, err = u.save(ctx, s, etcdFile, u.Data.EtcdSnapshot); err != nil {
				return fmt.Errorf("cannot save the data of etcd: %w", err)
			}
			if u.Versions["kotsadm"] != "" {
				report("saving the console's database", 0, 0)
				if data.Console, err = u.save(ctx, s, consoleFile, u.Data.ConsoleBackup); err != nil {
					return fmt.Errorf("cannot save the console's database: %w", err)
				}
			}
			s.Data = &data
			if err := s.write(u.Host); err != nil || u.Follows {
				return err
			}
			return u.setPhase(ctx, kube.UpgradeNodes)
		},
	}
}

// save writes what open returns to a file of the snapshot s.
func (u nodeUpgrade) save(ctx context.Context, s Snapshot, name string, open func(context.Context) (io.ReadCloser, error)) (*DataFile, error) {
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	return s.saveData(u.Host, name, r)
}
