package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/k0sproject/k0s/pkg/apis/k0s/v1beta1"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

// fakeLearners is a LearnerStore that records added learners.
type fakeLearners struct {
	added   []string
	learner string // to promote next
	err     error
}

func (s *fakeLearners) AddLearner(_ context.Context, name, peerURL string) ([]string, error) {
	s.added = append(s.added, name+"="+peerURL)
	return append([]string{"a=https://10.0.0.1:2380"}, s.added...), s.err
}

func (s *fakeLearners) Promote(context.Context) (names []string, err error) {
	if s.learner != "" {
		names, s.learner = []string{s.learner}, ""
	}
	return names, s.err
}

// joining is the controller that newProxy accepts.
var joining = agent.Caller{Key: "key-b", NodeID: nodecert.NodeID{Node: "b", UID: "uid-b", Role: token.Controller}}

// newProxy returns an EtcdJoinProxy that accepts only the controller joining, at 10.0.0.2.
func newProxy(t *testing.T, s *fakeLearners) (EtcdJoinProxy, host.Files) {
	t.Helper()
	h := hosttest.New(t).Host()
	for path, content := range map[string]string{k0s.CACertPath: "ca", k0s.CAKeyPath: "ca key", k0s.SAKeyPath: "sa key", k0s.SAPubPath: "sa", etcd.CAPath: "cert", etcd.CAKeyPath: "key"} {
		testkit.Must(t, h.Write(path, strings.NewReader(content), 0o600))
	}
	check := func(_ context.Context, c agent.Caller) (kube.NodeRecord, error) {
		if c != joining {
			return kube.NodeRecord{}, &agent.StatusError{Reason: "no", Status: http.StatusUnauthorized}
		}
		return kube.NodeRecord{Node: "b", Address: "10.0.0.2"}, nil
	}
	return EtcdJoinProxy{Files: h, Check: check, Etcd: func() (LearnerStore, error) { return s, nil }}, h
}

const request = `{"node":"b","peerAddress":"https://10.0.0.2:2380"}`

func TestEtcdJoinProxyClusterCAs_ReturnsAllKeysToJoiningController(t *testing.T) {
	d, h := newProxy(t, &fakeLearners{})
	raw, err := d.ClusterCAs(t.Context(), joining)
	testkit.Must(t, err)
	var response v1beta1.CaResponse
	testkit.Must(t, json.Unmarshal(raw, &response))
	if string(response.Cert) != "ca" || string(response.Key) != "ca key" || string(response.SAKey) != "sa key" || string(response.SAPub) != "sa" {
		t.Errorf("%s", raw)
	}
	var no *agent.StatusError
	if raw, err := d.ClusterCAs(t.Context(), agent.Caller{Key: "key-b"}); !errors.As(err, &no) || no.Status != http.StatusUnauthorized || raw != nil {
		t.Errorf("another client: %s, %v", raw, err)
	}
	testkit.Must(t, h.RemoveAll(k0s.SAKeyPath))
	if raw, err := d.ClusterCAs(t.Context(), joining); !errors.As(err, &no) || no.Status != http.StatusServiceUnavailable || raw != nil {
		t.Errorf("without a key: %s, %v", raw, err)
	}
}

func TestEtcdJoinProxyAddEtcdMember_AddsLearner(t *testing.T) {
	d, _ := newProxy(t, &fakeLearners{})
	raw, err := d.AddEtcdMember(t.Context(), joining, []byte(request))
	testkit.Must(t, err)
	var response struct {
		CA             struct{ Cert, Key []byte }
		InitialCluster []string
	}
	testkit.Must(t, json.Unmarshal(raw, &response))
	if string(response.CA.Cert) != "cert" || string(response.CA.Key) != "key" || !slices.Equal(response.InitialCluster, []string{"a=https://10.0.0.1:2380", "b=https://10.0.0.2:2380"}) {
		t.Errorf("%s", raw)
	}
}

