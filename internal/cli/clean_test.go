package cli

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/internal/testkit"
)

// hostileText holds a control sequence, a window title, a C1 control and a bidirectional override.
const hostileText = "\x1b[2J\x1b]0;title\x07\u009b2J\u202e"

// hostileBundles returns unsigned bundles with hostileText in a name, a version and a kind.
func hostileBundles(t *testing.T) (named, unusable string) {
	t.Helper()
	req := airgaptest.NewRequest(t)
	files := airgaptest.HostFiles()
	files[0].Version += hostileText
	req.Layout, req.HostFiles[0].Version = airgaptest.WriteLayout(t, airgaptest.Images(), files), files[0].Version
	req.Name += hostileText
	named = filepath.Join(t.TempDir(), "named"+hostileText+".bundle")
	_, err := build.WriteFile(t.Context(), req, named)
	testkit.Must(t, err)
	return named, withHostileKind(t, airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
}

// withHostileKind returns a copy of the bundle at path in which hostileText is part of a kind.
func withHostileKind(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	testkit.Must(t, err)
	var sum string
	var out bytes.Buffer
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		testkit.Must(t, err)
		data, err := io.ReadAll(r)
		testkit.Must(t, err)
		switch h.Name {
		case format.IndexEntry:
			var index ocispec.Index
			testkit.Must(t, json.Unmarshal(data, &index))
			index.Manifests[0].Annotations[format.AnnotationKind] += hostileText
			data, err = json.Marshal(index)
			testkit.Must(t, err)
			sum = format.Checksum(data)
		case format.ChecksumEntry:
			data = []byte(sum)
		}
		head, err := format.TarHeader(h.Name, int64(len(data)))
		testkit.Must(t, err)
		for _, part := range [][]byte{head, data, make([]byte, format.Padding(int64(len(data))))} {
			out.Write(part)
		}
	}
	out.Write(format.EndBlocks())
	changed := filepath.Join(t.TempDir(), "kind.bundle")
	testkit.Must(t, os.WriteFile(changed, out.Bytes(), 0o600))
	return changed
}

func TestRun_CleansTextOfUnsignedBundles(t *testing.T) {
	named, unusable := hostileBundles(t)
	file := filepath.Join(t.TempDir(), "file"+hostileText+".yaml")
	testkit.Must(t, os.WriteFile(file, []byte(`kind: "\e[2J\u202e"`), 0o600))
	for name, args := range map[string][]string{
		"inspect":             {"bundle", "inspect", named},
		"inspect, sbom":       {"bundle", "inspect", "--sbom", named},
		"verify":              {"bundle", "verify", named},
		"verify, a kind":      {"bundle", "verify", unusable},
		"install, a kind":     {"install", "--plan", "--allow-unsigned", "--bundle", unusable},
		"install, a name":     {"install", "--plan", "--bundle", named},
		"lint":                {"lint", file},
		"a file that is away": {"lint", file + "x"},
		"an unknown command":  {"in" + hostileText},
		"an unknown flag":     {"status", "--fl" + hostileText},
		"a data folder":       {"status", "--data-dir", "rel" + hostileText},
	} {
		t.Run(name, func(t *testing.T) {
			_, stdout, stderr := runPlinth(t, args...)
			checkNoControls(t, stdout+stderr)
			_, stdout, stderr = runPlinth(t, append([]string{"-o", "json"}, args...)...)
			checkNoControls(t, stdout+stderr)
			for line := range strings.Lines(stdout) {
				if !json.Valid([]byte(line)) {
					t.Errorf("not JSON: %q", line)
				}
			}
		})
	}
}

// checkNoControls verifies that text, which is not empty, cannot control a terminal.
func checkNoControls(t *testing.T, text string) {
	t.Helper()
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsGraphic(r) }) {
		t.Errorf("%q", text)
	}
}
