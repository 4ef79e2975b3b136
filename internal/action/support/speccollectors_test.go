package support

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/supportbundle"
	"github.com/plinthdev/plinth/internal/testkit"
)

const appSpec = `apiVersion: troubleshoot.sh/v1beta2
kind: SupportBundle
metadata: {name: my-app}
spec:
  collectors:
    - logs: {name: app/logs, namespace: shop, selector: [app=web], limits: {maxLines: 5}}
    - logs: {name: one, selector: [app=db]}
    - configMap: {name: settings, namespace: shop, key: mode, includeValue: true}
    - configMap: {selector: [part=web], namespace: shop, includeAllData: true}
    - configMap: {name: gone, namespace: shop}
    - secret: {name: login, namespace: shop, key: password, includeValue: true}
    - data: {name: static, collectorName: note.txt, data: "note of ACME"}
    - data: {name: cluster-resources, collectorName: nodes.json, data: "{}"}
    - data: {name: ".", collectorName: analysis.json, data: "{}"}
    - nodeMetrics: {}
    - exec: {selector: [], command: [ls]}
  hostCollectors:
    - cpu: {}
    - journald: {collectorName: web, units: [web.service], lines: 3}
    - copy: {collectorName: conf, path: /etc/my-app/*.conf}
    - copy: {collectorName: all, path: /etc/my-app}
    - copy: {collectorName: nothing, path: /etc/none}
    - run: {command: ls}
`

const appRedactors = `apiVersion: troubleshoot.sh/v1beta2
kind: Redactor
spec:
  redactors:
    - name: Customers
      removals:
        values: [ACME]
    - name: Modes
      fileSelector: {file: configmaps/shop/settings/mode.json}
      removals: {yamlPath: [value]}
`

// newShop returns a cluster with an application, and the log of its unit on the host.
func newShop(t *testing.T) *machine {
	t.Helper()
	m := newCluster(t)
	pod := func(name, app string, containers ...string) map[string]any {
		var specs, statuses []any
		for _, c := range containers {
			specs = append(specs, map[string]any{"name": c, "image": "x"})
			statuses = append(statuses, map[string]any{"name": c, "ready": true, "restartCount": len(containers) - 1, "state": map[string]any{"running": map[string]any{}}})
		}
		return map[string]any{"metadata": map[string]any{"namespace": "shop", "name": name, "labels": map[string]any{"app": app}},
			"spec": map[string]any{"containers": specs}, "status": map[string]any{"phase": "Running", "containerStatuses": statuses}}
	}
	m.api.Put("/api/v1/namespaces/shop/pods/web-1", pod("web-1", "web", "web", "side"))
	m.api.Put("/api/v1/namespaces/shop/pods/db-1", pod("db-1", "db", "db"))
	m.api.Logs = map[string]string{"shop/web-1": "2026-01-02T11:59:00Z request of ACME\n", "shop/db-1": "2026-01-02T11:59:00Z ready\n"}
	config := func(name string, data map[string]any, labels map[string]any) {
		m.api.Put("/api/v1/namespaces/shop/configmaps/"+name, map[string]any{"metadata": map[string]any{"namespace": "shop", "name": name, "labels": labels}, "data": data})
	}
	config("settings", map[string]any{"mode": "fast", "other": "x"}, map[string]any{})
	config("web", map[string]any{"customer": "ACME"}, map[string]any{"part": "web"})
	m.api.Put("/api/v1/namespaces/shop/secrets/login", map[string]any{"metadata": map[string]any{"namespace": "shop", "name": "login"},
		"data": map[string]any{"password": base64.StdEncoding.EncodeToString([]byte("an0rdinary-looking-value"))}})
	m.api.Put("/api/v1/nodes/c1/proxy/stats/summary", map[string]any{"node": map[string]any{"nodeName": "c1"}})
	m.api.Put("/api/v1/nodes/c1", map[string]any{"metadata": map[string]any{"name": "c1"}})
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{"/etc/my-app/a.conf": "customer = ACME\n", "/etc/my-app/b.conf": "b\n", "/etc/my-app/c.txt": "c\n"})
	return m
}

