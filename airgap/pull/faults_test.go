package pull_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/build"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/pull"
	. "github.com/plinthdev/plinth/airgap/pull/pulltest"
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

// layerSize is the size of the large layer and of the release, in bytes.
const layerSize = 120_000

func randomBytes(seed uint64) []byte {
	random, data := rand.New(rand.NewPCG(seed, 5)), make([]byte, layerSize)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

// bigImage returns an image for a platform with one layer of layerSize bytes.
func bigImage(t *testing.T, arch string) v1.Image {
	t.Helper()
	img := airgaptest.BuildImage(t, airgaptest.Image{Files: []string{string(randomBytes(1))}})
	config, err := img.ConfigFile()
	if err == nil {
		config.Architecture = arch
		img, err = mutate.ConfigFile(img, config)
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func platformIndex(img v1.Image, platforms ...v1.Platform) v1.ImageIndex {
	index := v1.ImageIndex(empty.Index)
	for _, p := range platforms {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}
	return index
}

// setup is an upstream with an image and a release, and a request for both.
type setup struct {
	*Upstream
	req pull.Request

	mu    sync.Mutex
	notes []string
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	s := &setup{Upstream: New(t)}
	ref := s.Push(t, "replicated/app:v1", platformIndex(bigImage(t, "amd64"), v1.Platform{OS: "linux", Architecture: "arm64"}, v1.Platform{OS: "linux", Architecture: "amd64"}))
	release := randomBytes(2)
	s.ReplaceFile("/k0s-v1", release)
	s.ReplaceFile("/sums", fmt.Appendf(nil, "%x  k0s-v1\n", sha256.Sum256(release)))
	s.req = pull.Request{Folder: t.TempDir(), Images: []string{ref}, HostFiles: []build.HostFile{{Name: "k0s", Version: "v1"}},
		Releases:  []pull.Release{{Name: "k0s", Base: s.URL(Releases), Path: "k0s-{version}", ChecksumsPath: "sums"}},
		Transport: s.Transport, Backoff: time.Millisecond, Stall: time.Minute,
		Note: func(text string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.notes = append(s.notes, text)
		}}
	return s
}

func (s *setup) hasNote(parts ...string) bool {
	return slices.ContainsFunc(s.notes, func(note string) bool {
		return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(note, p) })
	})
}

func TestFetch_SurvivesFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault Fault
		note  []string // parts of a note
	}{
		"blob stops":                {On(CDN, 1, Stop(40_000)), []string{"stalls: almost no data arrived", "attempt 2 of 5"}},
		"blob is cut":               {On(CDN, 1, Cut(40_000)), []string{"unexpected EOF", "attempt 2 of 5"}},
		"blob is cut five times":    {On(CDN, 5, Cut(20_000)), nil},
		"blob drips":                {On(CDN, 1, Drip), []string{"/blobs/"}},
		"blob altered once":         {On(CDN, 1, Alter), []string{"does not have the digest", "attempt 2 of 5"}},
		"no ranges":                 {cutThenWithoutRanges, []string{"unexpected EOF"}},
		"range refused":             {cutThenRefuseRange, []string{"no longer has"}},
		"manifest stops":            {On(Registry, 1, Stop(10)), nil},
		"token server stops":        {On(Auth, 1, Stop(10)), []string{"stalls"}},
		"token server is busy":      {On(Auth, 2, Status(503, "")), []string{"503"}},
		"registry 500":              {On(Registry, 2, Status(500, "")), []string{"500 Internal Server Error", "attempt 3 of 5"}},
		"release stops":             {On(Releases, 1, Stop(40_000)), []string{"k0s-v1 stalls"}},
		"release is cut":            {On(Releases, 1, Cut(40_000)), []string{"k0s-v1", "attempt 2 of 5"}},
		"checksums stop":            {On(Releases, 1, Stop(5)), []string{"sums stalls"}},
		"CDN redirects a few times": {redirectThrice, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.Break(c.fault)
			if strings.Contains(name, "stop") || strings.Contains(name, "drip") {
				s.req.Stall = 3 * time.Second // long enough for a busy machine
			}
			if err := pull.Fetch(t.Context(), s.req); err != nil {
				t.Fatal(err)
			}
			if c.note != nil && !s.hasNote(c.note...) {
				t.Errorf("no note with %q in %q", c.note, s.notes)
			}
			buildBundle(t, s.req)
		})
	}
}

