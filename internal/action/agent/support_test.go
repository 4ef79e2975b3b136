package agent

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/desired"
	"github.com/plinthdev/plinth/internal/agent"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/testkit"
)

// supportHost is a node with the agent's side of a support bundle.
type supportHost struct {
	supportCollector
	fake *hosttest.Fake
}

const (
	supportCommand = "systemd-run --quiet --collect --unit=plinth-support-bundle"
	firstID        = "0123456789abcdef0123456789abcdef"
	secondID       = "fedcba9876543210fedcba9876543210"
)

func newSupportHost(t *testing.T) supportHost {
	t.Helper()
	f := hosttest.New(t)
	env := &action.Env{Host: f.Host(), GlobalOptions: action.GlobalOptions{DataDir: "/srv/my ${data}", Now: time.Now, Note: func(string) {}}}
	return supportHost{supportCollector{env}, f}
}

// start starts a collection whose unit then has the state st.
func (h supportHost) start(t *testing.T, id string, st host.UnitState) {
	t.Helper()
	h.fake.Expect(supportCommand)
	testkit.Must(t, h.StartSupport(t.Context(), agent.SupportRequest{ID: id, Since: 3600, Limit: 5_000_000}))
	h.fake.Units[desired.SupportUnit+".service"] = st
}

// finish writes the part of a collection, as its unit does.
func (h supportHost) finish(t *testing.T, id, content string) {
	t.Helper()
	delete(h.fake.Units, desired.SupportUnit+".service")
	testkit.Must(t, h.Host.Write(desired.SupportPartPath(h.DataDir, id), strings.NewReader(content), 0o600))
}

func (h supportHost) state(t *testing.T) agent.SupportState {
	t.Helper()
	s, err := h.SupportState(t.Context())
	testkit.Must(t, err)
	return s
}

func TestStartSupport_StartsARestrictedUnit(t *testing.T) {
	h := newSupportHost(t)
	var ran []string
	h.fake.Expect(supportCommand).Do(func(c host.Cmd) { ran = c.Argv })
	testkit.Must(t, h.StartSupport(t.Context(), agent.SupportRequest{ID: firstID, Since: 3600, Limit: 5_000_000}))
	for _, want := range []string{"--property=NoNewPrivileges=yes",
		"--property=CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_SYS_PTRACE CAP_NET_ADMIN CAP_NET_RAW",
		"--property=RestrictNamespaces=yes", "--property=RuntimeMaxSec=90", "--property=Nice=10", "--property=MemoryMax=1G"} {
		if !slices.Contains(ran, want) {
			t.Errorf("it lacks %s: %q", want, ran)
		}
	}
	for _, arg := range ran {
		if strings.Contains(arg, "Protect") || strings.Contains(arg, "Private") || strings.Contains(arg, "Paths") {
			t.Errorf("%s shows the unit other mounts than the host has", arg)
		}
	}
	want := "/usr/local/bin/plinth-agent --data-dir /srv/my $${data} --progress none agent --support-part " + firstID +
		" --support-since 3600s --support-bytes 5000000"
	if !strings.HasSuffix(strings.Join(ran, " "), want) {
		t.Errorf("%q", ran)
	}
}

func TestSupportState_FollowsACollection(t *testing.T) {
	h := newSupportHost(t)
	if s := h.state(t); s != (agent.SupportState{}) {
		t.Errorf("%+v", s)
	}
	h.start(t, firstID, phaseRuns)
	if s := h.state(t); s != (agent.SupportState{ID: firstID, Running: true}) {
		t.Errorf("%+v", s)
	}
	testkit.Must(t, h.StartSupport(t.Context(), agent.SupportRequest{ID: firstID})) // again, after a lost answer
	var no *agent.StatusError
	if err := h.StartSupport(t.Context(), agent.SupportRequest{ID: secondID}); !errors.As(err, &no) || no.Status != http.StatusLocked {
		t.Error(err)
	}
	h.finish(t, firstID, "the part")
	if s := h.state(t); s != (agent.SupportState{ID: firstID, Size: 8}) {
		t.Errorf("%+v", s)
	}
	if _, _, err := h.TakeSupport(secondID); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	content, size, err := h.TakeSupport(firstID)
	testkit.Must(t, err)
	text, err := io.ReadAll(content)
	testkit.Must(t, err, content.Close())
	if string(text) != "the part" || size != 8 {
		t.Errorf("%q, %d", text, size)
	}
	if _, err := h.Host.Lstat(desired.SupportDir(h.DataDir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the part stays: %v", err)
	}
	if s := h.state(t); s != (agent.SupportState{}) {
		t.Errorf("%+v", s)
	}
}

func TestSupportState_ReportsAFailedCollection(t *testing.T) {
	h := newSupportHost(t)
	h.start(t, firstID, host.UnitState{Load: "not-found"}) // it was killed
	if s := h.state(t); s.ID != firstID || s.Running || !strings.Contains(s.Failed, "journalctl -u plinth-support-bundle") {
		t.Errorf("%+v", s)
	}
	h.start(t, secondID, phaseRuns)
	if s := h.state(t); s != (agent.SupportState{ID: secondID, Running: true}) {
		t.Errorf("%+v", s)
	}
}

func TestRemoveStale_KeepsWhatIsFetchedOrCollected(t *testing.T) {
	for name, c := range map[string]struct {
		age     time.Duration
		running bool
		want    bool // it is removed
	}{
		"just collected":     {time.Minute, false, false},
		"never fetched":      {time.Hour, false, true},
		"a slow collection":  {time.Hour, true, false},
		"at the moment only": {0, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newSupportHost(t)
			h.start(t, firstID, host.UnitState{})
			if h.finish(t, firstID, "the part"); c.running {
				h.fake.Units[desired.SupportUnit+".service"] = phaseRuns
			}
			at := time.Now().Add(-c.age)
			testkit.Must(t, os.Chtimes(filepath.Join(h.fake.Root, desired.SupportDir(h.DataDir)), at, at), h.removeStale(t.Context()))
			if _, err := h.Host.Lstat(desired.SupportDir(h.DataDir)); errors.Is(err, fs.ErrNotExist) != c.want {
				t.Errorf("%v", err)
			}
		})
	}
	testkit.Must(t, newSupportHost(t).removeStale(t.Context()))
}
