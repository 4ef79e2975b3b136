//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/e2e/testapp"
)

// proxyPassword is the password of the proxy, which must be in no log and no command line.
const proxyPassword = "hunter2x9q"

// outgoingProxy is a tinyproxy on this machine that asks for a password.
type outgoingProxy struct {
	url string // with user and password
	log string // path of its log
}

// startProxy starts a proxy at the machine's address for the hosts of the lab, and makes it the only way out for h.
func startProxy(t *testing.T, ctx context.Context, h *lab.Host) outgoingProxy {
	t.Helper()
	ip := machineAddress(h)
	free, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	dir := t.TempDir()
	p := outgoingProxy{url: "http://plinth:" + proxyPassword + "@" + ip + ":" + port, log: filepath.Join(dir, "log")}
	config := fmt.Sprintf("Listen %s\nPort %s\nTimeout 600\nMaxClients 100\nLogLevel Connect\nBasicAuth plinth %s\n", ip, port, proxyPassword)
	out, logErr := os.Create(p.log)
	if err := errors.Join(logErr, free.Close(), os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "tinyproxy", "-d", "-c", filepath.Join(dir, "config"))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(cmd.Process.Kill(), cmd.Wait(), out.Close()) })
	h.MustRun(ctx, "iptables", "-I", "OUTPUT", "-p", "tcp", "-d", ip, "!", "--dport", port, "-j", "REJECT", "--reject-with", "tcp-reset")
	return p
}

// connections returns the lines of the proxy's log that contain what.
func (p outgoingProxy) connections(t *testing.T, what string) (lines []string) {
	t.Helper()
	raw, err := os.ReadFile(p.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, what) {
			lines = append(lines, line)
		}
	}
	return lines
}

// servePrivateImage serves the image of the test application in a registry with the certificate of s, and returns its
// reference.
func servePrivateImage(t *testing.T, ctx context.Context, h *lab.Host, s *website) string {
	t.Helper()
	dir := t.TempDir()
	backend := serveRegistry(t, ctx, dir)
	to, refErr := name.ParseReference(backend.Host + "/private/hello:1")
	image, err := testapp.LoadImage(requireEnv(t, "PLINTH_E2E_PAYLOAD"), "docker.io/library/nginx:1.22.1")
	if err = errors.Join(refErr, err); err == nil {
		err = remote.Write(to, image, remote.WithContext(ctx))
	}
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", machineAddress(h)+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: httputil.NewSingleHostReverseProxy(backend), TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.certificate}}}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String() + "/private/hello:1"
}

