package journal

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
)

// DirMode is the mode of the data folder. Other users can pass through the folder but not list it.
const DirMode fs.FileMode = 0o711

// DefaultDir is the data folder of a host whose administrator did not set another one.
const DefaultDir = "/var/lib/plinth"

// PointerFile is the file that contains the path of the data folder of this host if that is not
// DefaultDir, so that the administrator has to set it only once.
const PointerFile = "/etc/plinth-data-dir"

// FindDir returns the data folder of a host: the folder in PointerFile if it contains
// a journal, else DefaultDir.
func FindDir(files Files) string {
	raw, err := files.ReadFile(PointerFile)
	dir := strings.TrimSpace(string(raw))
	if err != nil || !filepath.IsAbs(dir) {
		return DefaultDir
	}
	if !IsUsed(files, dir) {
		return DefaultDir
	}
	return dir
}

// IsUsed reports whether dir is the data folder of an install or a join, finished or not.
func IsUsed(files Files, dir string) bool {
	_, err := files.Lstat(filepath.Join(dir, File))
	return err == nil
}

// RetainedFile is the name of the file that a reset writes to a data folder in which it retains something.
const RetainedFile = "kept.json"

// DirReader is the part of a host that UnusableReason needs.
type DirReader interface {
	Lstat(path string) (fs.FileInfo, error)
	ReadDir(path string) ([]fs.DirEntry, error)
}

// UnusableReason returns why dir cannot be the data folder, as the rest of "the data folder X …", or ""
// if it can. A folder with other files is not usable, because install changes the
// mode of the folder and reset removes its content.
func UnusableReason(host DirReader, dir string) string {
	if !filepath.IsAbs(dir) {
		return "is not an absolute path"
	}
	info, err := host.Lstat(dir)
	if err != nil {
		return "" // install creates it
	}
	if !info.IsDir() {
		return "is not a directory"
	}
	entries, err := host.ReadDir(dir)
	if err != nil {
		return "cannot be read: " + err.Error()
	}
	others := ""
	for _, e := range entries {
		switch {
		case strings.HasPrefix(strings.TrimPrefix(e.Name(), "."), "journal."), // or its temporary file, after a kill
			e.Name() == RetainedFile:
			return ""
		case e.Name() != "lost+found": // the folder may be the mount point of a disk
			others = "contains other files, such as " + e.Name()
		}
	}
	return others
}

// initialDirMode returns the mode of dir before its first run in octal, or "" if dir did not exist.
// A folder with DirMode counts as created by a run that was killed before its first write.
func initialDirMode(files Files, dir string) string {
	info, err := files.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm() == DirMode {
		return ""
	}
	return fmt.Sprintf("%04o", info.Mode().Perm())
}

// InitialDirMode returns the mode that the data folder had before the first run; ok is
// false if the folder did not exist.
func (j *Journal) InitialDirMode() (mode fs.FileMode, ok bool) {
	n, err := strconv.ParseUint(j.data.DirMode, 8, 12)
	return fs.FileMode(n).Perm(), err == nil
}
