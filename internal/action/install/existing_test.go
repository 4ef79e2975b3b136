package install

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	inprocess "github.com/google/go-containerregistry/pkg/registry"

	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/push"
	"github.com/plinthdev/plinth/e2e/testapp"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/config"
	"github.com/plinthdev/plinth/internal/action/source"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/ui"
)

// foreign is a cluster that Plinth did not create, a registry, and the files of a user who installs there.
type foreign struct {
	cluster  *kubetest.Server
	registry *httptest.Server
	opts     ExistingOptions
	temp     string // TMPDIR
	notes    []string

	mu     sync.Mutex
	pushes int        // requests that write to the registry
	ran    []host.Cmd // commands of the kots CLI
}

// password is the password of the registry.
const password = "s3cret of the registry"

// newForeign returns an empty cluster of Kubernetes 1.34 with a default StorageClass.
func newForeign(t *testing.T) *foreign {
	t.Helper()
	server, _ := kubetest.New(t)
	server.Version = "v1.34.2"
	server.Put("/apis/storage.k8s.io/v1/storageclasses/fast", storageClass("fast", "true"))
	f := &foreign{cluster: server, temp: t.TempDir()}
	t.Setenv("TMPDIR", f.temp)
	store := inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0)))
	f.registry = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "ops" || pass != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		f.mu.Lock()
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			f.pushes++
		}
		f.mu.Unlock()
		store.ServeHTTP(w, r)
	}))
	f.registry.Config.ErrorLog = log.New(io.Discard, "", 0)
	f.registry.StartTLS()
	t.Cleanup(f.registry.Close)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		testkit.Must(t, os.WriteFile(path, data, 0o600))
		return path
	}
	const ref = "docker.io/library/busybox:1.35.0"
	app := testapp.Release{VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: "1.131.2", ImageRef: ref,
		Image: airgaptest.BuildImage(t, airgaptest.Image{Ref: ref, Files: []string{"busybox"}, Gzip: true})}
	testkit.Must(t, app.WriteFile(filepath.Join(dir, "app.airgap")))
	f.opts = ExistingOptions{
		LoadOptions: config.LoadOptions{Bundle: airgaptest.WriteBundle(t, exampleRequest(t)), AppBundle: filepath.Join(dir, "app.airgap"),
			License: write("license.yaml", []byte("apiVersion: kots.io/v1beta1\nkind: License\nspec: {appSlug: my-app, licenseID: abc, signature: c2lnbmVk, isAirgapSupported: true}\n"))},
		Source:     source.Request{AllowUnsigned: true},
		Kubeconfig: write("kubeconfig", kubetest.Kubeconfig(t, server)),
		Registry: RegistryFlags{Address: strings.TrimPrefix(f.registry.URL, "https://") + "/team", Username: "ops", PasswordFile: write("password", []byte(password+"\n")),
			CA: write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.registry.Certificate().Raw}))},
	}
	return f
}

// exampleRequest returns the request for a bundle with the documented Installer.
func exampleRequest(t *testing.T) build.Request {
	t.Helper()
	raw, err := os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	req := airgaptest.NewRequest(t)
	req.Installer = raw
	return req
}

func storageClass(name, isDefault string) map[string]any {
	return map[string]any{"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
		"metadata": map[string]any{"name": name, "annotations": map[string]any{"storageclass.kubernetes.io/is-default-class": isDefault}}}
}

// run installs, with the host in which only the kots CLI is simulated.
func (f *foreign) run(t *testing.T) (Result, error) {
	t.Helper()
	h := host.Local("/")
	h.Commands = f
	env := &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: "/nonexistent", Now: time.Now, Secrets: &ui.Secrets{}, Events: func(step.Event) {},
		Note: func(text string) { f.notes = append(f.notes, text) }, Confirm: func(context.Context, string) error { return nil }}}
	res, err := RunExisting(t.Context(), env, f.opts)
	if left, _ := os.ReadDir(f.temp); len(left) > 0 {
		t.Errorf("left in the folder for temporary files: %v", left)
	}
	return res, err
}

// Run simulates the kots CLI.
func (f *foreign) Run(_ context.Context, cmd host.Cmd) ([]byte, error) {
	f.mu.Lock()
	f.ran = append(f.ran, cmd)
	f.mu.Unlock()
	switch line := strings.Join(cmd.Argv[1:], " "); {
	case strings.HasPrefix(line, "get apps"):
		if f.cluster.Object("/api/v1/namespaces/kotsadm/configmaps/deployed") == nil {
			return []byte("[]"), nil
		}
		return []byte(`[{"slug":"my-app","state":"ready","versionLabel":"1.0.0"}]`), nil
	case strings.Contains(line, "--exclude-admin-console"):
		f.cluster.Put("/api/v1/namespaces/kotsadm/configmaps/deployed", map[string]any{})
	case strings.HasPrefix(line, "install "), strings.HasPrefix(line, "admin-console upgrade "):
		f.putConsole("1.131.2", f.opts.Registry.Address)
	default:
		return nil, errors.New("unexpected: " + line)
	}
	return nil, nil
}

