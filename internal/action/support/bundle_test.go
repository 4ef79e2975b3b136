package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/supportbundle"
	"github.com/plinthdev/plinth/internal/testkit"
)

// plantedSecrets returns texts with secrets of 40 kinds and more, and the secrets, from the list of the redactor's tests.
func plantedSecrets(t *testing.T) (texts, secrets []string) {
	t.Helper()
	raw, err := os.ReadFile("../../supportbundle/testdata/kinds.json")
	testkit.Must(t, err)
	var kinds []struct{ Text, Secret string }
	testkit.Must(t, json.Unmarshal(raw, &kinds))
	if len(kinds) < 40 {
		t.Fatalf("%d kinds", len(kinds))
	}
	for _, k := range kinds {
		texts, secrets = append(texts, k.Text), append(secrets, k.Secret)
	}
	return texts, secrets
}

// readBundle returns the files in a bundle.
func readBundle(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	unzipped, err := gzip.NewReader(r)
	testkit.Must(t, err)
	files := map[string]string{}
	for archive := tar.NewReader(unzipped); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		testkit.Must(t, err)
		content, err := io.ReadAll(archive)
		testkit.Must(t, err)
		_, name, _ := strings.Cut(h.Name, "/")
		files[name] = string(content)
	}
}

// createBundle creates a bundle of m and returns its result and its file.
func (m *machine) createBundle(t *testing.T, o BundleOptions) (BundleResult, []byte) {
	t.Helper()
	o.Dir, o.Since = "/root", 24*time.Hour
	r, err := CreateBundle(t.Context(), m.Env, o)
	testkit.Must(t, err)
	raw, err := os.ReadFile(filepath.Join(m.fake.Root, r.Path))
	testkit.Must(t, err)
	return r, raw
}

// expectCommands lets all commands that a collection runs succeed with text as their output.
func (m *machine) expectCommands(t *testing.T, text string) {
	t.Helper()
	m.fake.Expect("journalctl").AnyTimes().Return(text, nil)
	for name, argv := range commands {
		if argv[0] == "journalctl" || argv[0] == "systemctl" || !strings.Contains("df ip-route k0s-status", name) {
			continue
		}
		program := argv[0]
		if !filepath.IsAbs(program) {
			program = "/usr/bin/" + program
		}
		testkit.WriteFiles(t, m.fake.Root, 0o700, map[string]string{program: ""})
		m.fake.Expect(strings.Join(argv[:1], " ")).AnyTimes().Return(text, nil)
	}
}

