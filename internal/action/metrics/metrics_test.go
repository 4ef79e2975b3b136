package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"sigs.k8s.io/yaml"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/probe"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

const dataDir = "/var/lib/plinth"

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// testNode is a node whose metrics are collected.
type testNode struct {
	*Collector
	root   string
	now    time.Time
	client *kube.Client // of its cluster
	reads  int          // requests to the API of the cluster
	down   bool         // the API does not answer
}

// newHost returns a host on which nothing is installed.
func newHost(t *testing.T) *testNode {
	t.Helper()
	fake := hosttest.New(t)
	n := &testNode{root: fake.Root, now: start}
	n.Collector = New(&action.Env{Host: fake.Host(), GlobalOptions: action.GlobalOptions{DataDir: dataDir, Version: "v1.2.3", Now: func() time.Time { return n.now }}})
	n.statFilesystem = func(path string) (probe.DiskSpace, error) {
		return probe.DiskSpace{Size: 40 << 30, Free: 9 << 30, Available: uint64(len(path)) << 30}, nil
	}
	return n
}

// newNode returns a node whose install or join is finished, in a cluster of two controllers and a worker.
func newNode(t *testing.T, role string) *testNode {
	t.Helper()
	n := newHost(t)
	h := n.Host
	j, err := journal.Open(h, dataDir, n.Now)
	testkit.Must(t, err, j.BeginRun("install", journal.Args{}), j.EndRun(nil), journal.WriteReceipt(h, dataDir, journal.Receipt{Name: "my-app", Role: role, Node: "n1",
		Address: "10.0.0.1", Bundle: "sha256:abc", Versions: map[string]string{"k0s": "v1.33.8+k0s.1", "kotsadm": "1.131.2"}}))
	ca, err := pki.NewCA("kubernetes-ca", start)
	testkit.Must(t, err)
	i, err := node.NewIdentity(start)
	testkit.Must(t, err)
	i, err = i.Issue(nodecert.Identity{Node: "n1", UID: "uid-of-n1", Role: role, Address: "10.0.0.1"}, ca, start)
	testkit.Must(t, err, i.Write(h, dataDir))
	testkit.WriteFiles(t, n.root, 0o600, map[string]string{k0s.CACertPath: string(ca.Cert), k0s.ContentDir + "/aa": "12345", k0s.ContentDir + "/bb": "1234567"})
	if role == token.Worker {
		return n
	}
	testkit.WriteFiles(t, n.root, 0o600, map[string]string{dataDir + "/backup.json": `{"path":"/mnt/b","takenAt":"2026-01-01T02:00:00Z","size":4096}`})
	api, client := kubetest.New(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.reads++; n.down {
			http.Error(w, "stopped", http.StatusServiceUnavailable)
			return
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	n.client = client
	testkit.WriteFiles(t, n.root, 0o600, map[string]string{k0s.AdminConf: fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"t",
		"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],"users":[{"name":"t","user":{}}],"clusters":[{"name":"t","cluster":{"server":%q}}]}`, srv.URL)})
	kubetest.RecordNodes(t, client, kube.NodeRecord{Node: "n1", Role: token.Controller}, kube.NodeRecord{Node: "n2", Role: token.Controller}, kube.NodeRecord{Node: "w1", Role: token.Worker})
	testkit.Must(t, client.UpdateNodeRecords(t.Context(), func(all kube.NodeRecords) error {
		joining := all["n2"]
		joining.Joined = false
		all["n2"] = joining
		return nil
	}))
	store := token.Store{Core: client.Core(), Now: n.Now}
	for id, r := range map[string]token.Record{
		"aaaa": {Role: token.Worker, Uses: 5, UsedBy: []token.Use{{Node: "w1"}}},
		"bbbb": {Role: token.Worker, Uses: 1},
		"cccc": {Role: token.Controller, Uses: 1, Revoked: &start},
	} {
		r.ID, r.Created, r.Expires = id, start, start.Add(time.Hour)
		testkit.Must(t, store.Add(t.Context(), r))
	}
	return n
}

// scrape returns what the node answers a scrape.
func (n *testNode) scrape(t *testing.T) string {
	t.Helper()
	w := httptest.NewRecorder()
	n.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || got != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("status %d, %s", w.Code, got)
	}
	return w.Body.String()
}

// later returns what the node answers after d.
func (n *testNode) later(t *testing.T, d time.Duration) string {
	t.Helper()
	n.now = n.now.Add(d)
	return n.scrape(t)
}

// expect checks that text has each line, or, for a line that begins with "!", that no line begins with the rest.
func expect(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if without, ok := strings.CutPrefix(line, "!"); ok {
			if strings.Contains("\n"+text, "\n"+without) {
				t.Errorf("it has %s:\n%s", without, text)
			}
		} else if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("it has no %s:\n%s", line, text)
		}
	}
}

func TestServeHTTP_MatchesGoldens(t *testing.T) {
	for name, n := range map[string]func() *testNode{
		"controller": func() *testNode { return newNode(t, token.Controller) },
		"worker":     func() *testNode { return newNode(t, token.Worker) },
		"new-host":   func() *testNode { return newHost(t) },
	} {
		t.Run(name, func(t *testing.T) {
			text := n().scrape(t)
			parse(t, text)
			testkit.Golden(t, filepath.Join("testdata", name+".txt"), []byte(text))
		})
	}
}

func TestServeHTTP_ReportsRuns(t *testing.T) {
	begin := func(t *testing.T, n *testNode) *journal.Journal {
		t.Helper()
		j, err := journal.Open(n.Host, dataDir, n.Now)
		testkit.Must(t, err, j.BeginRun("upgrade", journal.Args{}))
		return j
	}
	lock := func(t *testing.T, n *testNode, verb string, since time.Time) {
		t.Helper()
		testkit.WriteFiles(t, n.root, 0o600, map[string]string{"/run/plinth.lock": fmt.Sprintf(`{"pid":%d,"verb":%q,"startedAt":%q}`, os.Getpid(), verb, since.Format(time.RFC3339))})
	}
	for name, c := range map[string]struct {
		do                 func(*testing.T, *testNode)
		active, unfinished int
		verb               string
	}{
		"none":             {func(*testing.T, *testNode) {}, 0, 0, "install"},
		"killed":           {func(t *testing.T, n *testNode) { begin(t, n) }, 0, 1, "upgrade"},
		"failed":           {func(t *testing.T, n *testNode) { testkit.Must(t, begin(t, n).EndRun(os.ErrInvalid)) }, 0, 1, "upgrade"},
		"done":             {func(t *testing.T, n *testNode) { testkit.Must(t, begin(t, n).EndRun(nil)) }, 0, 0, "upgrade"},
		"it runs":          {func(t *testing.T, n *testNode) { begin(t, n); lock(t, n, "upgrade", start) }, 1, 0, "upgrade"},
		"another one runs": {func(t *testing.T, n *testNode) { begin(t, n); lock(t, n, "upgrade", start.Add(time.Hour)) }, 1, 1, "upgrade"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, token.Worker)
			c.do(t, n)
			expect(t, n.scrape(t), fmt.Sprintf("plinth_run_active %d", c.active), fmt.Sprintf("plinth_run_unfinished %d", c.unfinished),
				fmt.Sprintf("plinth_run_start_timestamp_seconds{verb=%q} %s", c.verb, strconv.FormatFloat(float64(start.Unix()), 'g', -1, 64)))
		})
	}
}

