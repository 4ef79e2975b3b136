package kots

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/plinthdev/plinth/internal/testkit"
)

// withDatabase returns a client of a console whose database is the handler.
func withDatabase(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	k, _, s := newBench(t)
	database := httptest.NewServer(h)
	t.Cleanup(database.Close)
	host, port, err := net.SplitHostPort(database.Listener.Addr().String())
	testkit.Must(t, err)
	k.databasePort = port
	s.Put(api+"secrets/kotsadm-rqlite", map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "kotsadm-rqlite"}, "data": map[string]any{"password": "c2VjcmV0"}})
	s.Put(api+"services/kotsadm-rqlite", map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "kotsadm-rqlite"}, "spec": map[string]any{"clusterIP": host}})
	return k
}

func TestDatabase_IsBackedUpAndLoaded(t *testing.T) {
	content, refuse, busy := "SQLite", false, 1
	k := withDatabase(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case user != "kotsadm" || password != "secret" || refuse:
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodGet && r.URL.Path == "/db/backup" && busy > 0:
			busy--
			http.Error(w, `pre-backup snapshot failed: failed to start snapshot: CAS conflict: currently held by owner "backup" for 10ms`, http.StatusInternalServerError)
		case r.Method == http.MethodGet && r.URL.Path == "/db/backup":
			_, _ = io.WriteString(w, content)
		case r.Method == http.MethodPost && r.URL.Path == "/db/load" && r.ContentLength > 0 && r.Header.Get("Content-Type") == "application/octet-stream":
			body, _ := io.ReadAll(r.Body)
			content = string(body)
		default:
			t.Errorf("unexpected request %s %s", r.Method, r.URL)
		}
	})

	r, err := k.BackupDatabase(t.Context())
	testkit.Must(t, err)
	backup, err := io.ReadAll(r)
	testkit.Must(t, err, r.Close())
	if string(backup) != "SQLite" {
		t.Errorf("backup %q", backup)
	}
	content = "newer"
	testkit.Must(t, k.LoadDatabase(t.Context(), strings.NewReader("SQLite"), 6))
	if content != "SQLite" {
		t.Errorf("after the load: %q", content)
	}
	refuse = true
	if _, err := k.BackupDatabase(t.Context()); err == nil || !strings.Contains(err.Error(), "401 Unauthorized") || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// Until the old pod has ended it still answers, and its StatefulSet still counts it as Ready.
func TestRestartReason_AcceptsANewReadyPodOnly(t *testing.T) {
	pod := func(uid, ready string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": ConsolePod, "uid": uid},
			"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready}}}}}
	}
	for name, c := range map[string]struct {
		old, now *unstructured.Unstructured
		want     string
	}{
		"old pod":           {pod("1", "True"), pod("1", "True"), "still runs"},
		"new pod starts":    {pod("1", "True"), pod("2", "False"), "not Ready"},
		"new pod is Ready":  {pod("1", "True"), pod("2", "True"), ""},
		"there was none":    {nil, pod("2", "True"), ""},
		"without condition": {nil, &unstructured.Unstructured{Object: map[string]any{}}, "not Ready"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := restartReason(c.old, c.now); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
