package backup

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestRun_KeepsBackupsPerNode(t *testing.T) {
	f, env := newController(t)
	opts := Options{To: "/mnt/backup", PerNode: true, Keep: 2, Lock: KeyFlags{PassphraseFile: passphraseFile(t, "five random words here")}}
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{"/mnt/backup/lost+found/x": ""})
	other, err := run(t, env, Options{To: "/mnt/backup", Lock: opts.Lock}, fakeData{etcd: "etcd"}) // as if another node had written it
	testkit.Must(t, err)
	now := clock()
	for range 3 {
		now = now.Add(time.Hour)
		env.Now = func() time.Time { return now }
		_, err := run(t, env, opts, fakeData{etcd: "etcd"})
		testkit.Must(t, err)
	}
	info, err := os.Stat(f.Root + "/mnt/backup/n1")
	testkit.Must(t, err)
	if info.Mode().Perm() != 0o700 {
		t.Errorf("%v", info.Mode())
	}
	all, err := List(t.Context(), env, "/mnt/backup", objectstore.Settings{})
	testkit.Must(t, err)
	if len(all) != 3 || all[0].Path != "/mnt/backup/n1/my-app-20261129T150000Z.plinth-backup" || all[2].Path != other.Path {
		t.Errorf("%+v", all)
	}
}

func TestRemoveOldLogs_KeepsTheNewest(t *testing.T) {
	f := hosttest.New(t)
	testkit.Must(t, removeOldLogs(f.Host()))
	files := map[string]string{action.LogDir + "/install-20260101T000000.000Z.log": "", action.LogDir + "/backup-own.txt": ""}
	for i := range keptLogs + 2 {
		files[fmt.Sprintf("%s/backup-20260101T%06d.000Z.log", action.LogDir, i)] = ""
	}
	testkit.WriteFiles(t, f.Root, 0o600, files)
	testkit.Must(t, removeOldLogs(f.Host()))
	left, err := f.Host().ReadDir(action.LogDir)
	testkit.Must(t, err)
	if len(left) != keptLogs+2 || left[0].Name() != "backup-20260101T000002.000Z.log" {
		t.Errorf("%d files, the first is %s", len(left), left[0].Name())
	}
}
