package peercheck

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// freePorts returns ports that are free now, in place of a node's.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range n {
		ln, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// serveWithCode serves next to clients that know the code, as a listening host
// does.
func serveWithCode(t *testing.T, code string, next http.Handler) netip.AddrPort {
	t.Helper()
	cert, err := NewCertificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(RequireCode(code, next))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return netip.MustParseAddrPort(srv.Listener.Addr().String())
}

func TestOpenListeners_AnswersOnlyClientsWithNonce(t *testing.T) {
	ports := freePorts(t, 2)
	listeners := OpenListeners(t.Context(), ports, ports[0], false)
	defer listeners.Close()
	port := netip.AddrPortFrom(loopback, uint16(listeners.Ports[0].Port))
	if listeners.Ports[0].TCP != Held || listeners.Ports[0].UDP != Held || listeners.Ports[1].TCP != Held || listeners.Ports[1].UDP != Closed {
		t.Fatalf("%+v", listeners.Ports)
	}
	if _, err := tryTCP(t.Context(), port, listeners.Nonce, true); err != nil {
		t.Error(err)
	}
	if _, err := tryTCP(t.Context(), port, "another", true); err == nil || !strings.Contains(err.Error(), "responds at this address") {
		t.Errorf("another nonce: %v", err)
	}
	for _, size := range []int{0, 1280, 1500} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			if err := tryUDP(t.Context(), port, listeners.Nonce, size); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
		})
	}
	if err := tryUDP(t.Context(), port, strings.Repeat("x", nonceLength), 0); describeError(err) != "no answer: a packet filter drops it" {
		t.Errorf("answered a client without the nonce: %v", err)
	}
	if err := tryUDP(t.Context(), port, listeners.Nonce, 80_000); err == nil {
		t.Error("a packet passed that is larger than any MTU")
	}
}

func TestOpenListeners_ReportsPortInUse(t *testing.T) {
	ports := freePorts(t, 1)
	first := OpenListeners(t.Context(), ports, ports[0], false)
	defer first.Close()
	second := OpenListeners(t.Context(), ports, ports[0], true)
	defer second.Close()
	if e := second.Ports[0]; e.TCP != InUse || e.UDP != InUse {
		t.Errorf("%+v", e)
	}
	if _, err := tryTCP(t.Context(), netip.AddrPortFrom(loopback, uint16(first.Ports[0].Port)), "", false); err != nil {
		t.Error(err)
	}
}

// TestOpenListeners_KeepsPortsOfLiveNodeFree verifies that a live node can bind
// its ports: its own programs may start at any moment.
func TestOpenListeners_KeepsPortsOfLiveNodeFree(t *testing.T) {
	ports := freePorts(t, 2)
	listeners := OpenListeners(t.Context(), ports, ports[0], true)
	defer listeners.Close()
	if listeners.Ports[0].TCP != Closed || listeners.Ports[0].UDP != Held || listeners.Ports[1].TCP != Closed {
		t.Errorf("%+v", listeners.Ports)
	}
	for _, p := range ports {
		ln, err := net.Listen("tcp", netip.AddrPortFrom(loopback, uint16(p)).String())
		if err != nil {
			t.Fatal(err)
		}
		_ = ln.Close()
	}
}

func TestFilterPorts_KeepsRequiredPortsOnly(t *testing.T) {
	all := []PortState{{Port: 22, TCP: Held}, {Port: 10250, TCP: Held}, {Port: 2380, TCP: Held}, {Port: 80, UDP: Held}}
	for name, c := range map[string]struct {
		from, to bool
		want     int
	}{
		"controller to controller": {true, true, 2},
		"worker to controller":     {false, true, 1},
		"controller to worker":     {true, false, 1},
		"worker to worker":         {false, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := FilterPorts(all, RequiredPorts(c.from, c.to)); len(got) != c.want || got[0].Port != 10250 {
				t.Errorf("%+v: %+v", c, got)
			}
		})
	}
	if r := CheckPorts(t.Context(), loopback, "x", nil, 1500); len(r.Ports) != 0 || r.Packet != 0 {
		t.Errorf("%+v", r)
	}
}

