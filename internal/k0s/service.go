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

// Machine is the part of a host that k0s needs.
type Machine interface {
	host.Commands
	host.Files
	host.Links
	host.Units
}

// Service is k0s on one host: a controller that also runs workloads, or a
// worker.
type Service struct {
	Host         Machine
	Settings     Settings // a worker uses Version, Address and WorkerProfile only
	Proxy        Proxy
	TrustedCAs   string // certificates in PEM of authorities that it trusts beside those of the host, for image pulls; "" for none
	Worker       bool
	JoinsCluster bool // joins an existing cluster; a controller does so with the token in TokenPath
}

// Unit returns the name of the systemd unit of the service.
func (s Service) Unit() string {
	if s.Worker {
		return WorkerUnit
	}
	return ControllerUnit
}

// Proxy is the outgoing proxy of the service's containerd, for image pulls; empty for none.
type Proxy struct {
	HTTP, HTTPS string
	NoProxy     []string
}

// KubeconfigPath returns the path of the kubeconfig with the most permissions
// on this host: that of the administrator on a controller, that of the node on
// a worker.
func (s Service) KubeconfigPath() string {
	if s.Worker {
		return KubeletConf
	}
	return AdminConf
}

// Joined reports whether the host is a member of its cluster. On a worker it
// checks for the kubelet's kubeconfig, which PlaceKubeletIdentity writes last. On
// a controller k0s checks for the database of etcd, which etcd creates before
// it has found its cluster; Joined checks for the write-ahead log, which etcd
// creates after that.
func (s Service) Joined() bool {
	if s.Worker {
		_, err := s.Host.Lstat(KubeletConf)
		return err == nil
	}
	entries, err := s.Host.ReadDir(EtcdMemberDir + "/wal")
	return err == nil && slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), ".wal") })
}

// joinTimeout is how long ResetFailedJoin waits for a running k0s to join etcd.
const joinTimeout = 30 * time.Second

// ResetFailedJoin ends a controller's failed attempt to join: it stops k0s and
// removes the data of etcd, because otherwise k0s would consider the host a
// member and would never contact its cluster again. It waits for a running k0s
// first: the cluster that a second controller joins has no quorum until that
// controller is up. joined reports whether the host is a member.
func (s Service) ResetFailedJoin(ctx context.Context, report func(string, int64, int64)) (joined bool, err error) {
	if s.Worker || s.Joined() {
		return s.Joined(), nil
	}
	st, err := s.Host.UnitState(ctx, s.Unit())
	if err != nil {
		return false, err
	}
	if st.StartingOrRunning() {
		report("k0s is already running; waiting for it to become a member of etcd", 0, 0)
		err := wait.Until(ctx, wait.Options{What: "k0s to become a member of etcd", Timeout: joinTimeout},
			func(context.Context) (bool, string, error) { return s.Joined(), "", nil })
		var late *wait.TimeoutError
		if err == nil || !errors.As(err, &late) {
			return err == nil, err
		}
	}
	if st.StartingOrRunning() || st.Sub == "auto-restart" {
		if err := s.Host.StopUnit(ctx, s.Unit()); err != nil {
			return false, err
		}
	}
	if s.Joined() { // it joined before k0s was stopped
		return true, nil
	}
	return false, s.Host.RemoveAll(EtcdMemberDir)
}

// ConfigNeeded returns the reason why the configuration must be written, or ""
// if it is up to date.
func (s Service) ConfigNeeded() (string, error) {
	for _, f := range s.configFiles() {
		if why, err := s.fileNeeded(f); err != nil || why != "" {
			return why, err
		}
	}
	return "", nil
}

// fileNeeded returns the reason why a file must be written or removed, or "".
func (s Service) fileNeeded(f configFile) (string, error) {
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
	return "", nil
}