func cutThenWithoutRanges(r Request) Handler {
	switch {
	case r.Server == CDN && r.Nth == 1:
		return Cut(40_000)
	case r.Server == CDN:
		return WithoutRanges(nil)
	}
	return nil
}

func cutThenRefuseRange(r Request) Handler {
	switch {
	case r.Server == CDN && r.Nth == 1:
		return Cut(40_000)
	case r.Server == CDN && r.Nth == 2:
		return Status(http.StatusRequestedRangeNotSatisfiable, "")
	}
	return nil
}

func redirectThrice(r Request) Handler {
	if r.Server == CDN && r.URL.Query().Get("n") != "3" {
		return Loop
	}
	return nil
}

func TestFetch_ResumesWhereTheConnectionEnded(t *testing.T) {
	for name, c := range map[string]struct {
		fault Fault
		want  string
	}{
		"layer":   {On(CDN, 1, Cut(40_000)), "bytes=40000-"},
		"release": {On(Releases, 1, Cut(40_000)), "bytes=40000-"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			s.Break(c.fault)
			if err := pull.Fetch(t.Context(), s.req); err != nil {
				t.Fatal(err)
			}
			if s.Count(c.want) == 0 {
				t.Errorf("no request resumes: %q", s.Requests())
			}
		})
	}
}

func TestFetch_ResumesInLaterRun(t *testing.T) {
	s := newSetup(t)
	s.Break(func(r Request) Handler {
		switch {
		case r.Server == CDN && r.Nth == 1, r.Server == Releases && r.Nth == 1 && strings.Contains(r.URL.Path, "k0s"):
			return Cut(40_000)
		case r.Server == CDN, r.Server == Releases && strings.Contains(r.URL.Path, "k0s"):
			return Status(404, "")
		}
		return nil
	})
	if err := pull.Fetch(t.Context(), s.req); err == nil {
		t.Fatal("no error")
	}
	s.Break(nil)
	if err := pull.Fetch(t.Context(), s.req); err != nil {
		t.Fatal(err)
	}
	if n := s.Count("bytes=40000-"); n < 2 { // at the registry, which redirects, the CDN and the release page
		t.Errorf("%d requests resume: %q", n, s.Requests())
	}
	buildBundle(t, s.req)
}

func TestFetch_StartsAgainWhenTheFileWasReplaced(t *testing.T) {
	s := newSetup(t)
	s.req.Images = nil
	release := randomBytes(2)
	s.ReplaceFile("/k0s-v1", randomBytes(3)) // not yet what the checksums say
	s.Break(func(r Request) Handler {
		if r.Server != Releases || !strings.Contains(r.URL.Path, "k0s") || r.Method == http.MethodHead || r.Nth > 2 {
			return nil
		}
		return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			defer s.ReplaceFile("/k0s-v1", release)
			Cut(40_000)(w, r, next)
		}
	})
	if err := pull.Fetch(t.Context(), s.req); err != nil {
		t.Fatal(err)
	}
	if !s.hasNote("does not have the digest") {
		t.Errorf("notes %q", s.notes)
	}
	buildBundle(t, s.req)
}

