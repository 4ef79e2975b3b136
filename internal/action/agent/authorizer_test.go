package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authzv1 "k8s.io/api/authorization/v1"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/token"
)

var reviewed = kube.NodeRecords{"n1": {UID: "u1", Role: token.Controller}, "w1": {UID: "u2", Role: token.Worker}}

func TestReviewUser_DeniesNodesWithoutTheirCurrentAdmission(t *testing.T) {
	nodes := []string{"system:nodes", "system:authenticated"}
	for name, tt := range map[string]struct {
		records kube.NodeRecords
		spec    reviewedUser
		want    string // in the reason; "" for no opinion
	}{
		"worker":                {reviewed, reviewedUser{User: "system:node:w1", UID: "u2", Groups: nodes}, ""},
		"controller":            {reviewed, reviewedUser{User: "system:node:n1", UID: "u1", Groups: nodes}, ""},
		"earlier admission":     {reviewed, reviewedUser{User: "system:node:w1", UID: "u0", Groups: nodes}, "of node w1 is of an earlier admission"},
		"no UID":                {reviewed, reviewedUser{User: "system:node:w1", Groups: nodes}, "is of an earlier admission"},
		"UID of another node":   {reviewed, reviewedUser{User: "system:node:w1", UID: "u1", Groups: nodes}, "is of an earlier admission"},
		"removed node":          {reviewed, reviewedUser{User: "system:node:w2", UID: "u3", Groups: nodes}, "node w2 was removed from the cluster or never admitted to it"},
		"node without group":    {reviewed, reviewedUser{User: "system:node:w2", UID: "u3"}, "node w2 was removed from the cluster or never admitted to it"},
		"node without name":     {reviewed, reviewedUser{User: "system:node:", Groups: nodes}, "never admitted to it"},
		"group of nodes":        {reviewed, reviewedUser{User: "alice", UID: "u2", Groups: nodes}, "user alice is not a node"},
		"user":                  {reviewed, reviewedUser{User: "alice", Groups: []string{"system:authenticated"}}, ""},
		"service account":       {reviewed, reviewedUser{User: "system:serviceaccount:kube-system:x", UID: "u9", Groups: []string{"system:serviceaccounts"}}, ""},
		"agent of a node":       {reviewed, reviewedUser{User: "plinth:node:w1", Groups: []string{"plinth:workers"}}, "not for the Kubernetes API"},
		"user nearly a node":    {reviewed, reviewedUser{User: "system:nodes:w2"}, ""},
		"without records":       {nil, reviewedUser{User: "system:node:w2", UID: "u3", Groups: nodes}, ""},
		"with an empty map":     {kube.NodeRecords{}, reviewedUser{User: "alice", Groups: nodes}, ""},
		"name in capitals":      {reviewed, reviewedUser{User: "system:node:W1", UID: "u2", Groups: nodes}, "never admitted to it"},
		"anonymous":             {reviewed, reviewedUser{User: "system:anonymous", Groups: []string{"system:unauthenticated"}}, ""},
		"manager of controller": {reviewed, reviewedUser{User: "system:kube-controller-manager"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := reviewUser(tt.records, tt.spec); !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// reviewJSON is what kube-apiserver 1.33 sends for a read of a secret; user and uid are to be inserted.
const reviewJSON = `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{"creationTimestamp":null},"spec":{"resourceAttributes":` +
	`{"namespace":"default","verb":"get","version":"v1","resource":"secrets","name":"s"},"user":%q,"groups":["system:nodes","system:authenticated"],` +
	`"extra":{"authentication.kubernetes.io/credential-id":["X509SHA256=ab"]},"uid":%q},"status":{"allowed":false}}`

// ask sends a review and returns the answer.
func ask(t *testing.T, a *Authorizer, body string) (int, authzv1.SubjectAccessReview) {
	t.Helper()
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/authorize?timeout=30s", strings.NewReader(body)))
	var answer authzv1.SubjectAccessReview
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %v", w.Body, err)
		}
	}
	return w.Code, answer
}

func TestAuthorizerServeHTTP_AnswersTheAPIServer(t *testing.T) {
	a := &Authorizer{&RecordCache{Read: func(context.Context) (kube.NodeRecords, error) { return reviewed, nil }, Now: func() time.Time { return noon }}}
	for name, tt := range map[string]struct {
		user, uid string
		denied    bool
	}{
		"node":         {"system:node:w1", "u2", false},
		"removed node": {"system:node:w1", "u0", true},
	} {
		t.Run(name, func(t *testing.T) {
			code, answer := ask(t, a, fmt.Sprintf(reviewJSON, tt.user, tt.uid))
			s := answer.Status
			if code != http.StatusOK || answer.Kind != "SubjectAccessReview" || answer.APIVersion != "authorization.k8s.io/v1" || s.Allowed || s.Denied != tt.denied || (s.Reason != "") != tt.denied || s.EvaluationError != "" {
				t.Errorf("%d %+v", code, answer)
			}
		})
	}
	for name, body := range map[string]string{"no body": "", "text": "x", "too large": fmt.Sprintf(reviewJSON, "system:node:w0", strings.Repeat("<", maxReviewBytes))} {
		t.Run(name, func(t *testing.T) {
			// After an error the API server would ask its other authorizers, which know a node by its name only.
			if code, answer := ask(t, a, body); code != http.StatusOK || !answer.Status.Denied || answer.Kind != "SubjectAccessReview" {
				t.Errorf("%d %+v", code, answer)
			}
		})
	}
}

func TestAuthorizer_KeepsTheLastRecords(t *testing.T) {
	now, reads := noon, 0
	var result error
	records := reviewed
	a := &Authorizer{&RecordCache{Now: func() time.Time { return now }, Read: func(ctx context.Context) (kube.NodeRecords, error) {
		reads++
		if _, ok := ctx.Deadline(); !ok {
			t.Error("all reviews wait for an API server that does not answer")
		}
		return records, result
	}}}
	denied := func() bool {
		t.Helper()
		code, answer := ask(t, a, fmt.Sprintf(reviewJSON, "system:node:w1", "u2"))
		if code != http.StatusOK {
			t.Errorf("status %d", code)
		}
		return answer.Status.Denied
	}
	result = errors.New("the API server starts")
	if denied() || reads != 1 {
		t.Errorf("without records a node is denied, after %d reads", reads)
	}
	now, result = now.Add(recordsMaxAge), nil
	if denied() || reads != 2 {
		t.Errorf("%d reads", reads)
	}
	records = kube.NodeRecords{"n1": reviewed["n1"]}
	now = now.Add(recordsMaxAge - 1)
	if denied() || reads != 2 {
		t.Errorf("read again before %s: %d reads", recordsMaxAge, reads)
	}
	now = now.Add(1)
	if !denied() || reads != 3 {
		t.Errorf("a removed node is not denied, after %d reads", reads)
	}
	now, result, records = now.Add(recordsMaxAge), errors.New("down"), nil
	if !denied() || reads != 4 {
		t.Errorf("without the API server the last records are forgotten, after %d reads", reads)
	}
}

func TestAuthorizer_ReadsTheRecordsAgainBeforeItDenies(t *testing.T) {
	now, reads, records := noon, 0, kube.NodeRecords{"n1": reviewed["n1"]}
	a := &Authorizer{&RecordCache{Now: func() time.Time { return now }, Read: func(context.Context) (kube.NodeRecords, error) {
		reads++
		return records, nil
	}}}
	denied := func() bool {
		t.Helper()
		_, answer := ask(t, a, fmt.Sprintf(reviewJSON, "system:node:w1", "u2"))
		return answer.Status.Denied
	}
	if !denied() || reads != 1 {
		t.Fatalf("a node that was not admitted is not denied, after %d reads", reads)
	}
	now = now.Add(deniedMaxAge - 1)
	if !denied() || reads != 1 {
		t.Errorf("a node that is not admitted has the records read all the time: %d reads", reads)
	}
	records = reviewed
	now = now.Add(1)
	if denied() || reads != 2 {
		t.Errorf("a node that was admitted a moment ago is denied, after %d reads; the API server would keep that for 10 s", reads)
	}
}
