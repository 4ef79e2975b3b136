package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/ui"
)

// writer writes the backup of an operation on env's host.
type writer struct {
	*operation
	env   *action.Env
	place place
}

// etcdPath returns the path of the copy of etcd's snapshot.
func (w writer) etcdPath() string { return path.Join(spoolDir(w.env.DataDir), format.EtcdName) }

// saveEtcd stores the snapshot of etcd on this host: its size and digest are written before it.
func (w writer) saveEtcd(ctx context.Context, report step.Report) error {
	if err := w.env.Host.MkdirAll(spoolDir(w.env.DataDir), 0o700); err != nil {
		return err
	}
	r, err := w.data.EtcdSnapshot(ctx)
	if err != nil {
		return fmt.Errorf("cannot read the data of etcd: %w", err)
	}
	counted := &step.Counter{Reader: r, Report: func(n int64) { report("reading etcd", n, 0) }}
	err = w.env.Host.Write(w.etcdPath(), counted, 0o600)
	return errors.Join(err, r.Close())
}

// interruptible returns r, which fails with the cause of ctx once ctx has ended.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return r.Read(p)
	})
}

// readerFunc is a reader whose Read is the function.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// writeFile writes the backup. Its name appears when it is complete.
func (w writer) writeFile(ctx context.Context, report step.Report) error {
	paths, err := w.listFiles()
	if err != nil {
		return err
	}
	m := w.manifest
	etcdFile, err := w.describe(ctx, format.EtcdName, w.etcdPath())
	if err != nil {
		return err
	}
	m.Files = append(m.Files, etcdFile)
	for _, p := range paths {
		f, err := w.describe(ctx, format.HostName(p), p)
		if err != nil {
			return err
		}
		if f.Name != "" {
			m.Files = append(m.Files, f)
		}
	}
	r, out := io.Pipe()
	go func() {
		var err error
		w.result.Digest, err = format.Write(out, m, w.lock, w.open)
		out.CloseWithError(err)
	}()
	counted := &step.Counter{Reader: interruptible(ctx, r), Report: func(n int64) { report("writing "+w.file, n, 0) }}
	err = w.place.Write(ctx, w.file, counted)
	if err := errors.Join(err, r.Close()); err != nil {
		return explainSpace(err, counted.N, m.Bytes())
	}
	w.result.Path, w.result.Size = w.file, counted.N
	return nil
}

// explainSpace adds to the error of a full disk how much was written of at most so many bytes.
func explainSpace(err error, written, most int64) error {
	if errors.Is(err, host.ErrNoSpace) || errors.Is(err, host.ErrQuota) {
		return fmt.Errorf("%w: the backup needs up to %s, and %s of it were written", err, ui.FormatBytes(most), ui.FormatBytes(written))
	}
	return err
}

// open opens a file of the manifest on this host.
func (w writer) open(f format.File) (io.ReadCloser, error) {
	p, ok := f.HostPath()
	if !ok {
		p = w.etcdPath()
	}
	return w.env.Host.OpenFile(p)
}

// describe returns the entry of the file at p; zero for anything but a regular file.
func (w writer) describe(ctx context.Context, name, p string) (f format.File, err error) {
	info, err := w.env.Host.Lstat(p)
	if err != nil || !info.Mode().IsRegular() {
		return f, err
	}
	r, err := w.env.Host.OpenFile(p)
	if err != nil {
		return f, err
	}
	sum := digest.SHA256.Digester()
	n, err := io.Copy(sum.Hash(), interruptible(ctx, r))
	return format.File{Name: name, Mode: info.Mode().Perm(), Size: n, Digest: sum.Digest()}, errors.Join(err, r.Close())
}

// listFiles returns the files of this host that belong to the control plane, sorted.
func (w writer) listFiles() ([]string, error) {
	dataDir, unit := w.env.DataDir, (k0s.Service{}).UnitPath()
	service, timer := node.BackupTimerPaths()
	files := []string{unit, cleanup.ModulesFile, cleanup.SysctlFile, journal.PointerFile, path.Join(path.Dir(unit), node.AgentUnit), service, timer}
	for _, name := range []string{journal.File, journal.CopyFile, journal.ReceiptFile, "facts.json"} {
		files = append(files, path.Join(dataDir, name))
	}
	files = slices.DeleteFunc(files, func(p string) bool {
		_, err := w.env.Host.Lstat(p)
		return err != nil
	})
	for _, tree := range []string{path.Dir(k0s.ConfigPath), path.Dir(k0s.CACertPath), unit + ".d", desired.BundleCacheDir(dataDir),
		path.Dir(node.IdentityPath(dataDir))} {
		below, err := node.ListFiles(w.env.Host, tree)
		if err != nil {
			return nil, err
		}
		files = append(files, below...)
	}
	files = slices.DeleteFunc(files, func(p string) bool { return p == k0s.TokenPath || strings.HasSuffix(p, ".plinth-tmp") })
	slices.Sort(files)
	return slices.Compact(files), nil
}

