package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

// testCluster is the cluster of one controller, n1 at 10.0.0.5.
type testCluster struct {
	joinServer
	api    *kubetest.Server
	client *kube.Client
	ca     pki.Pair
	bundle digest.Digest
}

// newTestCluster returns a cluster with the repository's Installer and a record of n1.
func newTestCluster(t *testing.T) testCluster {
	t.Helper()
	env, h, ca := controller(t)
	env.Note = func(string) {}
	env.DataDir = t.TempDir() // the documents are read as files of the real host
	testkit.Must(t, journal.WriteReceipt(h, env.DataDir, journal.Receipt{Name: "my-app", Role: "controller", Node: "n1", Address: "10.0.0.5", API: "10.0.0.100"}))
	docs, bundle := bundleDocuments(t)
	c := testCluster{joinServer: joinServer{env}, ca: ca, bundle: bundle}
	for p, content := range docs {
		c.keep(t, p, string(content))
	}
	c.api, c.client = kubetest.New(t)
	srv := httptest.NewServer(c.api)
	t.Cleanup(srv.Close)
	testkit.Must(t, h.Write(k0s.AdminConf, strings.NewReader(fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"t",
		"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],"users":[{"name":"t","user":{}}],
		"clusters":[{"name":"t","cluster":{"server":%q}}]}`, srv.URL)), 0o600))
	kubetest.RecordNodes(t, c.client, kube.NodeRecord{Node: "n1", Role: token.Controller, Address: "10.0.0.5", MachineID: "m1", AgentKey: "key-of-n1"})
	return c
}

// bundleCache are the documents of the bundle, which takes long to build.
var bundleCache struct {
	docs   map[string][]byte
	bundle digest.Digest
}

// bundleDocuments returns the documents of a bundle with the repository's Installer, and its digest.
func bundleDocuments(t *testing.T) (map[string][]byte, digest.Digest) {
	t.Helper()
	if bundleCache.docs != nil {
		return bundleCache.docs, bundleCache.bundle
	}
	req := airgaptest.NewRequest(t)
	var err error
	req.Installer, err = os.ReadFile("../../../installer.yaml")
	testkit.Must(t, err)
	b, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, req))
	testkit.Must(t, err)
	defer func() { _ = b.Close() }()
	bundleCache.docs, err = b.Documents(t.Context())
	testkit.Must(t, err)
	bundleCache.bundle = b.Digest()
	return bundleCache.docs, bundleCache.bundle
}

// keep writes a file of the bundle cache.
func (c testCluster) keep(t *testing.T, name, content string) {
	t.Helper()
	testkit.WriteFile(t, desired.BundleCacheDir(c.DataDir), name, content)
	testkit.Must(t, c.Host.Write(filepath.Join(desired.BundleCacheDir(c.DataDir), name), strings.NewReader(content), 0o600))
}

// addToken adds a join token with the ID and the secret "secret".
func (c testCluster) addToken(t *testing.T, id, role string, uses int) {
	t.Helper()
	testkit.Must(t, token.Store{Core: c.client.Core(), Now: c.Now}.Add(t.Context(),
		token.Record{ID: id, Role: role, Created: noon, Expires: noon.Add(time.Hour), Uses: uses, Hash: token.HashSecret("secret")}))
}

// records returns the records of the cluster.
func (c testCluster) records(t *testing.T) kube.NodeRecords {
	t.Helper()
	records, err := c.client.NodeRecords(t.Context())
	testkit.Must(t, err)
	return records
}

// joiner is a host that requests admission.
type joiner struct {
	id       nodecert.Identity
	identity node.Identity
	caller   agent.Caller
	request  agent.JoinRequest
}

// newJoiner returns a host whose request a cluster with the token accepts.
func newJoiner(t *testing.T, id nodecert.Identity, tokenID string) *joiner {
	t.Helper()
	identity, err := node.NewIdentity(noon)
	testkit.Must(t, err)
	leaf, err := identity.Pair.Leaf()
	testkit.Must(t, err)
	j := &joiner{id: id, identity: identity, caller: agent.Caller{Bearer: tokenID + ".secret", Key: token.PublicKeyPin(leaf)},
		request: agent.JoinRequest{Node: id.Node, MachineID: "machine-of-" + id.Node, Address: id.Address}}
	key, err := identity.Key()
	testkit.Must(t, err)
	j.request.AgentRequest, err = nodecert.NewRequest(nodecert.Agent, id, key)
	testkit.Must(t, err)
	j.request.ClientRequest, j.request.ServingRequest = newRequest(t, nodecert.KubeletClient, id), newRequest(t, nodecert.KubeletServing, id)
	return j
}

// newRequest returns a certificate request for a new key.
func newRequest(t *testing.T, kind nodecert.Kind, id nodecert.Identity) []byte {
	t.Helper()
	request, _, err := plan.NewKeyAndRequest(kind, id)
	testkit.Must(t, err)
	return request
}

// sign returns a request of the template that the joiner's agent signs.
func (j *joiner) sign(t *testing.T, template x509.CertificateRequest) []byte {
	t.Helper()
	key, err := j.identity.Key()
	testkit.Must(t, err)
	der, err := x509.CreateCertificateRequest(nil, &template, key)
	testkit.Must(t, err)
	return der
}

func parseLeaf(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(text)
	if block == nil || len(rest) != 0 {
		t.Fatalf("not one certificate: %q", text)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	testkit.Must(t, err)
	return leaf
}

var w1 = nodecert.Identity{Node: "w1", Role: token.Worker, Address: "10.0.0.9"}

func TestAdmit_SignsCertificatesOfTheRecord(t *testing.T) {
	for name, tt := range map[string]struct {
		id  nodecert.Identity
		api bool // the agent's certificate is also for the API
	}{
		"worker":     {w1, false},
		"controller": {nodecert.Identity{Node: "n2", Role: token.Controller, Address: "10.0.0.6"}, true},
		"IPv6":       {nodecert.Identity{Node: "w6", Role: token.Worker, Address: "2001:db8::9"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t)
			c.addToken(t, "abcd2345", tt.id.Role, 1)
			j := newJoiner(t, tt.id, "abcd2345")
			a, err := c.Admit(t.Context(), j.caller, j.request)
			testkit.Must(t, err)
			rec := c.records(t)[tt.id.Node]
			want := kube.NodeRecord{Node: tt.id.Node, UID: rec.UID, Role: tt.id.Role, Address: tt.id.Address, MachineID: j.request.MachineID, AgentKey: j.caller.Key, Token: "abcd2345", Admitted: noon}
			if rec != want || len(rec.UID) != 26 {
				t.Errorf("recorded %+v", rec)
			}
			leaf := parseLeaf(t, a.AgentCert)
			if p, ok := nodecert.NodeIDOf(leaf); !ok || p != (nodecert.NodeID{Node: tt.id.Node, UID: rec.UID, Role: tt.id.Role}) || token.PublicKeyPin(leaf) != j.caller.Key {
				t.Errorf("the agent's certificate is for %+v", p)
			}
			if tt.api != (leaf.VerifyHostname("10.0.0.100") == nil) {
				t.Errorf("the agent's certificate is for %v", leaf.IPAddresses)
			}
			for _, cert := range [][]byte{a.ClientCert, a.ServingCert} {
				if n, uid, ok := nodecert.KubeletUID(parseLeaf(t, cert)); !ok || n != tt.id.Node || uid != rec.UID {
					t.Errorf("the kubelet's certificate is for %s, %s", n, uid)
				}
			}
			if _, err := j.identity.WithCertificate(a.AgentCert, c.ca.Cert); err != nil || a.Controller != "10.0.0.5" {
				t.Errorf("%q, %v", a.Controller, err)
			}
		})
	}
}

func TestAdmit_RefusesWhatTheTokenIsNotFor(t *testing.T) {
	for name, tt := range map[string]struct {
		id     nodecert.Identity
		role   string // of the token; "" for that of id
		change func(*testing.T, *joiner)
		status int
		want   string
	}{
		"no certificate":     {w1, "", func(_ *testing.T, j *joiner) { j.caller.Key = "" }, http.StatusUnauthorized, "shows no certificate"},
		"no token":           {w1, "", func(_ *testing.T, j *joiner) { j.caller.Bearer = "" }, http.StatusUnauthorized, "no token"},
		"wrong secret":       {w1, "", func(_ *testing.T, j *joiner) { j.caller.Bearer = "abcd2345.wrong" }, http.StatusUnauthorized, "does not know this token"},
		"hash of the secret": {w1, "", func(_ *testing.T, j *joiner) { j.caller.Bearer = "abcd2345." + token.HashSecret("secret") }, http.StatusUnauthorized, "does not know this token"},

		"name of another node":    {nodecert.Identity{Node: "n1", Role: token.Worker, Address: "10.0.0.9"}, "", nil, http.StatusConflict, "already has a node named n1, with another key"},
		"address of another node": {nodecert.Identity{Node: "w1", Role: token.Worker, Address: "10.0.0.5"}, "", nil, http.StatusConflict, "node n1 of the cluster has this host's address"},
		"mapped address of another node": {w1, "", func(_ *testing.T, j *joiner) { j.request.Address = "::ffff:10.0.0.5" }, http.StatusConflict,
			"node n1 of the cluster has this host's address"},
		"machine ID of another node": {w1, "", func(_ *testing.T, j *joiner) { j.request.MachineID = "m1" }, http.StatusConflict, "node n1 of the cluster has this host's machine id"},
		"key of another node":        {w1, "", func(_ *testing.T, j *joiner) { j.caller.Key = "key-of-n1" }, http.StatusConflict, "node n1 of the cluster has this host's key"},

		"address of a pod":     {nodecert.Identity{Node: "w1", Role: token.Worker, Address: "10.244.3.1"}, "", nil, http.StatusConflict, "in 10.244.0.0/16"},
		"address of a service": {nodecert.Identity{Node: "w1", Role: token.Worker, Address: "10.96.0.1"}, "", nil, http.StatusConflict, "in 10.96.0.0/12"},
		"mapped address of a service": {w1, "", func(_ *testing.T, j *joiner) { j.request.Address = "::ffff:10.96.0.1" }, http.StatusConflict,
			"in 10.96.0.0/12"},
		"address of the API":  {nodecert.Identity{Node: "w1", Role: token.Worker, Address: "10.0.0.100"}, "", nil, http.StatusConflict, "the address of the cluster's API"},
		"loopback":            {nodecert.Identity{Node: "w1", Role: token.Worker, Address: "127.0.0.1"}, "", nil, http.StatusConflict, "not an address that other hosts can reach"},
		"mapped loopback":     {w1, "", func(_ *testing.T, j *joiner) { j.request.Address = "::ffff:127.0.0.1" }, http.StatusConflict, "not an address that other hosts can reach"},
		"link-local address":  {nodecert.Identity{Node: "w1", Role: token.Worker, Address: "169.254.1.1"}, "", nil, http.StatusConflict, "not an address that other hosts can reach"},
		"multicast address":   {nodecert.Identity{Node: "w1", Role: token.Worker, Address: "224.0.0.1"}, "", nil, http.StatusConflict, "not an address that other hosts can reach"},
		"unspecified address": {nodecert.Identity{Node: "w1", Role: token.Worker, Address: "0.0.0.0"}, "", nil, http.StatusConflict, "not an address that other hosts can reach"},
		"address with a zone": {w1, "", func(_ *testing.T, j *joiner) { j.request.Address = "2001:db8::9%eth0" }, http.StatusConflict, "not the IP address of a node"},
		"no address":          {w1, "", func(_ *testing.T, j *joiner) { j.request.Address = "w1" }, http.StatusConflict, "not an address"},

		"name of the API":         {nodecert.Identity{Node: "kubernetes.default.svc", Role: token.Worker, Address: "10.0.0.9"}, "", nil, http.StatusConflict, "is reserved for the API"},
		"short name of the API":   {nodecert.Identity{Node: "kubernetes", Role: token.Worker, Address: "10.0.0.9"}, "", nil, http.StatusConflict, "is reserved for the API"},
		"name of a service":       {nodecert.Identity{Node: "a.kotsadm.svc.cluster.local", Role: token.Worker, Address: "10.0.0.9"}, "", nil, http.StatusConflict, "is reserved for the API"},
		"localhost":               {nodecert.Identity{Node: "localhost", Role: token.Worker, Address: "10.0.0.9"}, "", nil, http.StatusConflict, "is reserved for the API"},
		"name that is an address": {nodecert.Identity{Node: "127.0.0.1", Role: token.Worker, Address: "10.0.0.9"}, "", nil, http.StatusConflict, "is reserved for the API"},
		"name of the load balancer": {nodecert.Identity{Node: "10.0.0.100", Role: token.Worker, Address: "10.0.0.9"}, "", nil, http.StatusConflict,
			"is reserved for the API"},
		"no name of a node": {w1, "", func(_ *testing.T, j *joiner) { j.request.Node = "W_1" }, http.StatusConflict, "not the name of a node"},

		"agent's request for another key": {w1, "", func(t *testing.T, j *joiner) { j.request.AgentRequest = newRequest(t, nodecert.Agent, w1) }, http.StatusConflict,
			"for another key than that of the connection"},
		"agent's request as a controller": {w1, "", func(t *testing.T, j *joiner) {
			j.request.AgentRequest = newJoiner(t, nodecert.Identity{Node: "w1", Role: token.Controller, Address: "10.0.0.9"}, "x").request.AgentRequest
		}, http.StatusConflict, `the organization is "plinth:controllers"`},
		"agent's request for the API": {w1, "", func(t *testing.T, j *joiner) {
			j.request.AgentRequest = j.sign(t, x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"plinth:workers"}, CommonName: "plinth:node:w1"}, DNSNames: []string{"w1", "10.0.0.100"}})
		}, http.StatusConflict, `the name "10.0.0.100" is not that of the node`},
		"kubelet's request for another node": {w1, "", func(t *testing.T, j *joiner) {
			j.request.ClientRequest = newRequest(t, nodecert.KubeletClient, nodecert.Identity{Node: "n1", Address: "10.0.0.5"})
		}, http.StatusConflict, `the common name is "system:node:n1"`},
		"kubelet's request as administrator": {w1, "", func(t *testing.T, j *joiner) {
			j.request.ClientRequest = j.sign(t, x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"system:masters"}, CommonName: "system:node:w1"}})
		}, http.StatusConflict, `the organization is "system:masters"`},
		"kubelet's requests with the agent's key": {w1, "", func(t *testing.T, j *joiner) {
			j.request.ClientRequest = j.sign(t, x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:w1"}})
		}, http.StatusConflict, "for the key of the agent"},
		"serving request for loopback": {w1, "", func(t *testing.T, j *joiner) {
			j.request.ServingRequest = newRequest(t, nodecert.KubeletServing, nodecert.Identity{Node: "w1", Address: "127.0.0.1"})
		}, http.StatusConflict, "the address 127.0.0.1 is not that of the node"},
		"serving request for the API": {w1, "", func(t *testing.T, j *joiner) {
			j.request.ServingRequest = j.sign(t, x509.CertificateRequest{Subject: pkix.Name{Organization: []string{"system:nodes"}, CommonName: "system:node:w1"}, DNSNames: []string{"kubernetes.default.svc"}})
		}, http.StatusConflict, `the name "kubernetes.default.svc" is not that of the node`},
		"no serving request": {w1, "", func(_ *testing.T, j *joiner) { j.request.ServingRequest = nil }, http.StatusConflict, "kubelet serving's certificate is refused"},
		"controller with a worker's token": {nodecert.Identity{Node: "n2", Role: token.Controller, Address: "10.0.0.6"}, token.Worker, nil, http.StatusConflict,
			`the organization is "plinth:controllers"`},
		"controller with a bad request": {nodecert.Identity{Node: "n2", Role: token.Controller, Address: "10.0.0.6"}, "", func(_ *testing.T, j *joiner) {
			j.request.Fresh, j.request.ServingRequest = true, nil // it must not get the lock, or its address freed in etcd
		}, http.StatusConflict, "kubelet serving's certificate is refused"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t)
			if tt.role == "" {
				tt.role = tt.id.Role
			}
			c.addToken(t, "abcd2345", tt.role, 1)
			c.api.Writes()
			j := newJoiner(t, tt.id, "abcd2345")
			if tt.change != nil {
				tt.change(t, j)
			}
			a, err := c.Admit(t.Context(), j.caller, j.request)
			var no *agent.StatusError
			if !errors.As(err, &no) || no.Status != tt.status || !strings.Contains(no.Reason, tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if wrote := c.api.Writes(); len(wrote) > 0 || a.AgentCert != nil || a.ClientCert != nil || a.ServingCert != nil {
				t.Errorf("wrote %q; answered %+v", wrote, a)
			}
		})
	}
}

func TestIsReservedName_AllowsNamesOfHosts(t *testing.T) {
	for name, want := range map[string]bool{"w1": false, "kubernetes-1": false, "kubernetes.example.com": false, "db.svc.example.com": false, "svc": false, "local": false,
		"kubernetes": true, "kubernetes.default": true, "kubernetes.default.svc.example.com": true, "kubernetes.svc.example.com": true, "hook.kube-system.svc": true,
		"a.b.svc.cluster.local": true, "localhost": true, "localhost.localdomain": true, "a.localhost": true, "10.0.0.1": true} {
		if got := isReservedName(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestReservedFor_ComparesWithTheCertificateOfTheAPIServer(t *testing.T) {
	c := newTestCluster(t)
	state, err := ReadClusterState(t.Context(), c.Env)
	testkit.Must(t, err)
	state.Installer.Spec.K0s.Config = map[string]any{"spec": map[string]any{
		"api":     map[string]any{"sans": []any{"k8s.example.com", "*.lb.example.com", "10.0.0.50", "2001:db8::50", "n2"}},
		"network": map[string]any{"clusterDomain": "corp.local"}}}
	for name, tt := range map[string]struct {
		role, node, address, want string
	}{
		"another name":                    {token.Worker, "w1", "10.0.0.9", ""},
		"additional name":                 {token.Worker, "k8s.example.com", "10.0.0.9", "for k8s.example.com"},
		"additional name in upper case":   {token.Worker, "K8S.example.com", "10.0.0.9", "for k8s.example.com"},
		"name of a wildcard":              {token.Worker, "a.lb.example.com", "10.0.0.9", "for *.lb.example.com"},
		"two labels below a wildcard":     {token.Worker, "a.b.lb.example.com", "10.0.0.9", ""},
		"parent of a wildcard":            {token.Worker, "lb.example.com", "10.0.0.9", ""},
		"additional address":              {token.Worker, "w1", "10.0.0.50", "for 10.0.0.50"},
		"additional address, mapped":      {token.Worker, "w1", "::ffff:10.0.0.50", "for 10.0.0.50"},
		"additional address, other form":  {token.Worker, "w1", "2001:db8:0::50", "for 2001:db8::50"},
		"name of the first controller":    {token.Worker, "n1", "10.0.0.9", "for n1"},
		"load balancer":                   {token.Worker, "w1", "10.0.0.100", "for 10.0.0.100"},
		"name of a listed controller":     {token.Worker, "n2", "10.0.0.9", "for n2"},
		"listed controller":               {token.Controller, "n2", "10.0.0.50", ""},
		"service in the cluster's domain": {token.Controller, "db.app.svc.corp.local", "10.0.0.9", "reserved for services"},
		"host in the cluster's domain":    {token.Worker, "w1.corp.local", "10.0.0.9", ""},
	} {
		t.Run(name, func(t *testing.T) {
			why, err := state.reservedFor(tt.role, agent.JoinRequest{Node: tt.node, Address: tt.address})
			if err != nil || (why == "") != (tt.want == "") || !strings.Contains(why, tt.want) {
				t.Errorf("%q %v, want %q", why, err, tt.want)
			}
		})
	}
}

func TestAdmit_RefusesNamesOfTheInstaller(t *testing.T) {
	c := newTestCluster(t)
	state, err := ReadClusterState(t.Context(), c.Env)
	testkit.Must(t, err)
	state.Installer.Spec.K0s.Config = map[string]any{"spec": map[string]any{"api": map[string]any{"sans": []any{"w1"}}}}
	j := newJoiner(t, w1, "abcd2345")
	var no *agent.StatusError
	if _, err := state.newRecord(c.records(t), j.caller, token.Record{ID: "abcd2345", Role: token.Worker}, j.request); !errors.As(err, &no) || !strings.Contains(no.Reason, "is for w1") {
		t.Errorf("%v", err)
	}
}

func TestAdmit_KeepsTheUIDOfAHostThatRepeats(t *testing.T) {
	c := newTestCluster(t)
	c.addToken(t, "abcd2345", token.Worker, 1)
	c.addToken(t, "wxyz2345", token.Worker, 1)
	c.addToken(t, "ctrl2345", token.Controller, 1)
	first := newJoiner(t, w1, "abcd2345")
	_, err := c.Admit(t.Context(), first.caller, first.request)
	testkit.Must(t, err)
	uid := c.records(t)["w1"].UID

	again := first.request
	again.ClientRequest, again.ServingRequest = newRequest(t, nodecert.KubeletClient, w1), newRequest(t, nodecert.KubeletServing, w1)
	for name, bearer := range map[string]string{"the same token": "abcd2345.secret", "another token": "wxyz2345.secret"} {
		a, err := c.Admit(t.Context(), agent.Caller{Bearer: bearer, Key: first.caller.Key}, again)
		testkit.Must(t, err)
		if _, got, ok := nodecert.KubeletUID(parseLeaf(t, a.ClientCert)); !ok || got != uid || c.records(t)["w1"].UID != uid {
			t.Errorf("%s: UID %s instead of %s", name, got, uid)
		}
	}
	for name, tt := range map[string]struct {
		caller  agent.Caller
		request agent.JoinRequest
		want    string
	}{
		"a second key with a used-up token": {newJoiner(t, nodecert.Identity{Node: "w2", Role: token.Worker, Address: "10.0.0.10"}, "abcd2345").caller,
			newJoiner(t, nodecert.Identity{Node: "w2", Role: token.Worker, Address: "10.0.0.10"}, "abcd2345").request, "used up, by w1"},
		"the key with a second name":   {first.caller, newJoiner(t, nodecert.Identity{Node: "w2", Role: token.Worker, Address: "10.0.0.10"}, "abcd2345").request, "node w1 of the cluster has this host's key"},
		"the name with a second role":  {agent.Caller{Bearer: "ctrl2345.secret", Key: first.caller.Key}, again, "admitted as a worker, but the token is for a controller"},
		"the name with a second key":   {newJoiner(t, w1, "wxyz2345").caller, newJoiner(t, w1, "wxyz2345").request, "used up"},
		"the key with n1's machine ID": {first.caller, func() agent.JoinRequest { r := again; r.MachineID = "m1"; return r }(), "node n1 of the cluster has this host's machine id"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Admit(t.Context(), tt.caller, tt.request)
			var no *agent.StatusError
			if tt.want != "" && (!errors.As(err, &no) || !strings.Contains(no.Reason, tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if got := c.records(t); got["w1"].UID != uid || got["w1"].AgentKey != first.caller.Key || got["w1"].Role != token.Worker || len(got) != 2 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestAdmit_ControllerWithLostDataKeepsItsVote(t *testing.T) {
	c := newTestCluster(t)
	c.addToken(t, "abcd2345", token.Controller, 1)
	id := nodecert.Identity{Node: "n2", Role: token.Controller, Address: "10.0.0.6"}
	j := newJoiner(t, id, "abcd2345")
	_, err := c.Admit(t.Context(), j.caller, j.request)
	testkit.Must(t, err)
	_, err = recordVoters(t.Context(), c.client, []etcd.Member{{ID: "1", Name: "n1", Address: "10.0.0.5"}, {ID: "2", Name: "n2", Address: "10.0.0.6"}})
	testkit.Must(t, err)
	if _, err := c.Admit(t.Context(), j.caller, j.request); err != nil || !c.records(t)["n2"].Joined {
		t.Errorf("a controller that resumes after it has joined: %v, %+v", err, c.records(t)["n2"])
	}
	c.api.Writes()
	j.request.Fresh = true
	var no *agent.StatusError
	if _, err := c.Admit(t.Context(), j.caller, j.request); !errors.As(err, &no) || no.Status != http.StatusConflict || !strings.Contains(no.Reason, "plinth node remove n2") || len(c.api.Writes()) != 0 {
		t.Errorf("%v", err)
	}
}

func TestAdmit_OneOfTwoHostsWithOneName(t *testing.T) {
	for name, sameKey := range map[string]bool{"two keys": false, "one key": true} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t)
			c.addToken(t, "abcd2345", token.Worker, 2)
			hosts := []*joiner{newJoiner(t, w1, "abcd2345"), newJoiner(t, w1, "abcd2345")}
			if sameKey {
				hosts[1] = hosts[0]
			}
			var answers [2]agent.JoinResponse
			var errs [2]error
			var both sync.WaitGroup
			for i, j := range hosts {
				both.Go(func() { answers[i], errs[i] = c.Admit(t.Context(), j.caller, j.request) })
			}
			both.Wait()
			rec, admitted := c.records(t)["w1"], 0
			for i, err := range errs {
				var no *agent.StatusError
				switch {
				case err == nil:
					admitted++
					if _, uid, ok := nodecert.KubeletUID(parseLeaf(t, answers[i].ClientCert)); !ok || uid != rec.UID || hosts[i].caller.Key != rec.AgentKey {
						t.Errorf("host %d has the UID %s, recorded is %+v", i, uid, rec)
					}
				case !errors.As(err, &no) || no.Status != http.StatusConflict && no.Status != http.StatusLocked || answers[i].ClientCert != nil:
					t.Errorf("host %d: %v, %+v", i, err, answers[i])
				}
			}
			if admitted == 0 || admitted == 2 && !sameKey {
				t.Errorf("%d hosts were admitted: %v", admitted, errs)
			}
		})
	}
}

func TestAdmit_IsRefusedWhileAnotherControllerJoins(t *testing.T) {
	c := newTestCluster(t)
	c.addToken(t, "abcd2345", token.Controller, 2)
	first, second := newJoiner(t, nodecert.Identity{Node: "n2", Role: token.Controller, Address: "10.0.0.6"}, "abcd2345"), newJoiner(t, nodecert.Identity{Node: "n3", Role: token.Controller, Address: "10.0.0.7"}, "abcd2345")
	_, err := c.Admit(t.Context(), first.caller, first.request)
	testkit.Must(t, err)
	a, err := c.Admit(t.Context(), second.caller, second.request)
	var no *agent.StatusError
	if !errors.As(err, &no) || no.Status != http.StatusLocked || a.AgentCert != nil || len(c.records(t)) != 2 {
		t.Errorf("%v, %+v", err, a)
	}
}

func TestRenew_SignsForTheKeyOfACurrentNodeOnly(t *testing.T) {
	c := newTestCluster(t)
	c.addToken(t, "abcd2345", token.Worker, 1)
	j := newJoiner(t, w1, "abcd2345")
	_, err := c.Admit(t.Context(), j.caller, j.request)
	testkit.Must(t, err)
	peer := nodecert.NodeID{Node: "w1", UID: c.records(t)["w1"].UID, Role: token.Worker}
	key := j.caller.Key
	for name, tt := range map[string]struct {
		caller  agent.Caller
		request []byte
		want    string // in the refusal; "" if accepted
	}{
		"current":           {agent.Caller{Key: key, NodeID: peer}, j.request.AgentRequest, ""},
		"no certificate":    {agent.Caller{Key: key}, j.request.AgentRequest, "shows no certificate"},
		"earlier admission": {agent.Caller{Key: key, NodeID: nodecert.NodeID{Node: "w1", UID: "old", Role: token.Worker}}, j.request.AgentRequest, "of an earlier admission"},
		"another role":      {agent.Caller{Key: key, NodeID: nodecert.NodeID{Node: "w1", UID: peer.UID, Role: token.Controller}}, j.request.AgentRequest, "is for a controller, but it is a worker"},
		"another key":       {agent.Caller{Key: key, NodeID: peer}, newRequest(t, nodecert.Agent, w1), "another key"},
		"another node":      {agent.Caller{Key: key, NodeID: peer}, newJoiner(t, nodecert.Identity{Node: "w2", Role: token.Worker, Address: "10.0.0.9"}, "x").request.AgentRequest, "common name"},
		"kubelet's request": {agent.Caller{Key: key, NodeID: peer}, j.request.ClientRequest, "the organization is"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := c.Renew(t.Context(), tt.caller, agent.RenewRequest{AgentRequest: tt.request})
			var no *agent.StatusError
			if tt.want != "" && (!errors.As(err, &no) || !strings.Contains(no.Reason, tt.want) || a.AgentCert != nil) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if tt.want != "" {
				return
			}
			testkit.Must(t, err)
			if p, ok := nodecert.NodeIDOf(parseLeaf(t, a.AgentCert)); !ok || p != peer {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestCheckJoiningController_AcceptsTheHolderOfTheLockOnly(t *testing.T) {
	at := nodecert.Identity{Node: "n2", Role: token.Controller, Address: "10.0.0.6"}
	for name, tt := range map[string]struct {
		change func(*testing.T, testCluster, *agent.Caller)
		want   string // in the refusal; "" if accepted
	}{
		"joining": {func(*testing.T, testCluster, *agent.Caller) {}, ""},
		"worker": {func(t *testing.T, c testCluster, caller *agent.Caller) {
			c.addToken(t, "work2345", token.Worker, 1)
			j := newJoiner(t, w1, "work2345")
			_, err := c.Admit(t.Context(), j.caller, j.request)
			testkit.Must(t, err)
			caller.NodeID = nodecert.NodeID{Node: "w1", UID: c.records(t)["w1"].UID, Role: token.Worker}
		}, "node w1 is a worker"},
		"joined": {func(t *testing.T, c testCluster, _ *agent.Caller) {
			_, err := recordVoters(t.Context(), c.client, []etcd.Member{{Name: "n2", Address: "10.0.0.6"}})
			testkit.Must(t, err)
		}, "has joined already"},
		"first controller": {func(_ *testing.T, _ testCluster, caller *agent.Caller) {
			caller.NodeID = nodecert.NodeID{Node: "n1", UID: "uid-of-n1", Role: token.Controller}
		}, "has joined already"},
		"another holds the lock": {func(t *testing.T, c testCluster, _ *agent.Caller) {
			testkit.Must(t, c.setLockHolder(t.Context(), "n3"))
		}, "does not hold the lock"},
		"no lock": {func(_ *testing.T, c testCluster, _ *agent.Caller) {
			c.api.Remove("/api/v1/namespaces/kube-system/configmaps/" + joinLockName)
		}, "does not hold the lock"},
		"revoked token": {func(t *testing.T, c testCluster, _ *agent.Caller) {
			_, err := token.Store{Core: c.client.Core(), Now: c.Now}.Revoke(t.Context(), "abcd2345")
			testkit.Must(t, err)
		}, "was revoked"},
		"deleted token": {func(_ *testing.T, c testCluster, _ *agent.Caller) {
			c.api.Remove("/api/v1/namespaces/kube-system/secrets/plinth-join-abcd2345")
		}, "is gone"},
		"old UID":           {func(_ *testing.T, _ testCluster, caller *agent.Caller) { caller.NodeID.UID = "old" }, "of an earlier admission"},
		"worker's usage":    {func(_ *testing.T, _ testCluster, caller *agent.Caller) { caller.NodeID.Role = token.Worker }, "is for a worker"},
		"no certificate":    {func(_ *testing.T, _ testCluster, caller *agent.Caller) { caller.NodeID = nodecert.NodeID{} }, "shows no certificate"},
		"unknown node":      {func(_ *testing.T, _ testCluster, caller *agent.Caller) { caller.NodeID.Node = "n9" }, "was removed"},
		"token of its join": {func(_ *testing.T, _ testCluster, caller *agent.Caller) { caller.Bearer = "" }, ""}, // k0s shows none
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t)
			c.addToken(t, "abcd2345", token.Controller, 1)
			j := newJoiner(t, at, "abcd2345")
			_, err := c.Admit(t.Context(), j.caller, j.request)
			testkit.Must(t, err)
			caller := agent.Caller{Key: j.caller.Key, NodeID: nodecert.NodeID{Node: "n2", UID: c.records(t)["n2"].UID, Role: token.Controller}}
			tt.change(t, c, &caller)
			rec, err := c.CheckJoiningController(t.Context(), caller)
			var no *agent.StatusError
			if tt.want == "" && (err != nil || rec.Node != "n2" || rec.Address != "10.0.0.6") ||
				tt.want != "" && (!errors.As(err, &no) || no.Status != http.StatusUnauthorized || !strings.Contains(no.Reason, tt.want)) {
				t.Errorf("%+v, %v, want %q", rec, err, tt.want)
			}
		})
	}
}

// setLockHolder gives the lock of the controller that joins to another node.
func (c testCluster) setLockHolder(ctx context.Context, node string) error {
	c.api.Remove("/api/v1/namespaces/kube-system/configmaps/" + joinLockName)
	return JoinLock{Core: c.client.Core(), Now: c.Now}.Acquire(ctx, nil, agent.JoinRequest{Node: node, MachineID: "m"})
}

func TestRecordVoters_RecordsControllersThatVote(t *testing.T) {
	_, client := kubetest.New(t)
	testkit.Must(t, client.UpdateNodeRecords(t.Context(), func(all kube.NodeRecords) error {
		for i, name := range []string{"a", "b", "c", "w"} {
			all[name] = kube.NodeRecord{UID: "uid", Role: token.Controller, Address: fmt.Sprintf("10.0.0.%d", i+1), MachineID: name, Joined: name == "a"}
		}
		w := all["w"]
		w.Role = token.Worker
		all["w"] = w
		return nil
	}))
	members := []etcd.Member{{Name: "a", Address: "10.0.0.1"}, {Name: "b", Address: "10.0.0.2", Learner: true}, {Name: "b", Address: "10.0.0.99"}, {Address: "10.0.0.3"},
		{Name: "w", Address: "10.0.0.4"}, {Name: "stranger", Address: "10.0.0.5"}}
	if joined, err := recordVoters(t.Context(), client, members); err != nil || len(joined) != 0 {
		t.Errorf("%q, %v", joined, err)
	}
	members[1].Learner = false
	if joined, err := recordVoters(t.Context(), client, members); err != nil || !slices.Equal(joined, []string{"b"}) {
		t.Errorf("%q, %v", joined, err)
	}
	if joined, err := recordVoters(t.Context(), client, members); err != nil || len(joined) != 0 {
		t.Errorf("recorded twice: %q, %v", joined, err)
	}
	records, err := client.NodeRecords(t.Context())
	if err != nil || !records["a"].Joined || !records["b"].Joined || records["c"].Joined || records["w"].Joined || len(records) != 4 {
		t.Errorf("%+v, %v", records, err)
	}
}

func TestIdentityServerCert_IsTheStoredOne(t *testing.T) {
	env, _, _ := controller(t)
	cert, err := (&identity{Env: env, load: loadControllerCert}).serverCert(&tls.ClientHelloInfo{})
	if err != nil || cert.Leaf.VerifyHostname("n1") != nil {
		t.Errorf("%v", err)
	}
}

func TestAdmit_RemovedHostNeedsANewToken(t *testing.T) {
	c := newTestCluster(t)
	c.addToken(t, "abcd2345", token.Worker, 3)
	j := newJoiner(t, w1, "abcd2345")
	_, err := c.Admit(t.Context(), j.caller, j.request)
	testkit.Must(t, err)
	// What `plinth node remove` does.
	testkit.Must(t, token.Store{Core: c.client.Core(), Now: c.Now}.EndUses(t.Context(), j.caller.Key),
		c.client.UpdateNodeRecords(t.Context(), func(all kube.NodeRecords) error { delete(all, "w1"); return nil }))
	if _, err := c.Admit(t.Context(), j.caller, j.request); err == nil || !strings.Contains(err.Error(), "was removed from the cluster") {
		t.Errorf("admitted again: %v", err)
	}
	if r, ok := c.records(t)["w1"]; ok {
		t.Errorf("%+v", r)
	}
}

func TestAdmit_RefusesNameOfALeftoverNode(t *testing.T) {
	c := newTestCluster(t)
	c.addToken(t, "abcd2345", token.Worker, 1)
	c.api.Put("/api/v1/nodes/w1", map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": "w1", "labels": map[string]any{"node.k0sproject.io/role": "control-plane"}}})
	j := newJoiner(t, w1, "abcd2345")
	if _, err := c.Admit(t.Context(), j.caller, j.request); err == nil || !strings.Contains(err.Error(), "whose removal did not finish: plinth node remove w1") {
		t.Errorf("%v", err)
	}
}

func TestEndIfRevoked_EndsAnAdmissionThatTheRevocationDidNotSee(t *testing.T) {
	for name, tt := range map[string]struct {
		revoked bool
		joined  bool
		kept    bool
	}{
		"valid token":                 {kept: true},
		"revoked token":               {revoked: true},
		"revoked token, but it voted": {revoked: true, joined: true, kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t)
			c.addToken(t, "abcd2345", token.Controller, 1)
			store := token.Store{Core: c.client.Core(), Now: c.Now}
			if tt.revoked {
				_, err := store.Revoke(t.Context(), "abcd2345")
				testkit.Must(t, err)
			}
			r := kube.NodeRecord{Node: "n2", UID: "u2", Role: token.Controller, Address: "10.0.0.7", MachineID: "m2", AgentKey: "k2", Token: "abcd2345", Joined: tt.joined}
			testkit.Must(t, c.client.UpdateNodeRecords(t.Context(), func(all kube.NodeRecords) error { all["n2"] = r; return nil }))
			err := endIfRevoked(t.Context(), c.client, store, r)
			if _, kept := c.records(t)["n2"]; kept != tt.kept || (err != nil) != tt.revoked {
				t.Errorf("kept %v, %v", kept, err)
			}
		})
	}
}
