package agent

import (
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"reflect"
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
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// controller returns the host n1 with a receipt, the CA of a cluster and an identity of it.
func controller(t *testing.T) (*action.Env, host.Host, pki.Pair) {
	t.Helper()
	h := hosttest.New(t).Host()
	ca, err := pki.NewCA("kubernetes-ca", noon)
	testkit.Must(t, err)
	testkit.Must(t, h.Write(k0s.CACertPath, strings.NewReader(string(ca.Cert)), 0o644))
	testkit.Must(t, h.Write(k0s.CAKeyPath, strings.NewReader(string(ca.Key)), 0o600))
	testkit.Must(t, journal.WriteReceipt(h, "/var/lib/plinth", journal.Receipt{Name: "my-app", Role: "controller", Node: "n1", Address: "10.0.0.5"}))
	storeIdentity(t, h, ca, nodecert.Identity{Node: "n1", UID: "uid-of-n1", Role: token.Controller, Address: "10.0.0.5"})
	return &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: "/var/lib/plinth", Now: func() time.Time { return noon }}}, h, ca
}

// storeIdentity stores the identity that the authority ca has issued for a node's agent.
func storeIdentity(t *testing.T, h host.Files, ca pki.Pair, id nodecert.Identity) node.Identity {
	t.Helper()
	i, err := node.NewIdentity(noon)
	testkit.Must(t, err)
	i, err = i.Issue(id, ca, noon)
	testkit.Must(t, err)
	testkit.Must(t, i.Write(h, "/var/lib/plinth"))
	return i
}

