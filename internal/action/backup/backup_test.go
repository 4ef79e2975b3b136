package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/plinthdev/plinth/internal/action"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/ui"
)

const dataDir = "/var/lib/plinth"

// clock is the time of the first backup of a test.
func clock() time.Time { return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC) }

// fakeData is the data of a cluster.
type fakeData struct {
	etcd    string
	nodeErr error
	skipped []kube.PVC
}

func (d fakeData) EtcdSnapshot(context.Context) (io.ReadCloser, error) {
	if d.etcd == "" {
		return nil, errors.New("etcd returned 503")
	}
	return io.NopCloser(strings.NewReader(d.etcd)), nil
}

func (d fakeData) Nodes(context.Context) ([]format.Node, error) {
	return []format.Node{{Name: "n1", Role: "controller", Address: "10.0.0.5"}}, d.nodeErr
}

func (fakeData) Networks(context.Context) (format.Networks, error) {
	return format.Networks{PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12"}, nil
}

func (d fakeData) SkippedClaims(context.Context) ([]kube.PVC, error) { return d.skipped, nil }

// newController returns a host with a running controller, and a folder for backups on it.
func newController(t *testing.T) (*hosttest.Fake, *action.Env) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a backup needs root")
	}
	f := hosttest.New(t)
	f.Units[k0s.ControllerUnit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}
	ca, err := pki.NewCA("kubernetes-ca", clock())
	testkit.Must(t, err)
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{k0s.CACertPath: string(ca.Cert), k0s.CAKeyPath: string(ca.Key),
		k0s.ConfigPath: "kind: ClusterConfig\n", k0s.TokenPath: "token",
		k0s.RegistryDir + "/r/hosts.toml": "server", k0s.ContainerdDropInPath: "version = 2\n", "/etc/systemd/system/" + k0s.ControllerUnit: "[Service]\n", dataDir + "/bundle/index.json": "{}", dataDir + "/volumes/v/data": "volume", "/mnt/backup/other.txt": ""})
	h := f.Host()
	j, err := journal.Open(h, dataDir, clock)
	testkit.Must(t, err, j.BeginRun("install", journal.Args{Cluster: "my-app"}), j.EndRun(nil))
	testkit.Must(t, journal.WriteReceipt(h, dataDir, journal.Receipt{Name: "my-app", Role: "controller", Node: "n1", Bundle: "sha256:1",
		Versions: map[string]string{"k0s": "v1.33.8+k0s.1"}, UpdatedAt: clock().Add(time.Second / 2)})) // in the same second
	return f, &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: clock, Events: func(step.Event) {},
		Note: func(string) {}, Secrets: &ui.Secrets{}}}
}

// run writes a backup as Run does, without the lock of this machine.
func run(t *testing.T, env *action.Env, opts Options, d data) (Result, error) {
	t.Helper()
	return runUntil(t.Context(), t, env, opts, d)
}

func runUntil(ctx context.Context, t *testing.T, env *action.Env, opts Options, d data) (Result, error) {
	t.Helper()
	opts.Lock.Secrets = env.Secrets
	lock, err := opts.Lock.lock(ctx)
	if err != nil {
		return Result{}, err
	}
	o := &operation{opts: opts, lock: lock, data: d}
	if _, err := action.ExecuteLocked(ctx, env, o.engineOperation()); err != nil {
		return Result{}, o.recordFailure(env, err)
	}
	return o.result, nil
}

// passphraseFile returns a file with a passphrase.
func passphraseFile(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "passphrase")
	testkit.Must(t, os.WriteFile(p, []byte(text+"\n"), 0o600))
	return p
}

