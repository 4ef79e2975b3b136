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
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/token"
)

// askTimeout bounds one question and its answer.
const askTimeout = 20 * time.Second

// Cluster is a cluster as a joining host sees it.
type Cluster struct {
	token  token.Token
	client *http.Client
	next   atomic.Uint32 // whom to ask first, in turn
}

// ErrPin says that who answers is not the cluster that the token is for.
var ErrPin = errors.New("its certificate is not of the cluster that the token is for")

// New is the cluster that a token names. It does not connect.
func New(t token.Token) *Cluster {
	transport := &http.Transport{
		Proxy:                 nil, // nodes of a cluster reach each other
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: askTimeout,
		MaxIdleConnsPerHost:   4,
		ForceAttemptHTTP2:     false,
	}
	transport.TLSClientConfig = &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // replaced by prove: the pin stands in for a list of authorities
		VerifyConnection:   func(s tls.ConnectionState) error { return prove(s, t.Pin) },
	}
	return &Cluster{token: t, client: &http.Client{Transport: transport}}
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

// Peer asks the node at an address what lies between it and this host.
func (c *Cluster) Peer(ctx context.Context, at netip.Addr, question, answer any) error {
	return c.peerAt(ctx, netip.AddrPortFrom(at, agent.Port), question, answer)
}

func (c *Cluster) peerAt(ctx context.Context, at netip.AddrPort, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	return c.askOne(ctx, http.MethodPost, "https://"+at.String()+agent.PeerPath, body, answer)
}

// ask asks one controller after the other until one answers.
func (c *Cluster) ask(ctx context.Context, method, path string, body []byte, answer any) error {
	var errs []error
	for _, address := range c.token.Addresses {
		err := c.askOne(ctx, method, "https://"+address+path, body, answer)
		var no *Denied
		var later *Busy
		if err == nil || errors.As(err, &no) || errors.As(err, &later) || ctx.Err() != nil {
			return err
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
	}
	return errors.Join(errs...)
}

func (c *Cluster) askOne(ctx context.Context, method, url string, body []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	res, err := c.do(ctx, method, url, bytes.NewReader(body), nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	return json.NewDecoder(io.LimitReader(res.Body, 4<<20)).Decode(answer)
}

// do sends one request and turns all but success into errors.
func (c *Cluster) do(ctx context.Context, method, url string, body io.Reader, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+c.token.Bearer())
	res, err := c.client.Do(req)
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
	}
	return nil, errors.New(why)
}

// plain is a client's error without the URL, which the caller names itself.
func plain(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
