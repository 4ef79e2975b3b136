package restore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/backup"
	format "github.com/plinthdev/plinth/internal/backup"
	"github.com/plinthdev/plinth/internal/etcd"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/pki"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
	"github.com/plinthdev/plinth/internal/ui"
)

// clock is when the receipt of the tests was last changed; backups are an hour newer.
func clock() time.Time { return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC) }

// survivor is a controller with a backup of its cluster on it.
type survivor struct {
	*hosttest.Fake
	env    *action.Env
	header format.Header
	file   string // path of the backup, outside of the fake host
	keys   string // file with its private key
}

// newSurvivor returns a controller that has lost its quorum. change may change the header of its backup.
func newSurvivor(t *testing.T, change func(*format.Header)) survivor {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a restore needs root")
	}
	f := hosttest.New(t)
	ca, err := pki.NewCA("kubernetes-ca", clock())
	testkit.Must(t, err)
	testkit.WriteFiles(t, f.Root, 0o600, map[string]string{k0s.CACertPath: string(ca.Cert), etcdDB: "database"})
	h := f.Host()
	j, err := journal.Open(h, dataDir, clock)
	testkit.Must(t, err, j.BeginRun("install", journal.Args{Cluster: "my-app"}), j.EndRun(nil))
	testkit.Must(t, journal.WriteReceipt(h, dataDir, journal.Receipt{Name: "my-app", Role: "controller", Node: "n1",
		Versions: map[string]string{"k0s": "v1.33.8+k0s.1"}, UpdatedAt: clock().Add(time.Second / 2), Vendor: journal.Vendor{Release: 7}}))
	id, err := backup.ClusterID(h)
	testkit.Must(t, err)
	s := survivor{Fake: f, env: &action.Env{Host: h, GlobalOptions: action.GlobalOptions{DataDir: dataDir, Now: clock, Events: func(step.Event) {},
		Note: func(string) {}, Secrets: &ui.Secrets{}}},
		header: format.Header{Cluster: "my-app", ClusterID: id, Node: "n2", TakenAt: clock().Add(time.Hour), Kubernetes: "1.33", K0s: "v1.33.8+k0s.1",
			Release: 7}}
	if change != nil {
		change(&s.header)
	}
	key, err := age.GenerateX25519Identity()
	testkit.Must(t, err)
	s.keys, s.file = filepath.Join(t.TempDir(), "key.txt"), "/mnt/backup"
	testkit.Must(t, os.WriteFile(s.keys, []byte(key.String()+"\n"), 0o600))
	m := format.Manifest{Header: s.header, Nodes: []format.Node{{Name: "n1", Role: "controller", Address: "10.0.0.5"}, {Name: "n2",
		Role: "controller", Address: "10.0.0.6"}, {Name: "w", Role: "worker"}},
		Files: []format.File{{Name: format.EtcdName, Mode: 0o600, Size: 4, Digest: digest.FromString("etcd")}}}
	var raw bytes.Buffer
	_, err = format.Write(&raw, m, format.Lock{Recipients: []age.Recipient{key.Recipient()}}, func(format.File) (io.ReadCloser,
		error) {
		return io.NopCloser(strings.NewReader("etcd")), nil
	})
	testkit.Must(t, err, h.Write(s.file, &raw, 0o600))
	return s
}

// newOperation returns a restore of s whose cluster has these members; none if etcd does not answer.
func (s survivor) newOperation(opts Options, members []etcd.Member, answering ...string) *operation {
	opts.Key.Secrets = s.env.Secrets
	return &operation{opts: opts, now: clock(),
		simulate: func(*action.Env, plan.Restoration) ([]step.Step, error) { return nil, nil },
		members: func(context.Context, *action.Env) ([]etcd.Member, error) {
			if members == nil {
				return nil, errors.New("connection refused")
			}
			return members, nil
		},
		identify: identifyOwn(answering)}
}

// identifyOwn returns a function that finds members of the cluster at these addresses.
func identifyOwn(answering []string) identifyFunc {
	return func(_ context.Context, address string, _ []byte) etcd.Peer {
		if slices.Contains(answering, address) {
			return etcd.OwnPeer
		}
		return etcd.NoPeer
	}
}