func TestRun_WritesWhatARestoreNeeds(t *testing.T) {
	f, env := newController(t)
	secret := passphraseFile(t, "five random words here")
	res, err := run(t, env, Options{To: "/mnt/backup", Lock: KeyFlags{PassphraseFile: secret}}, fakeData{etcd: "etcd"})
	testkit.Must(t, err)
	if res.Path != "/mnt/backup/my-app-20261129T120000Z.plinth-backup" || res.Verified != Content || res.Backup.Encryption != format.WithPassphrase || res.Backup.Kubernetes != "1.33" {
		t.Errorf("%+v", res)
	}
	info, err := os.Stat(f.Root + res.Path)
	testkit.Must(t, err)
	if info.Mode().Perm() != 0o600 || info.Size() != res.Size {
		t.Errorf("%v, %d bytes", info.Mode(), info.Size())
	}
	open, err := OpenFile(t.Context(), env, res.Path, objectstore.Settings{})
	testkit.Must(t, err)
	names := map[string]bool{}
	m, err := format.Extract(open, format.Key{Passphrase: "five random words here"}, func(_ format.Manifest, f format.File, _ io.Reader) error {
		names[f.Name] = true
		return nil
	})
	testkit.Must(t, err)
	for _, p := range []string{k0s.CACertPath, k0s.CAKeyPath, k0s.ConfigPath, k0s.RegistryDir + "/r/hosts.toml", k0s.ContainerdDropInPath,
		"/etc/systemd/system/" + k0s.ControllerUnit,
		dataDir + "/journal.json", dataDir + "/receipt.json", dataDir + "/bundle/index.json"} {
		if !names[format.HostName(p)] {
			t.Errorf("%s is not in it", p)
		}
	}
	if names[format.HostName(k0s.TokenPath)] || names[format.HostName(dataDir+"/volumes/v/data")] || !names[format.EtcdName] || m.Networks.PodCIDR != "10.244.0.0/16" || len(m.Nodes) != 1 {
		t.Errorf("%v, %+v", names, m)
	}
	if _, err := os.Stat(f.Root + spoolDir(dataDir)); err == nil {
		t.Error("a copy of the data is left behind")
	}
	if r, ok, err := ReadRecord(env.Host, dataDir); err != nil || !ok || r.Path != res.Path || r.FailedAt != nil || r.Size != res.Size {
		t.Errorf("%+v %v", r, err)
	}
	if masked := env.Secrets.Mask("five random words here"); masked != "***" {
		t.Error("the passphrase is not hidden")
	}
}

