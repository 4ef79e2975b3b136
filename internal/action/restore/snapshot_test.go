package restore

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/install"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/objectstore"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/testkit/storetest"
	"github.com/plinthdev/plinth/internal/ui"
	"github.com/plinthdev/plinth/internal/velero"
)

// snapshotFolder is the folder of the store on a snapshotHost.
const snapshotFolder = "/srv/snapshots"

// snapshotHost is a host without a cluster.
type snapshotHost struct {
	*hosttest.Fake
	env   *action.Env
	notes []string
}

// newSnapshotHost returns a host with a folder with snapshots.
func newSnapshotHost(t *testing.T, all ...storetest.Snapshot) *snapshotHost {
	t.Helper()
	h := &snapshotHost{Fake: hosttest.New(t)}
	h.env = &action.Env{Host: h.Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: clock, Events: func(step.Event) {},
		Note: func(text string) { h.notes = append(h.notes, text) }, Secrets: &ui.Secrets{}}}
	for key, content := range storetest.WriteSnapshots(t, all...) {
		testkit.Must(t, h.env.Host.Write(path.Join(snapshotFolder, "objects/snapshots", key), bytes.NewReader(content), 0o600))
	}
	return h
}

// restoreOf returns the restore with options.
func restoreOf(opts Options) *snapshotRestore {
	return &snapshotRestore{opts: opts, access: func(objectstore.Access) error { return nil }}
}

// upload returns a store with snapshots below the prefix my-app.
func upload(t *testing.T, all ...storetest.Snapshot) *storetest.Server {
	t.Helper()
	s := storetest.New(t, "bucket")
	b, err := objectstore.Open("bucket", s.Settings)
	testkit.Must(t, err)
	for key, content := range storetest.WriteSnapshots(t, all...) {
		testkit.Must(t, b.Write(t.Context(), "my-app/"+key, bytes.NewReader(content)))
	}
	return s
}

func TestReadSnapshot_ChoosesTheNewestThatCanBeRestored(t *testing.T) {
	at := clock()
	running, failed, damaged := storetest.ConsoleSnapshot("running", at.Add(3*time.Hour)), storetest.ConsoleSnapshot("failed", at.Add(2*time.Hour)), storetest.ConsoleSnapshot("damaged", at.Add(time.Hour))
	running.Phase, failed.Phase = "InProgress", "PartiallyFailed"
	copied := storetest.ConsoleSnapshot("copied", at.Add(time.Minute))
	copied.Without = []string{"-podvolumebackups.json.gz"}
	damaged.Replace = map[string][]byte{"damaged.tar.gz": []byte("torn off here")}
	good, old := storetest.ConsoleSnapshot("good", at), storetest.ConsoleSnapshot("old", at.Add(-time.Hour))
	for name, c := range map[string]struct {
		all   []storetest.Snapshot
		named string
		want  string
		text  string
	}{
		"the newest":                     {all: []storetest.Snapshot{old, good}, want: "good"},
		"newer ones cannot be restored":  {all: []storetest.Snapshot{running, failed, damaged, copied, good, old}, want: "good"},
		"an older one":                   {all: []storetest.Snapshot{good, old}, named: "old", want: "old"},
		"one that runs":                  {all: []storetest.Snapshot{running, good}, named: "running", text: `its phase is "InProgress"`},
		"one that has failed":            {all: []storetest.Snapshot{failed, good}, named: "failed", text: "it failed: PartiallyFailed"},
		"a damaged one":                  {all: []storetest.Snapshot{damaged, good}, named: "damaged", text: "it is damaged or not complete"},
		"one that was copied in part":    {all: []storetest.Snapshot{copied, good}, named: "copied", text: "it is not complete: copied-podvolumebackups.json.gz with the list of its volumes is missing"},
		"one that is not there":          {all: []storetest.Snapshot{good}, named: "other", text: "there is no snapshot other in " + snapshotFolder},
		"none that can be restored":      {all: []storetest.Snapshot{running, failed}, text: "none of the snapshots in " + snapshotFolder + " can be restored"},
		"one with content of a registry": {all: []storetest.Snapshot{good, storetest.RegistrySnapshot("good", at.Add(time.Minute))}, want: "good"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSnapshotHost(t, c.all...)
			s := restoreOf(Options{From: snapshotFolder, Snapshot: c.named})
			err := s.readSnapshot(t.Context(), h.env.ReadOnly())
			if c.text != "" {
				if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.text) || !strings.Contains(problem.Hint(err), "nothing was changed") {
					t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
				}
				return
			}
			if err != nil || s.snapshot.Name != c.want {
				t.Errorf("%s %v", s.snapshot.Name, err)
			}
		})
	}
}

