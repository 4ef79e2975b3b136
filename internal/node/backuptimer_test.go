package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/host/hosttest"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/testkit"
)

// daily returns a schedule of a backup a day to a folder.
func daily(to string) BackupSchedule {
	return BackupSchedule{Calendar: "daily", Delay: 30 * time.Minute, To: to, Keep: 14, Recipients: []string{"age1a", "age1b"}}
}

func TestNewBackupTimer_RestrictsService(t *testing.T) {
	b := NewBackupTimer(AgentBinary, "/var/lib/plinth", daily("/mnt/backup"))
	lines := strings.Split(b.service, "\n")
	for _, want := range []string{
		`ExecStart="/usr/local/bin/plinth-agent" --data-dir "/var/lib/plinth" --progress none backup --per-node --to "/mnt/backup" --keep 14 --recipient age1a --recipient age1b`,
		"Type=oneshot", "NoNewPrivileges=yes", "CapabilityBoundingSet=CAP_DAC_READ_SEARCH", "ProtectSystem=strict",
		`ReadWritePaths="/var/lib/plinth" /run "-/mnt/backup"`, `InaccessiblePaths="-/var/lib/plinth/volumes"`,
		"ProtectHome=yes", "PrivateTmp=yes", "SystemCallFilter=~@privileged",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the service lacks %s:\n%s", want, b.service)
		}
	}
	for _, want := range []string{"OnCalendar=daily", "RandomizedDelaySec=1800", "Persistent=yes", "WantedBy=timers.target"} {
		if !slices.Contains(strings.Split(b.timer, "\n"), want) {
			t.Errorf("the timer lacks %s", want)
		}
	}
}

func TestNewBackupTimer_ReadsTheSettingsOfAnObjectStore(t *testing.T) {
	for to, want := range map[string]bool{"s3://bucket/prefix": true, "/mnt/backup": false} {
		t.Run(to, func(t *testing.T) {
			b := NewBackupTimer(AgentBinary, "/var/lib/plinth", daily(to))
			if strings.Contains(b.service, "\nEnvironmentFile=-/etc/plinth-backup.env\n") != want || strings.Contains(b.service, `"-s3:`) {
				t.Error(b.service)
			}
		})
	}
}

func TestNewBackupTimer_KeepsFoldersVisible(t *testing.T) {
	for to, want := range map[string]string{"/home/op/backup": "ProtectHome=read-only", `/srv/50% "of" $HOME`: `ReadWritePaths="/var/lib/plinth" /run "-/srv/50%% \"of\" $HOME"`} {
		t.Run(to, func(t *testing.T) {
			b := NewBackupTimer(AgentBinary, "/var/lib/plinth", daily(to))
			if !slices.Contains(strings.Split(b.service, "\n"), want) {
				t.Errorf("the service lacks %s:\n%s", want, b.service)
			}
		})
	}
}

func TestBackupTimer_FollowsTheSchedule(t *testing.T) {
	f := hosttest.New(t)
	h := f.Host()
	service, timer := BackupTimerPaths()
	check := func(b BackupTimer, needed bool) {
		t.Helper()
		if why, err := b.Check(t.Context(), h); err != nil || (why != "") != needed {
			t.Errorf("%q %v", why, err)
		}
	}
	none, first := BackupTimer{}, NewBackupTimer(AgentBinary, "/var/lib/plinth", daily("/mnt/backup"))
	check(none, false)
	check(first, true)
	testkit.Must(t, first.Apply(t.Context(), h))
	check(first, false)
	if st := f.Units[cleanup.BackupTimer]; !st.Running() || st.Enable != "enabled" {
		t.Errorf("%+v", st)
	}
	if _, ok := f.Units[cleanup.BackupService]; ok {
		t.Error("a backup was started")
	}
	second := NewBackupTimer(AgentBinary, "/var/lib/plinth", daily("/mnt/other"))
	check(second, true)
	testkit.Must(t, second.Apply(t.Context(), h))
	check(second, false)
	f.Units[cleanup.BackupTimer] = host.UnitState{Load: "loaded", Active: "inactive", Sub: "dead", Enable: "enabled"}
	check(second, true)
	check(none, true)
	testkit.Must(t, none.Apply(t.Context(), h))
	check(none, false)
	for _, p := range []string{service, timer} {
		if _, err := h.Lstat(p); err == nil {
			t.Errorf("%s is left behind", p)
		}
	}
	if f.Units[cleanup.BackupTimer].Running() {
		t.Error("the timer is still running")
	}
}
