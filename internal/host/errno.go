package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/problem"
)

// Kernel errors for a disk that cannot be written to, as errors.Is compares them.
const (
	ErrNoSpace  = unix.ENOSPC // the disk is full
	ErrDiskIO   = unix.EIO    // the disk fails
	ErrReadOnly = unix.EROFS  // the file system is mounted read-only
	ErrQuota    = unix.EDQUOT // the quota of the disk is used up
)

// DiskHint returns what to do before a command is run again that failed with err, because a file or a folder could not be
// written or read; "" for any other error, and for one that does not name the path.
func DiskHint(err error) string {
	dir := failedFolder(err)
	if dir == "" {
		return ""
	}
	dir = problem.QuoteWord(dir)
	switch {
	case errors.Is(err, ErrNoSpace):
		return "free space first: df -h " + dir + " shows what is free, and df -i " + dir + " the free inodes"
	case errors.Is(err, ErrQuota):
		return "raise the quota first, or remove files: " + dir + " has used up its quota"
	case errors.Is(err, ErrReadOnly):
		return "make it writable first: findmnt -T " + dir + " shows what is mounted read-only; sudo mount -o remount,rw MOUNT"
	case errors.Is(err, fs.ErrPermission):
		return AccessHint(failedFolder(err))
	}
	return ""
}

// AccessHint returns what to do about a folder that root may not use.
func AccessHint(dir string) string {
	return "give root access first: sudo chmod u+rwx " + problem.QuoteWord(dir) + "; for an NFS share, export it with no_root_squash"
}

// failedFolder returns the folder in which a system call failed, "" if err is not of one.
func failedFolder(err error) string {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &link):
		return filepath.Dir(link.New)
	case errors.As(err, &path):
		return filepath.Dir(path.Path)
	}
	return ""
}

// writeError returns the error of a write to the file at path, whose content has the name tmp until it is complete.
func writeError(path, tmp string, err error) error {
	var at *fs.PathError
	var link *os.LinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &at) && at.Path == tmp:
		return &fs.PathError{Op: "write", Path: path, Err: at.Err}
	case errors.As(err, &link) && link.Old == tmp:
		return &fs.PathError{Op: "write", Path: path, Err: link.Err}
	}
	return fmt.Errorf("write %s: %w", path, err)
}
