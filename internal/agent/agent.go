// Package agent is the API between the nodes of a cluster and hosts that join
// it: the join handshake, and read-only access in the format of the OCI
// distribution API to the blobs that a node has. The server answers only
// clients with a join token or a node's certificate.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/ports"
)

// Port is the TCP port of the agent API, which uses TLS.
const Port = ports.Agent

// The paths of the API.
const (
	JoinPath  = "/v1/join"  // GET ClusterInfo, POST JoinRequest
	RenewPath = "/v1/renew" // POST RenewRequest of a node

	// ControllerSecretsPath is answered by controllers only: GET ControllerSecrets.
	ControllerSecretsPath = "/v1/controller-secrets"

	PeerPath = "/v1/peer"   // POST a peer check between two hosts
	ReadPath = "/v2/"       // GET reports whether the client may read blobs
	BlobPath = "/v2/plinth" // /blobs/<digest> and /manifests/<digest>, GET and HEAD
)

// Field is one configuration value that a joining host must share with its
// cluster.
type Field struct {
	Name  string `json:"name"`  // its path in installer.yaml, if it has one
	Value string `json:"value"` // "" if not set
}

// Node is a node of the cluster.
type Node struct {
	Name       string   `json:"name"`
	MachineID  string   `json:"machineId"`
	Key        string   `json:"key"` // pin of its agent's public key
	Addresses  []string `json:"addresses"`
	Controller bool     `json:"controller,omitempty"`
	Ready      bool     `json:"ready,omitempty"`
}

// ClusterInfo is what a cluster tells a host that may join.
type ClusterInfo struct {
	Time         time.Time     `json:"time"`    // the cluster's clock
	Cluster      string        `json:"cluster"` // the Installer's metadata.name
	Role         string        `json:"role"`    // of the token
	Bundle       digest.Digest `json:"bundle"`  // digest of its index.json, which is served as a blob
	Fields       []Field       `json:"fields"`  // configuration that must match
	Nodes        []Node        `json:"nodes"`
	API          string        `json:"api,omitempty"`          // additional name or address of the API server; "" for none
	CA           []byte        `json:"ca"`                     // the cluster's certificate authority, PEM
	LoadBalancer []string      `json:"loadBalancer,omitempty"` // addresses of the load balancer that a user has chosen; none for those of the Installer

	Signature []byte `json:"signature,omitempty"` // the vendor's, of the bundle's index, in DER; empty after --allow-unsigned
	VendorKey []byte `json:"vendorKey,omitempty"` // public key that verifies it, PEM
}

// JoinRequest is sent by a host that is about to join. The certificate requests are DER; see
// nodecert.NewRequest.
type JoinRequest struct {
	Node           string `json:"node"`           // Kubernetes name
	MachineID      string `json:"machineId"`      // /etc/machine-id
	Address        string `json:"address"`        // IP address
	Fresh          bool   `json:"fresh"`          // the host has no part of the cluster's state yet
	AgentRequest   []byte `json:"agentRequest"`   // for the key of the connection
	ClientRequest  []byte `json:"clientRequest"`  // of the kubelet, as a client
	ServingRequest []byte `json:"servingRequest"` // of the kubelet, as a server
}

// JoinResponse is what a host needs to join. It has no paths and no secrets.
type JoinResponse struct {
	AgentCert   []byte `json:"agentCert"`            // PEM
	ClientCert  []byte `json:"clientCert"`           // PEM
	ServingCert []byte `json:"servingCert"`          // PEM
	Controller  string `json:"controller"`           // IP address of the controller that admitted the host
	RegistryCA  []byte `json:"registryCA,omitempty"` // certificate of the built-in registry's authority, PEM; empty for none
}

// RenewRequest is sent by a node whose agent's certificate expires.
type RenewRequest struct {
	AgentRequest []byte `json:"agentRequest"` // DER, for the key of the connection
}

// RenewResponse has the new certificate.
type RenewResponse struct {
	AgentCert []byte `json:"agentCert"` // PEM
}