func TestPeerVerdict_RefusesWhatMayBeTheController(t *testing.T) {
	n := format.Node{Name: "n2", Address: "10.0.0.6"}
	for name, c := range map[string]struct {
		found         etcd.Peer
		refusal, note string
	}{
		"nothing":              {etcd.NoPeer, "", ""},
		"its etcd":             {etcd.OwnPeer, "etcd on controller n2 (10.0.0.6) answers", ""},
		"a silent program":     {etcd.SilentPeer, "a program accepts connections at port 2380 of controller n2 (10.0.0.6) and does not say what it is: it may be the etcd of that controller, which does not answer", ""},
		"another cluster":      {etcd.ForeignPeer, "", "what answers at port 2380 of controller n2 (10.0.0.6) is of another cluster: this controller is not there any more"},
		"a program that isn't": {etcd.OtherPeer, "", "what answers at port 2380 of controller n2 (10.0.0.6) is not etcd: this controller is not there any more"},
	} {
		t.Run(name, func(t *testing.T) {
			if refusal, note := peerVerdict(n, c.found); refusal != c.refusal || note != c.note {
				t.Errorf("%q, %q", refusal, note)
			}
		})
	}
}

func TestInspect_RefusesByName(t *testing.T) {
	three := []etcd.Member{{Name: "n1", Address: "10.0.0.5"}, {Name: "n2", Address: "10.0.0.6"}, {Name: "n3", Address: "10.0.0.7"}}
	led := slices.Clone(three)
	led[1].Leader = true
	alone := []etcd.Member{{Name: "n1", Address: "10.0.0.5", Leader: true}}
	for name, c := range map[string]struct {
		header    func(*format.Header)
		change    func(*testing.T, survivor)
		thisNode  bool
		key       func(survivor) backup.KeyFlags // nil for the right one
		members   []etcd.Member
		answering []string
		exit      int
		text      string // "" if it is not refused
	}{
		"quorum is lost":         {members: three},
		"etcd does not answer":   {},
		"joining node":           {thisNode: true, members: []etcd.Member{{Name: "N1", Learner: true}, three[1]}, exit: 2, text: "was still joining"},
		"unknown members":        {thisNode: true, exit: 2, text: "the members of etcd cannot be read"},
		"this node":              {thisNode: true, members: three},
		"going back on one":      {members: alone},
		"nothing is lost":        {thisNode: true, members: alone, exit: 2, text: "nothing is lost"},
		"has its quorum":         {members: led, exit: 2, text: "the cluster has its quorum"},
		"another one runs":       {members: three, answering: []string{"10.0.0.7"}, exit: 2, text: "etcd on controller n3 (10.0.0.7) answers"},
		"one of the backup runs": {answering: []string{"10.0.0.6"}, exit: 2, text: "etcd on controller n2 (10.0.0.6) answers"},
		"another cluster": {header: func(h *format.Header) { h.Cluster, h.ClusterID = "other", "other" }, exit: 2,
			text: "it is of another cluster: other, and not my-app of this host"},
		"another Kubernetes": {header: func(h *format.Header) { h.Kubernetes = "1.32" }, exit: 2,
			text: "it is of Kubernetes 1.32, and this host has 1.33"},
		"older than the receipt": {header: func(h *format.Header) { h.TakenAt = clock().Add(-time.Second) }, exit: 2,
			text: "older than the receipt of this host"},
		"an older release": {header: func(h *format.Header) { h.Release = 6 }, exit: 2, text: "it is of release 6, and this host has release 7"},
		"another key": {key: func(s survivor) backup.KeyFlags { return backup.KeyFlags{IdentityFile: otherKey(t)} }, exit: 6,
			text: "cannot be decrypted with this key"},
		"no key":       {key: func(survivor) backup.KeyFlags { return backup.KeyFlags{} }, exit: 2, text: "no private key is given"},
		"damaged":      {change: func(t *testing.T, s survivor) { flip(t, s.Root+s.file) }, exit: 6, text: "it is damaged"},
		"no such file": {change: func(t *testing.T, s survivor) { testkit.Must(t, s.env.Host.RemoveAll(s.file)) }, exit: 6, text: "no such file"},
		"a worker": {change: func(t *testing.T, s survivor) { s.setReceipt(t, journal.Receipt{Name: "my-app", Role: "worker"}) },
			exit: 2, text: "is a worker"},
		"nothing installed": {change: func(t *testing.T, s survivor) { testkit.Must(t, s.env.Host.RemoveAll(journal.ReceiptPath(dataDir))) },
			exit: 2, text: "no finished install"},
		"unfinished upgrade": {change: func(t *testing.T, s survivor) { s.begin(t, "upgrade", "") }, exit: 2, text: "the upgrade started at"},
		"unfinished other restore": {change: func(t *testing.T, s survivor) { s.begin(t, Verb, "sha256:other"); s.store(t, "sha256:other") },
			exit: 2, text: "restores other data"},
		"other restore that stored nothing": {members: three, change: func(t *testing.T, s survivor) { s.begin(t, Verb, "sha256:other") }},
		"no data of etcd": {thisNode: true, change: func(t *testing.T, s survivor) { testkit.Must(t, s.env.Host.RemoveAll(k0s.EtcdDir)) },
			exit: 2, text: "this host has no data of etcd"},
		"unfinished, etcd is gone": {thisNode: true, change: func(t *testing.T, s survivor) {
			s.begin(t, Verb, plan.ThisNode)
			s.store(t, plan.ThisNode)
			testkit.Must(t, s.env.Host.RemoveAll(k0s.EtcdDir))
		}},
		"nothing is stored, one is back": {thisNode: true, members: three, answering: []string{"10.0.0.7"},
			change: func(t *testing.T, s survivor) { s.begin(t, Verb, plan.ThisNode) }, exit: 2, text: "etcd on controller n3 (10.0.0.7) answers"},
		"stored, one of the backup is back": {answering: []string{"10.0.0.6"}, change: func(t *testing.T, s survivor) { s.store(t, etcdDigest) },
			exit: 2, text: "etcd on controller n2 (10.0.0.6) answers"},
		"restored, one has joined again": {members: led, answering: []string{"10.0.0.6"}, change: func(t *testing.T, s survivor) {
			s.store(t, etcdDigest)
			testkit.WriteFiles(t, s.Root, 0o600, map[string]string{plan.RestoreDir(dataDir) + "/etcd-restored": ""})
		}},
		"authority cannot be read": {change: func(t *testing.T, s survivor) { testkit.Must(t, s.env.Host.RemoveAll(k0s.CACertPath)) }, exit: 2,
			text: "no such file"},
		"a newer backup of another": {header: func(h *format.Header) { h.Node, h.TakenAt = "n3", clock().Add(100*time.Hour) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSurvivor(t, c.header)
			if c.change != nil {
				c.change(t, s)
			}
			opts := Options{ControlPlane: s.file, Key: backup.KeyFlags{IdentityFile: s.keys}}
			if c.key != nil {
				opts.Key = c.key(s)
			}
			if c.thisNode {
				opts = Options{FromThisNode: true}
			}
			o := s.newOperation(opts, c.members, c.answering...)
			env := s.env.ReadOnly()
			_, err := env.OpenJournal()
			testkit.Must(t, err)
			err = o.inspect(t.Context(), env)
			if c.text == "" && err == nil {
				return
			}
			if err == nil || c.text == "" || problem.ExitCode(err) != c.exit || !strings.Contains(err.Error(), c.text) || problem.Hint(err) == "" {
				t.Errorf("exit %d, %v → %s", problem.ExitCode(err), err, problem.Hint(err))
			}
		})
	}
}

