package plan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/upgrade"
	"github.com/plinthdev/plinth/internal/wait"
)

// Snapshot is what a rollback of an upgrade needs: the files of this host, and the data of the
// cluster before the upgrade. It is stored in a folder of its own, readable by root only, because it
// contains secrets. It is complete, or has Data, only when its description says so. A restore of the control plane stores its
// data on the host as a Snapshot, too, without files: To is then Restoration.Source.
type Snapshot struct {
	Dir      string            `json:"-"`        // folder of the snapshot
	Version  int               `json:"version"`  // schema version
	From     string            `json:"from"`     // digest of the bundle that was installed
	To       string            `json:"to"`       // digest of the bundle of the upgrade
	Node     string            `json:"node"`     // Kubernetes name of this host
	Versions map[string]string `json:"versions"` // of the components before the upgrade
	TakenAt  time.Time         `json:"takenAt"`  // UTC; when the files were saved
	Files    node.FileSnapshot `json:"files"`
	Others   []upgrade.Batch   `json:"others,omitempty"`  // other nodes that the upgrade reaches, in order; on the coordinator
	Follows  bool              `json:"follows,omitempty"` // another controller coordinates the upgrade
	Data     *SnapshotData     `json:"data,omitempty"`    // nil until the data is saved, after which the cluster may change
}

// SnapshotData describes the data of the cluster in a snapshot.
type SnapshotData struct {
	TakenAt time.Time       `json:"takenAt"`           // UTC; what is written to the cluster later is lost in a rollback
	Etcd    *DataFile       `json:"etcd,omitempty"`    // nil for a worker
	Console *DataFile       `json:"console,omitempty"` // nil without a console
	Health  json.RawMessage `json:"health,omitempty"`  // of the cluster, to compare
}

// DataFile is a file in the folder of a snapshot.
type DataFile struct {
	Name   string        `json:"name"`
	Size   int64         `json:"size"` // bytes
	Digest digest.Digest `json:"digest"`
}

// snapshotVersion is the schema version of the description of a snapshot.
const snapshotVersion = 1

// Names in the folder of a snapshot.
const (
	snapshotFile    = "snapshot.json"
	snapshotFiles   = "files"
	etcdFile        = "etcd.db"
	consoleFile     = "console.db"
	etcdRestored    = "etcd-restored"    // exists once a rollback has restored etcd
	consoleRestored = "console-restored" // exists once a rollback has restored the console's database
)

// SnapshotsDir returns the folder in the data folder with the snapshot of the last upgrade.
func SnapshotsDir(dataDir string) string { return path.Join(dataDir, "upgrade") }

// SnapshotDir returns the folder of the snapshot that an upgrade from the bundle with this digest takes.
func SnapshotDir(dataDir, from string) string {
	short := strings.TrimPrefix(from, "sha256:")
	return path.Join(SnapshotsDir(dataDir), short[:min(12, len(short))])
}

