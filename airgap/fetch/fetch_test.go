package fetch_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	inprocess "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/testkit"
)

// published is a static server with some blobs whose behavior can be changed.
type published struct {
	*httptest.Server
	blobs []ocispec.Descriptor
	data  map[string][]byte

	mu     sync.Mutex
	asked  map[string]int // number of requests by blob
	ranges []string
	meddle func(w http.ResponseWriter, r *http.Request, nth int) bool // true: the request is answered
}

func publish(t *testing.T, sizes ...int) *published {
	p := &published{data: map[string][]byte{}, asked: map[string]int{}}
	random := rand.New(rand.NewPCG(3, 5))
	for _, n := range sizes {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		d := digest.FromBytes(data)
		p.blobs = append(p.blobs, ocispec.Descriptor{Digest: d, Size: int64(n)})
		p.data[d.Encoded()] = data
	}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	return p
}

func (p *published) serve(w http.ResponseWriter, r *http.Request) {
	key := path.Base(r.URL.Path)
	p.mu.Lock()
	p.asked[key]++
	nth := p.asked[key]
	if h := r.Header.Get("Range"); h != "" {
		p.ranges = append(p.ranges, h)
	}
	meddle := p.meddle
	p.mu.Unlock()
	if meddle != nil && meddle(w, r, nth) {
		return
	}
	data, ok := p.data[key]
	if !ok || !strings.HasPrefix(r.URL.Path, "/my-app/blobs/sha256/") {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// misbehave sets how the server answers from now on and clears the recorded requests.
func (p *published) misbehave(how func(w http.ResponseWriter, r *http.Request, nth int) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meddle, p.ranges, p.asked = how, nil, map[string]int{}
}

// get downloads all blobs into dir.
func (p *published) get(t *testing.T, dir string) error {
	t.Helper()
	return p.from(t, p.URL+"/my-app", dir)
}

// from downloads all blobs from source into dir.
func (p *published) from(t *testing.T, source, dir string) error {
	t.Helper()
	remote, err := fetch.Dial(t.Context(), source, fetch.Options{Backoff: time.Millisecond, Stall: time.Second})
	if err != nil {
		return err
	}
	folder, err := blob.CreateFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	return remote.FetchBlobs(t.Context(), folder, p.blobs, nil)
}

// whole fails unless dir has exactly the blobs and no partial downloads.
func (p *published) whole(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil || len(entries) != len(p.data) {
		t.Errorf("%d entries of %d, %v", len(entries), len(p.data), err)
	}
	for _, e := range entries {
		if got, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", e.Name())); err != nil || !bytes.Equal(got, p.data[e.Name()]) {
			t.Errorf("%s differs, %v", e.Name(), err)
		}
	}
}

// cut sends n bytes of data from offset from on, then breaks the connection.
func cut(w http.ResponseWriter, data []byte, from, n int) {
	w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
	if from > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(data[from : from+n])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

func TestFetchBlobs_ResumesAfterBrokenConnection(t *testing.T) {
	p := publish(t, 400_000, 0, 1, 70_000)
	big := p.blobs[0].Digest.Encoded()
	p.misbehave(func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if path.Base(r.URL.Path) != big || nth > 3 {
			return false
		}
		from := 0
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		cut(w, p.data[big], from, 100_000)
		return true
	})
	dir := t.TempDir()
	if err := p.get(t, dir); err != nil {
		t.Fatal(err)
	}
	p.whole(t, dir)
	if len(p.ranges) != 3 || p.ranges[2] != "bytes=300000-" {
		t.Errorf("requested %v", p.ranges)
	}
	p.misbehave(func(http.ResponseWriter, *http.Request, int) bool {
		t.Error("requested a blob that the folder has")
		return false
	})
	if err := p.get(t, dir); err != nil {
		t.Errorf("second time: %v", err)
	}
}

func TestFetchBlobs_DownloadsFourBlobsInParallel(t *testing.T) {
	p, dir := publish(t, 1000, 1001, 1002, 1003, 1004), t.TempDir()
	var waiting atomic.Int32
	var once sync.Once
	together := make(chan struct{})
	p.misbehave(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if waiting.Add(1) == 4 {
			once.Do(func() { close(together) })
		}
		select {
		case <-together:
		case <-r.Context().Done(): // no other request arrived in time
			waiting.Add(-1)
		}
		return false
	})
	if err := p.get(t, dir); err != nil {
		t.Fatal(err)
	}
	p.whole(t, dir)
}