func TestServeHTTP_ReportsAFailedBackup(t *testing.T) {
	n := newNode(t, token.Controller)
	testkit.WriteFiles(t, n.root, 0o600, map[string]string{dataDir + "/backup.json": `{"failedAt":"2026-01-02T02:00:00Z","failure":"no space left"}`})
	expect(t, n.scrape(t), "plinth_backup_failed 1", "plinth_backup_timestamp_seconds 0")
	t.Run("a record that cannot be read", func(t *testing.T) {
		testkit.WriteFiles(t, n.root, 0o600, map[string]string{dataDir + "/backup.json": "damaged"})
		expect(t, n.later(t, time.Minute), "!plinth_backup_", `plinth_source_success{source="backup"} 0`, `plinth_source_success{source="journal"} 1`)
	})
}

func TestServeHTTP_LeavesOutWhatCannotBeRead(t *testing.T) {
	n := newNode(t, token.Controller)
	n.down = true
	expect(t, n.scrape(t), "!plinth_admitted_nodes", "!plinth_join_tokens", `plinth_source_success{source="cluster"} 0`, `plinth_backup_failed 0`,
		`plinth_certificate_warning{name="agent"} 0`)
	n.down = false
	expect(t, n.later(t, hostMaxAge), `plinth_admitted_nodes{role="controller"} 2`, `plinth_source_success{source="cluster"} 1`)
	n.down = true
	t.Run("but keeps the cluster's state for its time", func(t *testing.T) {
		expect(t, n.later(t, clusterMaxAge-time.Second), `plinth_admitted_nodes{role="controller"} 2`)
		expect(t, n.later(t, hostMaxAge), "!plinth_admitted_nodes", `plinth_source_success{source="cluster"} 0`)
	})
	t.Run("a damaged receipt", func(t *testing.T) {
		testkit.WriteFiles(t, n.root, 0o600, map[string]string{dataDir + "/receipt.json": "damaged"})
		expect(t, n.later(t, time.Hour), "!plinth_node_info", "!plinth_component_info", `plinth_source_success{source="receipt"} 0`, "plinth_run_unfinished 0")
	})
}

