package probe

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/probe/parse"
)

// read parses a file that must be there.
func read[T any](l look, path string, parse func([]byte) (T, error)) (T, error) {
	text, err := l.m.ReadFile(path)
	if err != nil {
		var none T
		return none, err
	}
	v, err := parse(text)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return v, err
}

// raw is a file's content; nil when it cannot be read.
func (l look) raw(path string) []byte {
	b, err := l.m.ReadFile(path)
	if err != nil {
		return nil
	}
	return b
}

// text is a file's content, trimmed; "" when it cannot be read.
func (l look) text(path string) string { return strings.TrimSpace(string(l.raw(path))) }

func (l look) exists(path string) bool {
	_, err := l.m.Lstat(path)
	return err == nil
}

func (l look) os(context.Context) answer {
	os, err := read(l, "/etc/os-release", parse.OSRelease)
	if missing(err) {
		os, err = read(l, "/usr/lib/os-release", parse.OSRelease)
	}
	os.Arch = l.k.Arch
	note := func(f *facts.Facts) { f.OS = os }
	a := found(facts.FactOS, err, note)
	a.note = note // the architecture is known all the same
	return a
}

func (l look) cpu(context.Context) answer {
	cpu, err := read(l, "/proc/cpuinfo", parse.CPUInfo)
	return found(facts.FactCPU, err, func(f *facts.Facts) { f.CPU = cpu })
}

func (l look) memory(context.Context) answer {
	mem, err := read(l, "/proc/meminfo", parse.MemInfo)
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
	if missing(err) {
		err = nil // a fact, not a doubt
	}
	return found(facts.FactMachineID, err, func(f *facts.Facts) { f.MachineID = strings.TrimSpace(string(text)) })
}

func (l look) privilege(context.Context) answer {
	p, err := read(l, "/proc/self/status", parse.Status)
	return found(facts.FactPrivilege, err, func(f *facts.Facts) { f.Privilege = p })
}

func (l look) security(context.Context) answer {
	s := facts.Security{SELinux: "disabled", AppArmor: l.text("/sys/module/apparmor/parameters/enabled") == "Y"}
	// Ubuntu's ufw unit is active even where ufw itself is off.
	s.UFW = bytes.Contains(l.raw("/etc/ufw/ufw.conf"), []byte("\nENABLED=yes"))
	// selinuxfs is mounted only where SELinux is on.
	if enforce, err := l.m.ReadFile("/sys/fs/selinux/enforce"); err == nil {
		s.SELinux = "permissive"
		if strings.TrimSpace(string(enforce)) == "1" {
			s.SELinux = "enforcing"
		}
	} else if !missing(err) {
		return found(facts.FactSecurity, err, nil)
	}
	return found(facts.FactSecurity, nil, func(f *facts.Facts) { f.Security = s })
}

func (l look) clock(context.Context) answer {
	c := facts.Clock{Now: l.k.Now().UTC(), Source: l.text("/sys/devices/system/clocksource/clocksource0/current_clocksource")}
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
			if p := path.Join(dir, name); have[name] == "" && l.exists(p) {
				have[name] = p
			}
		}
	}
	return found(facts.FactCommands, nil, func(f *facts.Facts) { f.Commands = have })
}

// cgroup goes by what is mounted: a controller that the kernel has and
// nobody mounted cannot be used by a runtime.
func (l look) cgroup(context.Context) answer {
	mounts, err := read(l, "/proc/self/mountinfo", func(b []byte) ([]parse.Mount, error) { return parse.Mounts(b), nil })
	if err != nil {
		return found(facts.FactCgroup, err, nil)
	}
	var c facts.Cgroup
	enabled, unified := parse.Controllers(l.raw("/proc/cgroups")), ""
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
		for _, name := range strings.Fields(l.text(path.Join(unified, "cgroup.controllers"))) {
			usable[name] = true
		}
	}
	c.Controllers = slices.Sorted(maps.Keys(usable))
	return found(facts.FactCgroup, nil, func(f *facts.Facts) { f.Cgroup = c })
}

func (l look) kernel(context.Context) answer {
	release := l.text("/proc/sys/kernel/osrelease")
	if release == "" {
		return found(facts.FactKernel, errors.New("/proc/sys/kernel/osrelease cannot be read"), nil)
	}
	dir := "/lib/modules/" + release
	e := parse.Evidence{
		Filesystems: l.raw("/proc/filesystems"),
		Loaded:      l.raw("/proc/modules"),
		Builtin:     l.raw(dir + "/modules.builtin"),
		OnDisk:      l.raw(dir + "/modules.dep"),
		Exists:      l.exists,
	}
	for _, e.ConfigFrom = range []string{"/proc/config.gz", "/boot/config-" + release, dir + "/config"} {
		if e.Config = gunzip(l.raw(e.ConfigFrom)); e.Config != nil {
			break
		}
	}
	k := facts.Kernel{Release: release, Features: parse.Features(e)}
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
