package plan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/step"
)

// Restoration is the restore of the control plane on a controller that survived, or on a new host.
type Restoration struct {
	// Source identifies the data to restore: the digest of the snapshot of etcd in a backup, or ThisNode.
	Source  string
	TakenAt time.Time // UTC; what was written to the cluster later is lost
	// Open opens the snapshot of etcd in the backup; nil for the data of etcd on this host. It may be called
	// again after an error. The content must not be used if the reader or Close returns an error.
	Open func(ctx context.Context) (io.ReadCloser, error)
	// RemoveLost removes all other controllers from the cluster, with the volumes that only they have.
	RemoveLost bool
	Bump       func(path string) error     // nil for etcd.BumpRevision
	Lost       func(c Cluster) LostMembers // nil for those of the cluster
	// Keys are the files of k0s.SharedFiles in the backup, by path: only for RestoreOnNewHost; secret.
	Keys map[string][]byte
	// Nodes are the names of the nodes that may be away: those in the backup or, of a controller that survived, the other
	// controllers.
	Nodes []string
	// Bytes is the size of the snapshot of etcd, for messages; 0 if it is not known.
	Bytes int64
	// NotReady gets which add-ons are not ready at the end, and why; nil for none.
	NotReady func(why string)
}

// ThisNode is the Source of a restore from the data of etcd on this host.
const ThisNode = "this node"

// LostMembers are the other controllers of a cluster.
type LostMembers interface {
	// Names returns the names of the controllers other than this one that the cluster knows.
	Names(ctx context.Context) ([]string, error)
	// Remove removes a controller from the cluster.
	Remove(ctx context.Context, name string) error
}

// RestoreDir returns the folder in the data folder with what is restored, while a restore is not finished.
func RestoreDir(dataDir string) string { return path.Join(dataDir, "restore") }

// RestoreProgress reports what killed runs of the restore from source have done on h: stored means that the data is on
// this host, and that of etcd may be gone; restored means that etcd has it.
func RestoreProgress(h host.Host, dataDir, source string) (stored, restored bool, err error) {
	o := restore{Cluster{Host: h}, Restoration{Source: source}, RestoreDir(dataDir)}
	s, stored, err := o.snapshot()
	return stored, stored && s.isMarked(h, etcdRestored), err
}

// restore is a Restoration on the host of a cluster.
type restore struct {
	Cluster
	Restoration
	dir string // RestoreDir
}

// RestoreEndID is the id of the last step. A run that has begun it has restored everything.
const RestoreEndID = "restore-end"

// Restore returns the steps that make this controller the only one of its cluster, with the data of a backup or
// with its own. Pods keep running on all nodes: the revision of etcd is raised, so that every client lists its
// objects again. Steps that were done by a killed run are done.
func Restore(c Cluster, r Restoration) []step.Step {
	o := newRestore(c, r)
	if o.Lost == nil {
		o.Lost = func(c Cluster) LostMembers { return lostMembers{c.NodeName, c.kubeClient} }
	}
	steps := []step.Step{o.save(), o.stop()}
	if r.Open == nil { // etcd must not write while its data is copied
		steps = []step.Step{o.stop(), o.save()}
	}
	steps = append(steps, o.restoreEtcd(), c.startK0sAndWait("restore-start"), c.waitNodeReady())
	if r.RemoveLost {
		steps = append(steps, o.removeLost("restore-start"))
	}
	return append(append(steps, o.waitAddOns("restore-start")...), o.end())
}

// newRestore returns the restore of r on the host of c.
func newRestore(c Cluster, r Restoration) restore {
	o := restore{c, r, RestoreDir(c.DataDir)}
	if o.Bump == nil {
		o.Bump = etcd.BumpRevision
	}
	return o
}

// EndRestore returns the steps of a restore of which only the end is left.
func EndRestore(c Cluster) []step.Step {
	return []step.Step{restore{Cluster: c, dir: RestoreDir(c.DataDir)}.end()}
}

