// Package refusal owns the words for a file that is not the bundle that it
// should be: what it is instead, as far as its beginning tells, and what to do.
// It refuses to read files.
package refusal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/problem"
)

// What is found in place of a file.
var (
	ErrFolder    = errors.New("it is a folder")
	ErrIrregular = errors.New("it is not a regular file")
)

// Open words why the file name is no bundle; head is the beginning of the file if that may explain it.
func Open(name string, err error, head []byte) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	hint := "the file is damaged or was altered: copy it again from where it was published and compare its sha256sum"
	switch what := sniff(head); {
	case name == "":
		return problem.New(problem.ExitBundle, "open a bundle", errors.New("the name of the file is empty"), "name the bundle's file; a variable of a script may be empty")
	case errors.Is(err, unix.ELOOP):
		err, hint = errors.New("its symbolic links lead in a circle"), "check the path: ls -l shows where a link leads"
	case errors.Is(err, unix.ENOTDIR):
		hint = "check the path: something in it is a file, not a folder"
	case errors.Is(err, fs.ErrNotExist):
		hint = "check the path; `plinth bundle build` makes a bundle"
	case errors.Is(err, fs.ErrPermission):
		hint = "run this as a user who may read the file, or change its permissions"
	case errors.Is(err, ErrFolder):
		hint = "give the bundle file itself, not the folder it is in or was unpacked to"
	case errors.Is(err, ErrIrregular):
		hint = "give the bundle as a file on a disk: a device has no bundle in it, and only install and preflight take one from a pipe"
	case len(head) == 0 && errors.Is(err, format.ErrTruncated):
		hint = "the file is empty: copy it again from where it was published"
	case errors.Is(err, format.ErrTruncated) && strings.HasPrefix(string(head), format.LayoutEntry[:min(len(head), len(format.LayoutEntry))]):
		hint = "the copy is incomplete: check the space on the disk, then copy the file again"
	case what != "":
		err, hint = fmt.Errorf("it is %s, not a bundle", what), "give the bundle as `plinth bundle build` wrote it"
	case errors.Is(err, format.ErrForeign), errors.Is(err, format.ErrTruncated) && len(head) > 0:
		if !errors.Is(err, format.ErrForeign) {
			err = format.ErrForeign
		}
		hint = "give a file that `plinth bundle build` wrote"
	}
	return problem.New(problem.ExitBundle, "open bundle "+name, err, hint)
}

// sniff names well-known things that are taken for a bundle.
func sniff(head []byte) string {
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
