package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/ui"
)

// traced is an environment whose clock advances by a second at each reading.
type traced struct {
	*Env
	fake  *hosttest.Fake
	notes []string
}

func newTraced(t *testing.T) *traced {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := &traced{fake: hosttest.New(t)}
	m.Env = &Env{Host: m.fake.Host(), GlobalOptions: GlobalOptions{DataDir: "/var/lib/plinth", Secrets: &ui.Secrets{}, Events: func(step.Event) {},
		Note: func(text string) { m.notes = append(m.notes, text) },
		Now:  func() time.Time { now = now.Add(time.Second); return now }}}
	testkit.WriteFiles(t, m.fake.Root, 0o644, map[string]string{"/srv/x": "", "/proc/uptime": "1000.00 900.00\n"})
	return m
}

// execute runs an operation whose only step calls apply and which writes its trace to file.
func (m *traced) execute(t *testing.T, file string, apply func(context.Context, step.Report) error) (Outcome, error) {
	done := false
	return ExecuteLocked(t.Context(), m.Env, Operation{Verb: "install", Trace: file, Steps: func(context.Context, *Env) ([]step.Step, error) {
		return []step.Step{{ID: "one", Title: "Do it",
			Check: func(context.Context) (step.State, error) {
				if done {
					return step.Done(), nil
				}
				return step.Needed("why"), nil
			},
			Apply: func(ctx context.Context, report step.Report) error { done = true; return apply(ctx, report) }}}, nil
	}})
}

// readTrace returns the file of a trace.
func (m *traced) readTrace(t *testing.T, file string) (content string, events []struct{ Name, Ph string }) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(m.fake.Root, file))
	testkit.Must(t, err)
	var doc struct{ TraceEvents []struct{ Name, Ph string } }
	testkit.Must(t, json.Unmarshal(raw, &doc))
	info, err := os.Stat(filepath.Join(m.fake.Root, file))
	testkit.Must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
	return string(raw), doc.TraceEvents
}

func TestExecute_WritesTheTraceOfARun(t *testing.T) {
	m := newTraced(t)
	m.Secrets.Hide("s3cret-token")
	m.fake.Expect("systemctl show").Return("Id="+k0s.ControllerUnit+"\nActiveEnterTimestampMonotonic=997000000\n", nil)
	api, _ := kubetest.New(t)
	srv := httptest.NewServer(api)
	t.Cleanup(srv.Close)
	api.Put("/api/v1/namespaces/kube-system/pods/coredns", map[string]any{
		"metadata": map[string]any{"name": "coredns", "namespace": "kube-system", "creationTimestamp": "2026-01-02T03:04:10Z"}})
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{k0s.AdminConf: fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"t",
		"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],"users":[{"name":"t","user":{}}],
		"clusters":[{"name":"t","cluster":{"server":%q}}]}`, srv.URL)})

	out, err := m.execute(t, "/srv/trace.json", func(_ context.Context, report step.Report) error {
		report("waiting with s3cret-token", 0, 0)
		return nil
	})
	testkit.Must(t, err)
	content, _ := m.readTrace(t, "/srv/trace.json")
	for _, want := range []string{`"one"`, "waiting with ***", "pod kube-system/coredns", "unit " + k0s.ControllerUnit} {
		if !strings.Contains(content, want) {
			t.Errorf("the trace lacks %q:\n%s", want, content)
		}
	}
	if strings.Contains(content, "s3cret") {
		t.Error("the trace has a secret")
	}
	if out.Trace == nil || out.Trace.File != "/srv/trace.json" || len(out.Trace.CriticalPath) == 0 {
		t.Errorf("%+v", out.Trace)
	}
	notes := strings.Join(m.notes, "\n")
	if !strings.Contains(notes, "step one") || !strings.Contains(notes, "Trace: /srv/trace.json") || strings.Contains(notes, "lacks") {
		t.Error(notes)
	}
}

func TestExecute_WritesTheTraceOfAFailedRun(t *testing.T) {
	m := newTraced(t)
	m.fake.Expect("systemctl show").AnyTimes().Return("", nil)
	for range 2 { // the second run replaces the trace of the first one
		out, err := m.execute(t, "/srv/trace.json", func(context.Context, step.Report) error { return errors.New("broken") })
		if err == nil || out.Trace == nil {
			t.Fatal(out, err)
		}
		if _, events := m.readTrace(t, "/srv/trace.json"); len(events) < 3 {
			t.Error(events)
		}
	}
	const lacks = "warning: the trace lacks the objects of the cluster: this host has no kubeconfig of an administrator"
	if notes := strings.Join(m.notes, "\n"); !strings.Contains(notes, lacks) {
		t.Error(notes)
	}
}

func TestExecute_RefusesAPlaceForTheTraceBeforeTheRun(t *testing.T) {
	for name, tc := range map[string]struct{ file, want string }{
		"a missing folder":   {"/srv/missing/trace.json", "its folder cannot be read"},
		"another file":       {"/srv/x", "it exists, and is not a trace"},
		"a folder":           {"/srv", "it exists, and is not a trace"},
		"below a file":       {"/srv/x/trace.json", "its folder cannot be read"},
		"a place of nothing": {"/proc/1/trace.json", "its folder cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newTraced(t)
			_, err := m.execute(t, tc.file, func(context.Context, step.Report) error { t.Error("the run began"); return nil })
			if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), tc.want) {
				t.Error(err)
			}
		})
	}
	t.Run("a file system that is read-only", func(t *testing.T) {
		m := newTraced(t)
		m.Host = m.ReadOnly().Host
		_, err := m.execute(t, "/srv/trace.json", func(context.Context, step.Report) error { t.Error("the run began"); return nil })
		if problem.ExitCode(err) != problem.ExitUsage {
			t.Error(err)
		}
	})
}
