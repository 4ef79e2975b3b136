package diagnosis

import (
	"encoding/json"
	"maps"
	"regexp"
	"strconv"
	"strings"
)

// Level is how bad a program says a line of its log is.
type Level int

// The levels.
const (
	LevelUnknown Level = iota // the line has none: the output of a crash, or of a program without levels
	LevelInfo                 // debug and trace, too
	LevelWarning
	LevelError // fatal and panic, too
)

// levels are the levels as programs write them: k0s and containerd (logrus), etcd (zap) and the programs of Kubernetes (klog).
var levels = map[string]Level{
	"trace": LevelInfo, "debug": LevelInfo, "info": LevelInfo, "I": LevelInfo,
	"warning": LevelWarning, "warn": LevelWarning, "W": LevelWarning,
	"error": LevelError, "dpanic": LevelError, "panic": LevelError, "fatal": LevelError, "E": LevelError, "F": LevelError,
}

// Formats of lines. k0s writes a line of a component as the msg of a line of its own at level info, with the fields component
// and stream (k0s, pkg/supervisor/supervisor.go), so the level of the component is in the msg.
var (
	logrusLine  = regexp.MustCompile(`^time="[^"]*" level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S*)`)
	logrusError = regexp.MustCompile(` error=("(?:[^"\\]|\\.)*"|\S+)`)
	klogLine    = regexp.MustCompile(`^([IWEF])\d{4} \d\d:\d\d:\d\d`)
)

// parseLine returns the level of a line of k0s or one of its components, and its text without the fields around it.
func parseLine(text string) (Level, string) {
	if m := logrusLine.FindStringSubmatchIndex(text); m != nil {
		message, rest := unquote(text[m[4]:m[5]]), text[m[5]:]
		if strings.Contains(rest, " stream=") {
			return parseLine(message)
		}
		if e := logrusError.FindStringSubmatch(rest); e != nil {
			message += ": " + unquote(e[1])
		}
		return levels[text[m[2]:m[3]]], message
	}
	if m := klogLine.FindStringSubmatch(text); m != nil {
		return levels[m[1]], text
	}
	var zap struct{ Level, Msg, Error string }
	if strings.HasPrefix(text, `{"level":`) && json.Unmarshal([]byte(text), &zap) == nil {
		if zap.Error != "" {
			zap.Msg += ": " + zap.Error
		}
		return levels[zap.Level], zap.Msg
	}
	return LevelUnknown, text
}

// unquote returns the value of a field of a line.
func unquote(value string) string {
	if plain, err := strconv.Unquote(value); err == nil {
		return plain
	}
	return strings.Trim(value, `"`)
}

// Lines of systemd about the unit of k0s. An automatic restart is announced before the start; a stop by a command begins
// with "Stopping". Older versions of systemd leave out the name of the unit.
var (
	unitStarts    = regexp.MustCompile(`^Starting (k0s(controller|worker)\.service - )?k0s - `)
	unitStops     = regexp.MustCompile(`^Stopping (k0s(controller|worker)\.service - )?k0s - `)
	unitRestarted = regexp.MustCompile(`^k0s(controller|worker)\.service: Scheduled restart job`)
)

// currentRun returns the lines of the current run of k0s: those of an earlier run do not explain a failure of this one. A run
// begins when k0s is started by a command or at boot, and includes automatic restarts. With restartsOver it begins with the
// last automatic restart. It ends when a command stops k0s: components that end then report errors of others that have
// ended.
func currentRun(lines []Line, restartsOver bool) []Line {
	begin, end, automatic := 0, len(lines), false
	for i, l := range lines {
		switch {
		case unitRestarted.MatchString(l.Text):
			automatic = true
		case unitStarts.MatchString(l.Text):
			if !automatic || restartsOver {
				begin = i
			}
			automatic, end = false, len(lines)
		case unitStops.MatchString(l.Text):
			end, automatic = i, false
		}
	}
	return lines[begin:max(begin, end)]
}

// withCurrentRun returns s with the lines of the current run of k0s only.
func (s Snapshot) withCurrentRun() Snapshot {
	if lines := s.Logs[LogK0s]; len(lines) > 0 {
		s.Logs = maps.Clone(s.Logs)
		s.Logs[LogK0s] = currentRun(lines, s.K0s.Running() && s.since(s.K0s.Since) > recentLinesRunning)
	}
	return s
}
