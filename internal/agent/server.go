package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

// Service is the configuration of the server on one node.
type Service struct {
	Backend     Backend
	Store       BlobStore
	NodeRemover NodeRemover // removes nodes; nil if this node cannot
	EtcdJoiner  EtcdJoiner  // adds controllers to etcd; nil if this node cannot
	// Secrets returns what the client needs to become a controller; nil if this node does not have it. If the
	// client may not have it, the error is a *StatusError.
	Secrets func(ctx context.Context, c Caller) (ControllerSecrets, error)
	// Membership returns the state of a node's admission; nil if this node does not know it.
	Membership func(ctx context.Context, p nodecert.NodeID) (Membership, error)
	Upgrader   NodeUpgrader // upgrades this node; nil if it cannot be upgraded by another one
	// UpgradeOffer returns what this node serves of the bundle of an upgrade; nil if this node serves none.
	UpgradeOffer func(ctx context.Context, bundle digest.Digest) (UpgradeOffer, error)
	Support      SupportCollector // collects the part of a support bundle of this node; nil if it cannot
	PeerCheck    http.Handler     // answers the peer checks of hosts that may join; nil for none
	MaxStreams   int              // blobs that are read at once; 0 for the default

	Now       func() time.Time                  // the clock by which certificates are valid; nil for time.Now
	Audit     func(line string)                 // receives the audit log; nil for none
	Authority func() (*x509.Certificate, error) // the cluster's, which has signed the certificates of nodes
}

