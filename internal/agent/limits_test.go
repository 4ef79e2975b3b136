package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/nodecert"
)

// statusFrom returns the status of a request from one of the machine's own addresses, 127.0.0.0/8.
func statusFrom(t *testing.T, source, at, path, bearer string) int {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	transport := &http.Transport{DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the test is about the server
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+at+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// forwarder is a worker: the controllers check its clients' tokens.
type forwarder struct {
	fakeCluster
	controllers *Client
}

func (f forwarder) CheckReadAccess(ctx context.Context, c Caller) error {
	err := f.controllers.CheckReadAccess(ctx, c.Bearer, c.Key)
	if no := (*DeniedError)(nil); errors.As(err, &no) {
		return &StatusError{Reason: no.Reason, Status: http.StatusUnauthorized}
	}
	return err
}

// startBackend serves a backend like startNode.
func startBackend(t *testing.T, a testCA, b Backend, w fakeCluster, audit func(string)) string {
	t.Helper()
	return startNode(t, a, w, func(http.Handler) http.Handler {
		return Service{Backend: b, Store: w, Audit: audit, Authority: a.authority}.Handler()
	})
}

func TestServer_StrangersDoNotLockAWorkerOut(t *testing.T) {
	a := newTestCA(t)
	w := fakeCluster{bearer: "id.secret", gone: "w2"}
	controller := startNode(t, a, w, nil)
	for name, c := range map[string]struct {
		node string
		want int // after the strangers' requests
	}{
		"a node of the cluster": {"w1", http.StatusOK},
		"a removed node":        {"w2", http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			cert := a.worker(t, c.node)
			client := newTestClientAs(t, &cert, a, controller)
			worker := startBackend(t, a, forwarder{w, client}, w, nil)
			for _, stranger := range []string{"127.0.0.2", "127.0.0.3"} {
				codes := map[int]int{}
				for range 2 * failuresAtOnce {
					codes[statusFrom(t, stranger, worker, ReadPath, "id.guess")]++
				}
				if codes[http.StatusOK] > 0 || c.want == http.StatusOK && codes[http.StatusTooManyRequests] < 5 {
					t.Errorf("%s: %v", stranger, codes)
				}
			}
			if got := statusFrom(t, "127.0.0.1", worker, ReadPath, readOnlyBearer("id.secret")); got != c.want {
				t.Errorf("a client of the worker gets %d, want %d", got, c.want)
			}
		})
	}
}

// A pod's requests can come from the address of its node.
func TestServer_CountsANodeApartFromStrangersAtItsAddress(t *testing.T) {
	a := newTestCA(t)
	at := startNode(t, a, fakeCluster{bearer: "id.secret"}, nil)
	for range 2 * failuresAtOnce {
		getWithCert(t, at, ReadPath, "id.guess", nil)
	}
	if res := getWithCert(t, at, ReadPath, "id.guess", nil); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a stranger: %s", res.Status)
	}
	node := a.worker(t, "n1")
	if res := getWithCert(t, at, ReadPath, "", &node); res.StatusCode != http.StatusOK {
		t.Errorf("a node at the address of a stranger: %s", res.Status)
	}
}

// slowCluster does not answer before it is released.
type slowCluster struct {
	fakeCluster
	asked   *atomic.Int32
	release chan struct{}
}

func (s slowCluster) CheckReadAccess(ctx context.Context, c Caller) error {
	s.asked.Add(1)
	<-s.release
	return s.fakeCluster.CheckReadAccess(ctx, c)
}

func TestServer_LimitsRequestsThatArePending(t *testing.T) {
	a := newTestCA(t)
	w := slowCluster{fakeCluster{bearer: "id.secret"}, new(atomic.Int32), make(chan struct{})}
	at := startBackend(t, a, w, w.fakeCluster, nil)
	var all sync.WaitGroup
	var limited atomic.Int32
	const requests = 3 * failuresAtOnce
	for range requests {
		all.Go(func() {
			if statusFrom(t, "127.0.0.1", at, ReadPath, "id.guess") == http.StatusTooManyRequests && limited.Add(1) == requests-failuresAtOnce {
				close(w.release)
			}
		})
	}
	all.Wait()
	if w.asked.Load() != failuresAtOnce {
		t.Errorf("the cluster was asked %d times", w.asked.Load())
	}
}

func TestFailureCounter_ReturnsWhatAnAuthenticatedRequestTook(t *testing.T) {
	c := failureCounter{peers: map[string]*peerFailures{}}
	for range 5 * failuresAtOnce {
		a := c.begin("10.0.0.1", false)
		if a == nil {
			t.Fatal("authenticated requests are limited")
		}
		a.end(false)
		a.end(true) // has no effect
	}
	for i := range 2 * maxPeers {
		c.begin(fmt.Sprint(i), false).end(true)
	}
	if len(c.peers) > maxPeers {
		t.Errorf("%d peers", len(c.peers))
	}
}

