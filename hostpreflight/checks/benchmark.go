package checks

import (
	"fmt"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// The limits. etcd's documentation requires a 99th percentile of fdatasync
// below 10 ms; from half of that, the heartbeats of the cluster's members are near
// their limit. Below the write rate, importing 2 GB takes over a minute; below the
// core rate (about 1.2 GHz), the control plane misses its own deadlines.
const (
	fsyncFailLimit = 10 * time.Millisecond
	fsyncWarnLimit = 5 * time.Millisecond
	writeWarnRate  = 30e6 // bytes a second
	coreWarnRate   = 300  // MB/s
)

// benchmarkChecks returns the checks of the benchmarks: disk sync latency, write
// throughput and processor speed. They run only before a host is changed for the
// first time: later they would measure the load of the cluster itself.
func benchmarkChecks() []hp.Check {
	first := []hp.Verb{hp.Install, hp.Join}
	return []hp.Check{
		{ID: "disk-latency", Group: "Benchmarks", Title: "Disk sync latency", Severity: hp.Fail, Roles: []hp.Role{hp.Controller}, Verbs: first,
			Expected:  "99 % of fdatasync calls after 2,300-byte writes below 10 ms; warns from 5 ms",
			Rationale: "etcd waits for one on every change and loses its leader when they take longer (etcd's hardware guide).",
			Run:       runIfMeasured(facts.FactMeasure+":fsync", checkFsyncLatency)},
		{ID: "disk-throughput", Group: "Benchmarks", Title: "Disk write throughput", Severity: hp.Warn, Verbs: first,
			Expected:  "at least 30 MB/s",
			Rationale: "below that, importing the images takes minutes and pods start late (measured with the example bundle).",
			Run:       runIfMeasured(facts.FactMeasure+":write", checkWriteThroughput)},
		{ID: "cpu-speed", Group: "Benchmarks", Title: "Processor speed", Severity: hp.Warn, Verbs: first,
			Expected:  "at least 300 MB/s of hashing on one processor, about 1.2 GHz",
			Rationale: "the control plane misses its own deadlines on slow or overcommitted processors (measured).",
			Run:       runIfMeasured(facts.FactMeasure+":core", checkCPUSpeed)},
	}
}

// runIfMeasured returns run with guards: the check is skipped when the user skipped
// the benchmarks or k0s runs here already, and undetermined without the fact.
func runIfMeasured(fact string, run func(facts.Facts, hp.Requirements) hp.Result) func(facts.Facts, hp.Requirements) hp.Result {
	check := hp.RequireFact(fact, run)
	return func(f facts.Facts, req hp.Requirements) hp.Result {
		switch {
		case req.Quick:
			return hp.Skip("user", "--quick")
		case req.Owned.Installed:
			return hp.Skip("install", "k0s runs here already, and its load would be measured too")
		}
		return check(f, req)
	}
}

func checkFsyncLatency(f facts.Facts, _ hp.Requirements) hp.Result {
	m := f.Measures.Fsync
	if m == nil {
		return hp.Undetermined("not measured")
	}
	found := fmt.Sprintf("%s: 50 %% below %s, 99 %% below %s, 99.9 %% below %s (%s)", m.Path, formatMilliseconds(m.P50), formatMilliseconds(m.P99), formatMilliseconds(m.P999), hp.FormatCount(m.Writes, "write"))
	if m.Rounds == 0 {
		found = fmt.Sprintf("%s: a write did not finish within %s", m.Path, m.P99)
	}
	const fix = "use a dedicated disk for /var/lib/k0s/etcd, preferably an SSD, or stop other programs that write to this disk (sudo iotop -o)"
	switch {
	case m.P99 >= fsyncFailLimit:
		return hp.Failed(fix, "%s", found)
	case m.P99 >= fsyncWarnLimit:
		return hp.Warned(fix, "%s", found)
	}
	return hp.Passed("%s", found)
}

// formatMilliseconds returns d in milliseconds with two decimals.
func formatMilliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000)
}

func checkWriteThroughput(f facts.Facts, _ hp.Requirements) hp.Result {
	m := f.Measures.Write
	switch {
	case m == nil:
		return hp.Undetermined("not measured")
	case m.BytesPerSecond() < writeWarnRate:
		return hp.Warned("use a faster disk, or stop other programs that write to this disk (sudo iotop -o)", "%s: %.0f MB/s", m.Path, m.BytesPerSecond()/1e6)
	}
	return hp.Passed("%s: %.0f MB/s", m.Path, m.BytesPerSecond()/1e6)
}

func checkCPUSpeed(f facts.Facts, _ hp.Requirements) hp.Result {
	switch m := f.Measures.Core; {
	case m == nil:
		return hp.Undetermined("not measured")
	case m.MBps < coreWarnRate:
		return hp.Warned("use a faster machine, or one whose processors are less overcommitted", "%.0f MB/s", m.MBps)
	default:
		return hp.Passed("%.0f MB/s", m.MBps)
	}
}