func TestServeHTTP_WarnsOfCertificates(t *testing.T) {
	n := newNode(t, token.Worker)
	end := start.Add(nodecert.Lifetime)
	line := fmt.Sprintf(`plinth_certificate_end_timestamp_seconds{name="agent",renewed_by="plinth-agent"} %s`, strconv.FormatFloat(float64(end.Unix()), 'g', -1, 64))
	expect(t, n.scrape(t), line, `plinth_certificate_warning{name="agent"} 0`)
	expect(t, n.later(t, nodecert.Lifetime*9/10), line, `plinth_certificate_warning{name="agent"} 1`)
	testkit.WriteFiles(t, n.root, 0o600, map[string]string{node.IdentityPath(dataDir): "damaged"})
	expect(t, n.later(t, time.Minute), `!plinth_certificate_end_timestamp_seconds{name="agent"`, `plinth_certificate_warning{name="agent"} 1`)
}

func TestSnapshot_AsksTheClusterRarely(t *testing.T) {
	n := newNode(t, token.Controller)
	reads := func(after time.Duration) int {
		t.Helper()
		before := n.reads
		n.later(t, after)
		return n.reads - before
	}
	first := reads(0)
	if again := reads(hostMaxAge); first == 0 || again != 0 {
		t.Errorf("%d requests, then %d", first, again)
	}
	if got := reads(clusterMaxAge); got == 0 || got > first {
		t.Errorf("%d requests after %s, at first %d", got, clusterMaxAge, first)
	}
	if got := reads(-time.Hour); got == 0 {
		t.Error("a clock that was set back stops all reads")
	}
}

// parse returns the names and labels of the metrics in text.
func parse(t *testing.T, text string) map[string][]string {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation) // that of the oldest Prometheus
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	testkit.Must(t, err)
	found := map[string][]string{}
	for name, f := range families {
		found[name] = []string{}
		for _, l := range f.Metric[0].Label {
			found[name] = append(found[name], l.GetName())
		}
	}
	return found
}

