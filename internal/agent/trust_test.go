package agent

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/token"
)

// newRSATestCA returns an authority as EnsureCA creates it for a cluster, with an RSA key.
func newRSATestCA(t testing.TB) testCA {
	t.Helper()
	pair, err := pki.NewClusterCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	return testCA{pair, cert}
}

// countingServer serves everything, and counts the requests.
func countingServer(t *testing.T, cert tls.Certificate, blob []byte) (at string, requests *atomic.Int32) {
	t.Helper()
	requests = new(atomic.Int32)
	return startServer(t, cert, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if strings.HasPrefix(r.URL.Path, BlobPath) {
			_, _ = w.Write(blob)
			return
		}
		_, _ = io.WriteString(w, "{}")
	})), requests
}

func TestClient_SendsNoSecretToFalseControllers(t *testing.T) {
	a, other := newRSATestCA(t), newTestCA(t)
	data := []byte("a blob")
	blob := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	chainOf := func(c tls.Certificate) tls.Certificate { // with the pinned authority, which did not sign the leaf
		c.Certificate = [][]byte{c.Certificate[0], a.cert.Raw}
		return c
	}
	for name, c := range map[string]struct {
		cert    tls.Certificate
		content bool // content is requested from it, with the hash of the secret
	}{
		"a kubelet's serving certificate":                      {a.issue(t, nodecert.KubeletServing, "c1", ""), false},
		"a kubelet's client certificate":                       {a.issue(t, nodecert.KubeletClient, "c1", ""), false},
		"another server below the authority":                   {a.server(t), false},
		"a worker's agent":                                     {a.worker(t, "w1"), true},
		"a controller's agent of another cluster":              {other.controller(t, "c1"), false},
		"a controller of another cluster, the right authority": {chainOf(other.controller(t, "c1")), false},
		"a self-signed certificate":                            {newSelfSigned(t), false},
		"a self-signed certificate, the right authority":       {chainOf(newSelfSigned(t)), false},
		"a controller's subject, self-signed":                  {selfSign(t, a.controller(t, "c1")), false},
	} {
		t.Run(name, func(t *testing.T) {
			at, requests := countingServer(t, c.cert, data)
			host := newSelfSigned(t)
			client := newTestClientAs(t, &host, a, at)
			_, describeErr := client.DescribeCluster(t.Context())
			_, admitErr := client.Admit(t.Context(), JoinRequest{Node: "w2", MachineID: "m", Address: "10.0.0.1"})
			_, renewErr := client.Renew(t.Context(), RenewRequest{})
			checkErr := client.CheckReadAccess(t.Context(), "id.secret", "")
			_, leaveErr := newTestLeaveClient(a, host, at).CheckLeave(t.Context())
			for what, err := range map[string]error{"describe": describeErr, "admit": admitErr, "renew": renewErr, "check": checkErr, "leave": leaveErr} {
				var no *DeniedError
				if err == nil || errors.As(err, &no) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if n := requests.Load(); n != 0 {
				t.Errorf("the server got %d requests", n)
			}
			r, err := client.Open(t.Context(), blob)
			if (err == nil) != c.content || (requests.Load() > 0) != c.content {
				t.Errorf("a blob: %v, %d requests", err, requests.Load())
			}
			if err == nil {
				_ = r.Close()
			}
		})
	}
}

func TestClient_SendsOnlyHashToWorkers(t *testing.T) {
	a := newTestCA(t)
	data := []byte("a blob")
	d := digest.FromBytes(data)
	var shown []string
	at := startServer(t, a.worker(t, "w1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = append(shown, r.Header.Get("Authorization"))
		if r.Method == http.MethodPost {
			data = []byte("{}")
		}
		_, _ = w.Write(data)
	}))
	client := newTestClient(t, a, at)
	if _, err := client.ReadDocument(t.Context(), d, 100); err != nil {
		t.Error(err)
	}
	_, _ = client.DescribeCluster(t.Context())
	if err := client.postPeerCheck(t.Context(), mustAddrPort(t, at), struct{}{}, &struct{}{}); err != nil {
		t.Error(err)
	}
	want := "Bearer " + readOnlyBearer("id.secret")
	if !slices.Equal(shown, []string{want, want}) {
		t.Errorf("the worker got %q", shown)
	}
}

// seenBy serves a fakeCluster, and returns the clients that it got requests of.
func seenBy(t *testing.T, a testCA, w fakeCluster) (at string, seen *[]Caller) {
	t.Helper()
	seen = new([]Caller)
	w.saw = func(c Caller) { *seen = append(*seen, c) }
	return startNode(t, a, w, nil), seen
}

