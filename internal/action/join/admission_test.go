package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	actionagent "github.com/plinthdev/plinth/internal/action/agent"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
	"github.com/plinthdev/plinth/internal/ui"
)

// admittingCluster is a controller, a, that admits every host with the role of its token.
type admittingCluster struct {
	cluster
	ca     pki.Pair
	role   string
	askers []string // hosts that requested the secrets of controllers
}

func (c *admittingCluster) Admit(_ context.Context, _ agent.Caller, r agent.JoinRequest) (a agent.JoinResponse, err error) {
	id := nodecert.Identity{Node: r.Node, UID: "uid-of-" + r.Node, Role: c.role, Address: r.Address}
	var errs [3]error
	a.AgentCert, errs[0] = nodecert.Sign(nodecert.Agent, id, r.AgentRequest, c.ca, time.Now())
	a.ClientCert, errs[1] = nodecert.Sign(nodecert.KubeletClient, id, r.ClientRequest, c.ca, time.Now())
	a.ServingCert, errs[2] = nodecert.Sign(nodecert.KubeletServing, id, r.ServingRequest, c.ca, time.Now())
	a.Controller = "127.0.0.1"
	return a, errors.Join(errs[:]...)
}

// check gives the secrets to admitted controllers, as CheckJoiningController does.
func (c *admittingCluster) check(_ context.Context, caller agent.Caller) (kube.NodeRecord, error) {
	c.askers = append(c.askers, caller.NodeID.Node)
	if caller.NodeID.Role != token.Controller {
		return kube.NodeRecord{}, &agent.StatusError{Reason: "node " + caller.NodeID.Node + " is a worker", Status: http.StatusUnauthorized}
	}
	return kube.NodeRecord{Node: caller.NodeID.Node}, nil
}

// newAdmitter starts a controller with the encryption keys, and returns a host that requests admission from it.
func newAdmitter(t *testing.T, role string, keys []k0s.EncryptionKey) (agentAdmitter, *admittingCluster, []byte) {
	t.Helper()
	ca, err := pki.NewCA("kubernetes-ca", time.Now())
	testkit.Must(t, err)
	authority, err := ca.Leaf()
	testkit.Must(t, err)
	controller, err := node.NewIdentity(time.Now())
	testkit.Must(t, err)
	controller, err = controller.Issue(nodecert.Identity{Node: "a", UID: "uid-of-a", Role: token.Controller, Address: "127.0.0.1"}, ca, time.Now())
	testkit.Must(t, err)
	pair, err := controller.TLS()
	testkit.Must(t, err)
	first := hosttest.New(t).Host()
	testkit.Must(t, k0s.WriteEncryptionKeys(first, keys))
	stored, err := first.ReadFile(k0s.EncryptionConfPath)
	testkit.Must(t, err)
	c := &admittingCluster{ca: ca, role: role}
	srv := httptest.NewUnstartedServer(agent.Service{Backend: c, Store: c, Authority: func() (*x509.Certificate, error) { return authority, nil },
		Secrets: actionagent.SecretsReader{Files: first, Check: c.check}.Read}.Handler())
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)

	o := &operation{token: token.Token{Addresses: []string{srv.Listener.Addr().String()}, Pin: token.PublicKeyPin(authority), Role: role, ID: "id", Secret: "secret"},
		clusterInfo: agent.ClusterInfo{Role: role, CA: ca.Cert}, facts: facts.Facts{Hostname: "b", MachineID: "m2", Network: facts.Network{
			NodeAddress: netip.MustParseAddr("10.0.0.6")}}}
	o.identity, err = node.NewIdentity(time.Now())
	testkit.Must(t, err)
	o.cluster = agent.NewClient(o.token, o.certificate)
	t.Cleanup(o.cluster.Close)
	env := &action.Env{Host: hosttest.New(t).Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: time.Now, Secrets: &ui.Secrets{}}}
	return agentAdmitter{o, env}, c, stored
}

// encryptionKeys returns keys in the order in which a rotation leaves them: the newest encrypts.
func encryptionKeys(names ...string) (keys []k0s.EncryptionKey) {
	for _, name := range names {
		keys = append(keys, k0s.EncryptionKey{Name: name, Secret: bytes.Repeat([]byte(name[len(name)-1:]), 32)})
	}
	return keys
}

func TestAdmit_HandsOverTheEncryptionKeysToControllersOnly(t *testing.T) {
	for name, tt := range map[string]struct {
		role string
		keys []k0s.EncryptionKey
	}{
		"controller, one key":                {token.Controller, encryptionKeys("key1")},
		"controller, during a rotation":      {token.Controller, encryptionKeys("key2", "key1")},
		"controller, names out of order":     {token.Controller, encryptionKeys("key2", "key9", "key1", "key3")},
		"worker, one key":                    {token.Worker, encryptionKeys("key1")},
		"worker, during a rotation":          {token.Worker, encryptionKeys("key2", "key1")},
		"controller, the key before is last": {token.Controller, encryptionKeys("key1", "key2")},
	} {
		t.Run(name, func(t *testing.T) {
			d, c, stored := newAdmitter(t, tt.role, tt.keys)
			a, err := d.Admit(t.Context(), func(string, int64, int64) {})
			testkit.Must(t, err)
			if tt.role == token.Worker {
				if len(a.EncryptionKeys) != 0 || len(a.K0sToken) != 0 || len(c.askers) != 0 {
					t.Errorf("a worker got %d keys; asked: %q", len(a.EncryptionKeys), c.askers)
				}
				if _, err := d.readEncryptionKeys(t.Context()); err == nil || !strings.Contains(err.Error(), "node b is a worker") {
					t.Errorf("a worker that asks: %v", err)
				}
				return
			}
			testkit.Must(t, k0s.WriteEncryptionKeys(d.env.Host, a.EncryptionKeys))
			got, err := d.env.Host.ReadFile(k0s.EncryptionConfPath)
			if err != nil || !bytes.Equal(got, stored) || !slices.Equal(c.askers, []string{"b"}) {
				t.Errorf("%v: its configuration differs from that of the first controller; asked: %q\n%s", err, c.askers, got)
			}
			for _, secret := range k0s.EncryptionSecrets(tt.keys) {
				if shown := d.env.Secrets.Mask("a log line with " + secret); strings.Contains(shown, secret) {
					t.Error("a key is not hidden in logs")
				}
			}
		})
	}
}
