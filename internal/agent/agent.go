// Package agent owns what a node serves to hosts that join and to other nodes:
// the handshake of a join, and the blobs that it holds, read-only, in the form
// of the OCI distribution API. It refuses everything to who shows neither a
// join token nor a node's certificate, lists nothing, and changes nothing but
// by the Cluster that it is given.
package agent

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Port is where agents listen, TLS.
const Port = 9444

// The paths of the API.
const (
	JoinPath = "/v1/join"   // GET an Offer, POST a Claim
	PeerPath = "/v1/peer"   // POST what two hosts find out about each other
	ReadPath = "/v2/"       // GET whether who asks may read
	BlobPath = "/v2/plinth" // /blobs/<digest> and /manifests/<digest>, GET and HEAD
)

// Field is one value that a joining host must share with its cluster.
type Field struct {
	Name  string `json:"name"`  // in the words of installer.yaml where it stands there
	Value string `json:"value"` // "" for none
}

// Node is a member of the cluster.
type Node struct {
	Name       string   `json:"name"`
	MachineID  string   `json:"machineId"`
	Addresses  []string `json:"addresses"`
	Controller bool     `json:"controller,omitempty"`
	Ready      bool     `json:"ready,omitempty"`
}

// Offer is what a cluster tells a host that may join.
type Offer struct {
	Time    time.Time     `json:"time"`    // the cluster's clock
	Cluster string        `json:"cluster"` // the Installer's metadata.name
	Role    string        `json:"role"`    // of the token
	Bundle  digest.Digest `json:"bundle"`  // digest of its index.json, which is served as a blob
	Fields  []Field       `json:"fields"`  // what must agree
	Nodes   []Node        `json:"nodes"`
	API     string        `json:"api,omitempty"` // further name or address of the API; "" for none
	CA      []byte        `json:"ca"`            // the cluster's certificate authority, PEM
}

// Claim is what a host tells a cluster that it is about to join.
type Claim struct {
	Node      string `json:"node"`      // Kubernetes name
	MachineID string `json:"machineId"` // /etc/machine-id
	Address   string `json:"address"`   // IP address
	Fresh     bool   `json:"fresh"`     // it has no part of the cluster's state yet
}

// Admission is what a host needs to join.
type Admission struct {
	Token string            `json:"token"` // k0s's own, short-lived; secret
	Files map[string][]byte `json:"files"` // further files of a node, by path
}

// Cluster judges tokens and lets hosts in.
type Cluster interface {
	// Offer tells a host what it would join. bearer is what it shows;
	// a *Refusal says why it may not.
	Offer(ctx context.Context, bearer, machineID string) (Offer, error)
	// Admit lets a host in.
	Admit(ctx context.Context, bearer string, c Claim) (Admission, error)
	// Permit says whether bearer may read what nodes hold.
	Permit(ctx context.Context, bearer string) error
	// Member says whether the node of that name, whose certificate TLS has
	// proved, is one still; a *Refusal when it was removed.
	Member(ctx context.Context, node string) error
}

// Content is an open blob.
type Content interface {
	io.ReadSeeker
	io.Closer
}

// Store gives the blobs that this node holds; fs.ErrNotExist for all others.
type Store interface {
	Open(ctx context.Context, d digest.Digest) (Content, error)
}

// Refusal is a "no" with its reason.
type Refusal struct {
	Why    string
	Status int // HTTP's: 401 for who is unknown, 409 for what cannot be now
}

// Error is the reason.
func (r *Refusal) Error() string { return r.Why }

// Taken says why a host cannot be a further member beside nodes, because it has
// the name, the machine id or the address of another one; "" when it can. All
// reasons are given at once.
func Taken(nodes []Node, c Claim) string {
	var why []string
	for _, n := range nodes {
		same := n.MachineID == c.MachineID
		switch {
		case n.Name == c.Node && same:
			return ""
		case n.Name == c.Node:
			why = append(why, fmt.Sprintf("the cluster has a node called %s already, on another machine", n.Name))
		case same:
			why = append(why, fmt.Sprintf("node %s of the cluster has this host's machine id %s", n.Name, n.MachineID))
		}
		if slices.Contains(n.Addresses, c.Address) {
			why = append(why, fmt.Sprintf("node %s of the cluster has this host's address %s", n.Name, c.Address))
		}
	}
	return strings.Join(why, "; ")
}
