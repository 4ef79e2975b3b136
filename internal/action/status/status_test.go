package status_test

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"github.com/plinthdev/plinth/internal/testkit"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action/status"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
)

const dataDir = "/var/lib/plinth"

func clock() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// inspect returns the status of f through a read-only host.
func inspect(t *testing.T, f *hosttest.Fake) status.Status {
	t.Helper()
	s, err := status.Inspect(t.Context(), host.ReadOnly(f.Host()), dataDir, clock)
	testkit.Must(t, err)
	return s
}

// beginInstall opens the journal of f and begins an install in it.
func beginInstall(t *testing.T, f *hosttest.Fake) *journal.Journal {
	t.Helper()
	j, err := journal.Open(f.Host(), dataDir, clock)
	testkit.Must(t, err)
	testkit.Must(t, j.BeginRun("install", journal.Args{}))
	return j
}

func TestInspect_IsEmptyOnNewHost(t *testing.T) {
	s := inspect(t, hosttest.New(t))
	if s.Installed || s.Unfinished != nil || s.Service != "" || len(s.Warnings) != 0 || s.Console != nil {
		t.Errorf("status is %+v", s)
	}
}

func TestStatusWithRunning_ReplacesUnfinishedRun(t *testing.T) {
	f := hosttest.New(t)
	j, err := journal.Open(f.Host(), dataDir, clock)
	testkit.Must(t, err)
	testkit.Must(t, j.BeginRun("install", journal.Args{Steps: 23}))
	testkit.Must(t, j.BeginStep("k0s-binary", nil))
	testkit.Must(t, j.EndStep("k0s-binary", nil))
	testkit.Must(t, j.BeginStep("k0s-start", nil))
	s := inspect(t, f).WithRunning(journal.Holder{PID: 42, Verb: "install", StartedAt: clock()}, j.Runs())
	if r := s.Running; s.Unfinished != nil || r.Step != "k0s-start" || r.StepsStarted != 2 || r.Steps != 23 || r.PID != 42 {
		t.Errorf("%+v %+v", s.Unfinished, r)
	}
	s = inspect(t, f).WithRunning(journal.Holder{PID: 43, Verb: "install", StartedAt: clock().Add(time.Hour)}, j.Runs())
	if s.Unfinished == nil || s.Running.Step != "" {
		t.Errorf("another run, which has not changed anything yet: %+v %+v", s.Unfinished, s.Running)
	}
}

func TestInspect_ReportsUnfinishedRun(t *testing.T) {
	f := hosttest.New(t)
	j := beginInstall(t, f)
	testkit.Must(t, j.BeginStep("kernel", nil))
	s := inspect(t, f)
	if len(s.Warnings)+len(s.Details) != 0 {
		t.Errorf("nothing was started, but the cluster does not answer: %q, %q", s.Warnings, s.Details)
	}
	if s.Installed || s.Unfinished == nil || *s.Unfinished != (status.Unfinished{Verb: "install", StartedAt: clock(), Step: "kernel"}) {
		t.Errorf("killed: %+v", s.Unfinished)
	}
	failure := errors.New("no space left")
	testkit.Must(t, j.EndStep("kernel", failure))
	testkit.Must(t, j.EndRun(failure))
	if s := inspect(t, f); s.Unfinished == nil || s.Unfinished.Failed != "no space left" {
		t.Errorf("failed: %+v", s.Unfinished)
	}
	testkit.Must(t, j.BeginRun("install", journal.Args{}))
	testkit.Must(t, j.EndRun(nil))
	if s := inspect(t, f); s.Unfinished != nil {
		t.Errorf("resumed: %+v", s.Unfinished)
	}
}

func TestInspect_WarnsIfClusterDoesNotAnswer(t *testing.T) {
	f := hosttest.New(t)
	testkit.Must(t, beginInstall(t, f).EndRun(nil))
	testkit.Must(t, journal.WriteReceipt(f.Host(), dataDir, journal.Receipt{Name: "my-app", Role: "controller", Bundle: "sha256:abc",
		Versions: map[string]string{"k0s": "v1.33.8+k0s.1"}, Warnings: []string{"the gate was skipped"}}))
	f.Units[k0s.ControllerUnit] = host.UnitState{Load: "loaded", Active: "failed", Sub: "failed"}
	s := inspect(t, f)
	if !s.Installed || s.Name != "my-app" || s.Role != "controller" || s.Bundle != "sha256:abc" || s.Service != "failed" || s.Versions["k0s"] == "" {
		t.Errorf("status is %+v", s)
	}
	if len(s.Warnings) != 3 || s.Warnings[0] != "the gate was skipped" || !strings.HasPrefix(s.Warnings[1], "k0s is not running (failed)") ||
		s.Warnings[2] != "the cluster does not answer: this host has no credentials for it" || len(s.Details) != 1 {
		t.Errorf("warnings are %q", s.Warnings)
	}
}

