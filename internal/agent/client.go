package agent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

// requestTimeout limits one request and its response.
const requestTimeout = 20 * time.Second

// Client is a cluster as a joining host uses it.
type Client struct {
	token       token.Token
	certificate func() (*tls.Certificate, error) // nil for none
	connections atomic.Pointer[connections]
	blobNodes   []string      // nodes to read blobs from, host:port
	nextNode    atomic.Uint32 // index of the node to try first, in turn
	failedAt    sync.Map      // by node: when it last could not be reached, a time.Time
}

// connections are those of a Client since it was created or has last reconnected.
type connections struct {
	controllers *http.Client // connects to agents of controllers only
	nodes       *http.Client // connects to agents of all nodes, which must not learn the secret of the token
}

func (c *connections) closeIdle() {
	c.controllers.CloseIdleConnections()
	c.nodes.CloseIdleConnections()
}

// ErrPinMismatch is returned if the server does not belong to the cluster of
// the token.
var ErrPinMismatch = errors.New("its certificate is not from the cluster of the token")

// errNotAgent is returned if the server has a certificate of the cluster that is not an
// agent's, such as a kubelet's.
var errNotAgent = errors.New("its certificate is not that of a node's agent")

// errNotController is returned if the server is the agent of a worker where a controller
// is needed.
var errNotController = errors.New("its certificate is not that of a controller's agent")

// NewClient returns a client for the cluster of the token. It does not connect.
// certificate returns the certificate with which the client identifies itself; nil for none.
func NewClient(t token.Token, certificate func() (*tls.Certificate, error)) *Client {
	c := &Client{token: t, certificate: certificate, blobNodes: slices.Clone(t.Addresses)}
	c.connections.Store(c.newConnections())
	c.nextNode.Store(rand.Uint32N(1 << 20)) // hosts that join at the same time start with different nodes
	return c
}

func (c *Client) newConnections() *connections {
	return &connections{controllers: newHTTPClient(c.token.Pin, c.certificate, true), nodes: newHTTPClient(c.token.Pin, c.certificate, false)}
}

// newHTTPClient returns a client that connects only to agents below the authority with
// the pin; with onlyControllers, only to those of controllers. It follows no redirect: a
// node must not choose where a request goes.
func newHTTPClient(pin string, certificate func() (*tls.Certificate, error), onlyControllers bool) *http.Client {
	transport := &http.Transport{
		Proxy:                 nil, // nodes of a cluster reach each other
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		ResponseHeaderTimeout: requestTimeout,
		MaxIdleConnsPerHost:   4,
		ForceAttemptHTTP2:     false,
	}
	transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		conn, err := transport.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		conf := &tls.Config{
			MinVersion:         tls.VersionTLS13,
			ServerName:         host,
			InsecureSkipVerify: true, //nolint:gosec // verifyPin replaces it: the pin takes the place of trusted authorities
			VerifyConnection: func(s tls.ConnectionState) error {
				if err := verifyPin(s, pin, host); err != nil {
					return err
				}
				return verifyAgent(s, onlyControllers)
			},
		}
		if certificate != nil {
			conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate() }
		}
		return handshake(ctx, conn, conf)
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// handshakeTimeout limits a TLS handshake: a controller may be busy.
const handshakeTimeout = 10 * time.Second

