package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

// fakeCluster is a cluster that knows one bearer, and a store of blobs.
type fakeCluster struct {
	bearer  string
	blobs   map[digest.Digest][]byte
	busy    bool
	streams int    // 0 for the default
	gone    string // node that was removed, or the UID of its admission

	saw     func(Caller)      // receives the client of each request for the Backend; nil for none
	sawJoin func(JoinRequest) // likewise what a host that joins sends
}

func (w fakeCluster) note(c Caller) {
	if w.saw != nil {
		w.saw(c)
	}
}

func (w fakeCluster) CheckNode(_ context.Context, p nodecert.NodeID) error {
	if p.Node == w.gone || p.UID == w.gone {
		return &StatusError{Reason: "node " + p.Node + " was removed from the cluster", Status: http.StatusUnauthorized}
	}
	return nil
}

// readOnlyBearer returns what token.Token.ReadOnlyBearer returns for the bearer
// of these tests.
func readOnlyBearer(bearer string) string {
	id, secret, _ := token.SplitBearer(bearer)
	return token.Token{ID: id, Secret: secret}.ReadOnlyBearer()
}

func (w fakeCluster) checkBearer(bearer string) error {
	if bearer != w.bearer {
		return &StatusError{Reason: "the cluster does not know this token", Status: http.StatusUnauthorized}
	}
	return nil
}

func (w fakeCluster) DescribeCluster(_ context.Context, c Caller) (ClusterInfo, error) {
	w.note(c)
	return ClusterInfo{Cluster: "my-app", Role: "worker", Nodes: []Node{{Name: "n1", Key: c.Key}}}, w.checkBearer(c.Bearer)
}

func (w fakeCluster) Admit(_ context.Context, c Caller, r JoinRequest) (JoinResponse, error) {
	w.note(c)
	if w.sawJoin != nil {
		w.sawJoin(r)
	}
	if w.busy {
		return JoinResponse{}, &StatusError{Reason: "controller n2 is joining", Status: http.StatusLocked}
	}
	return JoinResponse{AgentCert: []byte("certificate of " + r.Node + " for " + c.Key)}, w.checkBearer(c.Bearer)
}

func (w fakeCluster) Renew(ctx context.Context, c Caller, r RenewRequest) (RenewResponse, error) {
	w.note(c)
	return RenewResponse{AgentCert: append([]byte("certificate of "+c.NodeID.Node+" for "), r.AgentRequest...)}, w.CheckNode(ctx, c.NodeID)
}

// CheckReadAccess accepts what may be shown to every node, but not the secret
// of the token: no client in these tests sends that for a blob.
func (w fakeCluster) CheckReadAccess(_ context.Context, c Caller) error {
	w.note(c)
	if c.Bearer != readOnlyBearer(w.bearer) {
		return w.checkBearer("")
	}
	return nil
}

type blobContent struct{ *bytes.Reader }

func (blobContent) Close() error { return nil }

func (w fakeCluster) Open(_ context.Context, d digest.Digest) (BlobContent, error) {
	if data, ok := w.blobs[d]; ok {
		return blobContent{bytes.NewReader(data)}, nil
	}
	return nil, fs.ErrNotExist
}

// startNode serves w as a controller below a; around may change the handler.
func startNode(t *testing.T, a testCA, w fakeCluster, around func(http.Handler) http.Handler) string {
	t.Helper()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		_, _ = w.Write(raw)
	})
	h := Service{Backend: w, Store: w, PeerCheck: echo, MaxStreams: w.streams, Authority: a.authority}.Handler()
	if around != nil {
		h = around(h)
	}
	return startServer(t, a.controller(t, "n1"), h)
}

// startServer serves h with a certificate, like the agent of a node.
func startServer(t *testing.T, cert tls.Certificate, h http.Handler) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func newTestClient(t *testing.T, a testCA, addresses ...string) *Client {
	t.Helper()
	return newTestClientAs(t, nil, a, addresses...)
}

// newTestClientAs returns a client that shows a certificate; nil for none.
func newTestClientAs(t *testing.T, cert *tls.Certificate, a testCA, addresses ...string) *Client {
	t.Helper()
	var certificate func() (*tls.Certificate, error)
	if cert != nil {
		certificate = func() (*tls.Certificate, error) { return cert, nil }
	}
	c := NewClient(token.Token{Addresses: addresses, Pin: token.PublicKeyPin(a.cert), ID: "id", Secret: "secret"}, certificate)
	t.Cleanup(c.Close)
	return c
}

