package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/testkit"
)

// upgradedHost is a worker with the agent's side of an upgrade.
type upgradedHost struct {
	*nodeUpgrader
	fake *hosttest.Fake
}

func newUpgradedHost(t *testing.T) upgradedHost {
	t.Helper()
	f := hosttest.New(t)
	env := &action.Env{Host: f.Host(), GlobalOptions: action.GlobalOptions{DataDir: "/srv/my ${data}", Version: "1.2.0", Now: func() time.Time { return noon }, Note: func(string) {}}}
	testkit.Must(t, journal.WriteReceipt(env.Host, env.DataDir, journal.Receipt{Name: "my-app", Role: "worker", Node: "w1", Bundle: "sha256:old", Versions: map[string]string{"k0s": "v1.33.4+k0s.0"}}))
	return upgradedHost{&nodeUpgrader{Env: env, selfDigest: func() digest.Digest { return "sha256:program" }}, f}
}

const phaseCommand = "systemd-run --quiet --collect --unit=plinth-upgrade-node"

var (
	phaseRuns   = host.UnitState{Load: "loaded", Active: "active", Sub: "running"}
	nextBundle  = digest.FromString("next")
	switchPhase = agent.UpgradeRequest{Phase: agent.UpgradeSwitch, Bundle: nextBundle}
)

func TestStartUpgrade_StartsAUnitOfItsOwn(t *testing.T) {
	h := newUpgradedHost(t)
	ran := ""
	h.fake.Expect(phaseCommand).Do(func(c host.Cmd) { ran = strings.Join(c.Argv, " ") })
	testkit.Must(t, h.StartUpgrade(t.Context(), switchPhase))
	if want := "/usr/local/bin/plinth-agent --data-dir /srv/my $${data} agent --upgrade-phase switch --upgrade-bundle " + nextBundle.String(); !strings.HasSuffix(ran, want) {
		t.Error(ran)
	}
}

func TestStartUpgrade_RunsThePlinthThatThePhaseNeeds(t *testing.T) {
	next := digest.FromString("the next Plinth")
	fetched := desired.StagedProgram(nextBundle, next)
	for name, c := range map[string]struct {
		phase   agent.UpgradePhase
		program digest.Digest
		fetched bool
		want    string // program; "" if refused
	}{
		"no other one is requested":           {agent.UpgradeSwitch, "", true, node.AgentBinary},
		"the one that is installed":           {agent.UpgradeSwitch, "sha256:program", true, node.AgentBinary},
		"one that was fetched":                {agent.UpgradeSwitch, next, true, fetched},
		"one that was not":                    {agent.UpgradeSwitch, next, false, ""},
		"to fetch it":                         {agent.UpgradeProgram, next, false, node.AgentBinary},
		"a rollback, once it was removed":     {agent.UpgradeRollback, next, false, node.AgentBinary},
		"the end of it, once it was removed":  {agent.UpgradeCommit, next, false, node.AgentBinary},
		"a rollback while it is still needed": {agent.UpgradeRollback, next, true, fetched},
	} {
		t.Run(name, func(t *testing.T) {
			h, ran := newUpgradedHost(t), ""
			if c.fetched {
				testkit.Must(t, h.Host.Write(fetched, strings.NewReader("program"), 0o700))
			}
			if c.want != "" {
				h.fake.Expect(phaseCommand).Do(func(cmd host.Cmd) { ran = strings.Join(cmd.Argv, " ") })
			}
			err := h.StartUpgrade(t.Context(), agent.UpgradeRequest{Phase: c.phase, Bundle: nextBundle, Program: c.program})
			var no *agent.StatusError
			if c.want == "" && (!errors.As(err, &no) || no.Status != http.StatusConflict) || c.want != "" && (err != nil || !strings.Contains(ran, " "+c.want+" --data-dir ")) {
				t.Errorf("%q: %v", ran, err)
			}
		})
	}
}

