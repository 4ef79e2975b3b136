package push_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/pull"
	. "github.com/plinthdev/plinth/airgap/pull/pulltest"
	"github.com/plinthdev/plinth/airgap/push"
	"github.com/plinthdev/plinth/internal/problem"
)

// TestMain keeps the credentials of the user out of the tests.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "docker-config")
	if err == nil {
		err = os.Setenv("DOCKER_CONFIG", dir)
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// setup is an empty registry, and a request that mirrors the images of another one to it.
type setup struct {
	*Upstream
	from *Upstream
	pull pull.Request // for the images of from
	req  push.Request

	mu    sync.Mutex
	notes []string
}

// image returns an image whose layers are files.
func image(t *testing.T, arch string, files ...string) v1.Image {
	t.Helper()
	img := airgaptest.BuildImage(t, airgaptest.Image{Files: files})
	config, err := img.ConfigFile()
	if err == nil {
		config = config.DeepCopy()
		config.Architecture = arch
		img, err = mutate.ConfigFile(img, config)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// multiPlatform returns an index with an image for amd64 and arm64.
func multiPlatform(t *testing.T, files ...string) v1.ImageIndex {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image(t, arch, append(files, arch)...),
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	return index
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	s := &setup{Upstream: New(t), from: New(t)}
	note := func(text string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.notes = append(s.notes, text)
	}
	refs := []string{s.from.Push(t, "library/app:v1", multiPlatform(t, "base of all", "app")),
		s.from.Push(t, "library/tool:2.0", image(t, "amd64", "base of all", "tool"))}
	s.pull = pull.Request{Folder: t.TempDir(), Images: refs, Transport: s.from.Transport, Backoff: time.Millisecond, Note: note}
	s.req = push.Request{Folder: s.pull.Folder, Images: refs, Target: s.Host() + "/mirror", Transport: s.Transport, Backoff: time.Millisecond, Note: note}
	s.fetch(t, s.pull)
	return s
}

func (s *setup) fetch(t *testing.T, req pull.Request) {
	t.Helper()
	if err := pull.Fetch(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}

// fetchMirrored downloads the images from the mirror only, and returns their digests.
func (s *setup) fetchMirrored(t *testing.T, platform string) []string {
	t.Helper()
	req := s.pull
	req.Folder, req.Platform, req.Transport = t.TempDir(), platform, s.Transport
	lines, err := push.Mirrors(s.req.Target, req.Images)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		m, err := pull.ParseMirror(line)
		if err != nil {
			t.Fatal(err)
		}
		req.Mirrors = append(req.Mirrors, m)
	}
	s.Break(nil)
	s.fetch(t, req)
	return digests(t, req)
}

// digests returns the digests of the manifests of the images that a request downloaded.
func digests(t *testing.T, req pull.Request) (sums []string) {
	t.Helper()
	items, err := build.Select(t.Context(), build.Request{Layout: req.Folder, Images: req.Images, Platform: req.Platform})
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		sums = append(sums, it.Manifest.Digest.String())
	}
	return sums
}

func (s *setup) upload(t *testing.T) {
	t.Helper()
	if err := push.Images(t.Context(), s.req); err != nil {
		t.Fatal(err)
	}
}

func TestImages_MirrorsByteForByte(t *testing.T) {
	s := newSetup(t)
	reported := int64(0)
	s.req.Progress = func(done, total int64) { reported = max(reported, done*1000/total) }
	s.upload(t)
	if reported != 1000 {
		t.Errorf("progress ended at %d ‰", reported)
	}
	if got, want := s.fetchMirrored(t, ""), digests(t, s.pull); !slices.Equal(got, want) {
		t.Errorf("the mirror has %q, upstream %q", got, want)
	}
	t.Run("again", func(t *testing.T) {
		s.Break(nil)
		s.upload(t)
		for _, r := range s.Requests() {
			if method := strings.Fields(r)[1]; method != http.MethodGet && method != http.MethodHead {
				t.Errorf("it was uploaded again: %s", r)
			}
		}
	})
}

func TestImages_AddsPlatformToTag(t *testing.T) {
	s := newSetup(t)
	s.pull.Images, s.req.Images = s.pull.Images[:1], s.req.Images[:1]
	s.upload(t)
	amd64 := s.fetchMirrored(t, "linux/amd64")
	s.pull.Platform, s.req.Platform = "linux/arm64", "linux/arm64"
	s.fetch(t, s.pull)
	s.upload(t)
	if got := s.fetchMirrored(t, "linux/amd64"); !slices.Equal(got, amd64) {
		t.Errorf("amd64 was %q, is %q", amd64, got)
	}
	if got, want := s.fetchMirrored(t, "linux/arm64"), digests(t, s.pull); !slices.Equal(got, want) {
		t.Errorf("arm64 is %q, upstream has %q", got, want)
	}
}

// A tag that another tool copied with all its platforms stays as it is, and one that moved upstream moves.
func TestImages_MovesTagOnlyIfItLeadsElsewhere(t *testing.T) {
	s := newSetup(t)
	s.pull.Images, s.req.Images = s.pull.Images[:1], s.req.Images[:1]
	_, path, _ := strings.Cut(s.pull.Images[0], "/")
	copied := "mirror/" + strings.ReplaceAll(s.from.Host(), ":", "-") + "/" + path
	for name, c := range map[string]struct {
		there any
		moves bool
	}{
		"all platforms": {multiPlatform(t, "base of all", "app"), false},
		"one platform":  {image(t, "amd64", "base of all", "app", "amd64"), false},
		"former image":  {image(t, "amd64", "former"), true},
		"former index":  {multiPlatform(t, "former"), true},
	} {
		t.Run(name, func(t *testing.T) {
			s.Push(t, copied, c.there)
			s.Break(nil)
			s.upload(t)
			if moved := s.Count(" PUT /v2/"+strings.Replace(copied, ":v1", "/manifests/v1", 1)) > 0; moved != c.moves {
				t.Errorf("moved %v, want %v: %q", moved, c.moves, s.Requests())
			}
			if got, want := s.fetchMirrored(t, ""), digests(t, s.pull); !slices.Equal(got, want) {
				t.Errorf("the mirror has %q, upstream %q", got, want)
			}
		})
	}
}

func TestImages_PinnedByDigest(t *testing.T) {
	s := newSetup(t)
	index, err := multiPlatform(t, "base of all", "app").Digest()
	if err != nil {
		t.Fatal(err)
	}
	manifest := digests(t, s.pull)[0]
	repository := strings.TrimSuffix(s.pull.Images[0], ":v1")
	for name, c := range map[string]struct {
		digest string
		fault  Fault
		there  bool   // all platforms of the index
		want   string // part of the error; "" if it is mirrored
	}{
		"manifest":               {manifest, nil, false, ""},
		"index":                  {index.String(), nil, false, "by the digest of its manifest for linux/amd64, " + manifest},
		"index is there":         {index.String(), nil, true, ""},
		"index is not permitted": {index.String(), refuse(http.MethodPut, "/manifests/"+index.String(), 403), false, "answers 403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			path := strings.ReplaceAll(name, " ", "-")
			s.req.Target = s.Host() + "/" + path
			if c.there {
				s.Push(t, path+"/"+strings.ReplaceAll(repository, ":", "-")+":any", multiPlatform(t, "base of all", "app"))
			}
			s.pull.Images = []string{repository + "@" + c.digest}
			s.req.Images = s.pull.Images
			s.Break(nil)
			s.fetch(t, s.pull)
			s.Break(c.fault)
			err := push.Images(t.Context(), s.req)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := s.fetchMirrored(t, ""); got[0] != manifest {
				t.Errorf("the mirror has %s, upstream %s", got, manifest)
			}
		})
	}
}

// refuse answers requests with a method and a part of the path with a status.
func refuse(method, part string, status int) Fault {
	return func(r Request) Handler {
		if r.Server == Registry && r.Method == method && strings.Contains(r.URL.Path, part) && r.Header.Get("Authorization") != "" {
			return Status(status, "")
		}
		return nil
	}
}

// firstOf is a fault of the first request with a method.
func firstOf(method string, h Handler) Fault {
	var before atomic.Bool
	return func(r Request) Handler {
		if r.Server == Registry && r.Method == method && r.Header.Get("Authorization") != "" && !before.Swap(true) {
			return h
		}
		return nil
	}
}

// abort ends a connection after a part of the content arrived.
func abort(_ http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	_, _ = r.Body.Read(make([]byte, 100))
	panic(http.ErrAbortHandler)
}

// silent takes the content and does not answer.
func silent(_ http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
	_, _ = io.Copy(io.Discard, r.Body)
	select {
	case <-r.Context().Done():
	case <-time.After(30 * time.Second):
	}
	panic(http.ErrAbortHandler)
}

func TestImages_SurvivesFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault Fault
		note  string
	}{
		"upload does not start": {firstOf(http.MethodPost, Status(503, "")), "answers 503 Service Unavailable; attempt 2 of 5"},
		"content is cut":        {firstOf(http.MethodPatch, abort), "attempt 2 of 5"},
		"end is refused":        {firstOf(http.MethodPut, Status(500, "")), "answers 500 Internal Server Error; attempt 2 of 5"},
		"too many requests":     {firstOf(http.MethodPatch, Status(429, "1")), "answers 429 Too Many Requests and asks to wait 1s; attempt 2 of 5"},
		"registry is silent":    {firstOf(http.MethodPut, silent), "stalls"},
		"HEAD fails":            {firstOf(http.MethodHead, Status(500, "")), "attempt 2 of 5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			if strings.Contains(name, "silent") {
				s.req.Stall = time.Second / 2
			}
			s.Break(c.fault)
			s.upload(t)
			if !strings.Contains(strings.Join(s.notes, "\n"), c.note) {
				t.Errorf("no %q in %q", c.note, s.notes)
			}
			if got, want := s.fetchMirrored(t, ""), digests(t, s.pull); !slices.Equal(got, want) {
				t.Errorf("the mirror has %q, upstream %q", got, want)
			}
		})
	}
}

