package voter

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
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
	"github.com/plinthdev/plinth/internal/kots/pki"
)

// store is an etcd that remembers whom it took in.
type store struct {
	added   []string
	learner string // who promotes next
	err     error
}

func (s *store) AddLearner(_ context.Context, name, peerURL string) ([]string, error) {
	s.added = append(s.added, name+"="+peerURL)
	return append([]string{"a=https://10.0.0.1:2380"}, s.added...), s.err
}

func (s *store) Promote(context.Context) (names []string, err error) {
	if s.learner != "" {
		names, s.learner = []string{s.learner}, ""
	}
	return names, s.err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// door is one before a k0s that takes the token "good".
func door(t *testing.T, s *store) Door {
	t.Helper()
	now := time.Now()
	ca, err := pki.NewCA("kubernetes-ca", now)
	must(t, err)
	pair, err := ca.Issue([]string{"127.0.0.1"}, now)
	must(t, err)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	must(t, err)
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
	for path, content := range map[string]string{k0s.CACert: string(ca.Cert), etcd.CAPath: "cert", etcd.CAKeyPath: "key"} {
		must(t, h.Write(path, strings.NewReader(content), 0o600))
	}
	return Door{Files: h, K0s: srv.URL, Etcd: func() (Store, error) { return s, nil }}
}

const request = `{"node":"b","peerAddress":"https://10.0.0.2:2380"}`

func TestAHostThatK0sKnowsBecomesAMemberWithoutAVote(t *testing.T) {
	s := &store{}
	d := door(t, s)
	if raw, err := d.Authorities(t.Context(), "good"); err != nil || string(raw) != `{"key":"a2V5"}` {
		t.Errorf("%s %v", raw, err)
	}
	raw, err := d.Member(t.Context(), "good", []byte(request))
	must(t, err)
	var answer struct {
		CA             struct{ Cert, Key []byte }
		InitialCluster []string
	}
	must(t, json.Unmarshal(raw, &answer))
	if string(answer.CA.Cert) != "cert" || string(answer.CA.Key) != "key" || !slices.Equal(answer.InitialCluster, []string{"a=https://10.0.0.1:2380", "b=https://10.0.0.2:2380"}) {
		t.Errorf("%s", raw)
	}
}

func TestNobodyElseBecomesAMember(t *testing.T) {
	for name, c := range map[string]struct {
		bearer, request string
		status          int
	}{
		"without a token":      {"", request, http.StatusUnauthorized},
		"with another token":   {"bad", request, http.StatusUnauthorized},
		"without an address":   {"good", `{"node":"b"}`, http.StatusBadRequest},
		"with what is no JSON": {"good", `node=b`, http.StatusBadRequest},
	} {
		s := &store{}
		raw, err := door(t, s).Member(t.Context(), c.bearer, []byte(c.request))
		var no *agent.Refusal
		if !errors.As(err, &no) || no.Status != c.status || len(s.added) != 0 || raw != nil {
			t.Errorf("%s: %v, added %v, answer %s", name, err, s.added, raw)
		}
	}
}

func TestWhoHasCaughtUpIsSaidOnce(t *testing.T) {
	s, tick := &store{learner: "b"}, make(chan time.Time)
	ctx, stop := context.WithCancel(t.Context())
	var notes []string
	opened, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, tick, func() (Store, error) {
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
	if opened != 2 || !slices.Equal(notes, []string{"etcd member b has caught up and votes"}) {
		t.Errorf("opened %d times, %q", opened, notes)
	}
}

// members is an etcd that remembers whom it let go.
type members struct {
	all  []etcd.Member
	gone []string
}

func (m *members) Members(context.Context) ([]etcd.Member, error) { return m.all, nil }

func (m *members) Remove(_ context.Context, id string) error {
	m.gone = append(m.gone, id)
	return nil
}

func TestOnlyWhatNeverBeganStandsInNobodysWay(t *testing.T) {
	first := etcd.Member{ID: "1", Name: "a", Address: "10.0.0.1"}
	for name, c := range map[string]struct {
		other etcd.Member
		gone  []string
		says  string
	}{
		"a member that votes":               {etcd.Member{ID: "2", Name: "b", Address: "10.0.0.2"}, nil, ""},
		"one that votes and never began":    {etcd.Member{ID: "2", Address: "10.0.0.2"}, nil, ""},
		"what the host itself has left":     {etcd.Member{ID: "2", Address: "10.0.0.9"}, []string{"2"}, ""},
		"what it has left under its name":   {etcd.Member{ID: "2", Name: "x", Address: "10.0.0.9", Learner: true}, []string{"2"}, ""},
		"what another host has left":        {etcd.Member{ID: "2", Address: "10.0.0.2", Learner: true}, []string{"2"}, ""},
		"another host that may yet come up": {etcd.Member{ID: "2", Name: "b", Address: "10.0.0.2", Learner: true}, nil, "controller b has not caught up"},
	} {
		m := &members{all: []etcd.Member{first, c.other}}
		err := Clear(t.Context(), m, agent.Claim{Node: "x", Address: "10.0.0.9"})
		var no *agent.Refusal
		if !slices.Equal(m.gone, c.gone) || (c.says == "") != (err == nil) || err != nil && (!errors.As(err, &no) || no.Status != http.StatusLocked || !strings.Contains(no.Why, c.says)) {
			t.Errorf("%s: removed %v, %v", name, m.gone, err)
		}
	}
}
