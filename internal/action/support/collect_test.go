package support

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// machine is a host with an installed controller.
type machine struct {
	*action.Env
	fake *hosttest.Fake
	api  *kubetest.Server
}

// unitTexts is what systemctl prints for units.
type unitTexts map[string]string

func (u unitTexts) String() string {
	var b strings.Builder
	for _, name := range append([]string{k0s.ControllerUnit}, otherUnits...) {
		state := "LoadState=not-found"
		if u[name] != "" {
			state = u[name]
		}
		fmt.Fprintf(&b, "Id=%s\n%s\n\n", name, state)
	}
	return b.String()
}

// newMachine returns a controller whose k0s runs, unless units has another state for it.
func newMachine(t *testing.T, units unitTexts) *machine {
	t.Helper()
	m := &machine{fake: hosttest.New(t)}
	if units == nil {
		units = unitTexts{k0s.ControllerUnit: "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nResult=success\nNRestarts=0\nActiveEnterTimestampMonotonic=60000000"}
	}
	m.fake.Expect("systemctl show").AnyTimes().Return(units.String(), nil)
	m.Env = newEnv(m.fake)
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{"/proc/uptime": "3600.50 7000.00\n", "/etc/machine-id": "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf\n"})
	testkit.Must(t, journal.WriteReceipt(m.Host, m.DataDir, journal.Receipt{Name: "my-app", Role: "controller", Node: "c1",
		MachineID: "d0d1d2d3d4d5d6d7d8d9dadbdcdddedf", UpdatedAt: now.Add(-time.Hour)}))
	return m
}

func newEnv(fake *hosttest.Fake) *action.Env {
	return &action.Env{Host: fake.Host(), GlobalOptions: action.GlobalOptions{DataDir: "/var/lib/plinth", Version: "v1.2.3", Now: func() time.Time { return now },
		Note: func(string) {}, Events: func(step.Event) {}}}
}

// serveAPI gives the host an API server and its administrator's kubeconfig.
func (m *machine) serveAPI(t *testing.T) *kubetest.Server {
	t.Helper()
	m.api, _ = kubetest.New(t)
	srv := httptest.NewServer(m.api)
	t.Cleanup(srv.Close)
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{k0s.AdminConf: kubeconfig(srv.URL)})
	return m.api
}

