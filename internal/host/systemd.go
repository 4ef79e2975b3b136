package host

import (
	"context"
	"strconv"
	"strings"
)

// systemd implements Units with systemctl and journalctl.
type systemd struct{ run Commands }

var _ Units = systemd{}

func (s systemd) UnitState(ctx context.Context, unit string) (UnitState, error) {
	out, err := s.run.Run(ctx, Cmd{Argv: []string{"systemctl", "show", "--property=LoadState,ActiveState,SubState,UnitFileState", unit}, ReadOnly: true})
	if err != nil {
		return UnitState{}, err
	}
	var st UnitState
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "LoadState":
			st.Load = value
		case "ActiveState":
			st.Active = value
		case "SubState":
			st.Sub = value
		case "UnitFileState":
			st.Enable = value
		}
	}
	return st, nil
}

func (s systemd) StartUnit(ctx context.Context, unit string) error {
	return s.runAll(ctx, []string{"daemon-reload"}, []string{"enable", "--quiet", unit}, []string{"start", "--no-block", unit})
}

func (s systemd) StopUnit(ctx context.Context, unit string) error {
	st, err := s.UnitState(ctx, unit)
	if err != nil || st.Load == "not-found" {
		return err
	}
	if err := s.runAll(ctx, []string{"stop", unit}, []string{"disable", "--quiet", unit}); err != nil {
		return err
	}
	// Reset only this unit, and only if it failed: the failures of other units must stay visible,
	// and systemd refuses to reset a unit that it has unloaded.
	if st, err = s.UnitState(ctx, unit); err != nil || st.Active != "failed" {
		return err
	}
	return s.runAll(ctx, []string{"reset-failed", "--quiet", unit})
}

func (s systemd) RestartUnit(ctx context.Context, unit string) error {
	return s.runAll(ctx, []string{"restart", unit})
}

func (s systemd) UnitLog(ctx context.Context, unit string, n int) ([]string, error) {
	out, err := s.run.Run(ctx, Cmd{Argv: []string{"journalctl", "--no-pager", "--output=cat", "--lines=" + strconv.Itoa(n), "--unit=" + unit}, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' }), nil
}

func (s systemd) runAll(ctx context.Context, calls ...[]string) error {
	for _, args := range calls {
		if _, err := s.run.Run(ctx, Cmd{Argv: append([]string{"systemctl"}, args...)}); err != nil {
			return err
		}
	}
	return nil
}