func TestFetch_EndsAtOnceOnPermanentErrors(t *testing.T) {
	for name, c := range map[string]struct {
		fault Fault
		part  string // of the error
	}{
		"manifest is a page":  {On(Registry, Always, Page), "answers with an HTML page"},
		"blob is a page":      {On(CDN, Always, Page), "answers with an HTML page"},
		"release is a page":   {On(Releases, Always, Page), "answers with an HTML page"},
		"endless redirect":    {On(CDN, Always, Loop), "more than 5 redirects"},
		"release redirects":   {On(Releases, Always, Loop), "more than 5 redirects"},
		"token redirects":     {On(Auth, Always, Loop), "more than 5 redirects"},
		"401 for ever":        {On(Registry, Always, Status(401, "")), "docker login"},
		"token refused":       {On(Auth, Always, Status(401, "")), "docker login"},
		"manifest 404":        {On(Registry, Always, manifestStatus(404)), "answers 404 Not Found"},
		"wait for a day":      {On(Releases, Always, Status(429, "86400")), "asks to wait 24h0m0s"},
		"manifest is altered": {alterManifests, "does not have this digest"},
		"blob always altered": {On(CDN, Always, Alter), "does not have the digest"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup(t)
			s.Break(c.fault)
			err := pull.Fetch(t.Context(), s.req)
			if err == nil || !strings.Contains(err.Error(), c.part) || problem.ExitCode(err) != problem.ExitBundle {
				t.Errorf("want %q, got %v", c.part, err)
			}
			if s.hasNote("attempt") && name != "blob always altered" { // the first time the transfer can be wrong
				t.Errorf("notes %q", s.notes)
			}
		})
	}
}

func manifestStatus(code int) Handler {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.WriteHeader(code)
			return
		}
		next(w, r)
	}
}

func alterManifests(r Request) Handler {
	if strings.Contains(r.URL.Path, "/manifests/sha256:") && r.Method == http.MethodGet {
		return Alter
	}
	return nil
}

func TestFetch_NamesUnusableImages(t *testing.T) {
	s := newSetup(t)
	other := s.Push(t, "other:v1", platformIndex(bigImage(t, "s390x"), v1.Platform{OS: "linux", Architecture: "s390x"}, v1.Platform{OS: "windows", Architecture: "amd64"}))
	single := s.Push(t, "single:v1", bigImage(t, "arm64"))
	old := s.PushManifest(t, "old", "v1", "application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"name":"old","tag":"v1"}`)
	for name, c := range map[string]struct{ ref, part string }{
		"no such platform in the index": {other, "does not exist for linux/amd64, only for: linux/s390x, windows/amd64"},
		"another platform":              {single, "is for linux/arm64"},
		"schema 1":                      {old, "schema version 1"},
		"no such tag":                   {s.Host() + "/other:v2", "answers 404 Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			s.req.Images, s.req.HostFiles = []string{c.ref}, nil
			err := pull.Fetch(t.Context(), s.req)
			if err == nil || !strings.Contains(err.Error(), c.part) {
				t.Errorf("want %q, got %v", c.part, err)
			}
		})
	}
}

func TestFetch_HonorsRetryAfter(t *testing.T) {
	for name, server := range map[string]Server{"token server": Auth, "registry": Registry, "CDN": CDN, "release page": Releases} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			s.Break(On(server, 1, Status(http.StatusTooManyRequests, "1")))
			start := time.Now()
			if err := pull.Fetch(t.Context(), s.req); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < time.Second {
				t.Errorf("waited only %s", took)
			}
			if !s.hasNote("answers 429 Too Many Requests and asks to wait 1s", "attempt 2 of 5 in 1s") {
				t.Errorf("notes %q", s.notes)
			}
		})
	}
}

// setDockerConfig makes config the file that `docker login` writes.
func setDockerConfig(t *testing.T, config map[string]any) {
	t.Helper()
	path := filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json")
	raw, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
	if err != nil {
		t.Fatal(err)
	}
}