func TestImages_EndsAtOnceOnPermanentErrors(t *testing.T) {
	quota := func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"adding 3 GiB\nexceeds the \u001bquota"},{"code":"OTHER"}]}`)
	}
	elsewhere := func(w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		w.Header().Set("Location", "http://registry.example.com/upload?_state=secret")
		w.WriteHeader(http.StatusAccepted)
	}
	for name, c := range map[string]struct {
		fault Fault
		want  []string
	}{
		"quota":            {anyOf(http.MethodPost, quota), []string{"answers 403 Forbidden: DENIED: adding 3 GiB exceeds the  quota", "docker login 127.0.0.1"}},
		"no project":       {refuse(http.MethodPost, "", 404), []string{"answers 404 Not Found", "create the project"}},
		"not allowed":      {refuse(http.MethodPut, "/manifests/v1", 403), []string{"/manifests/v1 answers 403 Forbidden"}},
		"location is HTTP": {anyOf(http.MethodPost, elsewhere), []string{"plain http is refused"}},
		"no location":      {anyOf(http.MethodPost, Status(202, "")), []string{"does not tell where the upload continues"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.Break(c.fault)
			err := push.Images(t.Context(), s.req)
			text := fmt.Sprint(err) + problem.Hint(err)
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in %q", want, text)
				}
			}
			if problem.ExitCode(err) != problem.ExitBundle || strings.Contains(strings.Join(s.notes, ""), "attempt") || strings.Contains(text, "secret") {
				t.Errorf("%q, notes %q", text, s.notes)
			}
		})
	}
}

// anyOf is a fault of every request with a method.
func anyOf(method string, h Handler) Fault {
	return func(r Request) Handler {
		if r.Server == Registry && r.Method == method && r.Header.Get("Authorization") != "" {
			return h
		}
		return nil
	}
}

// A layer of several images is sent once: the registry links it into the other repositories.
func TestImages_MountsSharedLayers(t *testing.T) {
	s := newSetup(t)
	mounted := 0
	s.Break(func(r Request) Handler {
		if r.Server != Registry || !strings.Contains(r.URL.Path, "/blobs/") || r.Header.Get("Authorization") == "" {
			return nil
		}
		if r.Method == http.MethodHead { // the simulated registry has one store for all repositories
			return Status(http.StatusNotFound, "")
		}
		if r.URL.Query().Get("mount") != "" {
			return func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
				mounted++
				w.WriteHeader(http.StatusCreated)
			}
		}
		return nil
	})
	s.upload(t)
	if mounted != 1 {
		t.Errorf("%d layers were mounted: %q", mounted, s.Requests())
	}
	if got, want := s.fetchMirrored(t, ""), digests(t, s.pull); !slices.Equal(got, want) {
		t.Errorf("the mirror has %q, upstream %q", got, want)
	}
}

func TestImages_LogsIn(t *testing.T) {
	s := newSetup(t)
	s.RequireLogin("user:pass")
	if err := push.Images(t.Context(), s.req); err == nil || !strings.Contains(problem.Hint(err), "docker login "+s.Host()) {
		t.Fatalf("without credentials: %v", err)
	}
	path := filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json")
	config := fmt.Sprintf(`{"auths":{%q:{"auth":"dXNlcjpwYXNz"}}}`, s.Host())
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(path) }()
	s.upload(t)
}

func TestImages_NeedsAllInFolder(t *testing.T) {
	s := newSetup(t)
	s.req.Images = append(s.req.Images, "docker.io/library/other:v1")
	s.Break(nil)
	if err := push.Images(t.Context(), s.req); problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(fmt.Sprint(err), "other:v1") || s.Count("") > 0 {
		t.Errorf("%v, requests %q", err, s.Requests())
	}
}

func TestRepositoryFor(t *testing.T) {
	for ref, want := range map[string]string{
		"docker.io/library/nginx":               "harbor.example.com/plinth/docker.io/library/nginx",
		"docker.io/kotsadm/kotsadm":             "harbor.example.com/plinth/docker.io/kotsadm/kotsadm",
		"quay.io/k0sproject/pause":              "harbor.example.com/plinth/quay.io/k0sproject/pause",
		"Registry.example.com:5000/a/b":         "harbor.example.com/plinth/registry.example.com-5000/a/b",
		"registry.example.com/" + longPath(230): "",
	} {
		t.Run(ref, func(t *testing.T) {
			source, err := name.NewRepository(ref, name.StrictValidation)
			if err != nil {
				t.Fatal(err)
			}
			got, err := push.RepositoryFor("harbor.example.com/plinth", source)
			if (err != nil) != (want == "") || err == nil && got.Name() != want {
				t.Errorf("%v, %v; want %q", got, err, want)
			}
		})
	}
}

func longPath(n int) string { return strings.Repeat("a", n) }