func TestRun_RefusesByName(t *testing.T) {
	secret := passphraseFile(t, "five random words here")
	good := KeyFlags{PassphraseFile: secret}
	for name, c := range map[string]struct {
		opts   Options
		change func(*hosttest.Fake, *action.Env)
		data   fakeData
		exit   int
		text   string
	}{
		"no encryption": {opts: Options{To: "/mnt/backup"}, exit: 2, text: "0 ways to encrypt"},
		"two encryptions": {opts: Options{To: "/mnt/backup", Lock: KeyFlags{PassphraseFile: secret, Unencrypted: true}}, exit: 2,
			text: "2 ways to encrypt"},
		"short passphrase":     {opts: Options{To: "/mnt/backup", Lock: KeyFlags{PassphraseFile: passphraseFile(t, "short")}}, exit: 2, text: "fewer than 12"},
		"short, of 18 bytes":   {opts: Options{To: "/mnt/backup", Lock: KeyFlags{PassphraseFile: passphraseFile(t, "äöüäöüäöü")}}, exit: 2, text: "fewer than 12 characters"},
		"no passphrase":        {opts: Options{To: "/mnt/backup", Lock: KeyFlags{PassphraseFile: passphraseFile(t, "")}}, exit: 2, text: "first line is empty"},
		"recipient is no key":  {opts: Options{To: "/mnt/backup", Lock: KeyFlags{Recipients: []string{"age1abc"}}}, exit: 2, text: "not a public key"},
		"private key":          {opts: Options{To: "/mnt/backup", Lock: KeyFlags{Recipients: []string{"AGE-SECRET-KEY-1ABC"}}}, exit: 2, text: "private key"},
		"recipient is missing": {opts: Options{To: "/mnt/backup", Lock: KeyFlags{Recipients: []string{"/nowhere"}}}, exit: 2, text: "no such file"},
		"another URL":          {opts: Options{To: "https://bucket/backup", Lock: good}, exit: 2, text: "only those of S3"},
		"no bucket":            {opts: Options{To: "s3:///backup", Lock: good}, exit: 2, text: "is not the name of a bucket"},
		"no credentials":       {opts: Options{To: "s3://bucket/backup", Lock: good}, exit: 2, text: "no credentials"},
		"no such folder":       {opts: Options{To: "/mnt/other/", Lock: good}, exit: 2, text: "no such folder"},
		"no parent folder":     {opts: Options{To: "/mnt/other/file", Lock: good}, exit: 2, text: "its folder cannot be read"},
		"existing file":        {opts: Options{To: "/mnt/backup/other.txt", Lock: good}, exit: 2, text: "exists already"},
		"inside the data":      {opts: Options{To: dataDir + "/b", Lock: good}, exit: 2, text: "a reset or the next boot removes what is in " + dataDir},
		"a device":             {opts: Options{To: "/dev/sdz", Lock: good}, exit: 2, text: "removes what is in /dev"},
		"a name of two lines":  {opts: Options{To: "/mnt/backup/a\nb", Lock: good}, exit: 2, text: `to /mnt/backup/a\u{a}b: its name has control characters`},
		"no folder for nodes":  {opts: Options{To: "/mnt/other", PerNode: true, Lock: good}, exit: 2, text: "no such folder"},
		"keep with a file":     {opts: Options{To: "/mnt/backup/b", Keep: 3, Lock: good}, exit: 2, text: "--keep needs a folder"},
		"nothing installed": {opts: Options{To: "/mnt/backup", Lock: good}, exit: 2, text: "no finished install",
			change: func(_ *hosttest.Fake, env *action.Env) { _ = env.Host.RemoveAll(journal.ReceiptPath(dataDir)) }},
		"a worker": {opts: Options{To: "/mnt/backup", Lock: good}, exit: 2, text: "is a worker", change: func(_ *hosttest.Fake, env *action.Env) {
			_ = journal.WriteReceipt(env.Host, dataDir, journal.Receipt{Name: "my-app", Role: "worker"})
		}},
		"k0s is stopped": {opts: Options{To: "/mnt/backup", Lock: good}, exit: 2, text: "k0s is not running", change: func(f *hosttest.Fake, _ *action.Env) {
			f.Units[k0s.ControllerUnit] = host.UnitState{Load: "loaded", Active: "inactive", Sub: "dead", Enable: "enabled"}
		}},
		"unfinished run": {opts: Options{To: "/mnt/backup", Lock: good}, exit: 2, text: "the upgrade started at ",
			change: func(_ *hosttest.Fake, env *action.Env) {
				j, _ := journal.Open(env.Host, dataDir, clock)
				_ = j.BeginRun("upgrade", journal.Args{})
			}},
		"the clock is wrong": {opts: Options{To: "/mnt/backup", Lock: good}, exit: 2, text: "before the last change of its receipt, of 2026-11-29T12:00:00Z",
			change: func(_ *hosttest.Fake, env *action.Env) {
				env.Now = func() time.Time { return clock().Add(-time.Second) }
			}},
		"no API server": {opts: Options{To: "/mnt/backup", Lock: good}, data: fakeData{etcd: "x", nodeErr: errors.New("connection refused")},
			exit: 2, text: "the cluster does not answer"},
		"etcd is damaged": {opts: Options{To: "/mnt/backup", Lock: good}, data: fakeData{}, exit: 7, text: "cannot read the data of etcd"},
	} {
		t.Run(name, func(t *testing.T) {
			f, env := newController(t)
			if c.change != nil {
				c.change(f, env)
			}
			if c.exit == 2 && c.data.etcd == "" {
				c.data.etcd = "etcd"
			}
			_, err := run(t, env, c.opts, c.data)
			if problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.text) || problem.Hint(err) == "" {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
			if left, _ := List(t.Context(), env, "/mnt/backup", objectstore.Settings{}); len(left) != 0 {
				t.Errorf("%+v", left)
			}
		})
	}
}

func TestChooseFile_QuotesTheCommandThatItNames(t *testing.T) {
	_, env := newController(t)
	for to, want := range map[string]string{
		"/mnt/q q/not there/": "create the folder first: sudo mkdir -p '/mnt/q q/not there'",
		"/mnt/q q/not there":  "create the folder first: sudo mkdir -p '/mnt/q q'",
	} {
		t.Run(to, func(t *testing.T) {
			if _, err := run(t, env, Options{To: to, Lock: KeyFlags{Unencrypted: true}}, fakeData{etcd: "etcd"}); problem.Hint(err) != want {
				t.Errorf("%v → %s, want %s", err, problem.Hint(err), want)
			}
		})
	}
}

