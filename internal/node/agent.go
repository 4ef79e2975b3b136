package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/leftover"
)

// AgentUnit is the systemd unit of Plinth's agent.
const AgentUnit = leftover.AgentUnit

// AgentBinary is this program at the place from which the agent runs.
const AgentBinary = "/usr/local/bin/plinth-agent"

// Service is a program that systemd keeps running.
type Service struct {
	host host.Host
	unit string // name
	text string // of the unit file
}

// AgentService is Plinth's agent, run from binary. GOMEMLIMIT keeps it small
// beside the workloads; it reads its state anew for each question.
func AgentService(h host.Host, binary, dataDir string) Service {
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

// Path is the unit file.
func (s Service) Path() string { return "/etc/systemd/system/" + s.unit }

// Needed says why the service has to be set up or started; "" when it runs as
// wanted.
func (s Service) Needed(ctx context.Context) (string, error) {
	have, err := s.host.ReadFile(s.Path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "the service " + s.unit + " does not exist", nil
	case err != nil:
		return "", err
	case string(have) != s.text:
		return s.Path() + " is not as wanted", nil
	}
	st, err := s.host.UnitState(ctx, s.unit)
	switch {
	case err != nil:
		return "", err
	case !st.Running() && st.Active != "activating":
		return fmt.Sprintf("%s is %s (%s)", s.unit, st.Active, st.Sub), nil
	case st.Enable != "enabled":
		return s.unit + " would not start after a reboot", nil
	}
	return "", nil
}

// Apply writes the unit and starts the service.
func (s Service) Apply(ctx context.Context) error {
	if err := s.host.Write(s.Path(), strings.NewReader(s.text), 0o644); err != nil {
		return err
	}
	return s.host.StartUnit(ctx, s.unit)
}
