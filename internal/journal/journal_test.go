package journal

import (
	"encoding/json"
	"errors"
	"github.com/plinthdev/plinth/internal/testkit"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/problem"
)

// clock returns a clock that advances by a second each time it is read.
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

func TestOpen_ReadsUnfinishedRunAfterKill(t *testing.T) {
	root := t.TempDir()
	j := mustOpen(t, root)
	testkit.Must(t, j.BeginRun("install", Args{Bundle: "sha256:1"}), j.BeginStep("a", []string{"/x"}), j.EndStep("a", nil), j.BeginStep("b", nil))

	run, ok := mustOpen(t, root).LastRun("install")
	if !ok || !run.Unfinished() || run.ReachedStep() != "b" || run.Args.Bundle != "sha256:1" {
		t.Errorf("after a kill: %+v", run)
	}
	if run.Steps[0].EndedAt == nil || run.Steps[0].Affects[0] != "/x" || run.Steps[1].EndedAt != nil {
		t.Errorf("steps: %+v", run.Steps)
	}
}

func TestInstallRefusal_NamesWhatMustBeRemovedFirst(t *testing.T) {
	failed := errors.New("busy")
	for name, c := range map[string]struct {
		verbs []string
		last  error // of the last run; its end is recorded unless it is nil and killed
		kill  bool
		lost  bool   // a damaged journal was moved away
		scope string // of a reset
		want  string
		fix   string
	}{
		"nothing was run":       {nil, nil, false, false, "", "", ""},
		"an unfinished install": {[]string{"install"}, failed, false, false, "", "", ""},
		"a failed reset":        {[]string{"install", "reset"}, failed, false, false, "", "the reset started at", "reset cluster"},
		"a killed reset":        {[]string{"install", "reset"}, nil, true, false, "", "is not finished", "reset cluster"},
		"a killed reset node":   {[]string{"join", "reset"}, nil, true, false, "node", "is not finished", "reset node"},
		"a finished reset":      {[]string{"install", "reset"}, nil, false, false, "", "", ""},
		"a lost journal":        {nil, nil, false, true, "", "the journal of an earlier install on this host is lost", "reset cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if c.lost {
				testkit.Must(t, os.MkdirAll(filepath.Join(root, "data"), 0o755), os.WriteFile(filepath.Join(root, "data", damagedFile), []byte("x"), 0o600))
			}
			j := mustOpen(t, root)
			for i, verb := range c.verbs {
				testkit.Must(t, j.BeginRun(verb, Args{Scope: c.scope}))
				switch {
				case i < len(c.verbs)-1:
					testkit.Must(t, j.EndRun(nil))
				case !c.kill:
					testkit.Must(t, j.EndRun(c.last))
				}
			}
			if why, fix := j.InstallRefusal(); !strings.Contains(why, c.want) || (why == "") != (c.want == "") || !strings.HasSuffix(fix, c.fix) || (fix == "") != (c.fix == "") {
				t.Errorf("%q, fix %q; want %q, fix %q", why, fix, c.want, c.fix)
			}
		})
	}
}

func TestLoadState_ReturnsFirstSavedState(t *testing.T) {
	j := mustOpen(t, t.TempDir())
	testkit.Must(t, j.BeginRun("install", Args{}), j.BeginStep("sysctl", nil), j.SaveState("sysctl", "0"), j.EndStep("sysctl", errors.New("killed")), j.EndRun(errors.New("x")))
	testkit.Must(t, j.BeginRun("install", Args{}), j.BeginStep("sysctl", nil), j.SaveState("sysctl", "1"), j.EndStep("sysctl", nil), j.EndRun(nil))
	var got string
	if ok, err := j.LoadState("sysctl", &got); !ok || err != nil || got != "0" {
		t.Errorf("found %q %v %v", got, ok, err)
	}
	if run, _ := j.LastRun("install"); run.Unfinished() {
		t.Error("a run that ended well counts as unfinished")
	}
}

func TestClear_RemovesStatesButKeepsInitialDirMode(t *testing.T) {
	root := t.TempDir()
	testkit.Must(t, os.Mkdir(filepath.Join(root, "data"), 0o755))
	j := mustOpen(t, root)
	testkit.Must(t, j.BeginRun("install", Args{}), j.BeginStep("record-host", nil), j.SaveState("record-host", "old"), j.EndRun(nil), j.BeginRun("reset", Args{}), j.Clear())
	for _, spoil := range []string{"", File} { // the copy has the same content
		if spoil != "" {
			testkit.Must(t, os.WriteFile(filepath.Join(root, "data", spoil), []byte("{"), 0o600))
		}
		if j = mustOpen(t, root); len(j.Runs()) != 0 || savedState(t, j) != "" {
			t.Errorf("%q damaged: %+v, saved state %q", spoil, j.Runs(), savedState(t, j))
		}
	}
	testkit.Must(t, os.Chmod(filepath.Join(root, "data"), DirMode), j.BeginRun("install", Args{}))
	if mode, ok := mustOpen(t, root).InitialDirMode(); !ok || mode != 0o755 {
		t.Errorf("initial mode %v, %v", mode, ok)
	}
}