// Serve serves the API on listener, with the TLS configuration of each connection, until ctx
// ends. It closes the listener.
func (n Service) Serve(ctx context.Context, listener net.Listener, tlsConfig func(*tls.ClientHelloInfo) (*tls.Config, error)) error {
	audit, known := newAuditLog(n.Audit), newKnownPeers()
	srv := newHTTPServer(n.handler(audit, known))
	srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: tlsConfig}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(last) // requests that still run end with the process
	}()
	limited := limitConnections(listener, known, func(remote string) {
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
func (n Service) Handler() http.Handler { return n.handler(newAuditLog(n.Audit), newKnownPeers()) }

func (n Service) handler(audit *auditLog, known *knownPeers) http.Handler {
	if n.MaxStreams == 0 {
		n.MaxStreams = maxStreams
	}
	if n.Now == nil {
		n.Now = time.Now
	}
	s := &server{authority: n.Authority, now: n.Now, backend: n.Backend, store: n.Store, streams: make(chan struct{}, n.MaxStreams), audit: audit, known: known, failures: failureCounter{peers: map[string]*peerFailures{}}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+JoinPath, s.handleDescribe)
	mux.HandleFunc("POST "+JoinPath, s.handleJoin)
	mux.HandleFunc("POST "+RenewPath, s.handleRenew)
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
	if n.Secrets != nil {
		mux.HandleFunc("GET "+ControllerSecretsPath, s.handleControllerSecrets(n.Secrets))
	}
	if n.NodeRemover != nil {
		mux.HandleFunc("GET "+LeavePath, s.handleLeave(n.NodeRemover))
		mux.HandleFunc("POST "+LeavePath, s.handleLeave(n.NodeRemover))
	}
	if n.Membership != nil {
		mux.HandleFunc("GET "+MembershipPath, s.handleMembership(n.Membership))
	}
	if n.Upgrader != nil {
		mux.HandleFunc("GET "+UpgradePath, s.handleUpgradeState(n.Upgrader))
		mux.HandleFunc("POST "+UpgradePath, s.handleUpgradeStart(n.Upgrader))
	}
	if n.Support != nil {
		mux.HandleFunc("GET "+SupportPath, s.handleSupportState(n.Support))
		mux.HandleFunc("POST "+SupportPath, s.handleSupportStart(n.Support))
		mux.HandleFunc("GET "+SupportContentPath, s.handleSupportContent(n.Support))
	}
	if n.UpgradeOffer != nil {
		mux.HandleFunc("GET "+UpgradeOfferPath, s.handleUpgradeOffer(n.UpgradeOffer))
	}
	mux.HandleFunc("GET "+ReadPath+"{$}", s.handleVersion)
	mux.HandleFunc("GET "+BlobPath+"/blobs/{digest}", s.handleBlob)
	mux.HandleFunc("GET "+BlobPath+"/manifests/{digest}", s.handleBlob)
	return s.limitFailures(mux)
}

type server struct {
	authority func() (*x509.Certificate, error)
	now       func() time.Time
	backend   Backend
	store     BlobStore
	streams   chan struct{}
	audit     *auditLog
	known     *knownPeers
	failures  failureCounter
}

// attemptKey is the key of the attempt in a request's context.
type attemptKey struct{}

// limitFailures rejects peers with too many refused requests before their request is processed.
// A client with a node's certificate is counted by its admission, so that strangers at the same
// address, such as its pods, do not block it, and a removed node does not block a later one of
// its name.
func (s *server) limitFailures(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := identifyCaller(r, s.authority, s.now())
		r = withCaller(r, caller)
		if err != nil { // do not count a node as a stranger
			s.writeError(w, r, "", err)
			return
		}
		peer, node := peerOf(r.RemoteAddr), caller.NodeID.Node
		if node != "" {
			peer = "node " + node + " " + caller.NodeID.UID
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
	if !refused {
		s.known.add(peerOf(r.RemoteAddr))
	}
	if refused && callerOf(r).IsNode() {
		refused = isUnauthorized(s.checkNode(r))
	}
	if refused {
		w.Header().Set("Connection", "close")
	}
	countAttempt(r, refused)
}

// countAttempt ends the attempt of a request, and counts it or not.
func countAttempt(r *http.Request, counted bool) {
	if a, ok := r.Context().Value(attemptKey{}).(*attempt); ok {
		a.end(counted)
	}
}

// checkNodeTimeout limits the check of one node.
const checkNodeTimeout = 10 * time.Second

// checkNode returns nil if the client is a node that still belongs to the cluster. It asks the
// backend once for each request, and also if the client has disconnected: a removed node does not
// evade the count of its refused requests.
func (s *server) checkNode(r *http.Request) error {
	c, ok := r.Context().Value(callerKey{}).(*identifiedCaller)
	if !ok || !c.IsNode() {
		return &StatusError{Reason: "the client is not a node", Status: http.StatusUnauthorized}
	}
	if !c.checked {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), checkNodeTimeout)
		defer cancel()
		c.checked, c.nodeErr = true, s.backend.CheckNode(ctx, c.NodeID)
	}
	return c.nodeErr
}

// requireNode reports whether the client has shown the certificate of a node's agent. If not, it
// writes the error why, before the body is read or the cluster is asked.
func (s *server) requireNode(w http.ResponseWriter, r *http.Request, why string) bool {
	if callerOf(r).IsNode() {
		return true
	}
	s.writeError(w, r, "", &StatusError{Reason: why, Status: http.StatusUnauthorized})
	return false
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
	known := callerOf(r).IsNode()
	if no := (*StatusError)(nil); errors.As(why, &no) {
		known = known || no.Status == http.StatusConflict || no.Status == http.StatusLocked || no.Status == http.StatusServiceUnavailable
	}
	s.audit.recordRefusal(e, known)
}

// newAuditEvent returns an event about a request.
func newAuditEvent(r *http.Request, event, node, result string) AuditEvent {
	if c := callerOf(r); c.IsNode() {
		node = c.NodeID.Node
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
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return token
}

func (s *server) handleDescribe(w http.ResponseWriter, r *http.Request) {
	o, err := s.backend.DescribeCluster(r.Context(), callerOf(r))
	s.writeReply(w, r, o, err)
}

func (s *server) handleJoin(w http.ResponseWriter, r *http.Request) {
	var c JoinRequest
	if err := decodeStrictly(r, &c); err != nil || c.Node == "" || c.MachineID == "" || c.Address == "" || len(c.Node) > maxNodeName || len(c.MachineID) > maxMachineID {
		s.refuseBadRequest(w, r, "cannot decode the join request")
		return
	}
	c.Address = canonicalAddress(c.Address) // the backend compares it with those of nodes and networks
	a, err := s.backend.Admit(r.Context(), callerOf(r), c)
	if err != nil {
		s.writeError(w, r, c.Node, err)
		return
	}
	s.audit.record(newAuditEvent(r, AuditAdmission, c.Node, "admitted with address "+c.Address))
	s.writeReply(w, r, a, nil)
}

// handleRenew renews the certificate of the agent that sends the request.
func (s *server) handleRenew(w http.ResponseWriter, r *http.Request) {
	if !s.requireNode(w, r, "only a node can renew its certificate, authenticated by it") {
		return
	}
	var q RenewRequest
	if err := decodeStrictly(r, &q); err != nil {
		s.refuseBadRequest(w, r, "cannot decode the request for a certificate")
		return
	}
	a, err := s.backend.Renew(r.Context(), callerOf(r), q)
	if err == nil {
		countAttempt(r, true) // like a refused request: each one costs a signature and a line in the audit log
		s.audit.record(newAuditEvent(r, AuditAdmission, "", "got a new certificate for its agent"))
	}
	s.writeReply(w, r, a, err)
}

// decodeStrictly decodes the JSON body of a request, which must not have unknown fields.
func decodeStrictly(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	return d.Decode(into)
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

// allowRead reports whether the client may read blobs: it needs the certificate of a node's
// agent, or a token. If not, it writes the error.
func (s *server) allowRead(w http.ResponseWriter, r *http.Request) bool {
	c := callerOf(r)
	if c.IsNode() {
		if err := s.checkNode(r); err == nil || c.Bearer == "" {
			return s.finishRead(w, r, err)
		}
	}
	return s.finishRead(w, r, s.checkToken(r, c))
}

// checkToken returns nil if the token of the client may read blobs. The backend never gets a client
// without a token: on a worker, it shows the worker's own certificate to a controller.
func (s *server) checkToken(r *http.Request, c Caller) error {
	if c.Bearer == "" {
		reason := "the request has no token"
		if id, ok := r.Context().Value(callerKey{}).(*identifiedCaller); ok && id.certErr != nil {
			reason += ", and its certificate is not that of a node of this cluster: " + id.certErr.Error()
		}
		return &StatusError{Reason: reason, Status: http.StatusUnauthorized}
	}
	return s.backend.CheckReadAccess(r.Context(), c)
}

// finishRead ends the check of a client that wants to read, and writes its error, if any.
func (s *server) finishRead(w http.ResponseWriter, r *http.Request, err error) bool {
	if err != nil {
		s.writeError(w, r, "", err)
		return false
	}
	s.endAttempt(w, r, false)
	return true
}

// handleVersion reports whether the client may read blobs. A worker asks on behalf of its own client:
// it sends the client's token, and the key that the client has shown as the query "key". Then the
// worker's certificate does not count for the client, even if the client has no token.
func (s *server) handleVersion(w http.ResponseWriter, r *http.Request) {
	c := callerOf(r)
	ok := false
	switch query := r.URL.Query(); {
	case query.Has("key") && c.IsNode():
		err := s.checkNode(r)
		if err == nil {
			client := Caller{Bearer: c.Bearer, Key: query.Get("key")}
			if client.Key == noKey {
				client.Key = ""
			}
			err = s.checkToken(r, client)
		}
		ok = s.finishRead(w, r, err)
	case c.Bearer != "":
		ok = s.finishRead(w, r, s.checkToken(r, c))
	default:
		ok = s.allowRead(w, r)
	}
	if ok {
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
