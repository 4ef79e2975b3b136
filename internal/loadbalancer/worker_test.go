package loadbalancer

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/token"
)

const dataDir = "/var/lib/plinth"

func TestSeedControllers_WritesControllersAndCA(t *testing.T) {
	h := hosttest.New(t).Host()
	if why, err := SeedNeeded(h, dataDir); why != "no controller is known" || err != nil {
		t.Errorf("%q %v", why, err)
	}
	if err := SeedControllers(h, dataDir, []byte("ca"), []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}); err != nil {
		t.Fatal(err)
	}
	list, err := ControllersFile{Files: h, Path: controllersPath(dataDir)}.Load()
	if err != nil || len(list) != 2 || list[0].String() != "10.0.0.1:6443" || list[1].String() != "[2001:db8::1]:6443" {
		t.Errorf("%v %v", list, err)
	}
	if why, err := SeedNeeded(h, dataDir); why != "" || err != nil {
		t.Errorf("after the seed: %q %v", why, err)
	}
	if err := h.Write(controllersPath(dataDir), strings.NewReader("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if why, err := SeedNeeded(h, dataDir); !strings.Contains(why, "cannot read the list of controllers") || err != nil {
		t.Errorf("damaged: %q %v", why, err)
	}
}

func TestAPIClientCheckReady_TrustsOnlyTheClusterCA(t *testing.T) {
	status, body := http.StatusOK, "ok"
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("request for %s", r.URL.Path)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer srv.Close()
	at := netip.MustParseAddrPort(srv.Listener.Addr().String())
	ask := func(ca []byte) error {
		h := hosttest.New(t).Host()
		if err := SeedControllers(h, dataDir, ca, []netip.Addr{at.Addr()}); err != nil {
			t.Fatal(err)
		}
		return (&apiClient{host: h, dataDir: dataDir}).checkReady(t.Context(), at)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := ask(ca); err != nil {
		t.Error(err)
	}
	status = http.StatusUnauthorized // a host that has not joined yet
	if err := ask(ca); err != nil {
		t.Error(err)
	}
	status, body = http.StatusInternalServerError, "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed"
	if err := ask(ca); err == nil || !strings.HasSuffix(err.Error(), "[-]etcd failed: reason withheld") {
		t.Error(err)
	}
	if err := ask([]byte("nothing")); err == nil || !strings.Contains(err.Error(), "contains no certificate") {
		t.Error(err)
	}
	h := hosttest.New(t).Host()
	if err := h.Write("/var/lib/k0s/kubelet.conf", strings.NewReader(`{"apiVersion":"v1","kind":"Config","current-context":"t",
		"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],"users":[{"name":"t","user":{}}],"clusters":[{"name":"t","cluster":{"server":"https://127.0.0.1:6443"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (&apiClient{host: h, dataDir: dataDir}).checkReady(t.Context(), at); err == nil || !strings.Contains(err.Error(), "names no certificate authority") {
		t.Errorf("an unknown server was trusted: %v", err)
	}
}

func TestAPIClientListControllers_ReturnsRecordedControllers(t *testing.T) {
	s, client := kubetest.New(t)
	kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "a", Role: token.Controller, Address: "10.0.0.1"}, kube.NodeRecord{Node: "w", Role: token.Worker, Address: "10.0.0.9"})
	// What a worker writes into its own Node object must not attract the clients of other workers.
	s.Put("/api/v1/nodes/w", map[string]any{"metadata": map[string]any{"name": "w", "labels": map[string]any{"node.k0sproject.io/role": "control-plane"}},
		"status": map[string]any{"addresses": []any{map[string]any{"type": "InternalIP", "address": "10.0.0.1"}}}})
	got, err := (&apiClient{api: client}).listControllers(t.Context())
	if err != nil || len(got) != 1 || got[0].String() != "10.0.0.1:6443" {
		t.Errorf("%v %v", got, err)
	}
	if _, err := (&apiClient{host: hosttest.New(t).Host()}).listControllers(t.Context()); err == nil {
		t.Error("a host that has not joined listed controllers")
	}
}

func TestSeedOutdated_IsOnlyForReplacedControllers(t *testing.T) {
	addresses := func(all ...string) (out []netip.Addr) {
		for _, a := range all {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for name, c := range map[string]struct {
		stored, cluster []netip.Addr
		want            string
	}{
		"none is stored":       {nil, addresses("10.0.0.1"), "no controller is known"},
		"the same":             {addresses("10.0.0.1"), addresses("10.0.0.1"), ""},
		"one is left":          {addresses("10.0.0.1", "10.0.0.2"), addresses("10.0.0.2", "10.0.0.9"), ""},
		"all were replaced":    {addresses("10.0.0.1", "10.0.0.2"), addresses("10.0.0.9"), "such as 10.0.0.1, none is in the cluster any more"},
		"the cluster has none": {addresses("10.0.0.1"), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			if err := SeedControllers(h, dataDir, []byte("ca"), c.stored); err != nil {
				t.Fatal(err)
			}
			if why, err := SeedOutdated(h, dataDir, c.cluster); err != nil || !strings.HasSuffix(why, c.want) || (why == "") != (c.want == "") {
				t.Errorf("%q %v", why, err)
			}
		})
	}
}

func TestWithServer_ReplacesOnlyTheURL(t *testing.T) {
	raw, err := withServer([]byte(`{"apiVersion":"v1","kind":"Config","current-context":"t","contexts":[{"name":"t","context":{"cluster":"t","user":"u"}}],
		"users":[{"name":"u","user":{"client-certificate":"/c.pem"}}],"clusters":[{"name":"t","cluster":{"server":"https://127.0.0.1:6443","certificate-authority":"/ca.crt"}}]}`),
		"https://api.example.com:6443")
	for _, want := range []string{"server: https://api.example.com:6443", "certificate-authority: /ca.crt", "client-certificate: /c.pem"} {
		if err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%q is missing in %s (%v)", want, raw, err)
		}
	}
}
