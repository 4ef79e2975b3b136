//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/e2e/lab"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/problem"
)

// website is a static web server with the output of `plinth publish`. It cuts every
// first large response and can be made to fail.
type website struct {
	url, hostRoots string                      // roots is the file on the host with the server's certificate
	localRoots     string                      // the same file on this machine
	failingPaths   map[string]http.HandlerFunc // folders with the same content but failing blobs, by name
	dir            string                      // folder that is served
	certificate    tls.Certificate
	mu             sync.Mutex
	requested      map[string]bool
	blobs          int // answered requests for blobs
	resumed        int // of these, the ones with a Range header
	override       http.HandlerFunc
}

const cutThreshold = 30 << 20

func (s *website) serveFile(w http.ResponseWriter, r *http.Request, files http.Handler) {
	for side, answer := range s.failingPaths {
		if rest, ok := strings.CutPrefix(r.URL.Path, "/"+side); ok && strings.Contains(rest, "/blobs/") {
			answer(w, r)
			return
		} else if ok {
			r.URL.Path = rest
		}
	}
	s.mu.Lock()
	meddle := s.override
	blob := strings.Contains(r.URL.Path, "/blobs/")
	first := !s.requested[r.URL.Path]
	s.requested[r.URL.Path] = true
	if blob {
		s.blobs++
		if r.Header.Get("Range") != "" {
			s.resumed++
		}
	}
	s.mu.Unlock()
	if blob && meddle != nil {
		meddle(w, r)
		return
	}
	if st, err := os.Stat(filepath.Join(s.dir, filepath.FromSlash(r.URL.Path))); err == nil && st.Size() > cutThreshold && first {
		w = &cuttingWriter{w, st.Size() / 2}
	}
	files.ServeHTTP(w, r)
}

// cuttingWriter breaks the connection after a number of bytes.
type cuttingWriter struct {
	http.ResponseWriter
	left int64
}

func (c *cuttingWriter) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(p)
}

func (s *website) setOverride(how http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.override, s.blobs, s.resumed = how, 0, 0
	maps.DeleteFunc(s.requested, func(path string, _ bool) bool { return strings.Contains(path, "/blobs/") })
}

func (s *website) requestCounts() (blobs, resumed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs, s.resumed
}

// publishBundle publishes a bundle that the vendor signed and serves it on the lab's
// bridge over TLS, with a certificate that the host trusts.
func publishBundle(t *testing.T, h *lab.Host, bundle string) *website {
	t.Helper()
	d, err := prepareShipment()
	if err != nil {
		t.Fatal(err)
	}
	ip := machineAddress(h)
	listener, err := net.Listen("tcp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := pki.NewSelfSigned([]string{ip}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(shipmentDir(), "public")
	if err != nil {
		t.Fatal(err)
	}
	s := &website{url: "https://" + listener.Addr().String(), hostRoots: "/srv/roots.pem", dir: dir, certificate: certificate, requested: map[string]bool{}}
	if err := runLocal(requireEnv(t, "PLINTH_E2E_BINARY"), "publish", "--bundle", bundle, "--sign-key", privateKey(d), "--url", s.url, dir); err != nil {
		t.Fatal(err)
	}
	files := http.FileServer(http.Dir(dir))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveFile(w, r, files) }),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = errors.Join(server.Close(), os.RemoveAll(dir)) })
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pair.Cert, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Copy(roots, s.hostRoots)
	s.localRoots = roots
	s.failingPaths = map[string]http.HandlerFunc{
		"broken": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"stalls": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	}
	return s
}

// startRefusedInstall starts an install on the host from the failing folder that has
// the host's name. The install fails only after all attempts, up to three minutes
// later, so call judge, which checks the result, at the end of the test.
func (s *website) startRefusedInstall(t *testing.T, ctx context.Context, h *lab.Host, says string) (judge func()) {
	t.Helper()
	h.Copy(s.localRoots, s.hostRoots)
	h.MustRun(ctx, "mkdir", "-p", "/var/log/plinth")
	fresh := h.Baseline(ctx)
	p := h.Start(ctx, lab.Cmd{Args: s.commandLine("--yes -o json --source " + s.url + "/" + h.Name + "/linux-amd64")})
	return func() {
		stdout, stderr, code := p.Wait()
		if r := parseReply(t, stdout); code != 6 || !strings.Contains(r.Error.Cause, says) || !strings.Contains(r.Error.Cause, s.url) || r.Error.Hint == "" {
			t.Errorf("exit %d: %+v\n%s", code, r.Error, lastLines(stderr, 40))
		}
		checkUnchanged(t, fresh, h.Baseline(ctx))
	}
}

