package probe

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// Mount is one line of /proc/self/mountinfo.
type Mount struct {
	Number  string   // major:minor of the file system, which its other mounts have too
	Point   string   // the mount point
	Options []string // of the mount, followed by those of the file system
	FSType  string
	Device  string
}

// parseMounts returns the mounts in /proc/self/mountinfo (proc(5)), oldest
// first.
func parseMounts(text []byte) []Mount {
	var all []Mount
	for f := range fieldsByLine(text) {
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+3 {
			continue
		}
		m := Mount{Number: f[2], Point: unescapeOctal(f[4]), Options: strings.Split(f[5], ","), FSType: f[dash+1], Device: unescapeOctal(f[dash+2])}
		if len(f) > dash+3 {
			for _, o := range strings.Split(f[dash+3], ",") {
				if !slices.Contains(m.Options, o) {
					m.Options = append(m.Options, o)
				}
			}
		}
		all = append(all, m)
	}
	return all
}

// findMount returns the mount that holds p, an absolute path without symbolic
// links, and false if there is none. It is the one with the longest mount point
// above p, and the newest if several have the same mount point.
func findMount(mounts []Mount, p string) (Mount, bool) {
	var best Mount
	found := false
	for _, m := range mounts {
		if isWithin(p, m.Point) && len(m.Point) >= len(best.Point) {
			best, found = m, true
		}
	}
	return best, found
}

// isWithin reports whether p is dir or lies below it.
func isWithin(p, dir string) bool {
	p, dir = path.Clean(p), path.Clean(dir)
	return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
}

// unescapeOctal decodes the kernel's octal escapes, such as \040 for a space.
func unescapeOctal(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
