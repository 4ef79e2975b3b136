package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

// The paths of an upgrade.
const (
	// UpgradePath is answered by every node, to the agents of controllers only: POST UpgradeRequest starts a phase of
	// the node's upgrade, GET returns its UpgradeState.
	UpgradePath = "/v1/upgrade"
	// UpgradeOfferPath is answered by controllers, to every node: GET ?bundle=DIGEST returns an UpgradeOffer.
	UpgradeOfferPath = "/v1/upgrade/offer"
)

// UpgradePhase is a part of the upgrade of one node.
type UpgradePhase string

// The phases. Program, Check and Deliver leave the cluster and its services as they are.
const (
	UpgradeProgram  UpgradePhase = "program"  // verify the bundle, fetch the plinth executable that runs the other phases
	UpgradeCheck    UpgradePhase = "check"    // verify the bundle, run the host preflights
	UpgradeDeliver  UpgradePhase = "deliver"  // save the files of the node, fetch programs, import images
	UpgradeSwitch   UpgradePhase = "switch"   // run the new version; if that fails, restore the one before
	UpgradeRollback UpgradePhase = "rollback" // restore the state before the upgrade
	UpgradeCommit   UpgradePhase = "commit"   // remove the snapshot that a rollback needs
)

// IsValid reports whether p is one of the phases.
func (p UpgradePhase) IsValid() bool {
	switch p {
	case UpgradeProgram, UpgradeCheck, UpgradeDeliver, UpgradeSwitch, UpgradeRollback, UpgradeCommit:
		return true
	}
	return false
}

// UpgradeRequest starts a phase on a node. It names the bundle of the upgrade, by the digest of its index, and the plinth
// executable that runs the phase: the node fetches and verifies everything itself.
type UpgradeRequest struct {
	Phase   UpgradePhase  `json:"phase"`
	Bundle  digest.Digest `json:"bundle"`
	Program digest.Digest `json:"program,omitempty"` // that of the node, or one that the bundle names; "" for that of the node
}

// IsValid reports whether the request can be carried out, if the node can.
func (q UpgradeRequest) IsValid() bool {
	isSHA256 := func(d digest.Digest) bool { return d.Validate() == nil && d.Algorithm() == digest.SHA256 }
	return q.Phase.IsValid() && isSHA256(q.Bundle) && (q.Program == "" || isSHA256(q.Program))
}

// UpgradeState is what a node reports of itself and of the last phase that was started on it.
type UpgradeState struct {
	Node      string        `json:"node"`
	Installed string        `json:"installed"`      // digest of the bundle in its receipt
	Program   digest.Digest `json:"program"`        // of its plinth executable
	K0s       string        `json:"k0s"`            // version in its receipt
	Busy      string        `json:"busy,omitempty"` // the run that changes it now; "" for none, and for a phase
	Snapshot  string        `json:"snapshot"`       // digest of the bundle of the upgrade that it can roll back; "" for none

	Phase   UpgradePhase  `json:"phase,omitempty"` // "" if none was started yet
	Bundle  digest.Digest `json:"bundle,omitempty"`
	Running bool          `json:"running,omitempty"`
	Step    string        `json:"step,omitempty"` // title of the current or last step
	Message string        `json:"message,omitempty"`
	Bytes   int64         `json:"bytes,omitempty"` // of the current step
	Total   int64         `json:"total,omitempty"` // of the current step, in bytes
	Failed  string        `json:"failed,omitempty"`
	Hint    string        `json:"hint,omitempty"`    // what to do about Failed
	Exit    int           `json:"exit,omitempty"`    // exit code of Failed
	Ended   time.Time     `json:"ended,omitzero"`    // when the phase ended, UTC; zero while it runs, and if it was killed
	Undone  bool          `json:"undone,omitempty"`  // Failed, and the state before was restored
	Version string        `json:"version,omitempty"` // of its plinth executable
	Changed time.Time     `json:"changed,omitzero"`  // when this state was written, UTC
}

// Finished reports whether the phase of the bundle has ended without an error.
func (s UpgradeState) Finished(q UpgradeRequest) bool {
	return s.Phase == q.Phase && s.Bundle == q.Bundle && !s.Running && !s.Ended.IsZero() && s.Failed == ""
}

// UpgradeOffer is what a controller serves of the bundle of an upgrade, besides its blobs. A node verifies all of it
// with the vendor's key that it knows.
type UpgradeOffer struct {
	Bundle      digest.Digest `json:"bundle"`
	Signature   []byte        `json:"signature,omitempty"`   // the vendor's, of the index, in DER
	KeyRotation []byte        `json:"keyRotation,omitempty"` // the vendor's statement that a new key replaces the old one
}

// NodeUpgrader upgrades the node of the agent.
type NodeUpgrader interface {
	// UpgradeState returns the state of the node.
	UpgradeState(ctx context.Context) (UpgradeState, error)
	// StartUpgrade starts a phase and returns. It is not an error if the same phase of the same bundle is running. If
	// the node cannot do it now, the error is a *StatusError.
	StartUpgrade(ctx context.Context, q UpgradeRequest) error
}