func TestCreateBundle_HasNoSecretOfAnyKind(t *testing.T) {
	texts, secrets := plantedSecrets(t)
	all := "first\n" + strings.Join(texts, "\n---\n") + "\n---\nlast\n"
	m := newMachine(t, nil)
	m.expectCommands(t, all)
	files := map[string]string{}
	for _, p := range []string{"/etc/hosts", "/etc/fstab", "/proc/mounts", "/proc/cmdline", k0s.ConfigPath, "/etc/k0s/containerd.d/a.toml", "/etc/sysctl.d/a.conf",
		"/etc/cni/net.d/10-a.conflist", action.LogDir + "/install-1.log", "/var/lib/plinth/facts.json"} {
		files[p] = all
	}
	const plinthKey, byValue = "-----BEGIN PRIVATE KEY-----\nMIIfakePlinthKeyLine0123456789\n-----END PRIVATE KEY-----\n", "an0rdinary-looking-value"
	files[node.IdentityPath("/var/lib/plinth")] = plinthKey
	testkit.WriteFiles(t, m.fake.Root, 0o600, files)
	m.fake.Processes = []host.Process{{PID: 1, Exe: "/usr/bin/app", Args: []string{"app", "--password", "processArgument1"}}}
	api := m.serveAPI(t)
	object := func(name string, more map[string]any) map[string]any {
		more["metadata"] = map[string]any{"namespace": "app", "name": name, "annotations": map[string]any{"note": all, "kubectl.kubernetes.io/last-applied-configuration": `{"data":{"x":` + quote(all) + `}}`}}
		return more
	}
	api.Put("/api/v1/namespaces/app/configmaps/a", object("a", map[string]any{"data": map[string]any{"app.conf": all, "DB_PASSWORD": "configMapWord"}}))
	api.Put("/api/v1/namespaces/app/secrets/s", object("s", map[string]any{"data": map[string]any{"x": base64.StdEncoding.EncodeToString([]byte(byValue))}}))
	api.Put("/api/v1/namespaces/app/events/e", object("e", map[string]any{"type": "Warning", "reason": "Failed", "message": all}))
	api.Put("/api/v1/namespaces/app/pods/p", object("p", map[string]any{
		"spec": map[string]any{"containers": []any{map[string]any{"name": "c", "args": []any{all, "--token", "podArgument1"}, "env": []any{map[string]any{"name": "API_TOKEN", "value": "envWord"}}}}},
		"status": map[string]any{"phase": "Running", "containerStatuses": []any{map[string]any{"name": "c", "restartCount": 1, "state": map[string]any{
			"running": map[string]any{}}}}}}))
	api.Put("/api/v1/nodes/c1", map[string]any{"metadata": map[string]any{"name": "c1", "annotations": map[string]any{"note": all + byValue}}})
	var podLog strings.Builder
	for line := range strings.Lines(all + "MIIfakePlinthKeyLine0123456789 " + byValue + "\n") {
		podLog.WriteString("2026-01-02T11:59:00Z " + line)
	}
	api.Logs = map[string]string{"app/p": podLog.String()}

	result, raw := m.createBundle(t, BundleOptions{})
	found := readBundle(t, bytes.NewReader(raw))
	secrets = append(secrets, byValue, base64.StdEncoding.EncodeToString([]byte(byValue)), "MIIfakePlinthKeyLine0123456789", "processArgument1", "podArgument1", "configMapWord", "envWord")
	for name, content := range found {
		for _, s := range secrets {
			if strings.Contains(content, s) || strings.Contains(content, strings.Trim(quote(s), `"`)) {
				t.Errorf("%s has %q", name, s)
			}
		}
	}
	for _, name := range []string{"version.yaml", "analysis.json", "redactions.json", "left-out.json", folderPlinth + "snapshot.json", folderPlinth + "journal.json", folderPlinth + "receipt.json",
		folderPlinth + "logs/install-1.log", folderPlinth + "files/etc/hosts", folderPlinth + "files/etc/k0s/k0s.yaml", folderPlinth + "processes.txt", folderRun + "df.txt", folderRun + "k0s-status.txt",
		folderJournal + "k0s.txt", folderJournal + "kernel.txt", folderSystem + "memory.json", folderCluster + "nodes.json", folderCluster + "configmaps/app.json", folderCluster + "pods/app.json",
		folderCluster + "events/app.json", folderCluster + "pods/logs/app/p/c.log", "cluster-info/cluster_version.json"} {
		if content, ok := found[name]; !ok && name != folderPlinth+"journal.json" {
			t.Errorf("%s is missing", name)
		} else if strings.HasSuffix(name, ".json") && ok && !json.Valid([]byte(content)) {
			t.Errorf("%s is no JSON", name)
		}
	}
	for name := range found {
		if strings.Contains(name, "secrets") {
			t.Errorf("%s", name)
		}
	}
	if !strings.HasPrefix(found[folderPlinth+"files/etc/hosts"], "first\n") || !strings.HasSuffix(found[folderPlinth+"files/etc/hosts"], "last\n") {
		t.Errorf("too much was removed: %s", found[folderPlinth+"files/etc/hosts"])
	}
	if result.Redacted < len(texts) || result.Files != len(found)-2 || result.Size != int64(len(raw)) {
		t.Errorf("%+v, %d files, %d bytes", result, len(found), len(raw))
	}
}

func quote(s string) string {
	raw, _ := json.Marshal(s)
	return string(raw)
}

