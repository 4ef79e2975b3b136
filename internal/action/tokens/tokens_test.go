package tokens

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/agent"
	"github.com/plinthdev/plinth/internal/action/desired"
	agentapi "github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/ui"
)

func TestNewToken_BindsBundleConfigurationAndVendor(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testkit.Must(t, err)
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	testkit.Must(t, err)
	key, err := trust.ParsePublicKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	testkit.Must(t, err)
	ca, err := pki.NewCA("kubernetes-ca", time.Now())
	testkit.Must(t, err)
	_, client := kubetest.New(t)
	// The receipt is older: agents answer with the bundle that the node keeps.
	c := agent.ClusterState{Client: client, Receipt: journal.Receipt{Name: "my-app", Address: "10.0.0.5", Bundle: "sha256:old"}, Bundle: digest.FromString("index"),
		Fields: []agentapi.Field{{Name: "bundle", Value: "x"}}}
	for name, want := range map[string]trust.PublicKey{"signed": key, "unsigned": {}} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.New(t).Host()
			testkit.Must(t, h.Write(k0s.CACertPath, strings.NewReader(string(ca.Cert)), 0o644))
			if !want.IsZero() {
				testkit.Must(t, h.Write(desired.BundleCacheDir("/data")+"/vendor.pub", strings.NewReader(string(want.PEM())), 0o600),
					h.Write(desired.BundleCacheDir("/data")+"/index.json.sig", strings.NewReader("signature"), 0o600))
			}
			env := &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: "/data", Now: time.Now, Secrets: new(ui.Secrets)}}
			got, err := newToken(t.Context(), env, c, Request{Role: token.Worker, TTL: time.Hour, Uses: 1})
			if err != nil || got.VendorKey != want.Fingerprint() || got.Bundle != c.Bundle.String() || got.SharedConfig != desired.SharedConfigDigest(c.Fields) {
				t.Errorf("key %q, bundle %q, configuration %q, %v", got.VendorKey, got.Bundle, got.SharedConfig, err)
			}
		})
	}
}

func TestJoinCommand_FetchesTheProgramFirst(t *testing.T) {
	for name, c := range map[string]struct{ fetch, want string }{
		"this node offers it": {"curl … && chmod +x plinth", "curl … && chmod +x plinth && echo plinth1-x | sudo ./plinth join -"},
		"it does not":         {"", "echo plinth1-x | sudo plinth join -"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := joinCommand(c.fetch, "plinth1-x"); got != c.want {
				t.Errorf("%s", got)
			}
		})
	}
}
