package push_test

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	inprocess "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/push"
)

// taggedRegistry is a registry with a login, and the images of a bundle.
type taggedRegistry struct {
	host    string
	bundle  *airgap.Bundle
	options fetch.Options

	mu      sync.Mutex
	uploads []string // paths of PUT
	blobs   int      // uploaded ones
	logins  []string
}

func newTaggedRegistry(t *testing.T) *taggedRegistry {
	t.Helper()
	store := inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0)))
	r := &taggedRegistry{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		user, password, _ := req.BasicAuth()
		r.mu.Lock()
		r.logins = append(r.logins, user+":"+password)
		allowed := user == "ops" && password == "secret"
		switch {
		case allowed && req.Method == http.MethodPut:
			r.uploads = append(r.uploads, req.URL.Path)
		case allowed && req.Method == http.MethodPatch:
			r.blobs++
		}
		r.mu.Unlock()
		if !allowed {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		store.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "https://")
	r.options = fetch.Options{Transport: server.Client().Transport, Backoff: time.Millisecond, Login: &fetch.Login{Username: "ops", Password: "secret"}}
	var err error
	if r.bundle, err = airgap.Open(t.Context(), airgaptest.WriteBundle(t, airgaptest.NewRequest(t))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.bundle.Close() })
	return r
}

// image returns the image of the bundle whose reference contains part, to be uploaded with a tag.
func (r *taggedRegistry) image(t *testing.T, part, tag string) push.Tagged {
	t.Helper()
	for _, i := range r.bundle.Images() {
		if strings.Contains(i.Ref, part) {
			return push.Tagged{To: r.host + "/team/" + tag, Manifest: i.Manifest, Blobs: append(slices.Clone(i.Layers), i.Config)}
		}
	}
	t.Fatalf("the bundle has no image %s", part)
	return push.Tagged{}
}

// missing returns the references of images that the registry does not have.
func (r *taggedRegistry) missing(t *testing.T, images []push.Tagged) (missing []push.Tagged, refs []string) {
	t.Helper()
	missing, err := push.MissingTags(t.Context(), images, r.options)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range missing {
		refs = append(refs, strings.TrimPrefix(m.To, r.host+"/team/"))
	}
	return missing, refs
}

func TestUploadTagged_UploadsWhatIsMissing(t *testing.T) {
	r := newTaggedRegistry(t)
	images := []push.Tagged{r.image(t, "/pause:", "pause:3.10"), r.image(t, "/pause:", "pause:latest"), r.image(t, "/kotsadm:", "kotsadm:v1.131.2"), r.image(t, "/coredns:", "coredns:1.12.2")}
	if err := push.UploadTagged(t.Context(), r.bundle, images[3:], r.options, nil); err != nil {
		t.Fatal(err)
	}
	missing, refs := r.missing(t, images)
	if !slices.Equal(refs, []string{"pause:3.10", "pause:latest", "kotsadm:v1.131.2"}) {
		t.Fatalf("%q", refs)
	}
	r.uploads, r.blobs = nil, 0
	if err := push.UploadTagged(t.Context(), r.bundle, missing, r.options, nil); err != nil {
		t.Fatal(err)
	}
	if _, refs = r.missing(t, images); len(refs) > 0 {
		t.Errorf("after the upload: %q", refs)
	}
	var manifests []string
	for _, at := range r.uploads {
		if strings.Contains(at, "/manifests/") {
			manifests = append(manifests, at)
		}
	}
	slices.Sort(manifests)
	if want := []string{"/v2/team/kotsadm/manifests/v1.131.2", "/v2/team/pause/manifests/3.10", "/v2/team/pause/manifests/latest"}; !slices.Equal(manifests, want) {
		t.Errorf("%q, want %q", manifests, want)
	}
	if last := r.uploads[len(r.uploads)-1]; !strings.Contains(last, "/manifests/") {
		t.Errorf("the last upload is %s", last)
	}
	// The two tags share their blobs, and pause shares a layer with coredns, which is mounted or uploaded once.
	if most := len(images[0].Blobs) + len(images[2].Blobs); r.blobs > most {
		t.Errorf("%d blobs were uploaded, want at most %d", r.blobs, most)
	}
}

func TestUploadTagged_MovesATag(t *testing.T) {
	r := newTaggedRegistry(t)
	for _, part := range []string{"/coredns:", "/pause:"} {
		images := []push.Tagged{r.image(t, part, "pause:3.10")}
		missing, refs := r.missing(t, images)
		if len(refs) != 1 {
			t.Fatalf("%s: %q", part, refs)
		}
		if err := push.UploadTagged(t.Context(), r.bundle, missing, r.options, nil); err != nil {
			t.Fatal(err)
		}
		if _, refs = r.missing(t, images); len(refs) > 0 {
			t.Errorf("%s: %q", part, refs)
		}
	}
}

func TestMissingTags_RefusedLogin(t *testing.T) {
	r := newTaggedRegistry(t)
	images := []push.Tagged{r.image(t, "/pause:", "pause:3.10")}
	for name, login := range map[string]fetch.Login{"a wrong password": {Username: "ops", Password: "wrong"}, "no login": {}} {
		t.Run(name, func(t *testing.T) {
			r.options.Login, r.logins = &login, nil
			if _, err := push.MissingTags(t.Context(), images, r.options); !fetch.IsUnauthorized(err) {
				t.Errorf("%v, logins %q", err, r.logins)
			}
		})
	}
}

// TestUploadTagged_EndsWhenTheRegistryStopsReading: the write of a body hangs once the buffers of the connection are full.
func TestUploadTagged_EndsWhenTheRegistryStopsReading(t *testing.T) {
	r := newTaggedRegistry(t)
	image := r.image(t, "/pause:", "pause:3.10")
	// The content is larger than all buffers. It is never complete, so that its digest does not matter.
	const size = 64 << 20
	image.Blobs = []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString("never complete"), Size: size}}
	ended := make(chan struct{})
	stuck := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.Method {
		case http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case http.MethodPost:
			w.Header().Set("Location", "/upload")
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPatch:
			<-ended
		}
	}))
	t.Cleanup(stuck.Close)
	t.Cleanup(func() { close(ended) })
	image.To = strings.TrimPrefix(stuck.URL, "https://") + "/team/pause:3.10"
	options := fetch.Options{Transport: stuck.Client().Transport, Backoff: time.Millisecond, Stall: 20 * time.Millisecond}
	err := push.UploadTagged(t.Context(), endlessSource{}, []push.Tagged{image}, options, nil)
	if err == nil || !strings.Contains(err.Error(), "stalls: almost no data") || !strings.Contains(err.Error(), "after 5 attempts") {
		t.Errorf("%v", err)
	}
}

// endlessSource has zeros for every blob.
type endlessSource struct{}

func (endlessSource) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeros{}, d.Size)), nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
