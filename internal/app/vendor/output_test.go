package vendor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/app/delivery"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestOutputsThatCannotBeMeantAreRefusedBeforeTheWork(t *testing.T) {
	dir := t.TempDir()
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	// Every other input is missing too: who complains of the output looked at it first.
	verbs := map[string]func(out string) error{
		"build": func(out string) error {
			_, err := Build(t.Context(), Request{Installer: "missing", Source: "missing", Out: out})
			return err
		},
		"diff":  func(out string) error { _, err := Diff(t.Context(), "missing", "missing", out); return err },
		"merge": func(out string) error { _, err := Merge(t.Context(), "missing", "missing", out, nil); return err },
		"seal": func(out string) error {
			_, err := Seal(t.Context(), SealRequest{Bundle: "missing", Out: out})
			return err
		},
	}
	refused := map[string]string{
		"/dev/null":                             "a device",
		dir:                                     "is a folder",
		filepath.Join(dir, "none", "out"):       "there is no folder",
		filepath.Join(documented, "out"):        "not a",
		filepath.Join("/proc", "plinth-output"): "no file can be made in",
		"json":                                  "hardly",
	}
	if os.Geteuid() != 0 { // nothing is closed to root
		refused[filepath.Join(closed, "out")] = "no file can be made in"
	}
	check := func(verb, out, want string, err error) {
		t.Helper()
		var p *problem.Problem
		if !errors.As(err, &p) || p.Exit != problem.ExitUsage || !strings.Contains(p.Error(), want) {
			t.Errorf("%s -o %s: %v, want exit code %d and %q", verb, out, err, problem.ExitUsage, want)
		}
	}
	for out, want := range refused {
		for verb, do := range verbs {
			check(verb, out, want, do(out))
		}
	}
	for out, want := range map[string]string{"/dev/null": "is not a folder", filepath.Join(documented, "out"): "not a", "/proc/none/out": "no file can be made in"} {
		_, err := Release(t.Context(), ReleaseRequest{Out: out})
		check("release", out, want, err)
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Errorf("/dev/null is %v (%v) now", info, err)
	}
}

func TestAnOutputIsNoneOfTheInputs(t *testing.T) {
	_, public := keys(t)
	bundle := built(t, func(*Request) {})
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
		for verb, do := range map[string]func() error{
			"seal": func() error {
				_, err := Seal(t.Context(), SealRequest{Bundle: bundle, VerifyKey: public, AllowUnsigned: true, Out: out})
				return err
			},
			"diff, old":    func() error { _, err := Diff(t.Context(), bundle, "x", out); return err },
			"diff, new":    func() error { _, err := Diff(t.Context(), "x", bundle, out); return err },
			"merge, old":   func() error { _, err := Merge(t.Context(), bundle, "x", out, nil); return err },
			"merge, delta": func() error { _, err := Merge(t.Context(), "x", bundle, out, nil); return err },
			"build": func() error {
				_, err := Build(t.Context(), Request{Installer: bundle, Source: source, Out: out})
				return err
			},
		} {
			same(t, verb+" -o "+out, do())
		}
	}
	_, err = Build(t.Context(), Request{Installer: documented, Source: source, Out: filepath.Join(source, "index.json")})
	same(t, "build over the source's index", err)
	_, err = Seal(t.Context(), SealRequest{VerifyKey: public, Out: public})
	same(t, "seal over the key", err)
	self, err := os.Readlink(delivery.Program)
	if err == nil {
		_, err = Seal(t.Context(), SealRequest{VerifyKey: public, Out: self})
	}
	same(t, "seal over the program", err)
	_, err = Release(t.Context(), ReleaseRequest{Bundles: []string{bundle}, URL: "https://example.com/x", Out: filepath.Dir(published)})
	same(t, "release over its bundle", err)
	if after, err := os.ReadFile(bundle); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the bundle has %d bytes instead of %d (%v)", len(after), len(before), err)
	}
}

func same(t *testing.T, what string, err error) {
	t.Helper()
	var p *problem.Problem
	if !errors.As(err, &p) || p.Exit != problem.ExitUsage || !strings.Contains(p.Error(), "is the same file as") {
		t.Errorf("%s: %v, want a refusal with exit code %d", what, err, problem.ExitUsage)
	}
}

// ending is a context that ends when it has been asked a few times.
type ending struct {
	context.Context
	left int
}

func (e *ending) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return e.Context.Err()
}

func TestAnInterruptedSealLeavesNoFile(t *testing.T) {
	_, public := keys(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	_, err := Seal(&ending{t.Context(), 2}, SealRequest{VerifyKey: public, Out: out})
	if err == nil {
		t.Error("it went on")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v (%v)", left, err)
	}
}
