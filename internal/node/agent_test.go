package node

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/testkit"
)

func TestNewAgentService_RestrictsAgent(t *testing.T) {
	lines := strings.Split(NewAgentService(host.Host{}, Artifact{Path: AgentBinary}, "/var/lib/plinth").text, "\n")
	for _, want := range []string{
		`ExecStart="/usr/local/bin/plinth-agent" --data-dir "/var/lib/plinth" agent`,
		"UMask=0077", "MemoryMax=256M", "TasksMax=256",
		"NoNewPrivileges=yes", "CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_DAC_READ_SEARCH",
		"SystemCallFilter=@system-service", "SystemCallFilter=~@privileged", "SystemCallArchitectures=native",
		"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK", "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes",
		"LockPersonality=yes", "MemoryDenyWriteExecute=yes",
		"ProtectSystem=strict", `ReadWritePaths="/var/lib/plinth"`, `InaccessiblePaths="-/var/lib/plinth/volumes"`,
		"ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "ProtectProc=invisible", "ProcSubset=pid",
		"ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectControlGroups=yes",
		"ProtectClock=yes", "ProtectHostname=yes",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
}

// The restrictions must not hide the data folder from the agent.
func TestNewAgentService_KeepsDataFolderVisible(t *testing.T) {
	link := filepath.Join(t.TempDir(), "data")
	testkit.Must(t, os.Symlink("/home", link))
	for dir, want := range map[string][]string{
		"/srv/plinth":         {"ProtectHome=yes", "PrivateTmp=yes", `ReadWritePaths="/srv/plinth"`},
		"/homes/plinth":       {"ProtectHome=yes"},
		"/home/op/plinth":     {"ProtectHome=read-only", "PrivateTmp=yes", `ReadWritePaths="/home/op/plinth"`},
		"/root/plinth":        {"ProtectHome=read-only"},
		"/tmp/plinth":         {"ProtectHome=yes", "PrivateTmp=no"},
		"/var/tmp/plinth":     {"PrivateTmp=no"},
		link + "/no/plinth":   {"ProtectHome=read-only"},
		`/srv/50% "of" $HOME`: {`ExecStart="/usr/local/bin/plinth-agent" --data-dir "/srv/50%% \"of\" $$HOME" agent`, `ReadWritePaths="/srv/50%% \"of\" $HOME"`},
	} {
		t.Run(dir, func(t *testing.T) {
			lines := strings.Split(NewAgentService(host.Host{}, Artifact{Path: AgentBinary}, dir).text, "\n")
			for _, w := range want {
				if !slices.Contains(lines, w) {
					t.Errorf("the unit lacks %s", w)
				}
			}
		})
	}
}

// startRecorder records for each start of a unit whether the unit was stopped before.
type startRecorder struct {
	host.Units
	stopped bool
	starts  []bool
}

func (r *startRecorder) StopUnit(ctx context.Context, unit string) error {
	r.stopped = true
	return r.Units.StopUnit(ctx, unit)
}

func (r *startRecorder) StartUnit(ctx context.Context, unit string) error {
	r.starts, r.stopped = append(r.starts, r.stopped), false
	return r.Units.StartUnit(ctx, unit)
}

func TestServiceApply_RestartsServiceWhoseUnitFileDiffers(t *testing.T) {
	f := hosttest.New(t)
	h := f.Host()
	r := &startRecorder{Units: h.Units}
	h.Units = r
	s := NewAgentService(h, Artifact{Path: AgentBinary}, "/var/lib/plinth")
	testkit.Must(t, s.Apply(t.Context()))
	testkit.Must(t, s.Apply(t.Context()))
	testkit.Must(t, h.Write(s.UnitPath(), strings.NewReader("[Service]\n"), 0o644))
	testkit.Must(t, s.Apply(t.Context()))
	if !slices.Equal(r.starts, []bool{false, false, true}) {
		t.Errorf("stopped before each start: %v", r.starts)
	}
	if why, err := s.Check(t.Context()); err != nil || why != "" {
		t.Errorf("%q %v", why, err)
	}
}

func TestServiceApply_RestartsAgentWhoseProgramChanged(t *testing.T) {
	f := hosttest.New(t)
	h := f.Host()
	r := &startRecorder{Units: h.Units}
	h.Units = r
	old := NewAgentService(h, Artifact{Path: AgentBinary, Digest: "sha256:1"}, "/var/lib/plinth")
	testkit.Must(t, old.Apply(t.Context()))
	s := NewAgentService(h, Artifact{Path: AgentBinary, Digest: "sha256:2"}, "/var/lib/plinth")
	if why, err := s.Check(t.Context()); err != nil || why == "" {
		t.Errorf("an agent that runs an earlier program is up to date: %v", err)
	}
	testkit.Must(t, s.Apply(t.Context()))
	if !slices.Equal(r.starts, []bool{false, true}) {
		t.Errorf("stopped before each start: %v", r.starts)
	}
}
