package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"io/fs"
	"log"
	"math/big"
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

	"github.com/plinthdev/plinth/internal/token"
)

// testCA is the certificate authority of a cluster.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTestCA(t *testing.T) testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return testCA{c, key}
}

// issue returns a certificate for 127.0.0.1, for servers and clients, with the
// given name and organization.
func (a testCA) issue(t *testing.T, name string, organization ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name, Organization: organization}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}
}

// fakeCluster is a cluster that knows one bearer, and a store of blobs.
type fakeCluster struct {
	bearer  string
	blobs   map[digest.Digest][]byte
	busy    bool
	streams int    // 0 for the default
	gone    string // node that was removed
}

func (w fakeCluster) CheckNode(_ context.Context, node string) error {
	if node == w.gone {
		return &StatusError{Reason: "node " + node + " was removed from the cluster", Status: http.StatusUnauthorized}
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

func (w fakeCluster) DescribeCluster(_ context.Context, bearer, machine string) (ClusterInfo, error) {
	return ClusterInfo{Cluster: "my-app", Role: "worker", Nodes: []Node{{Name: machine}}}, w.checkBearer(bearer)
}

func (w fakeCluster) Admit(_ context.Context, bearer string, c JoinRequest) (JoinResponse, error) {
	if w.busy {
		return JoinResponse{}, &StatusError{Reason: "controller n2 is joining", Status: http.StatusLocked}
	}
	return JoinResponse{Token: "k0s token for " + c.Node}, w.checkBearer(bearer)
}

// CheckReadAccess accepts what may be shown to every node, but not the secret
// of the token: no client in these tests sends that for a blob.
func (w fakeCluster) CheckReadAccess(_ context.Context, bearer string) error {
	if bearer != readOnlyBearer(w.bearer) {
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

// startNode serves w with a certificate of a; around may change the handler.
func startNode(t *testing.T, a testCA, w fakeCluster, around func(http.Handler) http.Handler) string {
	t.Helper()
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		_, _ = w.Write(raw)
	})
	h := Service{Backend: w, Store: w, PeerCheck: echo, MaxStreams: w.streams}.Handler()
	if around != nil {
		h = around(h)
	}
	srv := httptest.NewUnstartedServer(h)
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{a.issue(t, "n1")}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func newTestClient(t *testing.T, a testCA, addresses ...string) *Client {
	t.Helper()
	c := NewClient(token.Token{Addresses: addresses, Pin: token.PublicKeyPin(a.cert), ID: "id", Secret: "secret"})
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
	stranger := NewClient(token.Token{Pin: token.PublicKeyPin(a.cert), ID: "id", Secret: "guessed"})
	defer stranger.Close()
	var no *DeniedError
	if _, err := ask(stranger); !errors.As(err, &no) {
		t.Errorf("a client without the token got a response: %v", err)
	}
}

func TestClient_JoinsClusterOfPinOnly(t *testing.T) {
	a := newTestCA(t)
	at := startNode(t, a, fakeCluster{bearer: "id.secret"}, nil)
	c := newTestClient(t, a, "127.0.0.1:1", at) // the first controller is down
	o, err := c.DescribeCluster(t.Context(), "m1")
	if err != nil || o.Cluster != "my-app" || o.Nodes[0].Name != "m1" {
		t.Fatalf("%+v %v", o, err)
	}
	if got, err := c.Admit(t.Context(), JoinRequest{Node: "n1", MachineID: "m1", Address: "10.0.0.1"}); err != nil || got.Token != "k0s token for n1" {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := newTestClient(t, newTestCA(t), at).DescribeCluster(t.Context(), "m1"); !errors.Is(err, ErrPinMismatch) {
		t.Errorf("another cluster's pin: %v", err)
	}
}

func TestVerifyPin_RefusesCertificateOfAnotherNode(t *testing.T) {
	a := newTestCA(t)
	at := startNode(t, a, fakeCluster{bearer: "id.secret"}, nil)
	_, port, _ := net.SplitHostPort(at)
	if _, err := newTestClient(t, a, "localhost:"+port).DescribeCluster(t.Context(), "m1"); err == nil || !strings.Contains(err.Error(), "is not valid") {
		t.Errorf("%v", err)
	}
}

func TestClient_DistinguishesDeniedFromBusy(t *testing.T) {
	a := newTestCA(t)
	at := startNode(t, a, fakeCluster{bearer: "other.secret"}, nil)
	var no *DeniedError
	if _, err := newTestClient(t, a, at).DescribeCluster(t.Context(), "m1"); !errors.As(err, &no) || no.Reason != "the cluster does not know this token" {
		t.Errorf("%v", err)
	}
	var later *BusyError
	at = startNode(t, a, fakeCluster{bearer: "id.secret", busy: true}, nil)
	if _, err := newTestClient(t, a, at).Admit(t.Context(), JoinRequest{Node: "n", MachineID: "m", Address: "a"}); !errors.As(err, &later) {
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
	of, user := a.issue(t, "system:node:n1", "system:nodes"), a.issue(t, "system:node:n1", "system:masters")
	removed, nameless := a.issue(t, "system:node:n2", "system:nodes"), a.issue(t, "admin", "system:nodes")
	stranger := newTestCA(t).issue(t, "system:node:n1", "system:nodes")
	show := readOnlyBearer("id.secret")
	for name, c := range map[string]struct {
		path, bearer string
		cert         *tls.Certificate
		want         int
	}{
		"no credentials":                      {BlobPath + "/blobs/" + d.String(), "", nil, 401},
		"a wrong token":                       {BlobPath + "/blobs/" + d.String(), "id.other", nil, 401},
		"a certificate that is not of a node": {BlobPath + "/blobs/" + d.String(), "", &user, 401},
		"a node's group alone":                {BlobPath + "/blobs/" + d.String(), "", &nameless, 401},
		"a node that was removed":             {BlobPath + "/blobs/" + d.String(), "", &removed, 401},
		"a removed node with a token":         {BlobPath + "/blobs/" + d.String(), show, &removed, 200},
		"a token":                             {BlobPath + "/blobs/" + d.String(), show, nil, 200},
		"a node":                              {BlobPath + "/manifests/" + d.String(), "", &of, 200},
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
		"the handshake, for a node":           {JoinPath, "", &of, 401},
		"the handshake with a token":          {JoinPath, "id.secret", nil, 200},
		"the handshake, to read only":         {JoinPath, show, nil, 401},
	} {
		t.Run(name, func(t *testing.T) {
			if res := getWithCert(t, startNode(t, a, w, nil), c.path, c.bearer, c.cert); res.StatusCode != c.want {
				t.Errorf("%s: %s, want %d", name, res.Status, c.want)
			}
		})
	}
	conf := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{stranger}} //nolint:gosec // the test is about the client's certificate
	res, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: conf}}).Get("https://" + startNode(t, a, w, nil) + "/v2/")
	if err == nil {
		t.Errorf("a certificate of another cluster: %s", res.Status)
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
	c := NewClient(token.Token{Addresses: []string{"10.0.0.1:9444"}})
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
