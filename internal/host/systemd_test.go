package host

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// fakeCommands implements Commands with a table of outputs, keyed by the beginning of the command.
type fakeCommands struct {
	answers map[string]string
	ran     []string
}

func (c *fakeCommands) Run(_ context.Context, cmd Cmd) ([]byte, error) {
	line := strings.Join(cmd.Argv, " ")
	c.ran = append(c.ran, line)
	for prefix, out := range c.answers {
		if strings.HasPrefix(line, prefix) {
			return []byte(out), nil
		}
	}
	return nil, errors.New("unexpected: " + line)
}

const (
	unknownUnit = "LoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n"
	runningUnit = "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n"
	failedUnit  = "LoadState=loaded\nActiveState=failed\nSubState=failed\nUnitFileState=enabled\n"
)

func TestUnitState_ReturnsPropertiesOfSystemd(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   UnitState
	}{
		"unknown unit": {unknownUnit, UnitState{Load: "not-found", Active: "inactive", Sub: "dead"}},
		"running unit": {runningUnit, UnitState{Load: "loaded", Active: "active", Sub: "running", Enable: "enabled"}},
		"failed unit":  {failedUnit, UnitState{Load: "loaded", Active: "failed", Sub: "failed", Enable: "enabled"}},
		"empty output": {"", UnitState{}},
		"garbage":      {"nonsense", UnitState{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := systemd{run: &fakeCommands{answers: map[string]string{"systemctl show": c.answer}}}.UnitState(t.Context(), "k0s")
			if err != nil || got != c.want || got.Running() != (c.want.Active == "active") {
				t.Errorf("%q: %+v, %v", c.answer, got, err)
			}
		})
	}
}

func TestStartUnitStopUnitRestartUnit_RunSystemctl(t *testing.T) {
	for name, c := range map[string]struct {
		show string
		do   func(context.Context, systemd) error
		want []string // without `systemctl show`
	}{
		"start": {runningUnit, func(ctx context.Context, s systemd) error { return s.StartUnit(ctx, "app") },
			[]string{"systemctl daemon-reload", "systemctl enable --quiet app", "systemctl start --no-block app"}},
		"stop": {runningUnit, func(ctx context.Context, s systemd) error { return s.StopUnit(ctx, "app") },
			[]string{"systemctl stop app", "systemctl disable --quiet app"}},
		"stop a failed unit": {failedUnit, func(ctx context.Context, s systemd) error { return s.StopUnit(ctx, "app") },
			[]string{"systemctl stop app", "systemctl disable --quiet app", "systemctl reset-failed --quiet app"}},
		"restart":              {runningUnit, func(ctx context.Context, s systemd) error { return s.RestartUnit(ctx, "app") }, []string{"systemctl restart app"}},
		"stop an unknown unit": {unknownUnit, func(ctx context.Context, s systemd) error { return s.StopUnit(ctx, "app") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			run := &fakeCommands{answers: map[string]string{"systemctl show": c.show, "systemctl daemon-reload": "", "systemctl enable": "", "systemctl start": "",
				"systemctl stop": "", "systemctl disable": "", "systemctl reset-failed": "", "systemctl restart": ""}}
			if err := c.do(t.Context(), systemd{run: run}); err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(run.ran, func(s string) bool { return strings.HasPrefix(s, "systemctl show") })
			if !slices.Equal(got, c.want) {
				t.Errorf("ran  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestUnitLog_ReturnsLinesOldestFirst(t *testing.T) {
	run := &fakeCommands{answers: map[string]string{"journalctl": "one\n\ntwo\n"}}
	got, err := systemd{run: run}.UnitLog(t.Context(), "app", 5)
	if err != nil || !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("%q, %v", got, err)
	}
	if want := "--lines=5"; !strings.Contains(run.ran[0], want) {
		t.Errorf("ran %s", run.ran[0])
	}
}

func FuzzProcfs(f *testing.F) {
	f.Add([]byte("42 (odd ) S 9 (name) R 7 42 42 0"), []byte("/usr/bin/a\x00-b\x00"))
	f.Add([]byte("1 (init) S"), []byte("\x00\x00"))
	f.Add([]byte(") "), []byte("no end"))
	f.Add([]byte(""), []byte(""))
	f.Fuzz(func(t *testing.T, stat, cmdline []byte) {
		_ = parsePPID(stat)
		args := splitArgs(cmdline)
		if joined := strings.TrimRight(strings.Join(args, "\x00"), "\x00"); joined != strings.TrimRight(string(cmdline), "\x00") {
			t.Errorf("%q became %q", cmdline, args)
		}
	})
}

func TestStartingOrRunning_TrueWhileActivating(t *testing.T) {
	for state, want := range map[UnitState][2]bool{
		{Active: "active", Sub: "running"}:          {true, true},
		{Active: "activating", Sub: "start-pre"}:    {false, true},
		{Active: "activating", Sub: "start"}:        {false, true},
		{Active: "activating", Sub: "auto-restart"}: {false, false},
		{Active: "deactivating", Sub: "stop"}:       {false, false},
		{Active: "failed", Sub: "failed"}:           {false, false},
	} {
		t.Run(state.Active+" "+state.Sub, func(t *testing.T) {
			if got := [2]bool{state.Running(), state.StartingOrRunning()}; got != want {
				t.Errorf("%+v: running, starting or running: %v, want %v", state, got, want)
			}
		})
	}
}