func kubeconfig(url string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"t","contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],
		"users":[{"name":"t","user":{}}],"clusters":[{"name":"t","cluster":{"server":%q}}]}`, url)
}

// journalLine returns a line of journalctl's format short-unix.
func journalLine(at time.Time, text string) string {
	return fmt.Sprintf("%d.250000 c1 k0s[9]: %s\n", at.Unix(), text)
}

func (m *machine) snapshot(t *testing.T) diagnosis.Snapshot {
	t.Helper()
	return newCollector(m.Env).snapshot(t.Context())
}

func TestSnapshot_OfAHostWhoseK0sDoesNotStart(t *testing.T) {
	m := newMachine(t, unitTexts{k0s.ControllerUnit: "LoadState=loaded\nActiveState=failed\nSubState=failed\nUnitFileState=enabled\nResult=exit-code\nNRestarts=5"})
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{k0s.AdminConf: kubeconfig("https://127.0.0.1:1")})
	m.fake.Expect("journalctl --no-pager --quiet --output=short-unix --lines=2000 --unit=k0scontroller.service").
		Return(journalLine(now.Add(-9*time.Hour), "old")+journalLine(now.Add(-time.Minute), `time="t" level=error msg="listen tcp :6443: bind: address already in use"`), nil)
	m.fake.Expect("journalctl").AnyTimes().Return("", errors.New("no journal"))
	s := m.snapshot(t)
	if s.K0s.Active != "failed" || s.K0s.Restarts != 5 || s.ClusterError == "" || s.Cluster != nil || !s.Install.Installed || len(s.Logs[diagnosis.LogK0s]) != 1 {
		t.Errorf("%+v %+v %q", s.K0s, s.Install, s.Logs)
	}
	if !slices.ContainsFunc(newReport(s).Unknown, func(u facts.Unknown) bool { return strings.HasPrefix(u.Fact, "log: ") }) {
		t.Errorf("the failed logs are not missing: %+v", s.Missing)
	}
	if found := diagnosis.Diagnose(s); !slices.ContainsFunc(found, func(f diagnosis.Finding) bool { return f.Rule == "port-taken" && f.Severity == diagnosis.Error }) {
		t.Errorf("%+v", found)
	}
}

func TestSnapshot_OfARunningCluster(t *testing.T) {
	m := newMachine(t, nil)
	m.fake.Expect("journalctl").AnyTimes().Return("", nil)
	api := m.serveAPI(t)
	meta := map[string]any{"namespace": "app", "name": "web", "creationTimestamp": "2026-01-02T10:00:00Z"}
	api.Put("/api/v1/namespaces/app/pods/web", map[string]any{"metadata": meta, "status": map[string]any{"phase": "Running", "containerStatuses": []any{map[string]any{
		"name": "web", "restartCount": 7, "state": map[string]any{"waiting": map[string]any{"reason": "CrashLoopBackOff"}}, "lastState": map[string]any{"terminated": map[string]any{"exitCode": 1}}}}}})
	api.Logs = map[string]string{"app/web": "2026-01-02T11:59:00Z cannot connect to the database\n"}
	api.Put("/api/v1/nodes/c1", map[string]any{"metadata": map[string]any{"name": "c1"}, "status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}})
	api.Put("/api/v1/namespaces/app/secrets/sh.helm.release.v1.app.v3", map[string]any{"metadata": map[string]any{"namespace": "app", "name": "x",
		"labels": map[string]any{"owner": "helm", "name": "app", "status": "failed", "version": "3"}}})
	s := m.snapshot(t)
	if s.Cluster == nil || len(s.Cluster.Pods) != 1 || len(s.Cluster.Nodes) != 1 || s.ClusterError != "" {
		t.Fatalf("%+v %q %+v", s.Cluster, s.ClusterError, s.Missing)
	}
	if want := now.Add(-3600*time.Second - 500*time.Millisecond + time.Minute); !s.K0s.Since.Equal(want) {
		t.Errorf("since %s, want %s", s.K0s.Since, want)
	}
	var rules []string
	for _, f := range diagnosis.Diagnose(s) {
		rules = append(rules, f.Rule)
		if f.Rule == "pod-crashes" && !strings.Contains(f.Evidence[0], "cannot connect to the database") {
			t.Errorf("%+v", f)
		}
	}
	if !slices.Contains(rules, "pod-crashes") || !slices.Contains(rules, "release-failed") {
		t.Errorf("%q", rules)
	}
}

func TestSnapshot_DoesNotWaitForWhatHangs(t *testing.T) {
	m := newMachine(t, nil)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	m.fake.Expect("journalctl").AnyTimes().Do(func(host.Cmd) { <-hang })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	s := openCollector(ctx, m.Env).snapshot(ctx)
	if s.K0s.Active != "active" || !slices.Contains(s.Missing, facts.Unknown{Fact: "log of k0s", Reason: "no answer in time"}) {
		t.Errorf("%+v %+v", s.K0s, s.Missing)
	}
}

func TestSnapshot_ChangesNothing(t *testing.T) {
	m := newMachine(t, nil)
	m.fake.Expect("journalctl").AnyTimes().Return("", nil)
	before := listTree(t, m.fake.Root)
	m.snapshot(t)
	if after := listTree(t, m.fake.Root); !slices.Equal(before, after) || len(m.fake.Restarts) > 0 {
		t.Errorf("%q, was %q", after, before)
	}
}

// listTree returns the files below root with their sizes.
func listTree(t *testing.T, root string) (all []string) {
	t.Helper()
	testkit.Must(t, filepath.Walk(root, func(p string, info os.FileInfo, err error) error {
		if err == nil {
			all = append(all, fmt.Sprint(p, info.Size(), info.Mode()))
		}
		return err
	}))
	return all
}

func TestParseLog_SkipsWhatIsNoLine(t *testing.T) {
	lines := parseLog(journalLine(now.Add(-time.Minute), `level=info msg="a: b"`) + "-- Boot 12 --\nnot a line\n" + journalLine(now, "new: last"))
	if len(lines) != 2 || lines[0].Text != `level=info msg="a: b"` || !lines[1].Time.Equal(now.Add(250*time.Millisecond)) || lines[1].Text != "new: last" {
		t.Errorf("%+v", lines)
	}
}

func FuzzParseLog(f *testing.F) {
	f.Add(journalLine(now, "text"))
	f.Add("1e300 a: b\n")
	f.Fuzz(func(_ *testing.T, text string) { parseLog(text) })
}

func TestReport_ShowsNoSecretsOfLogs(t *testing.T) {
	s := diagnosis.Snapshot{Logs: map[string][]diagnosis.Line{diagnosis.LogK0s: {{Text: "write a --token=s3cretValue: no space left on device"}}}}
	r := newReport(s)
	if len(r.Findings) != 1 || strings.Contains(r.Findings[0].Evidence[0], "s3cretValue") || !strings.Contains(r.Findings[0].Evidence[0], "no space left") {
		t.Errorf("%+v", r)
	}
}

func TestLikelyCause_SkipsRulesThatNameOnlyEffects(t *testing.T) {
	find := func(rule string, severity diagnosis.Severity) diagnosis.Finding {
		return diagnosis.Finding{Rule: rule, Severity: severity}
	}
	if f, ok := likelyCause([]diagnosis.Finding{find("k0s-not-running", diagnosis.Error), find("image-missing", diagnosis.Error), find("etcd-slow", diagnosis.Warning)}); !ok || f.Rule != "image-missing" {
		t.Errorf("%+v %v", f, ok)
	}
	if f, ok := likelyCause([]diagnosis.Finding{find("run-unfinished", diagnosis.Error), find("disk-full", diagnosis.Warning)}); ok {
		t.Errorf("%+v", f)
	}
}

func TestNewestReleases_UsesTheHighestRevision(t *testing.T) {
	secret := func(version, status string) secretMetadata {
		return secretMetadata{metav1.ObjectMeta{Namespace: "app", Labels: map[string]string{"owner": "helm", "name": "web", "version": version, "status": status, "modifiedAt": "1767355200"}}}
	}
	all := newestReleases([]secretMetadata{secret("9", "superseded"), secret("10", "pending-upgrade"), secret("2", "superseded"), {}})
	if len(all) != 1 || all[0].Status != "pending-upgrade" || !all[0].Changed.Equal(now) {
		t.Errorf("%+v", all)
	}
}

func TestLogsToRead_SelectsWhatIsNotReady(t *testing.T) {
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	pod := func(name string, ready bool, state corev1.ContainerState, restarts int32) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: name}, Status: corev1.PodStatus{
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", Ready: ready, State: state, RestartCount: restarts}}}}
	}
	dns := pod("coredns", true, running, 0)
	dns.Labels = map[string]string{"k8s-app": "kube-dns"}
	back := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	logs := logsToRead([]corev1.Pod{pod("good", true, running, 0), pod("crashes", false, back, 3), pod("pulls", false, back, 0), dns,
		pod("done", false, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}, 0)})
	if want := []containerLog{{"kube-system", "crashes", "c", true}, {"kube-system", "coredns", "c", false}}; !slices.Equal(logs, want) {
		t.Errorf("%+v", logs)
	}
}