func TestCreateBundle_OfAHostWithoutACluster(t *testing.T) {
	m := &machine{fake: hosttest.New(t)}
	m.Env = newEnv(m.fake)
	m.fake.Expect("systemctl show").AnyTimes().Return(unitTexts{}.String(), nil)
	m.fake.Expect("journalctl").AnyTimes().Return("", errors.New("no journal"))
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{action.LogDir + "/install-1.log": "preflights failed\n"})
	result, raw := m.createBundle(t, BundleOptions{To: "out/a.tar.gz"})
	found := readBundle(t, bytes.NewReader(raw))
	if result.Path != "/root/out/a.tar.gz" || found[folderPlinth+"logs/install-1.log"] == "" || found[folderPlinth+"snapshot.json"] == "" || len(result.LeftOut) == 0 {
		t.Errorf("%+v", result)
	}
	if _, err := CreateBundle(t.Context(), m.Env, BundleOptions{To: "out/a.tar.gz", Dir: "/root", Since: time.Hour}); problem.ExitCode(err) != problem.ExitUsage {
		t.Errorf("a second bundle in the same file: %v", err)
	}
}

// deadDisk is a file system that never answers for the files below a folder, until hang is closed.
type deadDisk struct {
	host.Files
	below string
	hang  chan struct{}
}

func (d deadDisk) wait(p string) {
	if strings.HasPrefix(p, d.below) {
		<-d.hang
	}
}

func (d deadDisk) ReadFile(p string) ([]byte, error) { d.wait(p); return d.Files.ReadFile(p) }

func (d deadDisk) Lstat(p string) (fs.FileInfo, error) { d.wait(p); return d.Files.Lstat(p) }

func (d deadDisk) ReadDir(p string) ([]fs.DirEntry, error) { d.wait(p); return d.Files.ReadDir(p) }

func TestCreateBundle_DoesNotWaitForADeadDisk(t *testing.T) {
	for below, want := range map[string]string{ // folder on the disk: what the bundle lists as left out, or the error
		action.LogDir:        folderPlinth + "logs",
		"/etc/sysctl.d":      folderPlinth + "files/etc/sysctl.d",
		"/usr/bin/":          folderRun + "df.txt",
		"/proc/sys":          "records in /var/lib/plinth",
		"/var/lib/plinth":    "cannot read the secrets of this host",
		k0s.DataDir + "/pki": "cannot read the secrets of this host",
		"/root":              "the disk of /root/a.tar.gz does not answer",
	} {
		t.Run(below, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &machine{fake: hosttest.New(t)}
				m.Env = newEnv(m.fake)
				if below != "/root" { // before anything is collected
					m = newMachine(t, nil)
					m.fake.Expect("journalctl").AnyTimes().Return("", nil)
				}
				hang := make(chan struct{})
				defer func() { close(hang); synctest.Wait() }()
				m.Host.Files = deadDisk{m.Host.Files, below, hang}
				start := time.Now()
				r, err := CreateBundle(t.Context(), m.Env, BundleOptions{To: "/root/a.tar.gz", Since: time.Hour})
				if took := time.Since(start); took > bundleTimeout+10*time.Second {
					t.Errorf("it took %s", took)
				}
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %s", err, want)
				}
				if err == nil && !slices.ContainsFunc(r.LeftOut, func(l supportbundle.LeftOut) bool { return l.File == want }) {
					t.Errorf("%+v, want %s", r.LeftOut, want)
				}
			})
		})
	}
}

// TestCreateBundle_NamesSecretsItCannotRead: their values cannot be removed.
func TestCreateBundle_NamesSecretsItCannotRead(t *testing.T) {
	m := newMachine(t, nil)
	m.fake.Expect("journalctl").AnyTimes()
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{k0s.EncryptionConfPath + "/a-folder": "", k0s.KubeletPKIDir: "a file"})
	r, _ := m.createWithSpecs(t)
	for _, p := range []string{k0s.EncryptionConfPath, k0s.KubeletPKIDir} {
		if got := reasonsOf(r, "secrets in "+p+", which are not removed by value"); len(got) != 1 || !strings.Contains(got[0], "directory") {
			t.Errorf("%s: %q", p, got)
		}
	}
	if got := reasonsOf(r, "secrets in "); len(got) != 2 {
		t.Errorf("what does not exist is named: %q", got)
	}
}