// commandLine returns the command line of the README with additional flags.
func (s *website) commandLine(flags string) []string {
	return []string{"bash", "-c", fmt.Sprintf("set -o pipefail; export SSL_CERT_FILE=%s; curl -fsSL %s/install.sh | bash -s -- %s", s.hostRoots, s.url, flags)}
}

// runCurl runs the command line with additional flags.
func (s *website) runCurl(t *testing.T, ctx context.Context, h *lab.Host, code int, flags string) reply {
	t.Helper()
	start := time.Now()
	stdout, stderr, got := h.Run(ctx, s.commandLine(flags)...)
	t.Logf("curl | bash: exit %d in %.1fs", got, time.Since(start).Seconds())
	if got != code {
		t.Fatalf("exit %d, want %d\n%s\n%s", got, code, lastLines(stdout, 40), lastLines(stderr, 40))
	}
	return parseReply(t, stdout)
}

// TestInstall_FromCurlPipedToBash tests the second way to install: a host that reaches
// only a web server, over connections that break.
func TestInstall_FromCurlPipedToBash(t *testing.T) {
	runParallel(t)
	ctx := timeoutContext(t, 15)
	h := lab.Up(t, "curl")
	_, shipped := shippedFiles(t)
	s := publishBundle(t, h, shipped)
	h.MustRun(ctx, "mkdir", "-p", "/var/log/plinth")
	one, other := lab.Up(t, "broken"), lab.Up(t, "stalls") // before any baseline: each host knows the others' names
	broken := s.startRefusedInstall(t, ctx, one, "answers 500 Internal Server Error (after 5 attempts)")
	stalls := s.startRefusedInstall(t, ctx, other, "stalls: almost no data arrived in 30s (after 5 attempts)")
	fresh := h.Baseline(ctx)

	t.Run("errors of the server and a full disk leave the host unchanged", func(t *testing.T) {
		for name, c := range map[string]struct {
			answer http.HandlerFunc
			says   string
		}{
			"404":  {http.NotFound, "404 Not Found"},
			"HTML": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>log in</html>") }, "answers with an HTML page"},
			"a wrong range": {func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Range", "bytes 0-1/2")
				w.WriteHeader(http.StatusPartialContent)
			}, "206"},
		} {
			t.Run(name, func(t *testing.T) {
				s.setOverride(c.answer)
				if r := s.runCurl(t, ctx, h.ForTest(t), 6, "--yes -o json"); !strings.Contains(r.Error.Cause, c.says) || !strings.Contains(r.Error.Cause, s.url) {
					t.Errorf("%+v", r.Error)
				}
			})
		}
		s.setOverride(nil)
		h := h.ForTest(t)
		h.MustRun(ctx, "mount", "-t", "tmpfs", "-o", "size=8m", "none", "/var/cache")
		defer h.Run(ctx, "umount", "/var/cache")
		if r := s.runCurl(t, ctx, h, 6, "--yes -o json --ignore-host-preflight disk-space"); !strings.Contains(r.Error.Cause, "no space left") || !strings.Contains(r.Error.Hint, "space in /var/cache/plinth") {
			t.Errorf("a disk that fills: %+v", r.Error)
		}
		h.MustRun(ctx, "sh", "-c", "ls -A /var/cache | grep . && exit 1; umount /var/cache")
		checkUnchanged(t, fresh, h.Baseline(ctx))
	})

	s.setOverride(nil)
	if !t.Run("an install resumes downloads after cut connections", func(t *testing.T) {
		r := s.runCurl(t, ctx, h.ForTest(t), 0, "--yes -o json")
		if !r.Result.Changed || r.Result.ConsoleURL != "https://"+h.IP()+":8800" || r.Result.Password == "" {
			t.Errorf("answer: %+v", r.Result)
		}
		checkImportProgress(t, r.Events)
		if blobs, resumed := s.requestCounts(); resumed == 0 {
			t.Errorf("none of %d requests for blobs resumed a download", blobs)
		}
		left := h.MustRun(ctx, "sh", "-c", "ls -d /usr/local/bin/plinth.* /tmp/tmp.* /var/cache/plinth 2>/dev/null || true; /usr/local/bin/plinth version >/dev/null")
		if left != "" {
			t.Errorf("leftover files: %s", left)
		}
		// containerd creates this folder for the first blob that is written through its API.
		if _, _, code := h.Run(ctx, "test", "-e", "/var/lib/k0s/containerd/io.containerd.content.v1.content/ingest"); code == 0 {
			t.Error("blobs were written through containerd's API and not placed in its store")
		}
	}) {
		t.FailNow()
	}
	t.Run("after a power cut the same command downloads and imports nothing", func(t *testing.T) {
		h := h.ForTest(t)
		h.CutPower()
		h.Boot()
		h.MustRun(ctx, "timeout", "90", "bash", "-c", "until k0s ctr version >/dev/null 2>&1; do sleep 0.5; done")
		s.setOverride(nil)
		r := s.runCurl(t, ctx, h, 0, "--yes -o json")
		if got := r.importedImages(); got != nil {
			t.Errorf("imported again: %v", got)
		}
		if blobs, _ := s.requestCounts(); blobs != 0 {
			t.Errorf("%d blobs were downloaded again", blobs)
		}
	})
	t.Run("only a lost image is downloaded from a registry", func(t *testing.T) { checkLostImageFromRegistry(t, ctx, h.ForTest(t), s) })
	t.Run("the commands of the README work as printed, and its uninstall removes everything", func(t *testing.T) {
		h := h.ForTest(t)
		checkReadmeCommands(t, ctx, h)
		checkUnchanged(t, fresh, h.Baseline(ctx))
	})
	broken()
	stalls()
}

