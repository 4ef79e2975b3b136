package agent

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
	"github.com/plinthdev/plinth/internal/ports"
)

// EtcdJoinProxy serves the join API of k0s to k0s on a joining host. It has k0s on this
// controller check the tokens.
type EtcdJoinProxy struct {
	Files   host.Files
	JoinAPI string // URL of k0s's join API on this controller, such as K0sJoinAPI
	Etcd    func() (LearnerStore, error)
}

// LearnerStore adds and promotes etcd learners: members without a vote.
type LearnerStore interface {
	AddLearner(ctx context.Context, name, peerURL string) (initial []string, err error)
	Promote(ctx context.Context) (names []string, err error)
}

// openLearnerStore returns the etcd on this controller. With an error, the store is nil and not
// an interface that holds a nil pointer.
func openLearnerStore(files etcd.Files) (LearnerStore, error) {
	client, err := etcd.New(files)
	if err != nil {
		return nil, err
	}
	return client, nil
}

// K0sJoinAPI is the URL of k0s's own join API on every controller.
const K0sJoinAPI = "https://" + k0s.Loopback + ":" + ports.K0sAPIText

var _ agent.EtcdJoiner = EtcdJoinProxy{}

// k0sTimeout is the timeout of a request to k0s.
const k0sTimeout = 10 * time.Second

// ClusterCAs returns the certificate authorities of the cluster, as k0s returns them to a
// controller that joins with the k0s token in bearer.
func (d EtcdJoinProxy) ClusterCAs(ctx context.Context, bearer string) (json.RawMessage, error) {
	ca, err := d.Files.ReadFile(k0s.CACertPath)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.JoinAPI+agent.ClusterCAPath, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	res, err := (&http.Client{Transport: transport, Timeout: k0sTimeout}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		return nil, &agent.StatusError{Reason: "k0s rejects this token", Status: http.StatusUnauthorized}
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("k0s returned %s: %s", res.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// AddEtcdMember adds the host in request to etcd as a learner, and returns the response of
// k0s's join API. It accepts every token with which k0s returns the cluster's CAs.
func (d EtcdJoinProxy) AddEtcdMember(ctx context.Context, bearer string, request []byte) (json.RawMessage, error) {
	if _, err := d.ClusterCAs(ctx, bearer); err != nil {
		return nil, err
	}
	response, err := d.addLearner(ctx, request)
	return response, agent.ExplainError(err)
}

// addLearner adds the host in the request of an authenticated client.
func (d EtcdJoinProxy) addLearner(ctx context.Context, request []byte) (json.RawMessage, error) {
	var etcdReq v1beta1.EtcdRequest
	if err := errors.Join(json.Unmarshal(request, &etcdReq), etcdReq.Validate()); err != nil {
		return nil, &agent.StatusError{Reason: "cannot read the request: " + err.Error(), Status: http.StatusBadRequest}
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
	initial, err := store.AddLearner(ctx, etcdReq.Node, etcdReq.PeerAddress)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v1beta1.EtcdResponse{CA: v1beta1.CaResponse{Cert: cert, Key: key}, InitialCluster: initial})
}

// MemberStore lists and removes etcd members.
type MemberStore interface {
	Members(ctx context.Context) ([]etcd.Member, error)
	Remove(ctx context.Context, id string) error
}

// RemoveStaleMembers removes the etcd members that would block the join of a host without
// etcd data. It removes a member at the host's address, which cannot start any more, and a
// learner that never started, because its host does not hold the join lock any more and
// etcd accepts only one learner at a time. A learner that has started is an
// *agent.StatusError with status 423, because it may catch up at any moment.
func RemoveStaleMembers(ctx context.Context, store MemberStore, claim agent.JoinRequest) error {
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
			return &agent.StatusError{Reason: fmt.Sprintf("controller %s has not caught up with the other etcd members yet; if it is lost: plinth node remove %s", m.Name, m.Name), Status: http.StatusLocked}
		}
	}
	return nil
}

// PromoteInterval is how often a controller checks for learners that have caught up. It is
// short because k0s on the joining host waits for the promotion.
const PromoteInterval = time.Second

// PromoteLearners promotes learners that have caught up, at each tick until ctx ends. All
// controllers do it, because the one that added the learner may be lost. A controller that
// is not an etcd member yet does nothing.
func PromoteLearners(ctx context.Context, tick <-chan time.Time, open func() (LearnerStore, error), note func(string)) {
	var store LearnerStore
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		if store == nil {
			opened, err := open()
			if err != nil {
				continue // etcd does not run on this host yet, or its files are being renewed
			}
			store = opened
		}
		names, err := store.Promote(ctx)
		for _, name := range names {
			note("etcd member " + name + " has caught up and is now a voter")
		}
		if err != nil {
			store = nil // its certificates may have been renewed
		}
	}
}