// TestCheckPeer_RequiresPinAndToken verifies that a peer check is only sent to
// the cluster of the pin, and only answered with the token.
func TestCheckPeer_RequiresPinAndToken(t *testing.T) {
	a := newTestCA(t)
	at := netip.MustParseAddrPort(startNode(t, a, fakeCluster{bearer: "id.secret"}, nil))
	ask := func(c *Client) (answer map[string]string, err error) {
		err = c.postPeerCheck(t.Context(), at, map[string]string{"nonce": "n"}, &answer)
		return answer, err
	}
	if got, err := ask(newTestClient(t, a)); err != nil || got["nonce"] != "n" {
		t.Errorf("%v %v", got, err)
	}
	if _, err := ask(newTestClient(t, newTestCA(t))); !errors.Is(err, ErrPinMismatch) {
		t.Errorf("a request was sent to another cluster: %v", err)
	}
	stranger := NewClient(token.Token{Pin: token.PublicKeyPin(a.cert), ID: "id", Secret: "guessed"}, nil)
	defer stranger.Close()
	var no *DeniedError
	if _, err := ask(stranger); !errors.As(err, &no) {
		t.Errorf("a client without the token got a response: %v", err)
	}
}

func TestClient_JoinsClusterOfPinOnly(t *testing.T) {
	a := newTestCA(t)
	at := startNode(t, a, fakeCluster{bearer: "id.secret"}, nil)
	host := newSelfSigned(t)
	c := newTestClientAs(t, &host, a, "127.0.0.1:1", at) // the first controller is down
	o, err := c.DescribeCluster(t.Context())
	if err != nil || o.Cluster != "my-app" || o.Nodes[0].Key != pinOf(host) {
		t.Fatalf("%+v %v", o, err)
	}
	if got, err := c.Admit(t.Context(), JoinRequest{Node: "n1", MachineID: "m1", Address: "10.0.0.1"}); err != nil || string(got.AgentCert) != "certificate of n1 for "+pinOf(host) {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := newTestClient(t, newTestCA(t), at).DescribeCluster(t.Context()); !errors.Is(err, ErrPinMismatch) {
		t.Errorf("another cluster's pin: %v", err)
	}
}

func TestVerifyPin_RefusesCertificateOfAnotherNode(t *testing.T) {
	a := newTestCA(t)
	at := startNode(t, a, fakeCluster{bearer: "id.secret"}, nil)
	_, port, _ := net.SplitHostPort(at)
	another := startServer(t, a.issueAt(t, nodecert.Agent, identityAt("c2", token.Controller, "127.0.0.2"), time.Now()), Service{Backend: fakeCluster{bearer: "id.secret"}, Authority: a.authority}.Handler())
	for name, address := range map[string]string{"by name": "localhost:" + port, "by IP address": another} {
		t.Run(name, func(t *testing.T) {
			if _, err := newTestClient(t, a, address).DescribeCluster(t.Context()); err == nil || !strings.Contains(err.Error(), "is not valid") {
				t.Errorf("%v", err)
			}
			if _, err := newTestClient(t, a, address).ReadDocument(t.Context(), digest.FromString("x"), 1); err == nil || !strings.Contains(err.Error(), "is not valid") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestClient_WithoutControllersFails(t *testing.T) {
	c := NewClient(token.Token{}, func() (*tls.Certificate, error) { return nil, nil })
	defer c.Close()
	for name, ask := range map[string]func() error{
		"a document": func() error {
			_, err := c.ReadDocument(t.Context(), digest.FromString("x"), 10)
			return err
		},
		"an offer": func() error {
			_, err := c.FetchUpgradeOffer(t.Context(), digest.FromString("x"))
			return err
		},
		"a permission": func() error { return c.CheckReadAccess(t.Context(), "bearer", "") },
	} {
		t.Run(name, func(t *testing.T) {
			if err := ask(); !errors.Is(err, errNoController) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestClient_DistinguishesDeniedFromBusy(t *testing.T) {
	a := newTestCA(t)
	at := startNode(t, a, fakeCluster{bearer: "other.secret"}, nil)
	var no *DeniedError
	if _, err := newTestClient(t, a, at).DescribeCluster(t.Context()); !errors.As(err, &no) || no.Reason != "the cluster does not know this token" {
		t.Errorf("%v", err)
	}
	var later *BusyError
	at = startNode(t, a, fakeCluster{bearer: "id.secret", busy: true}, nil)
	if _, err := newTestClient(t, a, at).Admit(t.Context(), JoinRequest{Node: "n", MachineID: "m", Address: "10.0.0.1"}); !errors.As(err, &later) {
		t.Errorf("%v", err)
	}
}

func TestOpen_ResumesAtAnotherNode(t *testing.T) {
	a := newTestCA(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	d := digest.FromBytes(data)
	w := fakeCluster{bearer: "id.secret", blobs: map[digest.Digest][]byte{d: data}}
	var cut atomic.Int32
	failing := startNode(t, a, w, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			cut.Add(1)
			rw.Header().Set("Content-Length", "1048576")
			rw.WriteHeader(http.StatusOK)
			_, _ = rw.Write(data[:len(data)/3])
			panic(http.ErrAbortHandler)
		})
	})
	empty := startNode(t, a, fakeCluster{bearer: "id.secret"}, nil)
	c := newTestClient(t, a, failing, empty, startNode(t, a, w, nil))
	for range 3 { // with a different first node each time
		r, err := c.Open(t.Context(), ocispec.Descriptor{Digest: d, Size: int64(len(data))})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		_ = r.Close()
	}
	if cut.Load() == 0 {
		t.Error("the failing node got no request")
	}
	missing := digest.FromString("missing blob!")
	if _, err := newTestClient(t, a, empty).Open(t.Context(), ocispec.Descriptor{Digest: missing, Size: 13}); err == nil || !strings.Contains(err.Error(), missing.String()) {
		t.Errorf("%v", err)
	}
}

func TestOpen_RefusesDamagedBlob(t *testing.T) {
	a := newTestCA(t)
	data := []byte("requested content!")
	d := digest.FromBytes(data)
	w := fakeCluster{bearer: "id.secret", blobs: map[digest.Digest][]byte{d: []byte("requested cOntent!")}}
	c := newTestClient(t, a, startNode(t, a, w, nil))
	r, err := c.Open(t.Context(), ocispec.Descriptor{Digest: d, Size: int64(len(data))})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err == nil || bytes.Equal(got, data) {
		t.Errorf("%s %v", got, err)
	}
	if _, err := c.ReadDocument(t.Context(), d, 100); err == nil {
		t.Error("a damaged document was accepted")
	}
}

// getWithCert sends a GET request with a certificate, a bearer token, or
// neither.
func getWithCert(t *testing.T, at, path, bearer string, cert *tls.Certificate) *http.Response {
	t.Helper()
	conf := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the test is about the client's certificate
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+at+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	transport := &http.Transport{TLSClientConfig: conf}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func TestServer_RequiresTokenOrNodeCertificate(t *testing.T) {
	a := newTestCA(t)
	data := []byte("a blob")
	d := digest.FromBytes(data)
	w := fakeCluster{bearer: "id.secret", blobs: map[digest.Digest][]byte{d: data}, gone: "n2"}
	worker, controller, removed := a.worker(t, "n1"), a.controller(t, "c1"), a.worker(t, "n2")
	kubelet, serving, user := a.issue(t, nodecert.KubeletClient, "n1", ""), a.issue(t, nodecert.KubeletServing, "n1", ""), a.server(t)
	stranger, claimed, host := newTestCA(t).worker(t, "n1"), selfSign(t, a.worker(t, "n1")), newSelfSigned(t)
	expired := a.issueAt(t, nodecert.Agent, identityAt("n1", token.Worker, "127.0.0.1"), time.Now().Add(-nodecert.Lifetime))
	show := readOnlyBearer("id.secret")
	for name, c := range map[string]struct {
		path, bearer string
		cert         *tls.Certificate
		want         int
	}{
		"no credentials":                      {BlobPath + "/blobs/" + d.String(), "", nil, 401},
		"a wrong token":                       {BlobPath + "/blobs/" + d.String(), "id.other", nil, 401},
		"a certificate that is not of a node": {BlobPath + "/blobs/" + d.String(), "", &user, 401},
		"a kubelet's client certificate":      {BlobPath + "/blobs/" + d.String(), "", &kubelet, 401},
		"a kubelet's serving certificate":     {BlobPath + "/blobs/" + d.String(), "", &serving, 401},
		"a node of another cluster":           {BlobPath + "/blobs/" + d.String(), "", &stranger, 401},
		"the version, for another cluster":    {"/v2/", "", &stranger, 401},
		"an agent's subject, self-signed":     {BlobPath + "/blobs/" + d.String(), "", &claimed, 401},
		"a host's own key":                    {BlobPath + "/blobs/" + d.String(), "", &host, 401},
		"a host's own key with a token":       {BlobPath + "/blobs/" + d.String(), show, &host, 200},
		"a kubelet with a token":              {BlobPath + "/blobs/" + d.String(), show, &kubelet, 200},
		"an expired certificate":              {BlobPath + "/blobs/" + d.String(), "", &expired, 401},
		"a removed node with a wrong token":   {BlobPath + "/blobs/" + d.String(), "id.other", &removed, 401},
		"the version, for a removed node":     {"/v2/", "", &removed, 401},
		"the version, removed with a token":   {"/v2/", show, &removed, 200},
		"a node that was removed":             {BlobPath + "/blobs/" + d.String(), "", &removed, 401},
		"a removed node with a token":         {BlobPath + "/blobs/" + d.String(), show, &removed, 200},
		"a token":                             {BlobPath + "/blobs/" + d.String(), show, nil, 200},
		"a node":                              {BlobPath + "/manifests/" + d.String(), "", &worker, 200},
		"a controller":                        {BlobPath + "/manifests/" + d.String(), "", &controller, 200},
		"the version, without credentials":    {"/v2/", "", nil, 401},
		"the version, with a token":           {"/v2/", show, nil, 200},
		"no digest":                           {BlobPath + "/blobs/latest", show, nil, 400},
		"another algorithm":                   {BlobPath + "/blobs/sha512:" + strings.Repeat("a", 128), show, nil, 400},
		"a path for a digest":                 {BlobPath + "/blobs/..%2f..%2f..%2fetc%2fshadow", show, nil, 400},
		"a path in a digest":                  {BlobPath + "/blobs/sha256:..%2f..%2fetc%2fshadow", show, nil, 400},
		"a path outside of the blobs":         {BlobPath + "/blobs/../../../etc/shadow", show, nil, 307},
		"another repository":                  {"/v2/other/blobs/" + d.String(), show, nil, 404},
		"a missing blob":                      {BlobPath + "/blobs/" + digest.FromString("x").String(), show, nil, 404},
		"a list of tags":                      {BlobPath + "/tags/list", show, nil, 404},
		"the catalog":                         {"/v2/_catalog", show, nil, 404},
		"the handshake, without credentials":  {JoinPath, "", nil, 401},
		"the handshake, for a node":           {JoinPath, "", &worker, 401},
		"the handshake, removed with a token": {JoinPath, "id.secret", &removed, 200},
		"the handshake, removed without one":  {JoinPath, "", &removed, 401},
		"the handshake with a token":          {JoinPath, "id.secret", nil, 200},
		"the handshake, to read only":         {JoinPath, show, nil, 401},
	} {
		t.Run(name, func(t *testing.T) {
			if res := getWithCert(t, startNode(t, a, w, nil), c.path, c.bearer, c.cert); res.StatusCode != c.want {
				t.Errorf("%s: %s, want %d", name, res.Status, c.want)
			}
		})
	}
}

func TestServer_NamesWhyACertificateDoesNotCount(t *testing.T) {
	a := newTestCA(t)
	stranger, user := newTestCA(t).worker(t, "n1"), a.server(t)
	expired := a.issueAt(t, nodecert.Agent, identityAt("n1", token.Worker, "127.0.0.1"), time.Now().Add(-nodecert.Lifetime))
	for name, c := range map[string]struct {
		cert *tls.Certificate
		says string
	}{
		"none":               {nil, "the request has no token"},
		"not of an agent":    {&user, "the request has no token"},
		"of another cluster": {&stranger, "the request has no token, and its certificate is not that of a node of this cluster: x509: certificate signed by unknown authority"},
		"expired":            {&expired, "the request has no token, and its certificate is not that of a node of this cluster: x509: certificate has expired or is not yet valid"},
	} {
		t.Run(name, func(t *testing.T) {
			res := getWithCert(t, startNode(t, a, fakeCluster{}, nil), "/v2/", "", c.cert)
			body, err := io.ReadAll(res.Body)
			if err != nil || !strings.HasPrefix(ErrorMessage(body), c.says) || c.cert == nil && ErrorMessage(body) != c.says {
				t.Errorf("%v: %s", err, body)
			}
		})
	}
}

// sendWithHeader sends a request with the given header.
func sendWithHeader(t *testing.T, at, method, path string, header map[string]string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+at+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the test is about the server
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func TestServer_ServesBlobsReadOnly(t *testing.T) {
	a := newTestCA(t)
	data := []byte("0123456789")
	d := digest.FromBytes(data)
	w := fakeCluster{bearer: "id.secret", blobs: map[digest.Digest][]byte{d: data}}
	at, path := startNode(t, a, w, nil), BlobPath+"/blobs/"+d.String()
	may := map[string]string{"Authorization": "Bearer " + readOnlyBearer("id.secret")}
	with := func(k, v string) map[string]string {
		return map[string]string{"Authorization": may["Authorization"], k: v}
	}
	for name, c := range map[string]struct {
		method, path string
		header       map[string]string
		want         int
		body         string
	}{
		"the head":                      {"HEAD", path, may, 200, ""},
		"a part":                        {"GET", path, with("Range", "bytes=3-5"), 206, "345"},
		"the rest":                      {"GET", path, with("Range", "bytes=8-"), 206, "89"},
		"a range after the end":         {"GET", path, with("Range", "bytes=20-"), 416, "*"},
		"the head, without credentials": {"HEAD", path, nil, 401, "*"},
		"a part, without credentials":   {"GET", path, map[string]string{"Range": "bytes=3-5"}, 401, "*"},
		"PUT":                           {"PUT", path, may, 405, "*"},
		"DELETE":                        {"DELETE", path, may, 405, "*"},
		"start of an upload":            {"POST", BlobPath + "/blobs/uploads/", may, 404, "*"},
		"a token after another one":     {"GET", path, map[string]string{"Authorization": "Bearer x, " + may["Authorization"]}, 401, "*"},
		"a token as password":           {"GET", path, map[string]string{"Authorization": "Basic " + readOnlyBearer("id.secret")}, 401, "*"},
	} {
		t.Run(name, func(t *testing.T) {
			res := sendWithHeader(t, at, c.method, c.path, c.header)
			body, err := io.ReadAll(res.Body)
			if res.StatusCode != c.want || err != nil || c.body != "*" && string(body) != c.body {
				t.Errorf("%s: %s, %q, %v", name, res.Status, body, err)
			}
			if strings.Contains(string(body), "0123") {
				t.Errorf("%s: the response contains the blob", name)
			}
		})
	}
}

func TestOpen_ReadsFromWorkersAndWaitsForBusyNode(t *testing.T) {
	a := newTestCA(t)
	data := bytes.Repeat([]byte("x"), 1<<16)
	d := digest.FromBytes(data)
	w := fakeCluster{bearer: "id.secret", blobs: map[digest.Digest][]byte{d: data}}
	var served atomic.Int32
	count := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { served.Add(1); next.ServeHTTP(rw, r) })
	}
	at := startNode(t, a, w, count)
	c := newTestClient(t, a, "127.0.0.1:1") // the controller is down
	c.blobNodes = append(c.blobNodes, at)
	for range 4 {
		r, err := c.Open(t.Context(), ocispec.Descriptor{Digest: d, Size: int64(len(data))})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		_ = r.Close()
	}
	if served.Load() != 4 || !c.recentlyFailed("127.0.0.1:1") {
		t.Errorf("the worker served %d blobs", served.Load())
	}
	var refused atomic.Bool
	busy := startNode(t, a, w, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if refused.CompareAndSwap(false, true) {
				rw.WriteHeader(http.StatusTooManyRequests)
				return
			}
			next.ServeHTTP(rw, r)
		})
	})
	r, err := newTestClient(t, a, busy).Open(t.Context(), ocispec.Descriptor{Digest: d, Size: int64(len(data))})
	if err != nil || !refused.Load() {
		t.Fatal(err)
	}
	_ = r.Close()
}

func TestUseNodes_SamplesReadyNodes(t *testing.T) {
	c := NewClient(token.Token{Addresses: []string{"10.0.0.1:9444"}}, nil)
	nodes := []Node{{Name: "c1", Addresses: []string{"10.0.0.1"}, Controller: true, Ready: true}, {Name: "down", Addresses: []string{"10.0.1.1"}}, {Name: "new", Ready: true}}
	c.UseNodes(nodes)
	if len(c.blobNodes) != 1 {
		t.Errorf("%v", c.blobNodes)
	}
	for i := range 100 {
		nodes = append(nodes, Node{Addresses: []string{netip.AddrFrom4([4]byte{10, 0, 2, byte(i)}).String()}, Ready: true})
	}
	c.UseNodes(nodes)
	if len(c.blobNodes) != maxBlobNodes || c.blobNodes[0] != "10.0.0.1:9444" {
		t.Errorf("%v", c.blobNodes)
	}
}

func TestServer_LimitsRefusedRequests(t *testing.T) {
	a := newTestCA(t)
	at := startNode(t, a, fakeCluster{bearer: "id.secret"}, nil)
	codes := map[int]int{}
	for range 30 {
		codes[getWithCert(t, at, "/v2/", "id.guess", nil).StatusCode]++
	}
	if codes[401] < 5 || codes[429] < 5 {
		t.Errorf("status codes: %v", codes)
	}
}