func TestReadSnapshot_WarnsOfWhatWillBeMissing(t *testing.T) {
	at := clock()
	good, newer, skipped := storetest.ConsoleSnapshot("good", at), storetest.ConsoleSnapshot("newer", at.Add(time.Hour)), storetest.ConsoleSnapshot("good", at)
	newer.Phase = "Failed"
	skipped.Volumes = skipped.Volumes[1:]
	empty := storetest.RegistrySnapshot("good", at)
	empty.Volumes = nil
	for name, c := range map[string]struct {
		all      []storetest.Snapshot
		want     string // "" for no warning
		registry string
		bytes    int64
	}{
		"nothing":                  {[]storetest.Snapshot{good, storetest.RegistrySnapshot("good", at)}, "", "good-registry", 26e6},
		"a newer one that failed":  {[]storetest.Snapshot{good, newer, storetest.RegistrySnapshot("good", at)}, "newer, and cannot be restored: it failed", "good-registry", 26e6},
		"a volume":                 {[]storetest.Snapshot{skipped, storetest.RegistrySnapshot("good", at)}, "no data of kotsadm/kotsadm-0:backup", "good-registry", 25e6},
		"the registry":             {[]storetest.Snapshot{good}, "no content of the registry", "", 21e6},
		"the registry has no data": {[]storetest.Snapshot{good, empty}, "no content of the registry", "", 21e6},
		"its own registry":         {[]storetest.Snapshot{good, storetest.RegistrySnapshot("old", at.Add(-time.Hour))}, "of another snapshot: images may be missing", "old-registry", 26e6},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSnapshotHost(t, c.all...)
			s := restoreOf(Options{From: snapshotFolder, Snapshot: "good"})
			testkit.Must(t, s.readSnapshot(t.Context(), h.env.ReadOnly()))
			text := strings.Join(s.warnings, "\n")
			if (text == "") != (c.want == "") || !strings.Contains(text, c.want) || s.registry.Name != c.registry || s.bytes != c.bytes {
				t.Errorf("%q, %+v, %d", text, s.registry, s.bytes)
			}
			if !slices.ContainsFunc(h.notes, func(n string) bool { return strings.HasPrefix(n, "  good of 2026-11-29T") }) {
				t.Errorf("the snapshots are not listed: %q", h.notes)
			}
		})
	}
}

// writeAppBundle writes the .airgap file of a version of the application, and returns its path and size.
func writeAppBundle(t *testing.T, slug, version string) (string, int64) {
	t.Helper()
	pack := func(names []string, files map[string][]byte) []byte {
		var buf bytes.Buffer
		zip := gzip.NewWriter(&buf)
		archive := tar.NewWriter(zip)
		for _, name := range names {
			err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))})
			_, errWrite := archive.Write(files[name])
			testkit.Must(t, err, errWrite)
		}
		testkit.Must(t, archive.Close(), zip.Close())
		return buf.Bytes()
	}
	content := pack([]string{"airgap.yaml", "app.tar.gz"}, map[string][]byte{"app.tar.gz": pack(nil, nil),
		"airgap.yaml": []byte("apiVersion: kots.io/v1beta1\nkind: Airgap\nspec: {appSlug: " + slug + ", versionLabel: " + version + ", updateCursor: '7', format: docker-archive}\n")})
	file := filepath.Join(t.TempDir(), "app.airgap")
	testkit.Must(t, os.WriteFile(file, content, 0o600))
	return file, int64(len(content))
}

