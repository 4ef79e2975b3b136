//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/testapp"
	"github.com/plinthdev/plinth/internal/pki"
)

// userDir is the folder of the user who installs in the existing cluster; it has the kubeconfig, the password of the
// registry and its certificate.
const userDir = "/srv/user"

// TestExistingCluster_InstallsConsoleAndApplication installs the console and an application in a cluster that Plinth did not
// create, as a user without root, with a registry that has TLS and a login. A refusal of the gate changes neither the cluster
// nor the registry.
func TestExistingCluster_InstallsConsoleAndApplication(t *testing.T) {
	if testing.Short() {
		t.Skip("it installs a cluster of its own")
	}
	runParallel(t)
	ctx := timeoutContext(t, 40)
	h := startHostWithPlinth(t, "existing")
	r := startPrivateRegistry(t, ctx, h)
	startClusterOfOthers(t, ctx, h, r)
	license := copyLicense(t, h)
	good := copyAppBundle(t, ctx, h, testapp.Release{VersionLabel: "1.0.0", Cursor: 1, TargetKOTS: "1.131.2"})
	older := copyAppBundle(t, ctx, h, testapp.Release{VersionLabel: "0.9.0", Cursor: 1, TargetKOTS: "1.75.0"})
	h.MustRun(ctx, "chmod", "a+rx", binary)
	h.MustRun(ctx, "chmod", "a+r", bundle, license, good, older)
	install := func(code int, args ...string) reply {
		t.Helper()
		return runAsUser(t, ctx, h, code, append([]string{"install", "--existing-cluster", "--kubeconfig", userDir + "/kubeconfig", "--bundle", bundle,
			"--registry", r.host + "/team/my-app", "--registry-username", registryUser, "--registry-password-file", userDir + "/password", "--registry-ca", userDir + "/ca.pem"}, args...)...)
	}
	app := []string{"--license", license, "--app-bundle", good}

	t.Run("the gate is asked first", func(t *testing.T) {
		refused := install(4, "--yes", "--license", license, "--app-bundle", older)
		if !strings.Contains(refused.Error.Cause, "requires a different version of KOTS") || r.requests.Load() > 0 {
			t.Errorf("%+v; the registry got %d requests", refused.Error, r.requests.Load())
		}
		if out, _, code := h.Run(ctx, "k0s", "kubectl", "get", "namespace", "kotsadm"); code == 0 {
			t.Error("the refused install has changed the cluster: " + out)
		}
	})
	t.Run("a plan changes nothing", func(t *testing.T) {
		if plan := install(0, append(app, "--plan")...).Result; plan.Changed || len(plan.Plan) != 5 || r.writes.Load() > 0 {
			t.Errorf("%+v; the registry got %d writes", plan, r.writes.Load())
		}
	})
	t.Run("a wrong password of the registry", func(t *testing.T) {
		refused := runAsUser(t, ctx, h, 5, "install", "--existing-cluster", "--kubeconfig", userDir+"/kubeconfig", "--bundle", bundle, "--yes",
			"--registry", r.host, "--registry-username", registryUser, "--registry-password-file", userDir+"/kubeconfig-name", "--registry-ca", userDir+"/ca.pem")
		if !strings.Contains(refused.Error.Hint, "--registry-password-file") {
			t.Errorf("%+v", refused.Error)
		}
	})
	first := install(0, append(app, "--yes")...).Result
	if !first.Changed || first.Password == "" {
		t.Fatalf("%+v", first)
	}
	t.Run("everything comes from the registry", func(t *testing.T) {
		out := h.MustRun(ctx, "k0s", "kubectl", "get", "pods", "-n", "kotsadm", "-o", `jsonpath={range .items[*]}{.metadata.name}{" "}{.status.phase}{" "}{.spec.containers[*].image}{"\n"}{end}`)
		for _, pod := range []string{"kotsadm-0 Running ", "kotsadm-rqlite-0 Running ", "hello-"} {
			if !strings.Contains(out, pod) {
				t.Errorf("no pod %s:\n%s", pod, out)
			}
		}
		if strings.Count(out, r.host+"/team/my-app/") != strings.Count(strings.TrimSpace(out), "\n")+1 {
			t.Errorf("images of another registry:\n%s", out)
		}
	})
	t.Run("the console answers and knows the password", func(t *testing.T) {
		const login = `k0s kubectl port-forward -n kotsadm service/kotsadm 8800:3000 >/dev/null & trap 'kill %1' EXIT
for i in $(seq 100); do curl -sf http://localhost:8800/healthz && break; sleep 0.2; done
curl -s -o /dev/null -w ' login %{http_code}' -H 'Content-Type: application/json' -d "{\"password\":\"$1\"}" http://localhost:8800/api/v1/login`
		if out := h.MustRun(ctx, "bash", "-c", login, "login", first.Password); !strings.Contains(out, `"v1.131.2"`) || !strings.HasSuffix(out, " login 200") {
			t.Error(out)
		}
	})
	t.Run("again it changes nothing", func(t *testing.T) {
		writes := r.writes.Load()
		if again := install(0, append(app, "--yes")...).Result; again.Changed || again.Password != "" || r.writes.Load() != writes {
			t.Errorf("%+v; the registry got %d writes", again, r.writes.Load()-writes)
		}
	})
	t.Run("nothing stays on the host", func(t *testing.T) {
		if out := h.MustRun(ctx, "bash", "-c", "ls -d /var/lib/plinth /etc/plinth* /var/log/plinth /var/cache/plinth /usr/local/bin/kubectl-kots /run/plinth* "+userDir+"/tmp/* 2>/dev/null; true"); out != "" {
			t.Error("left: " + out)
		}
	})
}

