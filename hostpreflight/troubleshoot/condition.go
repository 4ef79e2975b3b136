package troubleshoot

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// factsCondition reports whether an outcome applies to a host with these facts.
type factsCondition func(facts.Facts) bool

// requireOneOf returns an error unless s is one of words.
func requireOneOf(s string, words ...string) error {
	if !slices.Contains(words, s) {
		return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
	}
	return nil
}

// applyOperator reports whether operator holds for two values whose order is -1, 0 or
// 1, as returned by cmp.Compare.
func applyOperator(operator string, order int) (bool, error) {
	switch operator {
	case "<":
		return order < 0, nil
	case "<=":
		return order <= 0, nil
	case ">":
		return order > 0, nil
	case ">=":
		return order >= 0, nil
	case "=", "==", "===":
		return order == 0, nil
	case "!=", "!==", "<>":
		return order != 0, nil
	}
	return false, fmt.Errorf("unknown operator %q", operator)
}

// compareNumber returns a condition that compares got with desired.
func compareNumber(operator string, desired float64, got func(facts.Facts) float64) (factsCondition, error) {
	if _, err := applyOperator(operator, 0); err != nil {
		return nil, err
	}
	return func(f facts.Facts) bool {
		order := 0
		if g := got(f); g < desired {
			order = -1
		} else if g > desired {
			order = 1
		}
		ok, _ := applyOperator(operator, order) // the operator is known
		return ok
	}, nil
}

// splitWords returns the words of a condition. It is an error if there are fewer than
// least or more than most.
func splitWords(when string, least, most int) ([]string, error) {
	w := strings.Fields(when)
	if len(w) < least || len(w) > most {
		return nil, fmt.Errorf("has %s, expected %d to %d", hp.FormatCount(len(w), "word"), least, most)
	}
	return w, nil
}

// parseCPU parses "count < 4", "supports x86-64-v2", "hasFlags avx,avx2" or
// "machineArch == x86_64". count is the larger one of logical and physical.
func parseCPU(when string) (factsCondition, error) {
	w, err := splitWords(when, 2, 3)
	if err != nil {
		return nil, err
	}
	if len(w) == 2 {
		w = append([]string{"count"}, w...)
	}
	if strings.EqualFold(w[1], "hasFlags") {
		flags := strings.Split(w[2], ",")
		return func(f facts.Facts) bool {
			return !slices.ContainsFunc(flags, func(flag string) bool { return !slices.Contains(f.CPU.Flags, flag) })
		}, nil
	}
	if strings.EqualFold(w[1], "supports") {
		level, ok := strings.CutPrefix(w[2], "x86-64-v")
		n, err := strconv.Atoi(level)
		if w[2] == "x86-64" {
			n, ok, err = 1, true, nil
		}
		if !ok || err != nil {
			return nil, fmt.Errorf("unknown level %q", w[2])
		}
		return func(f facts.Facts) bool { return f.CPU.Level >= n }, nil
	}
	counts := map[string]func(facts.CPU) int{"count": func(c facts.CPU) int { return max(c.Count, c.Cores) }, "logical": func(c facts.CPU) int { return c.Count },
		"physical": func(c facts.CPU) int { return cmp.Or(c.Cores, c.Count) }}
	switch word := strings.ToLower(w[0]); word {
	case "count", "logical", "physical":
		n, err := parseWholeNumber(w[2])
		if err != nil {
			return nil, err
		}
		return compareNumber(w[1], float64(n), func(f facts.Facts) float64 { return float64(counts[word](f.CPU)) })
	case "machinearch":
		if err := requireOneOf(w[1], "=", "==", "===", "!=", "!=="); err != nil {
			return nil, err
		}
		return func(f facts.Facts) bool { return (unameMachine(f) == w[2]) == (w[1][0] == '=') }, nil
	}
	return nil, errors.New("supported are only count, logical, physical, machineArch, supports and hasFlags")
}

// unameMachine returns the architecture as reported by uname -m.
func unameMachine(f facts.Facts) string {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[f.OS.Arch]
}

