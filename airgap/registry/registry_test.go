package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	inprocess "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/registry"
	"github.com/plinthdev/plinth/internal/problem"
)

const k0s, kots = "v1.33.8+k0s.1", "1.131.2"

// upstream is a registry and a release server in one process.
type upstream struct {
	*httptest.Server
	host string

	mu       sync.Mutex
	gets     map[string]int                                             // requests by path
	meddle   func(w http.ResponseWriter, r *http.Request, nth int) bool // true: answered
	handlers http.Handler
}

func newUpstream(t *testing.T) *upstream {
	u := &upstream{gets: map[string]int{}}
	mux := http.NewServeMux()
	mux.Handle("/v2/", inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0))))
	mux.HandleFunc("/k0s/"+k0s+"/k0s-"+k0s+"-amd64", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "the k0s program") })
	mux.HandleFunc("/k0s/"+k0s+"/sha256sums.txt", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%064d *k0s-%s-arm64\n%x *k0s-%s-amd64\n", 7, k0s, sha256.Sum256([]byte("the k0s program")), k0s)
	})
	mux.HandleFunc("/kots/v"+kots+"/kots_linux_amd64.tar.gz", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(archive(t)) })
	u.handlers = mux
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.Close)
	u.host = strings.TrimPrefix(u.URL, "http://")
	return u
}

func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.gets[r.Method+" "+r.URL.Path]++
	nth, meddle := u.gets[r.Method+" "+r.URL.Path], u.meddle
	u.mu.Unlock()
	if meddle == nil || !meddle(w, r, nth) {
		u.handlers.ServeHTTP(w, r)
	}
}

