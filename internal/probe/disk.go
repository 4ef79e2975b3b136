package probe

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
)

// gatherDisk measures the file system that holds p, or that will hold p when it
// is created: p and its parents need not exist yet.
func (pr prober) gatherDisk(p string) partResult {
	fact := facts.FactDisk + ":" + p
	d := facts.Disk{Path: p, Symlink: pr.firstSymlink(p), Closed: pr.firstClosedDir(p)}
	var err error
	if d.Exists, err = pr.nearestExisting(p); err != nil {
		return newPartResult(fact, err, nil)
	}
	mounts := parseMounts(pr.files.ReadBytes("/proc/self/mountinfo"))
	m, ok := findMount(mounts, d.Exists)
	if !ok {
		return newPartResult(fact, fmt.Errorf("/proc/self/mountinfo lists no mount point above %s", d.Exists), nil)
	}
	d.Mount, d.Device, d.FSType, d.Options = m.Point, m.Device, m.FSType, m.Options
	s, err := pr.system.StatFilesystem(d.Exists)
	if err != nil {
		return newPartResult(fact, fmt.Errorf("statfs %s: %w", d.Exists, err), nil)
	}
	d.Size, d.Free, d.Available, d.Inodes, d.InodesFree = s.Size, s.Free, s.Available, s.Inodes, s.InodesFree
	if d.FSType == "xfs" {
		d.FType = pr.system.XFSFType(d.Exists)
	}
	return newPartResult(fact, nil, func(f *facts.Facts) { f.Disks = append(f.Disks, d) })
}

// nearestExisting returns p, or the nearest parent of p that exists, with
// symbolic links resolved.
func (pr prober) nearestExisting(p string) (string, error) {
	for p = path.Clean(p); ; p = path.Dir(p) {
		real, err := pr.system.EvalLinks(p)
		if err == nil {
			return real, nil
		}
		if !isMissing(err) || p == "/" {
			return "", err
		}
	}
}

// firstClosedDir returns the first directory on the path to p that not every
// user may traverse (no x permission for others), or "".
func (pr prober) firstClosedDir(p string) string {
	for at, rest := "", strings.Split(strings.Trim(path.Clean(p), "/"), "/"); len(rest) > 1; rest = rest[1:] {
		at += "/" + rest[0]
		if info, err := pr.machine.Lstat(at); err == nil && info.IsDir() && info.Mode().Perm()&1 == 0 {
			return at
		}
	}
	return ""
}

// firstSymlink returns the first symbolic link on the path to p, or "".
func (pr prober) firstSymlink(p string) string {
	var find func(string) string
	find = func(p string) string {
		if p == "/" {
			return ""
		}
		if link := find(path.Dir(p)); link != "" {
			return link
		}
		if info, err := pr.machine.Lstat(p); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return p
		}
		return ""
	}
	return find(path.Clean(p))
}
