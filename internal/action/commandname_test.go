package action

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/airgap/embed"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestCommandName_IsPlinthOnlyIfThePathHasThisProgram(t *testing.T) {
	program := bytes.Repeat([]byte("the program"), 200_000) // more than one block
	section := func(b []byte) *io.SectionReader { return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))) }
	var bundled bytes.Buffer
	testkit.Must(t, embed.Write(&bundled, embed.Embedded{Program: section(program), Bundle: section([]byte("a bundle"))}))
	var plain bytes.Buffer // what an install by the bundled one puts on the PATH
	testkit.Must(t, embed.Write(&plain, embed.Embedded{Program: section(program)}))
	last := bytes.Clone(plain.Bytes())
	last[len(program)-1]++
	for name, c := range map[string]struct {
		onPath []byte // nil for no such file
		want   string
	}{
		"nothing there":            {nil, "./my-plinth"},
		"installed by it":          {plain.Bytes(), "plinth"},
		"another last byte":        {last, "./my-plinth"},
		"another version":          {[]byte("another"), "./my-plinth"},
		"longer":                   {append(bytes.Clone(plain.Bytes()), 'x'), "./my-plinth"},
		"an empty file":            {[]byte{}, "./my-plinth"},
		"with its embedded bundle": {bundled.Bytes(), "./my-plinth"}, // a copy: the next test has a link
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			self, onPath := filepath.Join(dir, "my-plinth"), filepath.Join(dir, "plinth")
			testkit.Must(t, os.WriteFile(self, bundled.Bytes(), 0o600))
			if c.onPath != nil {
				testkit.Must(t, os.WriteFile(onPath, c.onPath, 0o600))
			}
			if got := commandName(self, onPath, "./my-plinth"); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
	t.Run("a link to it", func(t *testing.T) {
		dir := t.TempDir()
		self, onPath := filepath.Join(dir, "my-plinth"), filepath.Join(dir, "plinth")
		testkit.Must(t, os.WriteFile(self, bundled.Bytes(), 0o600), os.Symlink(self, onPath))
		if got := commandName(self, onPath, "./my-plinth"); got != "plinth" {
			t.Errorf("%q", got)
		}
	})
	t.Run("removed while it runs", func(t *testing.T) {
		dir := t.TempDir()
		self := filepath.Join(dir, "exe") // like /proc/self/exe of a removed program
		testkit.Must(t, os.Symlink(filepath.Join(dir, "plinth (deleted)"), self))
		if got := commandName(self, filepath.Join(dir, "plinth"), "plinth"); got != "" {
			t.Errorf("%q", got)
		}
	})
}

func TestEqualContent_ReturnsErrors(t *testing.T) {
	r, w := io.Pipe()
	testkit.Must(t, w.CloseWithError(os.ErrPermission))
	if same, err := equalContent(r, strings.NewReader("")); same || err == nil {
		t.Errorf("%v, %v", same, err)
	}
}