// TestInstall_ThroughAProxy installs on a host whose only way out is a proxy with a password, where all servers have
// certificates of a private authority: the vendor's web server, and a registry from which a pod gets its image.
func TestInstall_ThroughAProxy(t *testing.T) {
	if testing.Short() {
		t.Skip("make test-long")
	}
	runParallel(t)
	ctx := timeoutContext(t, 25)
	h, second := lab.Up(t, "proxied"), lab.Up(t, "second")
	proxy := startProxy(t, ctx, h)
	program, shipped := shippedFiles(t)
	for _, host := range []*lab.Host{h, second} {
		host.Copy(program, binary)
	}
	private := publishBundle(t, h, shipped) // for its certificate, which the Installer names
	roots, err := os.ReadFile(private.localRoots)
	if err != nil {
		t.Fatal(err)
	}
	settings := fmt.Sprintf("spec:\n  proxy: {httpProxy: %q, httpsProxy: %q}\n  additionalTrustedCAs: [%q]\n", proxy.url, proxy.url, roots)
	s := publishBundle(t, h, buildVariant(t, requireEnv(t, "PLINTH_E2E_PAYLOAD"), 2, "spec:\n", settings))
	settle := s.commandLine("--yes -o json")
	settle[2] = "export https_proxy=" + proxy.url + "; " + settle[2]
	if _, stderr, code := h.Run(ctx, s.commandLine("--yes")...); code == 0 {
		t.Fatalf("the host has a way out beside the proxy: %s", stderr)
	}
	stdout, stderr, code := h.Run(ctx, settle...)
	if code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, lastLines(stdout, 20), lastLines(stderr, 20))
	}
	if len(proxy.connections(t, "CONNECT "+strings.TrimPrefix(s.url, "https://"))) == 0 {
		t.Error("the bundle did not come through the proxy")
	}

	t.Run("a pod gets its image through the proxy, from a registry of the private authority", func(t *testing.T) {
		h := h.ForTest(t)
		image := servePrivateImage(t, ctx, h, private)
		h.MustRun(ctx, "plinth", "kubectl", "run", "private", "--image", image)
		h.MustRun(ctx, "plinth", "kubectl", "wait", "--for=condition=Ready", "pod/private", "--timeout=3m")
		registry, _, _ := strings.Cut(image, "/")
		if len(proxy.connections(t, "CONNECT "+registry)) == 0 {
			t.Error("the image did not come through the proxy")
		}
		h.MustRun(ctx, "plinth", "kubectl", "delete", "pod", "private", "--now")
	})
	t.Run("the console trusts the authority", func(t *testing.T) {
		got := h.ForTest(t).MustRun(ctx, "plinth", "kubectl", "exec", "-n", "kotsadm", "kotsadm-0", "-c", "kotsadm", "--", "sh", "-c", "echo $SSL_CERT_DIR; cat /certs/*")
		if !strings.HasPrefix(got, "/certs\n") || !strings.Contains(got, strings.TrimSpace(string(roots))) {
			t.Errorf("got %s", got)
		}
	})
	t.Run("the password of the proxy is in one file only", func(t *testing.T) {
		h := h.ForTest(t)
		found := h.MustRun(ctx, "bash", "-c", "grep -rlF "+proxyPassword+" /etc /var/log /run/systemd /usr/local 2>/dev/null || true; stat -c %a /etc/k0s/plinth.env")
		if found != "/etc/k0s/plinth.env\n600" {
			t.Errorf("it is in %s", found)
		}
		for _, where := range []string{"journalctl --no-pager", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"} {
			if out := h.MustRun(ctx, "bash", "-c", "("+where+") 2>/dev/null | grep -v grep | grep -cF "+proxyPassword+"; true"); strings.TrimSpace(out) != "0" {
				t.Errorf("%s has it in %s lines", where, out)
			}
		}
	})
	t.Run("a second controller joins past the proxy", func(t *testing.T) {
		h := h.ForTest(t)
		second := second.ForTest(t)
		joinHost(t, ctx, second, 0, createToken(t, ctx, h, "--role", "controller").Result.Token)
		h.MustRun(ctx, "plinth", "kubectl", "wait", "--for=condition=Ready", "node/second", "--timeout=3m")
		// The API server gets logs from kubelet, and etcd talks to its peer.
		h.MustRun(ctx, "plinth", "kubectl", "get", "--raw", "/api/v1/nodes/second/proxy/healthz")
		for _, host := range []*lab.Host{h, second} {
			if lines := proxy.connections(t, "CONNECT "+host.IP()); len(lines) > 0 {
				t.Errorf("connections between nodes go through the proxy: %v", lines)
			}
		}
	})
	t.Run("an upgrade without the authority takes it from the console", func(t *testing.T) {
		h := h.ForTest(t)
		next := buildVariant(t, requireEnv(t, "PLINTH_E2E_PAYLOAD"), 3, "spec:\n", fmt.Sprintf("spec:\n  proxy: {httpProxy: %q, httpsProxy: %q}\n", proxy.url, proxy.url))
		h.Copy(next, "/srv/next.bundle")
		start := time.Now()
		runPlinth(t, ctx, h, 0, "upgrade", "--bundle", "/srv/next.bundle", "--yes")
		t.Logf("upgrade: %.1fs", time.Since(start).Seconds())
		if out := h.MustRun(ctx, "bash", "-c", "plinth kubectl get statefulset kotsadm -n kotsadm -o yaml | grep -c private-cas; plinth kubectl get configmap -n kotsadm -o name | grep -c private-cas; ls /etc/k0s/trusted-cas"); out != "0\n0" {
			t.Errorf("it is left in %s", out)
		}
	})
}
