// Package facts owns the snapshot of one host: plain data that says what was
// found, and for all that could not be told, why not. It refuses to judge
// (hostpreflight does) and to look (probe does), so that a snapshot from any
// distribution is a JSON file and a test.
package facts

import (
	"net/netip"
	"strings"
	"time"
)

// Schema is the version of the JSON form; it grows when a field changes its meaning.
const Schema = 1

// Facts is one host at one moment. Sizes are bytes. An empty field means "is
// not there" only when Why gives no reason for it.
type Facts struct {
	Schema    int               `json:"schema"`
	Source    string            `json:"source,omitempty"` // where a fixture comes from; empty for a live host
	TookMS    int64             `json:"tookMs"`           // how long the look took
	OS        OS                `json:"os"`
	Kernel    Kernel            `json:"kernel"`
	CPU       CPU               `json:"cpu"`
	Memory    Memory            `json:"memory"`
	Cgroup    Cgroup            `json:"cgroup"`
	Disks     []Disk            `json:"disks,omitempty"`
	Hostname  string            `json:"hostname"`
	MachineID string            `json:"machineId"`
	Lookups   []Lookup          `json:"lookups,omitempty"`
	Network   Network           `json:"network"`
	Ports     []Port            `json:"ports,omitempty"`
	Clock     Clock             `json:"clock"`
	Privilege Privilege         `json:"privilege"`
	Systemd   Systemd           `json:"systemd"`
	Units     []Unit            `json:"units,omitempty"`    // those of Request.Units that systemd knows
	Commands  map[string]string `json:"commands"`           // name → path, of those of Request.Commands that were found
	Packages  []Package         `json:"packages,omitempty"` // those of Request.Packages that are installed
	Traces    []Trace           `json:"traces,omitempty"`
	Security  Security          `json:"security"`
	Settings  Settings          `json:"settings"`
	Filters   []Filter          `json:"filters,omitempty"` // packet filters that refuse what no rule allows
	Proxies   []Proxy           `json:"proxies,omitempty"` // settings of programs on this host
	Sources   []Source          `json:"sources,omitempty"` // those of Request.Sources
	Dials     []Dial            `json:"dials,omitempty"`   // those of Request.Dials
	Measures  Measures          `json:"measures"`
	Peers     []Peer            `json:"peers,omitempty"` // hosts that were asked by name
	Unknown   []Unknown         `json:"unknown,omitempty"`
}

// Unknown is a fact that could not be gathered. "Could not tell" is not "failed".
type Unknown struct {
	Fact string `json:"fact"` // one of the Fact names, or one with a ":part" behind it
	Why  string `json:"why"`
}

// Names of facts, as they stand in Unknown.Fact.
const (
	FactOS        = "os"
	FactKernel    = "kernel"
	FactCPU       = "cpu"
	FactMemory    = "memory"
	FactCgroup    = "cgroup"
	FactDisk      = "disk" // disk:PATH
	FactHostname  = "hostname"
	FactLookup    = "lookup" // lookup:NAME
	FactNetwork   = "network"
	FactPort      = "port" // port:6443/tcp
	FactClock     = "clock"
	FactSync      = "clock-sync"
	FactPrivilege = "privilege"
	FactSystemd   = "systemd"
	FactCommands  = "commands"
	FactTraces    = "traces"
	FactIptables  = "iptables"
	FactSecurity  = "security"
	FactMachineID = "machine-id"
	FactSettings  = "settings"
	FactProxies   = "proxies"
	FactServer    = "server" // server:ADDRESS, a name server
	FactSource    = "source" // source:URL
	FactDial      = "dial"   // dial:ADDRESS
	FactPackages  = "packages"
	FactMeasure   = "measure" // measure:fsync, measure:write, measure:core
)

// Why says why fact could not be gathered, "" when it was. A reason for a
// whole ("disk") holds for its parts ("disk:/var") too.
func (f Facts) Why(fact string) string {
	whole, _, _ := strings.Cut(fact, ":")
	for _, u := range f.Unknown {
		if u.Fact == fact || u.Fact == whole {
			return u.Why
		}
	}
	return ""
}

// Disk finds what is known of path.
func (f Facts) Disk(path string) (Disk, bool) {
	for _, d := range f.Disks {
		if d.Path == path {
			return d, true
		}
	}
	return Disk{}, false
}

// Port finds what became of binding key.
func (f Facts) Port(key PortKey) (Port, bool) {
	for _, p := range f.Ports {
		if p.PortKey == key {
			return p, true
		}
	}
	return Port{}, false
}

// Lookup finds how name resolved.
func (f Facts) Lookup(name string) (Lookup, bool) {
	for _, l := range f.Lookups {
		if l.Name == name {
			return l, true
		}
	}
	return Lookup{}, false
}

// Unit finds the state of a unit; one that systemd does not know is not found.
func (f Facts) Unit(name string) (Unit, bool) {
	for _, u := range f.Units {
		if u.Name == name {
			return u, true
		}
	}
	return Unit{}, false
}

// OS is what /etc/os-release and the processor say.
type OS struct {
	ID      string `json:"id"`      // debian, ubuntu, rhel, …
	Like    string `json:"like"`    // ID_LIKE, space separated
	Version string `json:"version"` // VERSION_ID: 12, 24.04, 9.6
	Name    string `json:"name"`    // PRETTY_NAME
	Arch    string `json:"arch"`    // as Go says it: amd64, arm64
}