// archive is a release as KOTS publishes it: a few files, one of them the program.
func archive(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	for _, f := range []struct{ name, content string }{{"LICENSE", "some"}, {"kots", "the kots program"}, {"README.md", strings.Repeat("x", 70000)}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.content)), Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, f.content)
	}
	if err := errors.Join(w.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// push puts images into the registry and gives their references here.
func (u *upstream) push(t *testing.T) (refs []string) {
	t.Helper()
	for _, img := range airgaptest.Images() {
		_, rest, _ := strings.Cut(img.Ref, "/")
		refs = append(refs, u.host+"/"+rest)
		if err := remote.Write(u.ref(t, refs[len(refs)-1]), airgaptest.MakeImage(t, img)); err != nil {
			t.Fatal(err)
		}
	}
	return refs
}

func (u *upstream) ref(t *testing.T, text string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func (u *upstream) request(t *testing.T) registry.Request {
	releases := registry.Upstream()
	releases[0].Base, releases[1].Base = u.URL+"/k0s", u.URL+"/kots"
	releases[1].Sums = map[string]string{kots + "/amd64": fmt.Sprintf("%x", sha256.Sum256(archive(t)))}
	return registry.Request{Folder: t.TempDir(), Images: u.push(t), Releases: releases, Backoff: time.Millisecond,
		HostFiles: []build.HostFile{{Name: "k0s", Version: k0s}, {Name: "kots", Version: kots}}}
}

// bundle builds from what was fetched and reads it back.
func bundle(t *testing.T, req registry.Request) *airgap.Bundle {
	t.Helper()
	b, err := airgap.Open(t.Context(), airgaptest.Bundle(t, build.Request{Name: "my-app", Installer: []byte(airgaptest.Installer),
		Layout: req.Folder, Images: req.Images, HostFiles: req.HostFiles}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	if err := b.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatIsFetchedMakesABundleWithUpstreamDigests(t *testing.T) {
	u := newUpstream(t)
	req := u.request(t)
	var done, total int64
	req.Progress = func(d, n int64) { done, total = d, n }
	if err := registry.Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if done != total || total == 0 {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	b := bundle(t, req)
	for i, img := range b.Images() {
		want, _ := airgaptest.MakeImage(t, airgaptest.Images()[i]).Digest()
		if img.Ref != req.Images[i] || img.Manifest.Digest.String() != want.String() {
			t.Errorf("%s has the digest %s, upstream's is %s", img.Ref, img.Manifest.Digest, want)
		}
	}
	for name, want := range map[string]string{"k0s": "the k0s program", "kots": "the kots program"} {
		r, err := b.OpenHostFile(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v", name, got, err)
		}
	}
	if f := b.HostFiles()[0]; f.Version != k0s || f.Mode != 0o755 {
		t.Errorf("%+v", f)
	}
}

func TestASecondFetchTransfersNoBlobs(t *testing.T) {
	u := newUpstream(t)
	req := u.request(t)
	if err := registry.Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	u.mu.Lock()
	clear(u.gets)
	u.mu.Unlock()
	if err := registry.Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	for path, n := range u.gets {
		if !strings.Contains(path, "/manifests/") && !strings.HasSuffix(path, "/v2/") && n > 0 && !isConfig(t, u, path) {
			t.Errorf("%s was asked for again", path)
		}
	}
	bundle(t, req)
}

// isConfig tells the small blobs that are read to check an image's platform.
func isConfig(t *testing.T, u *upstream, path string) bool {
	for _, img := range airgaptest.Images() {
		if c, _ := airgaptest.MakeImage(t, img).ConfigName(); strings.HasSuffix(path, c.String()) {
			return true
		}
	}
	return false
}

func TestOfAMultiPlatformImageOnlyOursIsKept(t *testing.T) {
	u := newUpstream(t)
	req := u.request(t)
	ours := airgaptest.MakeImage(t, airgaptest.Image{Files: []string{"ours"}})
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: airgaptest.MakeImage(t, airgaptest.Image{Files: []string{"theirs"}}), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: ours, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	text := u.host + "/multi/arch:1"
	if err := remote.WriteIndex(u.ref(t, text), index); err != nil {
		t.Fatal(err)
	}
	req.Images = append(req.Images, text)
	if err := registry.Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	images := bundle(t, req).Images()
	if want, _ := ours.Digest(); images[len(images)-1].Manifest.Digest.String() != want.String() {
		t.Errorf("%+v", images[len(images)-1])
	}
}

func TestAnImageForAnotherPlatformOnlyIsRefused(t *testing.T) {
	u := newUpstream(t)
	req := u.request(t)
	req.Platform = "linux/arm64"
	req.HostFiles = nil
	err := registry.Fetch(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), "is for linux/amd64") {
		t.Errorf("%v", err)
	}
}

func TestTroubleOnTheWayIsRiddenOut(t *testing.T) {
	for name, meddle := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"busy": func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		},
		"limited": func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		},
		"hang up": func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) },
		"cut": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", "5000")
			_, _ = io.WriteString(w, "{")
			panic(http.ErrAbortHandler)
		},
		"altered": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") || strings.HasSuffix(r.URL.Path, "/v2/") || strings.HasSuffix(r.URL.Path, ".txt") {
				return false // a tag's manifest is whatever the registry says
			}
			_, _ = io.WriteString(w, "something else")
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t)
			req := u.request(t)
			clear(u.gets)
			u.meddle = func(w http.ResponseWriter, r *http.Request, nth int) bool {
				return nth == 1 && r.Method == http.MethodGet && meddle(w, r)
			}
			if err := registry.Fetch(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			bundle(t, req)
		})
	}
}

func TestWhatCannotBeHadIsNamedAllAtOnce(t *testing.T) {
	u := newUpstream(t)
	req := u.request(t)
	req.Images = append(req.Images, u.host+"/no/such:1", "not a reference")
	req.HostFiles = append(req.HostFiles, build.HostFile{Name: "k0s", Version: "v9"}, build.HostFile{Name: "helm", Version: "3"})
	err := registry.Fetch(t.Context(), req)
	if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
		t.Fatalf("%v", err)
	}
	for _, part := range []string{"/no/such:1: ", "not a reference", "k0s v9: ", "answers 404 Not Found", "helm: nobody says"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v\nlacks %q", err, part)
		}
	}
	if n := u.gets["GET /k0s/v9/sha256sums.txt"]; n != 1 {
		t.Errorf("a 404 was asked for %d times", n)
	}
	req.Images, req.HostFiles = req.Images[:3], req.HostFiles[:2]
	bundle(t, req) // the rest has arrived
}

