package journal

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host"
)

func clock() func() time.Time {
	n := int64(0)
	return func() time.Time { n++; return time.Unix(n, 0) }
}

func mustOpen(t *testing.T, root string) *Journal {
	t.Helper()
	j, err := Open(host.Local(root), "/data", clock())
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestJournalRemembersAnUnfinishedRunAcrossAKill(t *testing.T) {
	root := t.TempDir()
	j := mustOpen(t, root)
	must(t, j.Begin("install", map[string]string{"bundle": "sha256:1"}), j.BeginStep("a", []string{"/x"}), j.EndStep("a", nil), j.BeginStep("b", nil))

	run, ok := mustOpen(t, root).Last("install")
	if !ok || !run.Unfinished() || run.At() != "b" || run.Args["bundle"] != "sha256:1" {
		t.Errorf("after a kill: %+v", run)
	}
	if run.Steps[0].Ended == nil || run.Steps[0].Touches[0] != "/x" || run.Steps[1].Ended != nil {
		t.Errorf("steps: %+v", run.Steps)
	}
}

func TestFirstValueFoundIsTheOneToPutBack(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	must(t, j.Begin("install", nil), j.BeginStep("sysctl", nil), j.Before("sysctl", "0"), j.EndStep("sysctl", errors.New("killed")), j.End(errors.New("x")))
	must(t, j.Begin("install", nil), j.BeginStep("sysctl", nil), j.Before("sysctl", "1"), j.EndStep("sysctl", nil), j.End(nil))
	var got string
	if ok, err := j.Found("sysctl", &got); !ok || err != nil || got != "0" {
		t.Errorf("found %q %v %v", got, ok, err)
	}
	if run, _ := j.Last("install"); run.Unfinished() {
		t.Error("a run that ended well counts as unfinished")
	}
}

func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	root := t.TempDir()
	must(t, mustOpen(t, root).Begin("install", nil))
	info, err := os.Stat(filepath.Join(root, "data/journal.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, err %v", info, err)
	}
}

func TestUnknownEntriesSurviveAndNewerSchemaIsRefused(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "data/journal.json")
	must(t, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(`{"version":1,"runs":[],"later":{"a":1}}`), 0o600))
	must(t, mustOpen(t, root).Begin("install", nil))
	raw, _ := os.ReadFile(path)
	if !strings.Contains(string(raw), `"later"`) {
		t.Errorf("unknown entry lost: %s", raw)
	}
	must(t, os.WriteFile(path, []byte(`{"version":2,"runs":[]}`), 0o600))
	if _, err := Open(host.Local(root), "/data", clock()); err == nil || !strings.Contains(err.Error(), "schema version 2") {
		t.Errorf("newer schema: %v", err)
	}
}

func TestReceiptComesBackAsWritten(t *testing.T) {
	files := host.Local(t.TempDir())
	if _, ok, err := ReadReceipt(files, "/data"); ok || err != nil {
		t.Errorf("no receipt: %v %v", ok, err)
	}
	must(t, WriteReceipt(files, "/data", Receipt{Name: "my-app", Versions: map[string]string{"k0s": "v1"}}))
	r, ok, err := ReadReceipt(files, "/data")
	if !ok || err != nil || r.Name != "my-app" || r.Versions["k0s"] != "v1" {
		t.Errorf("%+v %v %v", r, ok, err)
	}
}

// FuzzOpen tears and bends the file: it is read whole or refused, never a panic.
func FuzzOpen(f *testing.F) {
	good, _ := json.Marshal(content{Version: 1, Runs: []Run{{Verb: "install", Steps: []Step{{ID: "a"}}}}})
	f.Add(good)
	for i := range good {
		f.Add(good[:i])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var c content
		var extra map[string]json.RawMessage
		if err := decode(raw, &c, &extra); err == nil && c.Version != version {
			t.Errorf("accepted version %d", c.Version)
		}
	})
}