func TestPeerOf_CountsOneHostOnce(t *testing.T) {
	for remote, want := range map[string]string{
		"10.0.0.1:4711":             "10.0.0.1",
		"[::ffff:10.0.0.1]:4711":    "10.0.0.1",
		"[2001:db8:1:2:3::4]:4711":  "2001:db8:1:2::/64",
		"[2001:db8:1:2:ff::9]:4711": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:4711":       "fe80::/64",
		"x":                         "x",
	} {
		if got := peerOf(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}

// startServe runs Service.Serve on loopback.
func startServe(t *testing.T, audit func(string)) string {
	t.Helper()
	a := newTestCA(t)
	cert := a.controller(t, "n1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	w := fakeCluster{bearer: "id.secret"}
	go func() {
		done <- Service{Backend: w, Store: w, Audit: audit}.Serve(ctx, l, func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}, nil
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestServe_LimitsConnectionsOfOnePeer(t *testing.T) {
	lines := make(chan string, 10)
	at := startServe(t, func(l string) { lines <- l })
	dial := func(source string) net.Conn {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}).DialContext(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	for range maxConnsPerPeer {
		dial("127.0.0.2")
	}
	refused := dial("127.0.0.2")
	_ = refused.SetDeadline(time.Now().Add(3 * time.Second)) // less than headerTimeout
	if n, err := refused.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("one connection more stays open: %v", err)
	}
	if line := <-lines; !strings.Contains(line, `event=refusal node=- peer=127.0.0.2 token=- result="too many connections"`) {
		t.Error(line)
	}
	if got := statusFrom(t, "127.0.0.1", at, ReadPath, readOnlyBearer("id.secret")); got != http.StatusOK {
		t.Errorf("another peer gets %d", got)
	}
}

// fakeListener returns connections from different peers.
type fakeListener struct {
	net.Listener
	accepted int
}

type fakeConn struct {
	net.Conn
	remote net.Addr
}

func (c fakeConn) RemoteAddr() net.Addr { return c.remote }
func (c fakeConn) Close() error         { return nil }

func (l *fakeListener) Accept() (net.Conn, error) {
	if l.accepted++; l.accepted > 2*maxConns {
		return nil, io.EOF
	}
	return fakeConn{remote: fakeAddr(l.accepted)}, nil
}

// fakeAddr returns the address of the i-th peer.
func fakeAddr(i int) *net.TCPAddr {
	return &net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i)), Port: 1}
}

func TestLimitConnections_LimitsAllPeersTogether(t *testing.T) {
	for name, c := range map[string]struct {
		known int // the first peers, of 2*maxConns
		open  int
	}{
		"strangers only":               {0, maxConns - reservedConns},
		"known peers before strangers": {maxConns - reservedConns, maxConns - reservedConns},
		"known peers only":             {2 * maxConns, maxConns},
	} {
		t.Run(name, func(t *testing.T) {
			refused := 0
			known := newKnownPeers()
			for i := range c.known {
				known.add(fakeAddr(i + 1).IP.String())
			}
			l := limitConnections(&fakeListener{}, known, func(string) { refused++ })
			var open []net.Conn
			for {
				conn, err := l.Accept()
				if err != nil {
					break
				}
				open = append(open, conn)
			}
			if len(open) != c.open || refused != 2*maxConns-c.open {
				t.Errorf("%d open, %d refused", len(open), refused)
			}
			for _, c := range open {
				_, _ = c.Close(), c.Close() // the second one is not counted
			}
			if l.total != 0 || len(l.peers) != 0 {
				t.Errorf("%d connections of %d peers remain", l.total, len(l.peers))
			}
		})
	}
}

func TestKnownPeers_ForgetsPeersAndIsBounded(t *testing.T) {
	now := time.Now()
	k := &knownPeers{now: func() time.Time { return now }, seen: map[string]time.Time{}}
	for i := range maxPeers {
		k.add(fmt.Sprint(i))
	}
	k.add("late")
	if !k.contains("0") || k.contains("late") || len(k.seen) != maxPeers {
		t.Errorf("%d peers are known", len(k.seen))
	}
	now = now.Add(knownFor - time.Second)
	k.add("0")
	now = now.Add(time.Second)
	if k.contains("1") || !k.contains("0") {
		t.Error("a peer is known for another time than knownFor after its last request")
	}
	if k.add("late"); !k.contains("late") || !k.contains("0") || len(k.seen) != 2 {
		t.Errorf("%d peers are known after knownFor", len(k.seen))
	}
}

// Strangers at many addresses leave connections for a peer that has shown a token before.
func TestServe_KeepsConnectionsForKnownPeers(t *testing.T) {
	at := startServe(t, nil)
	const member, stranger = "127.0.0.100", "127.0.0.101"
	if got := statusFrom(t, member, at, ReadPath, readOnlyBearer("id.secret")); got != http.StatusOK {
		t.Fatalf("status %d", got)
	}
	if got := statusFrom(t, stranger, at, ReadPath, "id.guess"); got != http.StatusUnauthorized {
		t.Fatalf("status %d", got)
	}
	for i := range maxConns {
		source := net.IPv4(127, 0, 1, byte(i/maxConnsPerPeer)) // 32 connections each
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: source}}).DialContext(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	refused, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(stranger)}}).DialContext(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = refused.Close() }()
	_ = refused.SetDeadline(time.Now().Add(3 * time.Second)) // less than headerTimeout
	if n, err := refused.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stranger gets a reserved connection: %v", err)
	}
	if got := statusFrom(t, member, at, ReadPath, readOnlyBearer("id.secret")); got != http.StatusOK {
		t.Errorf("a known peer gets %d", got)
	}
}

