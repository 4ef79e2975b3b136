package cleanup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
)

// HostState is the state of a host before an install, as far as the install may change it. It is
// plain data for the journal.
type HostState struct {
	Sysctls map[string]string    `json:"sysctls"` // current value by key; "" if the kernel did not have the key
	Paths   map[string]PathState `json:"paths"`   // files and folders that existed, among those that the cluster changes and in the folders that it shares
	Mounts  []string             `json:"mounts"`  // mount points in the cluster's folders
	Users   []string             `json:"users"`   // users with the cluster's names that existed
	Groups  []string             `json:"groups"`  // groups with the cluster's names that existed; null if unknown
	Tables  []string             `json:"tables"`  // nftables tables, "family name", and built-in chains, "family table chain"; null if unknown
}

// PathState is the state of one file or folder.
type PathState struct {
	Mode       fs.FileMode `json:"mode"`                 // type and permission bits
	UID        int         `json:"uid,omitempty"`        // owner
	GID        int         `json:"gid,omitempty"`        // group
	HasContent bool        `json:"hasContent,omitempty"` // Content is recorded
	Content    []byte      `json:"content,omitempty"`    // content of a configuration file
	BackupPath string      `json:"aside,omitempty"`      // path of a copy of the content, which is used instead of Content if it may be large or secret
}

// HadPath reports whether path existed before the install. It returns false if the state is unknown
// (nil).
func (b *HostState) HadPath(path string) bool {
	if b == nil {
		return false
	}
	_, ok := b.Paths[path]
	return ok
}

// RecordPaths returns the state of the files and mounts that an install of f.Scope may change. It
// changes nothing.
func (f Finder) RecordPaths() (*HostState, error) {
	b := &HostState{Sysctls: map[string]string{}, Paths: map[string]PathState{}}
	for _, p := range f.ownPaths() {
		if err := b.recordPath(f, p, true); err != nil {
			return nil, err
		}
	}
	for _, p := range f.parentDirs() {
		if err := b.recordPath(f, p, false); err != nil {
			return nil, err
		}
		for _, e := range readEntries(f, p) {
			if err := b.recordPath(f, path.Join(p, e.Name()), false); err != nil {
				return nil, err
			}
		}
	}
	table, err := f.MountTable()
	if err != nil {
		return nil, err
	}
	for _, m := range table {
		if f.inMountDirs(m.Point) {
			b.Mounts = append(b.Mounts, m.Point)
		}
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			if err := b.recordPath(f, path.Join(m.Point, "system.slice"), false); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// recordPath records the state of p and, if whole is true and p is a folder, of everything in it.
func (b *HostState) recordPath(files host.Files, p string, whole bool) error {
	info, err := files.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	was := PathState{Mode: info.Mode()}
	was.UID, was.GID = host.Owner(info)
	if was.HasContent = isConfig(p, info); was.HasContent {
		if was.Content, err = files.ReadFile(p); err != nil {
			return err
		}
	}
	b.Paths[p] = was
	if !whole || !info.IsDir() {
		return nil
	}
	for _, e := range readEntries(files, p) {
		if err := b.recordPath(files, path.Join(p, e.Name()), true); err != nil {
			return err
		}
	}
	return nil
}

// isConfig reports whether the content of p is recorded and restored: p is below /etc, has at most
// 1 MiB, and is readable by everyone. The journal contains what is recorded, so it must not be a
// secret.
func isConfig(p string, info fs.FileInfo) bool {
	return IsWithin(p, "/etc") && info.Mode().IsRegular() && info.Size() <= 1<<20 && info.Mode()&0o004 != 0
}

// BackUpFiles copies to dir, readable by root only, each file that an install overwrites and whose
// content is not in b: programs, and files that not everyone may read.
func (f Finder) BackUpFiles(b *HostState, dir string) error {
	for p, was := range b.Paths {
		if was.HasContent || !was.Mode.IsRegular() || !f.mayOverwrite(p) {
			continue
		}
		was.BackupPath = path.Join(dir, strings.ReplaceAll(p, "/", "_"))
		r, err := f.OpenFile(p)
		if err == nil {
			err = errors.Join(f.MkdirAll(dir, 0o700), f.Write(was.BackupPath, r, 0o600), r.Close())
		}
		if err != nil {
			return err
		}
		b.Paths[p] = was
	}
	return nil
}

// mayOverwrite reports whether an install may write its own file to p.
func (f Finder) mayOverwrite(p string) bool {
	return IsWithin(p, f.ConfigDir) || path.Dir(p) == unitDir || slices.Contains(f.ExtraPaths, p)
}

// hasChanged reports whether p differs from its recorded state: the content of a file, mode and
// owner of a file or folder.
func (f Finder) hasChanged(p string) bool {
	was := f.Before.Paths[p]
	info, err := f.Lstat(p)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	uid, gid := host.Owner(info)
	if info.Mode() != was.Mode || uid != was.UID || gid != was.GID {
		return true
	}
	if was.Mode.IsDir() {
		return false
	}
	now, err := f.OpenFile(p)
	if err != nil {
		return false
	}
	defer func() { _ = now.Close() }()
	then, err := f.openContent(was)
	if err != nil {
		return true
	}
	defer func() { _ = then.Close() }()
	return !sameContent(now, then)
}

// openContent returns a stream of the recorded content of a file.
func (f Finder) openContent(was PathState) (io.ReadCloser, error) {
	if was.BackupPath != "" {
		return f.OpenFile(was.BackupPath)
	}
	return io.NopCloser(bytes.NewReader(was.Content)), nil
}

// sameContent reports whether two streams have the same content. It returns false if one of them
// cannot be read.
func sameContent(a, b io.Reader) bool {
	x, y := sha256.New(), sha256.New()
	_, errA := io.Copy(x, a)
	_, errB := io.Copy(y, b)
	return errA == nil && errB == nil && bytes.Equal(x.Sum(nil), y.Sum(nil))
}

// restorePath restores the recorded content, mode and owner of the file or folder p.
func (f Finder) restorePath(ctx context.Context, p string) error {
	was := f.Before.Paths[p]
	mode := was.Mode &^ fs.ModeType
	if was.Mode.IsDir() {
		if err := f.MkdirAll(p, mode); err != nil {
			return err
		}
	} else {
		r, err := f.openContent(was)
		if err == nil {
			err = errors.Join(f.Write(p, r, mode), r.Close())
		}
		if err != nil {
			return err
		}
	}
	info, err := f.Lstat(p)
	if err != nil {
		return err
	}
	if uid, gid := host.Owner(info); uid == was.UID && gid == was.GID {
		return nil
	}
	return f.Execute(ctx, "chown", fmt.Sprintf("%d:%d", was.UID, was.GID), p)
}
