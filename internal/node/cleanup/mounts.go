package cleanup

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Mount is one line of /proc/self/mountinfo.
type Mount struct {
	Dev   string // major:minor of the file system
	Root  string // folder of the file system that is mounted
	Point string // mount point
	Type  string // file system type
}

// parseMounts returns the mounts in the text of mountinfo(5), in the order in which they were
// mounted.
func parseMounts(text string) []Mount {
	var all []Mount
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		dash := slices.Index(fields, "-")
		if len(fields) < 6 || dash < 0 || dash+1 >= len(fields) {
			continue
		}
		m := Mount{Dev: fields[2], Root: unescapeOctal(fields[3]), Point: unescapeOctal(fields[4]), Type: fields[dash+1]}
		m.Point = strings.TrimSuffix(m.Point, "//deleted")
		all = append(all, m)
	}
	return all
}

// unescapeOctal replaces the octal escapes with which the kernel writes space, tab, newline and
// backslash.
func unescapeOctal(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// MountTable returns all mounts of the host, in the order in which they were mounted.
func (f Finder) MountTable() ([]Mount, error) {
	text, err := f.ReadFile("/proc/self/mountinfo")
	return parseMounts(string(text)), err
}

// ClusterMounts returns the mount points of the cluster in its folders, last mounted first. The
// mounts of the host's owner are left out: those from before the install, and a disk that is
// mounted at one of the folders itself.
func (f Finder) ClusterMounts() ([]string, error) {
	table, err := f.MountTable()
	if err != nil {
		return nil, err
	}
	var all []string
	for i, m := range table {
		if f.inMountDirs(m.Point) && !f.isHostMount(table[:i], m) {
			all = append(all, m.Point)
		}
	}
	slices.Reverse(all)
	return all, nil
}

// inMountDirs reports whether p is within a folder in which the cluster mounts file systems.
func (f Finder) inMountDirs(p string) bool {
	return slices.ContainsFunc(f.mountDirs(), func(dir string) bool { return IsWithin(p, dir) })
}

// mountDirs returns the folders in which the cluster mounts file systems.
func (c Scope) mountDirs() []string { return []string{c.DataDir, c.RunDir, c.KubeletDir} }

// isHostMount reports whether m belongs to the host's owner, given the earlier mounts: it existed
// before the install, is listed in fstab, or is mounted at one of the folders. The exception is a
// folder that kubelet mounts onto itself because it is not a shared mount: that mount belongs to
// the cluster.
func (f Finder) isHostMount(earlier []Mount, m Mount) bool {
	if slices.Contains(earlier, m) {
		return false // a disk of the owner that is mounted onto itself
	}
	if f.Before != nil && slices.Contains(f.Before.Mounts, m.Point) {
		return true
	}
	if !slices.Contains(f.mountDirs(), m.Point) {
		return f.inFstab(m.Point)
	}
	for _, under := range slices.Backward(earlier) {
		if rest, ok := strings.CutPrefix(m.Point, strings.TrimSuffix(under.Point, "/")+"/"); ok {
			return under.Dev != m.Dev || path.Join(under.Root, rest) != m.Root
		}
	}
	return true
}

// inFstab reports whether /etc/fstab lists the mount point.
func (f Finder) inFstab(point string) bool {
	text, _ := f.ReadFile("/etc/fstab")
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && unescapeOctal(fields[1]) == point {
			return true
		}
	}
	return false
}

// LinkToDataDir returns the first symbolic link in the path of the data folder, or "". The kernel lists
// mounts and programs by their real paths, so what the cluster runs in a folder behind a link cannot be
// recognized.
func (f Finder) LinkToDataDir() string {
	at := "/"
	for _, name := range strings.Split(strings.Trim(f.DataDir, "/"), "/") {
		at = path.Join(at, name)
		if info, err := f.Lstat(at); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return at
		}
	}
	return ""
}
