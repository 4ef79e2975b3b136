// Package peer is the client of the agent API. It verifies by the pin of the
// certificate authority that a node belongs to the cluster of the token,
// requests to join, and reads blobs from several nodes at once.
package peer

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

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/token"
)

// requestTimeout limits one request and its response.
const askTimeout = 20 * time.Second

// Client is a cluster as a joining host uses it.
type Cluster struct {
	token   token.Token
	client  *http.Client
	holders []string      // nodes to read blobs from, host:port
	next    atomic.Uint32 // index of the node to try first, in turn
	failed  sync.Map      // by node: when it last could not be reached, a time.Time
}

// ErrPinMismatch is returned if the server does not belong to the cluster of
// the token.
var ErrPin = errors.New("its certificate is not from the cluster of the token")

// NewClient returns a client for the cluster of the token. It does not connect.
func New(t token.Token) *Cluster {
	transport := &http.Transport{
		Proxy:                 nil, // nodes of a cluster reach each other
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second, // a controller may be busy
		ResponseHeaderTimeout: askTimeout,
		MaxIdleConnsPerHost:   4,
		ForceAttemptHTTP2:     false,
	}
	transport.TLSClientConfig = &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // verifyPin replaces it: the pin takes the place of trusted authorities
		VerifyConnection:   func(s tls.ConnectionState) error { return prove(s, t.Pin) },
	}
	c := &Cluster{token: t, client: &http.Client{Transport: transport}, holders: slices.Clone(t.Addresses)}
	c.next.Store(rand.Uint32N(1 << 20)) // hosts that join at the same time start with different nodes
	return c
}

// maxBlobNodes is how many nodes one host reads blobs from: enough to
// distribute the load, and few enough to learn which ones fail.
const maxHolders = 12

// UseNodes lets blobs be read from those of nodes that are Ready, in addition
// to the controllers of the token: from a random sample if there are many. It
// must not be called while blobs are read.
func (c *Cluster) Spread(nodes []agent.Node) {
	more := slices.Clone(nodes)
	rand.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
	for _, n := range more {
		if !n.Ready || len(n.Addresses) == 0 || len(c.holders) >= maxHolders {
			continue
		}
		if at := net.JoinHostPort(n.Addresses[0], strconv.Itoa(agent.Port)); !slices.Contains(c.holders, at) {
			c.holders = append(c.holders, at)
		}
	}
}

// verifyPin verifies that the server sent a certificate and the authority that
// signed it, and that the authority has the pin.
func prove(s tls.ConnectionState, pin string) error {
	if len(s.PeerCertificates) < 2 {
		return ErrPin
	}
	leaf, ca := s.PeerCertificates[0], s.PeerCertificates[1]
	if token.Pin(ca) != pin || !ca.IsCA {
		return ErrPin
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: s.ServerName, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("its certificate is not valid: %w", err)
	}
	return nil
}

// Close closes idle connections.
func (c *Cluster) Close() { c.client.CloseIdleConnections() }

// DeniedError is a refusal of the cluster itself; all its nodes would respond
// the same.
type Denied struct{ Why string }

// Error returns the reason.
func (d *Denied) Error() string { return d.Why }

// BusyError is returned if the cluster cannot process the request now.
type Busy struct{ Why string }

// Error returns the reason.
func (b *Busy) Error() string { return b.Why }

// overloadedError is returned if a node serves too many requests.
type full struct{ why string }

func (f *full) Error() string { return f.why }

// DescribeCluster returns what this host would join.
func (c *Cluster) Offer(ctx context.Context, machineID string) (agent.Offer, error) {
	var o agent.Offer
	err := c.ask(ctx, http.MethodGet, agent.JoinPath+"?machine="+machineID, nil, &o)
	return o, err
}

// Admit requests that the cluster admits this host.
func (c *Cluster) Admit(ctx context.Context, claim agent.Claim) (agent.Admission, error) {
	var a agent.Admission
	body, err := json.Marshal(claim)
	if err != nil {
		return a, err
	}
	err = c.ask(ctx, http.MethodPost, agent.JoinPath, body, &a)
	return a, err
}

// askControllers sends a request to one controller after another until one
// responds.
func (c *Cluster) ask(ctx context.Context, method, path string, body []byte, answer any) error {
	var errs []error
	for _, address := range c.token.Addresses {
		err := c.askOne(ctx, question{method, "https://" + address + path, c.token.Bearer(), body}, answer)
		var no *Denied
		var later *Busy
		if err == nil || errors.As(err, &no) || errors.As(err, &later) || ctx.Err() != nil {
			return err
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return errors.Join(errs...)
}

// CheckPeer sends the peer check ask to the node at an address and decodes the
// response into answer.
func (c *Cluster) Peer(ctx context.Context, at netip.Addr, ask, answer any) error {
	return c.peerAt(ctx, netip.AddrPortFrom(at, agent.Port), ask, answer)
}

func (c *Cluster) peerAt(ctx context.Context, at netip.AddrPort, ask, answer any) error {
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	return c.askOne(ctx, question{http.MethodPost, "https://" + at.String() + agent.PeerPath, c.token.Reader(), body}, answer)
}

// CheckReadAccess asks the controllers whether a client with this bearer token
// may read blobs; the error is a *DeniedError if not.
func (c *Cluster) Reads(ctx context.Context, bearer string) error {
	var errs []error
	for _, address := range c.token.Addresses {
		err := c.askOne(ctx, question{http.MethodGet, "https://" + address + agent.ReadPath, bearer, nil}, &struct{}{})
		var no *Denied
		if err == nil || errors.As(err, &no) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// clientRequest is one request.
type question struct {
	method, url, bearer string
	body                []byte
}

// requestJSON sends a request and decodes the response into answer.
func (c *Cluster) askOne(ctx context.Context, q question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	res, err := c.do(ctx, q, nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	return json.NewDecoder(io.LimitReader(res.Body, 4<<20)).Decode(answer)
}

// doRequest sends one request with its bearer token.
func (c *Cluster) do(ctx context.Context, q question, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.url, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+q.bearer)
	return send(c.client, req)
}

// sendRequest sends a request and returns an error unless the response is a
// success.
func send(client *http.Client, req *http.Request) (*http.Response, error) {
	res, err := client.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // without a body the status is reported
	why := agent.Reason(text)
	if why == "" {
		why = "it responds with " + res.Status
	}
	switch res.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusBadRequest:
		return nil, &Denied{why}
	case http.StatusLocked:
		return nil, &Busy{why}
	case http.StatusTooManyRequests:
		return nil, &full{why}
	}
	return nil, errors.New(why)
}

// withoutURL returns a client's error without the URL, which the caller adds
// itself.
func plain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