func TestStartUpgrade_DoesOneThingAtATime(t *testing.T) {
	unit := desired.NodePhaseUnit + ".service"
	t.Run("the same phase runs", func(t *testing.T) {
		h := newUpgradedHost(t)
		h.fake.Units[unit] = phaseRuns
		testkit.Must(t, desired.WriteNodePhase(h.Host, h.DataDir, agent.UpgradeState{Phase: agent.UpgradeSwitch, Bundle: nextBundle}), h.StartUpgrade(t.Context(), switchPhase))
	})
	for name, prepare := range map[string]func(*testing.T, upgradedHost){
		"another phase runs": func(t *testing.T, h upgradedHost) {
			h.fake.Units[unit] = phaseRuns
			testkit.Must(t, desired.WriteNodePhase(h.Host, h.DataDir, agent.UpgradeState{Phase: agent.UpgradeDeliver, Bundle: nextBundle}))
		},
		"another bundle's": func(t *testing.T, h upgradedHost) {
			h.fake.Units[unit] = phaseRuns
			testkit.Must(t, desired.WriteNodePhase(h.Host, h.DataDir, agent.UpgradeState{Phase: agent.UpgradeSwitch, Bundle: "sha256:x"}))
		},
		"a command has the host's lock": func(t *testing.T, h upgradedHost) {
			testkit.Must(t, h.Host.Write("/run/plinth.lock", strings.NewReader(fmt.Sprintf(`{"pid":%d,"verb":"reset"}`, os.Getpid())), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newUpgradedHost(t)
			prepare(t, h)
			var no *agent.StatusError
			if err := h.StartUpgrade(t.Context(), switchPhase); !errors.As(err, &no) || no.Status != http.StatusLocked {
				t.Error(err)
			}
		})
	}
}

func TestUpgradeState_NoticesAKilledPhase(t *testing.T) {
	state := func(t *testing.T, h upgradedHost) agent.UpgradeState {
		t.Helper()
		s, err := h.UpgradeState(t.Context())
		testkit.Must(t, err)
		if s.Node != "w1" || s.Installed != "sha256:old" || s.Program != "sha256:program" || s.K0s != "v1.33.4+k0s.0" || s.Version != "1.2.0" {
			t.Errorf("%+v", s)
		}
		return s
	}
	h := newUpgradedHost(t)
	if s := state(t, h); s.Phase != "" || s.Failed != "" {
		t.Errorf("%+v", s)
	}
	h.fake.Expect(phaseCommand)
	testkit.Must(t, h.StartUpgrade(t.Context(), switchPhase))
	h.fake.Units[desired.NodePhaseUnit+".service"] = phaseRuns
	if s := state(t, h); !s.Running || s.Failed != "" || s.Finished(switchPhase) {
		t.Errorf("%+v", s)
	}
	delete(h.fake.Units, desired.NodePhaseUnit+".service")
	if s := state(t, h); s.Running || !strings.Contains(s.Failed, "killed") || s.Finished(switchPhase) {
		t.Errorf("%+v", s)
	}
	testkit.Must(t, desired.WriteNodePhase(h.Host, h.DataDir, agent.UpgradeState{Phase: agent.UpgradeSwitch, Bundle: nextBundle, Ended: noon}))
	if s := state(t, h); !s.Finished(switchPhase) {
		t.Errorf("%+v", s)
	}
	h.fake.Expect(phaseCommand).Return("", errors.New("no access to systemd"))
	if err := h.StartUpgrade(t.Context(), switchPhase); err == nil || state(t, h).Finished(switchPhase) {
		t.Errorf("%v; the end of the earlier run counts", err)
	}
}

// watchedUnits are the units of a host that call functions before and after their state is read.
type watchedUnits struct {
	host.Units
	before, after func()
}

func (u watchedUnits) UnitState(ctx context.Context, unit string) (host.UnitState, error) {
	u.before()
	defer u.after()
	return u.Units.UnitState(ctx, unit)
}

func TestUpgradeState_PhaseThatEndsMeanwhileWasNotKilled(t *testing.T) {
	for name, running := range map[string]bool{"right before its unit is asked": false, "right after": true} {
		t.Run(name, func(t *testing.T) {
			h := newUpgradedHost(t)
			unit := desired.NodePhaseUnit + ".service"
			h.fake.Units[unit] = phaseRuns
			testkit.Must(t, desired.WriteNodePhase(h.Host, h.DataDir, agent.UpgradeState{Phase: agent.UpgradeSwitch, Bundle: nextBundle}))
			end := func() {
				testkit.Must(t, desired.WriteNodePhase(h.Host, h.DataDir, agent.UpgradeState{Phase: agent.UpgradeSwitch, Bundle: nextBundle, Ended: noon}))
				delete(h.fake.Units, unit)
			}
			units := h.Host.Units
			h.Host.Units = watchedUnits{units, end, func() {}}
			if running {
				h.Host.Units = watchedUnits{units, func() {}, end}
			}
			s, err := h.UpgradeState(t.Context())
			if err != nil || s.Running != running || s.Failed != "" {
				t.Errorf("%+v %v", s, err)
			}
			h.Host.Units = units
			if s, err = h.UpgradeState(t.Context()); err != nil || !s.Finished(switchPhase) {
				t.Errorf("at the end: %+v %v", s, err)
			}
		})
	}
}

func TestStartUpgrade_TwoRequestsStartOnePhase(t *testing.T) {
	h := newUpgradedHost(t)
	unit := desired.NodePhaseUnit + ".service"
	h.fake.Expect(phaseCommand).Do(func(host.Cmd) { h.fake.Units[unit] = phaseRuns }) // a second start is an unexpected command
	var starting sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		starting.Go(func() {
			errs[i] = h.StartUpgrade(t.Context(), switchPhase)
			if s, err := h.UpgradeState(t.Context()); err != nil || s.Failed != "" {
				t.Errorf("%+v %v", s, err)
			}
		})
	}
	starting.Wait()
	testkit.Must(t, errs...)
}

func TestUpgradeOffer_OnlyOfAStagedBundle(t *testing.T) {
	h := newUpgradedHost(t)
	offer := upgradeOffer(h.Env)
	testkit.Must(t, h.Host.Write(desired.StagedBundleDir(nextBundle)+"/index.json", strings.NewReader("next"), 0o600),
		h.Host.Write(desired.StagedBundleDir(nextBundle)+"/index.json.sig", strings.NewReader("signature"), 0o600))
	if o, err := offer(t.Context(), nextBundle); err != nil || o.Bundle != nextBundle || string(o.Signature) != "signature" {
		t.Errorf("%+v %v", o, err)
	}
	for name, d := range map[string]digest.Digest{"another one": digest.FromString("x"), "a path": "../../../etc", "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			var no *agent.StatusError
			if _, err := offer(t.Context(), d); !errors.As(err, &no) || no.Status != http.StatusNotFound {
				t.Error(err)
			}
		})
	}
}
