// Package voter owns how a controller that joins becomes a member of etcd: it is
// taken in without a vote, and gets one once it has caught up. So a host that dies
// in its join costs no quorum. Towards k0s on that host it speaks k0s's own
// join API. It refuses to judge k0s's tokens, which k0s does.
package voter

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/k0sproject/k0s/pkg/apis/k0s/v1beta1"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
)

// Door is where k0s on a host that joins asks.
type Door struct {
	Files host.Files
	K0s   string // k0s's join API on this controller, such as K0s
	Etcd  func() (Store, error)
}

// Store is etcd, as far as members come into it.
type Store interface {
	AddLearner(ctx context.Context, name, peerURL string) (initial []string, err error)
	Promote(ctx context.Context) (names []string, err error)
}

// K0s is where k0s's own join API is on every controller.
const K0s = "https://" + k0s.Loopback + ":9443"

var _ agent.Electors = Door{}

// askTimeout bounds k0s's answer.
const askTimeout = 10 * time.Second

// Authorities is what k0s itself gives to a controller that shows its token.
func (d Door) Authorities(ctx context.Context, bearer string) (json.RawMessage, error) {
	ca, err := d.Files.ReadFile(k0s.CACert)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.K0s+agent.AuthoritiesPath, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	res, err := (&http.Client{Transport: transport, Timeout: askTimeout}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		return nil, &agent.Refusal{Why: "k0s does not take this token", Status: http.StatusUnauthorized}
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("k0s answers %s: %s", res.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// Member takes a host into etcd, without a vote. Who may have the cluster's
// authorities may become one.
func (d Door) Member(ctx context.Context, bearer string, request []byte) (json.RawMessage, error) {
	if _, err := d.Authorities(ctx, bearer); err != nil {
		return nil, err
	}
	var ask v1beta1.EtcdRequest
	if err := errors.Join(json.Unmarshal(request, &ask), ask.Validate()); err != nil {
		return nil, &agent.Refusal{Why: "the request cannot be read: " + err.Error(), Status: http.StatusBadRequest}
	}
	cert, err := d.Files.ReadFile(etcd.CAPath)
	if err != nil {
		return nil, err
	}
	key, err := d.Files.ReadFile(etcd.CAKeyPath)
	if err != nil {
		return nil, err
	}
	store, err := d.Etcd()
	if err != nil {
		return nil, err
	}
	initial, err := store.AddLearner(ctx, ask.Node, ask.PeerAddress)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v1beta1.EtcdResponse{CA: v1beta1.CaResponse{Cert: cert, Key: key}, InitialCluster: initial})
}

// Members is etcd, as far as old members come into it.
type Members interface {
	Members(ctx context.Context) ([]etcd.Member, error)
	Remove(ctx context.Context, id string) error
}

// Clear takes out of etcd what stands in the way of a host that has nothing of
// etcd's: what is at its address never will be more, and a member without a vote
// that never began is of a host whose turn is over; etcd takes one of its kind at
// a time. One that has begun is a *agent.Refusal: it may catch up at any moment.
func Clear(ctx context.Context, store Members, claim agent.Claim) error {
	members, err := store.Members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		switch {
		case m.Address == claim.Address, m.Learner && m.Name == "":
			if err := store.Remove(ctx, m.ID); err != nil {
				return err
			}
		case m.Learner:
			return &agent.Refusal{Why: fmt.Sprintf("controller %s has not caught up with the others yet; if it never will: plinth node remove %s", m.Name, m.Name), Status: http.StatusLocked}
		}
	}
	return nil
}

// Every is how often a controller is to look for a member that has caught up: k0s
// on that host waits for it.
const Every = time.Second

// Watch gives, until ctx ends, each member its vote that has caught up. All
// controllers do, as the one that took it in may be gone; one that is no
// member itself yet finds nothing to do.
func Watch(ctx context.Context, tick <-chan time.Time, open func() (Store, error), note func(string)) {
	var store Store
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		var err error
		if store == nil {
			if store, err = open(); err != nil {
				continue // there is no etcd here yet
			}
		}
		names, err := store.Promote(ctx)
		for _, name := range names {
			note("etcd member " + name + " has caught up and votes")
		}
		if err != nil {
			store = nil // its certificates may have been renewed
		}
	}
}
