package fetch_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap/blob"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/limit"
	"github.com/plinthdev/plinth/internal/testkit"
)

// A release page tells no size before the download, and can send without an end.
func TestFetchBlob_BoundsBlobsOfUnknownSize(t *testing.T) {
	endless := func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() // no Content-Length
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}
	untold := func(w http.ResponseWriter) { w.WriteHeader(http.StatusMethodNotAllowed) }
	nonsense := func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100000000000000") }
	for name, tc := range map[string]struct {
		head func(w http.ResponseWriter)
		body http.HandlerFunc
		most int64
		says string
	}{
		"more than HEAD states":   {func(w http.ResponseWriter) { w.Header().Set("Content-Length", "4096") }, endless, 0, "sends more than the 4096 bytes"},
		"without a stated size":   {untold, endless, 64 << 10, "sends more than the 65536 bytes"},
		"nonsense in HEAD":        {nonsense, endless, 0, "states 100000000000000 bytes, the limit is 1073741824"},
		"nonsense in GET":         {untold, func(w http.ResponseWriter, _ *http.Request) { nonsense(w) }, 0, "answers with 100000000000000 bytes, the limit is 1073741824"},
		"nonsense for a document": {untold, func(w http.ResponseWriter, _ *http.Request) { nonsense(w) }, 64 << 10, "answers with 100000000000000 bytes, the limit is 65536"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					tc.head(w)
					return
				}
				tc.body(w, r)
			}))
			t.Cleanup(server.Close)
			folder, err := blob.CreateFolder(t.TempDir())
			testkit.Must(t, err)
			want := ocispec.Descriptor{Digest: digest.FromString("k0s"), Size: fetch.UnknownSize}
			client := fetch.NewClient(fetch.Options{Backoff: time.Millisecond, Stall: time.Second})
			err = client.FetchBlob(t.Context(), folder, fetch.Blob{URL: server.URL + "/k0s", Want: want, MaxSize: tc.most}, blob.NewProgress(0, nil))
			if err == nil || !strings.Contains(err.Error(), tc.says) || !errors.Is(err, fetch.ErrUnusable) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
}

func TestFetchBlob_ProgressIsNotCompleteBeforeTheEnd(t *testing.T) {
	content := strings.Repeat("k0s ", 50_000)
	for name, stated := range map[string]bool{"with a size": true, "without a size": false} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case stated:
					http.ServeContent(w, r, "k0s", time.Time{}, strings.NewReader(content))
				case r.Method == http.MethodGet:
					w.(http.Flusher).Flush()
					_, _ = w.Write([]byte(content))
				}
			}))
			t.Cleanup(server.Close)
			folder, err := blob.CreateFolder(t.TempDir())
			testkit.Must(t, err)
			counter := blob.NewProgress(0, func(done, total int64) {
				if done == total && done != int64(len(content)) {
					t.Errorf("%d of %d", done, total)
				}
			})
			want := ocispec.Descriptor{Digest: digest.FromString(content), Size: fetch.UnknownSize}
			client := fetch.NewClient(fetch.Options{Backoff: time.Millisecond, Stall: time.Second})
			testkit.Must(t, client.FetchBlob(t.Context(), folder, fetch.Blob{URL: server.URL, Want: want}, counter))
			counter.Finish()
		})
	}
}

func TestClient_ShowsNoSecretOfAURL(t *testing.T) {
	long := strings.Repeat("a", 3<<20)
	for name, location := range map[string]string{
		"refused redirect":    "http://192.0.2.1/blob?X-Amz-Signature=hidden",
		"missing target":      "/gone?sig=hidden#hidden",
		"user and password":   "http://hidden:abc@192.0.2.1/x",
		"endless redirects":   "/loop?sig=hidden",
		"not a URL":           "http://192.0.2.1:hidden/%zz?hidden",
		"three megabytes":     "/gone?" + long,
		"a path of megabytes": "http://192.0.2.1/" + long,
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/gone" {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				w.Header().Set("Location", location)
				w.WriteHeader(http.StatusFound)
			}))
			t.Cleanup(server.Close)
			var notes []string
			client := fetch.NewClient(fetch.Options{Backoff: time.Millisecond, Stall: 5 * time.Second, Note: func(s string) { notes = append(notes, s) }})
			_, err := client.GetDocument(t.Context(), server.URL+"/list", "", limit.Document)
			_, sizeErr := client.GetSize(t.Context(), server.URL+"/list")
			if err == nil || sizeErr == nil {
				t.Fatalf("%v, %v", err, sizeErr)
			}
			text := err.Error() + sizeErr.Error() + strings.Join(notes, "")
			if strings.Contains(text, "hidden") || strings.Contains(text, "abc") || len(err.Error()) > 1000 || len(sizeErr.Error()) > 1000 {
				t.Errorf("%.3000s", text)
			}
		})
	}
}

func TestClient_RefusesDocumentsThatStateTooManyBytes(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "1152921504606846976") }))
	t.Cleanup(server.Close)
	_, err := fetch.NewClient(fetch.Options{Backoff: time.Hour}).GetDocument(t.Context(), server.URL, "", limit.Document)
	if err == nil || !strings.Contains(err.Error(), "it has 1152921504606846976 bytes, the limit is 4194304") {
		t.Errorf("%v", err)
	}
}
