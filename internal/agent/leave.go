package agent

import (
	"context"
	"net/http"

	"github.com/plinthdev/plinth/internal/nodecert"
)

// LeavePath is where a node leaves the cluster, authenticated by its agent's
// certificate: GET returns a LeaveCheck, POST removes the node; ?force=yes
// accepts losses, but not that of the quorum.
const LeavePath = "/v1/leave"

// LeaveCheck is what a cluster reports to a node that wants to leave it.
type LeaveCheck struct {
	Cluster string   `json:"cluster"`           // the Installer's metadata.name
	Known   bool     `json:"known"`             // the node still belongs to the cluster; false if it has left
	Blocked string   `json:"blocked,omitempty"` // why the node cannot leave by itself, not even with force; "" if it can
	Refused []string `json:"refused,omitempty"` // what would be lost; requires force
	Losses  []string `json:"losses,omitempty"`  // what the user should know but does not prevent leaving
}

// NodeRemover removes nodes from the cluster.
type NodeRemover interface {
	// CheckLeave returns what removing the node would cause, and changes
	// nothing.
	CheckLeave(ctx context.Context, p nodecert.NodeID) (LeaveCheck, error)
	// Leave removes the node's etcd member, credentials and Node object once
	// its pods are gone. It is not an error if the node has already left.
	Leave(ctx context.Context, p nodecert.NodeID, force bool) error
}

// handleLeave removes the node that sends the request, and no other one.
func (s *server) handleLeave(cluster NodeRemover) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireNode(w, r, "only a node can leave, authenticated by its own certificate") {
			return
		}
		id := callerOf(r).NodeID
		node := id.Node
		removed := isUnauthorized(s.checkNode(r))
		if removed { // it gets an answer, but not without limit: its certificate is still valid
			s.endAttempt(w, r, true)
		}
		if r.Method == http.MethodPost && !removed { // else the audit log would have a second removal
			result, force := "removed; its credentials are revoked", r.URL.Query().Get("force") == "yes"
			if force {
				result += "; losses accepted"
			}
			if err := cluster.Leave(r.Context(), id, force); err != nil {
				s.writeError(w, r, node, ExplainError(err))
				return
			}
			s.audit.record(newAuditEvent(r, AuditLeave, node, result))
		}
		f, err := cluster.CheckLeave(r.Context(), id)
		s.writeReply(w, r, f, ExplainError(err))
	}
}