func TestInspect_OfStoppedClusterHasCleanWords(t *testing.T) {
	f := hosttest.New(t)
	testkit.Must(t, beginInstall(t, f).EndRun(nil))
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	testkit.Must(t, f.Host().Write(k0s.AdminConf, strings.NewReader(fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"t",
		"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],"users":[{"name":"t","user":{}}],
		"clusters":[{"name":"t","cluster":{"server":%q}}]}`, srv.URL)), 0o600))
	testkit.Must(t, journal.WriteReceipt(f.Host(), dataDir, journal.Receipt{Name: "my-app", Role: "controller", Address: "127.0.0.1",
		Console: journal.Console{Namespace: "kotsadm", Port: 1}, AddOns: []journal.AddOn{{Name: "registry", Version: "1", Namespace: "registry"}}}))
	s := inspect(t, f)
	for what, reason := range map[string]string{"add-on": s.AddOns[0].Reason, "console": s.Console.Reason, "API": s.API[0].Reason, "warning": s.Warnings[0]} {
		t.Run(what, func(t *testing.T) {
			if !strings.HasSuffix(reason, "connection refused") || strings.Contains(reason, "dial tcp") || strings.Contains(reason, "http://") {
				t.Errorf("%q", reason)
			}
		})
	}
	if all := strings.Join(s.Details, "\n"); !strings.Contains(all, "registry: Get ") || !strings.Contains(all, "console: ") {
		t.Errorf("details: %s", all)
	}
}

func TestInspect_SortsCertificatesByExpiryAndWarns(t *testing.T) {
	f := hosttest.New(t)
	testkit.Must(t, beginInstall(t, f).EndRun(nil))
	put := func(name string, content []byte) {
		testkit.Must(t, f.Host().Write(k0s.DataDir+"/pki/"+name, strings.NewReader(string(content)), 0o600))
	}
	ca, err := pki.NewClusterCA(clock().AddDate(-9, -1, 0))
	testkit.Must(t, err)
	put("ca.crt", ca.Cert)
	for name, age := range map[string]time.Duration{"server.crt": 0, "etcd/peer.crt": pki.ServerLifetime * 3 / 4, "ccm.crt": pki.ServerLifetime * 9 / 10} {
		pair, err := ca.IssueServerCert([]string{"localhost"}, clock().Add(-age))
		testkit.Must(t, err)
		put(name, pair.Cert)
		put(strings.Replace(name, ".crt", ".key", 1), pair.Key)
	}
	put("admin.crt", []byte("no PEM"))
	put("scheduler.crt", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	put("other.crt", ca.Cert)
	s := inspect(t, f)
	var names []string
	for _, c := range s.Certificates {
		names = append(names, c.Name)
		if c.Expires.Location() != time.UTC {
			t.Errorf("%s expires %s", c.Path, c.Expires)
		}
	}
	if want := []string{"ccm", "etcd-peer", "ca", "apiserver"}; !slices.Equal(names, want) || s.Certificates[0].Path != k0s.DataDir+"/pki/ccm.crt" {
		t.Errorf("listed %v, want %v", names, want)
	}
	warnings := strings.Join(s.Warnings, "\n")
	for _, want := range []string{"certificate admin (" + k0s.DataDir + "/pki/admin.crt) cannot be read", "certificate scheduler", "certificate ccm ends on 2026-03-25, and its renewal is overdue",
		"the authority of cluster: certificate ca ends on 2026-11-30 and cannot be renewed"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("no %q in\n%s", want, warnings)
		}
	}
	if strings.Contains(warnings, "peer") || strings.Contains(warnings, "apiserver") {
		t.Errorf("warnings are\n%s", warnings)
	}
}

// consoleStatus starts a server that answers as the admin console does, with this health, and
// returns its port and certificate.
func consoleStatus(t *testing.T, health string) (port int, cert []byte) {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(health)) }))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().(*net.TCPAddr).Port, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
}

// newCluster returns a host with a finished install and the fake API of its cluster.
func newCluster(t *testing.T) (*hosttest.Fake, *kubetest.Server) {
	t.Helper()
	f := hosttest.New(t)
	testkit.Must(t, beginInstall(t, f).EndRun(nil))
	api, _ := kubetest.New(t)
	srv := httptest.NewServer(api)
	t.Cleanup(srv.Close)
	testkit.Must(t, f.Host().Write(k0s.AdminConf, strings.NewReader(fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"t",
		"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],"users":[{"name":"t","user":{}}],
		"clusters":[{"name":"t","cluster":{"server":%q}}]}`, srv.URL)), 0o600))
	return f, api
}

