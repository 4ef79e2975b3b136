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
)

func (pr prober) gatherOS(context.Context) partResult {
	os, err := parseFile(pr.files, "/etc/os-release", parseOSRelease)
	if isMissing(err) {
		os, err = parseFile(pr.files, "/usr/lib/os-release", parseOSRelease)
	}
	os.Arch = pr.system.Arch
	os.Release = pr.readReleaseFile(os.ID)
	note := func(f *facts.Facts) { f.OS = os }
	a := newPartResult(facts.FactOS, err, note)
	a.record = note // the architecture is known even without os-release
	return a
}

// readReleaseFile returns the version in the release file of the distribution id, or ""
// if it has none. That of Ubuntu and its derivatives names the Debian that it comes from.
func (pr prober) readReleaseFile(id string) string {
	for _, path := range []string{"/etc/oracle-release", "/etc/redhat-release", "/etc/system-release", "/etc/debian_version"} {
		if pr.files.Exists(path) {
			if path == "/etc/debian_version" && (id == "ubuntu" || id == "linuxmint") {
				return ""
			}
			return parseReleaseFile(pr.files.ReadBytes(path))
		}
	}
	return ""
}

func (pr prober) gatherCPU(context.Context) partResult {
	cpu, err := parseFile(pr.files, "/proc/cpuinfo", parseCPUInfo)
	return newPartResult(facts.FactCPU, err, func(f *facts.Facts) { f.CPU = cpu })
}

func (pr prober) gatherMemory(context.Context) partResult {
	mem, err := parseFile(pr.files, "/proc/meminfo", parseMemInfo)
	if err != nil {
		return newPartResult(facts.FactMemory, err, nil)
	}
	// A kernel without swap support does not have this file.
	if text, err := pr.machine.ReadFile("/proc/swaps"); err == nil {
		mem.SwapOn = parseSwaps(text)
	}
	for _, s := range mem.SwapOn {
		mem.Swap += s.Size
	}
	return newPartResult(facts.FactMemory, nil, func(f *facts.Facts) { f.Memory = mem })
}

func (pr prober) gatherMachineID(context.Context) partResult {
	text, err := pr.machine.ReadFile("/etc/machine-id")
	if isMissing(err) {
		err = nil // an empty machine ID is a fact, not an unknown
	}
	return newPartResult(facts.FactMachineID, err, func(f *facts.Facts) { f.MachineID = strings.TrimSpace(string(text)) })
}

func (pr prober) gatherPrivilege(context.Context) partResult {
	p, err := parseFile(pr.files, "/proc/self/status", parseProcStatus)
	p.UserNamespace = isMappedUser(pr.files.ReadBytes("/proc/self/uid_map"))
	return newPartResult(facts.FactPrivilege, err, func(f *facts.Facts) { f.Privilege = p })
}

func (pr prober) gatherSecurity(context.Context) partResult {
	s, err := readSecurity(pr.files)
	return newPartResult(facts.FactSecurity, err, func(f *facts.Facts) { f.Security = s })
}

func (pr prober) gatherSettings(context.Context) partResult {
	s, err := readKernelSettings(pr.files, pr.req.Sysctls)
	return newPartResult(facts.FactSettings, err, func(f *facts.Facts) { f.Settings = s })
}

func (pr prober) gatherProxies(context.Context) partResult {
	all := readProxies(pr.files)
	return newPartResult(facts.FactProxies, nil, func(f *facts.Facts) { f.Proxies = all })
}

func (pr prober) gatherClock(context.Context) partResult {
	c := facts.Clock{Now: pr.system.Now().UTC(), Source: pr.files.ReadText("/sys/devices/system/clocksource/clocksource0/current_clocksource")}
	c.Zone = readTimeZone(pr.files, pr.system.Readlink)
	seconds, err := strconv.ParseInt(pr.files.ReadText("/sys/class/rtc/rtc0/since_epoch"), 10, 64)
	if err == nil && !strings.Contains(pr.files.ReadText("/etc/adjtime"), "LOCAL") { // a hardware clock in local time cannot be compared (hwclock(8))
		c.RTC = time.Unix(seconds, 0).UTC()
	}
	synced, err := pr.system.ClockSynced()
	c.Synced = synced
	note := func(f *facts.Facts) { f.Clock = c }
	a := newPartResult(facts.FactClockSync, err, note)
	a.record = note // the time itself is known even if its synchronization is not
	return a
}

