package agent

import (
	"context"
	"net/http"
)

// LeavePath is where a node asks to be let go, with its own certificate: GET is
// answered with a Farewell, POST lets it go; ?force=yes accepts what is lost.
const LeavePath = "/v1/leave"

// Farewell is what a cluster tells a node that wants to leave it.
type Farewell struct {
	Cluster string   `json:"cluster"`           // the Installer's metadata.name
	Known   bool     `json:"known"`             // it has a place in the cluster still; false for one that has left
	Refused []string `json:"refused,omitempty"` // what would be lost, and is not without force
	Losses  []string `json:"losses,omitempty"`  // what costs nothing now, and is worth a word
}

// Leaver is a Cluster that lets nodes go.
type Leaver interface {
	// MayLeave tells a node what its leaving would do, and changes nothing.
	MayLeave(ctx context.Context, node string) (Farewell, error)
	// Leave takes away a node's vote, credentials and place, once its pods are
	// gone. One that has left is no error.
	Leave(ctx context.Context, node string, force bool) error
}

// leave lets go of the node that asks, and of no other.
func (s *server) leave(cluster Leaver) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		node := nodeOf(r.TLS)
		if node == "" {
			s.deny(w, r, &Refusal{Why: "only a node can leave, and shows its certificate", Status: http.StatusUnauthorized})
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
