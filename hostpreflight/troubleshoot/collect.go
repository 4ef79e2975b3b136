package troubleshoot

import (
	"errors"
	"fmt"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// skipError is returned for what was not examined on purpose.
type skipError struct{ by, reason string }

// Error returns the reason.
func (e skipError) Error() string { return e.reason }

// errMeasureSkipped is returned when the benchmark was skipped (--quick).
var errMeasureSkipped = skipError{"user", "--quick"}

// describeCPUs returns what was found for the analyzer cpu.
func describeCPUs(f facts.Facts, _ hp.Requirements, _ collector) (string, error) {
	return hp.FormatCount(f.CPU.Count, "processor"), nil
}

// describeMemory returns what was found for the analyzer memory.
func describeMemory(f facts.Facts, _ hp.Requirements, _ collector) (string, error) {
	return hp.FormatBytes(f.Memory.Total), nil
}

// describeDisk returns what was found for the analyzer diskUsage.
func describeDisk(f facts.Facts, _ hp.Requirements, c collector) (string, error) {
	d, ok := f.Disk(c.Path)
	if !ok {
		return "", errors.New(c.Path + " was not checked")
	}
	return fmt.Sprintf("%s: %s of %s free", c.Path, hp.FormatBytes(d.Free), hp.FormatBytes(d.Size)), nil
}

// describeOS returns what was found for the analyzer hostOS.
func describeOS(f facts.Facts, _ hp.Requirements, _ collector) (string, error) {
	return fmt.Sprintf("%s, kernel %s", f.OS.Name, f.Kernel.Release), nil
}

// requestTimeUnits requests the units of the time services.
func requestTimeUnits(r *facts.Request, _ hp.Requirements, _ collector, _ analyzer) {
	for _, u := range timeServices() {
		appendUnique(&r.Units, u)
	}
}

// describeTime returns what was found for the analyzer time.
func describeTime(f facts.Facts, _ hp.Requirements, _ collector) (string, error) {
	words := map[bool]string{true: "", false: "not "}
	return fmt.Sprintf("clock %ssynchronized, time service %sactive, zone %s", words[f.Clock.Synced], words[timeServiceActive(f)], f.Clock.Zone), nil
}

// requestSysctls requests the keys in the conditions of analyzer a.
func requestSysctls(r *facts.Request, _ hp.Requirements, _ collector, a analyzer) {
	for _, when := range a.conditions() {
		appendUnique(&r.Sysctls, splitSysctl(when)[0])
	}
}

// describeSysctls returns what was found for the analyzer sysctl.
func describeSysctls(f facts.Facts, _ hp.Requirements, _ collector) (string, error) {
	return "kernel settings", nil
}

// requestModules requests the modules in the conditions of analyzer a.
func requestModules(r *facts.Request, _ hp.Requirements, _ collector, a analyzer) {
	for _, when := range a.conditions() {
		for _, name := range strings.Split(strings.Fields(when)[0], ",") {
			appendUnique(&r.Modules, name)
		}
	}
}

// describeModules returns what was found for the analyzer kernelModules.
func describeModules(facts.Facts, hp.Requirements, collector) (string, error) {
	return "kernel modules", nil
}

// requestFsync requests the benchmark of the built-in checks: it runs once, on the
// disk of etcd, also for a collector with another directory.
func requestFsync(r *facts.Request, req hp.Requirements, c collector, _ analyzer) {
	if c.Directory != "" {
		appendUnique(&r.Paths, c.Directory)
	}
	if r.FsyncPath == "" && !req.Quick && !req.Owned.Installed && len(req.WritePaths) > 0 {
		r.FsyncPath = req.WritePaths[0].Path
	}
}

// describeFsync returns what was found for the analyzer filesystemPerformance. It is
// an error when the collector's directory is on another disk than the measured one.
func describeFsync(f facts.Facts, req hp.Requirements, c collector) (string, error) {
	m := f.Measures.Fsync
	switch {
	case req.Quick || req.Owned.Installed:
		return "", errMeasureSkipped
	case m == nil:
		return "", errors.New("not measured")
	}
	if d, ok := f.Disk(c.Directory); ok && len(req.WritePaths) > 0 {
		if data, ok := f.Disk(req.WritePaths[0].Path); ok && data.FileSystem() != d.FileSystem() {
			return "", fmt.Errorf("%s is not on the measured disk, %s", c.Directory, data.Mount)
		}
	}
	return fmt.Sprintf("%s: p50 %s, p99 %s, p99.9 %s", m.Path, m.P50, m.P99, m.P999), nil
}
