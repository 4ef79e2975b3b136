package pull_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/pull"
	"github.com/plinthdev/plinth/internal/problem"
)

func TestResolve_ReturnsWhatFetchDownloads(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	files, images, err := pull.Resolve(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if want := (pull.Resolved{Digest: digest.FromBytes(kotsArchive(t)), Size: int64(len(kotsArchive(t)))}); files[1] != want {
		t.Errorf("host files are %+v", files)
	}
	u.mu.Lock()
	for request := range u.gets {
		if strings.HasPrefix(request, "GET ") && (strings.Contains(request, "/blobs/") || strings.HasSuffix(request, ".gz")) {
			t.Errorf("it sent %s", request)
		}
	}
	u.mu.Unlock()
	if err := pull.Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	items, err := build.Select(t.Context(), build.Request{Name: "x", Layout: req.Folder, Images: req.Images, HostFiles: req.HostFiles})
	if err != nil || len(items) != len(files)+len(images) {
		t.Fatalf("%+v, %v", items, err)
	}
	for i, it := range items[len(files):] {
		if it.Manifest.Digest != images[i].Digest || it.Size() != images[i].Size {
			t.Errorf("%s was resolved to %+v, downloaded were %s, %d bytes", it.Name, images[i], it.Manifest.Digest, it.Size())
		}
	}
}

// Two downloads into different folders give the same bundle: nothing in it depends on the time.
func TestFetch_GivesTheSameBundleEachTime(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	var bundles []string
	for range 2 {
		req.Folder = t.TempDir()
		if err := pull.Fetch(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(airgaptest.WriteBundle(t, build.Request{Name: "my-app", Installer: []byte(airgaptest.Installer), Layout: req.Folder, Images: req.Images, HostFiles: req.HostFiles}))
		if err != nil {
			t.Fatal(err)
		}
		bundles = append(bundles, string(raw))
	}
	if bundles[0] != bundles[1] {
		t.Error("the two bundles differ")
	}
}

func TestResolve_ReportsAllFailuresTogether(t *testing.T) {
	u := newUpstream(t)
	req := u.newRequest(t)
	req.Images = append(req.Images, u.host+"/no/such:1", "not a reference")
	req.HostFiles = append(req.HostFiles, build.HostFile{Name: "k0s", Version: "v9"}, build.HostFile{Name: "helm", Version: "3"})
	_, _, err := pull.Resolve(t.Context(), req)
	if problem.ExitCode(err) != problem.ExitBundle || problem.Hint(err) == "" {
		t.Fatalf("%v", err)
	}
	for _, part := range []string{"/no/such:1: ", "not a reference", "k0s v9: ", "answers 404 Not Found", "helm 3: its download location is unknown"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v\nlacks %q", err, part)
		}
	}
}

func TestResolve_RefusesUnusableAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request) bool
		want   string
	}{
		"a checksum that is none": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, ".txt") {
				fmt.Fprintf(w, "none *k0s-%s-amd64\n", k0s)
			}
			return strings.HasSuffix(r.URL.Path, ".txt")
		}, `its published checksum "none" is not a SHA-256`},
		"no size": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "-amd64") {
				w.Header().Set("Transfer-Encoding", "chunked")
				_ = http.NewResponseController(w).Flush()
			}
			return strings.HasSuffix(r.URL.Path, "-amd64")
		}, "does not state its size"},
		"a size that is nonsense": {func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "-amd64") {
				w.Header().Set("Content-Length", "100000000000000")
			}
			return strings.HasSuffix(r.URL.Path, "-amd64")
		}, "states 100000000000000 bytes, the limit is 1073741824"},
		"a page": {func(w http.ResponseWriter, r *http.Request) bool {
			fmt.Fprint(w, "<html>log in</html>")
			return true
		}, "answers with an HTML page"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newUpstream(t)
			req := u.newRequest(t)
			req.Images, req.HostFiles = nil, req.HostFiles[:1]
			u.intercept = func(w http.ResponseWriter, r *http.Request, _ int) bool { return c.answer(w, r) }
			_, _, err := pull.Resolve(t.Context(), req)
			if problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}
