package kube_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/wait"
)

const (
	longTimeout  = 20 * time.Second // for a condition that becomes true, also on a busy machine
	shortTimeout = 2 * time.Second  // for a condition that never becomes true
)

func TestWaitNode_NamesUnregisteredNode(t *testing.T) {
	_, c := kubetest.New(t)
	var reported []string
	w := kube.Wait{Timeout: shortTimeout, Report: func(m string, _, _ int64) { reported = append(reported, m) }}
	err := c.WaitNode(t.Context(), w, "n1")
	var late *wait.TimeoutError
	if !errors.As(err, &late) || late.Reason != "node n1 has not registered" {
		t.Errorf("got %v", err)
	}
	if len(reported) != 1 || reported[0] != "node n1 has not registered" {
		t.Errorf("reported %q", reported)
	}
}

func TestWaitNode_ReturnsWhenNodeIsReady(t *testing.T) {
	s, c := kubetest.New(t)
	s.Put("/api/v1/nodes/n1", map[string]any{
		"metadata": map[string]any{"name": "n1"},
		"status": map[string]any{
			"conditions": []any{map[string]any{"type": "Ready", "status": "True"}},
		},
	})
	if err := c.WaitNode(t.Context(), kube.Wait{Timeout: longTimeout}, "n1"); err != nil {
		t.Error(err)
	}
	n, err := c.Node(t.Context(), "n1")
	if err != nil || !n.Ready || n.Reason != "" {
		t.Errorf("got %+v, %v", n, err)
	}
}

func TestWaitPods_TimeoutNamesPodEventAndLogLine(t *testing.T) {
	s, c := kubetest.New(t)
	s.Put("/api/v1/namespaces/a/pods/db-0", map[string]any{
		"metadata": map[string]any{"name": "db-0", "namespace": "a"},
		"status": map[string]any{"phase": "Running", "containerStatuses": []any{map[string]any{
			"name": "db", "ready": false, "restartCount": 2,
			"state": map[string]any{"running": map[string]any{}}, "lastState": map[string]any{"terminated": map[string]any{"exitCode": 1}},
		}}},
	})
	s.Put("/api/v1/namespaces/a/events/e1", map[string]any{
		"metadata": map[string]any{"name": "e1"}, "reason": "BackOff", "message": "Back-off restarting", "type": "Warning",
	})
	s.Logs = map[string]string{"a/db-0": "2026-11-01T00:00:00.1Z starting\n2026-11-01T00:00:00.2Z no space left on device\n"}
	err := c.WaitPods(t.Context(), kube.Wait{Timeout: shortTimeout}, "a")
	for _, want := range []string{
		"all pods of namespace a to be Ready", "db-0: db is running but not Ready, 2 restarts",
		"last event: BackOff: Back-off restarting", "last log line: no space left on device",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

func TestWaitPods_ReturnsCauseOfContext(t *testing.T) {
	_, c := kubetest.New(t)
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupted)
	if err := c.WaitPods(ctx, kube.Wait{Timeout: time.Minute}, "a"); !errors.Is(err, interrupted) {
		t.Errorf("got %v", err)
	}
}

func TestApply_SetsMissingNamespace(t *testing.T) {
	s, c := kubetest.New(t)
	objects, err := kube.Decode([]byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it can be repeated
		if err := c.Apply(t.Context(), "a", objects...); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(s.Writes()[2:], "; "); got != "PATCH /api/v1/namespaces/a; PATCH /api/v1/namespaces/a/configmaps/b" {
		t.Errorf("wrote %s", got)
	}
}

func TestExists_ReturnsFalseForUnknownKindsAndMissingObjects(t *testing.T) {
	_, c := kubetest.New(t)
	for _, o := range []kube.Object{
		{APIVersion: "v1", Kind: "ConfigMap", Namespace: "a", Name: "b"},
		{APIVersion: "example.com/v1", Kind: "Thing", Namespace: "a", Name: "b"},
	} {
		t.Run(o.String(), func(t *testing.T) {
			if exists, err := c.Exists(t.Context(), o); exists || err != nil {
				t.Errorf("exists %t, %v", exists, err)
			}
			if err := c.Delete(t.Context(), o); err != nil {
				t.Errorf("delete: %v", err)
			}
		})
	}
}

func TestPutSecret_CreatesThenReplaces(t *testing.T) {
	s, c := kubetest.New(t)
	if _, err := c.Secret(t.Context(), "a", "b"); !errors.Is(err, kube.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	for _, value := range []string{"one", "two"} {
		err := c.PutSecret(t.Context(), kube.Secret{Namespace: "a", Name: "b", Type: "x/y", Data: map[string][]byte{"k": []byte(value)}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Secret(t.Context(), "a", "b")
		if err != nil || string(got.Data["k"]) != value || got.Type != "x/y" {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if got := strings.Join(s.Writes(), "; "); got != "POST /api/v1/namespaces/a/secrets; PUT /api/v1/namespaces/a/secrets/b" {
		t.Errorf("wrote %s", got)
	}
}

func TestNew_RejectsInvalidKubeconfig(t *testing.T) {
	if _, err := kube.New([]byte("hello")); err == nil || !strings.Contains(err.Error(), "kubeconfig is not valid") {
		t.Errorf("got %v", err)
	}
}

func TestPodLog_StartsAtExactTime(t *testing.T) {
	s, c := kubetest.New(t)
	s.Logs = map[string]string{"a/p": "2026-11-01T00:00:00.1Z before\n2026-11-01T00:00:00.3Z after: x\nnonsense\n2026-11-01T00:00:01Z \x00p\x00w\n"}
	lines, err := c.PodLog(t.Context(), "a", "p", kube.LogOptions{Since: time.Date(2026, 11, 1, 0, 0, 0, 2e8, time.UTC)})
	if err != nil || !slices.Equal(lines, []string{"after: x", "pw"}) {
		t.Errorf("got %q, %v", lines, err)
	}
}