func TestFetch_FallsBackToAnonymous(t *testing.T) {
	auth := map[string]any{"auth": "dXNlcjpwYXNz"} // user:pass
	for name, c := range map[string]struct {
		config func(host string) map[string]any
		login  string // that the registry requires
		note   string
		fails  string // part of the error
	}{
		"good credentials": {func(h string) map[string]any { return map[string]any{"auths": map[string]any{h: auth}} }, "user:pass", "", ""},
		"old credentials":  {func(h string) map[string]any { return map[string]any{"auths": map[string]any{h: auth}} }, "", "refuses the credentials", ""},
		"missing helper":   {func(string) map[string]any { return map[string]any{"credsStore": "no-such-helper"} }, "", "cannot be read", ""},
		"missing helper for a private image": {func(string) map[string]any { return map[string]any{"credsStore": "no-such-helper"} }, "user:pass", "cannot be read",
			"docker-credential-no-such-helper"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			setDockerConfig(t, c.config(s.Host()))
			s.RequireLogin(c.login)
			err := pull.Fetch(t.Context(), s.req)
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%v", err)
			}
			if (c.note != "") != s.hasNote(c.note, s.Host()) || s.hasNote("attempt") {
				t.Errorf("notes %q", s.notes)
			}
		})
	}
}

func TestFetch_AsksForDigestsOnlyTheSecondTime(t *testing.T) {
	s := newSetup(t)
	pinned := s.req.Images[0] // the same image by digest
	digest, err := platformIndex(bigImage(t, "amd64"), v1.Platform{OS: "linux", Architecture: "arm64"}, v1.Platform{OS: "linux", Architecture: "amd64"}).Digest()
	if err != nil {
		t.Fatal(err)
	}
	pinned = strings.TrimSuffix(pinned, ":v1") + "@" + digest.String()
	for _, c := range []struct {
		name, ref string
		want      []string
	}{
		{"tag", s.req.Images[0], []string{"auth GET /token", "registry GET /v2/", "registry HEAD /v2/replicated/app/manifests/v1", "releases GET /sums"}},
		{"digest", pinned, []string{"releases GET /sums"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.req.Images = []string{c.ref}
			for range 2 {
				s.Break(nil)
				if err := pull.Fetch(t.Context(), s.req); err != nil {
					t.Fatal(err)
				}
			}
			got := s.Requests()
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("requests %q, want %q", got, c.want)
			}
		})
	}
}

// A release that was published again under its version is not hidden by what the folder has.
func TestFetch_DownloadsReplacedReleaseAgain(t *testing.T) {
	s := newSetup(t)
	s.req.Images = nil
	var programs []string
	for _, seed := range []uint64{2, 3} {
		release := randomBytes(seed)
		s.ReplaceFile("/k0s-v1", release)
		s.ReplaceFile("/sums", fmt.Appendf(nil, "%x  k0s-v1\n", sha256.Sum256(release)))
		if err := pull.Fetch(t.Context(), s.req); err != nil {
			t.Fatal(err)
		}
		items, err := build.Select(t.Context(), build.Request{Layout: s.req.Folder, HostFiles: s.req.HostFiles})
		if err != nil || len(items) != 1 {
			t.Fatal(items, err)
		}
		file, err := items[0].HostFile()
		if err != nil || file.Digest.Encoded() != fmt.Sprintf("%x", sha256.Sum256(release)) {
			t.Errorf("the folder has %s (%v)", file.Digest, err)
		}
		a := items[0].Manifest.Annotations
		if a[format.AnnotationDownloadDigest] != file.Digest.String() || a[format.AnnotationDownloadSize] != fmt.Sprint(len(release)) {
			t.Errorf("annotations are %v", a)
		}
		programs = append(programs, file.Digest.String())
	}
	if programs[0] == programs[1] {
		t.Error("the first download is still there")
	}
}

