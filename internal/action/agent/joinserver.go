package agent

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plinthdev/plinth/addons"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/registry"
	"github.com/plinthdev/plinth/internal/spec"
	"github.com/plinthdev/plinth/internal/token"
)

// bootstrapTTL is the lifetime of the k0s token that one join receives. It covers the
// start of k0s on the joining host, which has downloaded everything before.
const bootstrapTTL = "15m"

// joinServer admits hosts to this controller's cluster.
type joinServer struct{ *action.Env }

var _ agent.Backend = joinServer{}

// ClusterState is what a controller knows about its cluster.
type ClusterState struct {
	Client    *kube.Client
	Receipt   journal.Receipt
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
	b, err := OpenBundle(ctx, env)
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
	return ClusterState{Client: client, Receipt: receipt, Installer: in,
		Fields: desired.SharedConfig(in, b.Digest().String(), env.DataDir, env.Version)}, err
}

// Nodes returns the nodes of the cluster.
func (c ClusterState) Nodes(ctx context.Context) ([]agent.Node, error) {
	list, err := c.Client.Core().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var nodes []agent.Node
	for _, n := range list.Items {
		node := agent.Node{Name: n.Name, MachineID: n.Status.NodeInfo.MachineID, Controller: kube.IsController(n.Labels)}
		for _, a := range n.Status.Addresses {
			if a.Type == corev1.NodeInternalIP {
				node.Addresses = append(node.Addresses, a.Address)
			}
		}
		for _, cond := range n.Status.Conditions {
			node.Ready = node.Ready || cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// builtinRegistry returns the registry in the cluster, or nil if the Installer has none.
func (c ClusterState) builtinRegistry(dataDir string) (*registry.Registry, error) {
	parts, err := addons.Resolve(c.Installer, dataDir)
	for _, p := range parts {
		if p.Name == "registry" {
			ip, _ := p.Values["clusterIP"].(string)
			return &registry.Registry{Kube: c.Client, Namespace: p.Namespace, IP: ip, HostsDir: k0s.RegistryDir}, err
		}
	}
	return nil, err
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

// checkToken returns the record of the token in bearer. It is an error if the host with
// machineID must not join with it.
func (d joinServer) checkToken(ctx context.Context, bearer, machineID string) (token.Record, error) {
	book, err := d.tokenStore()
	if err != nil {
		return token.Record{}, err
	}
	r, err := book.Check(ctx, bearer, machineID)
	return r, statusError(err)
}

// CheckReadAccess returns an error unless bearer may read the bundle of the cluster. A
// token that is used up still may, because the host that used it continues to read; a
// revoked token may not.
func (d joinServer) CheckReadAccess(ctx context.Context, bearer string) error {
	book, err := d.tokenStore()
	if err != nil {
		return err
	}
	return statusError(book.CheckReadAccess(ctx, bearer))
}

// CheckNode returns an error unless node is a node of the cluster whose credentials
// were not revoked.
func (d joinServer) CheckNode(ctx context.Context, node string) error {
	client, err := d.KubeClient()
	if err != nil {
		return err
	}
	gone, err := kube.IsNodeRevoked(ctx, client, node)
	if err != nil {
		return err
	}
	if gone {
		return removedError(node)
	}
	return checkIsNode(ctx, client, node)
}

// checkIsNode returns an error if the cluster has no such node.
func checkIsNode(ctx context.Context, client *kube.Client, node string) error {
	_, err := client.Core().Nodes().Get(ctx, node, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return removedError(node)
	}
	return err
}

func removedError(node string) error {
	return &agent.StatusError{Reason: "node " + node + " was removed from the cluster", Status: http.StatusUnauthorized}
}

// DescribeCluster returns what a host has to know before it joins.
func (d joinServer) DescribeCluster(ctx context.Context, bearer, machineID string) (agent.ClusterInfo, error) {
	r, err := d.checkToken(ctx, bearer, machineID)
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
	o := agent.ClusterInfo{CA: ca, Cluster: c.Receipt.Name, Role: r.Role, Fields: c.Fields, Nodes: nodes, API: c.Receipt.API, Time: d.Now().UTC()}
	for _, f := range c.Fields {
		if f.Name == "bundle" {
			o.Bundle = digest.Digest(f.Value)
		}
	}
	return o, err
}

// Admit records the use of the join token by a host, and returns a k0s join token for it.
func (d joinServer) Admit(ctx context.Context, bearer string, claim agent.JoinRequest) (agent.JoinResponse, error) {
	rec, err := d.checkToken(ctx, bearer, claim.MachineID)
	if err != nil {
		return agent.JoinResponse{}, err
	}
	a, err := d.admit(ctx, bearer, rec.Role, claim)
	return a, agent.ExplainError(err)
}

// admit admits a host whose token is for the role.
func (d joinServer) admit(ctx context.Context, bearer, role string, claim agent.JoinRequest) (a agent.JoinResponse, err error) {
	c, err := ReadClusterState(ctx, d.Env)
	if err != nil {
		return a, err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return a, err
	}
	if why := agent.Conflict(nodes, claim); why != "" {
		return a, &agent.StatusError{Reason: why, Status: http.StatusConflict}
	}
	if role == token.Controller {
		if err := d.acquireJoinSlot(ctx, c, nodes, claim); err != nil {
			return a, err
		}
	}
	out, err := d.Host.Run(ctx, host.Cmd{Argv: []string{k0s.BinaryPath, "token", "create", "--role=" + role, "--expiry=" + bootstrapTTL}, Timeout: time.Minute})
	if err != nil {
		return a, err
	}
	d.Secrets.Hide(strings.TrimSpace(string(out)))
	var id string
	if a.Token, id, err = RedirectToken(strings.TrimSpace(string(out)), role, c.Receipt.Address); err != nil {
		return a, err
	}
	d.Secrets.Hide(a.Token)
	// A node of the same name may have been removed; its name is on the list of revoked ones.
	if err := kube.ReadmitNode(ctx, c.Client, claim.Node); err != nil {
		return agent.JoinResponse{}, err
	}
	book := token.Store{Core: c.Client.Core(), Now: d.Now}
	use := token.Use{Node: claim.Node, MachineID: claim.MachineID, At: d.Now().UTC(), Bootstrap: id}
	if _, err := book.Use(ctx, bearer, use); err != nil {
		return agent.JoinResponse{}, statusError(err)
	}
	a.Files, err = d.registryTrust(ctx, c)
	return a, err
}

// registryTrust returns the files that make a node trust the cluster's built-in
// registry; none if there is no registry or it is not installed yet.
func (d joinServer) registryTrust(ctx context.Context, c ClusterState) (map[string][]byte, error) {
	r, err := c.builtinRegistry(d.DataDir)
	if err != nil || r == nil {
		return nil, err
	}
	files, err := r.TrustFiles(ctx)
	if errors.Is(err, kube.ErrNotFound) {
		err = nil
	}
	return files, err
}

// acquireJoinSlot acquires the lock that makes controllers join one at a time, and
// removes the etcd member that an earlier, failed attempt of the host has left.
func (d joinServer) acquireJoinSlot(ctx context.Context, c ClusterState, nodes []agent.Node, claim agent.JoinRequest) error {
	if err := (JoinLock{Core: c.Client.Core(), Now: d.Now}).Acquire(ctx, nodes, claim); err != nil {
		return err
	}
	if !claim.Fresh {
		return nil
	}
	store, err := etcd.New(d.Host)
	if err != nil {
		return err
	}
	return RemoveStaleMembers(ctx, store, claim)
}
