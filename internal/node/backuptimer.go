package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/cleanup"
)

// BackupSchedule is when and how a controller backs the control plane up.
type BackupSchedule struct {
	Calendar   string        // OnCalendar of systemd.timer(5)
	Delay      time.Duration // largest random delay
	To         string        // folder in which each controller has one of its own, or s3://BUCKET/PREFIX
	Keep       int
	Recipients []string // public keys of age
}

// BackupEnvFile is the file with the endpoint and the credentials of the object store of scheduled backups. The administrator
// writes it, in the format of systemd.exec(5), and it stays after a reset.
const BackupEnvFile = "/etc/plinth-backup.env"

// ScheduledBackupVariable is the variable of the environment by which a backup knows that the schedule has started it. An older
// program ignores it, as it would not ignore a flag.
const ScheduledBackupVariable = "PLINTH_SCHEDULED_BACKUP"

// BackupTimer is the timer of systemd that runs backups, and the service that it starts.
type BackupTimer struct {
	service, timer string // unit files; "" for no timer
}

// backupServiceText is the unit file of the service; NewBackupTimer has its arguments.
//
// The backup writes to the data folder, its target, its log and the lock in /run. It reads files of the users of k0s's
// components: CAP_DAC_READ_SEARCH. Without CAP_DAC_OVERRIDE it writes only where the user root may. It asks systemd whether
// k0s runs, by AF_UNIX. A target that is missing must not prevent the start, or no one would know why there is no backup:
// hence "-", and no RequiresMountsFor. See agentUnitText for what older versions of systemd ignore.
const backupServiceText = `[Unit]
Description=Plinth: back up the control plane
After=network-online.target remote-fs.target k0scontroller.service
Wants=network-online.target

[Service]
Type=oneshot
ExecStart="%[1]s" --data-dir "%[2]s" --progress none backup --per-node --to "%[3]s" --keep %[4]d%[5]s
Environment=GOMEMLIMIT=200MiB GOMAXPROCS=2 ` + ScheduledBackupVariable + `=1
%[11]sTimeoutStartSec=2h
Nice=10
UMask=0077
MemoryMax=1G
TasksMax=256

NoNewPrivileges=yes
CapabilityBoundingSet=CAP_DAC_READ_SEARCH
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes

ProtectSystem=strict
ReadWritePaths="%[6]s" /run%[7]s
LogsDirectory=plinth
LogsDirectoryMode=0700
InaccessiblePaths="-%[8]s"
ProtectHome=%[9]s
PrivateTmp=%[10]s
PrivateDevices=yes
DevicePolicy=closed
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
`

// backupTimerText is the unit file of the timer. A run that was missed, because the host was off, is made up for. An older
// systemd ignores FixedRandomDelay (from 247).
const backupTimerText = `[Unit]
Description=Plinth: schedule of control-plane backups

[Timer]
OnCalendar=%s
RandomizedDelaySec=%d
FixedRandomDelay=yes
Persistent=yes

[Install]
WantedBy=timers.target
`

// NewBackupTimer returns the timer that runs the program as s says; no timer if s has no Calendar.
func NewBackupTimer(program, dataDir string, s BackupSchedule) BackupTimer {
	if s.Calendar == "" {
		return BackupTimer{}
	}
	home, tmp, target, environment := "yes", "yes", "", "EnvironmentFile=-"+BackupEnvFile+"\n"
	dirs := []string{host.ResolveExisting(dataDir)}
	if path.IsAbs(s.To) {
		dirs = append(dirs, host.ResolveExisting(s.To))
		environment = ""
		target = fmt.Sprintf(` "-%s"`, quoteUnitPath(s.To))
	}
	for _, dir := range dirs {
		if isBelow(dir, "/home", "/root", "/run/user") {
			home = "read-only"
		}
		if isBelow(dir, "/tmp", "/var/tmp") {
			tmp = "no"
		}
	}
	var recipients strings.Builder
	for _, r := range s.Recipients {
		recipients.WriteString(" --recipient " + r)
	}
	argument := func(text string) string { return strings.ReplaceAll(quoteUnitPath(text), "$", "$$") } // ExecStart expands variables
	return BackupTimer{
		service: fmt.Sprintf(backupServiceText, argument(program), argument(dataDir), argument(s.To), s.Keep, recipients.String(), quoteUnitPath(dataDir), target,
			quoteUnitPath(path.Join(dataDir, VolumesDir)), home, tmp, environment),
		timer: fmt.Sprintf(backupTimerText, s.Calendar, int(s.Delay.Seconds()))}
}

// BackupTimerPaths returns the paths of the unit files.
func BackupTimerPaths() (service, timer string) {
	const dir = "/etc/systemd/system/"
	return dir + cleanup.BackupService, dir + cleanup.BackupTimer
}

// Exists reports whether there is to be a timer.
func (b BackupTimer) Exists() bool { return b.timer != "" }

// Check returns the reason why Apply is needed, or "". It changes nothing.
func (b BackupTimer) Check(ctx context.Context, h host.Host) (string, error) {
	service, timer := BackupTimerPaths()
	for _, f := range []struct{ path, text string }{{service, b.service}, {timer, b.timer}} {
		have, err := h.ReadFile(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && f.text == "":
		case errors.Is(err, fs.ErrNotExist):
			return f.path + " does not exist", nil
		case err != nil:
			return "", err
		case f.text == "":
			return f.path + " exists, but backups are not scheduled", nil
		case string(have) != f.text:
			return f.path + " differs from the required unit", nil
		}
	}
	if !b.Exists() {
		return "", nil
	}
	st, err := h.UnitState(ctx, cleanup.BackupTimer)
	switch {
	case err != nil:
		return "", err
	case !st.Running():
		return fmt.Sprintf("%s is %s (%s)", cleanup.BackupTimer, st.Active, st.Sub), nil
	case st.Enable != "enabled":
		return cleanup.BackupTimer + " does not start at boot", nil
	}
	return "", nil
}

// Apply writes the unit files and starts the timer, or removes them. The timer is stopped before its file changes, so that
// Check requires a start even after a kill in between.
func (b BackupTimer) Apply(ctx context.Context, h host.Host) error {
	service, timer := BackupTimerPaths()
	if _, err := h.Lstat(timer); err == nil {
		if err := h.StopUnit(ctx, cleanup.BackupTimer); err != nil {
			return err
		}
	}
	if !b.Exists() {
		return errors.Join(h.RemoveAll(timer), h.RemoveAll(service), h.RemoveAll(cleanup.BackupStamp))
	}
	if err := h.Write(service, strings.NewReader(b.service), 0o644); err != nil {
		return err
	}
	if err := h.Write(timer, strings.NewReader(b.timer), 0o644); err != nil {
		return err
	}
	return h.StartUnit(ctx, cleanup.BackupTimer)
}