// snapshot returns the snapshot of this restore; ok is false if there is none yet.
func (o restore) snapshot() (s Snapshot, ok bool, err error) {
	s, ok, err = readSnapshot(o.Host, o.dir)
	return s, ok && s.To == o.Source && s.Data != nil, err
}

// isRestored reports whether etcd has the restored data: what runs now was started after that.
func (o restore) isRestored() (bool, error) {
	_, restored, err := RestoreProgress(o.Host, o.DataDir, o.Source)
	return restored, err
}

// stop returns the step that stops k0s, and with it etcd. Pods keep running.
func (o restore) stop() step.Step { return o.stopSteps(o.isRestored, "restore-stop")[0] }

// save returns the step that stores the snapshot of etcd on this host. After that, the file of the backup is not
// needed any more, and etcd's own data can be removed.
func (o restore) save() step.Step {
	return step.Step{ID: "restore-save", Title: "Store the data to restore on this host", Affects: []string{o.dir},
		Check: func(context.Context) (step.State, error) {
			if _, ok, err := o.snapshot(); err != nil || ok {
				return step.Done(), err
			}
			return step.Needed("it is not stored"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			if err := removeRestored(o.Host, o.dir); err != nil {
				return err
			}
			if err := o.Host.MkdirAll(o.dir, 0o700); err != nil {
				return err
			}
			open := o.Open
			if open == nil {
				open = o.openOwnData
			}
			report("copying the data of etcd", 0, 0)
			r, err := open(ctx)
			if err != nil {
				return err
			}
			s := Snapshot{Dir: o.dir, To: o.Source, Node: o.NodeName, TakenAt: o.Now().UTC()}
			data, err := s.saveData(o.Host, etcdFile, r)
			if err != nil {
				return o.explainSpace(err)
			}
			s.Data = &SnapshotData{TakenAt: o.TakenAt, Etcd: data}
			return s.write(o.Host)
		},
	}
}

// explainSpace adds to the error of a full disk how much is needed: the data to restore, and a copy with a higher revision.
func (o restore) explainSpace(err error) error {
	if o.Bytes > 0 && (errors.Is(err, host.ErrNoSpace) || errors.Is(err, host.ErrQuota)) {
		return fmt.Errorf("%w: %d bytes are needed in %s, and half of it in %s", err, 2*o.Bytes, o.dir, k0s.EtcdDir)
	}
	return err
}

// openOwnData opens the data of etcd on this host as a snapshot. A stopped etcd has written to it everything that it
// knows to be committed.
func (o restore) openOwnData(context.Context) (io.ReadCloser, error) {
	db, err := o.Host.OpenFile(k0s.EtcdDatabase)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{etcd.AppendHash(db), db}, nil
}

// restoreEtcd returns the step that replaces the data of etcd while k0s is stopped. The snapshot is verified first.
func (o restore) restoreEtcd() step.Step {
	return step.Step{ID: "restore-etcd", Title: "Make this host the only member of etcd", Affects: []string{k0s.EtcdDir},
		Check: func(context.Context) (step.State, error) {
			done, err := o.isRestored()
			if err != nil || done {
				return step.Done(), err
			}
			return step.Needed("etcd has the members and the data of before"), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			s, ok, err := o.snapshot()
			if err != nil || !ok {
				return errors.Join(err, errors.New("the data to restore is not stored on this host"))
			}
			if err := s.verifyData(o.Host, *s.Data.Etcd); err != nil {
				return err
			}
			db, err := o.raiseRevision(s)
			if err != nil {
				return o.explainSpace(err)
			}
			report("restoring etcd", 0, 0)
			if err := o.K0s.RestoreEtcd(ctx, db, path.Join(o.dir, "work")); err != nil {
				return err
			}
			return s.mark(o.Host, etcdRestored)
		},
	}
}

// raisedFile is a copy of the database with a higher revision.
const raisedFile = "etcd-raised.db"

// raiseRevision returns a copy of the snapshot s with a higher revision.
func (o restore) raiseRevision(s Snapshot) (db k0s.EtcdSnapshot, err error) {
	r, err := s.openData(o.Host, *s.Data.Etcd)
	if err != nil {
		return db, err
	}
	p := path.Join(o.dir, raisedFile)
	err = o.Host.Write(p, io.LimitReader(r, s.Data.Etcd.Size-etcd.HashSize), 0o600)
	if err := errors.Join(err, r.Close()); err != nil {
		return db, err
	}
	if err := o.Bump(p); err != nil {
		return db, err
	}
	info, err := o.Host.Lstat(p)
	if err != nil {
		return db, err
	}
	return k0s.EtcdSnapshot{Size: info.Size() + etcd.HashSize, Open: func() (io.ReadCloser, error) {
		r, err := o.Host.OpenFile(p)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{etcd.AppendHash(r), r}, nil
	}}, nil
}

// removeLost returns the step that removes the lost controllers from the cluster. started is the id of the step that
// starts k0s.
func (o restore) removeLost(started string) step.Step {
	lost := o.Lost(o.Cluster)
	return step.Step{ID: "restore-lost", Title: "Remove the lost controllers from the cluster", Affects: []string{"Nodes of the other controllers",
		"volumes on them"},
		Check: func(ctx context.Context) (step.State, error) {
			if done, err := o.isRestored(); err != nil || !done {
				return step.Unknown(started), err
			}
			names, err := lost.Names(ctx)
			switch {
			case err != nil:
				return step.Unknown(started), ctx.Err()
			case len(names) == 0:
				return step.Done(), nil
			}
			return step.Needed("the cluster still knows " + names[0] + andMore(len(names)-1)), nil
		},
		Apply: func(ctx context.Context, report step.Report) error {
			if o.APIAnswers == nil {
				if _, err := o.waitAPIServer(ctx, report); err != nil {
					return err
				}
			}
			names, err := lost.Names(ctx)
			for _, name := range names {
				report("removing "+name, 0, 0)
				if err := lost.Remove(ctx, name); err != nil {
					return err
				}
			}
			return err
		},
	}
}

// lostMembers are the other controllers of a real cluster.
type lostMembers struct {
	self   string // name of this controller
	client func(ctx context.Context) (*kube.Client, error)
}

func (l lostMembers) Names(ctx context.Context) (names []string, err error) {
	client, err := l.client(ctx)
	if err != nil {
		return nil, err
	}
	records, err := client.NodeRecords(ctx)
	for _, r := range records.Controllers() {
		if r.Node != l.self {
			names = append(names, r.Node)
		}
	}
	return names, err
}

// Remove removes what the removal of a node does, but for its member of etcd, which does not exist any more.
func (l lostMembers) Remove(ctx context.Context, name string) error {
	client, err := l.client(ctx)
	if err != nil {
		return err
	}
	d := LeavingNode{Name: name, NotReady: true, Kube: client, RemovedBy: "an administrator on " + l.self}
	// The record is what Names finds: it must be the last to go, and RemoveNode deletes it first.
	return applyNeeded(ctx, d.releaseVolumes(), d.deleteObjects(), d.deleteRecord())
}

// applyNeeded applies those of steps that are needed, as a part of another step.
func applyNeeded(ctx context.Context, steps ...step.Step) error {
	for _, s := range steps {
		st, err := s.Check(ctx)
		if err == nil && st.Kind == step.KindNeeded {
			err = s.Apply(ctx, func(string, int64, int64) {})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end returns the step that removes the stored data. The run is recorded after it.
func (o restore) end() step.Step {
	return step.Step{ID: RestoreEndID, Title: "Remove the stored data", Affects: []string{o.dir},
		Check: func(context.Context) (step.State, error) {
			_, err := o.Host.Lstat(o.dir)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return step.Done(), nil
			case err != nil:
				return step.State{}, err
			}
			return step.Needed(o.dir + " exists"), nil
		},
		Apply: func(context.Context, step.Report) error { return removeRestored(o.Host, o.dir) },
	}
}

// removeRestored removes the folder of a restore, its description first: what a killed run has removed a part of must
// not be found again.
func removeRestored(h host.Files, dir string) error {
	return errors.Join(h.RemoveAll(path.Join(dir, snapshotFile)), h.RemoveAll(dir))
}