// ControllerSecrets are what all controllers of the cluster share, besides its certificate authorities.
type ControllerSecrets struct {
	EncryptionKeys []EncryptionKey `json:"encryptionKeys"` // of the Secrets in etcd; the one that encrypts first
}

// EncryptionKey is a key that encrypts Secrets in etcd.
type EncryptionKey struct {
	Name   string `json:"name"`
	Secret []byte `json:"secret"` // secret
}

// Backend verifies clients and admits hosts. It returns an error for the client as a *StatusError,
// and after it has authenticated the client with ExplainError.
type Backend interface {
	// DescribeCluster returns what the client would join. If it may not join,
	// the error is a *StatusError.
	DescribeCluster(ctx context.Context, c Caller) (ClusterInfo, error)
	// Admit admits a host.
	Admit(ctx context.Context, c Caller, r JoinRequest) (JoinResponse, error)
	// Renew returns a new certificate for the agent of a node.
	Renew(ctx context.Context, c Caller, r RenewRequest) (RenewResponse, error)
	// CheckReadAccess returns nil if the token of the client may read the blobs
	// of the nodes.
	CheckReadAccess(ctx context.Context, c Caller) error
	// CheckNode returns nil if the node still belongs to the cluster, with this
	// admission, and a *StatusError if it was removed.
	CheckNode(ctx context.Context, p nodecert.NodeID) error
}

// BlobContent is an open blob.
type BlobContent interface {
	io.ReadSeeker
	io.Closer
}

// BlobStore opens the blobs that this node has; the error is fs.ErrNotExist for
// all others.
type BlobStore interface {
	Open(ctx context.Context, d digest.Digest) (BlobContent, error)
}

// StatusError is a refusal with its reason, which the client gets. The client gets no other
// error's text: it may be a stranger.
type StatusError struct {
	Reason string
	Status int // HTTP status: 401 for an unknown client, 409 for what is not possible now
}

// ExplainError returns err as a StatusError with status 503, whose reason an authenticated client
// may read. It returns nil and a StatusError as they are.
func ExplainError(err error) error {
	var no *StatusError
	if err == nil || errors.As(err, &no) {
		return err
	}
	return &StatusError{Reason: "cannot reach the cluster: " + err.Error(), Status: http.StatusServiceUnavailable}
}

// Error returns the reason.
func (r *StatusError) Error() string { return r.Reason }

// Conflict returns why a host cannot join, because one of nodes has its name, key,
// machine ID or address; "" if it can. It returns all reasons at once. A host that
// is one of nodes, because the agent of the node of its name has its key, can join
// again, but not with the address or machine ID of another node.
func Conflict(nodes []Node, c JoinRequest, key string) string {
	var why []string
	for _, n := range nodes {
		same := n.Key == key && key != ""
		switch {
		case n.Name == c.Node && same:
			continue
		case n.Name == c.Node:
			why = append(why, fmt.Sprintf("the cluster already has a node named %s, with another key; if that host was reset or is lost: plinth node remove %s", n.Name, n.Name))
		case same:
			why = append(why, fmt.Sprintf("node %s of the cluster has this host's key; if this host was renamed, give it its name back: sudo hostnamectl set-hostname %s; a clone of that host cannot join: use a host without its files", n.Name, n.Name))
		case n.MachineID == c.MachineID:
			why = append(why, fmt.Sprintf("node %s of the cluster has this host's machine id %s", n.Name, n.MachineID))
		}
		if slices.ContainsFunc(n.Addresses, func(a string) bool { return canonicalAddress(a) == canonicalAddress(c.Address) }) {
			why = append(why, fmt.Sprintf("node %s of the cluster has this host's address %s", n.Name, c.Address))
		}
	}
	return strings.Join(why, "; ")
}

// canonicalAddress returns the one spelling of an IP address that is compared: an IPv4
// address is not in IPv6 form. It returns other text as it is.
func canonicalAddress(text string) string {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	return a.Unmap().String()
}