// putConsole stores the objects of a console with images from a registry.
func (f *foreign) putConsole(version, registry string) {
	for _, name := range []string{"kotsadm-rqlite", "kotsadm"} {
		obj := map[string]any{"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": name, "image": registry + "/" + name + ":v" + version,
				"env": []any{map[string]any{"name": "DISABLE_OUTBOUND_CONNECTIONS", "value": "true"}}}}}}}}
		kubetest.MarkReady(obj)
		f.cluster.Put("/apis/apps/v1/namespaces/kotsadm/statefulsets/"+name, obj)
	}
	f.cluster.Put("/api/v1/namespaces/kotsadm/services/kotsadm", map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "kotsadm"}})
	f.cluster.Put("/api/v1/namespaces/kotsadm/secrets/kotsadm-password", map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "kotsadm-password"}})
}

// lines returns the command lines of the kots CLI, without its folder, since the last call.
func (f *foreign) lines() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, cmd := range f.ran {
		all = append(all, strings.Join(cmd.Argv[1:], " "))
	}
	f.ran = nil
	return strings.Join(all, "\n")
}

func TestRunExisting_InstallsAndThenChangesNothing(t *testing.T) {
	f := newForeign(t)
	f.opts.Plan = true
	res, err := f.run(t)
	if err != nil || len(res.Plan) != 5 || res.Changed || len(f.cluster.Writes()) > 0 || f.pushes > 0 {
		t.Fatalf("plan: %v, %+v, %d pushes", err, res, f.pushes)
	}
	f.opts.Plan = false
	res, err = f.run(t)
	if err != nil || !res.Changed || len(res.Password) != 19 || !strings.Contains(res.ConsoleCommand, "kubectl --kubeconfig "+f.opts.Kubeconfig+" port-forward -n kotsadm service/kotsadm 8800:3000") {
		t.Fatalf("%v, %+v", err, res)
	}
	for _, cmd := range f.ran {
		env := strings.Join(cmd.Env, "\n")
		if strings.Contains(strings.Join(cmd.Argv, " "), password) {
			t.Errorf("the password is in %q", cmd.Argv)
		}
		if cmd.Argv[1] == "install" && !strings.Contains(env, "KOTS_REGISTRY_PASSWORD="+password) {
			t.Errorf("%q does not get the password: %q", cmd.Argv, env)
		}
	}
	if f.lines(); f.pushes == 0 {
		t.Error("nothing was pushed")
	}
	f.cluster.Writes()
	pushes := f.pushes
	res, err = f.run(t)
	if writes := f.cluster.Writes(); err != nil || res.Changed || res.Password != "" || len(writes) > 0 || f.pushes != pushes || f.lines() != "" {
		t.Errorf("again: %v, %+v, writes %q, %d pushes", err, res, writes, f.pushes-pushes)
	}
}

func TestRunExisting_CallsTheKotsCLI(t *testing.T) {
	f := newForeign(t)
	if _, err := f.run(t); err != nil {
		t.Fatal(err)
	}
	registry := " --kotsadm-registry " + f.opts.Registry.Address + " --registry-username ops --namespace kotsadm"
	want := []string{"install my-app --with-minio=false --no-port-forward --wait-duration 5m0s --airgap" + registry, "get apps -o json --namespace kotsadm",
		"install my-app --exclude-admin-console --with-minio=false --no-port-forward --license-file " + f.opts.License + " --wait-duration 10m0s --airgap-bundle " + f.opts.AppBundle + registry,
		"get apps -o json --namespace kotsadm"}
	if got := f.lines(); got != strings.Join(want, "\n") {
		t.Errorf("%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// A run that fails after it has installed the console leaves the first password to the next run.
func TestRunExisting_ShowsThePasswordAfterAFailure(t *testing.T) {
	f := newForeign(t)
	f.opts.AppBundle, f.opts.License = "", ""
	f.cluster.SetAdmit(func(obj map[string]any) {
		kubetest.MarkReady(obj)
		if meta, _ := obj["metadata"].(map[string]any); meta["name"] == "kotsadm-password" {
			panic(http.ErrAbortHandler)
		}
	})
	if res, err := f.run(t); problem.ExitCode(err) != problem.ExitStep || res.Password != "" {
		t.Fatalf("%v, %+v", err, res)
	}
	f.cluster.SetAdmit(kubetest.MarkReady)
	if res, err := f.run(t); err != nil || len(res.Password) != 19 {
		t.Errorf("%v, %+v", err, res)
	}
}

func TestRunExisting_UpgradesAConsole(t *testing.T) {
	for name, c := range map[string]struct{ version, registry, want string }{
		"of an older version":      {"1.130.9", "", "admin-console upgrade --wait-duration 5m0s --kotsadm-registry "},
		"with images of elsewhere": {"1.131.2", "docker.io/kotsadm", "admin-console upgrade --wait-duration 5m0s --kotsadm-registry "},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForeign(t)
			f.opts.AppBundle, f.opts.License = "", ""
			if c.registry == "" {
				c.registry = f.opts.Registry.Address
			}
			f.putConsole(c.version, c.registry)
			res, err := f.run(t)
			if got := f.lines(); err != nil || !res.Changed || res.Password != "" || !strings.HasPrefix(got, c.want) {
				t.Errorf("%v, %+v, %s", err, res, got)
			}
		})
	}
}

// putRecords puts the records of the nodes of a cluster of Plinth into the cluster.
func (f *foreign) putRecords(data map[string]any) {
	f.cluster.Put("/api/v1/namespaces/kube-system/configmaps/plinth-nodes", map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "plinth-nodes"}, "data": data})
}