func TestCreateBundle_RefusesATargetByName(t *testing.T) {
	for name, c := range map[string]struct{ to, want string }{
		"a file that exists": {"/root/file", "cannot create a support bundle: /root/file exists already"},
		"below a file":       {"/root/file/bundle.tar.gz", "/root/file/bundle.tar.gz: not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{fake: hosttest.New(t)} // on which nothing may run
			m.Env = newEnv(m.fake)
			testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{"/root/file": "x"})
			_, err := CreateBundle(t.Context(), m.Env, BundleOptions{Dir: "/root", To: c.to, Since: time.Hour})
			if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want) {
				t.Errorf("exit %d: %v", problem.ExitCode(err), err)
			}
		})
	}
}

func TestCreateBundle_Encrypts(t *testing.T) {
	m := newMachine(t, nil)
	m.fake.Expect("journalctl").AnyTimes().Return("", nil)
	identity, err := age.GenerateX25519Identity()
	testkit.Must(t, err)
	result, raw := m.createBundle(t, BundleOptions{Recipients: []string{identity.Recipient().String()}})
	if !result.Encrypted || !strings.HasSuffix(result.Path, ".tar.gz.age") {
		t.Errorf("%+v", result)
	}
	plain, err := age.Decrypt(bytes.NewReader(raw), identity)
	testkit.Must(t, err)
	if found := readBundle(t, plain); found["version.yaml"] == "" {
		t.Errorf("%q", found)
	}
	_, err = CreateBundle(t.Context(), m.Env, BundleOptions{Since: time.Hour, Recipients: []string{identity.String()}})
	if problem.ExitCode(err) != problem.ExitUsage || strings.Contains(err.Error(), identity.String()) {
		t.Errorf("%v", err)
	}
}

// Two runs with the same target: the bundle of the one that is done first stays.
func TestCreateBundle_KeepsTheFileOfAFasterRun(t *testing.T) {
	m := newMachine(t, nil)
	host := m.fake.Host()
	m.fake.Expect("journalctl").AnyTimes().Return("", nil)
	var once sync.Once
	m.Events = func(step.Event) { // after the target was looked at
		once.Do(func() { testkit.Must(t, host.Place("/root/a.tar.gz", strings.NewReader("first"), 0o600)) })
	}
	_, err := CreateBundle(t.Context(), m.Env, BundleOptions{To: "/root/a.tar.gz", Since: time.Hour})
	if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), "/root/a.tar.gz exists already") {
		t.Error(err)
	}
	if raw, err := host.ReadFile("/root/a.tar.gz"); err != nil || string(raw) != "first" {
		t.Errorf("%q, %v", raw, err)
	}
}

// fatFiles is a file system without files that have no name.
type fatFiles struct{ newFiles }

func (fatFiles) Place(string, io.Reader, fs.FileMode) error { return errors.ErrUnsupported }

func TestWriteNewFile_OnAFileSystemWithoutUnnamedFiles(t *testing.T) {
	host := hosttest.New(t).Host()
	testkit.Must(t, writeNewFile(fatFiles{host}, "/media/usb/a.tar.gz", strings.NewReader("a bundle")))
	if raw, err := host.ReadFile("/media/usb/a.tar.gz"); err != nil || string(raw) != "a bundle" {
		t.Errorf("%q, %v", raw, err)
	}
}