func TestReadSnapshot_TakesImagesThatTheStoreLacksFromTheApplicationBundle(t *testing.T) {
	at := clock()
	good, online, two := storetest.ConsoleSnapshot("good", at), storetest.ConsoleSnapshot("good", at), storetest.ConsoleSnapshot("good", at)
	delete(online.Annotations, "kots.io/embedded-registry")
	two.Annotations["kots.io/apps-versions"] = `{"my-app":"1.0.0","other":"2.0.0"}`
	file, size := writeAppBundle(t, "my-app", "1.0.0")
	newer, _ := writeAppBundle(t, "my-app", "1.1.0")
	other, _ := writeAppBundle(t, "another", "1.0.0")
	broken := filepath.Join(t.TempDir(), "broken.airgap")
	testkit.Must(t, os.WriteFile(broken, []byte("x"), 0o600))
	for name, c := range map[string]struct {
		all     []storetest.Snapshot
		file    string
		used    bool
		warning string // "" for none
		note    string
		refused string // "" if it is not refused
		exit    int
	}{
		"no content":                 {all: []storetest.Snapshot{good}, file: file, used: true},
		"no content, and no bundle":  {all: []storetest.Snapshot{good}, warning: "without --app-bundle"},
		"all content":                {all: []storetest.Snapshot{good, storetest.RegistrySnapshot("good", at)}, file: file, note: file + " is not needed, and not used"},
		"content of another one":     {all: []storetest.Snapshot{good, storetest.RegistrySnapshot("old", at.Add(-time.Hour))}, file: file, used: true},
		"of one application of two":  {all: []storetest.Snapshot{two}, file: file, used: true, warning: "no content of the registry"},
		"of another version":         {all: []storetest.Snapshot{good}, file: newer, refused: "it has the version 1.1.0, and the snapshot good the version 1.0.0", exit: problem.ExitUsage},
		"of another application":     {all: []storetest.Snapshot{good}, file: other, refused: "it is of the application another, and the snapshot good of my-app 1.0.0", exit: problem.ExitUsage},
		"of no use":                  {all: []storetest.Snapshot{online}, file: file, refused: "do not pull their images from the built-in registry", exit: problem.ExitUsage},
		"a file that is not there":   {all: []storetest.Snapshot{good}, file: "/none.airgap", refused: "no such file", exit: problem.ExitUsage},
		"a file of something else":   {all: []storetest.Snapshot{good}, file: broken, refused: "not an .airgap file", exit: problem.ExitBundle},
		"before all, with a problem": {all: []storetest.Snapshot{good, storetest.RegistrySnapshot("good", at)}, file: broken, refused: "not an .airgap file", exit: problem.ExitBundle},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSnapshotHost(t, c.all...)
			s := restoreOf(Options{From: snapshotFolder, AppBundle: c.file})
			err := s.readSnapshot(t.Context(), h.env.ReadOnly())
			if c.refused != "" {
				if problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.refused) || problem.Hint(err) == "" {
					t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
				}
				return
			}
			testkit.Must(t, err)
			text := strings.Join(s.warnings, "\n")
			if (text == "") != (c.warning == "") || !strings.Contains(text, c.warning) || c.note != "" && !strings.Contains(strings.Join(h.notes, "\n"), c.note) {
				t.Errorf("%q, notes %q", text, h.notes)
			}
			paths := s.writePaths(dataDir)
			if used := s.images.Bundle != ""; used != c.used || used && (s.images.ID != "my-app 1.0.0 7" || len(paths) != 2 || paths[1].Bytes != 2*uint64(size)) || !used && len(paths) != 1 {
				t.Errorf("%+v %+v", s.images, paths)
			}
			if asked := strings.Contains(s.question(candidate(t)), "The images of my-app come from "+file); asked != c.used {
				t.Errorf("the question names the file: %v", asked)
			}
		})
	}
}

func TestReadSnapshot_FromAnObjectStore(t *testing.T) {
	store := upload(t, storetest.ConsoleSnapshot("s1", clock()))
	s := restoreOf(Options{From: "s3://bucket/my-app", Store: store.Settings})
	h := newSnapshotHost(t)
	testkit.Must(t, s.readSnapshot(t.Context(), h.env.ReadOnly()))
	l := s.store.location
	if s.snapshot.Name != "s1" || s.contents.Bytes() != 21e6 || l == nil || l.Prefix != "my-app" || l.Bucket != "bucket" || l.URL != store.Settings.Endpoint || len(l.CA) == 0 ||
		!strings.Contains(string(l.Cloud), storetest.SecretKey) {
		t.Errorf("%+v", s)
	}
	if h.env.Secrets.Mask(storetest.SecretKey) != "***" {
		t.Error("the secret key is not hidden")
	}
}