func TestLoadControllerCert_ReusesCertificateWhileItIsUsable(t *testing.T) {
	r, h, ca := controller(t)
	first, authority, err := (&identity{Env: r, load: loadControllerCert}).currentCert()
	testkit.Must(t, err)
	if len(first.Certificate) != 2 || first.Leaf.VerifyHostname("10.0.0.5") != nil || first.Leaf.CheckSignatureFrom(authority) != nil {
		t.Errorf("%d certificates, for %v", len(first.Certificate), first.Leaf.IPAddresses)
	}
	if info, err := h.Lstat(node.IdentityPath(r.DataDir)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	again, _, err := (&identity{Env: r, load: loadControllerCert}).currentCert()
	testkit.Must(t, err)
	if !again.Leaf.Equal(first.Leaf) {
		t.Error("a new certificate at each start: clients could not pin its key")
	}
	later := *r
	later.Now = func() time.Time { return noon.Add(nodecert.Lifetime - 24*time.Hour) }
	renewed, _, err := (&identity{Env: &later, load: loadControllerCert}).currentCert()
	if err != nil || renewed.Leaf.Equal(first.Leaf) {
		t.Errorf("not renewed shortly before its expiry: %v", err)
	}
	if p, ok := nodecert.NodeIDOf(renewed.Leaf); !ok || p != (nodecert.NodeID{Node: "n1", UID: "uid-of-n1", Role: token.Controller}) || token.PublicKeyPin(renewed.Leaf) != token.PublicKeyPin(first.Leaf) {
		t.Errorf("renewed for %+v, or for another key", p)
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

func TestLoadControllerCert_RequiresIssuedIdentity(t *testing.T) {
	for name, change := range map[string]func(*testing.T, host.Host, pki.Pair){
		"missing": func(t *testing.T, h host.Host, _ pki.Pair) {
			testkit.Must(t, h.RemoveAll(node.IdentityPath("/var/lib/plinth")))
		},
		"not PEM": func(t *testing.T, h host.Host, _ pki.Pair) {
			testkit.Must(t, h.Write(node.IdentityPath("/var/lib/plinth"), strings.NewReader("x"), 0o600))
		},
		"unsigned": func(t *testing.T, h host.Host, _ pki.Pair) {
			i, err := node.NewIdentity(noon)
			testkit.Must(t, err)
			testkit.Must(t, i.Write(h, "/var/lib/plinth"))
		},
		"nothing is installed": func(t *testing.T, h host.Host, _ pki.Pair) {
			testkit.Must(t, h.RemoveAll("/var/lib/plinth/receipt.json"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, h, ca := controller(t)
			change(t, h, ca)
			if _, _, err := loadControllerCert(r); err == nil {
				t.Error("it has a certificate")
			}
		})
	}
}

func TestWorkerServer_UsesItsIdentityAndAdmitsNoHosts(t *testing.T) {
	h := hosttest.New(t).Host()
	r := &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: "/var/lib/plinth", Now: func() time.Time { return noon }}}
	ca, err := pki.NewCA("kubernetes-ca", noon)
	testkit.Must(t, err)
	testkit.Must(t, loadbalancer.SeedControllers(h, r.DataDir, ca.Cert, []netip.Addr{netip.MustParseAddr("10.0.0.5")}))
	if _, _, err := loadStoredCert(r); err == nil {
		t.Error("a host that has not joined yet has a certificate")
	}
	own, err := node.NewIdentity(noon)
	testkit.Must(t, err)
	testkit.Must(t, own.Write(h, r.DataDir))
	if _, _, err := loadStoredCert(r); err == nil {
		t.Error("a host that was not admitted yet has a certificate")
	}
	storeIdentity(t, h, ca, nodecert.Identity{Node: "w1", UID: "uid", Role: token.Worker, Address: "10.0.0.9"})
	cert, authority, err := loadStoredCert(r)
	testkit.Must(t, err)
	if len(cert.Certificate) != 2 || cert.Leaf.VerifyHostname("10.0.0.9") != nil || cert.Leaf.CheckSignatureFrom(authority) != nil {
		t.Errorf("%d certificates", len(cert.Certificate))
	}
	w := &workerServer{Env: r}
	if shown, err := w.certificate(); err != nil || !shown.Leaf.Equal(cert.Leaf) {
		t.Errorf("controllers get another certificate: %v", err)
	}
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
	if _, err := w.DescribeCluster(t.Context(), agent.Caller{Bearer: "id.secret", Key: "k"}); !errors.As(err, &no) || no.Status != http.StatusNotFound {
		t.Errorf("a worker describes the cluster: %v", err)
	}
	if _, err := w.Admit(t.Context(), agent.Caller{Bearer: "id.secret", Key: "k"}, agent.JoinRequest{}); !errors.As(err, &no) {
		t.Errorf("a worker admits: %v", err)
	}
	if _, err := w.Renew(t.Context(), agent.Caller{Key: "k"}, agent.RenewRequest{}); !errors.As(err, &no) {
		t.Errorf("a worker signs: %v", err)
	}
}

func TestClusterStateNodes_TrustsRecords(t *testing.T) {
	s, client := kubetest.New(t)
	kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "a", Role: token.Controller, Address: "10.0.0.1", MachineID: "m1", AgentKey: "key-a"},
		kube.NodeRecord{Node: "b", Role: token.Worker, Address: "10.0.0.2", MachineID: "m2", AgentKey: "key-b"}, kube.NodeRecord{Node: "c", Role: token.Controller, Address: "10.0.0.3", MachineID: "m3", AgentKey: "key-c"})
	testkit.Must(t, client.UpdateNodeRecords(t.Context(), func(records kube.NodeRecords) error {
		c := records["c"]
		c.Joined = false
		records["c"] = c
		return nil
	}))
	for _, name := range []string{"a", "b", "stranger"} { // c has not registered
		s.Put("/api/v1/nodes/"+name, map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{"node.k0sproject.io/role": "control-plane"}},
			"status": map[string]any{"nodeInfo": map[string]any{"machineID": "m1"}, "conditions": []any{map[string]any{"type": "Ready", "status": "True"}},
				"addresses": []any{map[string]any{"type": "InternalIP", "address": "10.0.0.1"}}}})
	}
	got, err := ClusterState{Client: client}.Nodes(t.Context())
	want := []agent.Node{{Name: "a", MachineID: "m1", Key: "key-a", Addresses: []string{"10.0.0.1"}, Controller: true, Ready: true},
		{Name: "b", MachineID: "m2", Key: "key-b", Addresses: []string{"10.0.0.2"}, Ready: true}, {Name: "c", MachineID: "m3", Key: "key-c", Addresses: []string{"10.0.0.3"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
	for name, tt := range map[string]struct {
		request agent.JoinRequest
		want    string
	}{
		"its name on another machine": {agent.JoinRequest{Node: "b", MachineID: "m9", Address: "10.0.0.9"}, "already has a node named b"},
		"its address":                 {agent.JoinRequest{Node: "n", MachineID: "m9", Address: "10.0.0.3"}, "node c of the cluster has this host's address"},
		"its machine id":              {agent.JoinRequest{Node: "n", MachineID: "m3", Address: "10.0.0.9"}, "node c of the cluster has this host's machine id"},
		"a name without a record":     {agent.JoinRequest{Node: "stranger", MachineID: "m9", Address: "10.0.0.9"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if why := agent.Conflict(got, tt.request, "key-n"); !strings.Contains(why, tt.want) || tt.want == "" && why != "" {
				t.Error(why)
			}
		})
	}
}