func TestLostFolder_FollowsLinks(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	testkit.Must(t, os.Mkdir(data, 0o700), os.Symlink(data, filepath.Join(dir, "plinth")), os.Symlink("/proc", filepath.Join(dir, "link")),
		os.Symlink("link", filepath.Join(dir, "second")))
	for p, want := range map[string]string{
		"/var/lib/k0s":         "/var/lib/k0s",
		"/var/lib/kubelet/x":   "/var/lib/kubelet",
		"/run/k0s/x":           "/run/k0s",
		"/etc/k0s/x":           "/etc/k0s",
		"/sys/x":               "/sys",
		"/run/media/disk":      "",
		"/var/lib/k0s-backups": "",
		dir + "/link":          "/proc",
		dir + "/second/x":      "/proc",
		dir + "/data/x":        dir + "/plinth", // where the folder of Plinth leads
		dir + "/plinth/x":      dir + "/plinth",
		dir + "/new/x":         "",
	} {
		t.Run(p, func(t *testing.T) {
			if got := lostFolder(dir+"/plinth", p); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

func TestRun_RecordsAFailureBesideTheLastGoodBackup(t *testing.T) {
	_, env := newController(t)
	opts := Options{To: "/mnt/backup", Lock: KeyFlags{Unencrypted: true}}
	res, err := run(t, env, opts, fakeData{etcd: "etcd"})
	testkit.Must(t, err)
	if _, err := run(t, env, Options{To: "/mnt/backup/next", Lock: opts.Lock}, fakeData{}); err == nil {
		t.Fatal("it did not fail")
	}
	r, ok, err := ReadRecord(env.Host, dataDir)
	if err != nil || !ok || r.Path != res.Path || r.FailedAt == nil || !strings.Contains(r.Failure, "503") {
		t.Errorf("%+v %v", r, err)
	}
}

func TestRun_WarnsOfDataThatSnapshotsLeaveOut(t *testing.T) {
	old := []kube.PVC{{Namespace: "app", Name: "db"}}
	for name, c := range map[string]struct {
		addOn   string
		skipped []kube.PVC
		want    string // "" for no warning
	}{
		"old volumes":    {"velero", old, "warning: snapshots leave out the data of volumes of the type hostPath, those of the claims app/db; how to change their type"},
		"new volumes":    {"velero", nil, ""},
		"without Velero": {"registry", old, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, env := newController(t)
			r, _, err := journal.ReadReceipt(env.Host, dataDir)
			testkit.Must(t, err)
			r.AddOns = []journal.AddOn{{Name: c.addOn}}
			testkit.Must(t, journal.WriteReceipt(env.Host, dataDir, r))
			var notes []string
			env.Note = func(text string) { notes = append(notes, text) }
			_, err = run(t, env, Options{To: "/mnt/backup", Lock: KeyFlags{Unencrypted: true}}, fakeData{etcd: "etcd", skipped: c.skipped})
			testkit.Must(t, err)
			if text := strings.Join(notes, "\n"); (text != "") != (c.want != "") || !strings.Contains(text, c.want) {
				t.Errorf("%q, want %q", text, c.want)
			}
		})
	}
}

func TestRun_ToAPublicKeyVerifiesBytes(t *testing.T) {
	f, env := newController(t)
	key, err := age.GenerateX25519Identity()
	testkit.Must(t, err)
	file := filepath.Join(t.TempDir(), "age-keys.txt")
	testkit.Must(t, os.WriteFile(file, []byte("# team\n"+key.Recipient().String()+"\n"), 0o600))
	identity := filepath.Join(t.TempDir(), "key.txt")
	testkit.Must(t, os.WriteFile(identity, []byte(key.String()+"\n"), 0o600))
	res, err := run(t, env, Options{To: "/mnt/backup/one", Lock: KeyFlags{Recipients: []string{file}}}, fakeData{etcd: "etcd"})
	testkit.Must(t, err)
	if res.Verified != Bytes || res.Digest == "" {
		t.Errorf("%+v", res)
	}
	for name, c := range map[string]struct {
		key  KeyFlags
		want Verified
		text string
	}{
		"without a key": {KeyFlags{}, Bytes, ""},
		"private key":   {KeyFlags{IdentityFile: identity}, Content, ""},
		"passphrase":    {KeyFlags{PassphraseFile: passphraseFile(t, "five random words here")}, "", "cannot be decrypted with this key"},
		"public key":    {KeyFlags{IdentityFile: file}, "", "contains no private key"},
	} {
		t.Run(name, func(t *testing.T) {
			c.key.Secrets = env.Secrets
			v, err := Verify(t.Context(), env, "/mnt/backup/one", c.key, objectstore.Settings{})
			if (err == nil) != (c.text == "") || err == nil && v.Verified != c.want || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%+v %v", v, err)
			}
		})
	}
	raw, err := os.ReadFile(f.Root + "/mnt/backup/one")
	testkit.Must(t, err)
	raw[len(raw)-200] ^= 1
	testkit.Must(t, os.WriteFile(f.Root+"/mnt/backup/one", raw, 0o600))
	if _, err := Verify(t.Context(), env, "/mnt/backup/one", KeyFlags{}, objectstore.Settings{}); problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), "it is damaged") {
		t.Error(err)
	}
}

