package agent

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
)

// k0s's own paths for a controller that joins, by k0s's own token.
const (
	AuthoritiesPath = "/v1beta1/ca"           // GET the cluster's certificate authorities
	MemberPath      = "/v1beta1/etcd/members" // POST who is to become a member of etcd
)

// Electors takes controllers into etcd.
type Electors interface {
	// Authorities are the cluster's, in k0s's form; a *Refusal says why not.
	Authorities(ctx context.Context, bearer string) (json.RawMessage, error)
	// Member takes in the host of a request of k0s's, and answers in k0s's form.
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
			fail(w, http.StatusBadRequest, "UNSUPPORTED", "the request cannot be read")
			return
		}
		a, err := e.Member(r.Context(), bearer(r), request)
		s.reply(w, r, a, err)
	}
}