// labelNames returns the names in the matchers of a metric.
func labelNames(text string) (names []string) {
	for _, m := range regexp.MustCompile(`([a-z_]+)(?:=|!=|=~|!~)"`).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

func TestFamilies_SurviveTheTextFormat(t *testing.T) {
	s := snapshot{version: "\"quoted\"\\\n", read: map[source]bool{sourceReceipt: true}, receipt: journal.Receipt{Name: "bad \xff byte"}}
	var out strings.Builder
	for _, f := range families(s) {
		_, err := expfmt.MetricFamilyToText(&out, f)
		testkit.Must(t, err)
	}
	parse(t, out.String())
	expect(t, out.String(), `plinth_agent_info{version="\"quoted\"\\\n"} 1`, `plinth_node_info{cluster="bad � byte",node="",role="",bundle=""} 1`)
}

func TestTable_FollowsTheNamingOfPrometheus(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range table() {
		t.Run(m.name, func(t *testing.T) {
			if !regexp.MustCompile(`^plinth_[a-z]+(_[a-z0-9]+)*$`).MatchString(m.name) || strings.HasSuffix(m.name, "_total") || seen[m.name] {
				t.Error("the name is taken, or is none of a gauge")
			}
			if seen[m.name] = true; !strings.HasSuffix(m.help, ".") || strings.Contains(m.help, "\n") {
				t.Errorf("the help is no sentence: %s", m.help)
			}
			if info := strings.HasSuffix(m.name, "_info"); info != strings.HasSuffix(m.help, "the value is 1.") {
				t.Errorf("only an info has the value 1: %s", m.help)
			}
		})
	}
}

// TestDocument_ListsEveryMetric compares the table in the guide with the one here; -update writes it.
func TestDocument_ListsEveryMetric(t *testing.T) {
	const page, begin, end = "../../../docs/guide/monitoring.md", "<!-- metrics -->\n", "<!-- /metrics -->"
	var b strings.Builder
	b.WriteString("| metric | labels | meaning | source |\n|---|---|---|---|\n")
	for _, m := range table() {
		labels, from := "–", "–"
		if len(m.labels) > 0 {
			labels = "`" + strings.Join(m.labels, "`, `") + "`"
		}
		if m.source != "" {
			from = "`" + string(m.source) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, labels, strings.TrimSuffix(m.help, "."), from)
	}
	text, err := os.ReadFile(page)
	testkit.Must(t, err)
	head, rest, found := strings.Cut(string(text), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the table", page)
	}
	testkit.Golden(t, page, []byte(head+begin+b.String()+end+tail))
}

func TestAlerts_UseWhatIsExported(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/guide/alerts.yaml")
	testkit.Must(t, err)
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	testkit.Must(t, yaml.UnmarshalStrict(raw, &file))
	guide, err := os.ReadFile("../../../docs/guide/monitoring.md")
	testkit.Must(t, err)
	exported := parse(t, newNode(t, token.Controller).scrape(t))
	rules := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			rules++
			t.Run(r.Alert, func(t *testing.T) {
				names := regexp.MustCompile(`(plinth_[a-z0-9_]+)(\{[^}]*\})?`).FindAllStringSubmatch(r.Expr, -1)
				if len(names) == 0 {
					t.Errorf("no metric in %s", r.Expr)
				}
				for _, m := range names {
					labels, ok := exported[m[1]]
					if !ok {
						t.Errorf("%s is not exported", m[1])
					}
					for _, label := range labelNames(m[2]) {
						if !slices.Contains(labels, label) {
							t.Errorf("%s has no label %s", m[1], label)
						}
					}
					for _, used := range regexp.MustCompile(`\$labels\.([a-z_]+)`).FindAllStringSubmatch(r.Annotations["summary"], -1) {
						if used[1] != "instance" && !slices.Contains(labels, used[1]) {
							t.Errorf("%s has no label %s, which the summary has", m[1], used[1])
						}
					}
				}
				if _, err := time.ParseDuration(r.For); err != nil || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
					t.Errorf("%+v %v", r, err)
				}
				if strings.Count(r.Expr, "(") != strings.Count(r.Expr, ")") || !strings.Contains(string(guide), "`"+r.Alert+"`") {
					t.Errorf("the guide does not name it, or the parentheses of %s do not match", r.Expr)
				}
			})
		}
	}
	if rules != 3 {
		t.Errorf("%d rules", rules)
	}
}
