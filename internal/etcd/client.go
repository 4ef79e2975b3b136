// Package etcd lists, adds, promotes and removes the members of the cluster's
// etcd. It uses etcd's JSON gateway, which needs no client library.
package etcd

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
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/ports"
)

// Address and files of the etcd that k0s runs; it listens on loopback only.
const (
	Endpoint  = "https://127.0.0.1:" + ports.EtcdClientText
	CAPath    = "/var/lib/k0s/pki/etcd/ca.crt"
	CAKeyPath = "/var/lib/k0s/pki/etcd/ca.key"
	CertPath  = "/var/lib/k0s/pki/apiserver-etcd-client.crt"
	KeyPath   = "/var/lib/k0s/pki/apiserver-etcd-client.key"
)

// Files reads the files of a host.
type Files interface {
	ReadFile(path string) ([]byte, error)
}

// Member is one member of etcd.
type Member struct {
	ID      string `json:"id"`                // decimal, in the format of etcd's gateway
	Name    string `json:"name"`              // host name; "" for a member that never started
	Address string `json:"address"`           // IP address or name at which the other members reach it
	Leader  bool   `json:"leader,omitempty"`  // it is the leader
	Learner bool   `json:"learner,omitempty"` // it has no vote yet
}

// Client is a client of the etcd on this controller.
type Client struct {
	http *http.Client
	base string
}

// New returns a client of the etcd on the controller whose files are given.
func New(files Files) (*Client, error) {
	var pem [3][]byte
	for i, path := range []string{CAPath, CertPath, KeyPath} {
		var err error
		if pem[i], err = files.ReadFile(path); err != nil {
			return nil, err
		}
	}
	cert, err := tls.X509KeyPair(pem[1], pem[2])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", CertPath, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem[0]) {
		return nil, errors.New(CAPath + " contains no certificate")
	}
	conf := &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	return &Client{base: Endpoint, http: &http.Client{Transport: &http.Transport{TLSClientConfig: conf, IdleConnTimeout: 30 * time.Second}, Timeout: 10 * time.Second}}, nil
}

// Members returns the members, sorted by name. A response means that the local
// member is up, not that the cluster has a quorum: without one, Leader is false
// for all members.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	list, err := c.listMembers(ctx)
	if err != nil {
		return nil, err
	}
	var status struct {
		Leader string `json:"leader"`
	}
	if err := c.postJSON(ctx, "/v3/maintenance/status", map[string]any{}, &status); err != nil {
		return nil, err
	}
	members := make([]Member, 0, len(list))
	for _, m := range list {
		members = append(members, Member{ID: m.ID, Name: m.Name, Address: peerHost(m.PeerURLs), Leader: m.ID == status.Leader, Learner: m.IsLearner})
	}
	slices.SortFunc(members, func(x, y Member) int { return strings.Compare(x.Name+x.Address, y.Name+y.Address) })
	return members, nil
}

// peerHost returns the host of the first peer URL, or "" if there is none.
func peerHost(urls []string) string {
	if len(urls) == 0 {
		return ""
	}
	u, err := url.Parse(urls[0])
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// Remove removes the member with this id. A member that no longer exists is not
// an error.
func (c *Client) Remove(ctx context.Context, id string) error {
	err := c.postJSON(ctx, "/v3/cluster/member/remove", map[string]any{"ID": id}, &struct{}{})
	if err != nil && strings.Contains(err.Error(), "member not found") {
		return nil
	}
	return err
}

// SetPeerAddress tells the members that the one with this id is at the IP address. The others connect to it there;
// where the member itself listens is in its configuration.
func (c *Client) SetPeerAddress(ctx context.Context, id, address string) error {
	url := "https://" + net.JoinHostPort(address, ports.EtcdPeerText)
	return c.postJSON(ctx, "/v3/cluster/member/update", map[string]any{"ID": id, "peerURLs": []string{url}}, &struct{}{})
}

// postJSON posts in as JSON to path and decodes the response into out. An error
// response is returned with the message of etcd.
func (c *Client) postJSON(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("etcd at " + c.base + " did not respond in time")
	}
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var e struct{ Message, Error string }
		_ = json.Unmarshal(raw, &e) // a body that is not JSON has no message
		if e.Message == "" {
			e.Message = e.Error
		}
		return fmt.Errorf("etcd returned %s: %s", resp.Status, e.Message)
	}
	return json.Unmarshal(raw, out)
}