func TestCreateBundle_LeavesNoFileWhenItIsInterrupted(t *testing.T) {
	for moment, program := range map[string]string{"while it reads the state": "journalctl", "while it packs": "df"} {
		t.Run(moment, func(t *testing.T) {
			m := newMachine(t, nil)
			ctx, cancel := context.WithCancelCause(t.Context())
			interrupted := errors.New("interrupted")
			m.fake.Expect(program).AnyTimes().Do(func(host.Cmd) { cancel(interrupted) })
			if program == "df" {
				testkit.WriteFiles(t, m.fake.Root, 0o700, map[string]string{"/usr/bin/df": ""})
				m.fake.Expect("journalctl").AnyTimes().Return("", nil)
			}
			_, err := CreateBundle(ctx, m.Env, BundleOptions{To: "/root/a.tar.gz", Since: time.Hour})
			if problem.ExitCode(err) != problem.ExitInterrupted || !errors.Is(err, interrupted) || err.Error() != "cannot create a support bundle: interrupted" ||
				!strings.HasPrefix(problem.Hint(err), "no file was written, and nothing that was collected is kept") {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
			if _, err := m.Host.Lstat("/root/a.tar.gz"); err == nil {
				t.Error("the file exists")
			}
		})
	}
}

// Progress counts files in its text: the numbers of an event are bytes.
func TestCreateBundle_ReportsFilesAndNotBytes(t *testing.T) {
	m := newMachine(t, nil)
	m.fake.Expect("journalctl").AnyTimes().Return("", nil)
	counted := false
	m.Events = func(e step.Event) {
		counted = counted || strings.Contains(e.Message, "version.txt (")
		if e.Bytes != 0 || e.Total != 0 {
			t.Errorf("%+v", e)
		}
	}
	m.createBundle(t, BundleOptions{})
	if !counted {
		t.Error("no file was counted")
	}
}

func TestDescribeExit_KeepsWhatACommandSays(t *testing.T) {
	for name, c := range map[string]struct{ out, tail, want string }{
		"only errors": {"", "FirewallD is not running\n", "FirewallD is not running\n(exit code 3)\n"},
		"both":        {"one\n", "one\nwarning\n", "one\none\nwarning\n(exit code 3)\n"},
		"output":      {"one\ntwo\n", "two\n", "one\ntwo\n(exit code 3)\n"},
		"nothing":     {"", "", "(exit code 3)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := string(describeExit([]byte(c.out), &host.CommandError{Argv: []string{"x"}, Code: 3, Tail: c.tail})); got != c.want {
				t.Errorf("%q", got)
			}
		})
	}
}

// A healthy host lacks services that other hosts have. What their commands say is in the bundle, and nothing is missing.
func TestCreateBundle_IsCompleteWithoutOptionalServices(t *testing.T) {
	m := newMachine(t, nil)
	m.fake.Expect("journalctl").AnyTimes().Return("", nil)
	testkit.WriteFiles(t, m.fake.Root, 0o700, map[string]string{"/usr/bin/firewall-cmd": "", "/usr/bin/resolvectl": ""})
	m.fake.Expect("firewall-cmd").AnyTimes().Return("", &host.CommandError{Argv: []string{"firewall-cmd"}, Code: 252, Tail: "FirewallD is not running\n"})
	m.fake.Expect("resolvectl").AnyTimes().Return("", &host.CommandError{Argv: []string{"resolvectl"}, Code: -1, Err: errors.New("timed out")})
	r, raw := m.createBundle(t, BundleOptions{})
	if got := readBundle(t, bytes.NewReader(raw))[folderRun+"firewall-cmd.txt"]; got != "FirewallD is not running\n(exit code 252)\n" || reasonsOf(r, "firewall-cmd") != nil {
		t.Errorf("%q, %+v", got, r.LeftOut)
	}
	if got := reasonsOf(r, "resolvectl"); !slices.Equal(got, []string{"resolvectl: timed out"}) {
		t.Errorf("%q", got)
	}
}

