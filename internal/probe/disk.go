package probe

import (
	"fmt"
	"io/fs"
	"path"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/probe/parse"
)

// disk measures the file system that p lies on, or will lie on: p and its
// parents need not exist yet.
func (l look) disk(p string) answer {
	fact := facts.FactDisk + ":" + p
	d := facts.Disk{Path: p, Symlink: l.symlink(p)}
	for d.Exists = path.Clean(p); ; d.Exists = path.Dir(d.Exists) {
		real, err := l.k.EvalLinks(d.Exists)
		if err == nil {
			d.Exists = real
			break
		}
		if !missing(err) || d.Exists == "/" {
			return found(fact, err, nil)
		}
	}
	mounts := parse.Mounts(l.raw("/proc/self/mountinfo"))
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
	return found(fact, nil, func(f *facts.Facts) { f.Disks = append(f.Disks, d) })
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
