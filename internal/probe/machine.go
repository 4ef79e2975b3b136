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

func (pr look) os(context.Context) answer {
	os, err := files.Parse(pr.files, "/etc/os-release", parse.OSRelease)
	if files.Missing(err) {
		os, err = files.Parse(pr.files, "/usr/lib/os-release", parse.OSRelease)
	}
	os.Arch = pr.k.Arch
	note := func(f *facts.Facts) { f.OS = os }
	a := found(facts.FactOS, err, note)
	a.note = note // the architecture is known even without os-release
	return a
}

func (pr look) cpu(context.Context) answer {
	cpu, err := files.Parse(pr.files, "/proc/cpuinfo", parse.CPUInfo)
	return found(facts.FactCPU, err, func(f *facts.Facts) { f.CPU = cpu })
}

func (pr look) memory(context.Context) answer {
	mem, err := files.Parse(pr.files, "/proc/meminfo", parse.MemInfo)
	if err != nil {
		return found(facts.FactMemory, err, nil)
	}
	// A kernel without swap support does not have this file.
	if text, err := pr.m.ReadFile("/proc/swaps"); err == nil {
		mem.SwapOn = parse.Swaps(text)
	}
	for _, s := range mem.SwapOn {
		mem.Swap += s.Size
	}
	return found(facts.FactMemory, nil, func(f *facts.Facts) { f.Memory = mem })
}

func (pr look) machineID(context.Context) answer {
	text, err := pr.m.ReadFile("/etc/machine-id")
	if files.Missing(err) {
		err = nil // an empty machine ID is a fact, not an unknown
	}
	return found(facts.FactMachineID, err, func(f *facts.Facts) { f.MachineID = strings.TrimSpace(string(text)) })
}

func (pr look) privilege(context.Context) answer {
	p, err := files.Parse(pr.files, "/proc/self/status", parse.Status)
	return found(facts.FactPrivilege, err, func(f *facts.Facts) { f.Privilege = p })
}

func (pr look) security(context.Context) answer {
	s, err := settings.Security(pr.files)
	return found(facts.FactSecurity, err, func(f *facts.Facts) { f.Security = s })
}

func (pr look) settings(context.Context) answer {
	s, err := settings.Kernel(pr.files, pr.req.Sysctls)
	return found(facts.FactSettings, err, func(f *facts.Facts) { f.Settings = s })
}

func (pr look) proxies(context.Context) answer {
	all := settings.Proxies(pr.files)
	return found(facts.FactProxies, nil, func(f *facts.Facts) { f.Proxies = all })
}

func (pr look) clock(context.Context) answer {
	c := facts.Clock{Now: pr.k.Now().UTC(), Source: pr.files.Text("/sys/devices/system/clocksource/clocksource0/current_clocksource")}
	c.Zone = settings.Zone(pr.files, pr.k.Readlink)
	seconds, err := strconv.ParseInt(pr.files.Text("/sys/class/rtc/rtc0/since_epoch"), 10, 64)
	if err == nil && !strings.Contains(pr.files.Text("/etc/adjtime"), "LOCAL") { // a hardware clock in local time cannot be compared (hwclock(8))
		c.RTC = time.Unix(seconds, 0).UTC()
	}
	synced, err := pr.k.Synced()
	c.Synced = synced
	note := func(f *facts.Facts) { f.Clock = c }
	a := found(facts.FactSync, err, note)
	a.note = note // the time itself is known even if its synchronization is not
	return a
}

// gatherCommands searches the directories in which systemd services find
// programs, independent of the PATH of this process: k0s and kubelet run as
// services.
func (pr look) commands(context.Context) answer {
	dirs := []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	have := map[string]string{}
	for _, name := range pr.req.Commands {
		for _, dir := range dirs {
			if p := path.Join(dir, name); have[name] == "" && pr.files.Exists(p) {
				have[name] = p
			}
		}
	}
	return found(facts.FactCommands, nil, func(f *facts.Facts) { f.Commands = have })
}

// gatherCgroup determines the control group version and controllers from what
// is mounted: a runtime cannot use a controller that the kernel has but that is
// not mounted.
func (pr look) cgroup(context.Context) answer {
	mounts, err := files.Parse(pr.files, "/proc/self/mountinfo", func(b []byte) ([]parse.Mount, error) { return parse.Mounts(b), nil })
	if err != nil {
		return found(facts.FactCgroup, err, nil)
	}
	var c facts.Cgroup
	enabled, unified := parse.Controllers(pr.files.Raw("/proc/cgroups")), ""
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
		for _, name := range strings.Fields(pr.files.Text(path.Join(unified, "cgroup.controllers"))) {
			usable[name] = true
		}
	}
	c.Controllers = slices.Sorted(maps.Keys(usable))
	return found(facts.FactCgroup, nil, func(f *facts.Facts) { f.Cgroup = c })
}

func (pr look) kernel(context.Context) answer {
	release := pr.files.Text("/proc/sys/kernel/osrelease")
	if release == "" {
		return found(facts.FactKernel, errors.New("cannot read /proc/sys/kernel/osrelease"), nil)
	}
	dir := "/lib/modules/" + release
	e := parse.Evidence{
		Filesystems: pr.files.Raw("/proc/filesystems"),
		Loaded:      pr.files.Raw("/proc/modules"),
		Builtin:     pr.files.Raw(dir + "/modules.builtin"),
		OnDisk:      pr.files.Raw(dir + "/modules.dep"),
		Exists:      pr.files.Exists,
	}
	for _, e.ConfigFrom = range []string{"/proc/config.gz", "/boot/config-" + release, dir + "/config"} {
		if e.Config = gunzip(pr.files.Raw(e.ConfigFrom)); e.Config != nil {
			break
		}
	}
	k := facts.Kernel{Release: release, Features: parse.Features(e, pr.req.Modules...)}
	return found(facts.FactKernel, nil, func(f *facts.Facts) { f.Kernel = k })
}

// gunzipIfPacked returns b unpacked, limited to 4 MiB, or b itself if it is not
// in gzip format. It returns nil if b is damaged.
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
