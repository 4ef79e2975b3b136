package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is the number of symbolic links after which Linux gives up (path_resolution(7)).
const maxLinks = 40

// WritableByOthers returns why users other than root and the user of this process could replace the
// folder path or write into it, or "" if they cannot. It follows symbolic links and checks every folder
// on the way: its owner, and its mode. In a folder with the sticky bit, such as /tmp, others cannot
// replace what is not theirs. Folders that do not exist yet are not checked.
func WritableByOthers(path string) (reason string, err error) {
	at, rest := "/", strings.Split(filepath.Clean(path), "/")
	for links := 0; ; {
		info, err := os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		if uid, _ := Owner(info); uid != 0 && uid != os.Geteuid() {
			return fmt.Sprintf("%s belongs to another user (uid %d)", at, uid), nil
		}
		switch mode := info.Mode(); {
		case mode.Type() == fs.ModeSymlink:
			target, err := os.Readlink(at)
			if err != nil {
				return "", err
			}
			if links++; links > maxLinks {
				return at + " leads to too many symbolic links", nil
			}
			if at = filepath.Dir(at); filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
		case mode.Perm()&0o022 != 0 && (mode&fs.ModeSticky == 0 || len(rest) == 0):
			return fmt.Sprintf("%s is writable by other users (mode %04o)", at, mode.Perm()), nil
		}
		if len(rest) == 0 {
			return "", nil
		}
		at, rest = filepath.Join(at, rest[0]), rest[1:]
	}
}

// ResolveExisting returns the absolute path p with the symbolic links in its existing part resolved.
func ResolveExisting(p string) string {
	for dir, rest := filepath.Clean(p), ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if target, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(target, rest)
		}
		if dir == filepath.Dir(dir) {
			return p
		}
	}
}
