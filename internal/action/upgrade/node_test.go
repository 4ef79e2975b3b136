package upgrade

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/plinthdev/plinth/airgap"
	"github.com/plinthdev/plinth/airgap/airgaptest"
	"github.com/plinthdev/plinth/airgap/format"
	"github.com/plinthdev/plinth/airgap/trust"
	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/plan"
	"github.com/plinthdev/plinth/internal/problem"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

func newKey(t *testing.T) (trust.PrivateKey, trust.PublicKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	testkit.Must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	testkit.Must(t, err)
	private, err := trust.ParsePrivateKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	testkit.Must(t, err)
	public, err := private.Public()
	testkit.Must(t, err)
	return private, public
}

// served returns a bundle of a release as a controller serves it; a zero key does not sign it.
func served(t *testing.T, release int64, sign *trust.PrivateKey) (b clusterBundle, parsed *bool) {
	t.Helper()
	req := airgaptest.NewRequest(t)
	if req.Release = release; sign != nil {
		req.Sign = sign.Sign
	}
	bundle, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, req))
	testkit.Must(t, err)
	parsed = new(bool)
	return clusterBundle{index: bundle.RawIndex(), origin: desired.BundleOrigin{Signature: bundle.Signature()}, close: func() {},
		open: func(context.Context) (*airgap.Bundle, error) { *parsed = true; return bundle, nil }}, parsed
}

func TestVerifyClusterBundle_AcceptsOnlyThePinnedVendor(t *testing.T) {
	ours, public := newKey(t)
	stranger, _ := newKey(t)
	next, nextPublic := newKey(t)
	statement, err := ours.SignRotation(nextPublic)
	testkit.Must(t, err)
	env := &action.Env{GlobalOptions: action.GlobalOptions{Now: time.Now}}
	text, err := public.MarshalText()
	testkit.Must(t, err)
	signed := journal.Receipt{Bundle: "sha256:old", Vendor: journal.Vendor{Key: string(text), Release: 3}}
	for name, c := range map[string]struct {
		receipt  journal.Receipt
		release  int64
		sign     *trust.PrivateKey
		change   func(*clusterBundle)
		want     string // in the error; "" if accepted
		mayParse bool
	}{
		"the vendor's":                           {receipt: signed, release: 4, sign: &ours, mayParse: true},
		"the same release":                       {receipt: signed, release: 3, sign: &ours, mayParse: true},
		"an older release":                       {receipt: signed, release: 2, sign: &ours, want: "already has release 3", mayParse: true},
		"unsigned":                               {receipt: signed, release: 4, want: "not signed"},
		"another vendor's":                       {receipt: signed, release: 4, sign: &stranger, want: "not signed with the key"},
		"unsigned, on a node without a vendor":   {receipt: journal.Receipt{Bundle: "sha256:old"}, release: 4, mayParse: true},
		"without its signature":                  {receipt: signed, release: 4, sign: &ours, change: func(b *clusterBundle) { b.origin.Signature = nil }, want: "not signed"},
		"another index":                          {receipt: signed, release: 4, sign: &ours, change: func(b *clusterBundle) { b.index = append([]byte(" "), b.index...) }, want: "its digest is"},
		"a new key without the vendor's consent": {receipt: signed, release: 4, sign: &next, want: "not signed with the key"},
		"a new key with it":                      {receipt: signed, release: 4, sign: &next, change: func(b *clusterBundle) { b.origin.KeyRotation = statement }, mayParse: true},
	} {
		t.Run(name, func(t *testing.T) {
			b, parsed := served(t, c.release, c.sign)
			d := digest.FromBytes(b.index)
			if c.change != nil {
				c.change(&b)
			}
			policy, err := nodePolicy(env, c.receipt, b.origin)
			testkit.Must(t, err)
			_, result, err := verifyClusterBundle(t.Context(), b, d, policy)
			if c.want == "" && err != nil || c.want != "" && (problem.ExitCode(err) != problem.ExitBundle || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if *parsed && !c.mayParse {
				t.Error("an index was parsed that is not verified")
			}
			if c.want == "" && result.Verified != (c.sign != nil) {
				t.Errorf("%+v", result)
			}
		})
	}
	if policy, err := nodePolicy(env, signed, desired.BundleOrigin{KeyRotation: []byte("x")}); err == nil {
		t.Errorf("%+v: a damaged statement is ignored", policy)
	}
}

// blobs is a source of blobs by digest.
type blobs map[digest.Digest]string

func (b blobs) Open(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	content, ok := b[desc.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(strings.NewReader(content)), nil
}

func TestFetchProgram_TakesOnlyWhatTheVendorHasSignedFor(t *testing.T) {
	const content = "the next Plinth"
	next := digest.FromString(content)
	ours, public := newKey(t)
	stranger, _ := newKey(t)
	text, err := public.MarshalText()
	testkit.Must(t, err)
	receipt := journal.Receipt{Name: "my-app", Role: "worker", Node: "w1", Bundle: "sha256:old", Vendor: journal.Vendor{Key: string(text), Release: 3}}
	for name, c := range map[string]struct {
		sign   trust.PrivateKey
		names  []format.Program
		asks   digest.Digest
		serves string // content of the program
		want   string // in the error; "" if it was stored
	}{
		"the bundle names it":        {ours, []format.Program{{Digest: next, Size: int64(len(content))}}, next, content, ""},
		"the bundle names another":   {ours, []format.Program{{Digest: digest.FromString("x"), Size: 1}}, next, content, "does not name it"},
		"the bundle names none":      {ours, nil, next, content, "does not name it"},
		"another vendor's bundle":    {stranger, []format.Program{{Digest: next, Size: int64(len(content))}}, next, content, "not signed with the key"},
		"other content of this size": {ours, []format.Program{{Digest: next, Size: int64(len(content))}}, next, "THE next Plinth", "digest"},
		"no node has it":             {ours, []format.Program{{Digest: next, Size: int64(len(content))}}, next, "", "not exist"},
		"no other one is requested":  {stranger, nil, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := hosttest.New(t)
			env := &action.Env{Host: f.Host(), GlobalOptions: action.GlobalOptions{DataDir: "/data", Now: time.Now, Events: func(step.Event) {}, Note: func(string) {}}}
			testkit.Must(t, journal.WriteReceipt(env.Host, env.DataDir, receipt))
			req := airgaptest.NewRequest(t)
			req.Release, req.Sign, req.Programs = 4, c.sign.Sign, c.names
			bundle, err := airgap.Open(t.Context(), airgaptest.WriteBundle(t, req))
			testkit.Must(t, err)
			b := clusterBundle{index: bundle.RawIndex(), origin: desired.BundleOrigin{Signature: bundle.Signature()}, blobs: blobs{}, close: func() {},
				open: func(context.Context) (*airgap.Bundle, error) { return bundle, nil }}
			if c.serves != "" {
				b.blobs = blobs{next: c.serves}
			}
			q := agent.UpgradeRequest{Phase: agent.UpgradeProgram, Bundle: bundle.Digest(), Program: c.asks}
			err = fetchProgram(t.Context(), env, q, receipt, func(context.Context, *action.Env, digest.Digest) (clusterBundle, error) { return b, nil })
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			stored, err := env.Host.ReadFile(desired.StagedProgram(bundle.Digest(), next))
			if accepted := c.want == "" && c.asks != ""; accepted != (string(stored) == content) || !accepted && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q, %v", stored, err)
			}
		})
	}
}

