package agent

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// The paths of the join API of k0s, which k0s on a controller that joins uses. It shows the
// certificate of its agent, and no token.
const (
	ClusterCAPath   = "/v1beta1/ca"           // GET the certificate authorities of the cluster
	EtcdMembersPath = "/v1beta1/etcd/members" // POST the controller that becomes a member of etcd
)

// EtcdJoiner adds controllers to etcd.
type EtcdJoiner interface {
	// ClusterCAs returns the certificate authorities of the cluster in k0s's
	// format. If the client may not have them, the error is a *StatusError.
	ClusterCAs(ctx context.Context, c Caller) (json.RawMessage, error)
	// AddEtcdMember adds the host of a request in k0s's format, and returns the
	// response in k0s's format.
	AddEtcdMember(ctx context.Context, c Caller, request []byte) (json.RawMessage, error)
}

// onlyControllers is the reason for a client without the certificate of a node.
const onlyControllers = "only a controller that joins gets keys, authenticated by the certificate of its agent"

func (s *server) handleClusterCAs(e EtcdJoiner) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireNode(w, r, onlyControllers) {
			return
		}
		a, err := e.ClusterCAs(r.Context(), callerOf(r))
		if err == nil {
			s.audit.record(newAuditEvent(r, AuditAdmission, "", "got the cluster's certificate authorities"))
		}
		s.writeReply(w, r, a, err)
	}
}

func (s *server) handleControllerSecrets(read func(context.Context, Caller) (ControllerSecrets, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireNode(w, r, onlyControllers) {
			return
		}
		a, err := read(r.Context(), callerOf(r))
		if err == nil {
			s.audit.record(newAuditEvent(r, AuditAdmission, "", "got the keys that encrypt Secrets in etcd"))
		}
		s.writeReply(w, r, a, err)
	}
}

func (s *server) handleAddMember(e EtcdJoiner) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireNode(w, r, onlyControllers) {
			return
		}
		request, err := io.ReadAll(r.Body)
		if err != nil {
			s.refuseBadRequest(w, r, "cannot read the request")
			return
		}
		a, err := e.AddEtcdMember(r.Context(), callerOf(r), request)
		if err == nil {
			var member struct{ Node string }
			_ = json.Unmarshal(request, &member) // AddEtcdMember has read it
			s.audit.record(newAuditEvent(r, AuditAdmission, member.Node, "added to etcd"))
		}
		s.writeReply(w, r, a, err)
	}
}
