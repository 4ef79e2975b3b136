package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

// serveOnce returns the status of a request to h with a certificate; nil for none.
func serveOnce(ctx context.Context, h http.Handler, path, bearer string, cert *tls.Certificate) int {
	return serveRequest(httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil), h, bearer, cert)
}

func serveRequest(r *http.Request, h http.Handler, bearer string, cert *tls.Certificate) int {
	r.RemoteAddr, r.TLS = "10.0.0.7:4711", &tls.ConnectionState{}
	if cert != nil {
		r.TLS.PeerCertificates = []*x509.Certificate{cert.Leaf}
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestServer_CountsEachAdmission(t *testing.T) {
	a := newTestCA(t)
	old := identityAt("n1", token.Worker, "127.0.0.1")
	old.UID = "uid-old"
	node, removed, claimed := a.worker(t, "n1"), a.issueAt(t, nodecert.Agent, old, time.Now()), selfSign(t, a.worker(t, "n1"))
	foreign, kubelet := newTestCA(t).worker(t, "n1"), a.issue(t, nodecert.KubeletClient, "n1", "")
	for name, c := range map[string]struct {
		cert     *tls.Certificate
		stranger int // status of a stranger with a token at the same address after the refused requests
	}{
		"a removed node of the same name":                 {&removed, http.StatusOK},
		"a self-signed certificate with the node's names": {&claimed, http.StatusTooManyRequests},
		"the node's name in another cluster":              {&foreign, http.StatusTooManyRequests},
		"the node's kubelet":                              {&kubelet, http.StatusTooManyRequests},
		"no certificate":                                  {nil, http.StatusTooManyRequests},
	} {
		t.Run(name, func(t *testing.T) {
			w := fakeCluster{bearer: "id.secret", gone: "uid-old"}
			h := Service{Backend: w, Store: w, NodeRemover: fakeRemover{w, new([]string)}, Authority: a.authority}.Handler()
			codes := map[int]int{}
			for i := range 3 * failuresAtOnce {
				path := []string{ReadPath, JoinPath, ReadPath + "?key=x"}[i%3]
				codes[serveOnce(t.Context(), h, path, "id.guess", c.cert)]++
			}
			if codes[401] < failuresAtOnce || codes[429] < failuresAtOnce || len(codes) > 2 {
				t.Errorf("refused requests: %v", codes)
			}
			if got := serveOnce(t.Context(), h, ReadPath, "", &node); got != http.StatusOK {
				t.Errorf("the node gets %d", got)
			}
			if got := serveOnce(t.Context(), h, ReadPath, readOnlyBearer("id.secret"), nil); got != c.stranger {
				t.Errorf("a stranger with a token gets %d, want %d", got, c.stranger)
			}
		})
	}
}

func TestServer_LimitsWhatARemovedNodeAsks(t *testing.T) {
	a := newTestCA(t)
	w := fakeCluster{bearer: "id.secret", gone: "n1"}
	h := Service{Backend: w, Store: w, NodeRemover: fakeRemover{w, new([]string)}, Authority: a.authority}.Handler()
	cert, codes := a.worker(t, "n1"), map[int]int{}
	for range 3 * failuresAtOnce {
		codes[serveOnce(t.Context(), h, LeavePath, "", &cert)]++
	}
	if codes[200] < failuresAtOnce || codes[429] < failuresAtOnce {
		t.Errorf("%v", codes)
	}
}

func TestServer_LimitsRenewals(t *testing.T) {
	a := newTestCA(t)
	w := fakeCluster{bearer: "id.secret"}
	lines := 0
	h := Service{Backend: w, Store: w, Authority: a.authority, Audit: func(line string) {
		if strings.Contains(line, "event=admission") {
			lines++
		}
	}}.Handler()
	node, another, codes := a.worker(t, "n1"), a.worker(t, "n2"), map[int]int{}
	renew := func(cert *tls.Certificate) int {
		return serveRequest(httptest.NewRequestWithContext(t.Context(), http.MethodPost, RenewPath, strings.NewReader("{}")), h, "", cert)
	}
	for range 3 * failuresAtOnce {
		codes[renew(&node)]++
	}
	if codes[200] < failuresAtOnce || codes[429] < failuresAtOnce || lines != codes[200] {
		t.Errorf("%v, %d audit lines", codes, lines)
	}
	if got := renew(&another); got != http.StatusOK {
		t.Errorf("another node gets %d", got)
	}
}

// nodeChecker counts the checks of a node, which was removed.
type nodeChecker struct {
	fakeCluster
	asked *int
}

func (n nodeChecker) CheckNode(ctx context.Context, p nodecert.NodeID) error {
	*n.asked++
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return n.fakeCluster.CheckNode(ctx, p)
}

func TestServer_CountsRemovedNodeThatDisconnects(t *testing.T) {
	a := newTestCA(t)
	w := nodeChecker{fakeCluster{bearer: "id.secret", gone: "n1"}, new(int)}
	h := Service{Backend: w, Store: w, Authority: a.authority}.Handler()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cert, codes := a.worker(t, "n1"), map[int]int{}
	for i := range 3 * failuresAtOnce {
		codes[serveOnce(ctx, h, []string{BlobPath + "/blobs/x", JoinPath}[i%2], "id.guess", &cert)]++
	}
	if codes[401] < failuresAtOnce || codes[429] < failuresAtOnce {
		t.Errorf("%v", codes)
	}
	if *w.asked != codes[401] {
		t.Errorf("the backend was asked %d times for %d requests", *w.asked, codes[401])
	}
}

func TestFailureCounter_CountsTrustedRequestsAtTheSameTime(t *testing.T) {
	c := failureCounter{peers: map[string]*peerFailures{}}
	var all []*attempt
	for range 5 * failuresAtOnce {
		a := c.begin("node n1 uid", true)
		if a == nil {
			t.Fatal("the requests of a worker are limited")
		}
		all = append(all, a)
	}
	for _, a := range all {
		a.end(true)
	}
	if left := c.peers["node n1 uid"].limiter.Tokens(); left > -3*failuresAtOnce {
		t.Errorf("%.0f requests are left", left)
	}
}

func TestServer_IsUnavailableForNodesWithoutAuthority(t *testing.T) {
	a := newTestCA(t)
	node, host := a.worker(t, "n1"), newSelfSigned(t)
	w := fakeCluster{bearer: "id.secret"}
	broken := true
	h := Service{Backend: w, Store: w, Authority: func() (*x509.Certificate, error) {
		if broken {
			return nil, errors.New("cannot read the file")
		}
		return a.cert, nil
	}}.Handler()
	for range 2 * failuresAtOnce {
		if got := serveOnce(t.Context(), h, ReadPath, "", &node); got != http.StatusServiceUnavailable {
			t.Fatalf("a node gets %d", got)
		}
	}
	if got := serveOnce(t.Context(), h, ReadPath, readOnlyBearer("id.secret"), &host); got != http.StatusOK {
		t.Errorf("a host with a token gets %d", got)
	}
	broken = false
	if got := serveOnce(t.Context(), h, ReadPath, "", &node); got != http.StatusOK {
		t.Errorf("later the node gets %d", got)
	}
}

func TestServer_ChecksValidityByItsClock(t *testing.T) {
	a := newTestCA(t)
	issued := time.Now().Add(-nodecert.Lifetime * 3 / 2)
	old := a.issueAt(t, nodecert.Agent, identityAt("n1", token.Worker, "127.0.0.1"), issued)
	w := fakeCluster{bearer: "id.secret"}
	for name, c := range map[string]struct {
		now  time.Time
		want int
	}{
		"before it is valid":  {issued.Add(-2 * time.Hour), http.StatusUnauthorized},
		"while it is valid":   {issued.Add(time.Hour), http.StatusOK},
		"after it is expired": {issued.Add(nodecert.Lifetime + time.Hour), http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			h := Service{Backend: w, Store: w, Authority: a.authority, Now: func() time.Time { return c.now }}.Handler()
			if got := serveOnce(t.Context(), h, ReadPath, "", &old); got != c.want {
				t.Errorf("status %d, want %d", got, c.want)
			}
		})
	}
}

// BenchmarkIdentifyCaller measures what the certificate of a stranger costs for each request.
func BenchmarkIdentifyCaller(b *testing.B) {
	a := newRSATestCA(b)
	for name, cert := range map[string]tls.Certificate{"node": a.worker(b, "n1"), "claimed": selfSign(b, a.worker(b, "n1")), "self-signed": newSelfSigned(b)} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, ReadPath, nil)
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
			for b.Loop() {
				if _, err := identifyCaller(r, a.authority, time.Now()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
