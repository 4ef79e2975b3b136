package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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

// NewAgentService returns the service of Plinth's agent, which runs binary. GOMEMLIMIT keeps it
// small beside the workloads; the agent reads its state again for each request.
func NewAgentService(h host.Host, binary, dataDir string) Service {
	return Service{host: h, unit: AgentUnit, text: fmt.Sprintf(`[Unit]
Description=Plinth agent: serves this node's artifacts to hosts that join
After=network-online.target
Wants=network-online.target

[Service]
ExecStart="%s" --data-dir "%s" agent
Environment=GOMEMLIMIT=40MiB GOMAXPROCS=2
NoNewPrivileges=yes
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
`, binary, dataDir)}
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

// Apply writes the unit file and starts the service.
func (s Service) Apply(ctx context.Context) error {
	if err := s.host.Write(s.UnitPath(), strings.NewReader(s.text), 0o644); err != nil {
		return err
	}
	return s.host.StartUnit(ctx, s.unit)
}
