package troubleshoot

import (
	"errors"
	"fmt"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/troubleshoot/when"
	"github.com/plinthdev/plinth/internal/facts"
)

// errMeasureSkipped is returned when the benchmark was skipped (--quick).
var errQuick = errors.New("not measured")

// describeCPUs returns what was found for the analyzer cpu.
func cpus(f facts.Facts, _ hp.Want, _ collector) (string, error) {
	return hp.Count(f.CPU.Count, "processor"), nil
}

// describeMemory returns what was found for the analyzer memory.
func memoryFound(f facts.Facts, _ hp.Want, _ collector) (string, error) {
	return hp.Bytes(f.Memory.Total), nil
}

// describeDisk returns what was found for the analyzer diskUsage.
func diskFound(f facts.Facts, _ hp.Want, c collector) (string, error) {
	d, ok := f.Disk(c.Path)
	if !ok {
		return "", errors.New(c.Path + " was not checked")
	}
	return fmt.Sprintf("%s: %s of %s free", c.Path, hp.Bytes(d.Free), hp.Bytes(d.Size)), nil
}

// describeOS returns what was found for the analyzer hostOS.
func osFound(f facts.Facts, _ hp.Want, _ collector) (string, error) {
	return fmt.Sprintf("%s, kernel %s", f.OS.Name, f.Kernel.Release), nil
}

// requestTimeUnits requests the units of the time services.
func timeUnits(r *facts.Request, _ hp.Want, _ collector, _ analyzer) {
	for _, u := range when.TimeServices() {
		once(&r.Units, u)
	}
}

// describeTime returns what was found for the analyzer time.
func timeFound(f facts.Facts, _ hp.Want, _ collector) (string, error) {
	words := map[bool]string{true: "", false: "not "}
	return fmt.Sprintf("clock %ssynchronized, time service %sactive, zone %s", words[f.Clock.Synced], words[when.Steering(f)], f.Clock.Zone), nil
}

// requestSysctls requests the keys in the conditions of analyzer a.
func sysctlKeys(r *facts.Request, _ hp.Want, _ collector, a analyzer) {
	for _, o := range a.Outcomes {
		if _, v := o.one(); v.When != "" {
			once(&r.Sysctls, when.SysctlWords(v.When)[0])
		}
	}
}

// describeSysctls returns what was found for the analyzer sysctl.
func sysctlFound(f facts.Facts, _ hp.Want, _ collector) (string, error) {
	return "kernel settings", nil
}

// requestModules requests the modules in the conditions of analyzer a.
func modules(r *facts.Request, _ hp.Want, _ collector, a analyzer) {
	for _, o := range a.Outcomes {
		if _, v := o.one(); v.When != "" {
			for _, name := range strings.Split(strings.Fields(v.When)[0], ",") {
				once(&r.Modules, name)
			}
		}
	}
}

// describeModules returns what was found for the analyzer kernelModules.
func modulesFound(facts.Facts, hp.Want, collector) (string, error) {
	return "kernel modules", nil
}

// requestFsync requests the benchmark of the built-in checks: it runs once, on the
// disk of etcd, also for a collector with another directory.
func fsync(r *facts.Request, req hp.Want, c collector, _ analyzer) {
	if c.Directory != "" {
		once(&r.Paths, c.Directory)
	}
	if r.Fsync == "" && !req.Quick && !req.Ours.Installed && len(req.Disks) > 0 {
		r.Fsync = req.Disks[0].Path
	}
}

// describeFsync returns what was found for the analyzer filesystemPerformance. It is
// an error when the collector's directory is on another disk than the measured one.
func fsyncFound(f facts.Facts, req hp.Want, c collector) (string, error) {
	m := f.Measures.Fsync
	switch {
	case req.Quick || req.Ours.Installed:
		return "", errQuick
	case m == nil:
		return "", errors.New("not measured")
	}
	if d, ok := f.Disk(c.Directory); ok && len(req.Disks) > 0 {
		if data, ok := f.Disk(req.Disks[0].Path); ok && data.Mount != d.Mount {
			return "", fmt.Errorf("%s is not on the measured disk, %s", c.Directory, data.Mount)
		}
	}
	return fmt.Sprintf("%s: p50 %s, p99 %s, p99.9 %s", m.Path, m.P50, m.P99, m.P999), nil
}
