package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

// fakeUpgrader records the phases that were started.
type fakeUpgrader struct {
	started *[]UpgradeRequest
	err     error
}

func (f fakeUpgrader) UpgradeState(context.Context) (UpgradeState, error) {
	return UpgradeState{Node: "w", Installed: "sha256:old"}, f.err
}

func (f fakeUpgrader) StartUpgrade(_ context.Context, q UpgradeRequest) error {
	if f.err == nil {
		*f.started = append(*f.started, q)
	}
	return f.err
}

var testBundle = digest.FromString("index")

// upgradeBody returns the body of a request to start a phase.
func upgradeBody(phase, bundle string) string {
	return `{"phase":"` + phase + `","bundle":"` + bundle + `"}`
}

// sendAs sends a request from 10.0.0.7 with a certificate; nil for none.
func sendAs(t *testing.T, h http.Handler, cert *tls.Certificate, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, io.NopCloser(strings.NewReader(body)))
	r.RemoteAddr = "10.0.0.7:4711"
	if cert != nil {
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
	}
	res := httptest.NewRecorder()
	h.ServeHTTP(res, r)
	return res
}

func TestUpgrade_IsForControllersOnly(t *testing.T) {
	a, b := newTestCA(t), fakeCluster{bearer: token.Token{ID: "abcd1234", Secret: "topsecret"}.Bearer(), gone: "removed"}
	controller, removed, worker := a.controller(t, "c1"), a.controller(t, "removed"), a.worker(t, "w")
	kubelet, other := a.issue(t, nodecert.KubeletClient, "c1", token.Controller), newTestCA(t).controller(t, "c1")
	good := upgradeBody("switch", testBundle.String())
	for name, c := range map[string]struct {
		cert   *tls.Certificate
		body   string
		status int
		audit  string
	}{
		"stranger":              {nil, good, 401, "event=refusal"},
		"worker":                {&worker, good, 403, `event=refusal node="w"`},
		"kubelet":               {&kubelet, good, 401, "event=refusal"},
		"another authority":     {&other, good, 401, "event=refusal"},
		"removed controller":    {&removed, good, 401, `event=refusal node="removed"`},
		"unknown phase":         {&controller, upgradeBody("destroy", testBundle.String()), 400, "event=refusal"},
		"no digest":             {&controller, upgradeBody("switch", "../../etc/passwd"), 400, "event=refusal"},
		"another digest method": {&controller, upgradeBody("switch", digest.SHA512.FromString("x").String()), 400, "event=refusal"},
		"more than that":        {&controller, `{"phase":"switch","bundle":"` + testBundle.String() + `","program":"/bin/sh"}`, 400, "event=refusal"},
		"too large":             {&controller, upgradeBody("switch", strings.Repeat("a", maxBodyBytes)), 400, "event=refusal"},
		"controller":            {&controller, good, 200, `event=upgrade node="c1" peer=10.0.0.7 token=- result="switch of bundle ` + testBundle.String()},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			var started []UpgradeRequest
			h := Service{Backend: b, Store: b, Upgrader: fakeUpgrader{started: &started}, Authority: a.authority, Audit: func(l string) { lines = append(lines, l) }}.Handler()
			res := sendAs(t, h, c.cert, http.MethodPost, UpgradePath, c.body)
			if res.Code != c.status || (len(started) == 1) != (c.status == 200) || len(lines) != 1 || !strings.Contains(lines[0], c.audit) {
				t.Errorf("%d %s; started %v; audit %q", res.Code, res.Body, started, lines)
			}
			if res := sendAs(t, h, c.cert, http.MethodGet, UpgradePath, ""); (res.Code == 200) != (c.cert == &controller) || strings.Contains(res.Body.String(), "sha256:old") != (res.Code == 200) {
				t.Errorf("state: %d %s", res.Code, res.Body)
			}
		})
	}
}

func TestUpgrade_LimitsRequests(t *testing.T) {
	a, b := newTestCA(t), fakeCluster{}
	for name, cert := range map[string]tls.Certificate{"of a worker": a.worker(t, "w"), "of a controller, to start phases": a.controller(t, "c1")} {
		t.Run(name, func(t *testing.T) {
			var started []UpgradeRequest
			h := Service{Backend: b, Store: b, Upgrader: fakeUpgrader{started: &started}, Authority: a.authority}.Handler()
			for range 2 * failuresAtOnce {
				sendAs(t, h, &cert, http.MethodPost, UpgradePath, upgradeBody("check", testBundle.String()))
			}
			if res := sendAs(t, h, &cert, http.MethodPost, UpgradePath, ""); res.Code != http.StatusTooManyRequests || len(started) > failuresAtOnce+1 {
				t.Errorf("%d, started %d", res.Code, len(started))
			}
		})
	}
	t.Run("not those of a controller for the state", func(t *testing.T) {
		h, cert := Service{Backend: b, Store: b, Upgrader: fakeUpgrader{}, Authority: a.authority}.Handler(), a.controller(t, "c1")
		for range 3 * failuresAtOnce {
			if res := sendAs(t, h, &cert, http.MethodGet, UpgradePath, ""); res.Code != 200 {
				t.Fatal(res.Code)
			}
		}
	})
}

