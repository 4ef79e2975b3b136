package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	authzv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/ports"
)

// Authorizer answers the authorization reviews of the API server. It denies every request, also to
// read, of a node whose certificate is not of its current admission, and has no opinion about all
// others: Kubernetes's own authorizers know a node by its name only.
type Authorizer struct{ Records *RecordCache }

// reviewUser returns why a user's request is denied, or "". Without records all are allowed: they
// cannot be read while the API server starts.
func reviewUser(records kube.NodeRecords, s reviewedUser) string {
	if strings.HasPrefix(s.User, nodecert.AgentPrefix) {
		return "the certificate of an agent is not for the Kubernetes API"
	}
	name, isNode := strings.CutPrefix(s.User, nodeUserPrefix)
	if !isNode && !slices.Contains(s.Groups, "system:nodes") || len(records) == 0 {
		return ""
	}
	if !isNode {
		return "user " + s.User + " is not a node"
	}
	if _, err := records.FindAdmission(name, s.UID); err != nil {
		return err.Error()
	}
	return ""
}

// maxReviewBytes limits a review. It contains the selectors of a request, so that a client decides
// how large it is.
const maxReviewBytes = 1 << 20

// maxReviews is how many reviews are answered at the same time; further ones wait.
const maxReviews = 16

// review is the part of a SubjectAccessReview that decides.
type review struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Spec       reviewedUser `json:"spec"`
}

// reviewedUser is the user of a review.
type reviewedUser struct {
	User   string   `json:"user"`
	UID    string   `json:"uid"`
	Groups []string `json:"groups"`
}

// ServeHTTP answers one review. One that cannot be read is denied: after an error, the API server
// would decide by the name of the node alone.
func (a *Authorizer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q review
	var why string
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReviewBytes)).Decode(&q); err != nil {
		why = "the request is too large to be reviewed"
	} else {
		why = a.review(r.Context(), q.Spec)
	}
	answer := authzv1.SubjectAccessReview{TypeMeta: metav1.TypeMeta{APIVersion: authzv1.SchemeGroupVersion.String(), Kind: "SubjectAccessReview"},
		Status: authzv1.SubjectAccessReviewStatus{Denied: why != "", Reason: why}}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the API server may have disconnected
}

// review returns why a user's request is denied, or "". A node is denied by new records only.
func (a *Authorizer) review(ctx context.Context, s reviewedUser) (why string) {
	for _, maxAge := range []time.Duration{recordsMaxAge, deniedMaxAge} {
		records, _ := a.Records.Get(ctx, maxAge) // the last ones, if they cannot be read now
		if why = reviewUser(records, s); why == "" {
			break
		}
	}
	return why
}

// limitRequests answers at most limit requests at the same time.
func limitRequests(limit int, next http.Handler) http.Handler {
	slots := make(chan struct{}, limit)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})
}

// serveAuthorizer serves the authorizer to the API server on the same host until ctx ends.
func serveAuthorizer(ctx context.Context, a *Authorizer, identity *identity, note func(string)) {
	mux := http.NewServeMux()
	mux.Handle("POST "+k0s.AuthorizePath, limitRequests(maxReviews, a))
	srv := newLoopbackServer(ports.AuthorizerText, mux)
	srv.TLSConfig = identity.authorizerConfig()
	serveLoopback(ctx, srv, func(err error) {
		note("cannot answer the API server's authorization reviews, so nodes that were removed can still read: " + err.Error())
	})
}

// authorizerConfig returns the TLS configuration of the authorizer: its only client is the API server.
func (i *identity) authorizerConfig() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, // what an API server of any version speaks
		GetCertificate:   i.serverCert,
		ClientAuth:       tls.RequireAnyClientCert,
		VerifyConnection: i.verifyAPIServer}
}

// verifyAPIServer returns an error unless the client is the API server. Every node has a certificate of
// the same authority.
func (i *identity) verifyAPIServer(s tls.ConnectionState) error {
	authority, err := i.authority()
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	leaf := s.PeerCertificates[0]
	if leaf.Subject.CommonName != k0s.APIServerClientName {
		return errors.New("the client is not the API server")
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: i.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}
