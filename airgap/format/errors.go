package format

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/internal/problem"
)

// Errors for a path that is not a regular file.
var (
	ErrIsFolder   = errors.New("it is a folder")
	ErrNotRegular = errors.New("it is not a regular file")
)

// OpenError returns the problem that explains why the file name cannot be opened
// as a bundle, with the next step for the user. err is the cause; head is the
// beginning of the file, which often shows what the file is instead, and may be
// nil. A canceled or expired context is returned unchanged.
func OpenError(name string, err error, head []byte) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if pathErr, ok := err.(*fs.PathError); ok { // the problem names the file already
		err = pathErr.Err
	}
	hint := "the file is damaged or was altered: copy it again from where it was published and compare its sha256sum"
	switch what := identifyFile(head); {
	case name == "":
		return problem.New(problem.ExitBundle, "open a bundle", errors.New("the file name is empty"), "give the path of the bundle file; a script variable may be empty")
	case errors.Is(err, unix.ELOOP):
		err, hint = errors.New("its symbolic links form a loop"), "check the path: ls -l shows where a link points"
	case errors.Is(err, unix.ENOTDIR):
		hint = "check the path: something in it is a file, not a folder"
	case errors.Is(err, fs.ErrNotExist):
		hint = "check the path; the bundle is the file that the vendor published"
	case errors.Is(err, fs.ErrPermission):
		hint = "run this as a user who may read the file, or change its permissions"
	case errors.Is(err, ErrIsFolder):
		hint = "give the bundle file itself, not the folder that contains it or that it was unpacked to"
	case errors.Is(err, ErrNotRegular):
		hint = "give the bundle as a regular file; only install and preflight read a bundle from a pipe"
	case len(head) == 0 && errors.Is(err, ErrTruncated):
		hint = "the file is empty: copy it again from where it was published"
	case errors.Is(err, ErrTruncated) && strings.HasPrefix(string(head), LayoutEntry[:min(len(head), len(LayoutEntry))]):
		hint = "the copy is incomplete: check the space on the disk, then copy the file again"
	case what != "":
		err, hint = fmt.Errorf("it is %s, not a bundle", what), "give the bundle as `plinth bundle build` wrote it"
	case errors.Is(err, ErrNotBundle), errors.Is(err, ErrTruncated) && len(head) > 0:
		if !errors.Is(err, ErrNotBundle) {
			err = ErrNotBundle
		}
		hint = "give a file that `plinth bundle build` wrote"
	}
	return problem.New(problem.ExitBundle, "open bundle "+name, err, hint)
}

// identifyFile returns what a file that begins with head is, or "" if it is not a well-known kind.
func identifyFile(head []byte) string {
	for _, known := range []struct{ magic, what string }{
		{"\x1f\x8b", "compressed by gzip"}, {"\x28\xb5\x2f\xfd", "compressed by zstd"}, {"\xfd7zXZ", "compressed by xz"},
		{"BZh", "compressed by bzip2"}, {"PK\x03\x04", "a zip archive"}, {"\x7fELF", "an executable"},
		{"<", "a web page (an error page of the server it came from?)"}, {"apiVersion:", "a YAML file"},
	} {
		if strings.HasPrefix(string(head), known.magic) {
			return known.what
		}
	}
	return ""
}
