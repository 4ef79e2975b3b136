package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFileThatTheUserNamedIsReadUpToItsLimit(t *testing.T) {
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, c := range map[string]struct{ want, err string }{
		file("1234"): {want: "1234"}, "-": {want: "in"}, "/dev/null": {},
		file("12345"): {err: "it has more than 4 bytes"}, "/dev/zero": {err: "it has more than 4 bytes"},
		"/does/not/exist": {err: "no such file or directory"}, t.TempDir(): {err: "is a directory"},
	} {
		raw, err := Given(strings.NewReader("in"), path, 4)
		if string(raw) != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", path, raw, err)
		}
	}
}