func TestServe_BoundsHeaders(t *testing.T) {
	at := startServe(t, nil)
	if got := statusFrom(t, "127.0.0.1", at, ReadPath, strings.Repeat("x", 2*maxHeaderBytes)); got != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", got)
	}
	s := newHTTPServer(nil)
	for name, d := range map[string]time.Duration{"header": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout, "idle": s.IdleTimeout} {
		if d <= 0 || d > 2*time.Minute {
			t.Errorf("timeout %s: %s", name, d)
		}
	}
}

// brokenCluster cannot reach its API server.
type brokenCluster struct{ explained bool }

func (b brokenCluster) err() error {
	err := errors.New(`Get "https://10.0.0.5:6443/api": dial tcp 10.0.0.5:6443: connect: connection refused`)
	if b.explained {
		return ExplainError(err)
	}
	return err
}
func (b brokenCluster) DescribeCluster(context.Context, Caller) (ClusterInfo, error) {
	return ClusterInfo{}, b.err()
}
func (b brokenCluster) Admit(context.Context, Caller, JoinRequest) (JoinResponse, error) {
	return JoinResponse{}, b.err()
}
func (b brokenCluster) Renew(context.Context, Caller, RenewRequest) (RenewResponse, error) {
	return RenewResponse{}, b.err()
}
func (b brokenCluster) CheckReadAccess(context.Context, Caller) error    { return b.err() }
func (b brokenCluster) CheckNode(context.Context, nodecert.NodeID) error { return b.err() }

func TestServer_TellsInternalAddressesOnlyToAuthenticatedClients(t *testing.T) {
	a := newTestCA(t)
	for name, path := range map[string]string{"join": JoinPath, "content": ReadPath, "a blob": BlobPath + "/blobs/" + digest.FromString("x").String()} {
		t.Run(name, func(t *testing.T) {
			for _, explained := range []bool{false, true} {
				var lines []string
				at := startBackend(t, a, brokenCluster{explained}, fakeCluster{}, func(l string) { lines = append(lines, l) })
				res := getWithCert(t, at, path, "id.secret", nil)
				body, _ := io.ReadAll(res.Body)
				if res.StatusCode != http.StatusServiceUnavailable || strings.Contains(string(body), "10.0.0.5") != explained {
					t.Errorf("explained %v: %s %s", explained, res.Status, body)
				}
				if len(lines) != 1 || !strings.Contains(lines[0], "10.0.0.5") {
					t.Errorf("the log lacks the cause: %q", lines)
				}
			}
		})
	}
}

func TestLimits_AreInTheGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		fmt.Sprintf("| open connections; more are closed at once | %d | %d |", maxConnsPerPeer, maxConns),
		fmt.Sprintf("| of these only for peers with an authenticated request in the last hour | – | %d |", reservedConns),
		fmt.Sprintf("| refused requests in a burst, with those that are not authenticated yet | %d |", failuresAtOnce),
		fmt.Sprintf("| refused requests after the burst; more get 429 | %d per second |", failuresPerSecond),
		fmt.Sprintf("| peers whose refused requests are counted; peers with an authenticated request | – | %d each |", maxPeers),
		fmt.Sprintf("| blobs that are read at once, on a controller / on a worker | – | %d / %d |", maxStreams, WorkerStreams),
		fmt.Sprintf("| audit lines about refusals | %.0f per minute | burst of %d, then %d per second |", time.Minute.Seconds()/auditInterval.Seconds(), auditAtOnce, auditPerSecond),
		fmt.Sprintf("| TLS handshake; header of a request | %.0f s each |", headerTimeout.Seconds()),
		fmt.Sprintf("| whole request | %.0f s |", readTimeout.Seconds()),
		fmt.Sprintf("| response; of a blob | %.0f min; %.0f min |", writeTimeout.Minutes(), blobTimeout.Minutes()),
		fmt.Sprintf("| idle | %.0f min |", idleTimeout.Minutes()),
		fmt.Sprintf("| header; body of a request | %d KiB; %d KiB |", maxHeaderBytes>>10, maxBodyBytes>>10),
	} {
		if !strings.Contains(string(guide), row) {
			t.Errorf("docs/guide/security.md lacks: %s", row)
		}
	}
}