// FindSnapshot returns the snapshot of the last upgrade; ok is false if there is none.
func FindSnapshot(h host.Files, dataDir string) (s Snapshot, ok bool, err error) {
	entries, err := h.ReadDir(SnapshotsDir(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	for _, e := range entries {
		s, ok, err = readSnapshot(h, path.Join(SnapshotsDir(dataDir), e.Name()))
		if ok || err != nil {
			return s, ok, err
		}
	}
	return s, false, nil
}

// readSnapshot returns the snapshot in dir; ok is false if there is none, or an incomplete one.
func readSnapshot(h host.Files, dir string) (s Snapshot, ok bool, err error) {
	raw, err := h.ReadFile(path.Join(dir, snapshotFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil && s.Version != snapshotVersion {
		err = fmt.Errorf("it has the schema version %d; use the version of Plinth that wrote it", s.Version)
	}
	if err != nil {
		return Snapshot{}, false, fmt.Errorf("the snapshot %s: %w", dir, err)
	}
	s.Dir, s.Files.Dir = dir, path.Join(dir, snapshotFiles)
	return s, true, nil
}

// FilesDir returns the folder that contains the saved copy of the host's folder dir.
func (s Snapshot) FilesDir(dir string) string { return path.Join(s.Dir, snapshotFiles, dir) }

// write stores the description of the snapshot.
func (s Snapshot) write(h host.Files) error {
	s.Version = snapshotVersion
	raw, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return h.Write(path.Join(s.Dir, snapshotFile), bytes.NewReader(raw), 0o600)
}

// saveData writes the content of r to a file of the snapshot, and closes r.
func (s Snapshot) saveData(h host.Files, name string, r io.ReadCloser) (*DataFile, error) {
	sum := digest.SHA256.Digester()
	counted := &step.Counter{Reader: r}
	err := h.Write(path.Join(s.Dir, name), io.TeeReader(counted, sum.Hash()), 0o600)
	return &DataFile{Name: name, Size: counted.N, Digest: sum.Digest()}, errors.Join(err, r.Close())
}

// openData opens a file of the snapshot. The reader returns an error at its end if the file was damaged.
func (s Snapshot) openData(h host.Streams, f DataFile) (io.ReadCloser, error) {
	r, err := h.OpenFile(path.Join(s.Dir, f.Name))
	if err != nil {
		return nil, err
	}
	return node.VerifyDigest(r, f.Digest), nil
}

// verifyData returns an error if a file of the snapshot is missing or was damaged.
func (s Snapshot) verifyData(h host.Streams, f DataFile) error {
	r, err := s.openData(h, f)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// isMarked reports whether the file of a snapshot that marks a restored part exists.
func (s Snapshot) isMarked(h host.Files, name string) bool {
	_, err := h.Lstat(path.Join(s.Dir, name))
	return err == nil
}

// mark creates the file that marks a restored part.
func (s Snapshot) mark(h host.Files, name string) error {
	return h.Write(path.Join(s.Dir, name), strings.NewReader(""), 0o600)
}

// ClusterData reads and restores the data of a cluster.
type ClusterData interface {
	// EtcdSnapshot returns a snapshot of etcd.
	EtcdSnapshot(ctx context.Context) (io.ReadCloser, error)
	// ConsoleBackup returns a backup of the console's database.
	ConsoleBackup(ctx context.Context) (io.ReadCloser, error)
	// LoadConsole replaces the content of the console's database with a backup of size bytes, which
	// open opens. It waits until the database serves.
	LoadConsole(ctx context.Context, open func() (io.ReadCloser, error), size int64, w kube.Wait) error
}

// clusterData is the data of a real cluster.
type clusterData struct{ Cluster }

func (c clusterData) EtcdSnapshot(ctx context.Context) (io.ReadCloser, error) {
	client, err := etcd.New(c.Host)
	if err != nil {
		return nil, err
	}
	return client.Snapshot(ctx)
}

func (c clusterData) ConsoleBackup(ctx context.Context) (io.ReadCloser, error) {
	k, err := c.consoleDriver(ctx)
	if err != nil {
		return nil, err
	}
	return k.BackupDatabase(ctx)
}

// LoadConsole also starts the console again, which keeps some of the content in memory.
func (c clusterData) LoadConsole(ctx context.Context, open func() (io.ReadCloser, error), size int64, w kube.Wait) error {
	k, err := c.consoleDriver(ctx)
	if err != nil {
		return err
	}
	if err := k.WaitDatabase(ctx, w); err != nil {
		return err
	}
	load := func(ctx context.Context) (bool, string, error) {
		backup, err := open()
		if err != nil {
			return false, "", err
		}
		err = k.LoadDatabase(ctx, backup, size)
		_ = backup.Close() // it is only read, and the client may have closed it
		if err != nil {
			return false, err.Error(), nil // its pod is Ready, but its address may not lead there yet
		}
		return true, "", nil
	}
	err = wait.Until(ctx, wait.Options{What: "the console's database to load its backup", Timeout: w.Timeout, Interval: time.Second, Diagnose: w.Diagnose, NextCommand: "sudo plinth kubectl get pods -n " + k.Namespace}, load)
	if err != nil {
		return err
	}
	return k.RestartConsole(ctx, w)
}

// etcdSnapshot returns the snapshot of etcd for k0s.
func (s Snapshot) etcdSnapshot(h host.Streams) k0s.EtcdSnapshot {
	f := *s.Data.Etcd
	return k0s.EtcdSnapshot{Size: f.Size, Open: func() (io.ReadCloser, error) { return s.openData(h, f) }}
}
