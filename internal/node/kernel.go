// Package node prepares a host for k0s and finds what a cluster leaves on it. Each part of the
// preparation (kernel modules and settings, folders, files from the bundle) has a Check, which
// changes nothing, and an Apply; both may be called at any time and repeatedly.
package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/node/cleanup"
	"github.com/plinthdev/plinth/internal/problem"
)

// Module is one kernel feature that a node needs.
type Module struct {
	Name         string // as modprobe knows it
	PresencePath string // path that exists if the feature is loaded or built in; "" for none
	Filesystem   bool   // /proc/filesystems lists it if it is loaded or built in
	Reason       string // which program needs it, for what
}

// Sysctl is one kernel setting.
type Sysctl struct {
	Key      string // dotted: net.ipv4.ip_forward
	Value    string // required value; "" if the program that sets it computes it
	AtLeast  bool   // Value is a lower bound: a greater current value is kept
	Optional bool   // a kernel without the key is accepted
	Reason   string // which program needs it, for what
}

// Kernel is the modules and settings that a node needs.
type Kernel struct {
	Host    host.Host
	Modules []Module
	Sysctls []Sysctl
}

// DefaultKernel returns the modules and settings that k0s with kube-router and kube-proxy needs.
// The modules and the forwarding keys are those that the k0s worker itself tries to set when it
// starts, where a failure is only a warning (k0s 1.33, kernelsetup_linux.go). The inotify limits
// are those that kind's known-issues page recommends against "too many open files".
func DefaultKernel(h host.Host) Kernel {
	return Kernel{
		Host: h,
		Modules: []Module{
			{Name: "overlay", Filesystem: true, Reason: "containerd's image layers"},
			{Name: "nf_conntrack", PresencePath: "/proc/sys/net/netfilter/nf_conntrack_max", Reason: "kube-proxy's service addresses"},
			{Name: "br_netfilter", PresencePath: "/proc/sys/net/bridge/bridge-nf-call-iptables", Reason: "services and network policies between pods of one node"},
		},
		Sysctls: []Sysctl{
			{Key: "net.ipv4.ip_forward", Value: "1", Reason: "packets of pods pass through the node"},
			{Key: "net.bridge.bridge-nf-call-iptables", Value: "1", Optional: true, Reason: "kube-proxy sees packets between pods of one node"},
			{Key: "net.bridge.bridge-nf-call-ip6tables", Value: "1", Optional: true, Reason: "the same for IPv6"},
			{Key: "fs.inotify.max_user_instances", Value: "512", AtLeast: true, Reason: "kubelet, containerd and log readers each hold instances"},
			{Key: "fs.inotify.max_user_watches", Value: "524288", AtLeast: true, Reason: "the same, per watched file"},
		},
	}
}

