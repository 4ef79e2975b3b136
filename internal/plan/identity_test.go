package plan

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

// newClusterIdentity returns the identity of the first host, n1, on a fake host.
func newClusterIdentity(t *testing.T) clusterIdentity {
	t.Helper()
	c, _ := example(t)
	c.Host = hosttest.New(t).Host()
	testkit.Must(t, c.Host.Write("/etc/machine-id", strings.NewReader("m1\n"), 0o644))
	return clusterIdentity{c}
}

func TestClusterIdentity_IsCreatedAgainWithoutOneOfItsParts(t *testing.T) {
	for name, paths := range map[string][]string{
		"nothing":     nil,
		"authority":   {k0s.CACertPath, k0s.CAKeyPath},
		"identity":    {node.IdentityPath("/var/lib/plinth")},
		"kubelet":     {k0s.KubeletClientCertPath},
		"kubeconfig":  {k0s.KubeletConf},
		"all of them": {k0s.CACertPath, k0s.CAKeyPath, node.IdentityPath("/var/lib/plinth"), k0s.KubeletPKIDir, k0s.KubeletConf},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClusterIdentity(t)
			if why, err := c.needed(); why == "" || err != nil {
				t.Errorf("on a bare host: %q %v", why, err)
			}
			testkit.Must(t, c.create())
			first, err := c.record()
			testkit.Must(t, err)
			if first.Node != "n1" || first.Role != token.Controller || first.Address != "10.0.0.5" || first.MachineID != "m1" || !first.Joined || first.AgentKey == "" {
				t.Errorf("%+v", first)
			}
			for _, p := range paths {
				testkit.Must(t, c.Host.RemoveAll(p))
			}
			if why, err := c.needed(); (why == "") != (paths == nil) || err != nil {
				t.Errorf("needed because of %q, %v", why, err)
			}
			testkit.Must(t, c.create())
			if why, err := c.needed(); why != "" || err != nil {
				t.Errorf("created again, but %q, %v", why, err)
			}
			again, err := c.record()
			testkit.Must(t, err)
			keepsKey := name != "identity" && name != "all of them"
			if (again == first) != keepsKey {
				t.Errorf("%+v, then %+v", first, again)
			}
			i, err := node.ReadIdentity(c.Host, c.DataDir)
			testkit.Must(t, err)
			ca, err := i.Authority()
			testkit.Must(t, err)
			kubelet, err := c.Host.ReadFile(k0s.KubeletClientCertPath)
			testkit.Must(t, err)
			pair, err := tls.X509KeyPair(kubelet, kubelet)
			testkit.Must(t, err)
			_, uid, _ := nodecert.KubeletUID(pair.Leaf)
			if current, _ := c.Host.ReadFile(k0s.CACertPath); uid != again.UID || string(current) == "" || !strings.Contains(string(i.Pair.Cert), string(current)) || ca == nil {
				t.Errorf("the certificates are not of the authority and the record: %s", uid)
			}
		})
	}
}

func TestClusterIdentity_RecordsTheHostBeforeThePolicies(t *testing.T) {
	c := newClusterIdentity(t)
	_, client := kubetest.New(t)
	if _, err := c.policiesNeeded(t.Context(), client); err == nil {
		t.Error("a host without an identity is recorded")
	}
	testkit.Must(t, c.create())
	if why, err := c.policiesNeeded(t.Context(), client); !strings.Contains(why, "n1 is not recorded") || err != nil {
		t.Errorf("%q %v", why, err)
	}
	kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "n1", UID: "before", Role: token.Controller}, kube.NodeRecord{Node: "w1", Role: token.Worker, Address: "10.0.0.9"})
	if why, err := c.policiesNeeded(t.Context(), client); !strings.Contains(why, "n1 is not recorded") || err != nil {
		t.Errorf("an earlier admission: %q %v", why, err)
	}
	testkit.Must(t, c.applyPolicies(t.Context(), client))
	if why, err := c.policiesNeeded(t.Context(), client); why != "" || err != nil {
		t.Errorf("%q %v", why, err)
	}
	records, err := client.NodeRecords(t.Context())
	want, _ := c.record()
	want.Admitted = c.Now().UTC()
	if err != nil || records["n1"] != want || len(records) != 2 {
		t.Errorf("%+v, %v", records, err)
	}
}