// runAsUser runs a command of plinth with -o json as a user without root, which must exit with code.
func runAsUser(t *testing.T, ctx context.Context, h *lab.Host, code int, args ...string) reply {
	t.Helper()
	start := time.Now()
	as := []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=" + userDir, "TMPDIR=" + userDir + "/tmp", binary, "-o", "json"}
	stdout, stderr, got := h.Run(ctx, append(as, args...)...)
	t.Logf("plinth %s: exit %d in %.1fs", strings.Join(args, " "), got, time.Since(start).Seconds())
	if got != code {
		t.Fatalf("plinth %s: exit %d, want %d\n%s\n%s", strings.Join(args, " "), got, code, lastLines(stdout, 40), lastLines(stderr, 40))
	}
	return parseReply(t, stdout)
}

// volumes are the default StorageClass and two volumes of it on the host: the cluster has no provisioner.
const volumes = `{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: manual, annotations: {storageclass.kubernetes.io/is-default-class: "true"}},
  provisioner: kubernetes.io/no-provisioner, volumeBindingMode: WaitForFirstConsumer}
---
{apiVersion: v1, kind: PersistentVolume, metadata: {name: small}, spec: {storageClassName: manual, capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /srv/volumes/small}}}
---
{apiVersion: v1, kind: PersistentVolume, metadata: {name: large}, spec: {storageClassName: manual, capacity: {storage: 4Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /srv/volumes/large}}}
`

// startClusterOfOthers makes h a bare k0s node that trusts the registry r, with volumes, and gives the user a kubeconfig.
func startClusterOfOthers(t *testing.T, ctx context.Context, h *lab.Host, r *privateRegistry) {
	t.Helper()
	prepareBareK0s(t, ctx, h)
	h.MustRun(ctx, "mkdir", "-p", "/etc/k0s/containerd.d", "/etc/k0s/certs.d/"+r.host, "/srv/volumes/small", "/srv/volumes/large", userDir+"/tmp")
	h.MustRun(ctx, "chmod", "0777", "/srv/volumes/small", "/srv/volumes/large")
	h.Copy(r.ca, userDir+"/ca.pem")
	write := func(path, content string) {
		t.Helper()
		local := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(local, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		h.Copy(local, path)
	}
	write("/etc/k0s/containerd.d/registry.toml", "[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/k0s/certs.d\"\n")
	write("/etc/k0s/certs.d/"+r.host+"/hosts.toml", "server = \"https://"+r.host+"\"\n[host.\"https://"+r.host+"\"]\nca = \""+userDir+"/ca.pem\"\n")
	write("/srv/volumes.yaml", volumes)
	write(userDir+"/password", registryPassword+"\n")
	write(userDir+"/kubeconfig-name", "not the password\n")
	start := time.Now()
	h.MustRun(ctx, "k0s", "start")
	waitUntil(t, ctx, h, start, `k0s kubectl get node --no-headers | grep -qw Ready`)
	waitUntil(t, ctx, h, start, `test $(k0s kubectl get pods -n kube-system --no-headers | wc -l) -ge 4 && ! k0s kubectl get pods -n kube-system --no-headers | grep -v '1/1 *Running'`)
	h.MustRun(ctx, "k0s", "kubectl", "apply", "-f", "/srv/volumes.yaml")
	h.MustRun(ctx, "bash", "-c", "k0s kubeconfig admin >"+userDir+"/kubeconfig && chown -R 65534:65534 "+userDir+" && chmod 0600 "+userDir+"/kubeconfig "+userDir+"/password")
}

// The login of the private registry.
const (
	registryUser     = "user"
	registryPassword = "a password with spaces"
)

// privateRegistry is a registry with TLS and a login outside of the cluster.
type privateRegistry struct {
	host, ca         string       // host and port; file on this machine with its certificate
	requests, writes atomic.Int64 // that it got since its start
}

// startPrivateRegistry runs the distribution of the bundle on this machine, at an address that h reaches.
func startPrivateRegistry(t *testing.T, ctx context.Context, h *lab.Host) *privateRegistry {
	t.Helper()
	dir := filepath.Join(shipmentDir(), "private-registry")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	backend := serveRegistry(t, ctx, dir)
	ip := machineAddress(h)
	pair, err := pki.NewSelfSigned([]string{ip}, time.Now())
	listener, errListen := net.Listen("tcp", ip+":0")
	certificate, errPair := tls.X509KeyPair(pair.Cert, pair.Key)
	r := &privateRegistry{ca: filepath.Join(t.TempDir(), "ca.pem")}
	if err := errors.Join(err, errListen, errPair, os.WriteFile(r.ca, pair.Cert, 0o600)); err != nil {
		t.Fatal(err)
	}
	r.host = listener.Addr().String()
	proxy := httputil.NewSingleHostReverseProxy(backend)
	server := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		if user, password, _ := req.BasicAuth(); user != registryUser || password != registryPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			r.writes.Add(1)
		}
		req.Header.Set("X-Forwarded-Proto", "https") // for the addresses in its answers
		proxy.ServeHTTP(w, req)
	})}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	return r
}
