package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/token"
)

// etcdJoiner accepts controllers.
type etcdJoiner struct{ fakeCluster }

func (e etcdJoiner) ClusterCAs(_ context.Context, c Caller) (json.RawMessage, error) {
	return json.RawMessage(`{"key":"topsecret"}`), checkController(c)
}

func (e etcdJoiner) AddEtcdMember(_ context.Context, c Caller, _ []byte) (json.RawMessage, error) {
	return json.RawMessage(`{"key":"topsecret"}`), checkController(c)
}

func checkController(c Caller) error {
	if c.NodeID.Role != token.Controller {
		return &StatusError{Reason: "only a controller gets keys", Status: http.StatusUnauthorized}
	}
	return nil
}

func TestServer_AuditsAdmissionRefusalAndLeave(t *testing.T) {
	a := newTestCA(t)
	w := fakeCluster{bearer: "abcd1234.topsecret", gone: "w3"}
	remover := fakeRemover{w, new([]string)}
	n1, w2, gone := a.controller(t, "n1"), a.worker(t, "w2"), a.worker(t, "w3")
	claimed, kubelet := selfSign(t, n1), a.issue(t, nodecert.KubeletClient, "n1", "")
	const join = `{"node":"w1","machineId":"m","address":"10.0.0.9"}`
	for name, c := range map[string]struct {
		busy                       bool
		cert                       *tls.Certificate // nil for none
		method, path, bearer, body string
		want                       []string
	}{
		"an admission":            {false, nil, "POST", JoinPath, w.bearer, join, []string{`audit event=admission node="w1" peer=10.0.0.7 token="abcd1234" result="admitted with address 10.0.0.9"`}},
		"a join with a guess":     {false, nil, "POST", JoinPath, "abcd1234.topsecret-guess", join, []string{`audit event=refusal node="w1" peer=10.0.0.7 token="abcd1234" result="the cluster does not know this token"`}},
		"a join that has to wait": {true, nil, "POST", JoinPath, w.bearer, join, []string{`audit event=refusal node="w1" peer=10.0.0.7 token="abcd1234" result="controller n2 is joining"`}},
		"a secret as the id":      {false, nil, "GET", ReadPath, "topsecrettopsecret.x", "", []string{`audit event=refusal node=- peer=10.0.0.7 token=- result="the cluster does not know this token"`}},
		"control characters":      {false, nil, "POST", JoinPath, "x", `{"node":"a\nb\u001b[31m","machineId":"m","address":"10.0.0.9"}`, []string{`audit event=refusal node="a\nb\x1b[31m" peer=10.0.0.7 token=- result="the cluster does not know this token"`}},
		"no request":              {false, nil, "POST", JoinPath, w.bearer, "{", []string{`audit event=refusal node=- peer=10.0.0.7 token="abcd1234" result="cannot decode the join request"`}},
		"authorities":             {false, &n1, "GET", ClusterCAPath, "", "", []string{`audit event=admission node="n1" peer=10.0.0.7 token=- result="got the cluster's certificate authorities"`}},
		"a member of etcd":        {false, &n1, "POST", EtcdMembersPath, "", `{"node":"c2"}`, []string{`audit event=admission node="n1" peer=10.0.0.7 token=- result="added to etcd"`}},
		"authorities for a token": {false, nil, "GET", ClusterCAPath, w.bearer, "", []string{`audit event=refusal node=- peer=10.0.0.7 token="abcd1234" result="only a controller that joins gets keys, authenticated by the certificate of its agent"`}},
		"a member for a token":    {false, nil, "POST", EtcdMembersPath, w.bearer, `{"node":"c2"}`, []string{`audit event=refusal node=- peer=10.0.0.7 token="abcd1234" result="only a controller that joins gets keys, authenticated by the certificate of its agent"`}},
		"authorities, a worker":   {false, &w2, "GET", ClusterCAPath, "", "", []string{`audit event=refusal node="w2" peer=10.0.0.7 token=- result="only a controller gets keys"`}},
		"a renewal":               {false, &w2, "POST", RenewPath, "", `{"agentRequest":"AAAA"}`, []string{`audit event=admission node="w2" peer=10.0.0.7 token=- result="got a new certificate for its agent"`}},
		"a renewal, removed":      {false, &gone, "POST", RenewPath, "", `{"agentRequest":"AAAA"}`, []string{`audit event=refusal node="w3" peer=10.0.0.7 token=- result="node w3 was removed from the cluster"`}},
		"a renewal of a stranger": {false, &claimed, "POST", RenewPath, "", `{"agentRequest":"AAAA"}`, []string{`audit event=refusal node=- peer=10.0.0.7 token=- result="only a node can renew its certificate, authenticated by it"`}},
		"a leave of a stranger":   {false, &claimed, "POST", LeavePath + "?force=yes", "", "", []string{`audit event=refusal node=- peer=10.0.0.7 token=- result="only a node can leave, authenticated by its own certificate"`}},
		"a leave of a kubelet":    {false, &kubelet, "POST", LeavePath + "?force=yes", "", "", []string{`audit event=refusal node=- peer=10.0.0.7 token=- result="only a node can leave, authenticated by its own certificate"`}},
		"a leave, removed before": {false, &gone, "POST", LeavePath + "?force=yes", "", "", nil},
		"a renewal, no JSON":      {false, &w2, "POST", RenewPath, "", "{", []string{`audit event=refusal node="w2" peer=10.0.0.7 token=- result="cannot decode the request for a certificate"`}},
		"a renewal, more fields":  {false, &w2, "POST", RenewPath, "", `{"agentRequest":"AAAA","node":"n1"}`, []string{`audit event=refusal node="w2" peer=10.0.0.7 token=- result="cannot decode the request for a certificate"`}},
		"a refused leave":         {false, &n1, "POST", LeavePath, "", "", []string{`audit event=refusal node="n1" peer=10.0.0.7 token=- result="the data of db is on this node alone"`}},
		"a leave":                 {false, &n1, "POST", LeavePath + "?force=yes", "", "", []string{`audit event=leave node="n1" peer=10.0.0.7 token=- result="removed; its credentials are revoked; losses accepted"`}},
		"a question before":       {false, &n1, "GET", LeavePath, "", "", nil},
		"content for a node":      {false, &n1, "GET", ReadPath, "", "", nil},
		"what the token is for":   {false, nil, "GET", JoinPath, w.bearer, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			cluster := w
			cluster.busy = c.busy
			h := Service{Backend: cluster, Store: cluster, NodeRemover: remover, EtcdJoiner: etcdJoiner{w}, Authority: a.authority, Audit: func(l string) { lines = append(lines, l) }}.Handler()
			r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body))
			r.RemoteAddr = "10.0.0.7:4711"
			r.Header.Set("Authorization", "Bearer "+c.bearer)
			if c.cert != nil {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.cert.Leaf}}
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