func TestFetch_ReplacesDamagedCache(t *testing.T) {
	s := newSetup(t)
	if err := pull.Fetch(t.Context(), s.req); err != nil {
		t.Fatal(err)
	}
	blobs, err := filepath.Glob(filepath.Join(s.req.Folder, "blobs", "sha256", "*"))
	if err != nil || len(blobs) < 5 {
		t.Fatal(blobs, err)
	}
	for _, path := range blobs {
		data, err := os.ReadFile(path)
		if err == nil {
			data[len(data)/2] ^= 1
			err = os.WriteFile(path, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := pull.Fetch(t.Context(), s.req); err != nil {
		t.Fatal(err)
	}
	buildBundle(t, s.req)
}

func TestFetch_DownloadsFromMirror(t *testing.T) {
	s := newSetup(t)
	s.Push(t, "dockerhub/library/busybox:1", bigImage(t, "amd64"))
	m, err := pull.ParseMirror("docker.io=" + s.Host() + "/dockerhub/")
	if err != nil {
		t.Fatal(err)
	}
	s.req.Mirrors, s.req.Images = []pull.Mirror{m}, []string{"docker.io/library/busybox:1"}
	s.req.Releases = pull.ReleasesAt(s.URL(Releases) + "/github/")
	release := randomBytes(2)
	s.ReplaceFile("/github/k0sproject/k0s/releases/download/v1/k0s-v1-amd64", release)
	s.ReplaceFile("/github/k0sproject/k0s/releases/download/v1/sha256sums.txt", fmt.Appendf(nil, "%x *k0s-v1-amd64\n", sha256.Sum256(release)))
	if err := pull.Fetch(t.Context(), s.req); err != nil {
		t.Fatal(err)
	}
	if got := buildBundle(t, s.req).Images()[0].Ref; got != "docker.io/library/busybox:1" {
		t.Errorf("the image is named %s", got)
	}
}

func TestParseMirror(t *testing.T) {
	for text, want := range map[string]pull.Mirror{
		"docker.io=harbor.example.com/dockerhub":                {Host: "index.docker.io", Target: "harbor.example.com/dockerhub"},
		" quay.io=harbor.example.com:8443 ":                     {Host: "quay.io", Target: "harbor.example.com:8443"},
		"registry.k8s.io=localhost:5000/k8s/":                   {Host: "registry.k8s.io", Target: "localhost:5000/k8s"},
		"docker.io":                                             {},
		"docker.io=":                                            {},
		"=harbor.example.com":                                   {},
		"docker.io=https://harbor.example.com":                  {},
		"docker.io=dockerhub/mirror":                            {},
		"docker.io=harbor.example.com/UPPER":                    {},
		"docker.io=harbor.example.com/../d":                     {},
		"docker.io=harbor.example.com/./d":                      {},
		"docker.io/library=harbor.example.com":                  {},
		"docker.io=u:hunter2@harbor.example.com":                {},
		"u:hunter2@docker.io":                                   {},
		"docker.io=a.example/" + strings.Repeat("hunter2/", 99): {},
	} {
		got, err := pull.ParseMirror(text)
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
		if got != want || (err == nil) != (want != pull.Mirror{}) {
			t.Errorf("%q = %+v, %v", text, got, err)
		}
	}
}

func TestParseMirrorFile(t *testing.T) {
	mirrors, err := pull.ParseMirrorFile([]byte("# our Harbor\n\ndocker.io=harbor.example.com/hub\r\nquay.io=harbor.example.com/quay\n"))
	if err != nil || len(mirrors) != 2 || mirrors[1].Target != "harbor.example.com/quay" {
		t.Errorf("%+v, %v", mirrors, err)
	}
	if _, err := pull.ParseMirrorFile([]byte("# " + strings.Repeat("x", 1<<17) + "\ndocker.io=harbor.example.com")); err != nil {
		t.Errorf("a long comment: %v", err)
	}
	if _, err := pull.ParseMirrorFile([]byte("\n#\nnonsense\n")); err == nil || !strings.Contains(err.Error(), "line 3: ") {
		t.Errorf("%v", err)
	}
}

func FuzzParseMirrorFile(f *testing.F) {
	f.Add([]byte("docker.io=harbor.example.com/hub\n"))
	f.Add([]byte("=\n[::1]=localhost:0/"))
	f.Fuzz(func(t *testing.T, data []byte) {
		mirrors, err := pull.ParseMirrorFile(data)
		for _, m := range mirrors {
			if err == nil && (m.Host == "" || m.Target == "" || strings.ContainsAny(m.Target, " \t\n")) {
				t.Errorf("%q became %+v", data, m)
			}
		}
	})
}
