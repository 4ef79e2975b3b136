package backup

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/objectstore"
)

// place is where backups are: the folders of a host, or a bucket. Paths are absolute, or URLs of objects.
type place interface {
	// Write stores the content of r as a file that appears when it is complete.
	Write(ctx context.Context, p string, r io.Reader) error
	// Open opens a file for reading. The error is fs.ErrNotExist if there is none.
	Open(ctx context.Context, p string) (io.ReadCloser, error)
	// OpenHeader opens the beginning of a file.
	OpenHeader(ctx context.Context, p string) (io.ReadCloser, error)
	// List returns the backups in a folder, without their headers; deep includes those in the folders in it.
	List(ctx context.Context, dir string, deep bool) ([]Entry, error)
	// Remove removes a file.
	Remove(ctx context.Context, p string) error
}

// placeOf returns the place of p, a path or the URL of a bucket. No message shows the credentials after that, also those
// in a file.
func placeOf(env *action.Env, p string, settings objectstore.Settings) (place, error) {
	if !objectstore.IsURL(p) {
		return folders{env.Host, env.Now}, nil
	}
	l, err := objectstore.ParseURL(p)
	if err != nil {
		return nil, err
	}
	access, err := settings.Access()
	if err != nil {
		return nil, err
	}
	env.Secrets.Hide(access.SecretKey)
	env.Secrets.Hide(access.SessionToken)
	s, err := objectstore.Open(l.Bucket, settings)
	if err != nil {
		return nil, err
	}
	s.Notify(env.Note)
	return bucket{s}, nil
}

// hostFolders is the part of a host that folders needs.
type hostFolders interface {
	host.Files
	host.Streams
}

// folders are the folders of a host.
type folders struct {
	hostFolders
	now func() time.Time
}

// Write creates the folder of the file, if that is missing. The part of a file that a killed run has left has another name,
// and is removed after a day.
func (f folders) Write(_ context.Context, p string, r io.Reader) error {
	f.removeIncomplete(path.Dir(p))
	if _, err := f.Lstat(path.Dir(p)); errors.Is(err, fs.ErrNotExist) {
		if err := f.MkdirAll(path.Dir(p), 0o700); err != nil {
			return err
		}
	}
	return f.hostFolders.Write(p, r, 0o600)
}

// removeIncomplete removes parts of earlier backups in a folder: each has the name of another file, so nothing replaces them.
// One that was changed within a day may belong to a controller that writes now. That it fails is no reason not to write.
func (f folders) removeIncomplete(dir string) {
	names, err := f.ReadDir(dir)
	if err != nil {
		return
	}
	for _, n := range names {
		complete := path.Join(dir, strings.TrimSuffix(strings.TrimPrefix(n.Name(), "."), ".plinth-tmp"))
		p := path.Join(dir, n.Name())
		info, err := n.Info()
		if err == nil && strings.HasSuffix(complete, format.Suffix) && p == host.TempPath(complete) && f.now().Sub(info.ModTime()) > 24*time.Hour {
			_ = f.RemoveAll(p)
		}
	}
}

func (f folders) Open(ctx context.Context, p string) (io.ReadCloser, error) {
	r, err := f.OpenFile(p)
	if err != nil {
		return nil, err
	}
	if file, ok := r.(fs.File); ok {
		info, err := file.Stat()
		if err == nil && !info.IsDir() && !info.Mode().IsRegular() {
			err = errors.New("it is a device, not a file")
		}
		if err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return struct {
		io.Reader
		io.Closer
	}{interruptible(ctx, r), r}, nil
}

func (f folders) OpenHeader(_ context.Context, p string) (io.ReadCloser, error) { return f.OpenFile(p) }

func (f folders) Remove(_ context.Context, p string) error { return f.RemoveAll(p) }

// maxOpened is how many files with other names a list opens to find out whether they are backups.
const maxOpened = 10_000

// List includes backups whose names the user gave.
func (f folders) List(ctx context.Context, dir string, deep bool) ([]Entry, error) {
	return f.list(ctx, dir, deep, new(maxOpened))
}

// list is List, and opens no more than remaining files.
func (f folders) list(ctx context.Context, dir string, deep bool, remaining *int) ([]Entry, error) {
	names, err := f.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := []Entry{}
	for _, n := range names {
		p := path.Join(dir, n.Name())
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case n.IsDir() && deep:
			if more, err := f.list(ctx, p, false, remaining); err == nil { // lost+found and others are not ours
				all = append(all, more...)
			}
		case n.Type().IsRegular() && (strings.HasSuffix(n.Name(), format.Suffix) || f.isBackup(p, remaining)):
			e := Entry{Path: p}
			if info, err := n.Info(); err == nil {
				e.Size = info.Size()
			}
			all = append(all, e)
		}
	}
	return all, nil
}

// isBackup reports whether a file that has not the name of a backup is one. What a killed run has left is none.
func (f folders) isBackup(p string, remaining *int) bool {
	if strings.HasSuffix(p, ".plinth-tmp") || *remaining <= 0 {
		return false
	}
	*remaining--
	r, err := f.OpenFile(p)
	if err != nil {
		return false
	}
	is := format.IsBackup(r)
	return r.Close() == nil && is
}

// bucket is a bucket of an object store.
type bucket struct{ *objectstore.Store }

func (b bucket) Write(ctx context.Context, p string, r io.Reader) error {
	l, err := objectstore.ParseURL(p)
	if err != nil {
		return err
	}
	return b.Store.Write(ctx, l.Key, r)
}

func (b bucket) Open(ctx context.Context, p string) (io.ReadCloser, error) {
	l, err := objectstore.ParseURL(p)
	if err != nil {
		return nil, err
	}
	return b.Store.Open(ctx, l.Key)
}

func (b bucket) OpenHeader(ctx context.Context, p string) (io.ReadCloser, error) {
	l, err := objectstore.ParseURL(p)
	if err != nil {
		return nil, err
	}
	return b.OpenStart(ctx, l.Key, format.HeaderSize)
}

func (b bucket) Remove(ctx context.Context, p string) error {
	l, err := objectstore.ParseURL(p)
	if err != nil {
		return err
	}
	return b.Store.Remove(ctx, l.Key)
}

func (b bucket) List(ctx context.Context, dir string, deep bool) ([]Entry, error) {
	l, err := objectstore.ParseURL(dir)
	if err != nil {
		return nil, err
	}
	prefix := l.Key
	if prefix != "" {
		prefix += "/"
	}
	objects, err := b.Store.List(ctx, prefix, deep)
	all := []Entry{}
	for _, o := range objects {
		if strings.HasSuffix(o.Key, format.Suffix) {
			all = append(all, Entry{Path: objectstore.Location{Bucket: l.Bucket, Key: o.Key}.String(), Size: o.Size})
		}
	}
	return all, err
}
