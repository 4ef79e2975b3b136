package probe

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/probe/files"
	"github.com/plinthdev/plinth/internal/probe/parse"
	"github.com/plinthdev/plinth/internal/probe/settings"
)

func (l look) os(context.Context) answer {
	os, err := files.Parse(l.files, "/etc/os-release", parse.OSRelease)
	if files.Missing(err) {
		os, err = files.Parse(l.files, "/usr/lib/os-release", parse.OSRelease)
	}
	os.Arch = l.k.Arch
	note := func(f *facts.Facts) { f.OS = os }
	a := found(facts.FactOS, err, note)
	a.note = note // the architecture is known all the same
	return a
}

func (l look) cpu(context.Context) answer {
	cpu, err := files.Parse(l.files, "/proc/cpuinfo", parse.CPUInfo)
	return found(facts.FactCPU, err, func(f *facts.Facts) { f.CPU = cpu })
}

func (l look) memory(context.Context) answer {
	mem, err := files.Parse(l.files, "/proc/meminfo", parse.MemInfo)
	if err != nil {
		return found(facts.FactMemory, err, nil)
	}
	// A kernel without swap support has no such file.
	if text, err := l.m.ReadFile("/proc/swaps"); err == nil {
		mem.SwapOn = parse.Swaps(text)
	}
	for _, s := range mem.SwapOn {
		mem.Swap += s.Size
	}
	return found(facts.FactMemory, nil, func(f *facts.Facts) { f.Memory = mem })
}

func (l look) machineID(context.Context) answer {
	text, err := l.m.ReadFile("/etc/machine-id")
	if files.Missing(err) {
		err = nil // a fact, not a doubt
	}
	return found(facts.FactMachineID, err, func(f *facts.Facts) { f.MachineID = strings.TrimSpace(string(text)) })
}

func (l look) privilege(context.Context) answer {
	p, err := files.Parse(l.files, "/proc/self/status", parse.Status)
	return found(facts.FactPrivilege, err, func(f *facts.Facts) { f.Privilege = p })
}

func (l look) security(context.Context) answer {
	s, err := settings.Security(l.files)
	return found(facts.FactSecurity, err, func(f *facts.Facts) { f.Security = s })
}

func (l look) settings(context.Context) answer {
	s, err := settings.Kernel(l.files, l.req.Sysctls)
	return found(facts.FactSettings, err, func(f *facts.Facts) { f.Settings = s })
}

func (l look) proxies(context.Context) answer {
	all := settings.Proxies(l.files)
	return found(facts.FactProxies, nil, func(f *facts.Facts) { f.Proxies = all })
}

func (l look) clock(context.Context) answer {
	c := facts.Clock{Now: l.k.Now().UTC(), Source: l.files.Text("/sys/devices/system/clocksource/clocksource0/current_clocksource")}
	c.Zone = settings.Zone(l.files, l.k.Readlink)
	seconds, err := strconv.ParseInt(l.files.Text("/sys/class/rtc/rtc0/since_epoch"), 10, 64)
	if err == nil && !strings.Contains(l.files.Text("/etc/adjtime"), "LOCAL") { // a clock in local time tells nothing (hwclock(8))
		c.RTC = time.Unix(seconds, 0).UTC()
	}
	synced, err := l.k.Synced()
	c.Synced = synced
	note := func(f *facts.Facts) { f.Clock = c }
	a := found(facts.FactSync, err, note)
	a.note = note // the time itself is known all the same
	return a
}

// commands looks where systemd lets services look, whatever PATH this process
// was started with: k0s and kubelet run as services.
func (l look) commands(context.Context) answer {
	dirs := []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	have := map[string]string{}
	for _, name := range l.req.Commands {
		for _, dir := range dirs {
			if p := path.Join(dir, name); have[name] == "" && l.files.Exists(p) {
				have[name] = p
			}
		}
	}
	return found(facts.FactCommands, nil, func(f *facts.Facts) { f.Commands = have })
}

// cgroup goes by what is mounted: a controller that the kernel has and
// nobody mounted cannot be used by a runtime.
func (l look) cgroup(context.Context) answer {
	mounts, err := files.Parse(l.files, "/proc/self/mountinfo", func(b []byte) ([]parse.Mount, error) { return parse.Mounts(b), nil })
	if err != nil {
		return found(facts.FactCgroup, err, nil)
	}
	var c facts.Cgroup
	enabled, unified := parse.Controllers(l.files.Raw("/proc/cgroups")), ""
	usable := map[string]bool{}
	for _, m := range mounts {
		switch {
		case m.FSType == "cgroup2" && unified == "":
			unified = m.Point
		case m.FSType == "cgroup":
			c.Version = 1
			for _, o := range m.Options {
				usable[o] = usable[o] || enabled[o]
			}
		}
	}
	maps.DeleteFunc(usable, func(_ string, on bool) bool { return !on })
	c.Hybrid = c.Version == 1 && unified != ""
	if c.Version == 0 && unified != "" {
		c.Version = 2
		for _, name := range strings.Fields(l.files.Text(path.Join(unified, "cgroup.controllers"))) {
			usable[name] = true
		}
	}
	c.Controllers = slices.Sorted(maps.Keys(usable))
	return found(facts.FactCgroup, nil, func(f *facts.Facts) { f.Cgroup = c })
}

func (l look) kernel(context.Context) answer {
	release := l.files.Text("/proc/sys/kernel/osrelease")
	if release == "" {
		return found(facts.FactKernel, errors.New("/proc/sys/kernel/osrelease cannot be read"), nil)
	}
	dir := "/lib/modules/" + release
	e := parse.Evidence{
		Filesystems: l.files.Raw("/proc/filesystems"),
		Loaded:      l.files.Raw("/proc/modules"),
		Builtin:     l.files.Raw(dir + "/modules.builtin"),
		OnDisk:      l.files.Raw(dir + "/modules.dep"),
		Exists:      l.files.Exists,
	}
	for _, e.ConfigFrom = range []string{"/proc/config.gz", "/boot/config-" + release, dir + "/config"} {
		if e.Config = gunzip(l.files.Raw(e.ConfigFrom)); e.Config != nil {
			break
		}
	}
	k := facts.Kernel{Release: release, Features: parse.Features(e, l.req.Modules...)}
	return found(facts.FactKernel, nil, func(f *facts.Facts) { f.Kernel = k })
}

// gunzip unpacks at most 4 MiB; what is no gzip is returned as it is.
func gunzip(b []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return b
	}
	text, err := io.ReadAll(io.LimitReader(r, 4<<20))
	if err != nil {
		return nil
	}
	return text
}
