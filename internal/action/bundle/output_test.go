package bundle

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bundlesource "github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestCheckOutputFile_RunsBeforeTheWork(t *testing.T) {
	dir := t.TempDir()
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	// All inputs are missing too, so an error about the output shows that it was checked first.
	commands := map[string]func(out string) error{
		"build": func(out string) error {
			_, err := Build(t.Context(), BuildRequest{Installer: "missing", Source: "missing", Out: out})
			return err
		},
		"diff":  func(out string) error { _, err := Diff(t.Context(), "missing", "missing", out); return err },
		"patch": func(out string) error { _, err := Patch(t.Context(), "missing", "missing", out, nil); return err },
		"embed": func(out string) error {
			_, err := Embed(t.Context(), EmbedRequest{Bundle: "missing", Out: out})
			return err
		},
	}
	refused := map[string]string{
		"/dev/null":                             "a device",
		dir:                                     "is a folder",
		filepath.Join(dir, "none", "out"):       "does not exist",
		filepath.Join(documented, "out"):        "not a",
		filepath.Join("/proc", "plinth-output"): "no file can be created in",
		"json":                                  "is an output format",
	}
	if os.Geteuid() != 0 { // root can write to every folder
		refused[filepath.Join(closed, "out")] = "no file can be created in"
	}
	check := func(t *testing.T, want string, err error) {
		t.Helper()
		var p *problem.Problem
		if !errors.As(err, &p) || p.Exit != problem.ExitUsage || !strings.Contains(p.Error(), want) {
			t.Errorf("%v, want exit code %d and %q", err, problem.ExitUsage, want)
		}
	}
	for out, want := range refused {
		for command, do := range commands {
			t.Run(command+" -o "+out, func(t *testing.T) { check(t, want, do(out)) })
		}
	}
	for out, want := range map[string]string{"/dev/null": "is not a folder", filepath.Join(documented, "out"): "not a", "/proc/none/out": "no file can be created in"} {
		t.Run("publish -o "+out, func(t *testing.T) {
			_, err := Publish(t.Context(), PublishRequest{Out: out})
			check(t, want, err)
		})
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Errorf("/dev/null is now %v (%v)", info, err)
	}
}

func TestCheckOutputFile_RefusesInputs(t *testing.T) {
	_, public := keys(t)
	bundle := built(t, func(*BuildRequest) {})
	before, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	soft, hard := filepath.Join(t.TempDir(), "soft"), filepath.Join(filepath.Dir(bundle), "hard")
	if err := errors.Join(os.Symlink(bundle, soft), os.Link(bundle, hard)); err != nil {
		t.Fatal(err)
	}
	source := layout(t, "")
	published := filepath.Join(filepath.Dir(bundle), "install.sh")
	if err := os.Link(bundle, published); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{bundle, soft, hard} {
		for command, do := range map[string]func() error{
			"embed": func() error {
				_, err := Embed(t.Context(), EmbedRequest{Bundle: bundle, VerifyKey: public, AllowUnsigned: true, Out: out})
				return err
			},
			"diff, old":    func() error { _, err := Diff(t.Context(), bundle, "x", out); return err },
			"diff, new":    func() error { _, err := Diff(t.Context(), "x", bundle, out); return err },
			"patch, old":   func() error { _, err := Patch(t.Context(), bundle, "x", out, nil); return err },
			"patch, delta": func() error { _, err := Patch(t.Context(), "x", bundle, out, nil); return err },
			"build": func() error {
				_, err := Build(t.Context(), BuildRequest{Installer: bundle, Source: source, Out: out})
				return err
			},
		} {
			t.Run(command+" -o "+out, func(t *testing.T) { requireSameFileProblem(t, command, do()) })
		}
	}
	_, err = Build(t.Context(), BuildRequest{Installer: documented, Source: source, Out: filepath.Join(source, "index.json")})
	requireSameFileProblem(t, "build over the source's index", err)
	_, err = Embed(t.Context(), EmbedRequest{VerifyKey: public, Out: public})
	requireSameFileProblem(t, "embed over the key", err)
	self, err := os.Readlink(bundlesource.ExecutablePath)
	if err == nil {
		_, err = Embed(t.Context(), EmbedRequest{VerifyKey: public, Out: self})
	}
	requireSameFileProblem(t, "embed over the program", err)
	_, err = Publish(t.Context(), PublishRequest{Bundles: []string{bundle}, URL: "https://example.com/x", Out: filepath.Dir(published)})
	requireSameFileProblem(t, "publish over its bundle", err)
	if after, err := os.ReadFile(bundle); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the bundle has %d bytes instead of %d (%v)", len(after), len(before), err)
	}
}

func requireSameFileProblem(t *testing.T, what string, err error) {
	t.Helper()
	var p *problem.Problem
	if !errors.As(err, &p) || p.Exit != problem.ExitUsage || !strings.Contains(p.Error(), "is the same file as") {
		t.Errorf("%s: %v, want a problem with exit code %d", what, err, problem.ExitUsage)
	}
}

// endingContext is a context that ends after a few calls of Err.
type endingContext struct {
	context.Context
	left int
}

func (e *endingContext) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return e.Context.Err()
}

func TestEmbed_LeavesNoFileWhenInterrupted(t *testing.T) {
	_, public := keys(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	_, err := Embed(&endingContext{t.Context(), 2}, EmbedRequest{VerifyKey: public, Out: out})
	if err == nil {
		t.Error("it continued after the end of the context")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files left: %v (%v)", left, err)
	}
}
