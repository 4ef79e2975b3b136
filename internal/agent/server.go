package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/token"
)

// Service is the configuration of the server on one node.
type Service struct {
	Backend     Backend
	Store       BlobStore
	NodeRemover NodeRemover  // removes nodes; nil if this node cannot
	EtcdJoiner  EtcdJoiner   // adds controllers to etcd; nil if this node cannot
	PeerCheck   http.Handler // answers the peer checks of hosts that may join; nil for none
	MaxStreams  int          // blobs that are read at once; 0 for the default

	Audit func(line string) // receives the audit log; nil for none
}

// Serve serves the API on listener, with the TLS configuration of each connection, until ctx
// ends. It closes the listener.
func (n Service) Serve(ctx context.Context, listener net.Listener, tlsConfig func(*tls.ClientHelloInfo) (*tls.Config, error)) error {
	audit := newAuditLog(n.Audit)
	srv := newHTTPServer(n.handler(audit))
	srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: tlsConfig}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(last) // requests that still run end with the process
	}()
	limited := limitConnections(listener, func(remote string) {
		audit.recordRefusal(AuditEvent{Peer: ipOf(remote), Result: "too many connections"}, false)
	})
	err := srv.ServeTLS(limited, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		err = nil
	}
	return err
}

// newHTTPServer returns an HTTP server with the limits of the API.
func newHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 only: one connection per blob
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout, // blobs set their own deadline
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(io.Discard, "", 0), // do not log port scans and broken connections
	}
}

// Handler returns the HTTP handler of the service.
func (n Service) Handler() http.Handler { return n.handler(newAuditLog(n.Audit)) }

func (n Service) handler(audit *auditLog) http.Handler {
	if n.MaxStreams == 0 {
		n.MaxStreams = maxStreams
	}
	s := &server{backend: n.Backend, store: n.Store, streams: make(chan struct{}, n.MaxStreams), audit: audit, failures: failureCounter{peers: map[string]*peerFailures{}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+JoinPath, s.handleDescribe)
	mux.HandleFunc("POST "+JoinPath, s.handleJoin)
	if n.PeerCheck != nil {
		mux.HandleFunc("POST "+PeerPath, func(w http.ResponseWriter, r *http.Request) {
			if s.allowRead(w, r) {
				n.PeerCheck.ServeHTTP(w, r)
			}
		})
	}
	if n.EtcdJoiner != nil {
		mux.HandleFunc("GET "+ClusterCAPath, s.handleClusterCAs(n.EtcdJoiner))
		mux.HandleFunc("POST "+EtcdMembersPath, s.handleAddMember(n.EtcdJoiner))
	}
	if n.NodeRemover != nil {
		mux.HandleFunc("GET "+LeavePath, s.handleLeave(n.NodeRemover))
		mux.HandleFunc("POST "+LeavePath, s.handleLeave(n.NodeRemover))
	}
	mux.HandleFunc("GET "+ReadPath+"{$}", s.handleVersion)
	mux.HandleFunc("GET "+BlobPath+"/blobs/{digest}", s.handleBlob)
	mux.HandleFunc("GET "+BlobPath+"/manifests/{digest}", s.handleBlob)
	return s.limitFailures(mux)
}

type server struct {
	backend  Backend
	store    BlobStore
	streams  chan struct{}
	audit    *auditLog
	failures failureCounter
}

// attemptKey is the key of the attempt in a request's context.
type attemptKey struct{}

// limitFailures rejects peers with too many refused requests before their request is processed.
// A client with a node's certificate is counted by its node, so that strangers at the same
// address, such as its pods, do not block it.
func (s *server) limitFailures(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, node := peerOf(r.RemoteAddr), nodeFromTLS(r.TLS)
		if node != "" {
			peer = "node " + node
		}
		a := s.failures.begin(peer, node != "")
		if a == nil {
			s.recordRefusal(r, &StatusError{Reason: "too many refused requests", Status: http.StatusTooManyRequests}, node)
			w.Header().Set("Retry-After", "10")
			w.Header().Set("Connection", "close")
			writeFailure(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "too many refused requests from this address")
			return
		}
		defer a.end(false)
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), attemptKey{}, a)))
	})
}

// endAttempt ends the attempt of a request; refused counts it. A refused client is disconnected,
// unless it is a node of the cluster: a worker forwards the tokens of its own clients, which it
// limits itself.
func (s *server) endAttempt(w http.ResponseWriter, r *http.Request, refused bool) {
	if node := nodeFromTLS(r.TLS); refused && node != "" {
		refused = isUnauthorized(s.backend.CheckNode(r.Context(), node))
	}
	if refused {
		w.Header().Set("Connection", "close")
	}
	if a, ok := r.Context().Value(attemptKey{}).(*attempt); ok {
		a.end(refused)
	}
}

// isUnauthorized reports whether err refuses an unknown client.
func isUnauthorized(err error) bool {
	var no *StatusError
	return errors.As(err, &no) && no.Status == http.StatusUnauthorized
}

// recordRefusal writes a refusal to the audit log. The node is the one that the client claims to
// be; its certificate, if any, is preferred.
func (s *server) recordRefusal(r *http.Request, why error, node string) {
	e := newAuditEvent(r, AuditRefusal, node, why.Error())
	known := false
	if no := (*StatusError)(nil); errors.As(why, &no) {
		known = no.Status == http.StatusConflict || no.Status == http.StatusLocked || no.Status == http.StatusServiceUnavailable
	}
	s.audit.recordRefusal(e, known)
}

