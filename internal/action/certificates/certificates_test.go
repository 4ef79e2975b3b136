package certificates

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/nodes"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/kots"
	"github.com/plinthdev/plinth/internal/kube"
	"github.com/plinthdev/plinth/internal/kube/kubetest"
	"github.com/plinthdev/plinth/internal/loadbalancer"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/nodecert"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/registry"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/token"
)

var start = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// machine is a controller whose certificates were issued at start, with a clock that tests move.
type machine struct {
	*action.Env
	fake    *hosttest.Fake
	api     *kubetest.Server
	client  *kube.Client
	receipt journal.Receipt
	cas     map[string]pki.Pair // by common name
	now     time.Time
	notes   []string
	view    nodes.ClusterView // of the cluster
	viewErr error
}

// newMachine returns the controller c1 of a cluster of one node.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{fake: hosttest.New(t), now: start, cas: map[string]pki.Pair{}, view: newView("c1"),
		receipt: journal.Receipt{Name: "my-app", Role: token.Controller, Node: "c1", Address: "10.0.0.1",
			Console: journal.Console{Namespace: "kotsadm"}, AddOns: []journal.AddOn{{Name: "registry", Namespace: "registry"}}}}
	m.Env = &action.Env{Host: m.fake.Host(), GlobalOptions: action.GlobalOptions{DataDir: "/var/lib/plinth", Now: func() time.Time { return m.now },
		Note: func(text string) { m.notes = append(m.notes, text) }, Events: func(step.Event) {}}}
	for name, path := range map[string]string{pki.ClusterCAName: k0s.CACertPath, "etcd-ca": pkiDir + "etcd/ca.crt", "kubernetes-front-proxy-ca": pkiDir + "front-proxy-ca.crt"} {
		ca, err := pki.NewCA(name, start)
		testkit.Must(t, err)
		m.cas[name] = ca
		m.write(t, path, ca.Cert)
	}
	m.write(t, k0s.CAKeyPath, m.cas[pki.ClusterCAName].Key)
	m.startK0s(t, year)
	identity, err := node.NewIdentity(start)
	testkit.Must(t, err)
	identity, err = identity.Issue(m.identity(), m.cas[pki.ClusterCAName], start)
	testkit.Must(t, err)
	testkit.Must(t, identity.Write(m.Host, m.DataDir))
	kubelet, err := plan.IssueKubelet(m.identity(), m.cas[pki.ClusterCAName], start)
	testkit.Must(t, err)
	testkit.Must(t, k0s.PlaceKubeletIdentity(m.Host, kubelet, start))
	testkit.Must(t, journal.WriteReceipt(m.Host, m.DataDir, m.receipt))
	m.api, m.client = kubetest.New(t)
	srv := httptest.NewServer(m.api)
	t.Cleanup(srv.Close)
	m.write(t, k0s.AdminConf, fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"t","contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}],
		"users":[{"name":"t","user":{}}],"clusters":[{"name":"t","cluster":{"server":%q}}]}`, srv.URL))
	testkit.Must(t, registry.Registry{Kube: m.client, Namespace: "registry", IP: "10.96.0.11", Domain: "cluster.local"}.Prepare(t.Context(), start))
	testkit.Must(t, kots.ConsoleProxy{Kube: m.client, Namespace: "kotsadm"}.EnsureCertificate(t.Context(), []string{"c1", "10.0.0.1"}, start))
	m.fake.OnRestart = func(string) error {
		m.startK0s(t, year)
		m.view.Nodes[0].Reported = m.now
		return nil
	}
	return m
}

func (m *machine) identity() nodecert.Identity {
	return nodecert.Identity{Node: "c1", UID: "uid-of-c1", Role: token.Controller, Address: "10.0.0.1"}
}

func (m *machine) write(t *testing.T, path string, content []byte) {
	t.Helper()
	testkit.Must(t, m.Host.Write(path, strings.NewReader(string(content)), 0o600))
}

// leafKey is the key of all of k0s's certificates.
var leafKey, _ = rsa.GenerateKey(rand.Reader, 2048)

// writeLeaf writes a certificate, signed by the authority issuer, as k0s does.
func (m *machine) writeLeaf(t *testing.T, path, issuer string, life time.Duration) {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	testkit.Must(t, err)
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: path}, NotBefore: m.now, NotAfter: m.now.Add(life)}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: issuer}}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, leafKey.Public(), leafKey)
	testkit.Must(t, err)
	m.write(t, path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// startK0s issues k0s's certificates again.
func (m *machine) startK0s(t *testing.T, life time.Duration) {
	t.Helper()
	for _, e := range table("") {
		if e.renewer == ByK0s && e.file != "" {
			m.writeLeaf(t, e.file, pki.ClusterCAName, life)
		}
	}
}

// newRenewal returns the renewal of a request on m.
func (m *machine) newRenewal(req Request) *renewal {
	return &renewal{req: req, receipt: m.receipt, inspectCluster: func(context.Context, host.Files) (nodes.ClusterView, error) { return m.view, m.viewErr }}
}

// run inspects and applies a renewal as Execute does, and returns the names of the steps that were needed.
func (m *machine) run(t *testing.T, r *renewal) (ran []string, err error) {
	t.Helper()
	_, err = m.OpenJournal()
	testkit.Must(t, err)
	if err := r.inspect(t.Context(), m.ReadOnly()); err != nil {
		return nil, err
	}
	steps, err := r.steps(t.Context(), m.Env)
	testkit.Must(t, err)
	planned, err := m.StepRunner("certificates renew", nil).Plan(t.Context(), steps)
	testkit.Must(t, err)
	for _, p := range planned {
		ran = append(ran, p.Step)
	}
	_, err = m.StepRunner("certificates renew", nil).Run(t.Context(), steps)
	return ran, err
}

// newView returns a healthy cluster of controllers, seen by the first one.
func newView(names ...string) (v nodes.ClusterView) {
	for i, name := range names {
		at := fmt.Sprintf("10.0.0.%d", i+1)
		v.Nodes = append(v.Nodes, nodes.Node{Name: name, Role: nodes.Controller, Ready: true, Addresses: []string{at}})
		v.Etcd = append(v.Etcd, etcd.Member{ID: name, Name: name, Address: at, Leader: i == len(names)-1})
		v.API = append(v.API, nodes.Endpoint{Address: at + ":6443", Ready: true})
	}
	v.Nodes = append(v.Nodes, nodes.Node{Name: "w1", Role: nodes.Worker, Reason: "workers do not matter"})
	return v
}

func TestCheckRestart_RequiresLessTheNearerTheEnd(t *testing.T) {
	const due, urgent, last, ended = 0.3, 0.09, 0.03, 0.0
	three := func(change func(*nodes.ClusterView)) nodes.ClusterView {
		v := newView("c1", "c2", "c3")
		if change != nil {
			change(&v)
		}
		return v
	}
	apiDown := func(i int) func(*nodes.ClusterView) {
		return func(v *nodes.ClusterView) { v.API[i].Ready, v.API[i].Reason = false, "no answer within 1s" }
	}
	noLeader := func(v *nodes.ClusterView) {
		for i := range v.Etcd {
			v.Etcd[i].Leader = false
		}
	}
	for name, c := range map[string]struct {
		view nodes.ClusterView
		err  error
		left float64
		want string
	}{
		"one controller":                     {newView("c1"), nil, due, ""},
		"two controllers, which lose quorum": {newView("c1", "c2"), nil, due, ""},
		"three healthy controllers":          {three(nil), nil, due, ""},
		"far from the end":                   {three(apiDown(1)), nil, 0.9, "the API server at 10.0.0.2:6443 is not ready"},
		"another API server is down":         {three(apiDown(1)), nil, due, "the API server at 10.0.0.2:6443 is not ready: no answer within 1s"},
		"its own API server is down":         {three(apiDown(0)), nil, due, ""},
		"another controller is not Ready":    {three(func(v *nodes.ClusterView) { v.Nodes[2].Ready, v.Nodes[2].Reason = false, "kubelet stopped" }), nil, due, "controller c3 is not Ready: kubelet stopped"},
		"itself is not Ready":                {three(func(v *nodes.ClusterView) { v.Nodes[0].Ready = false }), nil, due, ""},
		"a controller joins":                 {three(func(v *nodes.ClusterView) { v.Etcd[2].Learner = true }), nil, due, "the controller at 10.0.0.3 is joining"},
		"a member that never started":        {three(func(v *nodes.ClusterView) { v.Etcd[2].Name = "" }), nil, due, "the controller at 10.0.0.3 is joining"},
		"no leader":                          {three(noLeader), nil, due, "etcd has no leader"},
		"no etcd":                            {three(func(v *nodes.ClusterView) { v.Etcd = nil }), nil, due, "etcd on this host does not answer"},
		"a member without a controller":      {three(func(v *nodes.ClusterView) { v.API = v.API[:2] }), nil, due, "etcd has 3 members, but 2 controllers have joined"},
		"no answer":                          {nodes.ClusterView{}, errors.New("connection refused"), due, "the cluster does not answer: connection refused"},
		"urgent, one of three down":          {three(apiDown(1)), nil, urgent, "only 1 of the 2 other controllers are ready, which is no quorum of 3"},
		"urgent, one of five down":           {func() nodes.ClusterView { v := newView("c1", "c2", "c3", "c4", "c5"); apiDown(4)(&v); return v }(), nil, urgent, ""},
		"urgent, another is not Ready":       {three(func(v *nodes.ClusterView) { v.Nodes[2].Ready = false }), nil, urgent, ""},
		"urgent, the other of two is down":   {func() nodes.ClusterView { v := newView("c1", "c2"); apiDown(1)(&v); return v }(), nil, urgent, ""},
		"urgent, no leader":                  {three(noLeader), nil, urgent, "etcd has no leader"},
		"urgent, no answer":                  {nodes.ClusterView{}, errors.New("connection refused"), urgent, "does not answer"},
		"last days, no leader":               {three(noLeader), nil, last, ""},
		"last days, no answer":               {nodes.ClusterView{}, errors.New("connection refused"), last, "does not answer"},
		"ended, no answer":                   {nodes.ClusterView{}, errors.New("certificate has expired"), ended, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if why := checkRestart(c.view, c.err, "c1", "10.0.0.1", c.left); !strings.Contains(why, c.want) || c.want == "" && why != "" {
				t.Errorf("%q, want %q", why, c.want)
			}
		})
	}
}

func TestUrgencyOf_RetriesMoreOftenTowardsTheEnd(t *testing.T) {
	for left, want := range map[float64]time.Duration{1: day, 0.3: day, 0.05: day, 0.03: time.Hour, 0: time.Hour} {
		if got := urgencyOf(left).retry; got != want {
			t.Errorf("%g: %s, want %s", left, got, want)
		}
	}
}

func TestReadHost_ListsWithRenewerAndEnd(t *testing.T) {
	m := newMachine(t)
	m.writeLeaf(t, pkiDir+"server.crt", "corporate CA", year) // k0s keeps it
	m.write(t, pkiDir+"ccm.crt", []byte("damaged"))
	testkit.Must(t, m.Host.RemoveAll(pkiDir+"k0s-api.crt"))
	m.now = start.Add(year * 3 / 4)
	all, err := readAll(t.Context(), m.Env, m.receipt)
	testkit.Must(t, err)
	if !slices.IsSortedFunc(all, func(x, y Certificate) int { return x.Ends.Compare(y.Ends) }) {
		t.Error("not sorted by end")
	}
	for name, want := range map[string]struct {
		by        Renewer
		days      int
		due       bool
		authority bool
	}{
		"ca": {"", 10*365 - 274, false, true}, "etcd-ca": {"", 10*365 - 274, false, true}, "registry-ca": {"", 10*365 - 274, false, true},
		"admin": {ByK0s, 91, true, false}, "apiserver": {ByUser, 91, false, false}, "ccm": {ByK0s, 0, false, false}, "apiserver-loopback": {ByK0s, 1096 - 274, false, false},
		"kubelet-client": {ByKubelet, 91, false, false}, "agent": {ByAgent, 91, true, false}, "registry": {ByAgent, 551, false, false}, "console": {ByAgent, 551, false, false},
	} {
		c, ok := findByName(all, name)
		if !ok || c.RenewedBy != want.by || c.Due != want.due || c.Authority != want.authority || c.DaysLeft < want.days-1 || c.DaysLeft > want.days+1 ||
			c.Location == "" || c.Owner == "" {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if c, ok := findByName(all, "k0s-api"); ok {
		t.Errorf("a file that does not exist: %+v", c)
	}
	if c, _ := findByName(all, "ccm"); c.Problem == "" || !strings.Contains(c.Warning(m.now), "cannot be read") {
		t.Errorf("%+v", c)
	}
}

func TestReadHost_ListsTheAuthorityOnAWorker(t *testing.T) {
	m := newMachine(t)
	testkit.Must(t, m.Host.RemoveAll(pkiDir))
	all := ReadHost(m.Host, m.DataDir, m.now)
	if c, ok := findByName(all, "ca"); !ok || !c.Authority || c.DaysLeft != 3650 || len(all) != 4 {
		t.Errorf("%+v %v", c, namesOf(all))
	}
	testkit.Must(t, m.Host.RemoveAll(node.IdentityPath(m.DataDir)))
	if all := ReadHost(m.Host, m.DataDir, m.now); len(all) != 2 {
		t.Errorf("%v", namesOf(all))
	}
}

func TestReadHost_SkipsCertificatesThatK0sLeft(t *testing.T) {
	m := newMachine(t)
	m.now = start.Add(year / 2)
	for _, e := range table("") { // this k0s does not issue konnectivity.crt any more
		if e.renewer == ByK0s && e.file != "" && e.name != "konnectivity" {
			m.writeLeaf(t, e.file, pki.ClusterCAName, year)
		}
	}
	m.now = start.Add(year * 9 / 10)
	c, _ := findByName(ReadHost(m.Host, m.DataDir, m.now), "konnectivity")
	if c.Due || c.RenewedBy != ByNone || c.Warning(m.now) != "" {
		t.Errorf("%+v", c)
	}
	if _, err := m.run(t, m.newRenewal(Request{Names: []string{"konnectivity"}})); err == nil || !strings.Contains(err.Error(), "is not used by this version") {
		t.Errorf("%v", err)
	}
	if ran, err := m.run(t, m.newRenewal(Request{All: true})); err != nil || !slices.Contains(ran, "certificate-k0s") {
		t.Errorf("%v %v", ran, err)
	}
}

func TestDescribe_LoopbackLimitsLongLivedLeaves(t *testing.T) {
	m := newMachine(t)
	m.startK0s(t, 10*year) // the Installer's certificatesExpireAfter
	m.now = start.Add(2*year + 30*day)
	var due []string
	for _, c := range ReadHost(m.Host, m.DataDir, m.now) {
		if c.Due && c.RenewedBy == ByK0s {
			due = append(due, c.Name)
		}
	}
	if !slices.Equal(due, []string{"apiserver-loopback"}) {
		t.Errorf("due: %v", due)
	}
}

func TestCertificate_Warning(t *testing.T) {
	c := func(name string, by Renewer, begins, ends time.Duration) Certificate {
		for _, e := range table("") {
			if e.name == name {
				e.renewer = by
				return describeValidity(e, "/a.crt", start.Add(begins), start.Add(ends), start)
			}
		}
		t.Fatal(name)
		return Certificate{}
	}
	for name, tt := range map[string]struct {
		c    Certificate
		want string
	}{
		"fresh":                         {c("admin", ByK0s, -day, year), ""},
		"due":                           {c("admin", ByK0s, -3*year, year), ""},
		"overdue":                       {c("admin", ByK0s, -9*year, year), "certificate admin ends on 2027-01-02, and its renewal is overdue"},
		"ended":                         {c("agent", ByAgent, -year, -day), "certificate agent ended on 2026-01-01, and"},
		"not valid yet":                 {c("admin", ByK0s, day, year), "valid from 2026-01-03T12:00:00Z only: the clock"},
		"kubelet may still renew it":    {c("kubelet-client", ByKubelet, -85*day, 15*day), ""},
		"kubelet has not renewed it":    {c("kubelet-client", ByKubelet, -95*day, 5*day), "overdue"},
		"the user's own":                {c("console", ByUser, -90*day, 10*day), "set a new one: plinth console set-certificate"},
		"the user's own, of k0s":        {c("apiserver", ByUser, -90*day, 10*day), "is your own: replace /a.crt"},
		"the user's own, long valid":    {c("console", ByUser, -10*day, 90*day), ""},
		"an authority with a year left": {c("ca", "", -9*year, year+day), ""},
		"an authority with less":        {c("ca", "", -9*year, year-day), "the authority of cluster: certificate ca ends on 2027-01-01 and cannot be renewed"},
	} {
		t.Run(name, func(t *testing.T) {
			if w := tt.c.Warning(start); !strings.Contains(w, tt.want) || tt.want == "" && w != "" {
				t.Errorf("%q, want %q", w, tt.want)
			}
		})
	}
}

func TestRenewal_RenewsWhatIsDue(t *testing.T) {
	all := []string{"certificate-agent", "certificate-registry", "certificate-console", "certificate-kubelet", "certificate-k0s"}
	for name, c := range map[string]struct {
		after time.Duration
		req   Request
		want  []string
	}{
		"nothing is due":                 {year / 2, Request{}, nil},
		"agent and k0s":                  {year * 7 / 10, Request{}, []string{"certificate-agent", "certificate-k0s"}},
		"a host that was off for a year": {year + day, Request{}, []string{"certificate-agent", "certificate-kubelet", "certificate-k0s"}},
		"two years later, everything":    {2 * year, Request{}, all},
		"everything on request":          {day, Request{All: true}, all},
		"one on request":                 {day, Request{Names: []string{"registry"}}, []string{"certificate-registry"}},
		"one of k0s on request":          {day, Request{Names: []string{"scheduler"}}, []string{"certificate-k0s"}},
		"kubelet on request":             {day, Request{Names: []string{"kubelet-serving"}}, []string{"certificate-kubelet", "certificate-k0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.now = start.Add(c.after)
			before, err := readAll(t.Context(), m.Env, m.receipt)
			testkit.Must(t, err)
			r := m.newRenewal(c.req)
			ran, err := m.run(t, r)
			if err != nil || !slices.Equal(ran, c.want) || r.refusal != nil {
				t.Fatalf("ran %v, want %v; %v %v", ran, c.want, err, r.refusal)
			}
			if done, _ := r.isUpToDate(t.Context(), m.Env); done != (len(c.want) == 0) {
				t.Errorf("up to date: %v", done)
			}
			after, err := readAll(t.Context(), m.Env, m.receipt)
			testkit.Must(t, err)
			for _, was := range before {
				is, _ := findByName(after, was.Name)
				selected := slices.ContainsFunc(r.selected(), func(s Certificate) bool { return s.Name == was.Name })
				if (is.serial != was.serial) != (selected || was.RenewedBy == ByKubelet && slices.Contains(c.want, "certificate-kubelet")) || is.Due {
					t.Errorf("%s: selected %v, %s → %s, due %v", was.Name, selected, was.serial, is.serial, is.Due)
				}
			}
			if !slices.Equal(namesOf(r.done), namesOf(r.selected())) {
				t.Errorf("done %v, selected %v", namesOf(r.done), namesOf(r.selected()))
			}
			if restarts := slices.Contains(c.want, "certificate-k0s"); restarts != slices.Equal(m.fake.Restarts, []string{k0s.ControllerUnit}) {
				t.Errorf("restarts: %v", m.fake.Restarts)
			}
			if lock := m.api.Object("/api/v1/namespaces/kube-system/configmaps/" + lockName); lock != nil {
				t.Errorf("the lock is held: %v", lock)
			}
			if again, err := m.run(t, m.newRenewal(Request{})); err != nil || again != nil {
				t.Errorf("a second run renews %v, %v", again, err)
			}
		})
	}
}

func TestRenewal_RefusesRestartButRenewsTheRest(t *testing.T) {
	for name, c := range map[string]struct {
		after  time.Duration
		change func(*testing.T, *machine)
		want   string
		ran    []string
	}{
		"another controller is down": {year * 7 / 10, func(_ *testing.T, m *machine) {
			m.view = newView("c1", "c2", "c3")
			m.view.API[1].Ready = false
		}, "the API server at 10.0.0.2:6443 is not ready", []string{"certificate-agent"}},
		"an unfinished run": {year * 7 / 10, func(t *testing.T, m *machine) {
			j, err := journal.Open(m.Host, m.DataDir, m.Now)
			testkit.Must(t, err)
			testkit.Must(t, j.BeginRun("upgrade", journal.Args{}))
		}, "the upgrade started at ", []string{"certificate-agent"}},
		"an upgrade of the cluster": {year * 7 / 10, func(t *testing.T, m *machine) {
			testkit.Must(t, m.client.UpdateUpgradeRecord(t.Context(), func(r *kube.UpgradeRecord) error {
				*r = kube.UpgradeRecord{To: "sha256:2", Phase: kube.UpgradeNodes, Coordinator: "c2"}
				return nil
			}))
		}, "the upgrade that was started on node c2", []string{"certificate-agent"}},
		"the cluster does not answer": {year * 7 / 10, func(_ *testing.T, m *machine) { m.viewErr = errors.New("connection refused") }, "connection refused", []string{"certificate-agent"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.now = start.Add(c.after)
			c.change(t, m)
			r := m.newRenewal(Request{})
			ran, err := m.run(t, r)
			if err != nil || !slices.Equal(ran, c.ran) || len(m.fake.Restarts) > 0 {
				t.Errorf("ran %v, restarts %v, %v", ran, m.fake.Restarts, err)
			}
			if r.refusal == nil || !strings.Contains(r.refusal.Error(), c.want) || problem.ExitCode(r.refusal) != problem.ExitUsage || problem.Hint(r.refusal) == "" {
				t.Errorf("%v", r.refusal)
			}
		})
	}
}

func TestRefuseRestart_KubeletWaitsForQuorumButNotForNodes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*nodes.ClusterView)
		want   string
	}{
		"all controllers were off": {func(v *nodes.ClusterView) {
			for i := range v.Nodes {
				v.Nodes[i].Ready = false
			}
		}, ""},
		"the others have no quorum": {func(v *nodes.ClusterView) { v.API[1].Ready, v.API[2].Ready = false, false }, "no quorum of 3"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.now = start.Add(year + day)
			m.startK0s(t, year) // at the boot; kubelet's certificates have ended
			m.view = newView("c1", "c2", "c3")
			c.change(&m.view)
			r := m.newRenewal(Request{})
			_, err := m.OpenJournal()
			testkit.Must(t, err)
			testkit.Must(t, r.inspect(t.Context(), m.ReadOnly()))
			switch {
			case c.want == "" && (r.refusal != nil || len(r.kubelet) != 2):
				t.Errorf("%v, %v", r.refusal, namesOf(r.kubelet))
			case c.want != "" && (r.refusal == nil || !strings.Contains(r.refusal.Error(), c.want)):
				t.Errorf("%v", r.refusal)
			}
		})
	}
}

func TestRestartK0s_HoldsTheLock(t *testing.T) {
	lockedBy := func(t *testing.T, m *machine, node string) {
		testkit.Must(t, m.client.AcquireLock(t.Context(), kube.Lock{Name: lockName, Node: node, Purpose: "restart", TTL: time.Hour}, m.now))
	}
	for name, c := range map[string]struct {
		after  time.Duration
		change func(*testing.T, *machine)
		want   string // part of the error
	}{
		"another controller restarts":                {year * 7 / 10, func(t *testing.T, m *machine) { lockedBy(t, m, "c2") }, "only one controller at a time may be: node c2 does the same since"},
		"another controller restarts, after the end": {year + day, func(t *testing.T, m *machine) { lockedBy(t, m, "c2") }, "only one controller at a time"},
		"a run of its own was killed":                {year * 7 / 10, func(t *testing.T, m *machine) { lockedBy(t, m, "c1") }, ""},
		"no API server, after the end":               {year + day, func(t *testing.T, m *machine) { testkit.Must(t, m.Host.RemoveAll(k0s.AdminConf)) }, ""},
		"no API server, before the end":              {year * 7 / 10, func(t *testing.T, m *machine) { testkit.Must(t, m.Host.RemoveAll(k0s.AdminConf)) }, "no such file"},
		"the cluster changed after the check":        {year * 7 / 10, func(_ *testing.T, m *machine) { m.view.Etcd[0].Leader = false }, "k0s was not restarted: etcd has no leader"},
		"k0s does not start": {year * 7 / 10, func(_ *testing.T, m *machine) {
			m.fake.OnRestart = func(string) error { return errors.New("exit status 1") }
		}, "exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.now = start.Add(c.after)
			r := m.newRenewal(Request{})
			_, err := m.OpenJournal()
			testkit.Must(t, err)
			testkit.Must(t, r.inspect(t.Context(), m.ReadOnly()))
			c.change(t, m)
			err = r.restartK0s(t.Context(), m.Env, func(string, int64, int64) {})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			lock := m.api.Object("/api/v1/namespaces/kube-system/configmaps/" + lockName)
			if other := strings.Contains(name, "another"); (lock != nil) != other || other && len(m.fake.Restarts) > 0 {
				t.Errorf("lock %v, restarts %v", lock, m.fake.Restarts)
			}
		})
	}
}

func TestNotReady_NamesWhatIsMissing(t *testing.T) {
	m := newMachine(t)
	m.now = start.Add(year * 7 / 10)
	r := m.newRenewal(Request{})
	_, err := m.OpenJournal()
	testkit.Must(t, err)
	testkit.Must(t, r.inspect(t.Context(), m.ReadOnly()))
	check := func(want string) {
		t.Helper()
		if got := r.notReady(t.Context(), m.Env, m.now); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%q, want %q", got, want)
		}
	}
	check("k0s has not renewed its certificates yet")
	m.startK0s(t, year)
	m.viewErr = errors.New("connection refused")
	check("the API server does not answer: connection refused")
	m.viewErr, m.view.API[0].Ready = nil, false
	check("the API server on this host is not ready")
	m.view.API[0].Ready, m.view.Etcd[0].Leader = true, false
	check("etcd has no leader")
	m.view.Etcd[0].Leader = true
	check("kubelet has not reported since the restart")
	m.view.Nodes[0].Reported, m.view.Nodes[0].Ready = m.now, false
	check("node c1 is not Ready")
	m.view.Nodes[0].Ready = true
	check("")
}

func TestSelectCertificates_RefusesByName(t *testing.T) {
	m := newMachine(t)
	m.writeLeaf(t, pkiDir+"server.crt", "corporate CA", year)
	m.write(t, pkiDir+"ccm.crt", nil)
	for name, c := range map[string]struct {
		role, cert, want string
	}{
		"unknown":               {token.Controller, "regstry", `no certificate "regstry"`},
		"an authority":          {token.Controller, "ca", "ca is an authority"},
		"not k0s's":             {token.Controller, "apiserver", "was not issued by the cluster"},
		"damaged":               {token.Controller, "ccm", "cannot be read"},
		"kubelet's on a worker": {token.Worker, "kubelet-client", "is renewed by kubelet"},
	} {
		t.Run(name, func(t *testing.T) {
			r := m.newRenewal(Request{Names: []string{c.cert}})
			r.receipt.Role = c.role
			err := r.inspect(t.Context(), m.ReadOnly())
			if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), c.want) || problem.Hint(err) == "" {
				t.Errorf("%v (%s)", err, problem.Hint(err))
			}
		})
	}
	t.Run("the user's own console", func(t *testing.T) {
		own, err := pki.NewSelfSigned([]string{"console.example.com"}, start)
		testkit.Must(t, err)
		testkit.Must(t, m.client.PutSecret(t.Context(), kube.Secret{Namespace: "kotsadm", Name: "kotsadm-tls", Annotations: map[string]string{"plinth.dev/self-signed": "false"}, Data: map[string][]byte{"tls.crt": own.Cert, "tls.key": own.Key}}))
		r := m.newRenewal(Request{Names: []string{"console"}})
		if err := r.inspect(t.Context(), m.ReadOnly()); err == nil || !strings.Contains(err.Error(), "console is your own") {
			t.Errorf("%v", err)
		}
	})
	t.Run("all and a name", func(t *testing.T) {
		if _, err := Renew(t.Context(), m.Env, Request{All: true, Names: []string{"registry"}}); problem.ExitCode(err) != problem.ExitUsage {
			t.Errorf("%v", err)
		}
	})
}

func TestRenew_PlansWithoutChange(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the command needs root")
	}
	m := newMachine(t)
	m.now = start.Add(2 * year)
	m.api.Writes()
	res, err := Renew(t.Context(), m.Env, Request{Names: []string{"registry", "agent"}, Plan: true})
	if err != nil || res.Changed || len(res.Plan) != 2 || res.Plan[0].State != "needed" || !strings.Contains(res.Plan[0].Reason, "certificate agent ends on 2027-01-02") || strings.Join(res.Renewed, " ") != "agent registry" {
		t.Errorf("%+v %v", res, err)
	}
	if wrote := m.api.Writes(); len(wrote)+len(m.fake.Restarts)+len(m.fake.Commands) > 0 {
		t.Errorf("wrote %v, restarts %v, commands %v", wrote, m.fake.Restarts, m.fake.Commands)
	}
	list, err := List(t.Context(), m.Env)
	if err != nil || len(list.Certificates) < 19 || list.Certificates[0].Ends.After(m.now) {
		t.Errorf("%d %v", len(list.Certificates), err)
	}
}

func TestRenew_PlansTheRestOfARefusedRestart(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the command needs root")
	}
	m := newMachine(t) // without etcd
	res, err := Renew(t.Context(), m.Env, Request{Names: []string{"registry", "scheduler"}, Plan: true})
	if problem.ExitCode(err) != problem.ExitUsage || !strings.Contains(err.Error(), "cannot restart k0s: etcd on this host does not answer") || problem.Hint(err) == "" {
		t.Errorf("%v", err)
	}
	if len(res.Plan) != 1 || res.Plan[0].Step != "certificate-registry" || !strings.Contains(res.Skipped, "etcd") || !slices.Equal(res.Renewed, []string{"registry"}) {
		t.Errorf("%+v", res)
	}
	if len(m.fake.Commands) > 0 {
		t.Errorf("a plan is in the audit log: %v", m.fake.Commands)
	}
}

func TestAuditResult_NamesCertificates(t *testing.T) {
	for want, c := range map[string]struct {
		res Result
		err error
	}{
		"renewed admin, registry":                               {Result{Changed: true, Renewed: []string{"admin", "registry"}}, nil},
		"renewed admin; not the rest: no leader":                {Result{Changed: true, Renewed: []string{"admin"}}, errors.New("no leader")},
		"not renewed: cannot restart k0s: a controller is down": {Result{}, problem.New(problem.ExitUsage, "restart k0s", errors.New("a controller is down"), "")},
	} {
		if got := auditResult(c.res, c.err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// newWatch returns the watch of m and a function that checks once and returns how often a renewal was started.
func newWatch(t *testing.T, m *machine) func() int {
	t.Helper()
	w, started := &Watch{Env: m.Env}, 0
	m.fake.Expect("systemd-run --quiet --collect --unit=plinth-renew-certificates").Do(func(c host.Cmd) {
		started++
		if line := strings.Join(c.Argv, " "); !strings.HasSuffix(line, "/usr/local/bin/plinth-agent --data-dir /var/lib/plinth --progress none certificates renew --yes") {
			t.Error(line)
		}
	}).AnyTimes()
	return func() int {
		t.Helper()
		before := started
		ctx, cancel := context.WithCancel(t.Context())
		tick, done := make(chan time.Time), make(chan struct{})
		go func() { defer close(done); w.Run(ctx, tick) }()
		tick <- m.now
		tick <- m.now // received only after the first was processed
		cancel()
		<-done
		return started - before
	}
}

func TestWatch_StartsRenewalOnceADay(t *testing.T) {
	m := newMachine(t)
	check := newWatch(t, m)
	at := func(since time.Duration, want int) {
		t.Helper()
		m.now = start.Add(since)
		if got := check(); got != want {
			t.Errorf("after %s: %d renewals, want %d", since, got, want)
		}
	}
	at(year/2, 0)
	at(year*7/10, 1)
	at(year*7/10+time.Hour, 0) // it did not help
	at(year*7/10+day-time.Minute, 0)
	at(year*7/10+day, 1)
	m.fake.Units[renewalUnit+".service"] = host.UnitState{Active: "active"}
	at(year*7/10+2*day, 0) // it still runs
	delete(m.fake.Units, renewalUnit+".service")
	at(year*7/10+day+time.Hour, 1) // the clock was wrong when the last attempt was stored
	at(year-2*day, 1)
	at(year-2*day+time.Hour, 1) // hourly in the last days
	at(year-2*day+time.Hour+time.Minute, 0)
	m.write(t, attemptPath(m.DataDir), []byte("damaged"))
	at(year-2*day+time.Hour+time.Minute, 1)
	if len(m.notes) > 0 {
		t.Errorf("notes: %q", m.notes)
	}
}

func TestWatch_ReadsTheClusterHourly(t *testing.T) {
	m := newMachine(t)
	w := &Watch{Env: m.Env}
	m.now = start.Add(pki.ServerLifetime * 7 / 10)
	m.startK0s(t, 10*year)
	read := func(want bool) {
		t.Helper()
		due, err := w.readDue(t.Context(), m.receipt)
		if _, ok := findByName(due, "registry"); err != nil || ok != want {
			t.Errorf("at %s: %v %v", m.now, namesOf(due), err)
		}
	}
	read(true)
	m.now = m.now.Add(time.Hour - 1)
	read(false)
	m.now = m.now.Add(1)
	read(true)
	testkit.Must(t, m.Host.RemoveAll(k0s.AdminConf))
	m.now = m.now.Add(time.Hour)
	if due, err := w.readDue(t.Context(), m.receipt); err == nil || len(due) == 0 {
		t.Errorf("without the API server: %v %v", namesOf(due), err)
	}
}

func TestWatch_DoesNothingOnOtherHosts(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *machine){
		"a worker": func(t *testing.T, m *machine) {
			m.receipt.Role = token.Worker
			testkit.Must(t, journal.WriteReceipt(m.Host, m.DataDir, m.receipt))
		},
		"not installed": func(t *testing.T, m *machine) { testkit.Must(t, m.Host.RemoveAll(m.DataDir+"/receipt.json")) },
		"removed": func(t *testing.T, m *machine) {
			testkit.Must(t, node.Removal{Node: "c1", UID: "uid-of-c1", By: "an administrator", At: start}.Write(m.Host, m.DataDir))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.now = start.Add(year)
			change(t, m)
			if err := (&Watch{Env: m.Env}).check(t.Context()); err != nil { // a command would fail the test
				t.Error(err)
			}
		})
	}
}

func TestWatch_NotesAFailureOnce(t *testing.T) {
	m := newMachine(t)
	m.now = start.Add(year)
	m.write(t, m.DataDir+"/receipt.json", []byte("damaged"))
	w := &Watch{Env: m.Env}
	ctx, cancel := context.WithCancel(t.Context())
	tick, done := make(chan time.Time), make(chan struct{})
	go func() { defer close(done); w.Run(ctx, tick) }()
	for range 3 {
		tick <- m.now
	}
	cancel()
	<-done
	if len(m.notes) != 1 || !strings.HasPrefix(m.notes[0], "cannot renew certificates: ") {
		t.Errorf("notes: %q", m.notes)
	}
}

func TestRenewAgentOfWorker_KeepsKeyAndNames(t *testing.T) {
	m := newMachine(t)
	ca := m.cas[pki.ClusterCAName]
	self := nodecert.Identity{Node: "w1", UID: "uid-of-w1", Role: token.Worker, Address: "10.0.0.9"}
	sign := func(_ context.Context, r agent.RenewRequest) (a agent.RenewResponse, err error) {
		a.AgentCert, err = nodecert.Sign(nodecert.Agent, self, r.AgentRequest, ca, m.now)
		return a, err
	}
	unsigned, err := node.NewIdentity(start)
	testkit.Must(t, err)
	testkit.Must(t, unsigned.Write(m.Host, m.DataDir))
	if err := RenewAgentOfWorker(t.Context(), m.Env, sign); err == nil {
		t.Error("a host that was not admitted renews a certificate")
	}
	old, err := unsigned.Issue(self, ca, start)
	testkit.Must(t, err)
	testkit.Must(t, old.Write(m.Host, m.DataDir))
	m.now = start.Add(year * 7 / 10)
	testkit.Must(t, RenewAgentOfWorker(t.Context(), m.Env, sign))
	renewed, err := node.ReadIdentity(m.Host, m.DataDir)
	testkit.Must(t, err)
	leaf, err := renewed.Pair.Leaf()
	testkit.Must(t, err)
	if id, ok := renewed.NodeID(); !ok || id.UID != self.UID || string(renewed.Pair.Key) != string(old.Pair.Key) || leaf.VerifyHostname("10.0.0.9") != nil || !leaf.NotAfter.Equal(m.now.Add(nodecert.Lifetime)) {
		t.Errorf("%+v %v %v", id, leaf.IPAddresses, leaf.NotAfter)
	}
}

func TestControllersToken_LeadsToKnownControllers(t *testing.T) {
	m := newMachine(t)
	if _, err := ControllersToken(m.Env); err == nil {
		t.Error("a controller has no list of controllers")
	}
	ca := m.cas[pki.ClusterCAName]
	testkit.Must(t, loadbalancer.SeedControllers(m.Host, m.DataDir, ca.Cert, []netip.Addr{netip.MustParseAddr("10.0.0.5")}))
	leaf, err := ca.Leaf()
	testkit.Must(t, err)
	if got, err := ControllersToken(m.Env); err != nil || !slices.Equal(got.Addresses, []string{"10.0.0.5:9444"}) || got.Pin != token.PublicKeyPin(leaf) {
		t.Errorf("%+v %v", got, err)
	}
}