func TestServer_TellsBackendKeyOfClient(t *testing.T) {
	a := newTestCA(t)
	host, worker, removed := newSelfSigned(t), a.worker(t, "w1"), a.worker(t, "w2")
	claimed, foreign, kubelet := selfSign(t, a.controller(t, "c1")), newTestCA(t).controller(t, "c1"), a.issue(t, nodecert.KubeletClient, "w1", "")
	show := readOnlyBearer("id.secret")
	forwarded := ReadPath + "?key=" + url.QueryEscape(pinOf(host))
	blob := BlobPath + "/blobs/" + digest.FromString("x").String()
	peer := nodecert.NodeID{Node: "w1", UID: "uid-of-w1", Role: token.Worker}
	gone := nodecert.NodeID{Node: "w2", UID: "uid-of-w2", Role: token.Worker}
	for name, c := range map[string]struct {
		path, bearer string
		cert         *tls.Certificate
		want         []Caller
		status       int
	}{
		"handshake without a certificate":          {JoinPath, "id.secret", nil, []Caller{{Bearer: "id.secret"}}, 200},
		"handshake with a self-signed one":         {JoinPath, "id.secret", &host, []Caller{{Bearer: "id.secret", Key: pinOf(host)}}, 200},
		"content with a self-signed one":           {blob, show, &host, []Caller{{Bearer: show, Key: pinOf(host)}}, 404},
		"agent's subject, self-signed":             {ReadPath, show, &claimed, []Caller{{Bearer: show, Key: pinOf(claimed)}}, 200},
		"agent of another cluster":                 {ReadPath, show, &foreign, []Caller{{Bearer: show, Key: pinOf(foreign)}}, 200},
		"kubelet":                                  {ReadPath, show, &kubelet, []Caller{{Bearer: show, Key: pinOf(kubelet)}}, 200},
		"handshake of a node":                      {JoinPath, "id.secret", &worker, []Caller{{Bearer: "id.secret", Key: pinOf(worker), NodeID: peer}}, 200},
		"content of a node":                        {blob, "", &worker, nil, 404},
		"removed node with a token":                {blob, show, &removed, []Caller{{Bearer: show, Key: pinOf(removed), NodeID: gone}}, 404},
		"removed node without a token":             {blob, "", &removed, nil, 401},
		"node forwards a key":                      {forwarded, show, &worker, []Caller{{Bearer: show, Key: pinOf(host)}}, 200},
		"node forwards a client without a key":     {ReadPath + "?key=none", show, &worker, []Caller{{Bearer: show}}, 200},
		"node forwards a client without a token":   {forwarded, "", &worker, nil, 401},
		"node forwards neither key nor token":      {ReadPath + "?key=", "", &worker, nil, 401},
		"removed node forwards a key":              {forwarded, show, &removed, nil, 401},
		"stranger claims a key":                    {forwarded, show, nil, []Caller{{Bearer: show}}, 200},
		"stranger with a key claims another":       {forwarded, show, &foreign, []Caller{{Bearer: show, Key: pinOf(foreign)}}, 200},
		"kubelet claims another key":               {forwarded, show, &kubelet, []Caller{{Bearer: show, Key: pinOf(kubelet)}}, 200},
		"agent's subject claims another key":       {forwarded, show, &claimed, []Caller{{Bearer: show, Key: pinOf(claimed)}}, 200},
		"stranger claims a key without a token":    {forwarded, "", &host, nil, 401},
		"stranger claims a key for a blob":         {blob + "?key=" + url.QueryEscape(pinOf(host)), show, &foreign, []Caller{{Bearer: show, Key: pinOf(foreign)}}, 404},
		"node claims a key for the handshake":      {JoinPath + "?key=" + url.QueryEscape(pinOf(host)), "id.secret", &worker, []Caller{{Bearer: "id.secret", Key: pinOf(worker), NodeID: peer}}, 200},
		"stranger without a token":                 {blob, "", nil, nil, 401},
		"stranger with a token and no auth scheme": {ReadPath, "\x00" + show, nil, nil, 401},
	} {
		t.Run(name, func(t *testing.T) {
			at, seen := seenBy(t, a, fakeCluster{bearer: "id.secret", gone: "w2"})
			var res *http.Response
			if raw, ok := strings.CutPrefix(c.bearer, "\x00"); ok {
				res = sendWithHeader(t, at, http.MethodGet, c.path, map[string]string{"Authorization": raw})
			} else {
				res = getWithCert(t, at, c.path, c.bearer, c.cert)
			}
			if !slices.Equal(*seen, c.want) || res.StatusCode != c.status {
				t.Errorf("%s, the backend got %+v\nwant %d, %+v", res.Status, *seen, c.status, c.want)
			}
		})
	}
}