// requireController reports whether the client is the agent of an admitted controller. If not, it writes the error, with
// what only controllers do ("upgrade nodes").
func (s *server) requireController(w http.ResponseWriter, r *http.Request, what string) bool {
	if !s.requireNode(w, r, "only a controller can "+what+", authenticated by its own certificate") {
		return false
	}
	err := error(&StatusError{Reason: "node " + callerOf(r).NodeID.Node + " is a worker; only controllers " + what, Status: http.StatusForbidden})
	if callerOf(r).NodeID.Role == token.Controller {
		err = s.checkNode(r)
	} else {
		countAttempt(r, true) // its certificate is valid, which endAttempt would not count
	}
	if err != nil {
		s.writeError(w, r, "", ExplainError(err))
		return false
	}
	return true
}

// handleUpgradeState reports the state of this node's upgrade.
func (s *server) handleUpgradeState(node NodeUpgrader) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireController(w, r, "upgrade nodes") {
			return
		}
		state, err := node.UpgradeState(r.Context())
		s.writeReply(w, r, state, ExplainError(err))
	}
}

// handleUpgradeStart starts a phase on this node.
func (s *server) handleUpgradeStart(node NodeUpgrader) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireController(w, r, "upgrade nodes") {
			return
		}
		var q UpgradeRequest
		if err := decodeStrictly(r, &q); err != nil || !q.IsValid() {
			s.refuseBadRequest(w, r, "cannot decode the request to upgrade")
			return
		}
		err := node.StartUpgrade(r.Context(), q)
		if err == nil {
			countAttempt(r, true) // like a refused request: each one starts a program and costs a line in the audit log
			s.audit.record(newAuditEvent(r, AuditUpgrade, "", fmt.Sprintf("%s of bundle %s was started", q.Phase, q.Bundle)))
		}
		s.writeReply(w, r, q, ExplainError(err))
	}
}

// handleUpgradeOffer serves what nodes need of the bundle of an upgrade, besides its blobs.
func (s *server) handleUpgradeOffer(offer func(context.Context, digest.Digest) (UpgradeOffer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireNode(w, r, "only a node can ask, authenticated by its own certificate") {
			return
		}
		if err := s.checkNode(r); err != nil {
			s.writeError(w, r, "", ExplainError(err))
			return
		}
		o, err := offer(r.Context(), digest.Digest(r.URL.Query().Get("bundle")))
		s.writeReply(w, r, o, ExplainError(err))
	}
}

// UpgradeClient starts the upgrade of other nodes.
type UpgradeClient struct{ client *http.Client }

// NewUpgradeClient returns a client that shows the certificate of this controller's agent, and connects only to agents
// of nodes below the authority with the pin. It does not connect.
func NewUpgradeClient(certificate tls.Certificate, pin string) UpgradeClient {
	client := newHTTPClient(pin, func() (*tls.Certificate, error) { return &certificate, nil }, false)
	client.Transport.(*http.Transport).DisableKeepAlives = true // agents are restarted meanwhile
	return UpgradeClient{client}
}

// State returns the state of the node at an address.
func (c UpgradeClient) State(ctx context.Context, node netip.Addr) (s UpgradeState, err error) {
	return s, requestJSON(ctx, c.client, clientRequest{http.MethodGet, upgradeURL(node), "", nil}, &s)
}

// Start starts a phase on the node at an address.
func (c UpgradeClient) Start(ctx context.Context, node netip.Addr, q UpgradeRequest) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return requestJSON(ctx, c.client, clientRequest{http.MethodPost, upgradeURL(node), "", body}, &UpgradeRequest{})
}

func upgradeURL(node netip.Addr) string {
	return "https://" + net.JoinHostPort(node.String(), strconv.Itoa(Port)) + UpgradePath
}

// NewNodeClient returns a client of a node, which shows its certificate instead of a token, to the controllers at
// addresses below the authority with the pin.
func NewNodeClient(certificate tls.Certificate, pin string, controllers []netip.Addr) (*Client, error) {
	if _, ok := nodecert.NodeIDOf(certificate.Leaf); !ok {
		return nil, errNotAgent
	}
	t := token.Token{Pin: pin}
	for _, a := range controllers {
		t.Addresses = append(t.Addresses, net.JoinHostPort(a.String(), strconv.Itoa(Port)))
	}
	return NewClient(t, func() (*tls.Certificate, error) { return &certificate, nil }), nil
}

// FetchUpgradeOffer returns what a controller serves of the bundle of an upgrade.
func (c *Client) FetchUpgradeOffer(ctx context.Context, bundle digest.Digest) (o UpgradeOffer, err error) {
	return o, c.askControllers(ctx, http.MethodGet, UpgradeOfferPath+"?bundle="+url.QueryEscape(bundle.String()), nil, &o)
}