func TestInspect_WarnsOfAClockThatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		ahead time.Duration // of the host that wrote the backup
		want  string        // "" for no warning
	}{
		"a minute ahead": {time.Minute, ""},
		"an hour ahead":  {time.Hour, "the backup is of 2026-11-29T13:00:00Z, and the clock of this host shows 2026-11-29T12:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSurvivor(t, func(h *format.Header) { h.TakenAt = clock().Add(c.ahead) })
			var notes []string
			s.env.Note = func(text string) { notes = append(notes, text) }
			_, err := s.env.OpenJournal()
			testkit.Must(t, err)
			o := s.newOperation(Options{ControlPlane: s.file, Key: backup.KeyFlags{IdentityFile: s.keys}}, nil)
			testkit.Must(t, o.inspect(t.Context(), s.env))
			if c.want == "" && len(notes) > 0 || c.want != "" && (len(notes) != 1 || !strings.Contains(notes[0], c.want)) {
				t.Errorf("%q, want %q", notes, c.want)
			}
		})
	}
}

func TestInspectBackup_IsNoDamageWhenItIsInterrupted(t *testing.T) {
	s := newSurvivor(t, nil)
	o := s.newOperation(Options{ControlPlane: s.file, Key: backup.KeyFlags{IdentityFile: s.keys}}, nil)
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(interrupted)
	if err := o.inspectBackup(ctx, s.env); !errors.Is(err, interrupted) || problem.ExitCode(err) != problem.ExitInternal {
		t.Errorf("exit %d, %v", problem.ExitCode(err), err)
	}
}

