package agent

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"github.com/plinthdev/plinth/internal/testkit"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/pki"
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

// newProxy returns an EtcdJoinProxy for a k0s that accepts the token "good".
func newProxy(t *testing.T, s *fakeLearners) EtcdJoinProxy {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewCA("kubernetes-ca", now)
	testkit.Must(t, err)
	pair, err := ca.IssueServerCert([]string{"127.0.0.1"}, now)
	testkit.Must(t, err)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	testkit.Must(t, err)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" || r.URL.Path != "/v1beta1/ca" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"key":"a2V5"}`))
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	h := hosttest.New(t).Host()
	for path, content := range map[string]string{k0s.CACertPath: string(ca.Cert), etcd.CAPath: "cert", etcd.CAKeyPath: "key"} {
		testkit.Must(t, h.Write(path, strings.NewReader(content), 0o600))
	}
	return EtcdJoinProxy{Files: h, JoinAPI: srv.URL, Etcd: func() (LearnerStore, error) { return s, nil }}
}

const request = `{"node":"b","peerAddress":"https://10.0.0.2:2380"}`

func TestEtcdJoinProxyAddEtcdMember_AddsLearner(t *testing.T) {
	s := &fakeLearners{}
	d := newProxy(t, s)
	if raw, err := d.ClusterCAs(t.Context(), "good"); err != nil || string(raw) != `{"key":"a2V5"}` {
		t.Errorf("%s %v", raw, err)
	}
	raw, err := d.AddEtcdMember(t.Context(), "good", []byte(request))
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
	for name, c := range map[string]struct {
		bearer, request string
		status          int
	}{
		"without a token":    {"", request, http.StatusUnauthorized},
		"with another token": {"bad", request, http.StatusUnauthorized},
		"without an address": {"good", `{"node":"b"}`, http.StatusBadRequest},
		"with invalid JSON":  {"good", `node=b`, http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fakeLearners{}
			raw, err := newProxy(t, s).AddEtcdMember(t.Context(), c.bearer, []byte(c.request))
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
		}, func(n string) { notes = append(notes, n) })
	}()
	for range 4 {
		tick <- time.Now()
	}
	stop()
	<-done
	if opened != 2 || !slices.Equal(notes, []string{"etcd member b has caught up and is now a voter"}) {
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
