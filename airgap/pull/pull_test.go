package pull_test

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
	"net"
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
	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/problem"
)

const k0s, kots = "v1.33.8+k0s.1", "1.131.2"

// fakeUpstream is a registry and a release server in one process.
type fakeUpstream struct {
	*httptest.Server
	host string

	mu        sync.Mutex
	gets      map[string]int                                             // requests by path
	intercept func(w http.ResponseWriter, r *http.Request, nth int) bool // reports whether it has answered
	handlers  http.Handler
}

func newUpstream(t *testing.T) *fakeUpstream {
	u := &fakeUpstream{gets: map[string]int{}}
	mux := http.NewServeMux()
	mux.Handle("/v2/", inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0))))
	mux.HandleFunc("/k0s/"+k0s+"/k0s-"+k0s+"-amd64", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "the k0s program") })
	mux.HandleFunc("/k0s/"+k0s+"/sha256sums.txt", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%064d *k0s-%s-arm64\n%x *k0s-%s-amd64\n", 7, k0s, sha256.Sum256([]byte("the k0s program")), k0s)
	})
	mux.HandleFunc("/kots/v"+kots+"/kots_linux_amd64.tar.gz", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(kotsArchive(t)) })
	u.handlers = mux
	u.Server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(u.Close)
	u.host = strings.TrimPrefix(u.URL, "http://")
	return u
}

func (u *fakeUpstream) serve(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.gets[r.Method+" "+r.URL.Path]++
	nth, intercept := u.gets[r.Method+" "+r.URL.Path], u.intercept
	u.mu.Unlock()
	if intercept == nil || !intercept(w, r, nth) {
		u.handlers.ServeHTTP(w, r)
	}
}