func TestReadSnapshot_RefusesAStoreByName(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*storetest.Server, *Options)
		text   string
	}{
		"unreachable":       {func(s *storetest.Server, _ *Options) { s.Stop() }, "cannot be reached"},
		"wrong secret":      {func(_ *storetest.Server, o *Options) { o.Store.SecretKey = "other" }, "the secret key is wrong"},
		"no credentials":    {func(_ *storetest.Server, o *Options) { o.Store.AccessKey, o.Store.SecretKey = "", "" }, "there are no credentials"},
		"unknown authority": {func(_ *storetest.Server, o *Options) { o.Store.CAFile = "" }, "authority that this host does not know"},
		"no bucket":         {func(_ *storetest.Server, o *Options) { o.From = "s3://missing/x" }, "no such bucket"},
		"another prefix":    {func(_ *storetest.Server, o *Options) { o.From = "s3://bucket/other" }, "there are no snapshots in s3://bucket/other"},
		"another protocol":  {func(_ *storetest.Server, o *Options) { o.From = "https://bucket/x" }, "only s3://"},
		"no such folder":    {func(_ *storetest.Server, o *Options) { o.From = "/mnt/missing" }, "no such file"},
		"clock is off": {func(s *storetest.Server, _ *Options) {
			s.Intercept = func(w http.ResponseWriter, _ *http.Request) bool {
				storetest.Refuse(w, http.StatusForbidden, "RequestTimeTooSkewed")
				return true
			}
		}, "the clock of this host"},
	} {
		t.Run(name, func(t *testing.T) {
			store := upload(t, storetest.ConsoleSnapshot("s1", clock()))
			opts := Options{From: "s3://bucket/my-app", Store: store.Settings}
			c.change(store, &opts)
			err := restoreOf(opts).readSnapshot(t.Context(), newSnapshotHost(t).env.ReadOnly())
			if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.text) || !strings.Contains(problem.Hint(err), "nothing was changed") {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
		})
	}
}

func TestCheckAccess_RefusesWhatPodsCannotUse(t *testing.T) {
	for name, c := range map[string]struct {
		access objectstore.Access
		text   string
	}{
		"a store":         {objectstore.Access{Endpoint: "https://store:9000"}, ""},
		"AWS":             {objectstore.Access{}, ""},
		"localhost":       {objectstore.Access{Endpoint: "https://localhost:9000"}, "pods cannot reach localhost:9000"},
		"loopback":        {objectstore.Access{Endpoint: "https://[::1]:9000"}, "pods cannot reach [::1]:9000"},
		"a session token": {objectstore.Access{SessionToken: "t"}, "they expire"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkAccess(c.access)
			if (err == nil) != (c.text == "") || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Error(err)
			}
		})
	}
}

func TestCheckSnapshot_RefusesABundleThatDoesNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		snapshot func(*velero.Snapshot)
		bundle   func(*spec.Installer)
		registry string // of the bundle; "" for that of the snapshot
		store    snapshotStore
		text     string
	}{
		"the same bundle":             {},
		"a newer console":             {snapshot: func(s *velero.Snapshot) { s.KOTS = "1.131.1" }},
		"an older Kubernetes":         {snapshot: func(s *velero.Snapshot) { s.Kubernetes = "v1.34.2" }, text: "it is of Kubernetes v1.34.2, and the bundle has the older 1.33"},
		"a newer Kubernetes":          {snapshot: func(s *velero.Snapshot) { s.Kubernetes = "v1.32.9+k0s" }},
		"an unknown Kubernetes":       {snapshot: func(s *velero.Snapshot) { s.Kubernetes = "" }},
		"an older console":            {snapshot: func(s *velero.Snapshot) { s.KOTS = "1.132.0" }, text: "it is of KOTS 1.132.0, and the bundle has the older 1.131.2"},
		"no application":              {snapshot: func(s *velero.Snapshot) { s.Apps = nil }},
		"another application":         {snapshot: func(s *velero.Snapshot) { s.Apps = map[string]string{"other": "2.0"} }, text: "it is of the application other 2.0, and the bundle is of my-app"},
		"another namespace":           {snapshot: func(s *velero.Snapshot) { s.Namespace = "default" }, text: "its console is in the namespace default, and that of the bundle in kotsadm"},
		"another serviceCIDR":         {registry: "10.112.0.11:5000", text: "pull their images from 10.96.0.11:5000, and the registry of the bundle has the address 10.112.0.11:5000"},
		"no registry in the bundle":   {registry: "none", text: "spec.registry is not in its Installer"},
		"no registry in the snapshot": {snapshot: func(s *velero.Snapshot) { s.Registry = "" }, registry: "none"},
		"no Velero":                   {bundle: func(in *spec.Installer) { in.Spec.Velero = nil }, text: "spec.velero is not in its Installer"},
		"no console":                  {bundle: func(in *spec.Installer) { in.Spec.Kotsadm = nil }, text: "spec.kotsadm is not in its Installer"},
		"a folder without a store": {bundle: func(in *spec.Installer) { in.Spec.Velero.ObjectStore.Mode = "none" }, store: snapshotStore{folder: snapshotFolder},
			text: "spec.velero.objectStore.mode is none"},
		"a bucket without a store": {bundle: func(in *spec.Installer) { in.Spec.Velero.ObjectStore.Mode = "none" }},
	} {
		t.Run(name, func(t *testing.T) {
			files := storetest.WriteSnapshots(t, storetest.ConsoleSnapshot("s1", clock()))
			all, err := velero.ListSnapshots(t.Context(), files)
			testkit.Must(t, err)
			in := candidate(t).Config.Installer
			in.Spec.Velero = &spec.Velero{Version: "1.18.3"}
			registry := all[0].Registry
			if c.snapshot != nil {
				c.snapshot(&all[0])
			}
			if c.bundle != nil {
				c.bundle(in)
			}
			switch c.registry {
			case "":
			case "none":
				registry = ""
			default:
				registry = c.registry
			}
			err = checkSnapshot(all[0], c.store, in, registry)
			if (err == nil) != (c.text == "") || err != nil && (problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.text) || problem.Hint(err) == "") {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
		})
	}
}