func TestFetchBlobs_ResumesInLaterRun(t *testing.T) {
	p, dir := publish(t, 400_000), t.TempDir()
	key := p.blobs[0].Digest.Encoded()
	p.misbehave(func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if nth == 1 {
			cut(w, p.data[key], 0, 250_000)
		}
		panic(http.ErrAbortHandler)
	})
	if err := p.get(t, dir); problem.ExitCode(err) != problem.ExitBundle || fetch.IsPermanent(err) || !strings.Contains(problem.Hint(err), "resumes where it stopped") {
		t.Fatalf("%v (%s)", err, problem.Hint(err))
	}
	p.misbehave(nil)
	if err := p.get(t, dir); err != nil || len(p.ranges) != 1 || p.ranges[0] != "bytes=250000-" {
		t.Errorf("requested %v: %v", p.ranges, err)
	}
	p.whole(t, dir)
}

func TestFetchBlobs_RestartsWithoutRangesOrWithDamagedPart(t *testing.T) {
	for name, left := range map[string]int{"shorter": 1000, "as long": 50_000, "longer": 60_000} {
		for _, ranges := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ranges %t", name, ranges), func(t *testing.T) {
				p, dir := publish(t, 50_000), t.TempDir()
				folder, err := blob.CreateFolder(dir)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(folder.PartPath(p.blobs[0]), bytes.Repeat([]byte("x"), left), 0o600); err != nil {
					t.Fatal(err)
				}
				p.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
					if !ranges {
						r.Header.Del("Range")
					}
					return false
				})
				if err := p.get(t, dir); err != nil {
					t.Errorf("%v", err)
				}
				p.whole(t, dir)
			})
		}
	}
}

func TestFetchBlobs_RetriesTemporaryErrors(t *testing.T) {
	p, dir := publish(t, 5000), t.TempDir()
	p.misbehave(func(w http.ResponseWriter, r *http.Request, nth int) bool {
		switch nth {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			w.WriteHeader(http.StatusTooManyRequests)
		case 3:
			panic(http.ErrAbortHandler)
		}
		return nth < 4
	})
	if err := p.get(t, dir); err != nil {
		t.Fatal(err)
	}
	p.whole(t, dir)
}

func TestFetchBlobs_NamesWhatServerReturns(t *testing.T) {
	status := func(code int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, c := range map[string]struct {
		answer    func(http.ResponseWriter, *http.Request)
		says      string
		permanent bool
	}{
		"not there": {status(404), "answers 404 Not Found", true},
		"forbidden": {status(403), "answers 403 Forbidden", true},
		"broken":    {status(500), "answers 500 Internal Server Error (after 5 attempts)", false},
		"web page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<html>log in first</html>")
		}, "answers with an HTML page", true},
		"web page of the same size": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("<", 60_000))
		}, "does not have the digest sha256:", true},
		"more than requested": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush() // no Content-Length
			_, _ = io.WriteString(w, strings.Repeat("<", 70_000))
		}, "sends more than the 60000 bytes", true},
		"ends early": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "<")
		}, "ended after", false},
		"wrong range": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				w.Header().Set("Content-Length", "60000")
				_, _ = w.Write(make([]byte, 30_000))
				return
			}
			w.Header().Set("Content-Range", "bytes 0-59999/60000")
			w.WriteHeader(http.StatusPartialContent)
		}, `answers with the range "bytes 0-59999/60000" instead of the one from byte 30000`, true},
		"stalls": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "60000")
			_, _ = w.Write(make([]byte, 100))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "stalls: almost no data arrived in 1s", false},
		"redirect to plain http": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/x", http.StatusFound)
		}, "plain http is refused", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := publish(t, 60_000)
			p.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool { c.answer(w, r); return true })
			err := p.get(t, t.TempDir())
			if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %q, got %v", c.says, err)
			}
			if !strings.Contains(err.Error(), p.URL+"/my-app/blobs/sha256/"+p.blobs[0].Digest.Encoded()) && !strings.Contains(name, "redirect") {
				t.Errorf("does not name the URL: %v", err)
			}
			if fetch.IsPermanent(err) != c.permanent {
				t.Errorf("IsPermanent() = %v", fetch.IsPermanent(err))
			}
		})
	}
}

func TestFetchBlobs_NamesFullDisk(t *testing.T) {
	p, dir := publish(t, 5000), t.TempDir()
	folder, err := blob.CreateFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", folder.PartPath(p.blobs[0])); err != nil {
		t.Fatal(err)
	}
	if err := p.get(t, dir); !strings.Contains(fmt.Sprint(err), "cannot write to the disk: ") || !strings.Contains(problem.Hint(err), "free space in "+dir) || !fetch.IsPermanent(err) {
		t.Errorf("%v; %s", err, problem.Hint(err))
	}
}

