package agent

import (
	"bytes"
	"errors"
	"github.com/plinthdev/plinth/internal/testkit"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/pki"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// controller returns a host with a receipt and the CA of a cluster.
func controller(t *testing.T) (*action.Env, host.Host, pki.Pair) {
	t.Helper()
	h := hosttest.New(t).Host()
	ca, err := pki.NewCA("kubernetes-ca", noon)
	testkit.Must(t, err)
	testkit.Must(t, h.Write(k0s.CACertPath, strings.NewReader(string(ca.Cert)), 0o644))
	testkit.Must(t, h.Write(k0s.CAKeyPath, strings.NewReader(string(ca.Key)), 0o600))
	testkit.Must(t, journal.WriteReceipt(h, "/var/lib/plinth", journal.Receipt{Name: "my-app", Role: "controller", Node: "n1", Address: "10.0.0.5"}))
	return &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: "/var/lib/plinth", Now: func() time.Time { return noon }}}, h, ca
}

func TestLoadControllerCert_ReusesCertificateWhileItIsUsable(t *testing.T) {
	r, h, ca := controller(t)
	first, authority, err := (&identity{Env: r, load: loadControllerCert}).currentCert()
	testkit.Must(t, err)
	if len(first.Certificate) != 2 || first.Leaf.VerifyHostname("10.0.0.5") != nil || first.Leaf.CheckSignatureFrom(authority) != nil {
		t.Errorf("%d certificates, for %v", len(first.Certificate), first.Leaf.IPAddresses)
	}
	if info, err := h.Lstat(IdentityPath(r)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	again, _, err := (&identity{Env: r, load: loadControllerCert}).currentCert()
	testkit.Must(t, err)
	if !again.Leaf.Equal(first.Leaf) {
		t.Error("a new certificate at each start: clients could not pin its key")
	}
	later := *r
	later.Now = func() time.Time { return noon.Add(pki.ServerLifetime - 24*time.Hour) }
	if renewed, _, err := (&identity{Env: &later, load: loadControllerCert}).currentCert(); err != nil || renewed.Leaf.Equal(first.Leaf) {
		t.Errorf("not renewed shortly before its expiry: %v", err)
	}
	testkit.Must(t, journal.WriteReceipt(h, r.DataDir, journal.Receipt{Name: "my-app", Role: "controller", Node: "n1", Address: "10.0.0.5", API: "api.example.com"}))
	if renewed, _, err := (&identity{Env: r, load: loadControllerCert}).currentCert(); err != nil || renewed.Leaf.VerifyHostname("api.example.com") != nil {
		t.Errorf("not valid for the additional API name: %v", err)
	}
	other, err := pki.NewCA("kubernetes-ca", noon)
	testkit.Must(t, err)
	testkit.Must(t, h.Write(k0s.CACertPath, strings.NewReader(string(other.Cert)), 0o644))
	testkit.Must(t, h.Write(k0s.CAKeyPath, strings.NewReader(string(other.Key)), 0o600))
	if renewed, _, err := (&identity{Env: r, load: loadControllerCert}).currentCert(); err != nil || renewed.Leaf.Equal(first.Leaf) || string(ca.Cert) == string(other.Cert) {
		t.Errorf("another cluster, the same certificate: %v", err)
	}
}

func TestBlobStoreOpen_OpensOnlyBlobsOfTheBundle(t *testing.T) {
	dir := t.TempDir()
	r := &action.Env{Host: host.Local("/"), GlobalOptions: action.GlobalOptions{DataDir: dir, Now: time.Now}}
	b, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, airgaptest.NewRequest(t)))
	testkit.Must(t, err)
	docs, err := b.Documents(t.Context())
	testkit.Must(t, err)
	for p, content := range docs {
		testkit.Must(t, r.Host.Write(filepath.Join(desired.BundleCacheDir(dir), p), strings.NewReader(string(content)), 0o600))
	}
	stray := digest.FromString("secret")
	testkit.Must(t, r.Host.Write(filepath.Join(desired.BundleCacheDir(dir), "blobs", "sha256", stray.Encoded()), strings.NewReader("secret"), 0o600))
	s := newBlobStore(r)
	self, err := r.AgentArtifact()
	testkit.Must(t, err)
	for name, c := range map[string]struct {
		d     digest.Digest
		there bool
	}{
		"the index":                       {b.Digest(), true},
		"a manifest":                      {b.Images()[0].Manifest.Digest, true},
		"this program":                    {self.Digest, true},
		"a layer that containerd lacks":   {b.Images()[0].Layers[0].Digest, false},
		"a blob that is not the bundle's": {stray, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := s.Open(t.Context(), c.d)
			if c.there != (err == nil) || !c.there && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v", err)
			}
			if err == nil {
				_ = f.Close()
			}
		})
	}
}

func TestWorkerServer_UsesKubeletCertificateAndAdmitsNoHosts(t *testing.T) {
	h := hosttest.New(t).Host()
	r := &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: "/var/lib/plinth", Now: func() time.Time { return noon }}}
	ca, err := pki.NewCA("kubernetes-ca", noon)
	testkit.Must(t, err)
	testkit.Must(t, loadbalancer.SeedControllers(h, r.DataDir, ca.Cert, []netip.Addr{netip.MustParseAddr("10.0.0.5")}))
	if _, _, err := loadWorkerCert(r); err == nil {
		t.Error("a host that has not joined yet has a certificate")
	}
	pair, err := ca.IssueServerCert([]string{"10.0.0.9", "w1"}, noon)
	testkit.Must(t, err)
	testkit.Must(t, h.Write(k0s.KubeletCertPath, bytes.NewReader(slices.Concat(pair.Cert, pair.Key)), 0o600))
	cert, authority, err := loadWorkerCert(r)
	testkit.Must(t, err)
	if len(cert.Certificate) != 2 || cert.Leaf.VerifyHostname("10.0.0.9") != nil || cert.Leaf.CheckSignatureFrom(authority) != nil {
		t.Errorf("%d certificates", len(cert.Certificate))
	}
	w := &workerServer{Env: r}
	cluster, err := w.controllerCluster()
	testkit.Must(t, err)
	if again, err := w.controllerCluster(); err != nil || again != cluster || w.addresses[0] != "10.0.0.5:9444" {
		t.Errorf("%v %v", w.addresses, err)
	}
	testkit.Must(t, loadbalancer.SeedControllers(h, r.DataDir, ca.Cert, []netip.Addr{netip.MustParseAddr("10.0.0.6")}))
	if other, err := w.controllerCluster(); err != nil || other == cluster {
		t.Errorf("a removed controller is still used: %v", err)
	}
	var no *agent.StatusError
	if _, err := w.DescribeCluster(t.Context(), "id.secret", "m"); !errors.As(err, &no) || no.Status != http.StatusNotFound {
		t.Errorf("a worker describes the cluster: %v", err)
	}
	if _, err := w.Admit(t.Context(), "id.secret", agent.JoinRequest{}); !errors.As(err, &no) {
		t.Errorf("a worker admits: %v", err)
	}
}

func TestCheckIsNode_RefusesRemovedNode(t *testing.T) {
	s, client := kubetest.New(t)
	s.Put("/api/v1/nodes/w1", map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": "w1"}})
	testkit.Must(t, checkIsNode(t.Context(), client, "w1"))
	var no *agent.StatusError
	if err := checkIsNode(t.Context(), client, "w2"); !errors.As(err, &no) || no.Status != http.StatusUnauthorized || !strings.Contains(no.Reason, "w2 was removed") {
		t.Errorf("%v", err)
	}
}
