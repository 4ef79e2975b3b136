package leftover

import (
	"path"
	"slices"
	"strings"
)

// Mount is one line of /proc/self/mountinfo.
type Mount struct {
	Dev   string // major:minor of the file system
	Root  string // folder of the file system that is mounted
	Point string // where
	Type  string // file system type
}

// parseMounts reads mountinfo(5), in the order in which things were mounted.
func parseMounts(text string) []Mount {
	var all []Mount
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		dash := slices.Index(fields, "-")
		if len(fields) < 6 || dash < 0 || dash+1 >= len(fields) {
			continue
		}
		m := Mount{Dev: fields[2], Root: unescape(fields[3]), Point: unescape(fields[4]), Type: fields[dash+1]}
		m.Point = strings.TrimSuffix(m.Point, "//deleted")
		all = append(all, m)
	}
	return all
}

// unescape undoes the kernel's octal escapes of space, tab, newline and
// backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// MountTable is everything mounted on the host, in order.
func (f Finder) MountTable() ([]Mount, error) {
	text, err := f.ReadFile("/proc/self/mountinfo")
	return parseMounts(string(text)), err
}

// Mounts finds what the cluster mounted in its folders, last mounted first.
// Mounts of the host's owner are not among them: those from before, and a disk
// mounted at one of the folders itself.
func (f Finder) Mounts() ([]string, error) {
	table, err := f.MountTable()
	if err != nil {
		return nil, err
	}
	var all []string
	for i, m := range table {
		if f.inFolders(m.Point) && !f.ownersMount(table[:i], m) {
			all = append(all, m.Point)
		}
	}
	slices.Reverse(all)
	return all, nil
}

func (f Finder) inFolders(p string) bool {
	return slices.ContainsFunc(f.folders(), func(dir string) bool { return Below(p, dir) })
}

// folders is where the cluster mounts things.
func (c Cluster) folders() []string { return []string{c.DataDir, c.RunDir, c.KubeletDir} }

// ownersMount reports whether m is the host owner's, given what was mounted
// earlier: it was there before, stands in fstab, or is one of the folders. But
// kubelet mounts its folder onto itself when it is not shared: that one is the
// cluster's.
func (f Finder) ownersMount(earlier []Mount, m Mount) bool {
	if slices.Contains(earlier, m) {
		return false // an owner's disk, mounted onto itself
	}
	if f.Before != nil && slices.Contains(f.Before.Mounts, m.Point) {
		return true
	}
	if !slices.Contains(f.folders(), m.Point) {
		return f.inFstab(m.Point)
	}
	for _, under := range slices.Backward(earlier) {
		if rest, ok := strings.CutPrefix(m.Point, strings.TrimSuffix(under.Point, "/")+"/"); ok {
			return under.Dev != m.Dev || path.Join(under.Root, rest) != m.Root
		}
	}
	return true
}

func (f Finder) inFstab(point string) bool {
	text, _ := f.ReadFile("/etc/fstab")
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && unescape(fields[1]) == point {
			return true
		}
	}
	return false
}
