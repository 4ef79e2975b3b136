// Package measured owns the checks of what only trying tells: how long the disk
// takes to make etcd's writes last, how fast it takes a long file, how fast a
// processor is. It refuses to try; every check is a pure function of facts.
package measured

import (
	"fmt"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// The limits. etcd's documentation asks for a 99th percentile of fdatasync
// below 10 ms; from half of that on the beats of a cluster's members are near
// their limit. Below the rate an import of 2 GB takes over a minute; below the
// core's figure (some 1.2 GHz) the control plane misses its own deadlines.
const (
	fsyncFails = 10 * time.Millisecond
	fsyncWarns = 5 * time.Millisecond
	writeWarns = 30e6 // bytes a second
	coreWarns  = 300  // MB/s
)

// Checks are those of the measures. They are asked before a host is changed
// for the first time: later they would measure the cluster's own work.
func Checks() []hp.Check {
	first := []hp.Verb{hp.Install, hp.Join}
	return []hp.Check{
		{ID: "disk-latency", Group: "Measured", Title: "Small writes that last", Severity: hp.Fail, Roles: []hp.Role{hp.Controller}, Verbs: first,
			Wants: "99 % of fdatasync calls after 2,300-byte writes below 10 ms, warns from 5 ms",
			Why:   "etcd waits for one with every change and loses its leader when they take longer (etcd's hardware guide).",
			Run:   asked(facts.FactMeasure+":fsync", latency)},
		{ID: "disk-throughput", Group: "Measured", Title: "Long writes", Severity: hp.Warn, Verbs: first,
			Wants: "at least 30 MB/s",
			Why:   "importing the images takes minutes below that, and pods start late (measured with the example's bundle).",
			Run:   asked(facts.FactMeasure+":write", throughput)},
		{ID: "cpu-speed", Group: "Measured", Title: "Speed of one processor", Severity: hp.Warn, Verbs: first,
			Wants: "a coarse 300 MB/s, about 1.2 GHz",
			Why:   "the control plane misses its own deadlines on slow or overbooked processors (measured).",
			Run:   asked(facts.FactMeasure+":core", speed)},
	}
}

// asked leaves out what nobody wanted measured.
func asked(fact string, run func(facts.Facts, hp.Want) hp.Result) func(facts.Facts, hp.Want) hp.Result {
	told := hp.Told(fact, run)
	return func(f facts.Facts, w hp.Want) hp.Result {
		switch {
		case w.Quick:
			return hp.Skip("user", "--quick")
		case w.Ours.Installed:
			return hp.Skip("install", "k0s runs here, and would be measured, too")
		}
		return told(f, w)
	}
}

func latency(f facts.Facts, _ hp.Want) hp.Result {
	m := f.Measures.Fsync
	if m == nil {
		return hp.CannotTell("it was not measured")
	}
	found := fmt.Sprintf("%s: 50 %% below %s, 99 %% below %s, 99.9 %% below %s (%s)", m.Path, ms(m.P50), ms(m.P99), ms(m.P999), hp.Count(m.Writes, "write"))
	if m.Rounds == 0 {
		found = fmt.Sprintf("%s: a write did not come back within %s", m.Path, m.P99)
	}
	const fix = "put a disk of its own for /var/lib/k0s/etcd, an SSD at best, or end what else writes to this one (sudo iotop -o)"
	switch {
	case m.P99 >= fsyncFails:
		return hp.Failed(fix, "%s", found)
	case m.P99 >= fsyncWarns:
		return hp.Warned(fix, "%s", found)
	}
	return hp.Passed("%s", found)
}

// ms writes a duration as people compare them.
func ms(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}

func throughput(f facts.Facts, _ hp.Want) hp.Result {
	m := f.Measures.Write
	switch {
	case m == nil:
		return hp.CannotTell("it was not measured")
	case m.Rate() < writeWarns:
		return hp.Warned("use a faster disk, or end what else writes to this one (sudo iotop -o)", "%s: %.0f MB/s", m.Path, m.Rate()/1e6)
	}
	return hp.Passed("%s: %.0f MB/s", m.Path, m.Rate()/1e6)
}

func speed(f facts.Facts, _ hp.Want) hp.Result {
	switch m := f.Measures.Core; {
	case m == nil:
		return hp.CannotTell("it was not measured")
	case m.MBps < coreWarns:
		return hp.Warned("use a faster machine, or one whose processors are not shared with so many others", "%.0f MB/s", m.MBps)
	default:
		return hp.Passed("%.0f MB/s", m.MBps)
	}
}