// Those who can write to the folder can put another file in the place of an encrypted one.
func TestVerify_RefusesAKeyForPlainText(t *testing.T) {
	_, env := newController(t)
	_, err := run(t, env, Options{To: "/mnt/backup/plain", Lock: KeyFlags{Unencrypted: true}}, fakeData{etcd: "etcd"})
	testkit.Must(t, err)
	secret := passphraseFile(t, "five random words here")
	_, err = Verify(t.Context(), env, "/mnt/backup/plain", KeyFlags{PassphraseFile: secret, Secrets: env.Secrets}, objectstore.Settings{})
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), "it is not encrypted, and a key is given") || !strings.Contains(problem.Hint(err), "may have been replaced") {
		t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
	}
	if v, err := Verify(t.Context(), env, "/mnt/backup/plain", KeyFlags{}, objectstore.Settings{}); err != nil || v.Verified != Content {
		t.Errorf("%+v %v", v, err)
	}
}

// unreadable is a host on which what was written reads differently.
type unreadable struct{ host.Streams }

func (u unreadable) OpenFile(p string) (io.ReadCloser, error) {
	r, err := u.Streams.OpenFile(p)
	if err != nil || !strings.HasSuffix(p, format.Suffix) {
		return r, err
	}
	raw, err := io.ReadAll(r)
	raw[len(raw)-150] ^= 1
	return io.NopCloser(strings.NewReader(string(raw))), errors.Join(err, r.Close())
}

func TestRun_RemovesABackupThatCannotBeReadBack(t *testing.T) {
	_, env := newController(t)
	env.Host.Streams = unreadable{env.Host.Streams}
	_, err := run(t, env, Options{To: "/mnt/backup", Lock: KeyFlags{Unencrypted: true}}, fakeData{etcd: "etcd"})
	if problem.ExitCode(err) != problem.ExitStep || !strings.Contains(err.Error(), "cannot be read back, and was removed: it is damaged") {
		t.Error(err)
	}
	if all, err := List(t.Context(), env, "/mnt/backup", objectstore.Settings{}); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
}

func TestRun_EndsWhenItIsInterrupted(t *testing.T) {
	for _, text := range []string{"reading etcd", "writing /mnt/backup", "reading /mnt/backup"} {
		t.Run(text, func(t *testing.T) {
			f, env := newController(t)
			ctx, cancel := context.WithCancel(t.Context())
			env.Events = func(e step.Event) {
				if strings.HasPrefix(e.Message, text) {
					cancel()
				}
			}
			_, err := runUntil(ctx, t, env, Options{To: "/mnt/backup", Lock: KeyFlags{Unencrypted: true}}, fakeData{etcd: strings.Repeat("etcd", 1<<20)})
			if problem.ExitCode(err) != problem.ExitInterrupted || strings.Contains(err.Error(), "damaged") {
				t.Errorf("%v", err)
			}
			if all, err := List(t.Context(), env, "/mnt/backup", objectstore.Settings{}); err != nil || len(all) != 0 {
				t.Errorf("%+v %v", all, err)
			}
			if _, err := os.Stat(f.Root + spoolDir(dataDir)); !os.IsNotExist(err) {
				t.Errorf("the copy of the data is left: %v", err)
			}
		})
	}
}

func TestRun_RemovesTheCopyOfAKilledBackup(t *testing.T) {
	f, env := newController(t)
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{spoolDir(dataDir) + "/" + format.EtcdName: "etcd"})
	f.Units[k0s.ControllerUnit] = host.UnitState{}
	if _, err := run(t, env, Options{To: "/mnt/backup", Lock: KeyFlags{Unencrypted: true}}, fakeData{etcd: "etcd"}); problem.ExitCode(err) != problem.ExitUsage {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(f.Root + spoolDir(dataDir)); !os.IsNotExist(err) {
		t.Errorf("the copy of the data is left: %v", err)
	}
}