func TestRunExisting_RefusesByName(t *testing.T) {
	write := func(t *testing.T, text string) string {
		path := filepath.Join(t.TempDir(), "file")
		testkit.Must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, f *foreign)
		exit   int
		want   string // in the cause or in the hint
	}{
		"the gate": {func(t *testing.T, f *foreign) {
			f.opts.AppBundle, f.opts.License = "", ""
			f.opts.Application = write(t, "apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: my-app}\nspec: {title: Toy, targetKotsVersion: 1.75.0}\n")
		}, problem.ExitGate, "requires a different version of KOTS"},
		"no kubeconfig":       {func(_ *testing.T, f *foreign) { f.opts.Kubeconfig = "/nonexistent" }, problem.ExitUsage, "cannot use the kubeconfig /nonexistent: no such file or directory"},
		"no context":          {func(t *testing.T, f *foreign) { f.opts.Kubeconfig = write(t, "{apiVersion: v1, kind: Config}") }, problem.ExitUsage, "it has no current-context"},
		"not a kubeconfig":    {func(t *testing.T, f *foreign) { f.opts.Kubeconfig = write(t, "a: [") }, problem.ExitUsage, "it is not a kubeconfig"},
		"an API that is away": {func(t *testing.T, f *foreign) { f.opts.Kubeconfig = write(t, kubeconfig("http://127.0.0.1:1")) }, problem.ExitPreflight, "cannot reach the Kubernetes API at http://127.0.0.1:1: connection refused"},
		"a wrong authority":   {func(t *testing.T, f *foreign) { f.opts.Kubeconfig = write(t, kubeconfig(f.registry.URL)) }, problem.ExitPreflight, "certificate signed by unknown authority"},
		"an old Kubernetes":   {func(_ *testing.T, f *foreign) { f.cluster.Version = "v1.32.9-eks-1" }, problem.ExitPreflight, "it is Kubernetes 1.32, and KOTS 1.131.2 supports 1.34 to 1.36 (kubernetes-version)"},
		"missing rights":      {func(_ *testing.T, f *foreign) { f.cluster.Restricted = true }, problem.ExitPreflight, "(cluster-access)"},
		"no StorageClass":     {func(_ *testing.T, f *foreign) { f.cluster.Remove("/apis/storage.k8s.io/v1/storageclasses/fast") }, problem.ExitPreflight, "it has no StorageClass"},
		"no default StorageClass": {func(_ *testing.T, f *foreign) {
			f.cluster.Put("/apis/storage.k8s.io/v1/storageclasses/fast", storageClass("fast", "false"))
		}, problem.ExitPreflight, "it has no default StorageClass: annotate one of fast"},
		"a console with MinIO": {func(_ *testing.T, f *foreign) {
			f.cluster.Put("/apis/apps/v1/namespaces/kotsadm/deployments/kotsadm", map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": "kotsadm"}})
		}, problem.ExitPreflight, "(console-minio)"},
		"a newer console": {func(_ *testing.T, f *foreign) { f.putConsole("1.140.0", f.opts.Registry.Address) }, problem.ExitGate, "it has KOTS 1.140.0, and the bundle has 1.131.2: the new version is lower"},
		"a cluster of Plinth": {func(_ *testing.T, f *foreign) {
			f.putRecords(map[string]any{"a": `{"uid":"u","role":"worker","address":"10.0.0.1","machineId":"m","agentKey":"k"}`, "uid_a": "worker:u"})
		}, problem.ExitUsage, "without --existing-cluster"},
		"a cluster whose records are damaged": {func(_ *testing.T, f *foreign) { f.putRecords(map[string]any{"a": "{}"}) }, problem.ExitPreflight, "is damaged"},
		"a registry without a host":           {func(_ *testing.T, f *foreign) { f.opts.Registry.Address = "team" }, problem.ExitUsage, "is not a host"},
		"a registry with another authority": {func(_ *testing.T, f *foreign) {
			f.opts.Registry.CA = ""
		}, problem.ExitPreflight, "--registry-ca"},
		"a wrong password":      {func(t *testing.T, f *foreign) { f.opts.Registry.PasswordFile = write(t, "wrong") }, problem.ExitPreflight, "--registry-password-file"},
		"an empty password":     {func(t *testing.T, f *foreign) { f.opts.Registry.PasswordFile = write(t, "\n") }, problem.ExitUsage, "it is empty"},
		"a file without any CA": {func(t *testing.T, f *foreign) { f.opts.Registry.CA = write(t, "none") }, problem.ExitUsage, "it has no certificate"},
		"no bundle":             {func(_ *testing.T, f *foreign) { f.opts.Bundle = "" }, problem.ExitUsage, "--bundle FILE"},
		"an unsigned bundle":    {func(_ *testing.T, f *foreign) { f.opts.Source.AllowUnsigned = false }, problem.ExitBundle, "--allow-unsigned"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForeign(t)
			c.change(t, f)
			res, err := f.run(t)
			text := fmt.Sprint(err) + "\n" + problem.Hint(err)
			if problem.ExitCode(err) != c.exit || !strings.Contains(text, c.want) {
				t.Errorf("exit %d, want %d: %s", problem.ExitCode(err), c.exit, text)
			}
			if writes := f.cluster.Writes(); res.Changed || len(writes) > 0 || f.pushes > 0 || len(f.ran) > 0 {
				t.Errorf("something was changed: %+v, %q, %d pushes, %v", res, writes, f.pushes, f.ran)
			}
		})
	}
}

