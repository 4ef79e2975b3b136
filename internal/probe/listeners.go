package probe

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
)

// Listeners returns the TCP and UDP ports that programs of machine m listen on, with their owners, sorted.
// It binds nothing, so it does not disturb a program that starts.
func Listeners(m PortHost) []facts.Port {
	pr := portProber{m, Files{FileReader: m}, localSystem()}
	seen := map[facts.PortKey]bool{}
	var all []facts.Port
	for _, protocol := range []string{"tcp", "udp"} {
		for _, table := range []string{protocol, protocol + "6"} {
			for _, s := range parseSockets(pr.files.ReadBytes("/proc/net/" + table)) {
				key := facts.PortKey{Number: s.Port, Protocol: protocol}
				if !seen[key] {
					seen[key] = true
					all = append(all, facts.Port{PortKey: key, Error: "EADDRINUSE"})
				}
			}
		}
	}
	pr.fillOwners(all)
	slices.SortFunc(all, func(a, b facts.Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Number, b.Number))
	})
	return all
}

// UnitProperties returns properties of systemd units of machine m, named as `systemctl show` does: one map a
// unit. A unit that systemd does not know has the LoadState "not-found".
func UnitProperties(ctx context.Context, m Machine, properties string, units ...string) ([]map[string]string, error) {
	return newProber(m, localSystem(), facts.Request{}).showUnits(ctx, properties, units...)
}

// BootTime returns when the host was booted, from its /proc/uptime and its clock now; the zero time if that is not known.
func BootTime(host FileReader, now time.Time) time.Time {
	uptime, err := host.ReadFile("/proc/uptime")
	first, _, _ := strings.Cut(strings.TrimSpace(string(uptime)), " ")
	seconds, parseErr := strconv.ParseFloat(first, 64)
	if err != nil || parseErr != nil {
		return time.Time{}
	}
	return now.UTC().Add(-time.Duration(seconds * float64(time.Second)))
}

// TimeSinceBoot returns the time of a property of systemd such as ActiveEnterTimestampMonotonic, in microseconds since
// booted; the zero time if one of them is not known.
func TimeSinceBoot(booted time.Time, property string) time.Time {
	us, err := strconv.ParseInt(property, 10, 64)
	if err != nil || us <= 0 || booted.IsZero() {
		return time.Time{}
	}
	return booted.Add(time.Duration(us) * time.Microsecond)
}
