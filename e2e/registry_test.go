//go:build e2e

package e2e

import (
	"archive/tar"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/e2e/lab"
)

// registryMirror is a registry with the bundle's content: the distribution executable
// of the registry add-on, run on this machine behind TLS.
type registryMirror struct {
	source string // oci://…
	mu     sync.Mutex
	blobs  []string // digests that were requested
}

// startMirror pushes the published release to a registry, as `crane push --index`
// does.
func startMirror(t *testing.T, ctx context.Context, s *website) *registryMirror {
	t.Helper()
	dir := filepath.Join(shipmentDir(), "registry")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	backend := serveRegistry(t, ctx, dir)

	repo, err := name.ParseReference(backend.Host + "/mirrored/my-app:1")
	if err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(filepath.Join(s.dir, "linux-amd64"))
	if err == nil {
		err = remote.WriteIndex(repo, index, remote.WithContext(ctx))
	}
	if err != nil {
		t.Fatal(err)
	}

	host := strings.TrimPrefix(s.url, "https://")
	listener, err := net.Listen("tcp", host[:strings.LastIndex(host, ":")]+":0")
	if err != nil {
		t.Fatal(err)
	}
	m := &registryMirror{source: "oci://" + listener.Addr().String() + "/mirrored/my-app"}
	proxy := httputil.NewSingleHostReverseProxy(backend)
	server := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.certificate}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, digest, ok := strings.Cut(r.URL.Path, "/blobs/"); ok {
				m.mu.Lock()
				m.blobs = append(m.blobs, digest)
				m.mu.Unlock()
			}
			proxy.ServeHTTP(w, r)
		})}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
	return m
}

// serveRegistry runs the bundle's own distribution on the loopback interface.
func serveRegistry(t *testing.T, ctx context.Context, dir string) *url.URL {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := &url.URL{Scheme: "http", Host: free.Addr().String()}
	config := fmt.Sprintf("version: 0.1\nlog: {accesslog: {disabled: true}, level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", dir, at.Host)
	program, file := filepath.Join(dir, "distribution"), filepath.Join(dir, "config.yml")
	err = errors.Join(free.Close(), extractFromImage(ctx, "docker.io/distribution/distribution:", "usr/bin/registry", program), os.WriteFile(file, []byte(config), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := exec.CommandContext(ctx, program, "serve", file)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(cmd.Process.Kill(), cmd.Wait()) })
	for range 100 {
		if resp, err := http.Get(at.String() + "/v2/"); err == nil {
			_ = resp.Body.Close()
			return at
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("distribution does not answer: " + lastLines(said.String(), 5))
	return nil
}

// extractFromImage extracts one file of the bundle's image whose reference begins
// with ref.
func extractFromImage(ctx context.Context, ref, path, to string) error {
	b, err := airgap.Open(ctx, os.Getenv("PLINTH_E2E_BUNDLE"))
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	images := b.Images()
	i := slices.IndexFunc(images, func(img airgap.Image) bool { return strings.HasPrefix(img.Ref, ref) })
	if i < 0 {
		return errors.New("the bundle has no " + ref)
	}
	for _, l := range images[i].Layers {
		packed, err := b.Open(ctx, l)
		if err != nil {
			return err
		}
		plain, err := blob.Unpack(packed, l.MediaType)
		if err != nil {
			return err
		}
		for in := tar.NewReader(plain); ; {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if h.Name == path {
				out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o700)
				if err != nil {
					return err
				}
				_, err = io.Copy(out, in)
				return errors.Join(err, out.Close())
			}
		}
	}
	return errors.New(ref + " has no " + path)
}

// checkLostImageFromRegistry removes one image. An install from a thin bundle must
// download it from a registry, and nothing else.
func checkLostImageFromRegistry(t *testing.T, ctx context.Context, h *lab.Host, s *website) {
	m := startMirror(t, ctx, s)
	h.Copy(filepath.Join(s.dir, "linux-amd64", "thin.bundle"), "/srv/thin.bundle")
	const lost = "docker.io/kotsadm/kotsadm-migrations:v1.131.2"
	h.MustRun(ctx, "k0s", "ctr", "-n", "k8s.io", "images", "rm", "--sync", lost)
	stdout, stderr, code := h.Run(ctx, "env", "SSL_CERT_FILE="+s.hostRoots, "plinth", "-o", "json", "install", "--bundle", "/srv/thin.bundle", "--source", m.source, "--yes")
	if code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, lastLines(stdout, 20), lastLines(stderr, 20))
	}
	h.MustRun(ctx, "sh", "-c", "k0s ctr -n k8s.io images ls -q | grep -Fx "+lost)
	if len(m.blobs) != 1 { // its one layer of its own; manifest and config are in the thin bundle
		t.Errorf("requested %v", m.blobs)
	}
	h.MustRun(ctx, "rm", "/srv/thin.bundle")
}