// kotsArchive returns a release like those of KOTS: a few files, one of them the
// program.
func kotsArchive(t *testing.T) []byte {
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

// pushImages pushes the test images to the registry and returns their references.
func (u *fakeUpstream) pushImages(t *testing.T) (refs []string) {
	t.Helper()
	for _, img := range airgaptest.Images() {
		_, rest, _ := strings.Cut(img.Ref, "/")
		refs = append(refs, u.host+"/"+rest)
		if err := remote.Write(u.parseRef(t, refs[len(refs)-1]), airgaptest.BuildImage(t, img)); err != nil {
			t.Fatal(err)
		}
	}
	return refs
}

func (u *fakeUpstream) parseRef(t *testing.T, text string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(text)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// newRequest returns a request for everything that u publishes.
func (u *fakeUpstream) newRequest(t *testing.T) pull.Request {
	releases := pull.UpstreamReleases()
	releases[0].Base, releases[1].Base = u.URL+"/k0s", u.URL+"/kots"
	releases[1].Checksums = map[string]string{kots + "/amd64": fmt.Sprintf("%x", sha256.Sum256(kotsArchive(t)))}
	return pull.Request{Folder: t.TempDir(), Images: u.pushImages(t), Releases: releases, Backoff: time.Millisecond,
		HostFiles: []build.HostFile{{Name: "k0s", Version: k0s}, {Name: "kots", Version: kots}}}
}

// buildBundle builds a bundle from what was downloaded, opens and verifies it.
func buildBundle(t *testing.T, req pull.Request) *airgap.Bundle {
	t.Helper()
	b, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, build.Request{Name: "my-app", Installer: []byte(airgaptest.Installer),
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

func TestFetch_KeepsUpstreamDigestsInTheBundle(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	var done, total int64
	req.Progress = func(d, n int64) { done, total = d, n }
	if err := pull.Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if done != total || total == 0 {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	b := buildBundle(t, req)
	for i, img := range b.Images() {
		want, _ := airgaptest.BuildImage(t, airgaptest.Images()[i]).Digest()
		if img.Ref != req.Images[i] || img.Manifest.Digest.String() != want.String() {
			t.Errorf("%s has digest %s, upstream has %s", img.Ref, img.Manifest.Digest, want)
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

func TestFetch_DownloadsNoBlobsTheSecondTime(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	if err := pull.Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	u.mu.Lock()
	clear(u.gets)
	u.mu.Unlock()
	if err := pull.Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	for path, n := range u.gets {
		if !strings.Contains(path, "/manifests/") && !strings.HasSuffix(path, "/v2/") && !strings.HasSuffix(path, "/sha256sums.txt") && n > 0 && !isConfig(t, u, path) {
			t.Errorf("%s was requested again", path)
		}
	}
	buildBundle(t, req)
}

// isConfig reports whether path is that of an image's config, which is read again to
// check the platform.
func isConfig(t *testing.T, u *fakeUpstream, path string) bool {
	for _, img := range airgaptest.Images() {
		if c, _ := airgaptest.BuildImage(t, img).ConfigName(); strings.HasSuffix(path, c.String()) {
			return true
		}
	}
	return false
}

func TestFetch_KeepsOnlyTheRequestedPlatform(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	ours := airgaptest.BuildImage(t, airgaptest.Image{Files: []string{"ours"}})
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: airgaptest.BuildImage(t, airgaptest.Image{Files: []string{"theirs"}}), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: ours, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	text := u.host + "/multi/arch:1"
	if err := remote.WriteIndex(u.parseRef(t, text), index); err != nil {
		t.Fatal(err)
	}
	req.Images = append(req.Images, text)
	if err := pull.Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	images := buildBundle(t, req).Images()
	if want, _ := ours.Digest(); images[len(images)-1].Manifest.Digest.String() != want.String() {
		t.Errorf("%+v", images[len(images)-1])
	}
}

func TestFetch_RejectsImageForAnotherPlatform(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	req.Platform = "linux/arm64"
	req.HostFiles = nil
	err := pull.Fetch(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), "is for linux/amd64") {
		t.Errorf("%v", err)
	}
}

func TestFetch_RetriesAfterTemporaryFailures(t *testing.T) {
	for name, intercept := range map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"busy": func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		},
		"rate limited": func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		},
		"connection closed": func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) },
		"truncated": func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", "5000")
			_, _ = io.WriteString(w, "{")
			panic(http.ErrAbortHandler)
		},
		"altered": func(w http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") || strings.HasSuffix(r.URL.Path, "/v2/") || strings.HasSuffix(r.URL.Path, ".txt") {
				return false // the manifest of a tag has no expected digest
			}
			_, _ = io.WriteString(w, "something else")
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t)
			req := u.newRequest(t)
			clear(u.gets)
			u.intercept = func(w http.ResponseWriter, r *http.Request, nth int) bool {
				return nth == 1 && r.Method == http.MethodGet && intercept(w, r)
			}
			if err := pull.Fetch(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			buildBundle(t, req)
		})
	}
}

func TestFetch_ReportsAllFailuresTogether(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	req.Images = append(req.Images, u.host+"/no/such:1", "not a reference")
	req.HostFiles = append(req.HostFiles, build.HostFile{Name: "k0s", Version: "v9"}, build.HostFile{Name: "helm", Version: "3"})
	err := pull.Fetch(t.Context(), req)
	if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
		t.Fatalf("%v", err)
	}
	for _, part := range []string{"/no/such:1: ", "not a reference", "k0s v9: ", "answers 404 Not Found", "helm 3: its download location is unknown"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v\nlacks %q", err, part)
		}
	}
	if n := u.gets["GET /k0s/v9/sha256sums.txt"]; n != 1 {
		t.Errorf("a URL with status 404 was requested %d times", n)
	}
	req.Images, req.HostFiles = req.Images[:3], req.HostFiles[:2]
	buildBundle(t, req) // the rest was downloaded
}

// Without a network every part fails; the message must stay readable.
func TestFetch_ReportsEachCauseOnce(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	req.HostFiles = nil
	req.Images = []string{"a.invalid/one:1", "a.invalid/two:1", "b.invalid/three:1"}
	req.Transport = unreachable{}
	err := pull.Fetch(t.Context(), req)
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "image a.invalid/one:1 and 1 more: ") || !strings.Contains(lines[1], "image b.invalid/three:1: ") {
		t.Errorf("got:\n%v", err)
	}
}

// unreachable is a network on which no host has an address.
type unreachable struct{}

