// Package settings owns what the files of a host say of its kernel's settings,
// limits, proxies, time zone and guards. It refuses to know which values are
// good.
package settings

import (
	"bytes"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/probe/files"
	"github.com/plinthdev/plinth/internal/probe/parse"
)

// Kernel reads the sysctls that are asked for, and the limits of services.
func Kernel(f files.Files, sysctls []string) (facts.Settings, error) {
	s := facts.Settings{
		Sysctls:   map[string]string{},
		Hugepages: parse.Chosen(f.Text("/sys/kernel/mm/transparent_hugepage/enabled")),
		Defrag:    parse.Chosen(f.Text("/sys/kernel/mm/transparent_hugepage/defrag")),
	}
	for _, key := range sysctls {
		if text, err := f.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/")); err == nil {
			s.Sysctls[key] = strings.Join(strings.Fields(string(text)), " ")
		}
	}
	s.Files = sysctlFiles(f, sysctls)
	s.Entropy, _ = strconv.Atoi(f.Text("/proc/sys/kernel/random/entropy_avail")) // 0 where the kernel does not say
	limits, err := files.Parse(f, "/proc/1/limits", parse.Limits)
	if err != nil {
		return s, err
	}
	s.OpenFiles, s.Processes = limits["Max open files"], limits["Max processes"]
	return s, nil
}

// sysctlFiles are the lines that set one of keys at boot, as systemd-sysctl
// orders them: by the file's name, whatever its folder, a name in an earlier
// folder hiding the same in a later (sysctl.d(5)); sysctl.conf comes last.
func sysctlFiles(f files.Files, keys []string) []facts.SysctlFile {
	byName := map[string]string{}
	for _, dir := range []string{"/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d"} {
		entries, err := f.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if path.Ext(e.Name()) == ".conf" {
				byName[e.Name()] = path.Join(dir, e.Name())
			}
		}
	}
	var names []string
	for name := range byName {
		names = append(names, name)
	}
	slices.Sort(names)
	var all []facts.SysctlFile
	for _, p := range append(paths(byName, names), "/etc/sysctl.conf") {
		for _, set := range parse.Sysctls(f.Raw(p)) {
			if slices.Contains(keys, set.Key) {
				set.Path = p
				all = append(all, set)
			}
		}
	}
	return all
}

func paths(byName map[string]string, names []string) []string {
	var all []string
	for _, n := range names {
		all = append(all, byName[n])
	}
	return all
}

// Security reads which guards watch over the host.
func Security(f files.Files) (facts.Security, error) {
	s := facts.Security{SELinux: "disabled", AppArmor: f.Text("/sys/module/apparmor/parameters/enabled") == "Y"}
	// Ubuntu's ufw unit is active even where ufw itself is off.
	s.UFW = bytes.Contains(f.Raw("/etc/ufw/ufw.conf"), []byte("\nENABLED=yes"))
	s.SudoPath = parse.SecurePath(f.Raw("/etc/sudoers"))
	// selinuxfs is mounted only where SELinux is on.
	if enforce, err := f.ReadFile("/sys/fs/selinux/enforce"); err == nil {
		s.SELinux = "permissive"
		if strings.TrimSpace(string(enforce)) == "1" {
			s.SELinux = "enforcing"
		}
	} else if !files.Missing(err) {
		return s, err
	}
	return s, nil
}

// Proxies lists the places that send programs through a proxy.
func Proxies(f files.Files) []facts.Proxy {
	var all []facts.Proxy
	for _, from := range []string{"/etc/environment", "/etc/systemd/system.conf"} {
		if p, ok := parse.Proxy(f.Raw(from)); ok {
			p.From = from
			all = append(all, p)
		}
	}
	if p, ok := parse.Proxy([]byte(strings.Join(os.Environ(), "\n"))); ok {
		p.From = "this command's environment"
		all = append(all, p)
	}
	return all
}

// Zone is the time zone that /etc/localtime links to. Without the file all
// programs take UTC (localtime(5)); a file in place of a link has no name.
func Zone(f files.Files, readlink func(string) (string, error)) string {
	const local = "/etc/localtime"
	to, err := readlink(local)
	switch {
	case err != nil && f.Exists(local):
		return "a file without a name"
	case err != nil:
		return "UTC"
	case !path.IsAbs(to):
		to = path.Join("/etc", to)
	}
	_, name, _ := strings.Cut(to, "zoneinfo/")
	if !f.Exists(to) {
		return ""
	}
	return name
}