func TestEtcdJoinProxyAddEtcdMember_RefusesInvalidRequests(t *testing.T) {
	worker := joining
	worker.NodeID.Role = token.Worker
	for name, c := range map[string]struct {
		caller  agent.Caller
		request string
		status  int
	}{
		"without a certificate": {agent.Caller{}, request, http.StatusUnauthorized},
		"another client":        {worker, request, http.StatusUnauthorized},
		"without an address":    {joining, `{"node":"b"}`, http.StatusBadRequest},
		"with invalid JSON":     {joining, `node=b`, http.StatusBadRequest},
		"another node":          {joining, `{"node":"c","peerAddress":"https://10.0.0.2:2380"}`, http.StatusConflict},
		"another address":       {joining, `{"node":"b","peerAddress":"https://10.0.0.3:2380"}`, http.StatusConflict},
		"an address of a user":  {joining, `{"node":"b","peerAddress":"https://10.0.0.2@10.0.0.3:2380"}`, http.StatusConflict},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fakeLearners{}
			d, _ := newProxy(t, s)
			raw, err := d.AddEtcdMember(t.Context(), c.caller, []byte(c.request))
			var no *agent.StatusError
			if !errors.As(err, &no) || no.Status != c.status || len(s.added) != 0 || raw != nil {
				t.Errorf("%v, added %v, response %s", err, s.added, raw)
			}
		})
	}
}

func TestPromoteLearners_NotesEachPromotionOnce(t *testing.T) {
	s, tick := &fakeLearners{learner: "b"}, make(chan time.Time)
	ctx, stop := context.WithCancel(t.Context())
	var notes []string
	opened, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		PromoteLearners(ctx, tick, func() (LearnerStore, error) {
			if opened++; opened == 1 {
				return nil, errors.New("no etcd here yet")
			}
			return s, nil
		}, func(names []string) { notes = append(notes, names...) })
	}()
	for range 4 {
		tick <- time.Now()
	}
	stop()
	<-done
	if opened != 2 || !slices.Equal(notes, []string{"b"}) {
		t.Errorf("opened %d times, %q", opened, notes)
	}
}

// fakeMembers is a MemberStore that records removed members.
type fakeMembers struct {
	all     []etcd.Member
	removed []string
}

func (m *fakeMembers) Members(context.Context) ([]etcd.Member, error) { return m.all, nil }

func (m *fakeMembers) Remove(_ context.Context, id string) error {
	m.removed = append(m.removed, id)
	return nil
}

func TestRemoveStaleMembers_RemovesOnlyMembersThatCannotStart(t *testing.T) {
	first := etcd.Member{ID: "1", Name: "a", Address: "10.0.0.1"}
	for name, c := range map[string]struct {
		other   etcd.Member
		removed []string
		want    string // in the error; "" for none
	}{
		"a voter":                              {etcd.Member{ID: "2", Name: "b", Address: "10.0.0.2"}, nil, ""},
		"a voter that never started":           {etcd.Member{ID: "2", Address: "10.0.0.2"}, nil, ""},
		"an old member of the host":            {etcd.Member{ID: "2", Address: "10.0.0.9"}, []string{"2"}, ""},
		"an old, named member of the host":     {etcd.Member{ID: "2", Name: "x", Address: "10.0.0.9", Learner: true}, []string{"2"}, ""},
		"another learner that never started":   {etcd.Member{ID: "2", Address: "10.0.0.2", Learner: true}, []string{"2"}, ""},
		"another learner that may still start": {etcd.Member{ID: "2", Name: "b", Address: "10.0.0.2", Learner: true}, nil, "controller b has not caught up"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &fakeMembers{all: []etcd.Member{first, c.other}}
			err := RemoveStaleMembers(t.Context(), m, agent.JoinRequest{Node: "x", Address: "10.0.0.9"})
			var refused *agent.StatusError
			if !slices.Equal(m.removed, c.removed) || (c.want == "") != (err == nil) || err != nil && (!errors.As(err, &refused) || refused.Status != http.StatusLocked || !strings.Contains(refused.Reason, c.want)) {
				t.Errorf("removed %v, %v", m.removed, err)
			}
		})
	}
}