// Check returns what Apply would change, or "" if nothing. It changes nothing.
func (k Kernel) Check(context.Context) (missing string, err error) {
	var all []string
	for _, m := range k.Modules {
		if !k.hasModule(m) {
			all = append(all, "module "+m.Name)
		}
	}
	for _, s := range k.Sysctls {
		if now, ok := k.checkSysctl(s); ok {
			all = append(all, fmt.Sprintf("%s is %s, needs %s", s.Key, now, s.Value))
		}
	}
	for p, want := range k.desiredFiles() {
		if got, err := k.Host.ReadFile(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		} else if !bytes.Equal(got, want) {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return strings.Join(all, "; "), nil
}

// Apply loads the modules, sets the settings and makes both persistent. A setting that cannot be
// changed is an error only if its value is wrong.
func (k Kernel) Apply(ctx context.Context) error {
	for _, m := range k.Modules {
		if k.hasModule(m) {
			continue
		}
		_, err := k.Host.Run(ctx, host.Cmd{Argv: []string{"modprobe", m.Name}})
		if err == nil && !k.hasModule(m) {
			err = errors.New("modprobe succeeded, but the kernel does not list the module")
		}
		if err != nil {
			return problem.New(problem.ExitStep, "load kernel module "+m.Name, err,
				"the module is needed for "+m.Reason+"; install the distribution's package of kernel modules for the running kernel, or use a kernel that has it built in")
		}
	}
	for p, want := range k.desiredFiles() {
		if err := k.writeFile(p, want); err != nil {
			return problem.New(problem.ExitStep, "write "+p, err, "")
		}
	}
	for _, s := range k.Sysctls {
		if _, ok := k.checkSysctl(s); !ok {
			continue
		}
		_, err := k.Host.Run(ctx, host.Cmd{Argv: []string{"sysctl", "-q", "-w", s.Key + "=" + s.Value}})
		now, ok := k.checkSysctl(s)
		if !ok {
			continue
		}
		if err == nil {
			err = fmt.Errorf("the value is still %s", now)
		}
		return problem.New(problem.ExitStep, "set kernel setting "+s.Key+" to "+s.Value, err,
			"the setting is needed because "+s.Reason+"; in a container, change it on the machine that runs the container")
	}
	return nil
}

// desiredFiles returns the required content of the two configuration files by path; empty content
// means that the file must not exist. A module that is built in has no line, because systemd would
// report it as not found at boot. A limit that the host exceeds has no line, because it must not be
// lowered at boot.
func (k Kernel) desiredFiles() map[string][]byte {
	loaded, _ := k.Host.ReadFile("/proc/modules")
	var mods, sets strings.Builder
	for _, m := range k.Modules {
		if hasFirstField(loaded, m.Name) {
			fmt.Fprintf(&mods, "# %s\n%s\n", m.Reason, m.Name)
		}
	}
	for _, s := range k.Sysctls {
		now, exists := ReadSysctl(k.Host, s.Key)
		if (s.Optional && !exists) || (s.AtLeast && lessThan(s.Value, now)) {
			continue
		}
		fmt.Fprintf(&sets, "# %s\n%s = %s\n", s.Reason, s.Key, s.Value)
	}
	return map[string][]byte{cleanup.ModulesFile: []byte(mods.String()), cleanup.SysctlFile: []byte(sets.String())}
}

func (k Kernel) writeFile(p string, want []byte) error {
	if got, err := k.Host.ReadFile(p); err == nil && bytes.Equal(got, want) {
		return nil
	}
	if len(want) == 0 {
		return k.Host.RemoveAll(p)
	}
	return k.Host.Write(p, bytes.NewReader(want), 0o644)
}

// checkSysctl returns the current value of s and reports whether it must change.
func (k Kernel) checkSysctl(s Sysctl) (now string, wrong bool) {
	now, exists := ReadSysctl(k.Host, s.Key)
	switch {
	case !exists:
		return "unknown to this kernel", !s.Optional
	case s.AtLeast:
		return now, lessThan(now, s.Value)
	}
	return now, now != s.Value
}

// hasModule reports whether m is loaded or built in.
func (k Kernel) hasModule(m Module) bool {
	exists := func(p string) bool { _, err := k.Host.Lstat(p); return err == nil }
	if exists("/sys/module/"+m.Name) || (m.PresencePath != "" && exists(m.PresencePath)) {
		return true
	}
	if list, err := k.Host.ReadFile("/proc/filesystems"); m.Filesystem && err == nil && slices.Contains(strings.Fields(string(list)), m.Name) {
		return true
	}
	release, _ := ReadSysctl(k.Host, "kernel.osrelease")
	list, _ := k.Host.ReadFile(path.Join("/lib/modules", release, "modules.builtin"))
	for line := range strings.Lines(string(list)) {
		name, _, _ := strings.Cut(path.Base(strings.TrimSpace(line)), ".")
		if strings.ReplaceAll(name, "-", "_") == m.Name {
			return true
		}
	}
	return false
}

// ReadSysctl returns the current value of the kernel setting key. ok is false if the kernel does
// not have the key or does not let it be read.
func ReadSysctl(f host.Files, key string) (value string, ok bool) {
	b, err := f.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
	if err != nil {
		return "", false
	}
	return strings.TrimSpace(string(b)), true
}

// lessThan reports whether the decimal number a is less than b. It returns false if one of them is
// not a number.
func lessThan(a, b string) bool {
	x, errA := strconv.ParseInt(a, 10, 64)
	y, errB := strconv.ParseInt(b, 10, 64)
	return errA == nil && errB == nil && x < y
}

// hasFirstField reports whether the first word of a line of text is name.
func hasFirstField(text []byte, name string) bool {
	for line := range strings.Lines(string(text)) {
		if first, _, _ := strings.Cut(line, " "); first == name {
			return true
		}
	}
	return false
}
