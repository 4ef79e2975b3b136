package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	inprocess "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/internal/lockfile"
	"github.com/plinthdev/plinth/internal/problem"
)

// published is a mirror of the registries and release pages, on this machine.
type published struct {
	*httptest.Server
	arch  string            // of all content
	files map[string]string // content by path
}

// publish starts a mirror with everything that the documented Installer needs on hosts with arch.
func publish(t *testing.T, arch string) published {
	t.Helper()
	p := published{arch: arch, files: map[string]string{}}
	mux := http.NewServeMux()
	mux.Handle("/v2/", inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0))))
	mux.HandleFunc("/github/", func(w http.ResponseWriter, r *http.Request) {
		content, ok := p.files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = io.WriteString(w, content)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	refs, _ := resolved(t)
	for _, ref := range refs {
		p.push(t, ref, "first")
	}
	p.release("k0sproject/k0s/releases/download/v1.33.8+k0s.1/", "k0s-v1.33.8+k0s.1-"+arch, "sha256sums.txt", "k0s, first")
	var kots bytes.Buffer
	gz := gzip.NewWriter(&kots)
	w := tar.NewWriter(gz)
	if err := w.WriteHeader(&tar.Header{Name: "kots", Size: 4, Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, "kots")
	if err := errors.Join(w.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	p.release("replicatedhq/kots/releases/download/v1.131.2/", "kots_linux_"+arch+".tar.gz", "kots_1.131.2_checksums.txt", kots.String())
	return p
}

// push stores an image under a reference of the Installer.
func (p published) push(t *testing.T, ref, content string) {
	t.Helper()
	host, path, _ := strings.Cut(ref, "/")
	to, err := name.ParseReference(strings.TrimPrefix(p.URL, "http://") + "/" + strings.Split(host, ".")[0] + "/" + path)
	if err == nil {
		err = remote.Write(to, forArch(t, airgaptest.BuildImage(t, airgaptest.Image{Ref: ref, Files: []string{ref, content}}), p.arch))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// forArch returns an image with another architecture in its configuration.
func forArch(t *testing.T, image v1.Image, arch string) v1.Image {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture = arch
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// release stores a file of a release and the list with its checksum.
func (p published) release(folder, file, sums, content string) {
	p.files["/github/"+folder+file] = content
	p.files["/github/"+folder+sums] = fmt.Sprintf("%x *%s\n", sha256.Sum256([]byte(content)), file)
}

// downloads returns the settings with which everything comes from p.
func (p published) downloads(cache string) Downloads {
	host := strings.TrimPrefix(p.URL, "http://")
	return Downloads{Cache: cache, Releases: p.URL + "/github", Mirrors: []string{"quay.io=" + host + "/quay", "docker.io=" + host + "/docker"}}
}

// A lock through mirrors names upstream, and what the cache has cannot hide what was published again.
func TestBuild_LockedAgainstMirrorsAndCache(t *testing.T) {
	p := publish(t, "amd64")
	installer, cache := documentedCopy(t), t.TempDir()
	lock := func() LockResult {
		t.Helper()
		res, err := Lock(t.Context(), LockRequest{Installer: installer, Source: fromRegistry, Downloads: p.downloads(cache)})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	build := func() (string, error) {
		out := filepath.Join(t.TempDir(), "b")
		_, err := Build(t.Context(), BuildRequest{Installer: installer, Source: fromRegistry, Downloads: p.downloads(cache), Out: out, Locked: true})
		return out, err
	}
	locked := lock().Platforms[0]
	if url := locked.HostFiles[0].URL; url != "https://github.com/k0sproject/k0s/releases/download/v1.33.8%2Bk0s.1/k0s-v1.33.8%2Bk0s.1-amd64" {
		t.Errorf("k0s is locked at %s", url)
	}
	for range 2 { // the second time from the cache
		if _, err := build(); err != nil {
			t.Fatal(err)
		}
	}
	refs, _ := resolved(t)
	for name, change := range map[string]func(){
		"host file k0s": func() {
			p.release("k0sproject/k0s/releases/download/v1.33.8+k0s.1/", "k0s-v1.33.8+k0s.1-amd64", "sha256sums.txt", "k0s, second")
		},
		"image " + refs[0]: func() { p.push(t, refs[0], "second") },
	} {
		change()
		if _, err := build(); problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(fmt.Sprint(err), name+": locked ") {
			t.Errorf("%s was published again: %v", name, err)
		}
		if res := lock(); len(res.Changes) != 1 || res.Changes[0].Differences[0].Component != name {
			t.Errorf("%+v", res.Changes)
		}
		out, err := build()
		if err != nil {
			t.Fatal(err)
		}
		checkLocked(t, out, installer)
	}
}

func TestBuild_ForAnotherPlatform(t *testing.T) {
	const platform = "linux/arm64"
	p := publish(t, "arm64")
	installer, mirror := documentedCopy(t), filepath.Join(t.TempDir(), "parts")
	downloads := p.downloads(t.TempDir())
	lock, err := Lock(t.Context(), LockRequest{Installer: installer, Source: fromRegistry, Downloads: downloads, Platforms: []string{platform}})
	if err != nil || len(lock.Platforms) != 1 || !strings.HasSuffix(lock.Platforms[0].HostFiles[1].URL, "/kots_linux_arm64.tar.gz") {
		t.Fatalf("%+v, %v", lock, err)
	}
	mirrored := p.downloads("")
	if _, err := Mirror(t.Context(), MirrorRequest{Installer: installer, Platform: platform, Out: mirror, Downloads: mirrored}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		req  BuildRequest
		want string // in the error; "" if built
	}{
		"registry":                  {BuildRequest{Source: fromRegistry, Downloads: downloads, Platform: platform, Locked: true}, ""},
		"mirror":                    {BuildRequest{Source: mirror, Platform: platform}, ""},
		"mirror, locked":            {BuildRequest{Source: mirror, Platform: platform, Locked: true}, ""},
		"mirror, default platform":  {BuildRequest{Source: mirror}, "is missing in the source " + mirror + " for platform linux/amd64"},
		"registry without platform": {BuildRequest{Source: fromRegistry, Downloads: downloads}, "linux/arm64"},
	} {
		t.Run(name, func(t *testing.T) {
			c.req.Installer, c.req.Out = installer, filepath.Join(t.TempDir(), "b")
			_, err := Build(t.Context(), c.req)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			b, err := airgap.Open(t.Context(), c.req.Out)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Close() }()
			if b.Platform() != platform {
				t.Errorf("the bundle is for %s", b.Platform())
			}
		})
	}
}

// A registry and a folder of releases that Mirror filled are all that a build needs.
func TestMirror_FillsRegistry(t *testing.T) {
	p := publish(t, "amd64")
	installer, cache := documentedCopy(t), t.TempDir()
	build := func(d Downloads, locked bool) string {
		t.Helper()
		res, err := Build(t.Context(), BuildRequest{Installer: installer, Source: fromRegistry, Downloads: d, Out: filepath.Join(t.TempDir(), "b"), Locked: locked})
		if err != nil {
			t.Fatal(err)
		}
		return res.Digest.String()
	}
	upstream := build(p.downloads(cache), false)
	target, uploaded, releases := strings.TrimPrefix(p.URL, "http://")+"/plinth", int64(0), t.TempDir()
	res, err := Mirror(t.Context(), MirrorRequest{Installer: installer, Out: "oci://" + target + "/", Downloads: p.downloads(cache), Releases: releases,
		Uploaded: func(done, _ int64) { uploaded = done }})
	if err != nil {
		t.Fatal(err)
	}
	images, _ := resolved(t)
	want := MirrorResult{Registry: target, Images: images, Mirrors: []string{"docker.io=" + target + "/docker.io", "quay.io=" + target + "/quay.io"},
		Releases: releases, HostFiles: []string{"k0s v1.33.8+k0s.1", "kots 1.131.2"}}
	if !reflect.DeepEqual(res, want) || uploaded == 0 {
		t.Errorf("%+v, want %+v; %d bytes uploaded", res, want, uploaded)
	}
	web := httptest.NewServer(http.FileServer(http.Dir(releases)))
	t.Cleanup(web.Close)
	mirrored := Downloads{Cache: t.TempDir(), Releases: web.URL, MirrorsFile: write(t, strings.Join(res.Mirrors, "\n"))}
	if got := build(mirrored, true); got != upstream {
		t.Errorf("from the mirror the bundle is %s, from upstream %s", got, upstream)
	}
}

func TestMirror_RefusesDestination(t *testing.T) {
	for name, c := range map[string]struct {
		req  MirrorRequest
		want string
	}{
		"nothing":               {MirrorRequest{}, "the name of the folder is empty"},
		"another scheme":        {MirrorRequest{Out: "docker://harbor.example.com/plinth"}, "not of a registry"},
		"no host":               {MirrorRequest{Out: "oci://plinth"}, `"plinth" is not a host`},
		"upper case":            {MirrorRequest{Out: "oci://harbor.example.com/Plinth"}, "repository can only contain"},
		"password":              {MirrorRequest{Out: "oci://user:secret@harbor.example.com/plinth"}, "with a user or a password"},
		"folder with cache":     {MirrorRequest{Out: t.TempDir(), Downloads: Downloads{Cache: t.TempDir()}}, "are for a registry"},
		"folder with releases":  {MirrorRequest{Out: t.TempDir(), Releases: t.TempDir()}, "are for a registry"},
		"registry and platform": {MirrorRequest{Out: "oci://harbor.example.com", Platform: "linux/s390x"}, "linux/s390x"},
	} {
		t.Run(name, func(t *testing.T) {
			c.req.Installer = documented
			_, err := Mirror(t.Context(), c.req)
			if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(fmt.Sprint(err), c.want) || strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// checkLocked fails unless a bundle has the images and the k0s of the lock file.
func checkLocked(t *testing.T, bundle, installer string) {
	t.Helper()
	file, err := readLockFile(lockfile.Path(installer), "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := airgap.Open(t.Context(), bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	for i, image := range b.Images() {
		if want := file.Platforms[0].Images[i]; image.Ref != want.Reference || image.Manifest.Digest.String() != want.Digest {
			t.Errorf("the bundle has %s %s, the lock %+v", image.Ref, image.Manifest.Digest, want)
		}
	}
	if got, want := b.HostFiles()[0].Digest.String(), file.Platforms[0].HostFiles[0].Digest; got != want { // k0s is its download
		t.Errorf("the bundle has k0s %s, the lock %s", got, want)
	}
}
