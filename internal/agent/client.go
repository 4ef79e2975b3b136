package agent

import (
	"bytes"
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
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/plinthdev/plinth/internal/token"
)

// requestTimeout limits one request and its response.
const requestTimeout = 20 * time.Second

// Client is a cluster as a joining host uses it.
type Client struct {
	token     token.Token
	client    *http.Client
	blobNodes []string      // nodes to read blobs from, host:port
	nextNode  atomic.Uint32 // index of the node to try first, in turn
	failedAt  sync.Map      // by node: when it last could not be reached, a time.Time
}

// ErrPinMismatch is returned if the server does not belong to the cluster of
// the token.
var ErrPinMismatch = errors.New("its certificate is not from the cluster of the token")

// NewClient returns a client for the cluster of the token. It does not connect.
func NewClient(t token.Token) *Client {
	transport := &http.Transport{
		Proxy:                 nil, // nodes of a cluster reach each other
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second, // a controller may be busy
		ResponseHeaderTimeout: requestTimeout,
		MaxIdleConnsPerHost:   4,
		ForceAttemptHTTP2:     false,
	}
	transport.TLSClientConfig = &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // verifyPin replaces it: the pin takes the place of trusted authorities
		VerifyConnection:   func(s tls.ConnectionState) error { return verifyPin(s, t.Pin) },
	}
	c := &Client{token: t, client: &http.Client{Transport: transport}, blobNodes: slices.Clone(t.Addresses)}
	c.nextNode.Store(rand.Uint32N(1 << 20)) // hosts that join at the same time start with different nodes
	return c
}

// UseCertificate sets the source of the certificate that the client shows. It must be called
// before the first request.
func (c *Client) UseCertificate(get func(*tls.CertificateRequestInfo) (*tls.Certificate, error)) {
	c.client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = get
}

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

// verifyPin verifies that the server sent a certificate and the authority that
// signed it, and that the authority has the pin.
func verifyPin(s tls.ConnectionState, pin string) error {
	if len(s.PeerCertificates) < 2 {
		return ErrPinMismatch
	}
	leaf, ca := s.PeerCertificates[0], s.PeerCertificates[1]
	if token.PublicKeyPin(ca) != pin || !ca.IsCA {
		return ErrPinMismatch
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: s.ServerName, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("its certificate is not valid: %w", err)
	}
	return nil
}

// Close closes idle connections.
func (c *Client) Close() { c.client.CloseIdleConnections() }

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
func (c *Client) DescribeCluster(ctx context.Context, machineID string) (ClusterInfo, error) {
	var o ClusterInfo
	err := c.askControllers(ctx, http.MethodGet, JoinPath+"?machine="+machineID, nil, &o)
	return o, err
}

// Admit requests that the cluster admits this host.
func (c *Client) Admit(ctx context.Context, claim JoinRequest) (JoinResponse, error) {
	var a JoinResponse
	body, err := json.Marshal(claim)
	if err != nil {
		return a, err
	}
	err = c.askControllers(ctx, http.MethodPost, JoinPath, body, &a)
	return a, err
}

// askControllers sends a request to one controller after another until one
// responds.
func (c *Client) askControllers(ctx context.Context, method, path string, body []byte, answer any) error {
	var errs []error
	for _, address := range c.token.Addresses {
		err := c.requestJSON(ctx, clientRequest{method, "https://" + address + path, c.token.Bearer(), body}, answer)
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
	return c.requestJSON(ctx, clientRequest{http.MethodPost, "https://" + at.String() + PeerPath, c.token.ReadOnlyBearer(), body}, answer)
}

// CheckReadAccess asks the controllers whether a client with this bearer token
// may read blobs; the error is a *DeniedError if not.
func (c *Client) CheckReadAccess(ctx context.Context, bearer string) error {
	var errs []error
	for _, address := range c.token.Addresses {
		err := c.requestJSON(ctx, clientRequest{http.MethodGet, "https://" + address + ReadPath, bearer, nil}, &struct{}{})
		var no *DeniedError
		if err == nil || errors.As(err, &no) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// clientRequest is one request.
type clientRequest struct {
	method, url, bearer string
	body                []byte
}

// requestJSON sends a request and decodes the response into answer.
func (c *Client) requestJSON(ctx context.Context, q clientRequest, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := c.doRequest(ctx, q, nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	return json.NewDecoder(io.LimitReader(res.Body, 4<<20)).Decode(answer)
}

// doRequest sends one request with its bearer token.
func (c *Client) doRequest(ctx context.Context, q clientRequest, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+q.bearer)
	return sendRequest(c.client, req)
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
