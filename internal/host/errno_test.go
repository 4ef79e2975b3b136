package host

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

func TestDiskHint_NamesWhatToDoFirst(t *testing.T) {
	at := func(err error) error { return &fs.PathError{Op: "write", Path: "/mnt/my backup/b", Err: err} }
	for name, c := range map[string]struct {
		err  error
		want string // its beginning; "" for no hint
	}{
		"a full disk":         {fmt.Errorf("save: %w", at(unix.ENOSPC)), "free space first: df -h '/mnt/my backup' shows what is free"},
		"a quota":             {at(unix.EDQUOT), "raise the quota first, or remove files: '/mnt/my backup' has used up its quota"},
		"a read-only mount":   {errors.Join(at(unix.EROFS)), "make it writable first: findmnt -T '/mnt/my backup'"},
		"a folder mode":       {at(unix.EACCES), "give root access first: sudo chmod u+rwx '/mnt/my backup'"},
		"a rename":            {&os.LinkError{Op: "rename", Old: "/a/x", New: "/b/x", Err: unix.EROFS}, "make it writable first: findmnt -T /b"},
		"a missing file":      {at(unix.ENOENT), ""},
		"an error of no path": {unix.ENOSPC, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := DiskHint(c.err); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestWrite_NamesTheFileInItsErrors(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(root+"/dir", 0o700); err != nil {
		t.Fatal(err)
	}
	source := &fs.PathError{Op: "read", Path: "/source", Err: unix.EIO}
	for name, c := range map[string]struct {
		path, want string
		fails      error // of the content; nil for none
	}{
		"a folder in its place": {"/dir", "write /dir: file exists", nil},
		"a source that fails":   {"/new", "write /new: read /source: input/output error", source},
	} {
		t.Run(name, func(t *testing.T) {
			content := iotest.ErrReader(cmp.Or(c.fails, io.EOF))
			if err := Local(root).Write(c.path, content, 0o600); err == nil || err.Error() != c.want {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
