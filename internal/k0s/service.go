package k0s

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
)

// Machine is what k0s needs of a host.
type Machine interface {
	host.Commands
	host.Files
	host.Units
}

// Controller is k0s as a controller that is a worker too, on one host.
type Controller struct {
	Host     Machine
	Settings Settings
	Proxy    Proxy
}

// Proxy is the outgoing proxy of the service, for pulls; empty for none.
type Proxy struct {
	HTTP, HTTPS string
	NoProxy     []string
}

// ConfigNeeded says why the configuration has to be written; "" when it is as
// wanted.
func (c Controller) ConfigNeeded() (string, error) {
	for _, f := range c.files() {
		want, err := f.content()
		if err != nil {
			return "", err
		}
		have, err := c.Host.ReadFile(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && want != "":
			return f.path + " is missing", nil
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		case string(have) != want:
			return f.path + " differs", nil
		}
	}
	return "", nil
}

// WriteConfig writes the configuration.
func (c Controller) WriteConfig() error {
	for _, f := range c.files() {
		content, err := f.content()
		if err != nil {
			return err
		}
		if content == "" {
			err = c.Host.RemoveAll(f.path)
		} else {
			err = c.Host.Write(f.path, strings.NewReader(content), f.perm)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type file struct {
	path    string
	perm    fs.FileMode
	content func() (string, error) // "" for no file
}

func (c Controller) files() []file {
	env := proxyEnv(c.Proxy.HTTP, c.Proxy.HTTPS, c.Proxy.NoProxy)
	return []file{
		{ConfigPath, 0o600, func() (string, error) { b, err := Render(c.Settings); return string(b), err }},
		{containerd, 0o644, func() (string, error) { return containerdConfig, nil }},
		{envPath, 0o600, func() (string, error) { return env, nil }},
		{dropIn, 0o644, func() (string, error) {
			if env == "" {
				return "", nil
			}
			return "[Service]\nEnvironmentFile=" + envPath + "\n", nil
		}},
	}
}

// ConfigPaths lists every path that WriteConfig may change.
func (c Controller) ConfigPaths() []string { return []string{ConfigPath, containerd, envPath, dropIn} }

// UnitPath is the path that Register may change.
const UnitPath = unitDir + Unit

// RegisterNeeded says why the service has to be registered with systemd; ""
// when it is registered with the wanted arguments.
func (c Controller) RegisterNeeded() (string, error) {
	unit, err := c.Host.ReadFile(unitDir + Unit)
	if errors.Is(err, fs.ErrNotExist) {
		return "the service " + Unit + " does not exist", nil
	}
	if err != nil {
		return "", err
	}
	// k0s quotes arguments; what counts is that each stands there.
	plain := strings.NewReplacer(`"`, "", `\x2d`, "-").Replace(string(unit))
	for _, a := range arguments(c.Settings.Address) {
		if !strings.Contains(plain, a) {
			return Unit + " lacks " + a, nil
		}
	}
	return "", nil
}

// Register has k0s make its system users and its systemd unit.
func (c Controller) Register(ctx context.Context) error {
	argv := append([]string{Binary, "install", "controller", "--force"}, arguments(c.Settings.Address)...)
	_, err := c.Host.Run(ctx, host.Cmd{Argv: argv, Timeout: time.Minute})
	return err
}

// StartNeeded says why the service has to be started; "" when it runs and is
// enabled.
func (c Controller) StartNeeded(ctx context.Context) (string, error) {
	st, err := c.Host.UnitState(ctx, Unit)
	switch {
	case err != nil:
		return "", err
	case !st.Running():
		return fmt.Sprintf("%s is %s (%s)", Unit, st.Active, st.Sub), nil
	case st.Enable != "enabled":
		return Unit + " would not start after a reboot", nil
	}
	return "", nil
}

// Start enables and starts the service; it does not wait for the cluster.
func (c Controller) Start(ctx context.Context) error { return c.Host.StartUnit(ctx, Unit) }

// Culprit is the end of the service's log, for an error that has to name who
// is to blame.
func (c Controller) Culprit(ctx context.Context) string {
	st, err := c.Host.UnitState(ctx, Unit)
	if err != nil {
		return ""
	}
	s := fmt.Sprintf("%s is %s (%s)", Unit, st.Active, st.Sub)
	lines, err := c.Host.UnitLog(ctx, Unit, 40)
	if err != nil {
		return s
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "level=error") || strings.Contains(lines[i], "level=fatal") || strings.HasPrefix(lines[i], "Error:") {
			return s + "; its last error: " + lines[i]
		}
	}
	if n := len(lines); n > 0 {
		return s + "; its last line: " + lines[n-1]
	}
	return s
}

// Version asks the installed binary for its version; "" when there is none.
func Version(ctx context.Context, h Machine) (string, error) {
	if _, err := h.Lstat(Binary); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return "", err
	}
	out, err := h.Run(ctx, host.Cmd{Argv: []string{Binary, "version"}, Timeout: 20 * time.Second, Look: true})
	return strings.TrimSpace(string(out)), err
}

// Reset has k0s take back what it knows of: containers, mounts, its state and
// its unit. What it leaves is somebody else's list.
func Reset(ctx context.Context, h Machine) error {
	if _, err := h.Lstat(Binary); err != nil {
		return nil
	}
	_, err := h.Run(ctx, host.Cmd{Argv: []string{Binary, "reset"}, Timeout: 3 * time.Minute})
	return err
}
