// Package pulltest simulates the servers from which a build downloads: a registry with
// a token server and a CDN for its blobs, and a release page, all with TLS. Faults make
// them behave as such servers do on the internet.
package pulltest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	inprocess "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Server names one of the servers of an Upstream.
type Server string

// The servers of an Upstream.
const (
	Registry Server = "registry" // manifests; redirects blobs to the CDN
	Auth     Server = "auth"     // gives tokens
	CDN      Server = "cdn"      // blobs, with ranges
	Releases Server = "releases" // files, with ranges
)

// Request is a request that one of the servers received.
type Request struct {
	Server Server
	*http.Request
	Nth int // counted from 1 for each server, method and path
}

// Upstream is a set of simulated servers.
type Upstream struct {
	Transport http.RoundTripper // trusts the servers
	urls      map[Server]string
	store     http.Handler // the content of the registry, without authentication
	push      *httptest.Server

	mu       sync.Mutex
	fault    Fault
	counts   map[string]int
	log      []string
	files    map[string][]byte // of the release page, by path
	login    string            // USER:PASSWORD that the token server requires; "" for none
	replaced string            // ETag of all files; changes with ReplaceFile
}

// New starts the servers. They stop with the test.
func New(t *testing.T) *Upstream {
	t.Helper()
	u := &Upstream{urls: map[Server]string{}, counts: map[string]int{}, files: map[string][]byte{}, replaced: "first",
		store: inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0)))}
	roots := x509.NewCertPool()
	for server, handler := range map[Server]http.HandlerFunc{Registry: u.serveRegistry, Auth: u.serveToken, CDN: u.serveBlob, Releases: u.serveFile} {
		s := httptest.NewUnstartedServer(u.record(server, handler))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		roots.AddCert(s.Certificate())
		u.urls[server] = s.URL
	}
	u.push = httptest.NewServer(u.store)
	t.Cleanup(u.push.Close)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	u.Transport = transport
	return u
}

// Host returns the host and port of the registry.
func (u *Upstream) Host() string { return strings.TrimPrefix(u.urls[Registry], "https://") }

// URL returns the URL of a server.
func (u *Upstream) URL(s Server) string { return u.urls[s] }

// Break makes the servers behave as fault says, and clears the recorded requests.
func (u *Upstream) Break(fault Fault) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fault = fault
	clear(u.counts)
	u.log = nil
}

// RequireLogin makes the token server refuse anyone but USER:PASSWORD.
func (u *Upstream) RequireLogin(login string) { u.login = login }

// Requests returns "SERVER METHOD PATH [RANGE]" of all requests since Break.
func (u *Upstream) Requests() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string{}, u.log...)
}

// Count returns how many of the Requests contain part.
func (u *Upstream) Count(part string) (n int) {
	for _, r := range u.Requests() {
		if strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// Push stores an image or an index as repository:tag, and returns its reference.
func (u *Upstream) Push(t *testing.T, repository string, what any) string {
	t.Helper()
	ref, err := name.ParseReference(strings.TrimPrefix(u.push.URL, "http://") + "/" + repository)
	if err == nil {
		switch what := what.(type) {
		case v1.Image:
			err = remote.Write(ref, what)
		case v1.ImageIndex:
			err = remote.WriteIndex(ref, what)
		default:
			err = fmt.Errorf("%T is no image", what)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return u.Host() + "/" + repository
}

// PushManifest stores any document as a manifest.
func (u *Upstream) PushManifest(t *testing.T, repository, tag, mediaType, content string) string {
	t.Helper()
	req := httptest.NewRequest(http.MethodPut, "/v2/"+repository+"/manifests/"+tag, strings.NewReader(content))
	req.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	if u.store.ServeHTTP(w, req); w.Code != http.StatusCreated {
		t.Fatalf("push a manifest: %d %s", w.Code, w.Body)
	}
	return u.Host() + "/" + repository + ":" + tag
}

// ReplaceFile sets the content of a file of the release page, and its ETag.
func (u *Upstream) ReplaceFile(at string, content []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.files[at] = content
	u.replaced += "+"
}

// record logs requests, and lets the fault answer.
func (u *Upstream) record(server Server, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		key := fmt.Sprintf("%s %s %s", server, r.Method, r.URL.Path)
		u.counts[key]++
		request, fault := Request{server, r, u.counts[key]}, u.fault
		u.log = append(u.log, strings.TrimSpace(key+" "+r.Header.Get("Range")))
		u.mu.Unlock()
		if fault != nil {
			if h := fault(request); h != nil {
				h(w, r, next)
				return
			}
		}
		next(w, r)
	}
}

const token = "a-token-of-the-test"

// serveRegistry answers like the distribution API of a registry that requires a token.
func (u *Upstream) serveRegistry(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+token {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="registry"`, u.urls[Auth]))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		http.Redirect(w, r, u.urls[CDN]+r.URL.Path+"?signature=x", http.StatusTemporaryRedirect)
		return
	}
	u.store.ServeHTTP(w, r)
}

// serveToken gives a token to all, or to those who log in.
func (u *Upstream) serveToken(w http.ResponseWriter, r *http.Request) {
	user, password, sent := r.BasicAuth()
	if u.login != "" && user+":"+password != u.login || sent && u.login == "" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

// serveBlob answers like a CDN, which refuses the token of the registry.
func (u *Upstream) serveBlob(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		http.Error(w, "the token of the registry was sent to the CDN", http.StatusBadRequest)
		return
	}
	stored := httptest.NewRecorder()
	u.store.ServeHTTP(stored, httptest.NewRequest(http.MethodGet, r.URL.Path, nil))
	if stored.Code != http.StatusOK {
		w.WriteHeader(stored.Code)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(stored.Body.Bytes()))
}

// serveFile answers like a release page.
func (u *Upstream) serveFile(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	content, ok := u.files[r.URL.Path]
	etag := u.replaced
	u.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", `"`+etag+`"`)
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, bytes.NewReader(content))
}
