package journal

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
)

// DirMode is the mode of the data folder: programs of other users, such as
// those in volumes, pass through; nobody lists it.
const DirMode fs.FileMode = 0o711

// DefaultDir is the data folder of a host whose administrator named none.
const DefaultDir = "/var/lib/plinth"

// Pointer is the file that names the data folder of this host where that is not
// DefaultDir, so that it has to be named only once.
const Pointer = "/etc/plinth-data-dir"

// Dir is the data folder of a host: the one that Pointer names, while there is
// a journal in it, or DefaultDir.
func Dir(files Files) string {
	raw, err := files.ReadFile(Pointer)
	dir := strings.TrimSpace(string(raw))
	if err != nil || !filepath.IsAbs(dir) {
		return DefaultDir
	}
	if _, err := files.Lstat(filepath.Join(dir, File)); err != nil {
		return DefaultDir
	}
	return dir
}

// KeptFile is what a reset leaves in a data folder in which it kept something.
const KeptFile = "kept.json"

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
		case strings.HasPrefix(strings.TrimPrefix(e.Name(), "."), "journal."), // or its beginning, after a kill
			e.Name() == KeptFile:
			return ""
		case e.Name() != "lost+found": // a disk of its own is welcome
			others = "has other things in it, such as " + e.Name()
		}
	}
	return others
}

// folderMode is the mode of a folder before its first run. One with DirMode is
// taken for what a run killed at its birth leaves.
func folderMode(files Files, dir string) string {
	info, err := files.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm() == DirMode {
		return ""
	}
	return fmt.Sprintf("%04o", info.Mode().Perm())
}

// FolderBefore is the mode that the data folder had before the first run; ok is
// false when there was no folder.
func (j *Journal) FolderBefore() (mode fs.FileMode, ok bool) {
	n, err := strconv.ParseUint(j.data.Folder, 8, 12)
	return fs.FileMode(n).Perm(), err == nil
}