// writeSpec returns the path of a file with text.
func writeSpec(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spec.yaml")
	testkit.Must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// createWithSpecs creates a bundle with the specs in files.
func (m *machine) createWithSpecs(t *testing.T, specs ...string) (BundleResult, map[string]string) {
	t.Helper()
	r, err := createBundle(t.Context(), m.Env, BundleOptions{Dir: "/root", Since: time.Hour, Specs: specs}, &fakeAgents{})
	testkit.Must(t, err)
	raw, err := m.Host.ReadFile(r.Path)
	testkit.Must(t, err)
	return r, readBundle(t, bytes.NewReader(raw))
}

// compact returns the JSON in text without white space.
func compact(t *testing.T, text string) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(text)); err != nil {
		t.Errorf("%v: %s", err, text)
	}
	return out.String()
}

// reasonsOf returns the reasons why files whose names have a part are left out.
func reasonsOf(r BundleResult, part string) (reasons []string) {
	for _, l := range r.LeftOut {
		if strings.Contains(l.File, part) {
			reasons = append(reasons, l.Reason)
		}
	}
	return reasons
}

func TestCreateBundle_CarriesOutSpecsInFiles(t *testing.T) {
	m := newShop(t)
	var notes []string
	m.Note = func(text string) { notes = append(notes, text) }
	spec := writeSpec(t, appSpec+"---\n"+appRedactors)
	r, found := m.createWithSpecs(t, spec)
	const customer, mode = "***REDACTED:vendor-customers***", "***REDACTED:vendor-modes***"
	for name, want := range map[string]string{
		"app/logs/web-1/web.log": "request of " + customer + "\n", "app/logs/web-1/side.log": "request of " + customer + "\n", "app/logs/web-1/web-previous.log": "request of " + customer + "\n",
		"one/db-1/db.log": "ready\n", "static/note.txt": "note of " + customer,
		"host-collectors/conf/a.conf": "customer = " + customer + "\n", "host-collectors/conf/b.conf": "b\n", "host-collectors/all/my-app/c.txt": "c\n",
	} {
		if found[name] != want {
			t.Errorf("%s is %q, want %q", name, found[name], want)
		}
	}
	for name, want := range map[string]string{
		"configmaps/shop/settings/mode.json": `{"configMapExists":true,"key":"mode","keyExists":true,"name":"settings","namespace":"shop","value":"` + mode + `"}`,
		"configmaps/shop/web.json":           `{"configMapExists":true,"data":{"customer":"` + customer + `"},"key":"","keyExists":false,"name":"web","namespace":"shop"}`,
		"configmaps/shop/gone.json":          `{"configMapExists":false,"key":"","keyExists":false,"name":"gone","namespace":"shop"}`,
		"secrets/shop/login/password.json":   `{"key":"password","keyExists":true,"name":"login","namespace":"shop","secretExists":true}`,
	} {
		if got := compact(t, found[name]); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if !strings.Contains(found["node-metrics/c1.json"], `"nodeName": "c1"`) || !strings.Contains(found["support-bundle-specs/files/1-1.json"], `"SupportBundle"`) ||
		!strings.Contains(found["cluster-resources/nodes.json"], `"c1"`) || !strings.HasPrefix(found["analysis.json"], "[") {
		t.Errorf("%.200s\n%.200s", found["node-metrics/c1.json"], found["support-bundle-specs/files/1-1.json"])
	}
	for name, content := range found {
		if strings.Contains(content, "ACME") || strings.Contains(content, "an0rdinary") {
			t.Errorf("%s: %.300s", name, content)
		}
	}
	if !strings.Contains(found["redactions.json"], `"vendor-customers"`) {
		t.Error("the manifest does not list the vendor's redactors")
	}
	for _, l := range r.LeftOut {
		if l.Expected != (l.File == spec) {
			t.Errorf("%+v", l)
		}
	}
	if got := reasonsOf(r, spec); !slices.Equal(got, []string{"the collector exec is not carried out: it runs a program", "the collector host run is not carried out: it runs a program"}) {
		t.Errorf("%q", got)
	}
	if len(notes) != 1 || notes[0] != "note: these collectors of the specs are not carried out: exec, host run; left-out.json in the bundle says why" {
		t.Errorf("%q", notes)
	}
	if got := reasonsOf(r, "host-collectors/nothing"); !slices.Equal(got, []string{"no file is at /etc/none"}) {
		t.Errorf("%q", got)
	}
	if got := reasonsOf(r, "support-bundle-specs/files"); !slices.Equal(got, []string{"cluster-resources is a name of Plinth", "analysis.json is a name of Plinth"}) {
		t.Errorf("%q", got)
	}
}

func TestCreateBundle_CarriesOutSpecsInTheCluster(t *testing.T) {
	m := newShop(t)
	put := func(kind, name, label, key, text string) {
		if kind == "secrets" {
			text = base64.StdEncoding.EncodeToString([]byte(text))
		}
		label, value, _ := strings.Cut(label, "=")
		m.api.Put("/api/v1/namespaces/shop/"+kind+"/"+name, map[string]any{"metadata": map[string]any{"namespace": "shop", "name": name, "labels": map[string]any{label: value}},
			"data": map[string]any{key: text}})
	}
	put("secrets", "my-app", "troubleshoot.sh/kind=support-bundle", "support-bundle-spec", appSpec)
	put("configmaps", "kotsadm-my-app-redact-spec", "kots.io/kotsadm=true", "redact-spec", appRedactors)
	put("secrets", "more", "troubleshoot.sh/kind=redactor", "redactor-spec", strings.NewReplacer("Customers", "Marks", "ACME", "ready", "redactors:", "redactors:\n    - {name: bad, removals: {regex: [{redactor: '('}]}}").Replace(appRedactors))
	put("secrets", "plinth-support-bundle", "troubleshoot.sh/kind=support-bundle", "support-bundle-spec", appSpec)
	r, found := m.createWithSpecs(t)
	if got := found["app/logs/web-1/web.log"]; got != "request of ***REDACTED:vendor-customers***\n" {
		t.Errorf("%q", got)
	}
	if got := found["one/db-1/db.log"]; got != "***REDACTED:vendor-marks***\n" {
		t.Errorf("%q", got)
	}
	for name, content := range found {
		if strings.Contains(content, "ACME") {
			t.Errorf("%s: %.300s", name, content)
		}
		if strings.HasPrefix(name, "host-collectors/conf/") {
			t.Errorf("%s is a file of the host", name)
		}
	}
	want := []string{"the collector exec is not carried out: it runs a program", "the collector host copy is not carried out: the host is only collected for specs in files; give it with --spec",
		"the collector host journald is not carried out: the host is only collected for specs in files; give it with --spec", "the collector host run is not carried out: it runs a program"}
	if got := reasonsOf(r, "shop/secret-my-app"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := reasonsOf(r, "shop/secret-more"); len(got) != 1 || !strings.Contains(got[0], "spec.redactors[0].removals.regex[0].redactor: is not a regular expression") {
		t.Errorf("%q", got)
	}
	if got := reasonsOf(r, "plinth-support-bundle"); len(got) != 0 || found["support-bundle-specs/shop/secret-plinth-support-bundle.json"] == "" {
		t.Errorf("%q", got)
	}
}

func TestCreateBundle_LeavesTheClusterOutWithoutItsRedactors(t *testing.T) {
	m := newShop(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/configmaps" && r.URL.Query().Get("labelSelector") != "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		m.api.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{k0s.AdminConf: kubeconfig(srv.URL)})
	r, found := m.createWithSpecs(t, writeSpec(t, appSpec))
	if !slices.ContainsFunc(r.LeftOut, func(l supportbundle.LeftOut) bool {
		return strings.HasPrefix(l.Reason, "the ConfigMaps with redactors cannot be read: ")
	}) {
		t.Errorf("%+v", r.LeftOut)
	}
	for name := range found {
		if strings.HasPrefix(name, folderCluster) || strings.HasPrefix(name, "app/") || strings.HasPrefix(name, "configmaps/") {
			t.Errorf("the bundle has %s", name)
		}
	}
	if found["static/note.txt"] == "" || found["host-collectors/conf/b.conf"] == "" {
		t.Error("what needs no cluster is missing")
	}
}

// TestCreateBundle_NamesWhatACopyLeavesOut: what secrets cannot be found in, and what may lead elsewhere, is named.
func TestCreateBundle_NamesWhatACopyLeavesOut(t *testing.T) {
	m := newShop(t)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write([]byte("password=hunter22\n"))
	testkit.Must(t, err, z.Close())
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{"/srv/log/app.log": "text\n", "/srv/log/app.log.1.gz": zipped.String(), "/srv/log/old/a": "x",
		"/srv/log/windows.ini": "\xff\xfep\x00w\x00", "/srv/log/big.yaml": strings.Repeat("a: b\n", maxItemBytes/5+1), "/etc/my-secret": "x"})
	at := func(p string) string { return filepath.Join(m.fake.Root, p) }
	testkit.Must(t, os.Symlink("/etc/my-secret", at("/srv/log/link.log")), os.Symlink("log", at("/srv/current")), syscall.Mkfifo(at("/srv/log/pipe"), 0o600))
	r, found := m.createWithSpecs(t, writeSpec(t, `apiVersion: troubleshoot.sh/v1beta2
kind: HostCollector
spec:
  collectors:
    - copy: {collectorName: all, path: /srv/log}
    - copy: {collectorName: one, path: /srv/log/link.log}
    - copy: {collectorName: behind, path: /srv/current/*.log}
    - copy: {collectorName: folder, path: /srv/current}
`))
	const link = "is a symbolic link, which is not followed: name the path that `realpath` prints in the spec"
	for name, want := range map[string]string{
		"all/log/app.log.1.gz": "it is compressed (gzip): secrets in it cannot be found", "all/log/windows.ini": "it is text in UTF-16: secrets in it cannot be found",
		"all/log/link.log": "it " + link, "all/log/old": "it is a folder: name its files in the spec", "all/log/pipe": "it is not a file, but a device, a pipe or a socket",
		"all/log/big.yaml": "it has more than 4 MiB", "one/link.log": "it " + link, "behind/*.log": "/srv/current " + link, "folder/current": "it " + link,
	} {
		if got := reasonsOf(r, folderCollectors+name); !slices.Equal(got, []string{want}) || found[folderCollectors+name] != "" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if found["host-collectors/all/log/app.log"] != "text\n" {
		t.Error("the text is missing")
	}
}

func TestCreateBundle_LeavesOutBytesInJSONOfTheJournal(t *testing.T) {
	for name, c := range map[string]struct{ log, want string }{
		"text":             {`{"MESSAGE":"{\"a\":[1,2]}","_PID":"1"}`, ""},
		"bytes":            {`{"_PID":"1","MESSAGE":[112,119,0]}`, "a message in it is not text: secrets in it cannot be found; use another output than json"},
		"bytes, formatted": {"{\n\t\"MESSAGE\" : [\n\t\t112,\n\t\t119\n\t]\n}", "a message in it is not text: secrets in it cannot be found; use another output than json"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, nil)
			m.fake.Expect("journalctl").AnyTimes().Return(c.log+"\n", nil)
			r, found := m.createWithSpecs(t, writeSpec(t, "apiVersion: troubleshoot.sh/v1beta2\nkind: HostCollector\nspec: {collectors: [{journald: {collectorName: web, output: json}}]}\n"))
			if got := strings.Join(reasonsOf(r, "journald/web.txt"), ""); got != c.want || (found["host-collectors/journald/web.txt"] == "") != (c.want != "") {
				t.Errorf("%q, %q", got, found["host-collectors/journald/web.txt"])
			}
		})
	}
}

