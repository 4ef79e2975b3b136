package support

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/supportbundle"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

// fakeAgents are the agents of other nodes by address. collect returns the part of a node.
type fakeAgents struct {
	collect map[string]func(agent.SupportRequest) ([]byte, error)

	mu      sync.Mutex
	parts   map[string][]byte
	running int
	most    int // collections at the same time
}

func (f *fakeAgents) Start(_ context.Context, node netip.Addr, q agent.SupportRequest) error {
	collect := f.collect[node.String()]
	if collect == nil {
		return errors.New("connection refused")
	}
	f.mu.Lock()
	f.running++
	f.most = max(f.most, f.running)
	f.mu.Unlock()
	part, err := collect(q)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.parts == nil {
		f.parts = map[string][]byte{}
	}
	f.parts[node.String()+q.ID] = part
	return err
}

func (f *fakeAgents) State(_ context.Context, node netip.Addr) (agent.SupportState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, part := range f.parts {
		if id, ok := strings.CutPrefix(key, node.String()); ok {
			return agent.SupportState{ID: id, Size: int64(len(part))}, nil
		}
	}
	return agent.SupportState{}, nil
}

func (f *fakeAgents) Fetch(_ context.Context, node netip.Addr, id string, limit int64) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running--
	part := f.parts[node.String()+id]
	if int64(len(part)) > limit {
		return nil, errors.New("too large")
	}
	return part, nil
}

// newWorker returns a worker w1 whose files and logs have text.
func newWorker(t *testing.T, text string) *machine {
	t.Helper()
	m := &machine{fake: hosttest.New(t)}
	m.fake.Expect("systemctl show").AnyTimes().Return(unitTexts{}.String(), nil)
	m.Env = newEnv(m.fake)
	m.expectCommands(t, text)
	testkit.WriteFiles(t, m.fake.Root, 0o600, map[string]string{"/proc/uptime": "3600.50 7000.00\n", "/etc/machine-id": "e0d1d2d3d4d5d6d7d8d9dadbdcdddedf\n",
		"/etc/hosts": text})
	testkit.Must(t, journal.WriteReceipt(m.Host, m.DataDir, journal.Receipt{Name: "my-app", Role: "worker", Node: "w1",
		MachineID: "00000000000000000000000000000000", UpdatedAt: now.Add(-time.Hour)}))
	return m
}

// collectPart returns what this node's agent sends.
func (m *machine) collectPart(t *testing.T) func(agent.SupportRequest) ([]byte, error) {
	t.Helper()
	return func(q agent.SupportRequest) ([]byte, error) {
		if err := CollectPart(t.Context(), m.Env, PartOptions{ID: q.ID, Since: time.Duration(q.Since) * time.Second, Limit: q.Limit}); err != nil {
			return nil, err
		}
		return m.Host.ReadFile(desired.SupportPartPath(m.DataDir, q.ID))
	}
}

// newCluster returns the controller c1 of a cluster with the workers names.
func newCluster(t *testing.T, names ...string) *machine {
	t.Helper()
	m := newMachine(t, nil)
	m.fake.Expect("journalctl").AnyTimes().Return("", nil)
	m.serveAPI(t)
	client, err := m.KubeClient()
	testkit.Must(t, err)
	kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "c1", Role: token.Controller})
	for i, name := range names {
		kubetest.RecordNodes(t, client, kube.NodeRecord{Node: name, Role: token.Worker, Address: fmt.Sprintf("10.0.0.%d", 10+i)})
	}
	return m
}

// createFrom creates a bundle with the agents of other nodes; nil for those of the cluster.
func (m *machine) createFrom(t *testing.T, agents *fakeAgents, nodes ...string) (BundleResult, map[string]string) {
	t.Helper()
	var api nodeAPI
	if agents != nil {
		api = agents
	}
	r, err := createBundle(t.Context(), m.Env, BundleOptions{Dir: "/root", Since: time.Hour, Nodes: nodes}, api)
	testkit.Must(t, err)
	raw, err := m.Host.ReadFile(r.Path)
	testkit.Must(t, err)
	testkit.Must(t, m.Host.RemoveAll(r.Path))
	return r, readBundle(t, bytes.NewReader(raw))
}