func TestPhaseWriter_RecordsProgressAndEnd(t *testing.T) {
	f := hosttest.New(t)
	now := time.Unix(1000, 0)
	env := &action.Env{Host: f.Host(), GlobalOptions: action.GlobalOptions{DataDir: "/data", Now: func() time.Time { return now }, Events: func(step.Event) {}}}
	q := agent.UpgradeRequest{Phase: agent.UpgradeDeliver, Bundle: "sha256:x"}
	w := newPhaseWriter(env, q)
	with := w.withEvents(env)
	read := func() agent.UpgradeState {
		t.Helper()
		s, err := desired.ReadNodePhase(env.Host, env.DataDir)
		testkit.Must(t, err)
		return s
	}
	with.Events(step.Event{State: step.Started, Title: "Import the images"})
	if s := read(); s.Phase != q.Phase || s.Bundle != q.Bundle || s.Step != "Import the images" {
		t.Errorf("%+v", s)
	}
	with.Events(step.Event{State: step.Progress, Bytes: 5, Total: 10})
	if s := read(); s.Bytes != 0 {
		t.Error("each event is a write")
	}
	now = now.Add(progressInterval)
	with.Events(step.Event{State: step.Progress, Bytes: 6, Total: 10})
	if s := read(); s.Bytes != 6 || s.Total != 10 || !s.Ended.IsZero() {
		t.Errorf("%+v", s)
	}
	failed := problem.New(problem.ExitStep, "upgrade this node", &undoneError{context.DeadlineExceeded}, "do this")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	testkit.Must(t, w.end(canceled, failed))
	if s := read(); s.Failed != "" || s.Exit != 0 || !s.Ended.IsZero() || s.Bytes != 6 {
		t.Errorf("a phase that a shutdown has stopped has ended: %+v", s)
	}
	testkit.Must(t, w.end(t.Context(), failed))
	if s := read(); s.Failed == "" || s.Hint != "do this" || s.Exit != problem.ExitStep || !s.Undone || s.Ended.IsZero() {
		t.Errorf("%+v", s)
	}
	w = newPhaseWriter(env, q)
	testkit.Must(t, w.end(canceled, nil))
	if s := read(); !s.Finished(q) {
		t.Errorf("a phase that was done before the shutdown: %+v", s)
	}
}

