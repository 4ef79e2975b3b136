package backup

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/action"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/ui"
)

// Entry is a backup in a folder. Its JSON format is public.
type Entry struct {
	Path string `json:"path"`
	Size int64  `json:"size"` // bytes
	format.Header
	Problem string `json:"problem,omitempty"` // why its header cannot be read
}

// List returns the backups in a folder or below a prefix of an object store, and in the folders of nodes in it, newest
// first, by their headers.
func List(ctx context.Context, env *action.Env, folder string, store objectstore.Settings) ([]Entry, error) {
	dir, err := absolute(folder)
	if err != nil {
		return nil, err
	}
	p, err := placeOf(env, dir, store)
	var all []Entry
	if err == nil {
		all, err = listBackups(ctx, p, dir, true)
	}
	if err != nil {
		hint := cmp.Or(problem.Hint(err), "give the folder of --to")
		if errors.Is(err, fs.ErrPermission) {
			hint = host.AccessHint(dir)
		}
		return nil, orInterrupt(ctx, problem.New(problem.ExitUsage, "list the backups in "+ui.CleanLine(folder), problem.PathCause(err), hint))
	}
	return all, nil
}

// absolute returns the absolute path of p; a URL stays as it is.
func absolute(p string) (string, error) {
	if objectstore.IsURL(p) {
		return p, nil
	}
	return filepath.Abs(p)
}

// listBackups returns the backups in dir, newest first; deep includes those in the folders in it.
func listBackups(ctx context.Context, p place, dir string, deep bool) ([]Entry, error) {
	all, err := p.List(ctx, dir, deep)
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Header, err = readHeader(ctx, p, all[i].Path)
		switch {
		case ctx.Err() != nil: // the others cannot be read either
			return nil, context.Cause(ctx)
		case err != nil:
			all[i].Problem = problem.PathCause(err).Error()
		}
	}
	slices.SortStableFunc(all, func(x, y Entry) int { return y.TakenAt.Compare(x.TakenAt) })
	return all, nil
}

// NewestBeside returns the newest backup of the cluster of h that is newer than h and in the same folder as file, or below
// the same prefix; ok is false if there is none. A folder that cannot be listed has none.
func NewestBeside(ctx context.Context, env *action.Env, file string, store objectstore.Settings, h format.Header) (newest Entry, ok bool) {
	p, err := absolute(file)
	if err != nil {
		return newest, false
	}
	from, err := placeOf(env, p, store)
	if err != nil {
		return newest, false
	}
	dir := filepath.Dir(p)
	if l, err := objectstore.ParseURL(p); objectstore.IsURL(p) && err == nil {
		dir = objectstore.Location{Bucket: l.Bucket, Key: strings.TrimPrefix(path.Dir("/"+l.Key), "/")}.String()
	}
	all, err := listBackups(ctx, from, dir, false)
	if err != nil {
		return newest, false
	}
	i := slices.IndexFunc(all, func(e Entry) bool { return e.Problem == "" && e.ClusterID == h.ClusterID && e.TakenAt.After(h.TakenAt) })
	if i < 0 {
		return newest, false
	}
	return all[i], true // they are sorted, the newest first
}

// readHeader returns the header of a file.
func readHeader(ctx context.Context, p place, file string) (format.Header, error) {
	r, err := p.OpenHeader(ctx, file)
	if err != nil {
		return format.Header{}, err
	}
	header, err := format.ReadHeader(r)
	return header, errors.Join(err, r.Close())
}

// Verification is the result of Verify. Its JSON format is public.
type Verification struct {
	Path     string        `json:"path"`
	Backup   format.Header `json:"backup"`
	Verified Verified      `json:"verified"`
	Nodes    []format.Node `json:"nodes,omitempty"` // only if its content was read
	Files    int           `json:"files,omitempty"` // only if its content was read
}

// Verify reads a whole backup. Without a key for an encrypted one, it compares the file with the digest at
// its end only.
func Verify(ctx context.Context, env *action.Env, file string, flags KeyFlags, store objectstore.Settings) (Verification, error) {
	v := Verification{Path: file}
	open, err := OpenFile(ctx, env, file, store)
	if err != nil {
		return v, err
	}
	key, given, err := flags.key()
	if err != nil {
		return v, err
	}
	h, _, err := format.VerifyBytes(open)
	if err != nil {
		return v, Refusal(ctx, "verify the backup "+ui.CleanLine(file), err)
	}
	v.Backup, v.Verified = h, Bytes
	if !given && h.Encryption != format.Unencrypted {
		return v, nil
	}
	m, err := format.Verify(open, key)
	if err != nil {
		return v, Refusal(ctx, "verify the backup "+ui.CleanLine(file), err)
	}
	v.Verified, v.Nodes, v.Files = Content, m.Nodes, len(m.Files)
	return v, nil
}

// OpenFile returns the source of a backup that the user named. An object is read again from the store each time.
func OpenFile(ctx context.Context, env *action.Env, file string, store objectstore.Settings) (format.Source, error) {
	p, err := absolute(file)
	if err != nil {
		return nil, err
	}
	doing := "open the backup " + ui.CleanLine(file)
	from, err := placeOf(env, p, store)
	if err != nil {
		return nil, problem.New(problem.ExitUsage, doing, err, problem.Hint(err))
	}
	open := func() (io.ReadCloser, error) { return from.Open(ctx, p) }
	r, err := open()
	if err != nil {
		exit := problem.ExitUsage
		if errors.Is(err, fs.ErrNotExist) { // as for a bundle
			exit = problem.ExitBundle
		}
		return nil, orInterrupt(ctx, problem.New(exit, doing, problem.PathCause(err), cmp.Or(problem.Hint(err), "check the path; a backup can be read by root only")))
	}
	return open, r.Close()
}

// orInterrupt returns the failure of what waited for a store or a disk, or an interrupt if ctx has ended: then the failure
// is its consequence.
func orInterrupt(ctx context.Context, failure *problem.Problem) error {
	if ctx.Err() != nil {
		return problem.New(problem.ExitInterrupted, failure.Operation, context.Cause(ctx), "nothing was changed")
	}
	return failure
}

// Refusal returns the problem of a backup that cannot be used because of err, or the cause of ctx if that has ended.
func Refusal(ctx context.Context, operation string, err error) error {
	hint := ""
	switch { // what ends in the middle seems to be damaged
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case objectstore.IsFailure(err):
		return problem.New(problem.ExitUsage, operation, err, cmp.Or(problem.Hint(err), "run the command again"))
	case errors.Is(err, format.ErrDamaged):
		hint = "use another copy or an older backup: plinth backup list FOLDER"
	case errors.Is(err, format.ErrKey):
		hint = "name its private key with --identity-file, or its passphrase with --passphrase-file"
	case errors.Is(err, format.ErrPlain):
		hint = "find out who wrote it: an encrypted backup may have been replaced; omit the key only for one that was written with --unencrypted"
	case errors.Is(err, format.ErrNotBackup):
		hint = "name a file that `plinth backup` has written"
	case errors.Is(err, format.ErrNewer):
		hint = "use the version of Plinth that wrote it, or a newer one"
	default:
		return problem.New(problem.ExitUsage, operation, err, "check the file; nothing was changed")
	}
	return problem.New(problem.ExitBundle, operation, err, hint)
}
