// Package peer owns how a host asks the nodes of a cluster: it proves that they
// are the cluster's by the pin of its certificate authority, asks to join, and
// reads the blobs that they hold, from several at once, going on at another
// node where one fails. It refuses to talk to anybody whom the pin does not
// prove.
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

// askTimeout bounds one question and its answer.
const askTimeout = 20 * time.Second

// Cluster is a cluster as a joining host sees it.
type Cluster struct {
	token   token.Token
	client  *http.Client
	holders []string      // who is asked for blobs, host:port
	next    atomic.Uint32 // whom of them to ask first, in turn
	failed  sync.Map      // by holder: when it last could not be reached, a time.Time
}

// ErrPin says that who answers is not the cluster that the token is for.
var ErrPin = errors.New("its certificate is not of the cluster that the token is for")

// New is the cluster that a token names. It does not connect.
func New(t token.Token) *Cluster {
	transport := &http.Transport{
		Proxy:                 nil, // nodes of a cluster reach each other
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second, // a controller may be busy,
		ResponseHeaderTimeout: askTimeout,
		MaxIdleConnsPerHost:   4,
		ForceAttemptHTTP2:     false,
	}
	transport.TLSClientConfig = &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // replaced by prove: the pin stands in for a list of authorities
		VerifyConnection:   func(s tls.ConnectionState) error { return prove(s, t.Pin) },
	}
	c := &Cluster{token: t, client: &http.Client{Transport: transport}, holders: slices.Clone(t.Addresses)}
	c.next.Store(rand.Uint32N(1 << 20)) // hosts that join at once begin with different nodes
	return c
}

// maxHolders is how many nodes one host asks for blobs: enough to spread the
// load, and few enough to know each.
const maxHolders = 12

// Spread has blobs come from the Ready ones of nodes, too, besides the token's
// controllers: a sample of them where they are many. Not to be called while
// blobs are read.
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

// prove wants a chain of server and authority whose authority has the pin.
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
		return fmt.Errorf("its certificate does not hold: %w", err)
	}
	return nil
}

// Close ends idle connections.
func (c *Cluster) Close() { c.client.CloseIdleConnections() }

// Denied is a "no" of the cluster itself; all its nodes would say the same.
type Denied struct{ Why string }

// Error is the reason.
func (d *Denied) Error() string { return d.Why }

// Busy is a "not now" of the cluster.
type Busy struct{ Why string }

// Error is the reason.
func (b *Busy) Error() string { return b.Why }

// full is a node that does no more at this moment.
type full struct{ why string }

func (f *full) Error() string { return f.why }

// Offer asks what this host would join.
func (c *Cluster) Offer(ctx context.Context, machineID string) (agent.Offer, error) {
	var o agent.Offer
	err := c.ask(ctx, http.MethodGet, agent.JoinPath+"?machine="+machineID, nil, &o)
	return o, err
}

// Admit asks to be let in.
func (c *Cluster) Admit(ctx context.Context, claim agent.Claim) (agent.Admission, error) {
	var a agent.Admission
	body, err := json.Marshal(claim)
	if err != nil {
		return a, err
	}
	err = c.ask(ctx, http.MethodPost, agent.JoinPath, body, &a)
	return a, err
}

// ask asks one controller after the other until one answers.
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

// Peer asks the node at an address what lies between it and this host.
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

// Reads asks the controllers whether who shows bearer may read blobs; *Denied
// when not.
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

// question is one request.
type question struct {
	method, url, bearer string
	body                []byte
}

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

// do sends one request.
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

// send turns all but success into errors.
func send(client *http.Client, req *http.Request) (*http.Response, error) {
	res, err := client.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // what cannot be read is not said
	why := agent.Reason(text)
	if why == "" {
		why = "it answers " + res.Status
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

// plain is a client's error without the URL, which the caller names itself.
func plain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
