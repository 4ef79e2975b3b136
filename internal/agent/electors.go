package agent

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// The paths of k0s's own API for a controller that joins with k0s's own token.
const (
	AuthoritiesPath = "/v1beta1/ca"           // GET the certificate authorities of the cluster
	MemberPath      = "/v1beta1/etcd/members" // POST the controller that becomes a member of etcd
)

// EtcdJoiner adds controllers to etcd.
type Electors interface {
	// ClusterCAs returns the certificate authorities of the cluster in k0s's
	// format. If the client may not have them, the error is a *StatusError.
	Authorities(ctx context.Context, bearer string) (json.RawMessage, error)
	// AddEtcdMember adds the host of a request in k0s's format, and returns the
	// response in k0s's format.
	Member(ctx context.Context, bearer string, request []byte) (json.RawMessage, error)
}

func (s *server) authorities(e Electors) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, err := e.Authorities(r.Context(), bearer(r))
		s.reply(w, r, a, err)
	}
}

func (s *server) member(e Electors) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		request, err := io.ReadAll(r.Body)
		if err != nil {
			s.refused(r)
			fail(w, http.StatusBadRequest, "UNSUPPORTED", "cannot read the request")
			return
		}
		a, err := e.Member(r.Context(), bearer(r), request)
		s.reply(w, r, a, err)
	}
}
