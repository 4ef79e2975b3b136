package probe

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/facts"
)

// gatherDisk measures the file system that holds p, or that will hold p when it
// is created: p and its parents need not exist yet.
func (pr prober) gatherDisk(p string) partResult {
	fact := facts.FactDisk + ":" + p
	at, err := pr.locate(p)
	if err != nil {
		return newPartResult(fact, err, nil)
	}
	d := facts.Disk{Path: p, Exists: at.exists, Symlink: at.link, Target: at.target, Closed: at.closed}
	mounts := parseMounts(pr.files.ReadBytes("/proc/self/mountinfo"))
	m, ok := findMount(mounts, d.Exists)
	if !ok {
		return newPartResult(fact, fmt.Errorf("/proc/self/mountinfo lists no mount point above %s", d.Exists), nil)
	}
	d.Mount, d.Number, d.Device, d.FSType, d.Options = m.Point, m.Number, m.Device, m.FSType, m.Options
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

// location is where a path leads on this host.
type location struct {
	exists string // the path, or its nearest parent that exists, with symbolic links resolved
	link   string // first symbolic link on the way, or ""
	target string // absolute path that link contains
	closed string // first folder on the way that not every user may enter (no x permission for others), or ""
}

// maxLinks is the number of symbolic links after which Linux gives up (path_resolution(7)).
const maxLinks = 40

// locate follows p, also through a link whose target does not exist: what is created
// below it needs space where the target is.
func (pr prober) locate(p string) (location, error) {
	l := location{exists: "/"}
	for rest, links := splitPath(p), 0; len(rest) > 0; {
		at := path.Join(l.exists, rest[0])
		rest = rest[1:]
		info, err := pr.machine.Lstat(at)
		switch {
		case isMissing(err):
			return l, nil
		case err != nil:
			return l, err
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := pr.system.Readlink(at)
			if links++; err == nil && links > maxLinks {
				err = &fs.PathError{Op: "follow", Path: at, Err: unix.ELOOP}
			}
			if err != nil {
				return l, err
			}
			if path.IsAbs(target) {
				l.exists = "/"
			}
			if l.link == "" {
				l.link, l.target = at, path.Join(l.exists, target)
			}
			rest = append(splitPath(target), rest...)
			continue
		case len(rest) > 0 && l.closed == "" && info.IsDir() && info.Mode().Perm()&1 == 0:
			l.closed = at
		}
		l.exists = at
	}
	return l, nil
}

// splitPath returns the names in p without empty ones. It keeps "..", which has
// another meaning after a symbolic link.
func splitPath(p string) []string {
	return strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
}