func (unreachable) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, &net.DNSError{Err: "no such host", Name: r.URL.Hostname(), IsNotFound: true}
}

func TestFetch_RejectsDownloadWithoutMatchingChecksum(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*pull.Release)
		part   string
	}{
		"other checksum pinned":     {func(r *pull.Release) { r.Checksums = map[string]string{k0s + "/amd64": strings.Repeat("0", 64)} }, "does not have the digest sha256:000"},
		"no checksum known":         {func(r *pull.Release) { r.ChecksumsPath = "" }, "no checksum is known"},
		"file not in checksum list": {func(r *pull.Release) { r.Path = "{version}/../{version}/sha256sums.txt" }, "does not list sha256sums.txt"},
		"invalid checksum list":     {func(r *pull.Release) { r.ChecksumsPath = r.Path }, "does not list"},
		"not an archive":            {func(r *pull.Release) { r.Member = "k0s" }, "gzip: invalid header"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t)
			req := u.newRequest(t)
			req.Images = nil
			c.change(&req.Releases[0])
			err := pull.Fetch(t.Context(), req)
			if err == nil || !strings.Contains(err.Error(), c.part) || problem.ExitCode(err) != problem.ExitBundle {
				t.Errorf("want %q, got %v", c.part, err)
			}
			index, err := os.ReadFile(filepath.Join(req.Folder, "index.json"))
			if err != nil || bytes.Contains(index, []byte(k0s)) {
				t.Errorf("the file was stored: %s (%v)", index, err)
			}
		})
	}
}

func TestFetch_NamesMissingArchiveMember(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	req.Images, req.Releases[1].Member = nil, "bin/kots"
	if err := pull.Fetch(t.Context(), req); err == nil || !strings.Contains(err.Error(), "the archive does not contain bin/kots") {
		t.Errorf("%v", err)
	}
}

// recorder records the requested URLs and sends nothing over the network.
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

func TestFetch_RejectsPlainHTTPToOtherMachines(t *testing.T) {
	net := &recorder{}
	err := pull.Fetch(t.Context(), pull.Request{
		Folder: t.TempDir(), Transport: net, Backoff: time.Millisecond,
		Images:    []string{"10.1.2.3:5000/a/b:1", "registry.local/a/b:1"}, // the library would fall back to http for these
		HostFiles: []build.HostFile{{Name: "k0s", Version: k0s}},
		Releases:  []pull.Release{{Name: "k0s", Base: "http://192.0.2.1", Path: "k0s", Checksums: map[string]string{k0s + "/amd64": "00"}}},
	})
	if err == nil || !strings.Contains(err.Error(), "plain http is refused") {
		t.Errorf("%v", err)
	}
	for _, url := range net.urls {
		if !strings.HasPrefix(url, "https://") {
			t.Errorf("requested %s", url)
		}
	}
	if len(net.urls) == 0 {
		t.Error("nothing was requested")
	}
}

func TestFetch_RejectsRedirectToPlainHTTP(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	req.Images = nil
	u.intercept = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		http.Redirect(w, r, "http://192.0.2.1"+r.URL.Path, http.StatusFound)
		return true
	}
	if err := pull.Fetch(t.Context(), req); err == nil || !strings.Contains(err.Error(), "plain http is refused") {
		t.Errorf("%v", err)
	}
}

func TestFetch_RejectsUnknownCertificateWithoutRetry(t *testing.T) {
	requests := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { requests++ }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer server.Close()
	err := pull.Fetch(t.Context(), pull.Request{Folder: t.TempDir(), HostFiles: []build.HostFile{{Name: "k0s", Version: k0s}},
		Releases: []pull.Release{{Name: "k0s", Base: server.URL, Path: "k0s", ChecksumsPath: "sums"}}})
	if err == nil || !strings.Contains(err.Error(), "certificate") || requests > 0 {
		t.Errorf("%v (%d requests)", err, requests)
	}
}

func TestFetch_StopsWaitingWhenInterrupted(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	req.Backoff = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	u.intercept = func(w http.ResponseWriter, r *http.Request, nth int) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		cancel()
		return true
	}
	if err := pull.Fetch(ctx, req); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
