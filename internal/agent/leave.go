package agent

import (
	"context"
	"net/http"
)

// LeavePath is where a node leaves the cluster, authenticated by its own
// certificate: GET returns a LeaveCheck, POST removes the node; ?force=yes
// accepts losses.
const LeavePath = "/v1/leave"

// LeaveCheck is what a cluster reports to a node that wants to leave it.
type Farewell struct {
	Cluster string   `json:"cluster"`           // the Installer's metadata.name
	Known   bool     `json:"known"`             // the node still belongs to the cluster; false if it has left
	Refused []string `json:"refused,omitempty"` // what would be lost; requires force
	Losses  []string `json:"losses,omitempty"`  // what the user should know but does not prevent leaving
}

// NodeRemover removes nodes from the cluster.
type Leaver interface {
	// CheckLeave returns what removing the node would cause, and changes
	// nothing.
	MayLeave(ctx context.Context, node string) (Farewell, error)
	// Leave removes the node's etcd member, credentials and Node object once
	// its pods are gone. It is not an error if the node has already left.
	Leave(ctx context.Context, node string, force bool) error
}

// handleLeave removes the node that sends the request, and no other one.
func (s *server) leave(cluster Leaver) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		node := nodeOf(r.TLS)
		if node == "" {
			s.deny(w, r, &Refusal{Why: "only a node can leave, authenticated by its own certificate", Status: http.StatusUnauthorized})
			return
		}
		if r.Method == http.MethodPost {
			if err := cluster.Leave(r.Context(), node, r.URL.Query().Get("force") == "yes"); err != nil {
				s.deny(w, r, err)
				return
			}
		}
		f, err := cluster.MayLeave(r.Context(), node)
		s.reply(w, r, f, err)
	}
}