// A worker forwards what its clients show to a controller, with its own certificate.
func TestForwardedClient_IsNotTheWorker(t *testing.T) {
	a := newTestCA(t)
	data := []byte("a blob")
	d := digest.FromBytes(data)
	w := fakeCluster{bearer: "id.secret", blobs: map[digest.Digest][]byte{d: data}}
	controller, seen := seenBy(t, a, w)
	cert, host := a.worker(t, "w1"), newSelfSigned(t)
	worker := startBackend(t, a, forwarder{w, newTestClientAs(t, &cert, a, controller)}, w, nil)
	show := readOnlyBearer("id.secret")
	for name, c := range map[string]struct {
		bearer string
		cert   *tls.Certificate
		want   int
		seen   []Caller
	}{
		"no credentials":            {"", nil, 401, nil},
		"a key without a token":     {"", &host, 401, nil},
		"a wrong token":             {"id.guess", &host, 401, []Caller{{Bearer: "id.guess", Key: pinOf(host)}}},
		"a token":                   {show, nil, 200, []Caller{{Bearer: show}}},
		"a token and a key":         {show, &host, 200, []Caller{{Bearer: show, Key: pinOf(host)}}},
		"the worker's own identity": {"", &cert, 200, nil},
	} {
		t.Run(name, func(t *testing.T) {
			*seen = nil
			if res := getWithCert(t, worker, BlobPath+"/blobs/"+d.String(), c.bearer, c.cert); res.StatusCode != c.want || !slices.Equal(*seen, c.seen) {
				t.Errorf("%s, the controller got %+v", res.Status, *seen)
			}
		})
	}
	var no *DeniedError
	if err := newTestClientAs(t, &cert, a, controller).CheckReadAccess(t.Context(), "", pinOf(host)); !errors.As(err, &no) {
		t.Errorf("a client without a token may read: %v", err)
	}
}

func mustAddrPort(t *testing.T, at string) netip.AddrPort {
	t.Helper()
	a, err := netip.ParseAddrPort(at)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestClient_FollowsNoRedirect(t *testing.T) {
	a := newTestCA(t)
	data := []byte("a blob")
	var asked atomic.Int32
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(data)
	}))
	t.Cleanup(plain.Close)
	for name, cert := range map[string]tls.Certificate{"of a worker": a.worker(t, "w1"), "of a controller": a.controller(t, "c1")} {
		t.Run(name, func(t *testing.T) {
			at := startServer(t, cert, http.RedirectHandler(plain.URL, http.StatusTemporaryRedirect))
			client := newTestClient(t, a, at)
			if _, err := client.ReadDocument(t.Context(), digest.FromBytes(data), 100); err == nil || asked.Load() > 0 {
				t.Errorf("%v, the target got %d requests", err, asked.Load())
			}
			if _, err := client.Admit(t.Context(), JoinRequest{Node: "w2"}); err == nil || asked.Load() > 0 {
				t.Errorf("%v, the target got %d requests", err, asked.Load())
			}
		})
	}
}

// A request that runs while the client reconnects leaves an idle connection behind, which still has
// the old certificate.
func TestReconnect_UsesNewCertificateForAllRequests(t *testing.T) {
	a := newTestCA(t)
	started, release := make(chan struct{}), make(chan struct{})
	var slow atomic.Bool
	keys := make(chan string, 10)
	at := startServer(t, a.controller(t, "c1"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slow.CompareAndSwap(true, false) {
			close(started)
			<-release
		}
		keys <- token.PublicKeyPin(r.TLS.PeerCertificates[0])
		_, _ = io.WriteString(w, "{}")
	}))
	var cert atomic.Pointer[tls.Certificate]
	before, after := newSelfSigned(t), a.worker(t, "w1")
	cert.Store(&before)
	client := NewClient(token.Token{Addresses: []string{at}, Pin: token.PublicKeyPin(a.cert), ID: "id", Secret: "secret"}, func() (*tls.Certificate, error) { return cert.Load(), nil })
	t.Cleanup(client.Close)
	describe := func() {
		if _, err := client.DescribeCluster(t.Context()); err != nil {
			t.Error(err)
		}
	}
	slow.Store(true)
	ended := make(chan struct{})
	go func() { defer close(ended); describe() }()
	<-started
	cert.Store(&after)
	client.Reconnect()
	describe()
	if got := <-keys; got != pinOf(after) {
		t.Error("the first request uses the old certificate")
	}
	close(release)
	<-ended
	<-keys
	for range 3 {
		describe()
		if got := <-keys; got != pinOf(after) {
			t.Error("a later request uses the old certificate")
		}
	}
}

func TestServer_RefusesCertificateWithoutItsKey(t *testing.T) {
	a := newTestCA(t)
	at, seen := seenBy(t, a, fakeCluster{bearer: "id.secret"})
	stolen := a.worker(t, "w1")
	stolen.PrivateKey = newSelfSigned(t).PrivateKey
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+at+ReadPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{stolen}}} //nolint:gosec // the test is about the client's certificate
	defer transport.CloseIdleConnections()
	if res, err := transport.RoundTrip(req); err == nil {
		_ = res.Body.Close()
		t.Errorf("%s", res.Status)
	}
	if len(*seen) > 0 {
		t.Errorf("the backend got %+v", *seen)
	}
}