// verify reads the backup back. Without a private key, it is compared with what was written.
func (w writer) verify(ctx context.Context, report step.Report) error {
	open := w.source(ctx, func(n int64) { report("reading "+w.file, n, w.result.Size) })
	if len(w.lock.Recipients) > 0 {
		h, sum, err := format.VerifyBytes(open)
		if err == nil && sum != w.result.Digest {
			err = fmt.Errorf("%w: it is not what was written", format.ErrDamaged)
		}
		w.result.Backup, w.result.Verified = h, Bytes
		return w.explain(ctx, err)
	}
	m, err := format.Verify(open, format.Key{Passphrase: w.lock.Passphrase})
	w.result.Backup, w.result.Verified = m.Header, Content
	return w.explain(ctx, err)
}

// source returns the source of the backup that reports how much of it was read.
func (w writer) source(ctx context.Context, report func(int64)) format.Source {
	return func() (io.ReadCloser, error) {
		r, err := w.place.Open(ctx, w.file)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{&step.Counter{Reader: r, Report: report}, r}, nil
	}
}

// explain returns err as the failure of the verification, and removes the backup then: a user must not rely
// on it. Also a backup whose verification was interrupted is removed.
func (w writer) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	removed := w.place.Remove(context.WithoutCancel(ctx), w.file)
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), removed)
	}
	return errors.Join(fmt.Errorf("the backup %s cannot be read back, and was removed: %w; check the disk or the store", w.file, err), removed)
}

// removeOlder removes the oldest backups of this cluster in the folder. The one that was just written stays,
// whatever the clock says.
func (w writer) removeOlder(ctx context.Context, _ step.Report) error {
	all, err := listBackups(ctx, w.place, w.dir, false)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(e Entry) bool { // what the user has named stays
		return e.Problem != "" || e.ClusterID != w.manifest.ClusterID || e.Path == w.file || !strings.HasSuffix(e.Path, format.Suffix)
	})
	for len(all) > w.opts.Keep-1 { // the oldest is the last
		oldest := all[len(all)-1]
		if err := w.place.Remove(ctx, oldest.Path); err != nil {
			return err
		}
		w.result.Removed = append(w.result.Removed, oldest.Path)
		all = all[:len(all)-1]
	}
	return nil
}

// recordSuccess stores the backup as the last good one of this host.
func (o *operation) recordSuccess(env *action.Env) error {
	r := o.readRecord(env).ended(o.opts.Scheduled, recordTime(env), "")
	r.Path, r.TakenAt, r.Size, r.Digest, r.Verified = o.result.Path, o.result.Backup.TakenAt, o.result.Size, o.result.Digest, o.result.Verified
	return errors.Join(writeRecord(env.Host, env.DataDir, r), removeOldLogs(env.Host))
}

// keptLogs is the number of logs of backups that stay: a schedule would fill the folder otherwise.
const keptLogs = 100

// removeOldLogs removes the oldest logs of backups. Their names begin with the verb and have the time, so they are sorted.
func removeOldLogs(h host.Files) error {
	entries, err := h.ReadDir(action.LogDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var logs []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), Verb+"-") && strings.HasSuffix(e.Name(), ".log") && e.Type().IsRegular() {
			logs = append(logs, e.Name())
		}
	}
	for ; err == nil && len(logs) > keptLogs; logs = logs[1:] {
		err = h.RemoveAll(path.Join(action.LogDir, logs[0]))
	}
	return err
}

// recordStart stores that a backup of this host has begun, so that one that is killed is not forgotten. A host without a
// control plane has no backups.
func (o *operation) recordStart(env *action.Env) error {
	receipt, ok, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err != nil || !ok || receipt.Role == token.Worker {
		return nil //nolint:nilerr // inspect refuses it
	}
	if err := writeRecord(env.Host, env.DataDir, o.readRecord(env).started(o.opts.Scheduled, recordTime(env))); err != nil {
		return problem.New(problem.ExitStep, "record that a backup has begun", err, cmp.Or(host.DiskHint(err), "check the folder "+env.DataDir))
	}
	o.begun = true
	return nil
}

// recordFailure stores that a backup of this host has failed, beside the last good one, and returns the
// failure. A host without a cluster, and one on which another run holds the lock, have no failed backup.
func (o *operation) recordFailure(env *action.Env, failed error) error {
	if !o.begun {
		return failed
	}
	r := o.readRecord(env)
	if problem.ExitCode(failed) == problem.ExitInterrupted {
		r = r.interrupted(o.opts.Scheduled, recordTime(env))
	} else {
		r = r.ended(o.opts.Scheduled, recordTime(env), env.Secrets.Mask(failed.Error()))
	}
	return errors.Join(failed, writeRecord(env.Host, env.DataDir, r))
}

// readRecord returns the record of this host. A damaged one is replaced.
func (o *operation) readRecord(env *action.Env) Record {
	r, _, err := ReadRecord(env.Host, env.DataDir)
	if err != nil {
		return Record{}
	}
	return r
}

// recordTime returns the time for a record.
func recordTime(env *action.Env) time.Time { return env.Now().UTC().Truncate(time.Second) }