// handshake returns the TLS connection over conn, or closes it.
func handshake(ctx context.Context, conn net.Conn, conf *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	c := tls.Client(conn, conf)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// Reconnect makes new requests use the current certificate of the client. Requests that
// still run keep their connections, which no later request uses.
func (c *Client) Reconnect() { c.connections.Swap(c.newConnections()).closeIdle() }

// maxBlobNodes is how many nodes one host reads blobs from: enough to
// distribute the load, and few enough to learn which ones fail.
const maxBlobNodes = 12

// UseNodes lets blobs be read from those of nodes that are Ready, in addition
// to the controllers of the token: from a random sample if there are many. It
// must not be called while blobs are read.
func (c *Client) UseNodes(nodes []Node) {
	more := slices.Clone(nodes)
	rand.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
	for _, n := range more {
		if !n.Ready || len(n.Addresses) == 0 || len(c.blobNodes) >= maxBlobNodes {
			continue
		}
		if at := net.JoinHostPort(n.Addresses[0], strconv.Itoa(Port)); !slices.Contains(c.blobNodes, at) {
			c.blobNodes = append(c.blobNodes, at)
		}
	}
}

// verifyPin verifies that the server sent a certificate for host, a name or an IP
// address, and the authority that signed it, and that the authority has the pin.
// s.ServerName is "" for an IP address, because it is what the client sent as SNI.
func verifyPin(s tls.ConnectionState, pin, host string) error {
	if len(s.PeerCertificates) < 2 {
		return ErrPinMismatch
	}
	leaf, ca := s.PeerCertificates[0], s.PeerCertificates[1]
	if token.PublicKeyPin(ca) != pin || !ca.IsCA {
		return ErrPinMismatch
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("its certificate is not valid: %w", err)
	}
	return nil
}

// verifyAgent verifies that the server's certificate, which verifyPin has verified, is an
// agent's. Every node has certificates of the same authority for its kubelet.
func verifyAgent(s tls.ConnectionState, onlyControllers bool) error {
	id, ok := nodecert.NodeIDOf(s.PeerCertificates[0])
	switch {
	case !ok:
		return errNotAgent
	case onlyControllers && id.Role != token.Controller:
		return errNotController
	}
	return nil
}

// Close closes idle connections.
func (c *Client) Close() { c.connections.Load().closeIdle() }

// DeniedError is a refusal of the cluster itself; all its nodes would respond
// the same.
type DeniedError struct{ Reason string }

// Error returns the reason.
func (d *DeniedError) Error() string { return d.Reason }

// BusyError is returned if the cluster cannot process the request now.
type BusyError struct{ Reason string }

// Error returns the reason.
func (b *BusyError) Error() string { return b.Reason }

// overloadedError is returned if a node serves too many requests.
type overloadedError struct{ reason string }

func (f *overloadedError) Error() string { return f.reason }

// DescribeCluster returns what this host would join.
func (c *Client) DescribeCluster(ctx context.Context) (ClusterInfo, error) {
	var o ClusterInfo
	err := c.askControllers(ctx, http.MethodGet, JoinPath, nil, &o)
	return o, err
}

// Admit requests that the cluster admits this host.
func (c *Client) Admit(ctx context.Context, request JoinRequest) (JoinResponse, error) {
	var a JoinResponse
	body, err := json.Marshal(request)
	if err != nil {
		return a, err
	}
	err = c.askControllers(ctx, http.MethodPost, JoinPath, body, &a)
	return a, err
}

// Renew requests a new certificate for the agent of this node.
func (c *Client) Renew(ctx context.Context, r RenewRequest) (RenewResponse, error) {
	var a RenewResponse
	body, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	err = c.askControllers(ctx, http.MethodPost, RenewPath, body, &a)
	return a, err
}

// FetchControllerSecrets returns what this host, which was admitted as a controller, shares with all
// controllers. It must show the certificate of its agent.
func (c *Client) FetchControllerSecrets(ctx context.Context) (ControllerSecrets, error) {
	var a ControllerSecrets
	err := c.askControllers(ctx, http.MethodGet, ControllerSecretsPath, nil, &a)
	return a, err
}

// errNoController is the error of a request to the controllers of a client that knows none.
var errNoController = errors.New("this host does not know a controller of its cluster")

// bearer returns the credential of the token; "" for a node, which shows its certificate.
func (c *Client) bearer() string {
	if c.token.ID == "" {
		return ""
	}
	return c.token.Bearer()
}

// askControllers sends a request to one controller after another until one
// responds.
func (c *Client) askControllers(ctx context.Context, method, path string, body []byte, answer any) error {
	if len(c.token.Addresses) == 0 {
		return errNoController
	}
	var errs []error
	for _, address := range c.token.Addresses {
		err := requestJSON(ctx, c.connections.Load().controllers, clientRequest{method, "https://" + address + path, c.bearer(), body}, answer)
		var no *DeniedError
		var later *BusyError
		if err == nil || errors.As(err, &no) || errors.As(err, &later) || ctx.Err() != nil {
			return err
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return errors.Join(errs...)
}

// CheckPeer sends the peer check ask to the node at an address and decodes the
// response into answer.
func (c *Client) CheckPeer(ctx context.Context, at netip.Addr, ask, answer any) error {
	return c.postPeerCheck(ctx, netip.AddrPortFrom(at, Port), ask, answer)
}

func (c *Client) postPeerCheck(ctx context.Context, at netip.AddrPort, ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	return requestJSON(ctx, c.connections.Load().nodes, clientRequest{http.MethodPost, "https://" + at.String() + PeerPath, c.token.ReadOnlyBearer(), body}, answer)
}

// CheckReadAccess asks the controllers whether a client with this bearer token and
// the key that it has shown may read blobs; the error is a *DeniedError if not.
func (c *Client) CheckReadAccess(ctx context.Context, bearer, key string) error {
	if bearer == "" { // a controller would judge this node instead
		return &DeniedError{"the request has no token"}
	}
	if len(c.token.Addresses) == 0 { // not a permission
		return errNoController
	}
	var errs []error
	for _, address := range c.token.Addresses {
		at := "https://" + address + ReadPath + "?key=" + url.QueryEscape(cmp.Or(key, noKey))
		err := requestJSON(ctx, c.connections.Load().controllers, clientRequest{http.MethodGet, at, bearer, nil}, &struct{}{})
		var no *DeniedError
		if err == nil || errors.As(err, &no) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// noKey is the key of a client without a certificate. No key has this pin.
const noKey = "none"

// clientRequest is one request.
type clientRequest struct {
	method, url, bearer string
	body                []byte
}

// requestJSON sends a request and decodes the response into answer.
func requestJSON(ctx context.Context, client *http.Client, q clientRequest, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := doRequest(ctx, client, q, nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	return json.NewDecoder(io.LimitReader(res.Body, 4<<20)).Decode(answer)
}

// doRequest sends one request with its bearer token.
func doRequest(ctx context.Context, client *http.Client, q clientRequest, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if q.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+q.bearer)
	}
	return sendRequest(client, req)
}

// sendRequest sends a request and returns an error unless the response is a
// success.
func sendRequest(client *http.Client, req *http.Request) (*http.Response, error) {
	res, err := client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // without a body the status is reported
	why := ErrorMessage(text)
	if why == "" {
		why = "it responds with " + res.Status
	}
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusBadRequest:
		return nil, &DeniedError{why}
	case http.StatusLocked:
		return nil, &BusyError{why}
	case http.StatusTooManyRequests:
		return nil, &overloadedError{why}
	}
	return nil, errors.New(why)
}

// withoutURL returns a client's error without the URL, which the caller adds
// itself.
func withoutURL(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