func TestUpgradeOffer_IsForNodesOnly(t *testing.T) {
	a, b := newTestCA(t), fakeCluster{gone: "removed"}
	worker, removed := a.worker(t, "w"), a.worker(t, "removed")
	offer := func(_ context.Context, d digest.Digest) (UpgradeOffer, error) {
		if d != testBundle {
			return UpgradeOffer{}, &StatusError{Reason: "this controller does not serve that bundle", Status: http.StatusNotFound}
		}
		return UpgradeOffer{Bundle: d, Signature: []byte("signature")}, nil
	}
	for name, c := range map[string]struct {
		cert   *tls.Certificate
		bundle string
		status int
	}{
		"stranger":       {nil, testBundle.String(), 401},
		"removed node":   {&removed, testBundle.String(), 401},
		"worker":         {&worker, testBundle.String(), 200},
		"another bundle": {&worker, "sha256:other", 404},
	} {
		t.Run(name, func(t *testing.T) {
			h := Service{Backend: b, Store: b, UpgradeOffer: offer, Authority: a.authority}.Handler()
			if res := sendAs(t, h, c.cert, http.MethodGet, UpgradeOfferPath+"?bundle="+c.bundle, ""); res.Code != c.status {
				t.Errorf("%d %s", res.Code, res.Body)
			}
		})
	}
}

func TestUpgradeClient_StartsAndReports(t *testing.T) {
	a, b := newTestCA(t), fakeCluster{}
	var started []UpgradeRequest
	up := fakeUpgrader{started: &started}
	serve := func(t *testing.T, u NodeUpgrader) UpgradeClient {
		t.Helper()
		at := startServer(t, a.worker(t, "w"), Service{Backend: b, Store: b, Upgrader: u, Authority: a.authority}.Handler())
		c := NewUpgradeClient(a.controller(t, "c1"), token.PublicKeyPin(a.cert))
		c.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, at)
		}
		return c
	}
	loopback, request := netip.MustParseAddr("127.0.0.1"), UpgradeRequest{Phase: UpgradeDeliver, Bundle: testBundle}
	t.Run("a node that can", func(t *testing.T) {
		c := serve(t, up)
		if err := c.Start(t.Context(), loopback, request); err != nil || len(started) != 1 || started[0] != request {
			t.Errorf("%v %v", started, err)
		}
		if s, err := c.State(t.Context(), loopback); err != nil || s.Node != "w" || s.Installed != "sha256:old" {
			t.Errorf("%+v %v", s, err)
		}
	})
	t.Run("a node that another command changes", func(t *testing.T) {
		up.err = &StatusError{Reason: "another run changes this host", Status: http.StatusLocked}
		var busy *BusyError
		if err := serve(t, up).Start(t.Context(), loopback, request); !errors.As(err, &busy) {
			t.Error(err)
		}
	})
}

func TestUpgradeState_FinishedOnlyOfThisPhase(t *testing.T) {
	q, end := UpgradeRequest{Phase: UpgradeSwitch, Bundle: testBundle}, time.Unix(1, 0)
	for name, c := range map[string]struct {
		s    UpgradeState
		want bool
	}{
		"ended":          {UpgradeState{Phase: UpgradeSwitch, Bundle: testBundle, Ended: end}, true},
		"running":        {UpgradeState{Phase: UpgradeSwitch, Bundle: testBundle, Running: true}, false},
		"killed":         {UpgradeState{Phase: UpgradeSwitch, Bundle: testBundle}, false},
		"failed":         {UpgradeState{Phase: UpgradeSwitch, Bundle: testBundle, Ended: end, Failed: "no"}, false},
		"another phase":  {UpgradeState{Phase: UpgradeCheck, Bundle: testBundle, Ended: end}, false},
		"another bundle": {UpgradeState{Phase: UpgradeSwitch, Bundle: "sha256:x", Ended: end}, false},
		"nothing":        {UpgradeState{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.s.Finished(q); got != c.want {
				t.Error(got)
			}
		})
	}
}
