package probe

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/probe/files"
	"github.com/plinthdev/plinth/internal/probe/parse"
)

// disk measures the file system that p lies on, or will lie on: p and its
// parents need not exist yet.
func (l look) disk(p string) answer {
	fact := facts.FactDisk + ":" + p
	d := facts.Disk{Path: p, Symlink: l.symlink(p), Closed: l.closed(p)}
	var err error
	if d.Exists, err = l.nearest(p); err != nil {
		return found(fact, err, nil)
	}
	mounts := parse.Mounts(l.files.Raw("/proc/self/mountinfo"))
	m, ok := parse.Under(mounts, d.Exists)
	if !ok {
		return found(fact, fmt.Errorf("/proc/self/mountinfo names no mount above %s", d.Exists), nil)
	}
	d.Mount, d.Device, d.FSType, d.Options = m.Point, m.Device, m.FSType, m.Options
	s, err := l.k.Statfs(d.Exists)
	if err != nil {
		return found(fact, fmt.Errorf("statfs %s: %w", d.Exists, err), nil)
	}
	d.Size, d.Free, d.Available, d.Inodes, d.InodesFree = s.Size, s.Free, s.Available, s.Inodes, s.InodesFree
	if d.FSType == "xfs" {
		d.FType = l.k.FType(d.Exists)
	}
	return found(fact, nil, func(f *facts.Facts) { f.Disks = append(f.Disks, d) })
}

// nearest is p, or the nearest of its parents that is there, links resolved.
func (l look) nearest(p string) (string, error) {
	for p = path.Clean(p); ; p = path.Dir(p) {
		real, err := l.k.EvalLinks(p)
		if err == nil {
			return real, nil
		}
		if !files.Missing(err) || p == "/" {
			return "", err
		}
	}
}

// closed is the first folder on the way to p that only some may pass.
func (l look) closed(p string) string {
	for at, rest := "", strings.Split(strings.Trim(path.Clean(p), "/"), "/"); len(rest) > 1; rest = rest[1:] {
		at += "/" + rest[0]
		if info, err := l.m.Lstat(at); err == nil && info.IsDir() && info.Mode().Perm()&1 == 0 {
			return at
		}
	}
	return ""
}

// symlink is the first symbolic link on the way to p.
func (l look) symlink(p string) string {
	var above func(string) string
	above = func(p string) string {
		if p == "/" {
			return ""
		}
		if link := above(path.Dir(p)); link != "" {
			return link
		}
		if info, err := l.m.Lstat(p); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return p
		}
		return ""
	}
	return above(path.Clean(p))
}
