package k0s

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/wait"
)

// Machine is what k0s needs of a host.
type Machine interface {
	host.Commands
	host.Files
	host.Units
}

// Service is k0s on one host: as a controller that runs workloads too, or as a
// worker.
type Service struct {
	Host     Machine
	Settings Settings // of a worker only Address counts
	Proxy    Proxy
	Worker   bool
	Joins    bool // into a cluster that is there, with the token in TokenPath
}

// Unit is the service's systemd unit.
func (s Service) Unit() string {
	if s.Worker {
		return WorkerUnit
	}
	return Unit
}

// Proxy is the outgoing proxy of the service, for pulls; empty for none.
type Proxy struct {
	HTTP, HTTPS string
	NoProxy     []string
}

// Kubeconfig is the best way into the cluster's API that this host has: the
// administrator's on a controller, the node's own on a worker.
func (s Service) Kubeconfig() string {
	if s.Worker {
		return KubeletConf
	}
	return AdminConf
}

// Joined reports whether the host is a member of its cluster. k0s asks the same
// of a worker's file before it looks at a token. Of a controller it asks for
// etcd's database, which etcd makes before it has found its cluster; the log of
// what members agree on comes after.
func (s Service) Joined() bool {
	if s.Worker {
		_, err := s.Host.Lstat(KubeletConf)
		return err == nil
	}
	entries, err := s.Host.ReadDir(EtcdMember + "/wal")
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".wal") })
}

// joinPatience is how long a k0s that runs may still become a member of etcd
// by itself.
const joinPatience = 30 * time.Second

// Settle ends a controller's attempt to join that leads nowhere: k0s is stopped,
// and what etcd began is removed, or else k0s would take the host for a member
// and never ask its cluster again. One that runs is given time first: the
// cluster of a second controller has no quorum until that is up.
func (s Service) Settle(ctx context.Context, report func(string, int64, int64)) (joined bool, err error) {
	if s.Worker || s.Joined() {
		return s.Joined(), nil
	}
	st, err := s.Host.UnitState(ctx, s.Unit())
	if err != nil {
		return false, err
	}
	if st.Begun() {
		report("k0s runs already; it may become a member of etcd", 0, 0)
		err := wait.Until(ctx, wait.Options{What: "k0s to become a member of etcd", Timeout: joinPatience},
			func(context.Context) (bool, string, error) { return s.Joined(), "", nil })
		var late *wait.TimeoutError
		if err == nil || !errors.As(err, &late) {
			return err == nil, err
		}
	}
	if st.Begun() || st.Sub == "auto-restart" {
		if err := s.Host.StopUnit(ctx, s.Unit()); err != nil {
			return false, err
		}
	}
	if s.Joined() { // at the last moment
		return true, nil
	}
	return false, s.Host.RemoveAll(EtcdMember)
}