// gatherCommands searches the directories in which systemd services find
// programs, independent of the PATH of this process: k0s and kubelet run as
// services.
func (pr prober) gatherCommands(context.Context) partResult {
	dirs := []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	have := map[string]string{}
	for _, name := range pr.req.Commands {
		for _, dir := range dirs {
			if p := path.Join(dir, name); have[name] == "" && pr.files.Exists(p) {
				have[name] = p
			}
		}
	}
	return newPartResult(facts.FactCommands, nil, func(f *facts.Facts) { f.Commands = have })
}

// cgroupDir is where container runtimes expect the control groups.
const cgroupDir = "/sys/fs/cgroup"

// gatherCgroup determines the version as container runtimes do, by the type of the
// file system at cgroupDir: a version 1 hierarchy that a program mounts elsewhere
// changes nothing. Controllers are those of that version that are mounted: a runtime
// cannot use others.
func (pr prober) gatherCgroup(context.Context) partResult {
	mounts, err := parseFile(pr.files, "/proc/self/mountinfo", func(b []byte) ([]Mount, error) { return parseMounts(b), nil })
	if err != nil {
		return newPartResult(facts.FactCgroup, err, nil)
	}
	var c facts.Cgroup
	usable := map[string]bool{}
	if m, ok := findMount(mounts, cgroupDir); ok && m.Point == cgroupDir && m.FSType == "cgroup2" {
		c.Version = 2
		for _, name := range strings.Fields(pr.files.ReadText(path.Join(cgroupDir, "cgroup.controllers"))) {
			usable[name] = true
		}
	} else {
		enabled := parseCgroupControllers(pr.files.ReadBytes("/proc/cgroups"))
		for _, m := range mounts {
			switch {
			case !isWithin(m.Point, cgroupDir):
			case m.FSType == "cgroup2":
				c.Hybrid = true
			case m.FSType == "cgroup":
				c.Version = 1
				for _, o := range m.Options {
					usable[o] = usable[o] || enabled[o]
				}
			}
		}
		c.Hybrid = c.Hybrid && c.Version == 1
		maps.DeleteFunc(usable, func(_ string, on bool) bool { return !on })
	}
	c.Controllers = slices.Sorted(maps.Keys(usable))
	return newPartResult(facts.FactCgroup, nil, func(f *facts.Facts) { f.Cgroup = c })
}

func (pr prober) gatherKernel(context.Context) partResult {
	release := pr.files.ReadText("/proc/sys/kernel/osrelease")
	if release == "" {
		return newPartResult(facts.FactKernel, errors.New("cannot read /proc/sys/kernel/osrelease"), nil)
	}
	dir := "/lib/modules/" + release
	e := KernelEvidence{
		Filesystems: pr.files.ReadBytes("/proc/filesystems"),
		Loaded:      pr.files.ReadBytes("/proc/modules"),
		Builtin:     pr.files.ReadBytes(dir + "/modules.builtin"),
		OnDisk:      pr.files.ReadBytes(dir + "/modules.dep"),
		Modprobe:    readDropIns(pr.files, "modprobe.d"),
		CommandLine: pr.files.ReadBytes("/proc/cmdline"),
		Locked:      pr.files.ReadText("/proc/sys/kernel/modules_disabled") == "1",
		Exists:      pr.files.Exists,
	}
	for _, e.ConfigFrom = range []string{"/proc/config.gz", "/boot/config-" + release, dir + "/config"} {
		if e.Config = gunzipIfPacked(pr.files.ReadBytes(e.ConfigFrom)); e.Config != nil {
			break
		}
	}
	k := facts.Kernel{Release: release, Features: detectKernelFeatures(e, pr.req.Modules...)}
	return newPartResult(facts.FactKernel, nil, func(f *facts.Facts) { f.Kernel = k })
}

// gunzipIfPacked returns b unpacked, limited to 4 MiB, or b itself if it is not
// in gzip format. It returns nil if b is damaged.
func gunzipIfPacked(b []byte) []byte {
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