// otherKey returns a file with a private key to which nothing is encrypted.
func otherKey(t *testing.T) string {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	testkit.Must(t, err)
	p := filepath.Join(t.TempDir(), "other.txt")
	testkit.Must(t, os.WriteFile(p, []byte(key.String()), 0o600))
	return p
}

// flip changes a bit of the file p.
func flip(t *testing.T, p string) {
	t.Helper()
	raw, err := os.ReadFile(p)
	testkit.Must(t, err)
	raw[len(raw)-100] ^= 1
	testkit.Must(t, os.WriteFile(p, raw, 0o600))
}

func (s survivor) setReceipt(t *testing.T, r journal.Receipt) {
	t.Helper()
	testkit.Must(t, journal.WriteReceipt(s.env.Host, dataDir, r))
}

// begin begins a run that is not finished.
func (s survivor) begin(t *testing.T, verb, from string) {
	t.Helper()
	j, err := journal.Open(s.env.Host, dataDir, clock)
	testkit.Must(t, err, j.BeginRun(verb, journal.Args{From: from}))
}

// etcdDigest identifies the data in the backup of newSurvivor.
var etcdDigest = digest.FromString("etcd").String()

// store writes what a killed restore from source has stored.
func (s survivor) store(t *testing.T, source string) {
	t.Helper()
	raw, err := json.Marshal(plan.Snapshot{Version: 1, To: source, Data: &plan.SnapshotData{}})
	testkit.Must(t, err)
	testkit.WriteFiles(t, s.Root, 0o600, map[string]string{plan.RestoreDir(dataDir) + "/snapshot.json": string(raw)})
}

func TestOpenEtcd_EndsOnlyAfterTheWholeFileIsVerified(t *testing.T) {
	s := newSurvivor(t, nil)
	o := s.newOperation(Options{ControlPlane: s.file, Key: backup.KeyFlags{IdentityFile: s.keys}}, nil)
	_, err := s.env.OpenJournal()
	testkit.Must(t, err, o.inspect(t.Context(), s.env))
	r, err := o.openEtcd(t.Context())
	testkit.Must(t, err)
	if got, err := io.ReadAll(r); err != nil || string(got) != "etcd" {
		t.Errorf("%q %v", got, err)
	}
	flip(t, s.Root+s.file)
	r, err = o.openEtcd(t.Context())
	testkit.Must(t, err)
	if _, err := io.ReadAll(r); !errors.Is(err, format.ErrDamaged) {
		t.Error(err)
	}
}

func TestConfirm_NamesWhatIsLost(t *testing.T) {
	s := newSurvivor(t, nil)
	for name, c := range map[string]struct {
		opts Options
		want []string
	}{
		"from a backup": {Options{ControlPlane: s.file, Key: backup.KeyFlags{IdentityFile: s.keys}}, []string{"since 2026-11-29T13:00:00Z is lost",
			"Other controllers: n2.", "must be off for good"}},
		"from this node": {Options{FromThisNode: true, RemoveLost: true}, []string{"had not received is lost", "with the volumes that only they have"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := s.newOperation(c.opts, []etcd.Member{{Name: "n1"}, {Name: "n2"}})
			_, err := s.env.OpenJournal()
			testkit.Must(t, err, o.inspect(t.Context(), s.env))
			var question string
			s.env.Confirm = func(_ context.Context, q string) error { question = q; return nil }
			testkit.Must(t, o.confirm(t.Context(), s.env, nil))
			for _, want := range c.want {
				if !strings.Contains(question, want) {
					t.Errorf("%q is missing in %q", want, question)
				}
			}
		})
	}
}