func TestEndRun_WritesNothingAfterClear(t *testing.T) {
	root := t.TempDir()
	j := mustOpen(t, root)
	testkit.Must(t, j.BeginRun("reset", Args{}), j.Clear(), os.RemoveAll(filepath.Join(root, "data")))
	testkit.Must(t, j.EndRun(errors.New("the last step failed")))
	if _, err := os.Stat(filepath.Join(root, "data")); err == nil {
		t.Error("a reset that had removed the journal wrote it again")
	}
}

func TestBeginRun_WritesFileOnlyForItsOwner(t *testing.T) {
	root := t.TempDir()
	testkit.Must(t, mustOpen(t, root).BeginRun("install", Args{}))
	info, err := os.Stat(filepath.Join(root, "data/journal.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, err %v", info, err)
	}
}

func TestOpen_KeepsUnknownEntriesAndRefusesNewerSchema(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "data/journal.json")
	testkit.Must(t, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(`{"version":1,"runs":[],"later":{"a":1}}`), 0o600))
	testkit.Must(t, mustOpen(t, root).BeginRun("install", Args{}))
	raw, _ := os.ReadFile(path)
	if !strings.Contains(string(raw), `"later"`) {
		t.Errorf("unknown entry lost: %s", raw)
	}
	testkit.Must(t, os.WriteFile(path, []byte(`{"version":2,"runs":[]}`), 0o600))
	if _, err := Open(host.Local(root), "/data", clock()); problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), "schema version 2") || problem.Hint(err) != newerPlinthHint {
		t.Errorf("newer schema: %v, hint %q", err, problem.Hint(err))
	}
}

func TestReadReceipt_NamesUnusableFileAndNextCommand(t *testing.T) {
	for name, c := range map[string]struct{ content, cause, hint string }{
		"truncated":      {`{"version":1,"name":"my-`, "it is damaged", "mv /data/receipt.json /data/receipt.json.damaged"},
		"empty":          {"", "it is damaged", "plinth reset cluster"},
		"zeros":          {strings.Repeat("\x00", 100), "it is damaged", "plinth install"},
		"another type":   {`[]`, "it is damaged", "mv /data/receipt.json"},
		"no version":     {`{"name":"my-app"}`, "no schema version", "mv /data/receipt.json"},
		"wrong checksum": {`{"version":1,"name":"my-app","sum":"sha256:0"}`, "checksum does not match", "mv /data/receipt.json"},
		"a newer Plinth": {`{"version":2}`, "schema version 2", newerPlinthHint},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			testkit.WriteFiles(t, root, 0o600, map[string]string{"/data/receipt.json": c.content})
			_, _, err := ReadReceipt(host.Local(root), "/data")
			if problem.ExitCode(err) != problem.ExitUsage || !strings.HasPrefix(err.Error(), "cannot read the receipt /data/receipt.json: ") ||
				!strings.Contains(err.Error(), c.cause) || !strings.Contains(problem.Hint(err), c.hint) {
				t.Errorf("exit %d: %v, hint %q", problem.ExitCode(err), err, problem.Hint(err))
			}
		})
	}
}

func TestReadReceipt_ReturnsWrittenReceipt(t *testing.T) {
	files := host.Local(t.TempDir())
	if _, ok, err := ReadReceipt(files, "/data"); ok || err != nil {
		t.Errorf("no receipt: %v %v", ok, err)
	}
	testkit.Must(t, WriteReceipt(files, "/data", Receipt{Name: "my-app", Versions: map[string]string{"k0s": "v1"}}))
	r, ok, err := ReadReceipt(files, "/data")
	if !ok || err != nil || r.Name != "my-app" || r.Versions["k0s"] != "v1" {
		t.Errorf("%+v %v %v", r, ok, err)
	}
}

// killedInstall writes the journal of an install that was killed in its second step. It returns the root
// folder and the content of the journal and of its copy.
func killedInstall(t testing.TB) (root string, main, spare []byte) {
	root = t.TempDir()
	j, err := Open(host.Local(root), "/data", clock())
	if err == nil {
		err = errors.Join(j.BeginRun("install", Args{Bundle: "sha256:1"}), j.BeginStep("record-host", []string{"/x"}),
			j.SaveState("record-host", map[string]string{"/etc/k0s": "0755"}), j.EndStep("record-host", nil), j.BeginStep("kernel", nil))
	}
	if err != nil {
		t.Fatal(err)
	}
	main, err = os.ReadFile(filepath.Join(root, "data", File))
	spare, err2 := os.ReadFile(filepath.Join(root, "data", CopyFile))
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return root, main, spare
}

