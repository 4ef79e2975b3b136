package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

const testSupportID = "0123456789abcdef0123456789abcdef"

// fakeSupport records the collections that were started, and has the part content.
type fakeSupport struct {
	started *[]SupportRequest
	content string
	err     error
}

func (f fakeSupport) SupportState(context.Context) (SupportState, error) {
	return SupportState{ID: testSupportID, Size: int64(len(f.content))}, f.err
}

func (f fakeSupport) StartSupport(_ context.Context, q SupportRequest) error {
	if f.err == nil {
		*f.started = append(*f.started, q)
	}
	return f.err
}

func (f fakeSupport) TakeSupport(id string) (io.ReadCloser, int64, error) {
	if id != testSupportID || f.content == "" {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(f.content)), int64(len(f.content)), f.err
}

func TestSupport_IsForControllersOnly(t *testing.T) {
	a, b := newTestCA(t), fakeCluster{bearer: token.Token{ID: "abcd1234", Secret: "topsecret"}.Bearer(), gone: "removed"}
	controller, removed, worker := a.controller(t, "c1"), a.controller(t, "removed"), a.worker(t, "w")
	kubelet, other := a.issue(t, nodecert.KubeletClient, "c1", token.Controller), newTestCA(t).controller(t, "c1")
	body := func(id, since, limit string) string {
		return `{"id":"` + id + `","since":` + since + `,"limit":` + limit + `}`
	}
	good := body(testSupportID, "3600", "10000000")
	for name, c := range map[string]struct {
		cert   *tls.Certificate
		body   string
		status int
		audit  string
	}{
		"stranger":           {nil, good, 401, "event=refusal"},
		"worker":             {&worker, good, 403, `event=refusal node="w"`},
		"kubelet":            {&kubelet, good, 401, "event=refusal"},
		"another authority":  {&other, good, 401, "event=refusal"},
		"removed controller": {&removed, good, 401, `event=refusal node="removed"`},
		"a path as id":       {&controller, body("../../../../etc/passwd", "3600", "10000000"), 400, "event=refusal"},
		"no age":             {&controller, body(testSupportID, "0", "10000000"), 400, "event=refusal"},
		"too large a part":   {&controller, body(testSupportID, "3600", "99999999999"), 400, "event=refusal"},
		"more than that":     {&controller, `{"id":"` + testSupportID + `","since":1,"limit":10000000,"file":"/etc/shadow"}`, 400, "event=refusal"},
		"controller":         {&controller, good, 200, `event=support node="c1" peer=10.0.0.7 token=- result=`},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			var started []SupportRequest
			h := Service{Backend: b, Store: b, Support: fakeSupport{&started, "the part", nil}, Authority: a.authority,
				Audit: func(l string) { lines = append(lines, l) }}.Handler()
			res := sendAs(t, h, c.cert, http.MethodPost, SupportPath, c.body)
			if res.Code != c.status || (len(started) == 1) != (c.status == 200) || len(lines) != 1 || !strings.Contains(lines[0], c.audit) {
				t.Errorf("%d %s; started %v; audit %q", res.Code, res.Body, started, lines)
			}
			allowed := c.cert == &controller
			res = sendAs(t, h, c.cert, http.MethodGet, SupportPath, "")
			if (res.Code == 200) != allowed || strings.Contains(res.Body.String(), testSupportID) != allowed {
				t.Errorf("state: %d %s", res.Code, res.Body)
			}
			res = sendAs(t, h, c.cert, http.MethodGet, SupportContentPath+"?id="+testSupportID, "")
			if (res.Code == 200) != allowed || (res.Body.String() == "the part") != allowed {
				t.Errorf("content: %d %s", res.Code, res.Body)
			}
		})
	}
}

func TestSupportClient_CollectsAPart(t *testing.T) {
	a, b := newTestCA(t), fakeCluster{}
	var started []SupportRequest
	serve := func(t *testing.T, s SupportCollector) SupportClient {
		t.Helper()
		at := startServer(t, a.worker(t, "w"), Service{Backend: b, Store: b, Support: s, Authority: a.authority}.Handler())
		c := NewSupportClient(a.controller(t, "c1"), token.PublicKeyPin(a.cert))
		t.Cleanup(c.Close)
		c.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, at)
		}
		return c
	}
	loopback, request := netip.MustParseAddr("127.0.0.1"), SupportRequest{ID: testSupportID, Since: 60, Limit: MinSupportBytes}
	t.Run("of a node that can", func(t *testing.T) {
		c := serve(t, fakeSupport{&started, "the part", nil})
		if err := c.Start(t.Context(), loopback, request); err != nil || len(started) != 1 || started[0] != request {
			t.Errorf("%v %v", started, err)
		}
		if s, err := c.State(t.Context(), loopback); err != nil || s.ID != testSupportID || s.Size != 8 {
			t.Errorf("%+v %v", s, err)
		}
		if part, err := c.Fetch(t.Context(), loopback, testSupportID, 8); err != nil || string(part) != "the part" {
			t.Errorf("%q %v", part, err)
		}
		if _, err := c.Fetch(t.Context(), loopback, testSupportID, 7); err == nil {
			t.Error("a part that is too large")
		}
	})
	t.Run("of a node without one", func(t *testing.T) {
		_, err := serve(t, fakeSupport{&started, "", nil}).Fetch(t.Context(), loopback, testSupportID, 8)
		if err == nil || !strings.Contains(err.Error(), "no such part") {
			t.Error(err)
		}
	})
	t.Run("of a node that collects another one", func(t *testing.T) {
		busy := fakeSupport{&started, "", &StatusError{Reason: "it collects another support bundle now", Status: http.StatusLocked}}
		var later *BusyError
		if err := serve(t, busy).Start(t.Context(), loopback, request); !errors.As(err, &later) {
			t.Error(err)
		}
	})
}