// newAuditEvent returns an event about a request.
func newAuditEvent(r *http.Request, event, node, result string) AuditEvent {
	if certified := nodeFromTLS(r.TLS); certified != "" {
		node = certified
	}
	id, _, ok := token.SplitBearer(bearerToken(r))
	if !ok || len(id) > maxTokenID {
		id = ""
	}
	return AuditEvent{Event: event, Node: node, Peer: ipOf(r.RemoteAddr), Token: id, Result: result}
}

// maxTokenID is the length of the longest ID of a token; a longer one may be a secret.
const maxTokenID = 8

// ipOf returns the IP address of a remote address, host:port.
func ipOf(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	return at.Addr().Unmap().String()
}

// bearerToken returns the bearer token of a request, or "".
func bearerToken(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}

func (s *server) handleDescribe(w http.ResponseWriter, r *http.Request) {
	o, err := s.backend.DescribeCluster(r.Context(), bearerToken(r), r.URL.Query().Get("machine"))
	s.writeReply(w, r, o, err)
}

func (s *server) handleJoin(w http.ResponseWriter, r *http.Request) {
	var c JoinRequest
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || c.Node == "" || c.MachineID == "" || c.Address == "" {
		s.refuseBadRequest(w, r, "cannot decode the join request")
		return
	}
	a, err := s.backend.Admit(r.Context(), bearerToken(r), c)
	if err != nil {
		s.writeError(w, r, c.Node, err)
		return
	}
	s.audit.record(newAuditEvent(r, AuditAdmission, c.Node, "admitted with address "+c.Address))
	s.writeReply(w, r, a, nil)
}

// refuseBadRequest refuses a request that cannot be read.
func (s *server) refuseBadRequest(w http.ResponseWriter, r *http.Request, why string) {
	s.endAttempt(w, r, true)
	s.recordRefusal(r, errors.New(why), "")
	writeFailure(w, http.StatusBadRequest, "UNSUPPORTED", why)
}

// writeReply writes response as JSON, or err.
func (s *server) writeReply(w http.ResponseWriter, r *http.Request, response any, err error) {
	if err != nil {
		s.writeError(w, r, "", err)
		return
	}
	s.endAttempt(w, r, false)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(response) // the client may have disconnected
}

// writeError writes a StatusError, or status 503 without the cause for any other error: the
// client may be a stranger, and the cause may contain internal addresses. The audit log has it.
func (s *server) writeError(w http.ResponseWriter, r *http.Request, node string, err error) {
	s.recordRefusal(r, err, node)
	var no *StatusError
	if !errors.As(err, &no) {
		writeFailure(w, http.StatusServiceUnavailable, "UNAVAILABLE", "this node cannot check the request now; the log of its plinth-agent has the cause")
		return
	}
	if no.Status == http.StatusUnauthorized {
		s.endAttempt(w, r, true)
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeFailure(w, no.Status, "DENIED", no.Reason)
}

// allowRead reports whether the client may read blobs: it needs a node's
// certificate, which TLS has verified, or a token. If not, it writes the error.
func (s *server) allowRead(w http.ResponseWriter, r *http.Request) bool {
	var err error
	if node, shown := nodeFromTLS(r.TLS), bearerToken(r); shown == "" && node != "" {
		err = s.backend.CheckNode(r.Context(), node)
	} else {
		err = s.backend.CheckReadAccess(r.Context(), shown)
	}
	if err != nil {
		s.writeError(w, r, "", err)
		return false
	}
	s.endAttempt(w, r, false)
	return true
}

// nodeFromTLS returns the name of the node that the client is, from the subject
// that Kubernetes gives to the certificates of nodes; "" if it is not a node.
func nodeFromTLS(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 {
		return ""
	}
	subject := state.VerifiedChains[0][0].Subject
	node, ok := strings.CutPrefix(subject.CommonName, "system:node:")
	if !ok || !slices.Contains(subject.Organization, "system:nodes") {
		return ""
	}
	return node
}

func (s *server) handleVersion(w http.ResponseWriter, r *http.Request) {
	if s.allowRead(w, r) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		_, _ = io.WriteString(w, "{}\n")
	}
}

func (s *server) handleBlob(w http.ResponseWriter, r *http.Request) {
	if !s.allowRead(w, r) {
		return
	}
	d := digest.Digest(r.PathValue("digest"))
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 {
		writeFailure(w, http.StatusBadRequest, "DIGEST_INVALID", "the path does not contain a sha256 digest")
		return
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "1")
		writeFailure(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "too many blobs are being read from this node")
		return
	}
	content, err := s.store.Open(r.Context(), d)
	if err != nil {
		status, why := http.StatusServiceUnavailable, "cannot read the blob"
		if errors.Is(err, fs.ErrNotExist) {
			status, why = http.StatusNotFound, "this node does not have the blob"
		}
		writeFailure(w, status, "BLOB_UNKNOWN", why)
		return
	}
	defer func() { _ = content.Close() }()
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(blobTimeout))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", d.String())
	w.Header().Set("Etag", `"`+d.String()+`"`)
	http.ServeContent(w, r, "", time.Time{}, content)
}

// errorBody is an error response in the format of the OCI distribution API.
type errorBody struct {
	Errors []errorEntry `json:"errors"`
}

type errorEntry struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func writeFailure(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(errorBody{[]errorEntry{{code, message}}}) // the client may have disconnected
}

// ErrorMessage returns the message in the body of an agent's error response, or
// "" if it has none.
func ErrorMessage(body []byte) string {
	var f errorBody
	if err := json.Unmarshal(body, &f); err != nil || len(f.Errors) == 0 {
		return ""
	}
	return f.Errors[0].Message
}