// CPU is the processors this host may use.
type CPU struct {
	Count int    `json:"count"`           // online processors
	Model string `json:"model,omitempty"` // empty where the kernel does not say
	Level int    `json:"level,omitempty"` // x86-64 micro-architecture level 1 to 4 (x86-64 psABI); 0 on other architectures
}

// Memory in bytes.
type Memory struct {
	Total     uint64 `json:"total"`
	Available uint64 `json:"available"` // MemAvailable: without swapping
	Swap      uint64 `json:"swap"`      // size of all active swap
	SwapOn    []Swap `json:"swapOn,omitempty"`
}

// Swap is one active swap device or file.
type Swap struct {
	Path string `json:"path"`
	Size uint64 `json:"size"`
}

// Disk is the file system under one path that was asked for.
type Disk struct {
	Path       string   `json:"path"`              // as asked
	Exists     string   `json:"exists"`            // the path itself, or its nearest parent that is there, links resolved
	Symlink    string   `json:"symlink,omitempty"` // first link on the way to Path
	Mount      string   `json:"mount"`             // mount point
	Device     string   `json:"device"`
	FSType     string   `json:"fsType"`
	Options    []string `json:"options"`   // of the mount and of its file system: rw, noexec, nosuid, …
	Size       uint64   `json:"size"`      // whole file system
	Free       uint64   `json:"free"`      // free for root
	Available  uint64   `json:"available"` // free for everyone; what kubelet goes by
	Inodes     uint64   `json:"inodes"`    // 0 where the file system has no fixed number
	InodesFree uint64   `json:"inodesFree"`
	FType      string   `json:"ftype,omitempty"`  // of XFS: 1 when folders name the type of their entries, else 0
	Closed     string   `json:"closed,omitempty"` // first folder on the way to Path that not everyone may pass
}

// Lookup is one name look-up as programs on this host do it: /etc/hosts, then DNS.
type Lookup struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	TookMS    int64        `json:"tookMs"`
	Error     string       `json:"error,omitempty"`
}

// Clock is the host's idea of the time.
type Clock struct {
	Now    time.Time `json:"now"`
	Synced bool      `json:"synced"`           // the kernel says that its clock is disciplined
	Source string    `json:"source,omitempty"` // current clock source: tsc, kvm-clock, …
	RTC    time.Time `json:"rtc,omitzero"`     // what the hardware's clock said at Now; zero without one
	Zone   string    `json:"zone,omitempty"`   // /etc/localtime's zone; "" when it leads nowhere
}

// Privilege is what this process may do.
type Privilege struct {
	UID     int      `json:"uid"`               // effective user
	Missing []string `json:"missing,omitempty"` // capabilities (man 7 capabilities, lower case) of CAP_CHOWN…CAP_AUDIT_READ that are not effective
}

// Systemd is the service manager.
type Systemd struct {
	Booted  bool   `json:"booted"`            // the host runs under systemd
	Version string `json:"version,omitempty"` // as it names itself: "252.39-1~deb12u1"
	State   string `json:"state,omitempty"`   // running, degraded, starting, …
}

// Unit is a systemd unit that is loaded or has a unit file.
type Unit struct {
	Name    string `json:"name"`   // without .service
	Active  string `json:"active"` // active, inactive, failed, …
	Path    string `json:"path,omitempty"`
	MainPID int    `json:"mainPid,omitempty"`
}

// Package is one software package that is installed.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"` // as the package manager writes it
}

// Security is what watches over the host.
type Security struct {
	SELinux  string `json:"selinux"`            // enforcing, permissive, or disabled
	AppArmor bool   `json:"apparmor"`           // the kernel enforces AppArmor profiles
	UFW      bool   `json:"ufw"`                // ufw is switched on
	SudoPath string `json:"sudoPath,omitempty"` // where sudo looks for programs; "" where it does not say
}

// Filter is a chain of the packet filter that ends in a refusal.
type Filter struct {
	Table  string `json:"table"`  // "inet filter"; "iptables" for one of iptables
	Chain  string `json:"chain"`  // INPUT
	Hook   string `json:"hook"`   // input or forward
	Policy string `json:"policy"` // drop, or reject for a last rule that refuses all
}

// Trace is one sign that some software is, or was, on this host.
type Trace struct {
	Of     Software `json:"of"`
	Kind   string   `json:"kind"` // file, data (a folder with something in it), socket, cni-config, link, iptables, mount
	Path   string   `json:"path,omitempty"`
	Detail string   `json:"detail,omitempty"` // a link's address, how many rules
}

// Software names what left a trace.
type Software string

// The software that probe knows to look for.
const (
	K0s             Software = "k0s"
	Kubeadm         Software = "kubeadm"
	Kubelet         Software = "kubelet"
	K3s             Software = "k3s"
	RKE2            Software = "rke2"
	MicroK8s        Software = "microk8s"
	KURL            Software = "kurl"
	EmbeddedCluster Software = "embedded-cluster"
	Etcd            Software = "etcd"
	CNI             Software = "cni"
	KubeProxy       Software = "kube-proxy"
	Docker          Software = "docker"
	Containerd      Software = "containerd"
	CRIO            Software = "cri-o"
)
