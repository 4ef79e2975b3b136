package k0s

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
)

// EtcdDir is the data folder of etcd.
const EtcdDir = "/var/lib/k0s/etcd"

// SharedFile is a file that all controllers of a cluster have in common.
type SharedFile struct {
	Path string
	Perm fs.FileMode // before k0s starts, which gives its keys to the users of its components
}

// SharedFiles returns the authorities of a cluster, the key of its service accounts, and the keys that encrypt Secrets:
// what a controller needs to be one of the same cluster. k0s keeps those that exist, and issues every other certificate
// for the names and addresses of its own host (k0s 1.33.8, cmd/controller/certificates.go and
// pkg/component/controller/etcd.go). With them, a restored cluster trusts the certificates and tokens from before.
func SharedFiles() []SharedFile {
	return []SharedFile{
		{CAKeyPath, 0o600}, {CACertPath, 0o644},
		{SAKeyPath, 0o600}, {SAPubPath, 0o644},
		{pkiDir + "/front-proxy-ca.key", 0o600}, {pkiDir + "/front-proxy-ca.crt", 0o644},
		{pkiDir + "/etcd/ca.key", 0o600}, {pkiDir + "/etcd/ca.crt", 0o644},
		{EncryptionConfPath, 0o600},
	}
}

// PlaceSharedFiles writes the content of SharedFiles, by path. It must run before k0s starts for the first time.
func PlaceSharedFiles(h host.Files, content map[string][]byte) error {
	for dir, perm := range map[string]fs.FileMode{pkiDir: 0o751, pkiDir + "/etcd": 0o711} {
		if err := h.MkdirAll(dir, perm); err != nil {
			return err
		}
	}
	for _, f := range SharedFiles() {
		if err := h.Write(f.Path, bytes.NewReader(content[f.Path]), f.Perm); err != nil {
			return err
		}
	}
	return nil
}

// SharedFilesNeeded returns the reason why PlaceSharedFiles must write the content, or "".
func SharedFilesNeeded(h host.Files, content map[string][]byte) (string, error) {
	for _, f := range SharedFiles() {
		have, err := h.ReadFile(f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return f.Path + " is missing", nil
		case err != nil:
			return "", err
		case !bytes.Equal(have, content[f.Path]):
			return f.Path + " is of another cluster", nil
		}
	}
	return "", nil
}

// restoreTimeout is how long k0s may take to write etcd's data: minutes for the 8 GiB that etcd allows at most.
const restoreTimeout = 10 * time.Minute

// EtcdSnapshot is a snapshot of etcd, as `etcdctl snapshot save` writes it.
type EtcdSnapshot struct {
	Size int64 // bytes
	Open func() (io.ReadCloser, error)
}

// RestoreEtcd replaces the data of etcd with a snapshot, as that of a cluster with this host as its
// only member. The service must be stopped. k0s itself restores it, so that the data is in the
// format of the etcd that k0s runs: from an archive like those of `k0s backup`, of which only the
// snapshot and the configuration exist; k0s skips the rest (k0s 1.33.8, pkg/backup). A run that is
// killed has to call RestoreEtcd again before k0s is started. workDir is a private folder for the
// temporary files of k0s; it is removed.
func (s Service) RestoreEtcd(ctx context.Context, db EtcdSnapshot, workDir string) (err error) {
	if err := s.Host.MkdirAll(workDir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Host.RemoveAll(workDir)) }()
	config, err := s.Host.ReadFile(ConfigPath) // the address of the member is in it
	if err != nil {
		return err
	}
	if err := s.Host.RemoveAll(EtcdDir); err != nil { // k0s refuses a folder with data
		return err
	}
	archive, w := io.Pipe()
	go func() { w.CloseWithError(writeBackup(w, config, db)) }()
	// Without --config-out, k0s prints the configuration.
	_, err = s.Host.Run(ctx, host.Cmd{Argv: []string{BinaryPath, "restore", "--config-out=" + path.Join(workDir, "k0s.yaml"), "-"},
		Env: []string{"TMPDIR=" + workDir}, Stdin: archive, Timeout: restoreTimeout})
	return errors.Join(err, archive.Close())
}

// Names of the files in an archive of `k0s backup` (k0s 1.33.8, pkg/backup).
const (
	backupConfig = "k0s.yaml"
	backupEtcd   = "etcd-snapshot.db"
)

// writeBackup writes an archive like those of `k0s backup`, uncompressed.
func writeBackup(w io.Writer, config []byte, db EtcdSnapshot) error {
	packed, err := gzip.NewWriterLevel(w, gzip.NoCompression)
	if err != nil {
		return err
	}
	out := tar.NewWriter(packed)
	add := func(name string, size int64, content io.Reader) error {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(fs.FileMode(0o600)), Size: size}); err != nil {
			return err
		}
		_, err := io.Copy(out, content)
		return err
	}
	if err := add(backupConfig, int64(len(config)), strings.NewReader(string(config))); err != nil {
		return err
	}
	content, err := db.Open()
	if err != nil {
		return err
	}
	err = add(backupEtcd, db.Size, content)
	return errors.Join(err, content.Close(), out.Close(), packed.Close())
}
