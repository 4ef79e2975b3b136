package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/cleanup"
)

// AgentUnit is the systemd unit of Plinth's agent.
const AgentUnit = cleanup.AgentUnit

// AgentBinary is the path of the copy of this program that the agent runs.
const AgentBinary = "/usr/local/bin/plinth-agent"

// Service is a program that systemd keeps running.
type Service struct {
	host host.Host
	unit string // name
	text string // of the unit file
}

// agentUnitText is the unit file of the agent; NewAgentService has its arguments.
//
// GOMEMLIMIT keeps the agent small beside the workloads; it reads its state again for each request.
// MemoryMax and TasksMax have a margin over what was measured on a controller with 2 CPUs: 30 MB for
// 31 streams at once. Page cache counts, too, but the kernel reclaims it first.
//
// The agent writes to the data folder only, and has no use for the volumes in it. It binds port 179
// for peer checks: CAP_NET_BIND_SERVICE. It reads the keys of the cluster's authorities, which k0s
// gives to the users of its components: CAP_DAC_READ_SEARCH. It lists the network interfaces by netlink.
//
// The digest of the program in the unit makes systemd run a new program: the agent is restarted when
// its unit file differs.
//
// An older systemd ignores the directives that it does not know, with a warning: ProtectHostname and
// RestrictSUIDSGID are from 242, ProtectKernelLogs from 244, ProtectClock from 245, ProtectProc and
// ProcSubset from 247. A path that does not exist would make the start fail, except with "-".
const agentUnitText = `# Program: %[7]s
[Unit]
Description=Plinth agent: serves this node's artifacts to hosts that join
After=network-online.target
Wants=network-online.target

[Service]
ExecStart="%[1]s" --data-dir "%[2]s" agent
Environment=GOMEMLIMIT=40MiB GOMAXPROCS=2
Restart=always
RestartSec=2
UMask=0077
MemoryMax=256M
TasksMax=256

NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_DAC_READ_SEARCH
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes

ProtectSystem=strict
ReadWritePaths="%[3]s"
InaccessiblePaths="-%[4]s"
ProtectHome=%[5]s
PrivateTmp=%[6]s
PrivateDevices=yes
DevicePolicy=closed
ProtectProc=invisible
ProcSubset=pid
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes

[Install]
WantedBy=multi-user.target
`

// NewAgentService returns the service of Plinth's agent, which runs program. The data folder stays
// visible to the agent below /home, /root or /tmp, also through symbolic links.
func NewAgentService(h host.Host, program Artifact, dataDir string) Service {
	home, tmp, target := "yes", "yes", host.ResolveExisting(dataDir)
	if isBelow(target, "/home", "/root", "/run/user") {
		home = "read-only"
	}
	if isBelow(target, "/tmp", "/var/tmp") {
		tmp = "no"
	}
	argument := strings.NewReplacer("$", "$$") // ExecStart expands variables
	dir := quoteUnitPath(dataDir)
	return Service{host: h, unit: AgentUnit, text: fmt.Sprintf(agentUnitText,
		argument.Replace(quoteUnitPath(program.Path)), argument.Replace(dir), dir, quoteUnitPath(path.Join(dataDir, VolumesDir)), home, tmp, program.Digest)}
}

// quoteUnitPath returns p for use between double quotes in a unit file.
func quoteUnitPath(p string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(p)
}

// isBelow reports whether the absolute path p is one of dirs, or in one of them.
func isBelow(p string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") })
}

// UnitPath returns the path of the unit file.
func (s Service) UnitPath() string { return "/etc/systemd/system/" + s.unit }

// Check returns the reason why Apply is needed, or "" if the service runs as required. It changes
// nothing.
func (s Service) Check(ctx context.Context) (string, error) {
	have, err := s.host.ReadFile(s.UnitPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "the service " + s.unit + " does not exist", nil
	case err != nil:
		return "", err
	case string(have) != s.text:
		return s.UnitPath() + " differs from the required unit", nil
	}
	st, err := s.host.UnitState(ctx, s.unit)
	switch {
	case err != nil:
		return "", err
	case !st.Running() && st.Active != "activating":
		return fmt.Sprintf("%s is %s (%s)", s.unit, st.Active, st.Sub), nil
	case st.Enable != "enabled":
		return s.unit + " does not start at boot", nil
	}
	return "", nil
}

// Apply writes the unit file and starts the service. A service that runs keeps the restrictions of
// the unit file that it was started with; it is stopped before the file is replaced, so that Check
// requires a start even after a kill in between.
func (s Service) Apply(ctx context.Context) error {
	have, err := s.host.ReadFile(s.UnitPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil && string(have) != s.text {
		if err := s.host.StopUnit(ctx, s.unit); err != nil {
			return err
		}
	}
	if err := s.host.Write(s.UnitPath(), strings.NewReader(s.text), 0o644); err != nil {
		return err
	}
	return s.host.StartUnit(ctx, s.unit)
}
