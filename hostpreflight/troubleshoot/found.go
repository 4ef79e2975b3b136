package troubleshoot

import (
	"errors"
	"fmt"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/hostpreflight/troubleshoot/when"
	"github.com/plinthdev/plinth/internal/facts"
)

// errQuick says that the user did not want it measured.
var errQuick = errors.New("not measured")

func cpus(f facts.Facts, _ hp.Want, _ collector) (string, error) {
	return hp.Count(f.CPU.Count, "processor"), nil
}

func memoryFound(f facts.Facts, _ hp.Want, _ collector) (string, error) {
	return hp.Bytes(f.Memory.Total), nil
}

func diskFound(f facts.Facts, _ hp.Want, c collector) (string, error) {
	d, ok := f.Disk(c.Path)
	if !ok {
		return "", errors.New(c.Path + " was not looked at")
	}
	return fmt.Sprintf("%s: %s of %s free", c.Path, hp.Bytes(d.Free), hp.Bytes(d.Size)), nil
}

func osFound(f facts.Facts, _ hp.Want, _ collector) (string, error) {
	return fmt.Sprintf("%s, kernel %s", f.OS.Name, f.Kernel.Release), nil
}

func timeUnits(r *facts.Request, _ hp.Want, _ collector, _ analyzer) {
	for _, u := range when.TimeServices() {
		once(&r.Units, u)
	}
}

func timeFound(f facts.Facts, _ hp.Want, _ collector) (string, error) {
	words := map[bool]string{true: "", false: "not "}
	return fmt.Sprintf("clock %ssynchronised, time service %sactive, zone %s", words[f.Clock.Synced], words[when.Steering(f)], f.Clock.Zone), nil
}

func sysctlKeys(r *facts.Request, _ hp.Want, _ collector, a analyzer) {
	for _, o := range a.Outcomes {
		if _, v := o.one(); v.When != "" {
			once(&r.Sysctls, when.SysctlWords(v.When)[0])
		}
	}
}

func sysctlFound(f facts.Facts, _ hp.Want, _ collector) (string, error) {
	return "the kernel's settings", nil
}

func modules(r *facts.Request, _ hp.Want, _ collector, a analyzer) {
	for _, o := range a.Outcomes {
		if _, v := o.one(); v.When != "" {
			for _, name := range strings.Split(strings.Fields(v.When)[0], ",") {
				once(&r.Modules, name)
			}
		}
	}
}

func modulesFound(facts.Facts, hp.Want, collector) (string, error) {
	return "the kernel's modules", nil
}

// fsync wants the built-in measure: one, at etcd's place.
func fsync(r *facts.Request, w hp.Want, c collector, _ analyzer) {
	if c.Directory != "" {
		once(&r.Paths, c.Directory)
	}
	if r.Fsync == "" && !w.Quick && !w.Ours.Installed && len(w.Disks) > 0 {
		r.Fsync = w.Disks[0].Path
	}
}

func fsyncFound(f facts.Facts, w hp.Want, c collector) (string, error) {
	m := f.Measures.Fsync
	switch {
	case w.Quick || w.Ours.Installed:
		return "", errQuick
	case m == nil:
		return "", errors.New("it was not measured")
	}
	if d, ok := f.Disk(c.Directory); ok && len(w.Disks) > 0 {
		if data, ok := f.Disk(w.Disks[0].Path); ok && data.Mount != d.Mount {
			return "", fmt.Errorf("%s is not on the disk that is measured, %s", c.Directory, data.Mount)
		}
	}
	return fmt.Sprintf("%s: p50 %s, p99 %s, p99.9 %s", m.Path, m.P50, m.P99, m.P999), nil
}