func TestListedFile_RefusesAnotherFile(t *testing.T) {
	fake := hosttest.New(t)
	testkit.WriteFiles(t, fake.Root, 0o600, map[string]string{"/a": "listed", "/b": "another"})
	listed, err := fake.Host().Lstat("/a")
	testkit.Must(t, err)
	if got, err := host.ReadTail(listedFile{fake.Host(), listed}, "/a", 100); err != nil || string(got) != "listed" {
		t.Errorf("%q, %v", got, err)
	}
	testkit.Must(t, os.Remove(filepath.Join(fake.Root, "a")), os.Symlink("b", filepath.Join(fake.Root, "a")))
	if got, err := host.ReadTail(listedFile{fake.Host(), listed}, "/a", 100); err == nil || err.Error() != "it was replaced while the bundle was created" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCreateBundle_RefusesSpecsByName(t *testing.T) {
	bad := writeSpec(t, "apiVersion: troubleshoot.sh/v1beta2\nkind: Redactor\nspec: {redactors: [{removals: {regexs: []}}]}\n---\napiVersion: troubleshoot.sh/v1beta2\nkind: SupportBundle\nspec: {collectors: [{log: {}}]}\n")
	for name, c := range map[string]struct {
		specs []string
		want  []string
	}{
		"a missing file": {[]string{"/nonexistent/spec.yaml"}, []string{"cannot read the spec /nonexistent/spec.yaml: no such file or directory"}},
		"all problems": {[]string{bad, writeSpec(t, "a: [")}, []string{"cannot use the specs of --spec: they are not valid\n", bad + ":3:", "document 1: spec.redactors[0].removals.regexs: unknown key",
			bad + ":7:", "document 2: spec.collectors[0].log: is not a collector", "[yaml-syntax]"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &machine{fake: hosttest.New(t)} // on which nothing may run
			m.Env = newEnv(m.fake)
			_, err := CreateBundle(t.Context(), m.Env, BundleOptions{Dir: "/root", Since: time.Hour, Specs: c.specs})
			if problem.ExitCode(err) != problem.ExitConfig {
				t.Fatalf("exit %d: %v", problem.ExitCode(err), err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v does not say %q", err, w)
				}
			}
		})
	}
}

// TestCreateBundle_NamesWhatIsAboveALimit: what a limit leaves out of a bundle must not look as if it did not exist.
func TestCreateBundle_NamesWhatIsAboveALimit(t *testing.T) {
	m := newShop(t)
	files := map[string]string{}
	for i := range maxSpecFiles + 2 {
		name := fmt.Sprintf("c-%03d", i)
		files["/etc/many/"+name] = "x"
		m.api.Put("/api/v1/namespaces/shop/configmaps/"+name, map[string]any{"metadata": map[string]any{"namespace": "shop", "name": name, "labels": map[string]any{"part": "many"}}, "data": map[string]any{}})
	}
	testkit.WriteFiles(t, m.fake.Root, 0o600, files)
	var statuses, containers []any
	for i := range maxBundleLogs + 60 {
		name := fmt.Sprintf("c-%03d", i)
		containers = append(containers, map[string]any{"name": name, "image": "x"})
		statuses = append(statuses, map[string]any{"name": name, "ready": false, "restartCount": 0, "state": map[string]any{"running": map[string]any{}}})
	}
	m.api.Put("/api/v1/namespaces/shop/pods/many", map[string]any{"metadata": map[string]any{"namespace": "shop", "name": "many", "labels": map[string]any{"app": "many"}},
		"spec": map[string]any{"containers": containers}, "status": map[string]any{"phase": "Running", "containerStatuses": statuses}})
	r, found := m.createWithSpecs(t, writeSpec(t, `apiVersion: troubleshoot.sh/v1beta2
kind: SupportBundle
metadata: {name: my-app}
spec:
  collectors:
    - logs: {name: many-logs, namespace: shop, selector: [app=many]}
    - configMap: {selector: [part=many], namespace: shop}
  hostCollectors:
    - copy: {collectorName: many, path: /etc/many}
`))
	for name, want := range map[string]string{
		"many-logs": "10 logs are left out: one collector collects at most 200", "configmaps/shop": "2 objects are left out: one collector collects at most 100",
		"host-collectors/many/many/*": "2 files are left out: one collector collects at most 100", "cluster-resources/pods/logs": "the logs of 60 containers are left out: at most 150 are collected",
	} {
		if got := reasonsOf(r, name); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if found["host-collectors/many/many/c-099"] != "x" || found["host-collectors/many/many/c-100"] != "" || found["configmaps/shop/c-099.json"] == "" || found["configmaps/shop/c-100.json"] != "" {
		t.Error("the limits are wrong")
	}
}

// TestCreateBundle_CollectsForSpecsWithoutACluster: a spec in a file is also for a host whose cluster does not run.
func TestCreateBundle_CollectsForSpecsWithoutACluster(t *testing.T) {
	m := newMachine(t, nil)
	m.fake.Expect("journalctl").AnyTimes().Return("line of web\n", nil)
	r, found := m.createWithSpecs(t, writeSpec(t, appSpec))
	if found["host-collectors/journald/web.txt"] != "line of web\n" || found["static/note.txt"] != "note of ACME" {
		t.Errorf("%q, %q", found["host-collectors/journald/web.txt"], found["static/note.txt"])
	}
	if got := reasonsOf(r, "logs/app"); !slices.Equal(got, []string{"the objects of the cluster cannot be read on this host"}) {
		t.Errorf("%q", got)
	}
}