func TestFetchThinBundle_RetriesAndNamesMissingFile(t *testing.T) {
	p := publish(t)
	remote, err := fetch.Dial(t.Context(), p.URL+"/my-app/", fetch.Options{Backoff: time.Millisecond, Stall: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	_, err = remote.FetchThinBundle(t.Context())
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), p.URL+"/my-app/thin.bundle answers 404") {
		t.Errorf("%v", err)
	}
	p.misbehave(func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if nth == 2 {
			<-r.Context().Done()
		}
		_, _ = io.WriteString(w, "thin")
		return true
	})
	if data, err := remote.FetchThinBundle(t.Context()); err != nil || string(data) != "thin" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestDial_RefusesInvalidSource(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"empty":            {"", "not a URL"},
		"path":             {"/srv/my-app", "not a URL"},
		"ftp":              {"ftp://example.com/x", "ftp is not https or oci"},
		"query":            {"https://example.com/?a", "a query"},
		"space":            {"https://exa mple.com/", "invalid character"},
		"upper case image": {"oci://localhost:1/UPPER", "repository can only contain"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := fetch.Dial(t.Context(), c.text, fetch.Options{})
			if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
	remote, err := fetch.Dial(t.Context(), "https://user:secret@example.com/x", fetch.Options{})
	if err != nil || strings.Contains(remote.String(), "secret") {
		t.Errorf("%v: %v", remote, err)
	}
	p := publish(t, 10)
	if err := p.from(t, "http://192.0.2.1/my-app", t.TempDir()); !strings.Contains(fmt.Sprint(err), "plain http is refused") {
		t.Errorf("plain http: %v", err)
	}
}

func TestFetchBlobs_DownloadsFromRegistry(t *testing.T) {
	mirror := httptest.NewServer(inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0))))
	defer mirror.Close()
	at, err := url.Parse(mirror.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := publish(t, 300_000, 20)
	repo, err := name.NewRepository(at.Host + "/mirrored/my-app")
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range p.data {
		if err := remote.WriteLayer(repo, static.NewLayer(data, types.OCIUncompressedLayer)); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := p.from(t, "oci://"+at.Host+"/mirrored/my-app", dir); err != nil {
		t.Fatal(err)
	}
	p.whole(t, dir)
	p.blobs = append(p.blobs, ocispec.Descriptor{Digest: digest.FromString("no one has this"), Size: 15})
	if err := p.from(t, "oci://"+at.Host+"/mirrored/my-app", t.TempDir()); problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
}

// endlessBody answers with spaces until the client has enough.
func endlessBody(sent *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for chunk := bytes.Repeat([]byte(" "), 1<<20); sent.Load() < 400<<20; {
			n, err := w.Write(chunk)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}
}

func TestDial_BoundsAnswersOfRegistry(t *testing.T) {
	for name, path := range map[string]string{"token": "/token", "ping": "/v2/"} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			mux := http.NewServeMux()
			server := httptest.NewServer(mux)
			t.Cleanup(server.Close)
			mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="`+server.URL+`/token",service="x"`)
				w.WriteHeader(map[string]int{"/token": http.StatusUnauthorized, "/v2/": http.StatusTeapot}[path])
				if path == "/v2/" {
					endlessBody(&sent)(w, r)
				}
			})
			mux.HandleFunc("/token", endlessBody(&sent))
			testkit.CheckBounds(t, func() {
				_, err := fetch.Dial(t.Context(), "oci://"+strings.TrimPrefix(server.URL, "http://")+"/a/b", fetch.Options{Backoff: time.Millisecond})
				if problem.ExitCode(err) != problem.ExitBundle {
					t.Errorf("%v", err)
				}
			})
			if n := sent.Load(); n > 64<<20 {
				t.Errorf("%d bytes were sent", n)
			}
		})
	}
}

func TestDial_GivesUpSilentRegistry(t *testing.T) {
	done := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
	t.Cleanup(func() { close(done); server.Close() })
	_, err := fetch.Dial(t.Context(), "oci://"+strings.TrimPrefix(server.URL, "http://")+"/a/b", fetch.Options{Backoff: time.Millisecond, Stall: 50 * time.Millisecond})
	if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), "almost no data arrived") {
		t.Errorf("%v", err)
	}
}

func TestFetchThinBundle_BoundsItsSize(t *testing.T) {
	var sent atomic.Int64
	server := httptest.NewServer(endlessBody(&sent))
	t.Cleanup(server.Close)
	remote, err := fetch.Dial(t.Context(), server.URL, fetch.Options{Backoff: time.Millisecond})
	testkit.Must(t, err)
	testkit.CheckBounds(t, func() {
		if _, err := remote.FetchThinBundle(t.Context()); problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), "more than 33554432 bytes") {
			t.Errorf("%v", err)
		}
	})
}