func TestRollBack_LeavesAnUpgradeThatAShutdownStops(t *testing.T) {
	for name, o := range map[string]operation{"on the coordinator": {}, "on another node": {follows: &follower{}}} {
		t.Run(name, func(t *testing.T) {
			env := fakeEnv(t, journal.Receipt{Name: "my-app", Bundle: oldBundle}, "install", oldBundle, nil)
			testkit.Must(t, env.Host.Write(plan.SnapshotDir(dataDir, oldBundle)+"/snapshot.json", strings.NewReader(`{"version":1,"from":"`+oldBundle+`","to":"`+newBundle+`"}`), 0o600))
			o.from, o.to = oldBundle, newBundle
			o.simulateRollback = func(*action.Env, plan.Reversal) ([]step.Step, error) {
				t.Error("it is rolled back")
				return nil, nil
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			failed := problem.Newf(problem.ExitStep, "start k0s", "", "k0s was stopped")
			if err := o.rollBack(ctx, env, failed); !errors.Is(err, failed) || o.rolledBack {
				t.Errorf("%v", err)
			}
		})
	}
}

// stagedEnv returns a host with the snapshot of an upgrade to newBundle, and what was fetched for it.
func stagedEnv(t *testing.T, withSnapshot bool) (env *action.Env, staged, downloaded string) {
	t.Helper()
	env = fakeEnv(t, journal.Receipt{Name: "my-app", Bundle: oldBundle}, "install", oldBundle, nil)
	staged, downloaded = desired.StagedProgram(digest.Digest(newBundle), simProgram), action.FetchDir+"/1111/blob"
	testkit.Must(t, env.Host.Write(staged, strings.NewReader("program"), 0o700), env.Host.Write(downloaded, strings.NewReader("blob"), 0o600))
	if withSnapshot {
		testkit.Must(t, env.Host.Write(plan.SnapshotDir(dataDir, oldBundle)+"/snapshot.json", strings.NewReader(`{"version":1,"from":"`+oldBundle+`","to":"`+newBundle+`"}`), 0o600))
	}
	return env, staged, downloaded
}

func TestRollback_RemovesWhatWasFetched(t *testing.T) {
	for name, c := range map[string]struct {
		rollback               rollback
		withSnapshot           bool
		keepsStaged, keepsRest bool
	}{
		"on request":                            {rollback{ask: true, discards: action.FetchDir}, true, false, false},
		"on another node":                       {rollback{follows: newBundle, discards: action.FetchDir}, true, false, false},
		"on another node, without a snapshot":   {rollback{follows: newBundle, discards: action.FetchDir}, false, false, false},
		"after a failed step":                   {rollback{discards: desired.StagedBundlesDir}, true, false, true},
		"before the upgrade is resumed with it": {rollback{}, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			env, staged, downloaded := stagedEnv(t, c.withSnapshot)
			env.Events, env.Confirm = func(step.Event) {}, func(context.Context, string) error { return nil }
			c.rollback.simulate = func(*action.Env, plan.Reversal) ([]step.Step, error) { return nil, nil }
			_, err := action.ExecuteLocked(t.Context(), env, c.rollback.engineOperation())
			testkit.Must(t, err)
			for file, keeps := range map[string]bool{staged: c.keepsStaged, downloaded: c.keepsRest, action.FetchDir: c.keepsStaged || c.keepsRest} {
				if _, err := env.Host.Lstat(file); (err == nil) != keeps {
					t.Errorf("%s is kept: %v", file, err == nil)
				}
			}
		})
	}
}

func TestRunNodePhase_FailedCheckLeavesNothingBehind(t *testing.T) {
	for name, c := range map[string]struct {
		phase      agent.UpgradePhase
		begun      bool // the upgrade has begun on the node
		canceled   bool
		keepsFiles bool
	}{
		"a check":                             {agent.UpgradeCheck, false, false, false},
		"a check of an upgrade that is begun": {agent.UpgradeCheck, true, false, true},
		"a check that a shutdown stops":       {agent.UpgradeCheck, false, true, true},
		"a delivery, which is resumed":        {agent.UpgradeDeliver, false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			env, staged, _ := stagedEnv(t, c.begun)
			env.Events = func(step.Event) {}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.canceled {
				cancel()
			}
			refused := errors.New("not signed")
			open := func(context.Context, *action.Env, digest.Digest) (clusterBundle, error) {
				return clusterBundle{}, refused
			}
			if err := runNodePhase(ctx, env, agent.UpgradeRequest{Phase: c.phase, Bundle: newBundle}, journal.Receipt{}, open); !errors.Is(err, refused) {
				t.Fatal(err)
			}
			if _, err := env.Host.Lstat(staged); (err == nil) != c.keepsFiles {
				t.Errorf("kept: %v", err == nil)
			}
		})
	}
}