func TestCreateBundle_LeavesTheClusterOutWithoutItsSecrets(t *testing.T) {
	m := newMachine(t, nil)
	m.fake.Expect("journalctl").AnyTimes().Return("", nil)
	api := m.serveAPI(t)
	api.Put("/api/v1/namespaces/app/pods/p", map[string]any{"metadata": map[string]any{"namespace": "app", "name": "p"}, "status": map[string]any{"phase": "Running",
		"containerStatuses": []any{map[string]any{"name": "c", "restartCount": 9, "state": map[string]any{"waiting": map[string]any{"reason": "CrashLoopBackOff"}}}}}})
	api.Logs = map[string]string{"app/p": "2026-01-02T11:59:00Z line of a pod\n"}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == pathSecrets {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{k0s.AdminConf: kubeconfig(srv.URL)})
	r, raw := m.createBundle(t, BundleOptions{})
	if !slices.ContainsFunc(r.LeftOut, func(l supportbundle.LeftOut) bool { return strings.Contains(l.Reason, "the Secrets, whose values") }) {
		t.Errorf("%+v", r.LeftOut)
	}
	for name, content := range readBundle(t, bytes.NewReader(raw)) {
		if strings.Contains(name, folderCluster) || strings.Contains(content, "line of a pod") {
			t.Errorf("the bundle has %s", name)
		}
	}
}

func TestSplitList_CompletesObjects(t *testing.T) {
	raw := []byte(`{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"a","namespace":"x","managedFields":[{}]}},{"metadata":{"name":"b","namespace":"y"}}]}`)
	all, err := splitList(raw, collection{pathPods, "pods", true})
	testkit.Must(t, err)
	want := `{"apiVersion":"v1","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"x"}}],"kind":"PodList","metadata":{}}`
	if len(all) != 2 || all[0].name != "cluster-resources/pods/x.json" || string(all[0].content) != want {
		t.Errorf("%s", all)
	}
	if all, err = splitList([]byte(`{"kind":"NodeList","apiVersion":"v1","items":null}`), collection{pathNodes, "nodes", false}); err != nil || len(all) != 1 || !strings.Contains(string(all[0].content), `"items":[]`) {
		t.Errorf("%s %v", all, err)
	}
}

func TestAnalysis_HasTheFormatOfTroubleshoot(t *testing.T) {
	found := []diagnosis.Finding{{Rule: "disk-full", Severity: diagnosis.Error, Culprit: "a disk is full", Evidence: []string{"1 MB free"}, Fix: "free space"},
		{Rule: "node-cordoned", Severity: diagnosis.Warning, Culprit: "a node is cordoned", Evidence: []string{"c1"}, Fix: "uncordon it"}}
	raw, err := json.MarshalIndent(analysis(found, nil), "", "  ")
	testkit.Must(t, err)
	testkit.Golden(t, "testdata/analysis.json", append(raw, '\n'))
}

func TestItem_KeepsTheEndWithinItsLimit(t *testing.T) {
	i := item{limit: 10, collect: func(context.Context) ([]byte, error) { return []byte("0123456789\nabcdef\nlast\n"), nil }}
	if got, err := i.run(t.Context()); err != nil || string(got) != "last\n" {
		t.Errorf("%q %v", got, err)
	}
	i.name = "a.json"
	if got, err := i.run(t.Context()); err == nil || len(got) > 0 {
		t.Errorf("a part of JSON: %q", got)
	}
	i.collect = func(context.Context) ([]byte, error) { panic("bug") }
	if _, err := i.run(t.Context()); err == nil {
		t.Error("no error")
	}
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	i.timeout, i.collect = time.Millisecond, func(context.Context) ([]byte, error) { <-hang; return nil, nil }
	if _, err := i.run(t.Context()); err == nil || err.Error() != "no answer in time" {
		t.Errorf("%v", err)
	}
}

func TestExplain_NamesTheProgramOnly(t *testing.T) {
	for want, err := range map[string]error{
		"ip: no such device": &host.CommandError{Argv: []string{"ip", "-s", "address"}, Code: 1, Tail: "no such device\nmore"},
		"ip: exit code 3":    &host.CommandError{Argv: []string{"ip"}, Code: 3},
		"ip: timed out":      &host.CommandError{Argv: []string{"ip"}, Code: -1, Err: errors.New("timed out")},
	} {
		if got := explain(err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
