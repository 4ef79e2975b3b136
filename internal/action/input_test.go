package action

import (
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