func TestADownloadMustHaveItsChecksum(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*registry.Release)
		part   string
	}{
		"pinned otherwise": {func(r *registry.Release) { r.Sums = map[string]string{k0s + "/amd64": strings.Repeat("0", 64)} }, "expected is 000"},
		"none known":       {func(r *registry.Release) { r.SumsPath = "" }, "no checksum of it is known"},
		"not listed":       {func(r *registry.Release) { r.Path = "{version}/../{version}/sha256sums.txt" }, "does not list sha256sums.txt"},
		"list is not one":  {func(r *registry.Release) { r.SumsPath = r.Path }, "does not list"},
		"not an archive":   {func(r *registry.Release) { r.Member = "k0s" }, "gzip: invalid header"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t)
			req := u.request(t)
			req.Images = nil
			c.change(&req.Releases[0])
			err := registry.Fetch(t.Context(), req)
			if err == nil || !strings.Contains(err.Error(), c.part) || problem.ExitCode(err) != problem.ExitBundle {
				t.Errorf("want %q, got %v", c.part, err)
			}
			index, err := os.ReadFile(filepath.Join(req.Folder, "index.json"))
			if err != nil || bytes.Contains(index, []byte(k0s)) {
				t.Errorf("it was kept: %s (%v)", index, err)
			}
		})
	}
}

func TestAMemberThatIsNotInTheArchiveIsNamed(t *testing.T) {
	u := newUpstream(t)
	req := u.request(t)
	req.Images, req.Releases[1].Member = nil, "bin/kots"
	if err := registry.Fetch(t.Context(), req); err == nil || !strings.Contains(err.Error(), "there is no bin/kots in it") {
		t.Errorf("%v", err)
	}
}

// recorder sees what would go over the network; nothing does.
type recorder struct {
	mu   sync.Mutex
	urls []string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.urls = append(r.urls, req.URL.String())
	return nil, errors.New("no network here")
}

func TestPlainHTTPStaysOnThisMachine(t *testing.T) {
	net := &recorder{}
	err := registry.Fetch(t.Context(), registry.Request{
		Folder: t.TempDir(), Transport: net, Backoff: time.Millisecond,
		Images:    []string{"10.1.2.3:5000/a/b:1", "registry.local/a/b:1"}, // where the library would fall back to http
		HostFiles: []build.HostFile{{Name: "k0s", Version: k0s}},
		Releases:  []registry.Release{{Name: "k0s", Base: "http://192.0.2.1", Path: "k0s", Sums: map[string]string{k0s + "/amd64": "00"}}},
	})
	if err == nil || !strings.Contains(err.Error(), "plain http is refused") {
		t.Errorf("%v", err)
	}
	for _, url := range net.urls {
		if !strings.HasPrefix(url, "https://") {
			t.Errorf("asked for %s", url)
		}
	}
	if len(net.urls) == 0 {
		t.Error("nothing was asked for at all")
	}
}

func TestARedirectToPlainHTTPIsRefused(t *testing.T) {
	u := newUpstream(t)
	req := u.request(t)
	req.Images = nil
	u.meddle = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		http.Redirect(w, r, "http://192.0.2.1"+r.URL.Path, http.StatusFound)
		return true
	}
	if err := registry.Fetch(t.Context(), req); err == nil || !strings.Contains(err.Error(), "plain http is refused") {
		t.Errorf("%v", err)
	}
}

func TestACertificateOfNobodyKnownIsRefusedAtOnce(t *testing.T) {
	asked := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++ }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer server.Close()
	err := registry.Fetch(t.Context(), registry.Request{Folder: t.TempDir(), HostFiles: []build.HostFile{{Name: "k0s", Version: k0s}},
		Releases: []registry.Release{{Name: "k0s", Base: server.URL, Path: "k0s", SumsPath: "sums"}}})
	if err == nil || !strings.Contains(err.Error(), "certificate") || asked > 0 {
		t.Errorf("%v (asked %d times)", err, asked)
	}
}

func TestAnInterruptEndsTheWaiting(t *testing.T) {
	u := newUpstream(t)
	req := u.request(t)
	req.Backoff = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	u.meddle = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		cancel()
		return true
	}
	if err := registry.Fetch(ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
