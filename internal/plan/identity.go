package plan

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"time"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/token"
)

// clusterIdentity is what the first host of a cluster is, before and after there is a cluster to ask.
type clusterIdentity struct{ Cluster }

// needed returns why the host's certificates must be created, or "".
func (c clusterIdentity) needed() (string, error) {
	if why, err := k0s.CANeeded(c.Host); err != nil || why != "" {
		return why, err // k0s would create another authority, which has not signed this host's certificates
	}
	i, err := node.ReadIdentity(c.Host, c.DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return node.IdentityPath(c.DataDir) + " is missing", nil
	}
	if err != nil {
		return "", err
	}
	if ca, err := i.Authority(); err != nil || ca == nil {
		return node.IdentityPath(c.DataDir) + " is not signed", err
	}
	if why, err := k0s.EncryptionKeysNeeded(c.Host); err != nil || why != "" {
		return why, err
	}
	if why, err := k0s.KubeletIdentityNeeded(c.Host); err != nil || why != "" {
		return why, err
	}
	return k0s.KubeletAddressNeeded(c.Host, c.K0s.Settings.Address)
}

// create creates the cluster's authority, the key that encrypts Secrets in etcd, and the certificates
// of this host. A second run keeps the authority, the key, and the agent's key and UID.
func (c clusterIdentity) create() error {
	now := c.Now()
	if err := k0s.EnsureCA(c.Host, now); err != nil {
		return err
	}
	if err := k0s.EnsureEncryptionKeys(c.Host); err != nil {
		return err
	}
	ca := pki.Pair{}
	var errs [2]error
	ca.Cert, errs[0] = c.Host.ReadFile(k0s.CACertPath)
	ca.Key, errs[1] = c.Host.ReadFile(k0s.CAKeyPath)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	id := nodecert.Identity{Node: c.NodeName, UID: nodecert.NewUID(), Role: token.Controller, Address: c.K0s.Settings.Address}
	identity, err := node.ReadIdentity(c.Host, c.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		identity, err = node.NewIdentity(now)
	case err == nil:
		if self, ok := identity.NodeID(); ok {
			id.UID = self.UID
		}
	}
	if err != nil {
		return err
	}
	if identity, err = identity.Issue(id, ca, now); err != nil {
		return err
	}
	kubelet, err := IssueKubelet(id, ca, now)
	if err != nil {
		return err
	}
	if err := identity.Write(c.Host, c.DataDir); err != nil {
		return err
	}
	return k0s.PlaceKubeletIdentity(c.Host, kubelet, now)
}

// IssueKubelet signs the certificates of the kubelet, for new keys, with the private key of the cluster's authority.
func IssueKubelet(id nodecert.Identity, ca pki.Pair, now time.Time) (k k0s.KubeletIdentity, err error) {
	k = k0s.KubeletIdentity{Node: id.Node, CA: ca.Cert}
	for _, q := range []struct {
		kind      nodecert.Kind
		cert, key *[]byte
	}{{nodecert.KubeletClient, &k.ClientCert, &k.ClientKey}, {nodecert.KubeletServing, &k.ServingCert, &k.ServingKey}} {
		var request []byte
		if request, *q.key, err = NewKeyAndRequest(q.kind, id); err != nil {
			return k, err
		}
		if *q.cert, err = nodecert.Sign(q.kind, id, request, ca, now); err != nil {
			return k, err
		}
	}
	return k, nil
}

// NewKeyAndRequest returns a new key (PEM; secret) and a certificate request (DER) for it.
func NewKeyAndRequest(kind nodecert.Kind, id nodecert.Identity) (request, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	request, err = nodecert.NewRequest(kind, id, private)
	return request, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// record returns the record of this host.
func (c clusterIdentity) record() (kube.NodeRecord, error) {
	i, err := node.ReadIdentity(c.Host, c.DataDir)
	if err != nil {
		return kube.NodeRecord{}, err
	}
	self, ok := i.NodeID()
	if !ok {
		return kube.NodeRecord{}, errors.New(node.IdentityPath(c.DataDir) + " is not the certificate of an agent")
	}
	leaf, err := i.Pair.Leaf()
	if err != nil {
		return kube.NodeRecord{}, err
	}
	machineID, err := c.Host.ReadFile("/etc/machine-id")
	if err != nil {
		return kube.NodeRecord{}, err
	}
	return kube.NodeRecord{Node: c.NodeName, UID: self.UID, Role: token.Controller, Address: c.K0s.Settings.Address,
		MachineID: string(bytes.TrimSpace(machineID)), AgentKey: token.PublicKeyPin(leaf), Joined: true}, nil
}

// policiesNeeded returns why the host must be recorded or the policies applied, or "".
func (c clusterIdentity) policiesNeeded(ctx context.Context, client *kube.Client) (string, error) {
	want, err := c.record()
	if err != nil {
		return "", err
	}
	records, err := client.NodeRecords(ctx)
	if err != nil {
		return "", err
	}
	switch have, ok := records[c.NodeName]; {
	case !ok || have.UID != want.UID:
		return "node " + c.NodeName + " is not recorded as admitted", nil
	case have.Address != want.Address:
		return "node " + c.NodeName + " is recorded with the address " + have.Address, nil
	}
	return client.TrustNeeded(ctx)
}

// applyPolicies records the host, and then applies the policies, which refuse nodes without a record.
func (c clusterIdentity) applyPolicies(ctx context.Context, client *kube.Client) error {
	want, err := c.record()
	if err != nil {
		return err
	}
	want.Admitted = c.Now().UTC()
	err = client.UpdateNodeRecords(ctx, func(all kube.NodeRecords) error {
		if have, ok := all[c.NodeName]; ok && have.UID == want.UID { // the same admission at another address
			want.Admitted, want.Token = have.Admitted, have.Token
		}
		all[c.NodeName] = want
		return nil
	})
	if err != nil {
		return err
	}
	return client.ApplyTrust(ctx)
}
