package facts

import (
	"fmt"
	"strings"
)

// Traits are what hosts of one cluster should have alike; "" and 0 where it is
// not known.
type Traits struct {
	Arch    string `json:"arch,omitempty"`    // amd64
	System  string `json:"system,omitempty"`  // distribution and its main version: debian 12
	Cgroup  string `json:"cgroup,omitempty"`  // version of control groups: v2
	SELinux string `json:"selinux,omitempty"` // enforcing, permissive, or disabled
	Zone    string `json:"zone,omitempty"`    // time zone
	MTU     int    `json:"mtu,omitempty"`     // of the interface that has the default route
}

// Traits are those of this host.
func (f Facts) Traits() Traits {
	t := Traits{Arch: f.OS.Arch, SELinux: f.Security.SELinux, Zone: f.Clock.Zone, MTU: f.Network.MTU()}
	if f.OS.ID != "" {
		main, _, _ := strings.Cut(f.OS.Version, ".")
		t.System = strings.TrimSpace(f.OS.ID + " " + main)
	}
	if f.Cgroup.Version > 0 {
		t.Cgroup = fmt.Sprintf("v%d", f.Cgroup.Version)
	}
	return t
}

// Difference is one thing that two looks do not agree on.
type Difference struct {
	What string `json:"what"`
	Here string `json:"here"` // what is so here, and now
	Else string `json:"else"` // what is so on the other host, or was at the other time
}

// Differences are what two hosts do not have alike, of what is known of both.
func (t Traits) Differences(other Traits) []Difference {
	return differing([]Difference{
		{"architecture", t.Arch, other.Arch},
		{"system", t.System, other.System},
		{"control groups", t.Cgroup, other.Cgroup},
		{"SELinux", t.SELinux, other.SELinux},
		{"time zone", t.Zone, other.Zone},
		{"MTU", number(t.MTU), number(other.MTU)},
	})
}

// Since are the differences of this look from an earlier one at the same host:
// its traits, and what else an installation was built on.
func (f Facts) Since(was Facts) []Difference {
	return append(differing([]Difference{
		{"host name", f.Hostname, was.Hostname},
		{"machine id", f.MachineID, was.MachineID},
		{"address", f.own(), was.own()},
		{"kernel", f.Kernel.Release, was.Kernel.Release},
		{"processors", number(f.CPU.Count), number(was.CPU.Count)},
		{"memory", gigabytes(f.Memory.Total), gigabytes(was.Memory.Total)},
	}), f.Traits().Differences(was.Traits())...)
}

func differing(all []Difference) []Difference {
	var out []Difference
	for _, d := range all {
		if d.Here != d.Else && d.Here != "" && d.Else != "" {
			out = append(out, d)
		}
	}
	return out
}

// own is the first address under which other hosts know this one.
func (f Facts) own() string {
	if all := f.Network.Own(); len(all) > 0 {
		return all[0].String()
	}
	return ""
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// gigabytes is coarse: a new kernel alone takes a few megabytes more or less.
func gigabytes(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f GB", float64(n)/1e9)
}