// ConfigNeeded says why the configuration has to be written; "" when it is as
// wanted.
func (s Service) ConfigNeeded() (string, error) {
	for _, f := range s.files() {
		want, err := f.content()
		if err != nil {
			return "", err
		}
		have, err := s.Host.ReadFile(f.path)
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
func (s Service) WriteConfig() error {
	for _, f := range s.files() {
		content, err := f.content()
		if err != nil {
			return err
		}
		if content == "" {
			err = s.Host.RemoveAll(f.path)
		} else {
			err = s.Host.Write(f.path, strings.NewReader(content), f.perm)
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

func (s Service) files() []file {
	env := proxyEnv(s.Proxy.HTTP, s.Proxy.HTTPS, s.Proxy.NoProxy)
	all := []file{
		{containerd, 0o644, func() (string, error) { return containerdConfig, nil }},
		{envPath, 0o600, func() (string, error) { return env, nil }},
		{s.dropIn(), 0o644, func() (string, error) {
			if env == "" {
				return "", nil
			}
			return "[Service]\nEnvironmentFile=" + envPath + "\n", nil
		}},
	}
	if !s.Worker {
		config := file{ConfigPath, 0o600, func() (string, error) { b, err := Render(s.Settings); return string(b), err }}
		all = append([]file{config}, all...)
	}
	if !s.Worker && s.Joins {
		all = append(all, file{unitDir + s.Unit() + ".d/join.conf", 0o644, func() (string, error) { return joinGuard, nil }})
	}
	return all
}

// joinGuard has each start of k0s forget an etcd that began and never found its
// cluster: it has a database and no log. From the database alone k0s takes the
// host for a member and starts etcd, which then makes a cluster of its own,
// under the same certificate authority.
const joinGuard = `[Service]
ExecStartPre=/bin/sh -c 'ls ` + EtcdMember + `/wal/*.wal >/dev/null 2>&1 || rm -rf ` + EtcdMember + `'
`

// dropIn makes the unit read envPath.
func (s Service) dropIn() string { return unitDir + s.Unit() + ".d/proxy.conf" }

// ConfigPaths lists every path that WriteConfig may change.
func (s Service) ConfigPaths() []string {
	var all []string
	for _, f := range s.files() {
		all = append(all, f.path)
	}
	return all
}

// UnitPath is the path that Register may change.
func (s Service) UnitPath() string { return unitDir + s.Unit() }

// RegisterNeeded says why the service has to be registered with systemd; ""
// when it is registered with the wanted arguments.
func (s Service) RegisterNeeded() (string, error) {
	unit, err := s.Host.ReadFile(s.UnitPath())
	if errors.Is(err, fs.ErrNotExist) {
		return "the service " + s.Unit() + " does not exist", nil
	}
	if err != nil {
		return "", err
	}
	// k0s quotes arguments; what counts is that each stands there.
	plain := strings.NewReplacer(`"`, "", `\x2d`, "-").Replace(string(unit))
	for _, a := range s.arguments() {
		if !strings.Contains(plain, a) {
			return s.Unit() + " lacks " + a, nil
		}
	}
	return "", nil
}

// Register has k0s make its system users and its systemd unit.
func (s Service) Register(ctx context.Context) error {
	role := "controller"
	if s.Worker {
		role = "worker"
	}
	argv := append([]string{Binary, "install", role, "--force"}, s.arguments()...)
	_, err := s.Host.Run(ctx, host.Cmd{Argv: argv, Timeout: time.Minute})
	return err
}

// StartNeeded says why the service has to be started; "" when it runs and is
// enabled.
func (s Service) StartNeeded(ctx context.Context) (string, error) {
	st, err := s.Host.UnitState(ctx, s.Unit())
	switch {
	case err != nil:
		return "", err
	case !st.Begun():
		return fmt.Sprintf("%s is %s (%s)", s.Unit(), st.Active, st.Sub), nil
	case st.Enable != "enabled":
		return s.Unit() + " would not start after a reboot", nil
	}
	return "", nil
}

// Start enables and starts the service; it does not wait for the cluster. One
// that ended, on a full disk for instance, and waits for systemd to try again
// is begun anew: systemd starts nothing before that wait is over, two minutes
// in k0s's unit.
func (s Service) Start(ctx context.Context) error {
	if st, err := s.Host.UnitState(ctx, s.Unit()); err == nil && st.Sub == "auto-restart" {
		if err := s.Host.StopUnit(ctx, s.Unit()); err != nil {
			return err
		}
	}
	return s.Host.StartUnit(ctx, s.Unit())
}

// Culprit is the end of the service's log, for an error that has to name who
// is to blame.
func (s Service) Culprit(ctx context.Context) string {
	st, err := s.Host.UnitState(ctx, s.Unit())
	if err != nil {
		return ""
	}
	is := fmt.Sprintf("%s is %s (%s)", s.Unit(), st.Active, st.Sub)
	lines, err := s.Host.UnitLog(ctx, s.Unit(), 40)
	if err != nil {
		return is
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "level=error") || strings.Contains(lines[i], "level=fatal") || strings.HasPrefix(lines[i], "Error:") {
			return is + "; its last error: " + lines[i]
		}
	}
	if n := len(lines); n > 0 {
		return is + "; its last line: " + lines[n-1]
	}
	return is
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