func TestCreateBundle_OfSeveralNodes(t *testing.T) {
	texts, secrets := plantedSecrets(t)
	const byValue = "an0rdinary-looking-value"
	text := "first\n" + strings.Join(texts, "\n---\n") + "\n---\nfound " + byValue + "\nlast\n"
	w1, m := newWorker(t, text), newCluster(t, "w1", "w2")
	m.api.Put("/api/v1/namespaces/app/secrets/s", map[string]any{"metadata": map[string]any{"namespace": "app", "name": "s"},
		"data": map[string]any{"x": base64.StdEncoding.EncodeToString([]byte(byValue))}})
	r, found := m.createFrom(t, &fakeAgents{collect: map[string]func(agent.SupportRequest) ([]byte, error){"10.0.0.10": w1.collectPart(t)}})

	for name, content := range found {
		for _, s := range append(secrets, byValue) {
			if strings.Contains(content, s) || strings.Contains(content, strings.Trim(quote(s), `"`)) {
				t.Errorf("%s has %q", name, s)
			}
		}
	}
	for _, node := range []string{"c1", "w1"} {
		for _, name := range []string{"host-collectors/plinth/%s/snapshot.json", "host-collectors/plinth/%s/diagnosis.json", "host-collectors/system/%s/memory.json"} {
			if name = fmt.Sprintf(name, node); !json.Valid([]byte(found[name])) {
				t.Errorf("%s: %q", name, found[name])
			}
		}
	}
	hosts := found["host-collectors/plinth/w1/files/etc/hosts"]
	if !strings.HasPrefix(hosts, "first\n") || !strings.HasSuffix(hosts, "found ***REDACTED:known-secret***\nlast\n") ||
		strings.Count(hosts, "\n") != strings.Count(text, "\n") {
		t.Errorf("%s", hosts)
	}
	for _, name := range []string{"host-collectors/journald/w1/k0s.txt", "host-collectors/run-host/w1/df.txt", "cluster-resources/nodes.json", "analysis.json"} {
		if found[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	if _, ok := found[folderPlinth+"snapshot.json"]; ok {
		t.Error("this host is not in its folder: analyzers would see no other one")
	}
	if list := strings.Join(strings.Fields(found[nodeListFile]), ""); list != `{"nodes":["c1","w1"]}` {
		t.Error(list)
	}
	if !strings.Contains(found["left-out.json"], `"host-collectors/plinth/w2/"`) || !strings.Contains(found[folderPlinth+"nodes.json"], "its agent does not collect: connection refused") {
		t.Errorf("%s %s", found["left-out.json"], found[folderPlinth+"nodes.json"])
	}
	if len(r.Nodes) != 3 || r.Nodes[0].Name != "c1" || !r.Nodes[0].Collected || !r.Nodes[1].Collected ||
		r.Nodes[2].Collected || r.Nodes[2].Name != "w2" || r.Nodes[2].Reason == "" {
		t.Errorf("%+v", r.Nodes)
	}
	changed := slices.ContainsFunc(r.Nodes[1].Findings, func(f diagnosis.Finding) bool { return f.Rule == "machine-id-changed" })
	if !changed || !strings.Contains(found["analysis.json"], "plinth.w1.machine.id.changed") {
		t.Errorf("%+v", r.Nodes[1].Findings)
	}
}

func TestCreateBundle_ChoosesNodes(t *testing.T) {
	empty := func(agent.SupportRequest) ([]byte, error) { return nil, errors.New("no") }
	agents := func() *fakeAgents {
		return &fakeAgents{collect: map[string]func(agent.SupportRequest) ([]byte, error){"10.0.0.10": empty, "10.0.0.11": empty}}
	}
	names := func(r BundleResult) (all []string) {
		for _, n := range r.Nodes {
			all = append(all, n.Name)
		}
		return all
	}
	m := newCluster(t, "w1", "w2")
	for name, c := range map[string]struct {
		nodes []string
		want  []string // nil for this host alone
	}{
		"all by default":    {nil, []string{"c1", "w1", "w2"}},
		"all":               {[]string{"all"}, []string{"c1", "w1", "w2"}},
		"one":               {[]string{"w2"}, []string{"c1", "w2"}},
		"this one and one":  {[]string{"c1", "w1"}, []string{"c1", "w1"}},
		"this one only":     {[]string{"c1"}, nil},
		"all and one of it": {[]string{"all", "w1"}, []string{"c1", "w1", "w2"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, found := m.createFrom(t, agents(), c.nodes...)
			if got := names(r); !slices.Equal(got, c.want) || (found[folderPlinth+"snapshot.json"] != "") != (c.want == nil) {
				t.Errorf("%v", got)
			}
		})
	}
	refused := func(t *testing.T, m *machine, nodes ...string) {
		t.Helper()
		_, err := createBundle(t.Context(), m.Env, BundleOptions{Dir: "/root", Since: time.Hour, Nodes: nodes}, agents())
		if problem.ExitCode(err) != problem.ExitUsage {
			t.Errorf("%v", err)
		}
	}
	t.Run("one that does not exist", func(t *testing.T) { refused(t, m, "w3") })
	t.Run("on a worker", func(t *testing.T) {
		w1 := newWorker(t, "text")
		testkit.WriteFiles(t, w1.fake.Root, 0o600, map[string]string{k0s.KubeletConf: kubeconfig("https://127.0.0.1:1")})
		refused(t, w1, "c1")
		refused(t, w1, "all")
		if r, found := w1.createFrom(t, agents()); r.Nodes != nil || found[folderPlinth+"snapshot.json"] == "" {
			t.Errorf("%+v", r.Nodes)
		}
	})
	t.Run("without the certificate of the agent", func(t *testing.T) {
		r, found := m.createFrom(t, nil)
		if !slices.Equal(names(r), []string{"c1", "w1", "w2"}) || r.Nodes[1].Collected || r.Nodes[1].Reason == "" || found["analysis.json"] == "" {
			t.Errorf("%+v", r.Nodes)
		}
	})
	t.Run("while the API server is down", func(t *testing.T) {
		down := newMachine(t, nil)
		down.fake.Expect("journalctl").AnyTimes().Return("", nil)
		testkit.WriteFiles(t, down.fake.Root, 0o600, map[string]string{k0s.AdminConf: kubeconfig("https://127.0.0.1:1")})
		r, found := down.createFrom(t, agents())
		if r.Nodes != nil || found[folderPlinth+"snapshot.json"] == "" || !strings.Contains(found["left-out.json"], "the nodes of the cluster are not known") {
			t.Errorf("%+v %s", r.Nodes, found["left-out.json"])
		}
		if r, _ = down.createFrom(t, agents(), "w1"); !slices.Equal(names(r), []string{"c1", "w1"}) || r.Nodes[1].Reason == "" {
			t.Errorf("%+v", r.Nodes)
		}
	})
}

func TestCreateBundle_AsksFewNodesAtOnce(t *testing.T) {
	m := newCluster(t, "w1", "w2", "w3", "w4", "w5", "w6")
	agents := &fakeAgents{collect: map[string]func(agent.SupportRequest) ([]byte, error){}}
	for i := range 6 {
		agents.collect[fmt.Sprintf("10.0.0.%d", 10+i)] = func(agent.SupportRequest) ([]byte, error) { return packFiles(t, "node/version.yaml"), nil }
	}
	r, _ := m.createFrom(t, agents)
	if len(r.Nodes) != 7 || agents.most > maxNodesAtOnce || slices.ContainsFunc(r.Nodes, func(n NodeResult) bool { return !n.Collected }) {
		t.Errorf("%d at once: %+v", agents.most, r.Nodes)
	}
}

// packFiles returns the part of a node with empty files.
func packFiles(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	for i, name := range names {
		root, rest, _ := strings.Cut(name, "/")
		w, err := supportbundle.NewWriter(&b, supportbundle.Options{Root: root, Limit: 1000, Redactor: supportbundle.NewRedactor()})
		testkit.Must(t, err)
		if i > 0 {
			w.Add(rest, []byte("x"))
		}
		_, err = w.Close()
		testkit.Must(t, err)
	}
	return b.Bytes()
}

func TestCreateBundle_SurvivesANodeThatLies(t *testing.T) {
	m := newCluster(t, "w1")
	for name, part := range map[string][]byte{
		"no archive":         []byte("hello"),
		"half of an archive": packFiles(t, "node/version.yaml")[:60],
		"two archives":       packFiles(t, "node/version.yaml", "node/host-collectors/plinth/x.txt"),
	} {
		t.Run(name, func(t *testing.T) {
			r, found := m.createFrom(t, &fakeAgents{collect: map[string]func(agent.SupportRequest) ([]byte, error){
				"10.0.0.10": func(agent.SupportRequest) ([]byte, error) { return part, nil }}})
			if complete := name == "two archives"; r.Nodes[1].Collected != complete || found["analysis.json"] == "" || found[folderPlinth+"c1/snapshot.json"] == "" {
				t.Errorf("%+v", r.Nodes)
			}
		})
	}
}