// savedState returns the state that the step record-host saved, or "" if there is none.
func savedState(t testing.TB, j *Journal) string {
	before := map[string]string{}
	if _, err := j.LoadState("record-host", &before); err != nil {
		t.Fatal(err)
	}
	return before["/etc/k0s"]
}

func TestOpen_ReadsCopyOfJournalDamagedAtAnyByte(t *testing.T) {
	root, main, _ := killedInstall(t)
	path := filepath.Join(root, "data", File)
	for n := range len(main) {
		testkit.Must(t, os.WriteFile(path, main[:n], 0o600))
		j := mustOpen(t, root)
		if torn := n < len(main)-1; savedState(t, j) != "0755" || (j.RecoveryNotice() != "") != torn { // the last byte is a newline
			t.Fatalf("truncated at %d of %d: saved state %q, notice %q", n, len(main), savedState(t, j), j.RecoveryNotice())
		}
	}
	for n := range len(main) - 1 {
		flipped := append([]byte(nil), main...)
		flipped[n] ^= 1
		testkit.Must(t, os.WriteFile(path, flipped, 0o600))
		if j, err := Open(host.Local(root), "/data", clock()); err == nil && savedState(t, j) != "0755" {
			t.Fatalf("bit flipped at %d: saved state %q", n, savedState(t, j))
		}
	}
}

func TestOpen_KeepsDamagedJournalAndHintsHowToRecover(t *testing.T) {
	root, main, spare := killedInstall(t)
	path, other := filepath.Join(root, "data", File), filepath.Join(root, "data", CopyFile)
	testkit.Must(t, os.WriteFile(path, main[:40], 0o600))
	testkit.Must(t, mustOpen(t, root).BeginRun("reset", Args{}))
	if aside, _ := os.ReadFile(filepath.Join(root, "data", damagedFile)); string(aside) != string(main[:40]) {
		t.Errorf("the damaged journal was not kept: %s", aside)
	}
	if j := mustOpen(t, root); j.RecoveryNotice() != "" || len(j.Runs()) != 2 || j.HistoryLost() {
		t.Errorf("after the next run: %q, %d runs", j.RecoveryNotice(), len(j.Runs()))
	}
	testkit.Must(t, os.WriteFile(path, main[:40], 0o600), os.WriteFile(other, spare[:40], 0o600))
	_, err := Open(host.Local(root), "/data", clock())
	if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(problem.Hint(err), "mv /data/journal.json /data/journal.json.damaged") {
		t.Errorf("both damaged: %v, hint %q", err, problem.Hint(err))
	}
	testkit.Must(t, os.Remove(path), os.Remove(other))
	if j := mustOpen(t, root); !j.HistoryLost() {
		t.Error("the history of a journal that was moved away is not reported as lost")
	}
}

func TestInitialDirMode_ReturnsModeBeforeFirstRun(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"missing": 0, "created by the administrator": 0o750, "created by a killed run": DirMode} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if mode != 0 {
				testkit.Must(t, os.Mkdir(filepath.Join(root, "data"), mode))
			}
			testkit.Must(t, mustOpen(t, root).BeginRun("install", Args{}))
			j := mustOpen(t, root)
			testkit.Must(t, j.BeginRun("install", Args{}))
			if got, ok := mustOpen(t, root).InitialDirMode(); ok != (mode == 0o750) || ok && got != mode {
				t.Errorf("%v %v", got, ok)
			}
		})
	}
}

// FuzzOpen opens damaged journals and copies: Open returns the content of one of the
// files or an error. It never returns other content and never panics.
func FuzzOpen(f *testing.F) {
	root, main, spare := killedInstall(f)
	for i := 0; i < len(main); i += 7 {
		f.Add(main[:i], spare)
		f.Add(main[:i], spare[:min(i, len(spare))])
	}
	f.Add([]byte(`{"version":2,"runs":[]}`), spare)
	f.Add([]byte(`{"version":1,"runs":[{"steps":[{"id":"record-host","originalState":{"/etc/k0s":"0755"}}]}]}`), []byte("{}"))
	f.Fuzz(func(t *testing.T, main, spare []byte) {
		testkit.Must(t, os.WriteFile(filepath.Join(root, "data", File), main, 0o600), os.WriteFile(filepath.Join(root, "data", CopyFile), spare, 0o600))
		j, err := Open(host.Local(root), "/data", clock())
		if err != nil {
			return
		}
		for _, raw := range [][]byte{main, spare} {
			var c fileContent
			var extra map[string]json.RawMessage
			if decodeFile(raw, &c, &extra) == nil && len(c.Runs) == len(j.Runs()) {
				return
			}
		}
		t.Errorf("neither file contains the runs that were read: %+v", j.Runs())
	})
}
