package agent

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// The paths of k0s's own API for a controller that joins with k0s's own token.
const (
	ClusterCAPath   = "/v1beta1/ca"           // GET the certificate authorities of the cluster
	EtcdMembersPath = "/v1beta1/etcd/members" // POST the controller that becomes a member of etcd
)

// EtcdJoiner adds controllers to etcd.
type EtcdJoiner interface {
	// ClusterCAs returns the certificate authorities of the cluster in k0s's
	// format. If the client may not have them, the error is a *StatusError.
	ClusterCAs(ctx context.Context, bearer string) (json.RawMessage, error)
	// AddEtcdMember adds the host of a request in k0s's format, and returns the
	// response in k0s's format.
	AddEtcdMember(ctx context.Context, bearer string, request []byte) (json.RawMessage, error)
}

func (s *server) handleClusterCAs(e EtcdJoiner) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, err := e.ClusterCAs(r.Context(), bearerToken(r))
		if err == nil {
			s.audit.record(newAuditEvent(r, AuditAdmission, "", "got the cluster's certificate authorities"))
		}
		s.writeReply(w, r, a, err)
	}
}

func (s *server) handleAddMember(e EtcdJoiner) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(r.Body)
		if err != nil {
			s.refuseBadRequest(w, r, "cannot read the request")
			return
		}
		a, err := e.AddEtcdMember(r.Context(), bearerToken(r), request)
		if err == nil {
			var member struct{ Node string }
			_ = json.Unmarshal(request, &member) // AddEtcdMember has read it
			s.audit.record(newAuditEvent(r, AuditAdmission, member.Node, "added to etcd"))
		}
		s.writeReply(w, r, a, err)
	}
}