// parseMemory parses "< 4Gi".
func parseMemory(when string) (factsCondition, error) {
	w, err := splitWords(when, 2, 2)
	if err != nil {
		return nil, err
	}
	bytes, err := parseQuantity(w[1])
	if err != nil {
		return nil, err
	}
	return compareNumber(w[0], bytes, func(f facts.Facts) float64 { return float64(f.Memory.Total) })
}

// parseDisk parses "total < 30Gi" or "used/total > 80%" for the file system of path.
func parseDisk(path, when string) (factsCondition, error) {
	w, err := splitWords(when, 3, 3)
	if err != nil {
		return nil, err
	}
	of := func(part func(facts.Disk) float64) func(facts.Facts) float64 {
		return func(f facts.Facts) float64 { d, _ := f.Disk(path); return part(d) }
	}
	ratio := func(part func(facts.Disk) float64) func(facts.Facts) float64 {
		return of(func(d facts.Disk) float64 { return part(d) / max(1, float64(d.Size)) })
	}
	total := func(d facts.Disk) float64 { return float64(d.Size) }
	used := func(d facts.Disk) float64 { return float64(d.Size - d.Free) }
	free := func(d facts.Disk) float64 { return float64(d.Free) }
	stats := map[string]func(facts.Facts) float64{"total": of(total), "used": of(used), "available": of(free), "used/total": ratio(used), "available/total": ratio(free)}
	got, ok := stats[strings.ToLower(w[0])]
	if !ok {
		return nil, fmt.Errorf("unknown disk value %q", w[0])
	}
	var desired float64
	if strings.Contains(w[0], "/") {
		desired, err = parseRatio(w[2])
	} else {
		desired, err = parseQuantity(w[2])
	}
	if err != nil {
		return nil, err
	}
	return compareNumber(w[1], desired, got)
}

// timeServices returns the systemd units of services that synchronize the clock.
func timeServices() []string {
	return []string{"chronyd", "chrony", "systemd-timesyncd", "ntpd", "ntp", "ntpsec"}
}

// timeServiceActive reports whether one of TimeServices is active.
func timeServiceActive(f facts.Facts) bool {
	return slices.ContainsFunc(timeServices(), func(name string) bool { u, _ := f.Unit(name); return u.Active == "active" })
}

// parseTime parses "ntp == unsynchronized+inactive" or "timezone != UTC".
func parseTime(when string) (factsCondition, error) {
	w, err := splitWords(when, 3, 3)
	if err != nil {
		return nil, err
	}
	if err := requireOneOf(w[1], "=", "==", "===", "!="); err != nil {
		return nil, err
	}
	is := w[1] != "!="
	switch w[0] {
	case "timezone":
		return func(f facts.Facts) bool {
			return (f.Clock.Zone == w[2] || strings.TrimPrefix(f.Clock.Zone, "Etc/") == w[2]) == is
		}, nil
	case "ntp":
		return func(f facts.Facts) bool {
			state := map[bool]string{true: "synchronized", false: "unsynchronized"}[f.Clock.Synced] + map[bool]string{true: "+active", false: "+inactive"}[timeServiceActive(f)]
			return (state == w[2]) == is
		}, requireOneOf(w[2], "synchronized+active", "synchronized+inactive", "unsynchronized+active", "unsynchronized+inactive")
	}
	return nil, errors.New("supported are only ntp and timezone")
}

// parseInterfaces parses "count < 1".
func parseInterfaces(when string) (factsCondition, error) {
	w, err := splitWords(when, 3, 3)
	if err == nil {
		err = requireOneOf(w[0], "count")
	}
	if err != nil {
		return nil, err
	}
	n, err := parseWholeNumber(w[2])
	if err != nil {
		return nil, err
	}
	return compareNumber(w[1], float64(n), func(f facts.Facts) float64 { return float64(countIPv4Interfaces(f)) })
}

// countIPv4Interfaces returns how many interfaces are up and have an IPv4 address,
// without loopback.
func countIPv4Interfaces(f facts.Facts) (n int) {
	for _, i := range f.Network.Interfaces {
		for _, p := range i.Addresses {
			if i.Up && !i.Loopback && p.Addr().Is4() {
				n++
				break
			}
		}
	}
	return n
}