func TestInspect_ReportsConsoleState(t *testing.T) {
	for name, c := range map[string]struct {
		health, reason string
		certificate    bool
		away           bool // whether the node with the console's files is not Ready
	}{
		"a healthy console":                             {`{"version":"v1.131.2","status":{"database":{"connected":true},"storage":{"available":true}}}`, "", true, false},
		"a healthy console whose node is not Ready yet": {`{"version":"v1.131.2","status":{"database":{"connected":true},"storage":{"available":true}}}`, "", true, true},
		"one whose node is away":                        {`<html>`, "its files are only on node n1, which is not Ready", true, true},
		"one without its database":                      {`{"version":"v1.131.2","status":{"database":{"connected":false},"storage":{"available":true}}}`, "database or its storage is not available", true, false},
		"something else":                                {`<html>`, "the response is not from the console", true, false},
		"one without a certificate":                     {`{}`, "not found", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, api := newCluster(t)
			port, cert := consoleStatus(t, c.health)
			if c.certificate {
				api.Put("/api/v1/namespaces/kotsadm/secrets/kotsadm-tls", map[string]any{"apiVersion": "v1", "kind": "Secret",
					"metadata": map[string]any{"name": "kotsadm-tls", "namespace": "kotsadm"},
					"data":     map[string]any{"tls.crt": base64.StdEncoding.EncodeToString(cert)}})
			}
			ready := map[bool]string{true: "Unknown", false: "True"}[c.away]
			putConsoleNode(api, ready)
			testkit.Must(t, journal.WriteReceipt(f.Host(), dataDir, journal.Receipt{Name: "my-app", Address: "127.0.0.1",
				Console: journal.Console{Namespace: "kotsadm", Port: port, Hostname: "console.example.com"}}))
			s := inspect(t, f)
			if len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "etcd on this host does not answer") || s.Console == nil { // there is none in this test
				t.Fatalf("status is %+v", s)
			}
			if want := fmt.Sprintf("https://console.example.com:%d", port); s.Console.URL != want {
				t.Errorf("URL is %s, want %s", s.Console.URL, want)
			}
			if s.Console.Ready != (c.reason == "") || !strings.Contains(s.Console.Reason, c.reason) || s.Console.Ready && s.Console.Version != "1.131.2" {
				t.Errorf("console is %+v, want the reason %q", *s.Console, c.reason)
			}
		})
	}
}

// putConsoleNode adds the node n1, whose condition Ready is ready, and the console's volume on it.
func putConsoleNode(api *kubetest.Server, ready string) {
	api.Put("/api/v1/nodes/n1", map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": "n1"},
		"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready}}}})
	api.Put("/api/v1/namespaces/kotsadm/persistentvolumeclaims/kotsadmdata-kotsadm-0", map[string]any{"apiVersion": "v1", "kind": "PersistentVolumeClaim",
		"metadata": map[string]any{"name": "kotsadmdata-kotsadm-0", "namespace": "kotsadm"}, "spec": map[string]any{"volumeName": "v"}})
	api.Put("/api/v1/persistentvolumes/v", map[string]any{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": map[string]any{"name": "v"},
		"spec": map[string]any{"nodeAffinity": map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{"matchExpressions": []any{
			map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{"n1"}}}}}}}}})
}