// checkImportProgress verifies that the bytes in the progress of an import only grow
// and do not exceed the total.
func checkImportProgress(t *testing.T, events []event) {
	last := map[string]event{}
	for _, e := range events {
		if !strings.HasPrefix(e.Step, "images-") || e.State != "progress" || e.Total == 0 {
			continue
		}
		if l := last[e.Step]; e.Bytes < l.Bytes || l.Total > 0 && l.Total != e.Total {
			t.Errorf("progress goes from %+v to %+v", l, e)
		}
		last[e.Step] = e
	}
	for _, step := range []string{"images-boot", "images-rest"} {
		if e := last[step]; e.Total < 1e6 || e.Bytes == 0 || e.Bytes > e.Total {
			t.Errorf("the last progress of %s is %+v", step, e)
		}
	}
}

// flippedByte is a file with one bit of one byte changed.
type flippedByte struct {
	io.ReaderAt
	at int64
}

func (o flippedByte) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.ReaderAt.ReadAt(p, off)
	if i := o.at - off; i >= 0 && i < int64(n) {
		p[i] ^= 1 << (o.at % 8)
	}
	return n, err
}

// TestOpenAt_DetectsDamagedBundle changes random bytes of the demo's bundle and
// truncates it. Only the blob with the changed byte is read: an install reads all.
func TestOpenAt_DetectsDamagedBundle(t *testing.T) {
	ctx := timeoutContext(t, 10)
	_, path := shippedFiles(t)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	table, err := format.Scan(file, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	const seed = 20
	random := rand.New(rand.NewPCG(seed, seed))
	for range 200 {
		at := random.Int64N(st.Size())
		b, err := airgap.OpenAt(ctx, flippedByte{file, at}, st.Size(), path)
		if err == nil {
			err = readBlobAt(ctx, b, table, at)
		}
		if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	for _, size := range []int64{1, st.Size() / 2, st.Size() - 1} {
		if _, err := airgap.OpenAt(ctx, file, size, path); problem.ExitCode(err) != problem.ExitBundle {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
}

// readBlobAt reads the blob that contains the byte at this offset.
func readBlobAt(ctx context.Context, b *airgap.Bundle, table format.Table, at int64) error {
	for _, it := range b.Items() {
		for _, d := range it.Blobs() {
			if s := table.Blobs[d.Digest]; at >= s.Off && at < s.Off+s.Size {
				r, err := b.Open(ctx, d)
				if err != nil {
					return err
				}
				_, err = io.CopyBuffer(io.Discard, r, make([]byte, 1<<20))
				return errors.Join(err, r.Close())
			}
		}
	}
	return nil
}
