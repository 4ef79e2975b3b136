package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// etcdJoiner accepts the token of a fakeCluster.
type etcdJoiner struct{ fakeCluster }

func (e etcdJoiner) ClusterCAs(_ context.Context, bearer string) (json.RawMessage, error) {
	return json.RawMessage(`{"key":"topsecret"}`), e.checkBearer(bearer)
}

func (e etcdJoiner) AddEtcdMember(_ context.Context, bearer string, _ []byte) (json.RawMessage, error) {
	return json.RawMessage(`{"key":"topsecret"}`), e.checkBearer(bearer)
}

func TestServer_AuditsAdmissionRefusalAndLeave(t *testing.T) {
	a := newTestCA(t)
	w := fakeCluster{bearer: "abcd1234.topsecret"}
	remover := fakeRemover{w, new([]string)}
	leaf, err := x509.ParseCertificate(a.issue(t, "system:node:n1", "system:nodes").Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	n1 := [][]*x509.Certificate{{leaf}}
	const join = `{"node":"w1","machineId":"m","address":"10.0.0.9"}`
	for name, c := range map[string]struct {
		busy                       bool
		node                       bool // with the certificate of n1
		method, path, bearer, body string
		want                       []string
	}{
		"an admission":            {false, false, "POST", JoinPath, w.bearer, join, []string{`audit event=admission node="w1" peer=10.0.0.7 token="abcd1234" result="admitted with address 10.0.0.9"`}},
		"a join with a guess":     {false, false, "POST", JoinPath, "abcd1234.topsecret-guess", join, []string{`audit event=refusal node="w1" peer=10.0.0.7 token="abcd1234" result="the cluster does not know this token"`}},
		"a join that has to wait": {true, false, "POST", JoinPath, w.bearer, join, []string{`audit event=refusal node="w1" peer=10.0.0.7 token="abcd1234" result="controller n2 is joining"`}},
		"a secret as the id":      {false, false, "GET", ReadPath, "topsecrettopsecret.x", "", []string{`audit event=refusal node=- peer=10.0.0.7 token=- result="the cluster does not know this token"`}},
		"control characters":      {false, false, "POST", JoinPath, "x", `{"node":"a\nb\u001b[31m","machineId":"m","address":"a"}`, []string{`audit event=refusal node="a\nb\x1b[31m" peer=10.0.0.7 token=- result="the cluster does not know this token"`}},
		"no request":              {false, false, "POST", JoinPath, w.bearer, "{", []string{`audit event=refusal node=- peer=10.0.0.7 token="abcd1234" result="cannot decode the join request"`}},
		"authorities":             {false, false, "GET", ClusterCAPath, w.bearer, "", []string{`audit event=admission node=- peer=10.0.0.7 token="abcd1234" result="got the cluster's certificate authorities"`}},
		"a member of etcd":        {false, false, "POST", EtcdMembersPath, w.bearer, `{"node":"c2"}`, []string{`audit event=admission node="c2" peer=10.0.0.7 token="abcd1234" result="added to etcd"`}},
		"a refused leave":         {false, true, "POST", LeavePath, "", "", []string{`audit event=refusal node="n1" peer=10.0.0.7 token=- result="the data of db is on this node alone"`}},
		"a leave":                 {false, true, "POST", LeavePath + "?force=yes", "", "", []string{`audit event=leave node="n1" peer=10.0.0.7 token=- result="removed; its credentials are revoked; losses accepted"`}},
		"a question before":       {false, true, "GET", LeavePath, "", "", nil},
		"content for a node":      {false, true, "GET", ReadPath, "", "", nil},
		"what the token is for":   {false, false, "GET", JoinPath, w.bearer, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			cluster := w
			cluster.busy = c.busy
			h := Service{Backend: cluster, Store: cluster, NodeRemover: remover, EtcdJoiner: etcdJoiner{w}, Audit: func(l string) { lines = append(lines, l) }}.Handler()
			r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body))
			r.RemoteAddr = "10.0.0.7:4711"
			r.Header.Set("Authorization", "Bearer "+c.bearer)
			if c.node {
				r.TLS = &tls.ConnectionState{VerifiedChains: n1}
				r.Header.Del("Authorization")
			}
			h.ServeHTTP(httptest.NewRecorder(), r)
			if !slices.Equal(lines, c.want) {
				t.Errorf("%q\nwant %q", lines, c.want)
			}
			if strings.Contains(strings.Join(lines, ""), "topsecret") {
				t.Errorf("a secret is in the log: %q", lines)
			}
		})
	}
}

func TestAuditLog_LimitsLinesOfStrangers(t *testing.T) {
	var lines []string
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	a := newAuditLog(func(l string) { lines = append(lines, l) })
	a.now = func() time.Time { return now }
	stranger := AuditEvent{Peer: "10.0.0.7", Result: "no"}
	for range 50 {
		a.recordRefusal(stranger, false)
	}
	a.recordRefusal(AuditEvent{Peer: "10.0.0.7", Node: "w1", Result: "node w1 exists"}, true)
	if len(lines) != 2 || !strings.Contains(lines[1], "w1") {
		t.Fatalf("%q", lines)
	}
	now = now.Add(auditInterval)
	a.recordRefusal(stranger, false)
	if len(lines) != 3 || !strings.HasSuffix(lines[2], `not-logged="49 more of this peer since the last line"`) {
		t.Fatalf("%q", lines)
	}
	lines = nil
	for i := range 1000 {
		a.recordRefusal(AuditEvent{Peer: fmt.Sprintf("10.1.%d.%d", i/250, i%250)}, false)
	}
	if len(lines) > auditAtOnce {
		t.Errorf("%d lines at once", len(lines))
	}
	for range 2 * auditAtOnce {
		a.record(AuditEvent{Event: AuditAdmission})
	}
	if !strings.Contains(lines[len(lines)-1], "event=admission") || len(lines) < 2*auditAtOnce {
		t.Error("an admission is not logged")
	}
}

func TestAuditEvent_CutsLongValues(t *testing.T) {
	if line := (AuditEvent{Event: AuditRefusal, Node: strings.Repeat("x", 1<<16), Result: errors.New("no").Error()}).String(); len(line) > 2*maxAuditedBytes {
		t.Errorf("%d bytes", len(line))
	}
}
