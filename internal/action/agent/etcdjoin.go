package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/k0sproject/k0s/pkg/apis/k0s/v1beta1"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
)

// EtcdJoinProxy serves the join API of k0s to k0s on a joining host, in place of k0s, which
// gives the keys of the cluster to everyone who has one of its bootstrap tokens.
type EtcdJoinProxy struct {
	Files host.Files
	Check func(context.Context, agent.Caller) (kube.NodeRecord, error) // returns the record of a client that may have the keys
	Etcd  func() (LearnerStore, error)
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

var _ agent.EtcdJoiner = EtcdJoinProxy{}

// ClusterCAs returns the certificate authorities of the cluster in k0s's format.
func (d EtcdJoinProxy) ClusterCAs(ctx context.Context, c agent.Caller) (json.RawMessage, error) {
	if _, err := d.Check(ctx, c); err != nil {
		return nil, err
	}
	var a v1beta1.CaResponse
	err := d.readFiles(map[string]*[]byte{k0s.CACertPath: &a.Cert, k0s.CAKeyPath: &a.Key, k0s.SAKeyPath: &a.SAKey, k0s.SAPubPath: &a.SAPub})
	if err != nil {
		return nil, agent.ExplainError(err)
	}
	return json.Marshal(a)
}

// readFiles reads several files.
func (d EtcdJoinProxy) readFiles(all map[string]*[]byte) (err error) {
	for path, into := range all {
		var e error
		*into, e = d.Files.ReadFile(path)
		err = errors.Join(err, e)
	}
	return err
}

// AddEtcdMember adds the client to etcd as a learner, and returns the response of k0s's join
// API.
func (d EtcdJoinProxy) AddEtcdMember(ctx context.Context, c agent.Caller, request []byte) (json.RawMessage, error) {
	r, err := d.Check(ctx, c)
	if err != nil {
		return nil, err
	}
	response, err := d.addLearner(ctx, r, request)
	return response, agent.ExplainError(err)
}

// addLearner adds the host with the record r.
func (d EtcdJoinProxy) addLearner(ctx context.Context, r kube.NodeRecord, request []byte) (json.RawMessage, error) {
	var etcdReq v1beta1.EtcdRequest
	if err := errors.Join(json.Unmarshal(request, &etcdReq), etcdReq.Validate()); err != nil {
		return nil, &agent.StatusError{Reason: "cannot read the request: " + err.Error(), Status: http.StatusBadRequest}
	}
	if peer, err := url.Parse(etcdReq.PeerAddress); etcdReq.Node != r.Node || err != nil || peer.Hostname() != r.Address {
		return nil, &agent.StatusError{Reason: fmt.Sprintf("%s at %s asks for a member %s at %s", r.Node, r.Address, etcdReq.Node, etcdReq.PeerAddress), Status: http.StatusConflict}
	}
	a := v1beta1.EtcdResponse{}
	if err := d.readFiles(map[string]*[]byte{etcd.CAPath: &a.CA.Cert, etcd.CAKeyPath: &a.CA.Key}); err != nil {
		return nil, err
	}
	store, err := d.Etcd()
	if err != nil {
		return nil, err
	}
	if a.InitialCluster, err = store.AddLearner(ctx, etcdReq.Node, etcdReq.PeerAddress); err != nil {
		return nil, err
	}
	return json.Marshal(a)
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
func RemoveStaleMembers(ctx context.Context, store MemberStore, request agent.JoinRequest) error {
	members, err := store.Members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		switch {
		case m.Address == request.Address, m.Learner && m.Name == "":
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
// is not an etcd member yet does nothing. promoted receives the names of new voters.
func PromoteLearners(ctx context.Context, tick <-chan time.Time, open func() (LearnerStore, error), promoted func(names []string)) {
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
		if len(names) > 0 {
			promoted(names)
		}
		if err != nil {
			store = nil // its certificates may have been renewed
		}
	}
}
