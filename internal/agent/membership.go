package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/plinthdev/plinth/internal/nodecert"
)

// MembershipPath is answered by controllers only: GET Membership of the node that asks.
const MembershipPath = "/v1/membership"

// The states of a node's admission.
const (
	StateMember  = "member"  // the cluster has a record of the admission
	StateRemoved = "removed" // the cluster has no record, and a note that the admission was ended
	StateUnknown = "unknown" // it has neither, such as after the restore of an older backup
)

// Membership is what a controller tells a node about the admission that its certificate is of.
type Membership struct {
	Node  string    `json:"node"` // of the certificate
	UID   string    `json:"uid"`  // of the certificate
	State string    `json:"state"`
	By    string    `json:"by,omitempty"` // who removed the node
	At    time.Time `json:"at,omitzero"`  // when, UTC
}

// IsRemoved returns the answer that says that the cluster has removed the node self. ok is false unless at least
// one of answers, those of all controllers that could be asked, says so and none of them says anything else: a node
// that wrongly stops is worse than a removed one that keeps running.
func IsRemoved(self nodecert.NodeID, answers []Membership) (removed Membership, ok bool) {
	for _, m := range answers {
		if m.Node != self.Node || m.UID != self.UID || self.UID == "" || m.State != StateRemoved {
			return Membership{}, false
		}
		removed = m
	}
	return removed, len(answers) > 0
}

// handleMembership answers the node that asks about itself.
func (s *server) handleMembership(membership func(context.Context, nodecert.NodeID) (Membership, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireNode(w, r, "only a node can ask, authenticated by its own certificate") {
			return
		}
		m, err := membership(r.Context(), callerOf(r).NodeID)
		if err == nil && m.State != StateMember { // it gets an answer, but not without limit: its certificate is still valid
			s.endAttempt(w, r, true)
		}
		s.writeReply(w, r, m, ExplainError(err))
	}
}

// MembershipClient asks controllers about this node.
type MembershipClient struct {
	client *http.Client
	self   nodecert.NodeID
}

// NewMembershipClient returns a client that shows the certificate of this node's agent, and connects only to agents of
// controllers below the authority with the pin. It keeps no connections: a cluster may have many nodes.
func NewMembershipClient(certificate tls.Certificate, pin string) (MembershipClient, error) {
	self, ok := nodecert.NodeIDOf(certificate.Leaf)
	if !ok {
		return MembershipClient{}, errors.New("this host has no certificate of an agent")
	}
	client := newHTTPClient(pin, func() (*tls.Certificate, error) { return &certificate, nil }, true)
	client.Transport.(*http.Transport).DisableKeepAlives = true
	return MembershipClient{client, self}, nil
}

// Self returns the identity that the client shows.
func (c MembershipClient) Self() nodecert.NodeID { return c.self }

// Ask asks the controller at an address. Every refusal is an error.
func (c MembershipClient) Ask(ctx context.Context, controller netip.Addr) (m Membership, err error) {
	at := net.JoinHostPort(controller.String(), strconv.Itoa(Port))
	return m, requestJSON(ctx, c.client, clientRequest{http.MethodGet, "https://" + at + MembershipPath, "", nil}, &m)
}
