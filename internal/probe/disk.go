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

// gatherDisk measures the file system that holds p, or that will hold p when it
// is created: p and its parents need not exist yet.
func (pr look) disk(p string) answer {
	fact := facts.FactDisk + ":" + p
	d := facts.Disk{Path: p, Symlink: pr.symlink(p), Closed: pr.closed(p)}
	var err error
	if d.Exists, err = pr.nearest(p); err != nil {
		return found(fact, err, nil)
	}
	mounts := parse.Mounts(pr.files.Raw("/proc/self/mountinfo"))
	m, ok := parse.Under(mounts, d.Exists)
	if !ok {
		return found(fact, fmt.Errorf("/proc/self/mountinfo lists no mount point above %s", d.Exists), nil)
	}
	d.Mount, d.Device, d.FSType, d.Options = m.Point, m.Device, m.FSType, m.Options
	s, err := pr.k.Statfs(d.Exists)
	if err != nil {
		return found(fact, fmt.Errorf("statfs %s: %w", d.Exists, err), nil)
	}
	d.Size, d.Free, d.Available, d.Inodes, d.InodesFree = s.Size, s.Free, s.Available, s.Inodes, s.InodesFree
	if d.FSType == "xfs" {
		d.FType = pr.k.FType(d.Exists)
	}
	return found(fact, nil, func(f *facts.Facts) { f.Disks = append(f.Disks, d) })
}

// nearestExisting returns p, or the nearest parent of p that exists, with
// symbolic links resolved.
func (pr look) nearest(p string) (string, error) {
	for p = path.Clean(p); ; p = path.Dir(p) {
		real, err := pr.k.EvalLinks(p)
		if err == nil {
			return real, nil
		}
		if !files.Missing(err) || p == "/" {
			return "", err
		}
	}
}

// firstClosedDir returns the first directory on the path to p that not every
// user may traverse (no x permission for others), or "".
func (pr look) closed(p string) string {
	for at, rest := "", strings.Split(strings.Trim(path.Clean(p), "/"), "/"); len(rest) > 1; rest = rest[1:] {
		at += "/" + rest[0]
		if info, err := pr.m.Lstat(at); err == nil && info.IsDir() && info.Mode().Perm()&1 == 0 {
			return at
		}
	}
	return ""
}

// firstSymlink returns the first symbolic link on the path to p, or "".
func (pr look) symlink(p string) string {
	var find func(string) string
	find = func(p string) string {
		if p == "/" {
			return ""
		}
		if link := find(path.Dir(p)); link != "" {
			return link
		}
		if info, err := pr.m.Lstat(p); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return p
		}
		return ""
	}
	return find(path.Clean(p))
}