func TestInspect_NeverAdvisesToRemoveThisHost(t *testing.T) {
	for name, c := range map[string]struct {
		receipt string // name of this host's node
		want    string
	}{
		"another host": {"n2", "plinth node remove n1 --force"},
		"this host":    {"n1", "its files are only on this host, whose node n1 is not Ready; it is available again when the node is: sudo systemctl restart k0scontroller"},
	} {
		t.Run(name, func(t *testing.T) {
			f, api := newCluster(t)
			testkit.Must(t, journal.WriteReceipt(f.Host(), dataDir, journal.Receipt{Name: "my-app", Node: c.receipt, Address: "127.0.0.1",
				Console: journal.Console{Namespace: "kotsadm", Port: 1}}))
			putConsoleNode(api, "Unknown")
			s := inspect(t, f)
			if s.Console == nil || !strings.Contains(s.Console.Reason, c.want) || c.receipt == "n1" && strings.Contains(s.Console.Reason, "node remove") {
				t.Errorf("console: %+v", s.Console)
			}
		})
	}
}

func TestWithIdentity_WarnsFirstIfTheHostWasRenamed(t *testing.T) {
	recorded := facts.Identity{Node: "n1", MachineID: "1", Address: netip.MustParseAddr("10.0.0.5"), Unit: "k0scontroller"}
	at := facts.Network{Interfaces: []facts.Interface{{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")}}}}
	moved := facts.Network{Interfaces: []facts.Interface{{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/24")}}}}
	recorded.Controller = true
	for name, c := range map[string]struct {
		found facts.Facts
		want  string // in the first warning; "" for none
	}{
		"unchanged":          {facts.Facts{Hostname: "N1", MachineID: "1", Network: at}, ""},
		"renamed":            {facts.Facts{Hostname: "renamed", MachineID: "1", Network: at}, "sudo hostnamectl set-hostname n1\n  sudo systemctl restart k0scontroller"},
		"another machine id": {facts.Facts{Hostname: "n1", MachineID: "2", Network: at}, "echo 1 | sudo tee /etc/machine-id"},
		"another address":    {facts.Facts{Hostname: "n1", MachineID: "1", Network: moved}, "sudo ip address add 10.0.0.5/24 dev eth0"},
		"and its way":        {facts.Facts{Hostname: "n1", MachineID: "1", Network: moved}, "on the only controller of a cluster: sudo plinth repair address"},
		"nothing is known":   {facts.Facts{Unknown: []facts.Unknown{{Fact: facts.FactMachineID, Reason: "no answer"}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := status.Status{Warnings: []string{"the gate was skipped"}}
			s := before.WithIdentity(c.found, recorded)
			if (len(s.Warnings) == 2) != (c.want != "") || !strings.Contains(s.Warnings[0], c.want) || strings.Contains(s.Warnings[0], "node remove") {
				t.Errorf("%q", s.Warnings)
			}
			if len(before.WithIdentity(c.found, facts.Identity{}).Warnings) != 1 {
				t.Error("a host without an install has a warning")
			}
		})
	}
}

func TestInspect_WarnsIfOthersCanReachVolumes(t *testing.T) {
	for name, c := range map[string]struct {
		mode     os.FileMode
		uid, gid int
		want     string
	}{
		"no volumes":      {0, 0, 0, ""},
		"root only":       {0o700, 0, 0, ""},
		"listed":          {0o755, 0, 0, "/var/lib/plinth/volumes has mode 0755, needs 0700"},
		"only passed":     {0o711, 0, 0, "/var/lib/plinth/volumes has mode 0711, needs 0700"},
		"written by all":  {0o777, 0, 0, "chmod 0700 /var/lib/plinth/volumes"},
		"another user's":  {0o700, 1000, 0, "/var/lib/plinth/volumes belongs to 1000:0, needs root"},
		"another group's": {0o700, 0, 1000, "/var/lib/plinth/volumes belongs to 0:1000, needs root"},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			testkit.Must(t, beginInstall(t, f).EndRun(nil))
			if path := filepath.Join(f.Root, dataDir, "volumes"); c.mode != 0 {
				testkit.Must(t, os.Mkdir(path, 0o700), os.Chmod(path, c.mode))
				if c.uid+c.gid > 0 {
					if os.Geteuid() != 0 {
						t.Skip("only root can give a folder to another user")
					}
					testkit.Must(t, os.Chown(path, c.uid, c.gid))
				}
			}
			got := strings.Join(inspect(t, f).Warnings, "\n")
			if strings.Contains(got, "can reach the volumes") != (c.want != "") || !strings.Contains(got, c.want) {
				t.Errorf("warnings: %s", got)
			}
		})
	}
}

func TestInspect_FailsOnDamagedJournal(t *testing.T) {
	f := hosttest.New(t)
	testkit.Must(t, f.Host().Write(dataDir+"/journal.json", strings.NewReader("{"), 0o600))
	if _, err := status.Inspect(t.Context(), f.Host(), dataDir, clock); err == nil {
		t.Error("a damaged journal was treated as a missing one")
	}
}

func TestInspect_ReportsThatTheClusterHasRemovedTheHost(t *testing.T) {
	f := hosttest.New(t)
	h := f.Host()
	testkit.Must(t, beginInstall(t, f).EndRun(nil))
	testkit.Must(t, journal.WriteReceipt(h, dataDir, journal.Receipt{Name: "my-app", Role: "worker", Node: "w"}))
	ca, err := pki.NewCA("kubernetes-ca", clock())
	testkit.Must(t, err)
	for uid, want := range map[string]string{
		"first":  "this host was removed from the cluster by an administrator on c1 at 2026-01-02T03:04:05Z; run: sudo plinth reset node",
		"second": "the cluster does not answer", // admitted again since
	} {
		i, err := node.NewIdentity(clock())
		testkit.Must(t, err)
		i, err = i.Issue(nodecert.Identity{Node: "w", UID: uid, Role: "worker", Address: "10.0.0.9"}, ca, clock())
		testkit.Must(t, err)
		testkit.Must(t, i.Write(h, dataDir))
		testkit.Must(t, node.Removal{Node: "w", UID: "first", By: "an administrator on c1", At: clock()}.Write(h, dataDir))
		if s := inspect(t, f); len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], want) {
			t.Errorf("%s: %q", uid, s.Warnings)
		}
	}
}

func TestInspect_TimesOutOnSilentCluster(t *testing.T) {
	f := hosttest.New(t)
	testkit.Must(t, beginInstall(t, f).EndRun(nil))
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(stop) })
	testkit.Must(t, f.Host().Write(k0s.AdminConf, strings.NewReader(fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"t",
		"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],"users":[{"name":"t","user":{}}],
		"clusters":[{"name":"t","cluster":{"server":%q}}]}`, srv.URL)), 0o600))
	testkit.Must(t, journal.WriteReceipt(f.Host(), dataDir, journal.Receipt{Name: "my-app", Role: "controller", Address: "127.0.0.1",
		Console: journal.Console{Namespace: "kotsadm", Port: 1}, AddOns: []journal.AddOn{{Name: "kotsadm", Version: "1", Namespace: "kotsadm"}}}))
	f.Units[node.AgentUnit] = host.UnitState{Load: "loaded", Active: "active", Sub: "running"}
	start := time.Now()
	s := inspect(t, f)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(s.Warnings) != 2 || s.Warnings[0] != "the cluster does not answer within 1.5s" || !strings.HasPrefix(s.Warnings[1], "etcd on this host does not answer") {
		t.Errorf("%q", s.Warnings)
	}
	if len(s.API) != 1 || s.API[0].Ready || len(s.AddOns) != 1 || s.AddOns[0].Reason != "the cluster did not answer in time" || s.Console == nil || s.Console.Ready || s.Agent != "active" {
		t.Errorf("%+v", s)
	}
}

func TestInspect_OfUnfinishedInstallDoesNotCallItsNodeUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		args    journal.Args
		receipt bool
		role    string
		other   bool
	}{
		"an install":            {journal.Args{Node: "n1"}, false, "controller", false},
		"a join of a worker":    {journal.Args{Node: "n1", Role: "worker"}, false, "worker", false},
		"another node":          {journal.Args{Node: "n2"}, false, "unknown", true},
		"the install has ended": {journal.Args{Node: "n1"}, true, "unknown", true},
		"of an earlier build":   {journal.Args{}, false, "unknown", true},
	} {
		t.Run(name, func(t *testing.T) {
			f, api := newCluster(t)
			putConsoleNode(api, "True")
			j, err := journal.Open(f.Host(), dataDir, clock)
			testkit.Must(t, err, j.BeginRun("install", c.args), j.BeginStep("k0s-start", nil))
			if c.receipt {
				testkit.Must(t, journal.WriteReceipt(f.Host(), dataDir, journal.Receipt{Name: "my-app", Node: "n1"}))
			}
			s := inspect(t, f)
			if len(s.Nodes) != 1 || s.Nodes[0].Role != c.role || s.Nodes[0].Joining == c.other || s.Nodes[0].Admitted {
				t.Errorf("%+v", s.Nodes)
			}
		})
	}
}

// putVolume adds a volume whose source is of a type, with a claim default/NAME that has labels.
func putVolume(api *kubetest.Server, name, source string, labels map[string]any) {
	api.Put("/api/v1/persistentvolumes/pv-"+name, map[string]any{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": map[string]any{"name": "pv-" + name},
		"spec": map[string]any{source: map[string]any{"path": "/x"}, "claimRef": map[string]any{"namespace": "default", "name": name, "uid": name}}})
	api.Put("/api/v1/namespaces/default/persistentvolumeclaims/"+name, map[string]any{"apiVersion": "v1", "kind": "PersistentVolumeClaim",
		"metadata": map[string]any{"name": name, "namespace": "default", "uid": name, "labels": labels}, "spec": map[string]any{"volumeName": "pv-" + name}})
}

func TestInspect_NamesWhatSnapshotsLeaveOut(t *testing.T) {
	velero := []journal.AddOn{{Name: "velero", Version: "1.18.3", Namespace: "velero"}}
	location := func(phase string) func(api *kubetest.Server) {
		return func(api *kubetest.Server) {
			api.Put("/apis/velero.io/v1/namespaces/velero/backupstoragelocations/default", map[string]any{"apiVersion": "velero.io/v1", "kind": "BackupStorageLocation",
				"metadata": map[string]any{"name": "default", "namespace": "velero"}, "status": map[string]any{"phase": phase, "message": "no such host"}})
		}
	}
	for name, c := range map[string]struct {
		addOns []journal.AddOn
		put    func(api *kubetest.Server)
		want   string // in a warning; "" for none
	}{
		"no volumes":     {velero, func(*kubetest.Server) {}, ""},
		"without Velero": {nil, func(api *kubetest.Server) { putVolume(api, "db", "hostPath", nil) }, ""},
		"old volumes": {velero, func(api *kubetest.Server) {
			putVolume(api, "db", "hostPath", nil)
			putVolume(api, "a", "hostPath", nil)
			putVolume(api, "new", "local", nil)
			putVolume(api, "kotsadmdata", "hostPath", map[string]any{"kots.io/kotsadm": "true"})
		}, "those of the claims default/a, default/db; how to change their type"},
		"new volumes":  {velero, func(api *kubetest.Server) { putVolume(api, "new", "local", nil) }, ""},
		"a good store": {velero, location("Available"), ""},
		"failed": {velero, func(api *kubetest.Server) {
			api.Put("/apis/velero.io/v1/namespaces/velero/backups/b", map[string]any{"apiVersion": "velero.io/v1", "kind": "Backup",
				"metadata": map[string]any{"name": "b", "namespace": "velero", "creationTimestamp": "2026-01-02T03:04:05Z", "annotations": map[string]any{"kots.io/instance": "true"}},
				"status":   map[string]any{"phase": "PartiallyFailed", "errors": 1}})
		}, "the snapshot b failed at 2026-01-02T03:04:05Z, and no later one is complete: PartiallyFailed: errors in its log: 1; its log is on the page Snapshots of the console"},
		"one of the registry failed": {velero, func(api *kubetest.Server) {
			api.Put("/apis/velero.io/v1/namespaces/velero/backups/b-registry", map[string]any{"apiVersion": "velero.io/v1", "kind": "Backup",
				"metadata": map[string]any{"name": "b-registry", "namespace": "velero", "creationTimestamp": "2026-01-02T03:04:05Z", "annotations": map[string]any{"plinth.dev/registry-of": "b"}},
				"status":   map[string]any{"phase": "Failed"}})
		}, "errors in its log: 0; the log of Velero has more: sudo plinth kubectl logs -n velero deployment/velero"},
		"no such store": {velero, location("Unavailable"), "the location of snapshots is Unavailable: no such host; until it is available, snapshots fail"},
	} {
		t.Run(name, func(t *testing.T) {
			f, api := newCluster(t)
			c.put(api)
			testkit.Must(t, journal.WriteReceipt(f.Host(), dataDir, journal.Receipt{Name: "my-app", Address: "127.0.0.1", AddOns: c.addOns}))
			found := slices.DeleteFunc(inspect(t, f).Warnings, func(w string) bool { return !strings.Contains(w, "snapshot") })
			if c.want == "" && len(found) > 0 || c.want != "" && (len(found) != 1 || !strings.Contains(found[0], c.want)) {
				t.Errorf("%q, want %q", found, c.want)
			}
		})
	}
}