// The target of the Application does not hold for a cluster that has a console.
func TestRunExisting_AsksTheClusterIfOnlyTheTargetRefuses(t *testing.T) {
	f := newForeign(t)
	f.opts.AppBundle, f.opts.License = "", ""
	req := exampleRequest(t)
	req.Application = []byte("apiVersion: kots.io/v1beta1\nkind: Application\nmetadata: {name: my-app}\nspec: {title: Toy, targetKotsVersion: 1.75.0}\n")
	f.opts.Bundle = airgaptest.WriteBundle(t, req)
	if _, err := f.run(t); problem.ExitCode(err) != problem.ExitGate {
		t.Errorf("without a console: %v", err)
	}
	f.putConsole("1.131.2", f.opts.Registry.Address)
	if _, err := f.run(t); err != nil {
		t.Errorf("with a console: %v", err)
	}
}

// What a pipe delivers is kept in the folder for temporary files.
func TestRunExisting_ReadsABundleFromAPipe(t *testing.T) {
	f := newForeign(t)
	file, pipe := f.opts.Bundle, filepath.Join(t.TempDir(), "pipe")
	testkit.Must(t, syscall.Mkfifo(pipe, 0o600))
	go func() {
		data, _ := os.ReadFile(file)
		_ = os.WriteFile(pipe, data, 0o600)
	}()
	f.opts.Bundle = pipe
	if res, err := f.run(t); err != nil || !res.Changed || f.pushes == 0 {
		t.Errorf("%v, %+v, %d pushes", err, res, f.pushes)
	}
}

func TestRemoteRegistryCheck_NamesARegistryThatIsAway(t *testing.T) {
	r, err := openRegistry(&action.Env{}, RegistryFlags{Address: "127.0.0.1:1/team"})
	testkit.Must(t, err)
	r.options.Note, r.options.Backoff = nil, time.Millisecond
	r.images = []push.Tagged{{To: "127.0.0.1:1/team/kotsadm:v1"}}
	if err := r.check(t.Context()); problem.ExitCode(err) != problem.ExitPreflight || !strings.Contains(err.Error(), "cannot use the registry 127.0.0.1:1/team: ") || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
}

func TestCredentialVariables_LeaveOutWhatChangesTheCLI(t *testing.T) {
	got := credentialVariables([]string{"HOME=/home/me", "AWS_PROFILE=a=b", "PATH=/bin", "KUBECONFIG=/x", "KOTS_NO_PROXY=1", "LD_PRELOAD=/x.so", "LC_ALL=de_DE"})
	if want := []string{"HOME=/home/me", "AWS_PROFILE=a=b"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// kubeconfig returns a kubeconfig for a server.
func kubeconfig(server string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}], clusters: [{name: c, cluster: {server: %q}}]}", server)
}
