package agent

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/time/rate"
)

// The limits for one client, and for all clients together.
const (
	failuresPerSecond = 1  // refused requests per client address
	failuresAtOnce    = 10 // likewise, in a burst
	maxStreams        = 32 // blobs that are read at once, unless Service sets a limit
	maxBodyBytes      = 64 << 10
	blobTimeout       = 15 * time.Minute // for one blob
	maxCallers        = 1024             // clients whose refused requests are counted
)

// Service is the configuration of the server on one node.
type Service struct {
	Backend     Backend
	Store       BlobStore
	NodeRemover NodeRemover  // removes nodes; nil if this node cannot
	EtcdJoiner  EtcdJoiner   // adds controllers to etcd; nil if this node cannot
	PeerCheck   http.Handler // answers the peer checks of hosts that may join; nil for none
	MaxStreams  int          // blobs that are read at once; 0 for the default
}

// Handler returns the HTTP handler of the service.
func (n Service) Handler() http.Handler {
	if n.MaxStreams == 0 {
		n.MaxStreams = maxStreams
	}
	s := &server{backend: n.Backend, store: n.Store, streams: make(chan struct{}, n.MaxStreams), failures: map[string]*rate.Limiter{}}
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
	backend Backend
	store   BlobStore
	streams chan struct{}

	mu       sync.Mutex
	failures map[string]*rate.Limiter // by client address
}

// failureLimiter returns the limiter of the client's refused requests. If there
// are too many clients, all counts start again at zero: so memory is limited,
// and guessing 160 bits remains infeasible.
func (s *server) failureLimiter(r *http.Request) *rate.Limiter {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.failures[host]; ok {
		return l
	}
	if len(s.failures) >= maxCallers {
		clear(s.failures)
	}
	l := rate.NewLimiter(failuresPerSecond, failuresAtOnce)
	s.failures[host] = l
	return l
}

// limitFailures rejects clients with too many refused requests before their
// request is processed.
func (s *server) limitFailures(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.failureLimiter(r).Tokens() < 1 {
			w.Header().Set("Retry-After", "10")
			writeFailure(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "too many refused requests from this address")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		next.ServeHTTP(w, r)
	})
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
		s.countFailure(r)
		writeFailure(w, http.StatusBadRequest, "UNSUPPORTED", "cannot decode the join request")
		return
	}
	a, err := s.backend.Admit(r.Context(), bearerToken(r), c)
	s.writeReply(w, r, a, err)
}

// writeReply writes response as JSON, or err.
func (s *server) writeReply(w http.ResponseWriter, r *http.Request, response any, err error) {
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(response) // the client may have disconnected
}

// writeError writes a StatusError, or status 503 for any other error.
func (s *server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	var no *StatusError
	if !errors.As(err, &no) {
		writeFailure(w, http.StatusServiceUnavailable, "UNAVAILABLE", "cannot reach the cluster: "+err.Error())
		return
	}
	if no.Status == http.StatusUnauthorized {
		s.countFailure(r)
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeFailure(w, no.Status, "DENIED", no.Reason)
}

func (s *server) countFailure(r *http.Request) { s.failureLimiter(r).Allow() }

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
		s.writeError(w, r, err)
	}
	return err == nil
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
