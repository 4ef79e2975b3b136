package peer

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

var loop = netip.MustParseAddr("127.0.0.1")

// free are ports that nobody has now, in place of a node's.
func free(t *testing.T, n int) (ports []int) {
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

// serve answers with a code, as a host that listens does.
func serve(t *testing.T, code string, next http.Handler) netip.AddrPort {
	t.Helper()
	cert, err := Certificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(Guard(code, next))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return netip.MustParseAddrPort(srv.Listener.Addr().String())
}

func TestEarsAnswerOnlyWhoKnowsTheNonce(t *testing.T) {
	ports := free(t, 2)
	ears := Open(t.Context(), ports, ports[0], false)
	defer ears.Close()
	port := netip.AddrPortFrom(loop, uint16(ears.All[0].Port))
	if ears.All[0].TCP != Held || ears.All[0].UDP != Held || ears.All[1].TCP != Held || ears.All[1].UDP != Closed {
		t.Fatalf("%+v", ears.All)
	}
	if _, err := tryTCP(t.Context(), port, ears.Nonce, true); err != nil {
		t.Error(err)
	}
	if _, err := tryTCP(t.Context(), port, "another", true); err == nil || !strings.Contains(err.Error(), "something else answers") {
		t.Errorf("a stranger's answer: %v", err)
	}
	for _, size := range []int{0, 1280, 1500} {
		if err := tryUDP(t.Context(), port, ears.Nonce, size); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	if err := tryUDP(t.Context(), port, strings.Repeat("x", nonceLength), 0); words(err) != "no answer: a packet filter drops it" {
		t.Errorf("answered a stranger: %v", err)
	}
	if err := tryUDP(t.Context(), port, ears.Nonce, 80_000); err == nil {
		t.Error("a packet passed that no interface takes")
	}
}

func TestAPortThatIsTakenIsInUse(t *testing.T) {
	ports := free(t, 1)
	first := Open(t.Context(), ports, ports[0], false)
	defer first.Close()
	second := Open(t.Context(), ports, ports[0], true)
	defer second.Close()
	if e := second.All[0]; e.TCP != InUse || e.UDP != InUse {
		t.Errorf("%+v", e)
	}
	if _, err := tryTCP(t.Context(), netip.AddrPortFrom(loop, uint16(first.All[0].Port)), "", false); err != nil {
		t.Error(err)
	}
}

// TestALiveNodeKeepsItsPortsFree: its own programs may start at any moment.
func TestALiveNodeKeepsItsPortsFree(t *testing.T) {
	ports := free(t, 2)
	ears := Open(t.Context(), ports, ports[0], true)
	defer ears.Close()
	if ears.All[0].TCP != Closed || ears.All[0].UDP != Held || ears.All[1].TCP != Closed {
		t.Errorf("%+v", ears.All)
	}
	for _, p := range ports {
		ln, err := net.Listen("tcp", netip.AddrPortFrom(loop, uint16(p)).String())
		if err != nil {
			t.Fatal(err)
		}
		_ = ln.Close()
	}
}

func TestNoPortIsReachedThatIsNotNeeded(t *testing.T) {
	all := []Ear{{Port: 22, TCP: Held}, {Port: 10250, TCP: Held}, {Port: 2380, TCP: Held}, {Port: 80, UDP: Held}}
	for _, c := range []struct {
		from, to bool
		want     int
	}{{true, true, 2}, {false, true, 1}, {true, false, 1}, {false, false, 1}} {
		if got := Among(all, Ports(c.from, c.to)); len(got) != c.want || got[0].Port != 10250 {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	if r := Try(t.Context(), loop, "x", nil, 1500); len(r.Ports) != 0 || r.Packet != 0 {
		t.Errorf("%+v", r)
	}
}

func TestWhoCannotBeAskedIsSaidInWords(t *testing.T) {
	p := free(t, 1)[0]
	_, err := net.Dial("tcp", netip.AddrPortFrom(loop, uint16(p)).String())
	if why, absent := Unasked(fmt.Errorf("asking: %w", err)); !absent || why != "nobody answers at 9444/tcp" {
		t.Errorf("%s %v", why, absent)
	}
	if why, absent := Unasked(&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}); absent || why != "9444/tcp: no answer: a packet filter drops it" {
		t.Errorf("%s %v", why, absent)
	}
	if why, absent := Unasked(ErrCode); absent || why != ErrCode.Error() {
		t.Errorf("%s %v", why, absent)
	}
}

func TestHostsProveToEachOtherThatTheyKnowTheCode(t *testing.T) {
	good := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"nonce":"` + strings.Repeat("n", nonceLength) + `"}`))
	})
	at := serve(t, "right", good)
	if _, err := Question(t.Context(), at, " right\n", Ask{}); err != nil {
		t.Error(err)
	}
	if _, err := Question(t.Context(), at, "wrong", Ask{}); !errors.Is(err, ErrCode) {
		t.Errorf("the wrong code: %v", err)
	}
	// One in the middle ends TLS itself and passes all on: its proofs are those
	// of other connections.
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
		w.Header().Set(proofHeader, resp.Header.Get(proofHeader))
		w.WriteHeader(resp.StatusCode)
	}))
	middle.StartTLS()
	defer middle.Close()
	if _, err := Question(t.Context(), netip.MustParseAddrPort(middle.Listener.Addr().String()), "right", Ask{}); !errors.Is(err, ErrCode) {
		t.Errorf("one in the middle: %v", err)
	}
}

func TestAHostTellsWhatItIsAndWhatItReached(t *testing.T) {
	self := func() (Identity, int) { return Identity{Hostname: "b", MachineID: "2"}, 1500 }
	h := &Handler{Self: self, Controller: true, Now: time.Now}
	defer h.Close()
	at := serve(t, "code", h)
	a, err := Question(t.Context(), at, "code", Ask{Nonce: "n", MTU: 1400})
	if err != nil || a.Identity.Hostname != "b" || len(a.Ears) != len(Ports(true, true)) || time.Since(a.Received) > time.Minute || a.Back.Full != 1400 {
		t.Errorf("%+v %v", a, err)
	}
	again, err := Question(t.Context(), at, "code", Ask{})
	if err != nil || again.Nonce != a.Nonce {
		t.Errorf("the ports were bound anew for a second host: %v", err)
	}
	req := httptest.NewRequestWithContext(context.Background(), http.MethodPost, Path, strings.NewReader("{"))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if w.Code != http.StatusBadRequest {
		t.Errorf("nonsense was answered with %d", w.Code)
	}
}

func TestWhyAPortIsNotReachedIsSaidInWords(t *testing.T) {
	p := free(t, 1)[0]
	_, err := tryTCP(t.Context(), netip.AddrPortFrom(loop, uint16(p)), "", true)
	if words(err) != "refused: a packet filter rejects it" || words(nil) != "" || words(context.DeadlineExceeded) != "no answer: a packet filter drops it" {
		t.Error(words(err))
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(`{"nonce":"nnnnnnnnnnnnnnnnnnnnnnnnnn","ears":[{"port":1,"tcp":"held"}]}`)
	f.Add(`{"identity":{"addresses":["x"]}}`)
	f.Fuzz(func(t *testing.T, raw string) {
		if a, err := Decode(strings.NewReader(raw)); err == nil && len(a.Nonce) != nonceLength {
			t.Errorf("%q was taken", raw)
		}
	})
}
