package facts

import (
	"fmt"
	"strings"
)

// Traits are the properties that should be equal on all hosts of a cluster; "" or 0
// if they are not known.
type Traits struct {
	Arch    string `json:"arch,omitempty"`    // amd64
	System  string `json:"system,omitempty"`  // distribution and its major version: debian 12
	Cgroup  string `json:"cgroup,omitempty"`  // control group version: v2
	SELinux string `json:"selinux,omitempty"` // enforcing, permissive, or disabled
	Zone    string `json:"zone,omitempty"`    // time zone
	MTU     int    `json:"mtu,omitempty"`     // MTU of the interface with the default route
}

// Traits returns the traits of this host.
func (f Facts) Traits() Traits {
	t := Traits{Arch: f.OS.Arch, SELinux: f.Security.SELinux, Zone: f.Clock.Zone, MTU: f.Network.MTU()}
	if f.OS.ID != "" {
		major, _, _ := strings.Cut(f.OS.Version, ".")
		t.System = strings.TrimSpace(f.OS.ID + " " + major)
	}
	if f.Cgroup.Version > 0 {
		t.Cgroup = fmt.Sprintf("v%d", f.Cgroup.Version)
	}
	return t
}

// Difference is one property that differs between two hosts, or on one host between
// two times.
type Difference struct {
	What  string `json:"what"`
	Here  string `json:"here"` // value on this host now
	Other string `json:"else"` // value on the other host, or at the earlier time
}

// Differences returns the traits that differ between t and other. Traits that are not
// known on both hosts are left out.
func (t Traits) Differences(other Traits) []Difference {
	return knownDifferences([]Difference{
		{"architecture", t.Arch, other.Arch},
		{"system", t.System, other.System},
		{"control groups", t.Cgroup, other.Cgroup},
		{"SELinux", t.SELinux, other.SELinux},
		{"time zone", t.Zone, other.Zone},
		{"MTU", formatNumber(t.MTU), formatNumber(other.MTU)},
	})
}

// DifferencesSince returns the differences from earlier facts of the same host: its
// traits, and other properties that an installation depends on.
func (f Facts) DifferencesSince(was Facts) []Difference {
	return append(knownDifferences([]Difference{
		{"kernel", f.Kernel.Release, was.Kernel.Release},
		{"processors", formatNumber(f.CPU.Count), formatNumber(was.CPU.Count)},
		{"memory", formatGigabytes(f.Memory.Total), formatGigabytes(was.Memory.Total)},
	}), f.Traits().Differences(was.Traits())...)
}

// knownDifferences returns the entries of all whose values differ and are both known.
func knownDifferences(all []Difference) []Difference {
	var out []Difference
	for _, d := range all {
		if d.Here != d.Other && d.Here != "" && d.Other != "" {
			out = append(out, d)
		}
	}
	return out
}

// formatNumber returns n, or "" for 0, which means unknown.
func formatNumber(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// formatGigabytes returns n bytes in whole gigabytes, or "" for 0. It is coarse,
// because a new kernel alone uses a few megabytes more or less.
func formatGigabytes(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f GB", float64(n)/1e9)
}
