package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	authzv1 "k8s.io/api/authorization/v1"

	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/ports"
	"github.com/plinthdev/plinth/internal/problem"
)

// recordsMaxAge is how old the records may be with which the authorizer answers.
const recordsMaxAge = 2 * time.Second

// recordsTimeout is how long a review waits for the records. The API server waits longer for the review.
const recordsTimeout = 2 * time.Second

// Authorizer answers the authorization reviews of the API server. It denies every request, also to
// read, of a node whose certificate is not of its current admission, and has no opinion about all
// others: Kubernetes's own authorizers know a node by its name only.
type Authorizer struct {
	Records func(context.Context) (kube.NodeRecords, error)
	Now     func() time.Time

	mu      sync.Mutex
	records kube.NodeRecords
	readAt  time.Time
}

// currentRecords returns the records, at most recordsMaxAge old. If they cannot be read, it returns
// the last ones.
func (a *Authorizer) currentRecords(ctx context.Context) kube.NodeRecords {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.Now().Sub(a.readAt) < recordsMaxAge {
		return a.records
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordsTimeout) // other reviews wait for it, too
	defer cancel()
	if records, err := a.Records(ctx); err == nil {
		a.records = records
	}
	a.readAt = a.Now()
	return a.records
}

// reviewUser returns why a user's request is denied, or "". Without records all are allowed: they
// cannot be read while the API server starts.
func reviewUser(records kube.NodeRecords, s authzv1.SubjectAccessReviewSpec) string {
	name, isNode := strings.CutPrefix(s.User, nodeUserPrefix)
	if !isNode && !slices.Contains(s.Groups, "system:nodes") || len(records) == 0 {
		return ""
	}
	r, admitted := records[name]
	switch {
	case !isNode:
		return "user " + s.User + " is no node"
	case !admitted:
		return "node " + name + " is not admitted to the cluster"
	case s.UID != r.UID:
		return "this certificate of node " + name + " is of an earlier admission"
	}
	return ""
}

// maxReviewBytes limits a review. The API server allows requests of 3 MiB, but no user has so many
// groups.
const maxReviewBytes = 1 << 20

// ServeHTTP answers one review.
func (a *Authorizer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review authzv1.SubjectAccessReview
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReviewBytes)).Decode(&review); err != nil {
		http.Error(w, "cannot decode the review", http.StatusBadRequest)
		return
	}
	why := reviewUser(a.currentRecords(r.Context()), review.Spec)
	review.Status = authzv1.SubjectAccessReviewStatus{Denied: why != "", Reason: why}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // the API server may have disconnected
}

// serveAuthorizer serves the authorizer on the loopback address until ctx ends. There are no
// limits for clients but those of time: only processes of this host reach it, and it tells nothing
// that a local user may not know.
func serveAuthorizer(ctx context.Context, a *Authorizer, identity *identity) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(k0s.Loopback, ports.AuthorizerText))
	if err != nil {
		return problem.New(problem.ExitInternal, "answer the API server's authorization reviews", err, "")
	}
	mux := http.NewServeMux()
	mux.Handle("POST "+k0s.AuthorizePath, a)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog:  log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: identity.serverCert}} // TLS 1.2 is what an API server of any version speaks
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.ServeTLS(listener, "", ""); ctx.Err() == nil {
		return err
	}
	return nil
}
