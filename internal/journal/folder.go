package journal

import (
	"io/fs"
	"path/filepath"
	"strings"
)

// Folder is what Unusable needs of a host.
type Folder interface {
	Lstat(path string) (fs.FileInfo, error)
	ReadDir(path string) ([]fs.DirEntry, error)
}

// Unusable says why dir cannot be Plinth's data folder; "" when it is, or can
// become so: install changes the folder's mode and reset removes its content,
// so one with other things in it is refused.
func Unusable(host Folder, dir string) string {
	if !filepath.IsAbs(dir) {
		return "is not an absolute path"
	}
	info, err := host.Lstat(dir)
	if err != nil {
		return "" // it will be made
	}
	if !info.IsDir() {
		return "is not a folder"
	}
	entries, err := host.ReadDir(dir)
	if err != nil {
		return "cannot be read: " + err.Error()
	}
	others := ""
	for _, e := range entries {
		switch {
		case e.Name() == File, strings.HasPrefix(e.Name(), "."+File): // or its beginning, after a kill
			return ""
		case e.Name() != "lost+found": // a disk of its own is welcome
			others = "has other things in it, such as " + e.Name()
		}
	}
	return others
}
