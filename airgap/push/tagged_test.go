package push_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	inprocess "github.com/google/go-containerregistry/pkg/registry"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/fetch"
	"github.com/plinthdev/plinth/airgap/push"
)

func TestUploadTagged_UploadsWhatIsMissing(t *testing.T) {
	store := inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0)))
	var uploads, logins []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		logins = append(logins, user+":"+password)
		if user != "ops" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == http.MethodPut {
			uploads = append(uploads, r.URL.Path)
		}
		store.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	b, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	var images []push.Tagged
	for _, i := range b.Images()[:1] { // the server records one request at a time
		images = append(images, push.Tagged{To: host + "/team/" + i.Ref[strings.LastIndex(i.Ref, "/")+1:], Manifest: i.Manifest, Blobs: append(i.Layers, i.Config)})
	}
	options := fetch.Options{Transport: server.Client().Transport, Backoff: time.Millisecond, Login: &fetch.Login{Username: "ops", Password: "secret"}}
	missing, err := push.MissingTags(t.Context(), images, options)
	if err != nil || len(missing) != 1 {
		t.Fatalf("%v, %v", missing, err)
	}
	if err := push.UploadTagged(t.Context(), b, missing, options, nil); err != nil {
		t.Fatal(err)
	}
	if missing, err = push.MissingTags(t.Context(), images, options); err != nil || len(missing) > 0 {
		t.Errorf("after the upload: %v, %v", missing, err)
	}
	if last := uploads[len(uploads)-1]; last != "/v2/team/pause/manifests/3.10" {
		t.Errorf("the last upload is %s", last)
	}
	for name, login := range map[string]fetch.Login{"a wrong password": {Username: "ops", Password: "wrong"}, "no login": {}} {
		t.Run(name, func(t *testing.T) {
			options.Login, logins = &login, nil
			if _, err := push.MissingTags(t.Context(), images, options); !fetch.IsUnauthorized(err) {
				t.Errorf("%v, logins %q", err, logins)
			}
		})
	}
}