// splitSysctl returns key, operator and value of a condition; spaces around the
// operator are optional. Without an operator it returns the key only.
func splitSysctl(when string) []string {
	at := strings.IndexAny(when, "=<>!")
	if at < 0 {
		return []string{strings.TrimSpace(when)}
	}
	value := strings.TrimLeft(when[at:], "=<>!")
	return []string{strings.TrimSpace(when[:at]), when[at : len(when)-len(value)], strings.TrimSpace(value)}
}

// parseSysctl parses "net.ipv4.ip_forward = 1". The value of a missing key is 0.
func parseSysctl(when string) (factsCondition, error) {
	w := splitSysctl(when)
	if len(w) != 3 || w[0] == "" || w[2] == "" {
		return nil, errors.New("must be a key, an operator and a value")
	}
	if desired, err := strconv.Atoi(w[2]); err == nil {
		return compareNumber(w[1], float64(desired), func(f facts.Facts) float64 {
			n, _ := strconv.ParseFloat(f.Settings.Sysctls[w[0]], 64) // the value of a missing key is 0
			return n
		})
	}
	return func(f facts.Facts) bool { return f.Settings.Sysctls[w[0]] == w[2] }, requireOneOf(w[1], "=", "==", "===")
}

// parseModule parses "overlay,br_netfilter == loaded,loadable". A built-in feature
// counts as loaded.
func parseModule(when string) (factsCondition, error) {
	w, err := splitWords(when, 3, 3)
	if err == nil {
		err = requireOneOf(w[1], "=", "==", "!=", "<>")
	}
	if err != nil {
		return nil, err
	}
	states := strings.Split(w[2], ",")
	for _, s := range states {
		if err := requireOneOf(s, "loaded", "loadable", "unloadable", "unknown"); err != nil {
			return nil, err
		}
	}
	in := func(f facts.Facts, name string) bool {
		state := map[facts.FeatureState]string{facts.Builtin: "loaded", facts.Loaded: "loaded", facts.Module: "loadable", facts.Forbidden: "unloadable"}[f.Kernel.Feature(name).State]
		return slices.Contains(states, state)
	}
	return func(f facts.Facts) bool {
		for _, name := range strings.Split(w[0], ",") {
			if in(f, name) != (w[1][0] == '=') {
				return false
			}
		}
		return true
	}, nil
}

// parseHTTP parses "error", or comparisons of statusCode joined by && or ||, for the
// response of url.
func parseHTTP(url, when string) (factsCondition, error) {
	status := func(f facts.Facts) (int, bool) {
		for _, s := range f.Sources {
			if s.URL == url {
				return s.Status, s.Error == ""
			}
		}
		return 0, false
	}
	if when == "error" {
		return func(f facts.Facts) bool { _, ok := status(f); return !ok }, nil
	}
	rest, ok := strings.CutPrefix(strings.ReplaceAll(when, "statusCode", "status"), "status ")
	if !ok {
		return nil, errors.New("supported are only error and statusCode")
	}
	// The grammar is that of versions.
	holds, err := parseVersionRange(strings.NewReplacer("&& status ", "&& ", "|| status ", "|| ", "===", "==").Replace(rest))
	if err != nil {
		return nil, err
	}
	return func(f facts.Facts) bool {
		code, ok := status(f)
		return ok && holds([]int{code, 0, 0})
	}, nil
}

// parseLatency parses "p99 < 10ms".
func parseLatency(when string) (factsCondition, error) {
	w, err := splitWords(when, 3, 3)
	if err != nil {
		return nil, err
	}
	desired, err := parseDuration(w[2])
	if err != nil {
		return nil, err
	}
	parts := map[string]func(facts.FsyncLatency) time.Duration{"p50": func(m facts.FsyncLatency) time.Duration { return m.P50 }, "p99": func(m facts.FsyncLatency) time.Duration { return m.P99 }, "p999": func(m facts.FsyncLatency) time.Duration { return m.P999 }}
	part, ok := parts[strings.ToLower(w[0])]
	if !ok {
		return nil, errors.New("supported are only p50, p99 and p999")
	}
	return compareNumber(w[1], float64(desired), func(f facts.Facts) float64 {
		if f.Measures.Fsync == nil {
			return 0
		}
		return float64(part(*f.Measures.Fsync))
	})
}