// WriteConfig writes the configuration files and removes those that these
// settings do not need. A k0s that runs has to be restarted then, unless it reads
// all that changed while it runs: see Start.
func (s Service) WriteConfig(ctx context.Context) error {
	for _, f := range s.configFiles() {
		if why, err := s.fileNeeded(f); err != nil {
			return err
		} else if why == "" || f.path == resolvConfPath { // read for each new pod
			continue
		}
		if err := s.RequireRestart(ctx); err != nil {
			return err
		}
		break
	}
	for _, f := range s.configFiles() {
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

// configFile is one file of the configuration.
type configFile struct {
	path    string
	perm    fs.FileMode
	content func() (string, error) // "" if the file must not exist
}

// configFiles returns the configuration files of the service.
func (s Service) configFiles() []configFile {
	env := serviceEnv(s.Proxy, s.TrustedCAs)
	all := []configFile{
		{ContainerdDropInPath, 0o644, func() (string, error) { return containerdConfig(s.Settings.Version), nil }},
		{resolvConfPath, 0o644, s.resolvConf},
		{trustedCAsDir + "/plinth.crt", 0o644, func() (string, error) { return s.TrustedCAs, nil }},
		{envPath, 0o600, func() (string, error) { return env, nil }},
		{s.envDropInPath(), 0o644, func() (string, error) {
			if env == "" {
				return "", nil
			}
			return "[Service]\nEnvironmentFile=" + envPath + "\n", nil
		}},
	}
	if !s.Worker {
		all = append([]configFile{
			{ConfigPath, 0o600, func() (string, error) { b, err := RenderConfig(s.Settings); return string(b), err }},
			{AuthorizerConfPath, 0o644, func() (string, error) { return authorizerConf(s.Settings.Hostname) }}, // the user of the API server reads it
			{auditPolicyPath, 0o644, func() (string, error) { return auditPolicy, nil }},
			{unitDir + s.Unit() + ".d/api-server.conf", 0o644, func() (string, error) { return apiServerDropIn, nil }},
		}, all...)
	}
	if !s.Worker && s.JoinsCluster {
		all = append(all, configFile{unitDir + s.Unit() + ".d/join.conf", 0o644, func() (string, error) { return failedJoinDropIn, nil }})
	}
	return all
}

// failedJoinDropIn is a systemd drop-in that removes, before each start of k0s, the
// data of an etcd that started but never found its cluster: it has a database
// and no write-ahead log. If k0s finds the database alone, it considers the
// host a member and starts etcd, which then creates a second cluster with the
// same certificate authority.
const failedJoinDropIn = `[Service]
ExecStartPre=/bin/sh -c 'ls ` + EtcdMemberDir + `/wal/*.wal >/dev/null 2>&1 || rm -rf ` + EtcdMemberDir + `'
`

// envDropInPath returns the path of the drop-in that makes the unit read envPath.
func (s Service) envDropInPath() string { return unitDir + s.Unit() + ".d/proxy.conf" }

// ConfigPaths returns every path that WriteConfig may change.
func (s Service) ConfigPaths() []string {
	var all []string
	for _, f := range s.configFiles() {
		all = append(all, f.path)
	}
	return all
}

// UnitPath returns the path that Register may change.
func (s Service) UnitPath() string { return unitDir + s.Unit() }

// RegisterNeeded returns the reason why the service must be registered with
// systemd, or "" if it is registered with the current arguments.
func (s Service) RegisterNeeded() (string, error) {
	unit, err := s.registeredUnit()
	switch {
	case err != nil:
		return "", err
	case unit == "":
		return "the service " + s.Unit() + " does not exist", nil
	}
	// It is enough that the unit contains each of the arguments.
	for _, a := range s.startArguments() {
		if !hasArgument(unit, a) {
			return s.Unit() + " is registered without " + a, nil
		}
	}
	return "", nil
}

// hasArgument reports whether the text of a unit contains the whole argument a, and not only a longer one, such as
// another address that begins in the same way. `k0s install` writes a flag without a value as --enable-worker=true.
func hasArgument(unit, a string) bool {
	end := " \t\n\"'"
	if !strings.Contains(a, "=") {
		end += "="
	}
	for rest := unit; ; {
		_, after, found := strings.Cut(rest, a)
		if !found || after == "" || strings.ContainsAny(after[:1], end) {
			return found
		}
		rest = after
	}
}

// RegisteredToJoin reports whether the service on this host was registered as a controller that joins a cluster.
func (s Service) RegisteredToJoin() (bool, error) {
	unit, err := s.registeredUnit()
	return strings.Contains(unit, "--token-file="), err
}

// Register makes k0s create its system users and its systemd unit. A service that already runs has other arguments: it
// is stopped first, so that Start lets it run with the new ones.
func (s Service) Register(ctx context.Context) error {
	st, err := s.Host.UnitState(ctx, s.Unit())
	if err == nil && st.StartingOrRunning() {
		err = s.Host.StopUnit(ctx, s.Unit())
	}
	if err != nil {
		return err
	}
	role := "controller"
	if s.Worker {
		role = "worker"
	}
	argv := append([]string{BinaryPath, "install", role, "--force"}, s.startArguments()...)
	_, err = s.Host.Run(ctx, host.Cmd{Argv: argv, Timeout: time.Minute})
	return err
}

// restartPath is a file that exists while a running k0s has to be restarted, because its program or
// its configuration was changed since its start. The folder is in memory: a host that was booted
// since has started k0s with the changes.
const restartPath = "/run/k0s/plinth-restart"

// RequireRestart records that a k0s that runs has to be restarted. It must be called before the
// program, the configuration or the unit of the service changes, so that a run that is killed in
// between does not leave a k0s with old settings.
func (s Service) RequireRestart(ctx context.Context) error {
	st, err := s.Host.UnitState(ctx, s.Unit())
	if err != nil || !st.StartingOrRunning() {
		return err
	}
	return s.Host.Write(restartPath, strings.NewReader("the program or the configuration of k0s was changed\n"), 0o600)
}

// StartNeeded returns the reason why the service must be started or restarted, or
// "" if it is enabled and runs with the current program and configuration.
func (s Service) StartNeeded(ctx context.Context) (string, error) {
	if why, err := s.DownReason(ctx); err != nil || why != "" {
		return why, err
	}
	_, err := s.Host.Lstat(restartPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	}
	return s.Unit() + " still runs with an earlier program or configuration", nil
}

// DownReason returns the reason why the service does not run or would not start
// after a reboot, or "" if it does both.
func (s Service) DownReason(ctx context.Context) (string, error) {
	st, err := s.Host.UnitState(ctx, s.Unit())
	switch {
	case err != nil:
		return "", err
	case !st.StartingOrRunning():
		return fmt.Sprintf("%s is %s (%s)", s.Unit(), st.Active, st.Sub), nil
	case st.Enable != "enabled":
		return s.Unit() + " would not start after a reboot", nil
	}
	return "", nil
}

// Start enables and starts the service, or restarts one that RequireRestart was
// called for; it does not wait for the cluster. A service that failed, for example
// on a full disk, and waits for its next automatic restart is stopped first:
// systemd starts nothing before that delay is over, two minutes in the unit of k0s.
// A restart ends k0s and its components, not the containers (KillMode=process in
// the unit that k0s writes). k0s applies every folder of manifests that it finds, also
// those of components that it ran before: those that do not run any more are removed.
func (s Service) Start(ctx context.Context) error {
	for _, dir := range s.unusedManifests() {
		if err := s.Host.RemoveAll(dir); err != nil {
			return err
		}
	}
	st, err := s.Host.UnitState(ctx, s.Unit())
	if err == nil && st.Sub == "auto-restart" {
		if err := s.Host.StopUnit(ctx, s.Unit()); err != nil {
			return err
		}
	}
	if err == nil && st.StartingOrRunning() {
		if _, err := s.Host.Lstat(restartPath); err == nil {
			if err := s.Host.StartUnit(ctx, s.Unit()); err != nil { // systemd reads the unit again and enables it
				return err
			}
			return errors.Join(s.Host.RestartUnit(ctx, s.Unit()), s.Host.RemoveAll(restartPath))
		}
	}
	return errors.Join(s.Host.StartUnit(ctx, s.Unit()), s.Host.RemoveAll(restartPath))
}

// Diagnose returns the state of the service and its last error from its log,
// for the message of a failed wait.
func (s Service) Diagnose(ctx context.Context) string {
	st, err := s.Host.UnitState(ctx, s.Unit())
	if err != nil {
		return ""
	}
	state := fmt.Sprintf("%s is %s (%s)", s.Unit(), st.Active, st.Sub)
	lines, err := s.Host.UnitLog(ctx, s.Unit(), 40)
	if err != nil {
		return state
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.Contains(lines[i], "level=error") || strings.Contains(lines[i], "level=fatal") || strings.HasPrefix(lines[i], "Error:") {
			return state + "; its last error: " + lines[i]
		}
	}
	if n := len(lines); n > 0 {
		return state + "; its last line: " + lines[n-1]
	}
	return state
}