func TestExplainNoResponse_DistinguishesCauses(t *testing.T) {
	p := freePorts(t, 1)[0]
	_, err := net.Dial("tcp", netip.AddrPortFrom(loopback, uint16(p)).String())
	if why, absent := ExplainNoResponse(fmt.Errorf("request: %w", err)); !absent || why != "nothing listens on 9444/tcp" {
		t.Errorf("%s %v", why, absent)
	}
	if why, absent := ExplainNoResponse(&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}); absent || why != "9444/tcp: no answer: a packet filter drops it" {
		t.Errorf("%s %v", why, absent)
	}
	if why, absent := ExplainNoResponse(ErrWrongCode); absent || why != ErrWrongCode.Error() {
		t.Errorf("%s %v", why, absent)
	}
}

func TestSendRequest_RequiresCodeOnBothSides(t *testing.T) {
	good := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"nonce":"` + strings.Repeat("n", nonceLength) + `"}`))
	})
	at := serveWithCode(t, "right", good)
	if _, err := SendRequest(t.Context(), at, " right\n", Request{}); err != nil {
		t.Error(err)
	}
	if _, err := SendRequest(t.Context(), at, "wrong", Request{}); !errors.Is(err, ErrWrongCode) {
		t.Errorf("the wrong code: %v", err)
	}
	// A host in the middle terminates TLS and forwards everything: its MACs are
	// those of other connections.
	middle := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "https", at.String()
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		resp, err := c.Do(out)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		w.Header().Set(codeMACHeader, resp.Header.Get(codeMACHeader))
		w.WriteHeader(resp.StatusCode)
	}))
	middle.StartTLS()
	defer middle.Close()
	if _, err := SendRequest(t.Context(), netip.MustParseAddrPort(middle.Listener.Addr().String()), "right", Request{}); !errors.Is(err, ErrWrongCode) {
		t.Errorf("a host in the middle: %v", err)
	}
}

func TestHandler_ReportsIdentityAndReachability(t *testing.T) {
	self := func() (Identity, int) { return Identity{Hostname: "b", MachineID: "2"}, 1500 }
	h := &Handler{Self: self, Controller: true, Now: time.Now}
	defer h.Close()
	at := serveWithCode(t, "code", h)
	a, err := SendRequest(t.Context(), at, "code", Request{Nonce: "n", MTU: 1400})
	if err != nil || a.Identity.Hostname != "b" || len(a.Ports) != len(RequiredPorts(true, true)) || time.Since(a.Received) > time.Minute || a.Reverse.FullPacket != 1400 {
		t.Errorf("%+v %v", a, err)
	}
	again, err := SendRequest(t.Context(), at, "code", Request{})
	if err != nil || again.Nonce != a.Nonce {
		t.Errorf("the ports were bound again for a second request: %v", err)
	}
	req := httptest.NewRequestWithContext(context.Background(), http.MethodPost, RequestPath, strings.NewReader("{"))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if w.Code != http.StatusBadRequest {
		t.Errorf("an invalid request was answered with %d", w.Code)
	}
}

func TestDescribeError_NamesPacketFilter(t *testing.T) {
	p := freePorts(t, 1)[0]
	_, err := tryTCP(t.Context(), netip.AddrPortFrom(loopback, uint16(p)), "", true)
	if describeError(err) != "refused: a packet filter rejects it" || describeError(nil) != "" || describeError(context.DeadlineExceeded) != "no answer: a packet filter drops it" {
		t.Error(describeError(err))
	}
}

func FuzzDecodeResponse(f *testing.F) {
	f.Add(`{"nonce":"nnnnnnnnnnnnnnnnnnnnnnnnnn","ports":[{"port":1,"tcp":"held"}]}`)
	f.Add(`{"identity":{"addresses":["x"]}}`)
	f.Fuzz(func(t *testing.T, raw string) {
		if a, err := DecodeResponse(strings.NewReader(raw)); err == nil && len(a.Nonce) != nonceLength {
			t.Errorf("%q was accepted", raw)
		}
	})
}
