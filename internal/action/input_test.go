package action

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadInput_ReadsFilesUpToTheLimit(t *testing.T) {
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, want, err string }{
		"a file of limit bytes":   {path: file("1234"), want: "1234"},
		"standard input":          {path: "-", want: "in"},
		"an empty device":         {path: "/dev/null"},
		"a file above the limit":  {path: file("12345"), err: "it has more than 4 bytes"},
		"an endless device":       {path: "/dev/zero", err: "it has more than 4 bytes"},
		"a missing file":          {path: "/does/not/exist", err: "no such file or directory"},
		"a directory":             {path: t.TempDir(), err: "is a directory"},
		"a pipe without a writer": {path: pipe, err: "it is a pipe or a socket, not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := ReadInput(strings.NewReader("in"), c.path, 4)
			if string(raw) != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %q, %v", c.path, raw, err)
			}
		})
	}
}

func TestReadSecret_RefusesAFileOfAllUsers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	for mode, want := range map[os.FileMode]error{0o600: nil, 0o400: nil, 0o640: ErrReadableByOthers, 0o604: ErrReadableByOthers, 0o666: ErrReadableByOthers} {
		t.Run(mode.String(), func(t *testing.T) {
			_ = os.Remove(file)
			if err := errors.Join(os.WriteFile(file, []byte("1234"), 0o600), os.Chmod(file, mode)); err != nil {
				t.Fatal(err)
			}
			if raw, err := ReadSecret(nil, file, 4); !errors.Is(err, want) || err == nil && string(raw) != "1234" {
				t.Errorf("%q, %v, want %v", raw, err, want)
			}
		})
	}
	t.Run("a pipe of the shell", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		_, err = w.WriteString("1234")
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		if raw, err := ReadSecret(nil, fmt.Sprintf("/dev/fd/%d", r.Fd()), 4); err != nil || string(raw) != "1234" {
			t.Errorf("%q, %v", raw, err)
		}
	})
}