func TestRunSnapshot_RefusesAHostWithAClusterAndACommandWithoutABundle(t *testing.T) {
	bundled := install.Options{LoadOptions: config.LoadOptions{Bundle: "/no/such/bundle"}}
	for name, c := range map[string]struct {
		opts      Options
		installed bool
		text      string
	}{
		"a cluster": {Options{From: snapshotFolder, Install: bundled}, true, "this host has a cluster"},
		"no bundle": {Options{From: snapshotFolder}, false, "no bundle is given"},
		"no store":  {Options{From: "/no/such/folder", Install: bundled}, false, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSnapshotHost(t, storetest.ConsoleSnapshot("s1", clock()))
			if c.installed {
				testkit.Must(t, journal.WriteReceipt(h.env.Host, dataDir, journal.Receipt{Name: "my-app"}))
			}
			if _, err := runSnapshot(t.Context(), h.env, c.opts); problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.text) || problem.Hint(err) == "" {
				t.Errorf("%v → %s", err, problem.Hint(err))
			}
		})
	}
}

func TestReadSnapshot_ResumesTheSnapshotOfTheUnfinishedRun(t *testing.T) {
	for name, c := range map[string]struct{ from, want string }{
		"the same store":  {"snapshot old " + snapshotFolder, "old"},
		"another store":   {"snapshot old /mnt/other", "new"},
		"a control plane": {"sha256:1", "new"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSnapshotHost(t, storetest.ConsoleSnapshot("old", clock()), storetest.ConsoleSnapshot("new", clock().Add(time.Hour)))
			j, err := journal.Open(h.env.Host, dataDir, clock)
			testkit.Must(t, err, j.BeginRun(Verb, journal.Args{From: c.from}))
			s := restoreOf(Options{From: snapshotFolder})
			testkit.Must(t, s.readSnapshot(t.Context(), h.env.ReadOnly()))
			if s.snapshot.Name != c.want {
				t.Errorf("%s, want %s", s.snapshot.Name, c.want)
			}
		})
	}
}

func TestSnapshotQuestion_NamesWhatIsRestoredAndLost(t *testing.T) {
	h := newSnapshotHost(t, storetest.ConsoleSnapshot("s1", clock()), storetest.RegistrySnapshot("s1", clock()))
	s := restoreOf(Options{From: snapshotFolder})
	testkit.Must(t, s.readSnapshot(t.Context(), h.env.ReadOnly()))
	text := s.question(candidate(t))
	for _, want := range []string{"as node n9 with the address 10.0.0.9", "my-app 1.0.0 of the snapshot s1 of 2026-11-29T", "2 volumes of 26 MB", "What was written later is lost", "must be off for good"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in %s", want, text)
		}
	}
}