func TestRun_RemovesOnlyOldPartsOfBackups(t *testing.T) {
	f, env := newController(t)
	const old, young = 25 * time.Hour, 23 * time.Hour
	for name, c := range map[string]struct {
		age  time.Duration
		kept bool
	}{
		".my-app-1.plinth-backup.plinth-tmp": {old, false},
		".my-app-2.plinth-backup.plinth-tmp": {young, true}, // another controller may be writing it
		".notes.txt.plinth-tmp":              {old, true},
		"my-app-3.plinth-backup.plinth-tmp":  {old, true},
		".my-app-4.plinth-backup":            {old, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := f.Root + "/mnt/backup/" + name
			testkit.Must(t, os.WriteFile(p, nil, 0o600), os.Chtimes(p, clock().Add(-c.age), clock().Add(-c.age)))
			testkit.Must(t, folders{env.Host, env.Now}.Write(t.Context(), "/mnt/backup/new", strings.NewReader("x")))
			if _, err := os.Stat(p); (err == nil) != c.kept {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestRun_KeepsTheNewestOfThisCluster(t *testing.T) {
	f, env := newController(t)
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{"/mnt/backup/not.plinth-backup": "something else"})
	var paths []string
	for hours := range 5 {
		at := clock().Add(time.Duration(1+hours) * time.Hour)
		env.Now = func() time.Time { return at }
		res, err := run(t, env, Options{To: "/mnt/backup", Keep: 3, Lock: KeyFlags{Unencrypted: true}}, fakeData{etcd: "etcd"})
		testkit.Must(t, err)
		paths = append(paths, res.Path)
		if hours == 4 && (len(res.Removed) != 1 || res.Removed[0] != paths[1]) {
			t.Errorf("%v", res.Removed)
		}
	}
	env.Now = func() time.Time { return clock() } // the clock was set back
	res, err := run(t, env, Options{To: "/mnt/backup", Keep: 2, Lock: KeyFlags{Unencrypted: true}}, fakeData{etcd: "etcd"})
	testkit.Must(t, err)
	all, err := List(t.Context(), env, "/mnt/backup", objectstore.Settings{})
	testkit.Must(t, err)
	if len(all) != 3 || all[0].Path != paths[4] || all[1].Path != res.Path || all[2].Problem == "" {
		t.Errorf("%+v", all)
	}
}

func TestList_FindsBackupsWithOtherNames(t *testing.T) {
	f, env := newController(t)
	lock := KeyFlags{Unencrypted: true}
	res, err := run(t, env, Options{To: "/mnt/backup/my-app.backup", Lock: lock}, fakeData{etcd: "etcd"})
	testkit.Must(t, err)
	raw, err := os.ReadFile(f.Root + res.Path)
	testkit.Must(t, err)
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{"/mnt/backup/short": string(raw[:20]), "/mnt/backup/empty": "", "/mnt/backup/.x.plinth-tmp": string(raw),
		"/mnt/backup/n1/other": string(raw)})
	testkit.Must(t, os.Symlink("my-app.backup", f.Root+"/mnt/backup/link"))
	paths := func() (all []string) {
		entries, err := List(t.Context(), env, "/mnt/backup", objectstore.Settings{})
		testkit.Must(t, err)
		for _, e := range entries {
			all = append(all, e.Path+" "+e.Problem)
		}
		return all
	}
	want := []string{"/mnt/backup/my-app.backup ", "/mnt/backup/n1/other ", "/mnt/backup/short it is damaged: it ends within its header"}
	if got := paths(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	env.Now = func() time.Time { return clock().Add(time.Hour) }
	if res, err := run(t, env, Options{To: "/mnt/backup", Keep: 1, Lock: lock}, fakeData{etcd: "etcd"}); err != nil || res.Removed != nil {
		t.Errorf("%v, %v: it has removed what the user has named", res.Removed, err)
	}
	opened := 1
	if all, err := (folders{env.Host, env.Now}).list(t.Context(), "/mnt/backup", false, &opened); err != nil || len(all) != 1 || opened != 0 {
		t.Errorf("%+v, %v, %d left: it has opened too many files", all, err, opened)
	}
}

func TestClusterID_IsThatOfTheKey(t *testing.T) {
	f, env := newController(t)
	one, err := ClusterID(env.Host)
	testkit.Must(t, err)
	if len(one) < sha256.Size {
		t.Error(one)
	}
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{k0s.CACertPath: "no certificate"})
	if _, err := ClusterID(env.Host); err == nil || !strings.Contains(err.Error(), "contains no certificate") {
		t.Error(err)
	}
}

func TestRecord_KeepsTheLastRunOfTheSchedule(t *testing.T) {
	_, env := newController(t)
	good, broken := fakeData{etcd: "etcd"}, fakeData{}
	backUp := func(hour int, scheduled bool, d data) {
		t.Helper()
		env.Now = func() time.Time { return clock().Add(time.Duration(hour) * time.Hour) }
		_, _ = run(t, env, Options{To: "/mnt/backup", Scheduled: scheduled, Lock: KeyFlags{Unencrypted: true}}, d)
	}
	record := func() Record {
		t.Helper()
		r, _, err := ReadRecord(env.Host, dataDir)
		testkit.Must(t, err)
		return r
	}
	backUp(1, true, broken)
	failed := record()
	if failed.Scheduled == nil || failed.Scheduled.EndedAt == nil || !strings.Contains(failed.Scheduled.Failure, "etcd returned 503") || failed.FailedAt == nil || failed.Manual != nil {
		t.Errorf("%+v", failed)
	}
	backUp(2, false, good)
	if r := record(); r.Path == "" || r.FailedAt != nil || r.Scheduled == nil || r.Scheduled.Failure != failed.Scheduled.Failure || r.Manual == nil || r.Manual.EndedAt == nil || r.Manual.Failure != "" ||
		!r.ScheduleFailed(clock().Add(3*time.Hour)) {
		t.Errorf("a backup by hand hides the failure of the schedule: %+v", r)
	}
	t.Run("a killed one", func(t *testing.T) {
		o := &operation{opts: Options{Scheduled: true}}
		testkit.Must(t, o.recordStart(env))
		r := record()
		if r.Path == "" || r.Scheduled.EndedAt != nil || r.ScheduleFailed(r.Scheduled.StartedAt.Add(maxDuration)) || !r.ScheduleFailed(r.Scheduled.StartedAt.Add(maxDuration+time.Second)) {
			t.Errorf("%+v", r)
		}
	})
	backUp(9, true, good)
	if r := record(); r.ScheduleFailed(clock().Add(100*time.Hour)) || r.Scheduled.EndedAt == nil {
		t.Errorf("%+v", r)
	}
	t.Run("an interrupted one", func(t *testing.T) {
		at := clock().Add(10 * time.Hour)
		before := record()
		if r := before.started(false, at).interrupted(false, at); r.Manual != nil || r.FailedAt != nil {
			t.Errorf("a user's: %+v", r)
		}
		if r := before.started(true, at).interrupted(true, at); r.Scheduled.Failure != "it was interrupted" {
			t.Errorf("of the schedule: %+v", r)
		}
	})
}

func TestVerify_RefusesAMissingFileAsABundle(t *testing.T) {
	_, env := newController(t)
	_, err := Verify(t.Context(), env, "/mnt/backup/nosuch", KeyFlags{}, objectstore.Settings{})
	if problem.ExitCode(err) != problem.ExitBundle || err.Error() != "cannot open the backup /mnt/backup/nosuch: no such file or directory" || problem.Hint(err) == "" {
		t.Errorf("exit %d, %v", problem.ExitCode(err), err)
	}
}

func TestRequireKey_NamesTheFlagWithoutATerminal(t *testing.T) {
	for name, c := range map[string]struct {
		encryption format.Encryption
		hint       string // what it names; "" if no key is needed
	}{
		"not encrypted":  {format.Unencrypted, ""},
		"public keys":    {format.ToRecipients, "--identity-file FILE"},
		"a passphrase":   {format.WithPassphrase, "--passphrase-file FILE"},
		"an unknown way": {"rot13", ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := KeyFlags{Secrets: &ui.Secrets{}}.RequireKey(t.Context(), format.Header{Encryption: c.encryption})
			if (err == nil) != (c.hint == "") || err != nil && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(problem.Hint(err), c.hint)) {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
		})
	}
}

func TestExplainSpace_SaysHowMuchIsNeeded(t *testing.T) {
	full := &fs.PathError{Op: "write", Path: "/mnt/b", Err: host.ErrNoSpace}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"a full disk": {full, "write /mnt/b: no space left on device: the backup needs up to 3.0 MB, and 1.0 MB of it were written"},
		"another":     {errors.New("it fails"), "it fails"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := explainSpace(c.err, 1e6, 3e6); err.Error() != c.want || !errors.Is(err, c.err) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
