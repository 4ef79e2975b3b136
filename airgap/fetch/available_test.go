package fetch_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/fetch"
)

func TestListUnavailable_ReportsMissingBlobs(t *testing.T) {
	p := publish(t, 10, 20)
	remote, err := fetch.Dial(t.Context(), p.URL+"/my-app", fetch.Options{Backoff: time.Millisecond, Stall: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if lacking, err := remote.ListUnavailable(t.Context(), p.blobs); err != nil || len(lacking) > 0 {
		t.Errorf("all blobs are available, got %q, %v", lacking, err)
	}
	none := ocispec.Descriptor{Digest: digest.FromString("none"), Size: 4}
	short := p.blobs[1]
	short.Size++
	lacking, err := remote.ListUnavailable(t.Context(), []ocispec.Descriptor{p.blobs[0], none, short})
	if err != nil || len(lacking) != 2 || lacking[0] != none.Digest.String()+" is missing" || !strings.Contains(lacking[1], "has 20 bytes there instead of 21") {
		t.Errorf("%q, %v", lacking, err)
	}
	p.misbehave(func(w http.ResponseWriter, r *http.Request, _ int) bool {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return true
	})
	if lacking, err := remote.ListUnavailable(t.Context(), p.blobs); err != nil || len(lacking) > 0 {
		t.Errorf("the server does not support HEAD requests, got %q, %v", lacking, err)
	}
	p.Close()
	if _, err := remote.ListUnavailable(t.Context(), p.blobs); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("the server is down: %v", err)
	}
}
