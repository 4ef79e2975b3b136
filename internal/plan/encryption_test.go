package plan

import (
	"bytes"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

func TestClusterIdentity_CreatesEncryptionKeyOnce(t *testing.T) {
	h := hosttest.New(t).Host()
	c := clusterIdentity{Cluster{Host: h, DataDir: "/var/lib/plinth", NodeName: "n1", Now: time.Now,
		K0s: k0s.Service{Host: h, Settings: k0s.Settings{Address: "10.0.0.5", Hostname: "n1"}}}}
	testkit.Must(t, c.create())
	first, err := k0s.ReadEncryptionKeys(h)
	testkit.Must(t, err)
	if why, err := c.needed(); why != "" || err != nil {
		t.Errorf("%q %v", why, err)
	}
	testkit.Must(t, c.create())
	if again, err := k0s.ReadEncryptionKeys(h); err != nil || !bytes.Equal(first[0].Secret, again[0].Secret) {
		t.Errorf("the key was replaced: %v", err)
	}
	testkit.Must(t, h.RemoveAll(k0s.EncryptionConfPath)) // a host of an earlier version
	if why, err := c.needed(); why == "" || err != nil {
		t.Errorf("without the key: %q %v", why, err)
	}
}

func TestAdmissionStore_WritesEncryptionKeysOfControllers(t *testing.T) {
	now := time.Now()
	ca, err := pki.NewClusterCA(now)
	testkit.Must(t, err)
	for role, keys := range map[string][]k0s.EncryptionKey{token.Worker: nil, token.Controller: {{Name: "key1", Secret: make([]byte, 32)}}} {
		t.Run(role, func(t *testing.T) {
			h := hosttest.New(t).Host()
			id := nodecert.Identity{Node: "n2", UID: nodecert.NewUID(), Role: role, Address: "10.0.0.6"}
			identity, err := node.NewIdentity(now)
			testkit.Must(t, err)
			identity, err = identity.Issue(id, ca, now)
			testkit.Must(t, err)
			kubelet, err := IssueKubelet(id, ca, time.Now())
			testkit.Must(t, err)
			a := admission{Host: h, DataDir: "/var/lib/plinth", Now: time.Now}
			testkit.Must(t, a.store(Admission{Identity: identity, Kubelet: kubelet, EncryptionKeys: keys}))
			info, err := h.Lstat(k0s.EncryptionConfPath)
			if (err == nil) != (keys != nil) || err == nil && info.Mode().Perm() != 0o600 {
				t.Errorf("%v %v", info, err)
			}
		})
	}
}
