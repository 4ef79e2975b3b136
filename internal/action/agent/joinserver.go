package agent

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/registry"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/token"
)

// joinServer admits hosts to this controller's cluster.
type joinServer struct{ *action.Env }

var _ agent.Backend = joinServer{}

// ClusterState is what a controller knows about its cluster.
type ClusterState struct {
	Client    *kube.Client
	Receipt   journal.Receipt
	Bundle    digest.Digest // of the stored bundle documents
	Installer *spec.Installer
	Fields    []agent.Field // configuration that must be the same on all hosts
}

// ReadClusterState returns the state of this controller's cluster, from the receipt, the
// stored bundle documents and the administrator's kubeconfig.
func ReadClusterState(ctx context.Context, env *action.Env) (c ClusterState, err error) {
	receipt, ok, err := journal.ReadReceipt(env.Host, env.DataDir)
	if err != nil || !ok {
		return c, errors.Join(err, errors.New("no finished install is on this host"))
	}
	b, err := desired.OpenInstalledBundle(ctx, env.Host, env.DataDir)
	if err != nil {
		return c, err
	}
	raw, err := b.Installer(ctx)
	if err != nil {
		return c, err
	}
	in, findings := spec.ParseInstaller("installer.yaml", raw)
	if in == nil {
		return c, spec.FindingsError("read the Installer", findings)
	}
	client, err := env.KubeClient()
	return ClusterState{Client: client, Receipt: receipt, Bundle: b.Digest(), Installer: in,
		Fields: desired.SharedConfig(in, b.Digest().String(), env.DataDir, env.Version)}, err
}

// Nodes returns the nodes of the cluster, sorted by name: the admitted ones, with the address
// and machine ID of their records. A host that has not registered its node yet is not Ready,
// and a controller counts as one once it has joined.
func (c ClusterState) Nodes(ctx context.Context) ([]agent.Node, error) {
	records, err := c.Client.NodeRecords(ctx)
	if err != nil {
		return nil, err
	}
	registered, err := c.Client.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	nodes := admittedNodes(records)
	for i := range nodes {
		nodes[i].Ready = slices.ContainsFunc(registered, func(n kube.Node) bool { return n.Name == nodes[i].Name && n.Ready })
	}
	return nodes, nil
}

// admittedNodes returns the admitted nodes, sorted by name, without their state.
func admittedNodes(records kube.NodeRecords) (nodes []agent.Node) {
	for _, rec := range records.Sorted() {
		nodes = append(nodes, agent.Node{Name: rec.Node, MachineID: rec.MachineID, Key: rec.AgentKey, Addresses: []string{rec.Address},
			Controller: rec.Role == token.Controller && rec.Joined})
	}
	return nodes
}

// builtinRegistry returns the registry in the cluster, or nil if the Installer has none.
func (c ClusterState) builtinRegistry(dataDir string) (*registry.Registry, error) {
	r, err := desired.BuiltinRegistry(c.Installer, dataDir)
	if r != nil {
		r.Kube = c.Client
	}
	return r, err
}

// statusError turns the rejection of a token into an error with an HTTP status.
func statusError(err error) error {
	var no *token.RejectedError
	if errors.As(err, &no) {
		return &agent.StatusError{Reason: no.Reason, Status: http.StatusUnauthorized}
	}
	return err
}

// tokenStore returns the store of the cluster's join tokens.
func (d joinServer) tokenStore() (token.Store, error) {
	client, err := d.KubeClient()
	if err != nil {
		return token.Store{}, err
	}
	return token.Store{Core: client.Core(), Now: d.Now}, nil
}

// checkToken returns the record of the client's token. It is an error if the host with
// the client's key must not join with it.
func (d joinServer) checkToken(ctx context.Context, c agent.Caller) (token.Record, error) {
	store, err := d.tokenStore()
	if err != nil {
		return token.Record{}, err
	}
	r, err := store.Check(ctx, c.Bearer, c.Key)
	return r, statusError(err)
}

// CheckReadAccess returns an error unless the client's token may read the bundle of the
// cluster.
func (d joinServer) CheckReadAccess(ctx context.Context, c agent.Caller) error {
	store, err := d.tokenStore()
	if err != nil {
		return err
	}
	return statusError(store.CheckReadAccess(ctx, c.Bearer, c.Key))
}

// DescribeCluster returns what a host has to know before it joins.
func (d joinServer) DescribeCluster(ctx context.Context, c agent.Caller) (agent.ClusterInfo, error) {
	r, err := d.checkToken(ctx, c)
	if err != nil {
		return agent.ClusterInfo{}, err
	}
	info, err := d.describe(ctx, r)
	return info, agent.ExplainError(err)
}

// describe returns what a host with the token of r has to know.
func (d joinServer) describe(ctx context.Context, r token.Record) (agent.ClusterInfo, error) {
	c, err := ReadClusterState(ctx, d.Env)
	if err != nil {
		return agent.ClusterInfo{}, err
	}
	ca, err := d.Host.ReadFile(k0s.CACertPath)
	if err != nil {
		return agent.ClusterInfo{}, err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return agent.ClusterInfo{}, err
	}
	vendor, err := desired.ReadVendorSignature(d.Host, d.DataDir)
	return agent.ClusterInfo{CA: ca, Cluster: c.Receipt.Name, Role: r.Role, Bundle: c.Bundle, Fields: c.Fields, Nodes: nodes, API: c.Receipt.API, Time: d.Now().UTC(),
		LoadBalancer: desired.RememberedAddresses(ctx, d.Env, c.Receipt),
		Signature:    vendor.Signature, VendorKey: vendor.Key.PEM()}, err
}

// registryCA returns the certificate of the built-in registry's authority in PEM; nil if
// there is no registry or it is not installed yet.
func (d joinServer) registryCA(ctx context.Context, c ClusterState) ([]byte, error) {
	r, err := c.builtinRegistry(d.DataDir)
	if err != nil || r == nil {
		return nil, err
	}
	ca, err := r.CA(ctx)
	if errors.Is(err, kube.ErrNotFound) {
		err = nil
	}
	return ca, err
}

// acquireJoinSlot acquires the lock that makes controllers join one at a time, and
// removes the etcd member that an earlier, failed attempt of the host has left.
func (d joinServer) acquireJoinSlot(ctx context.Context, c ClusterState, nodes []agent.Node, request agent.JoinRequest) error {
	if err := (JoinLock{Core: c.Client.Core(), Now: d.Now}).Acquire(ctx, nodes, request); err != nil {
		return err
	}
	if !request.Fresh {
		return nil
	}
	store, err := etcd.New(d.Host)
	if err != nil {
		return err
	}
	return RemoveStaleMembers(ctx, store, request)
}
