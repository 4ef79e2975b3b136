package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"time"
)

// The paths of the part of a support bundle that describes this node. Every node answers them, to the agents of
// controllers only.
const (
	// SupportPath has the collection: POST SupportRequest starts it, GET returns the SupportState.
	SupportPath = "/v1/support-bundle"
	// SupportContentPath has the collected part: GET ?id=ID returns it, and removes it from the node.
	SupportContentPath = "/v1/support-bundle/content"
)

// Limits of a SupportRequest.
const (
	MinSupportBytes = 1 << 20              // of SupportRequest.Limit
	MaxSupportBytes = 1 << 30              // of SupportRequest.Limit
	maxSupportSince = 10 * 365 * 24 * 3600 // of SupportRequest.Since
	supportTimeout  = 2 * time.Minute      // for the content of a part
	supportIDFormat = `^[0-9a-f]{32}$`     // 128 random bits
)

var supportID = regexp.MustCompile(supportIDFormat)

// SupportRequest starts the collection on a node. The node redacts the part before it leaves the node.
type SupportRequest struct {
	ID    string `json:"id"`    // of this collection: 32 hexadecimal digits
	Since int64  `json:"since"` // age of the oldest lines of logs, in seconds
	Limit int64  `json:"limit"` // of the content of the part, before it is compressed, in bytes
}

// IsValid reports whether a node can carry out the request.
func (q SupportRequest) IsValid() bool {
	return supportID.MatchString(q.ID) && q.Since > 0 && q.Since <= maxSupportSince && q.Limit >= MinSupportBytes && q.Limit <= MaxSupportBytes
}

// SupportState is what a node reports of its last collection.
type SupportState struct {
	ID      string `json:"id,omitempty"` // "" if none was started, or its part was fetched
	Running bool   `json:"running,omitempty"`
	Size    int64  `json:"size,omitempty"`   // of the part, in bytes; 0 while there is none
	Failed  string `json:"failed,omitempty"` // why there will be none
}

// SupportCollector collects the part of a support bundle that describes the node of the agent.
type SupportCollector interface {
	// SupportState returns the state of the last collection.
	SupportState(ctx context.Context) (SupportState, error)
	// StartSupport starts a collection and returns. If another one runs, the error is a *StatusError.
	StartSupport(ctx context.Context, q SupportRequest) error
	// TakeSupport removes the part of a collection from the node, and returns its content and size in bytes. The error
	// is fs.ErrNotExist if there is none.
	TakeSupport(id string) (content io.ReadCloser, size int64, err error)
}

// handleSupportState reports the state of the collection on this node.
func (s *server) handleSupportState(node SupportCollector) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireController(w, r, "collect support bundles") {
			return
		}
		state, err := node.SupportState(r.Context())
		s.writeReply(w, r, state, ExplainError(err))
	}
}

// handleSupportStart starts a collection on this node.
func (s *server) handleSupportStart(node SupportCollector) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireController(w, r, "collect support bundles") {
			return
		}
		var q SupportRequest
		if err := decodeStrictly(r, &q); err != nil || !q.IsValid() {
			s.refuseBadRequest(w, r, "cannot decode the request for a support bundle")
			return
		}
		err := node.StartSupport(r.Context(), q)
		if err == nil {
			countAttempt(r, true) // like a refused request: each one starts a program and costs a line in the audit log
			s.audit.record(newAuditEvent(r, AuditSupport, "", "the collection of this node's state and logs was started"))
		}
		s.writeReply(w, r, q, ExplainError(err))
	}
}

// handleSupportContent sends the part that was collected on this node.
func (s *server) handleSupportContent(node SupportCollector) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.requireController(w, r, "collect support bundles") {
			return
		}
		content, size, err := node.TakeSupport(r.URL.Query().Get("id"))
		if errors.Is(err, fs.ErrNotExist) {
			err = &StatusError{Reason: "this node has no such part of a support bundle", Status: http.StatusNotFound}
		}
		if err != nil {
			s.writeError(w, r, "", ExplainError(err))
			return
		}
		defer func() { _ = content.Close() }()
		s.endAttempt(w, r, false)
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(supportTimeout))
		w.Header().Set("Content-Type", "application/gzip")
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.Copy(w, content) // the client may have disconnected
	}
}

// SupportClient collects parts of a support bundle from other nodes.
type SupportClient struct{ client *http.Client }

// NewSupportClient returns a client that shows the certificate of this controller's agent, and connects only to agents
// of nodes below the authority with the pin. It does not connect.
func NewSupportClient(certificate tls.Certificate, pin string) SupportClient {
	return SupportClient{newHTTPClient(pin, func() (*tls.Certificate, error) { return &certificate, nil }, false)}
}

// Start starts a collection on the node at an address.
func (c SupportClient) Start(ctx context.Context, node netip.Addr, q SupportRequest) error {
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return requestJSON(ctx, c.client, clientRequest{http.MethodPost, supportURL(node, SupportPath), "", body}, &SupportRequest{})
}

// State returns the state of the collection on the node at an address.
func (c SupportClient) State(ctx context.Context, node netip.Addr) (s SupportState, err error) {
	return s, requestJSON(ctx, c.client, clientRequest{http.MethodGet, supportURL(node, SupportPath), "", nil}, &s)
}

// Fetch returns the part that the node at an address has collected, of at most limit bytes as it is sent.
func (c SupportClient) Fetch(ctx context.Context, node netip.Addr, id string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, supportTimeout)
	defer cancel()
	res, err := doRequest(ctx, c.client, clientRequest{http.MethodGet, supportURL(node, SupportContentPath+"?id="+id), "", nil}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("its part is larger than %d bytes", limit)
	}
	return content, err
}

// Close closes idle connections.
func (c SupportClient) Close() { c.client.CloseIdleConnections() }

func supportURL(node netip.Addr, path string) string {
	return "https://" + net.JoinHostPort(node.String(), strconv.Itoa(Port)) + path
}
