// Package facts defines the snapshot of one host: plain data that says what was
// found and, for each fact that could not be gathered, why. internal/probe gathers
// facts and hostpreflight checks them, so a test can use the snapshot of any
// distribution as a JSON file.
package facts

import (
	"net/netip"
	"strings"
	"time"
)

// Schema is the version of the JSON format. It increases when the meaning of a field
// changes.
const Schema = 1

// Facts is the state of one host at one time. Sizes are in bytes. An empty field
// means that the thing does not exist only if UnknownReason returns "" for it.
type Facts struct {
	Schema    int               `json:"schema"`
	Source    string            `json:"source,omitempty"` // origin of a test fixture; empty for a live host
	TookMS    int64             `json:"tookMs"`           // how long gathering took, in milliseconds
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
	Units     []Unit            `json:"units,omitempty"`    // units of Request.Units that systemd knows
	Commands  map[string]string `json:"commands"`           // name → path, for the programs of Request.Commands that were found
	Packages  []Package         `json:"packages,omitempty"` // packages of Request.Packages that are installed
	Traces    []Trace           `json:"traces,omitempty"`
	Security  Security          `json:"security"`
	Settings  Settings          `json:"settings"`
	Runtime   RuntimeConfig     `json:"runtime,omitzero"`
	Filters   []FilterChain     `json:"filters,omitempty"`   // chains of the packet filter
	Proxies   []Proxy           `json:"proxies,omitempty"`   // proxy settings on this host
	Sources   []Source          `json:"sources,omitempty"`   // results for Request.Sources
	Dials     []Dial            `json:"dials,omitempty"`     // results for Request.Dials
	Devices   []BlockDevice     `json:"devices,omitempty"`   // all block devices, if Request.Devices is set
	Services  []Service         `json:"services,omitempty"`  // services whose names begin with one of Request.Services
	KeyPairs  []KeyPair         `json:"keyPairs,omitempty"`  // results for Request.KeyPairs
	Balancers []Balancer        `json:"balancers,omitempty"` // results for Request.Balancers
	DNS       []DNSAnswer       `json:"dns,omitempty"`       // results for Request.DNS
	Runs      []CommandResult   `json:"-"`                   // results for Request.Runs; a program's output may be secret and is not stored
	Measures  Measures          `json:"measures"`
	Peers     []Peer            `json:"peers,omitempty"` // other hosts that were checked
	Unknown   []Unknown         `json:"unknown,omitempty"`

	ForeignTables []string `json:"foreign,omitempty"` // tables of iptables that it cannot read, such as "ip filter": others wrote them
}

// Unknown is a fact that could not be gathered. Checks of it are unknown, not failed.
type Unknown struct {
	Fact   string `json:"fact"` // one of the Fact names, optionally followed by ":part"
	Reason string `json:"reason"`
}

// Names of facts, as used in Unknown.Fact.
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
	FactClockSync = "clock-sync"
	FactPrivilege = "privilege"
	FactSystemd   = "systemd"
	FactCommands  = "commands"
	FactTraces    = "traces"
	FactIptables  = "iptables"
	FactSecurity  = "security"
	FactMachineID = "machine-id"
	FactSettings  = "settings"
	FactRuntime   = "runtime"
	FactProxies   = "proxies"
	FactSource    = "source" // source:URL
	FactDial      = "dial"   // dial:ADDRESS
	FactPackages  = "packages"
	FactMeasure   = "measure" // measure:fsync, measure:write, measure:core
	FactDevices   = "devices"
	FactServices  = "services"
	FactKeyPair   = "key-pair" // key-pair:PATH of the certificate
	FactBalancer  = "balancer" // balancer:ADDRESS
	FactDNS       = "dns"
	FactRun       = "run" // run:NAME
)

// UnknownReason returns why fact could not be gathered, or "" if it was. A reason for
// a fact ("disk") also applies to its parts ("disk:/var").
func (f Facts) UnknownReason(fact string) string {
	whole, _, _ := strings.Cut(fact, ":")
	for _, u := range f.Unknown {
		if u.Fact == fact || u.Fact == whole {
			return u.Reason
		}
	}
	return ""
}

// Disk returns the file system of path, and false if it was not gathered.
func (f Facts) Disk(path string) (Disk, bool) {
	for _, d := range f.Disks {
		if d.Path == path {
			return d, true
		}
	}
	return Disk{}, false
}

// Port returns the result of binding key, and false if it was not tried.
func (f Facts) Port(key PortKey) (Port, bool) {
	for _, p := range f.Ports {
		if p.PortKey == key {
			return p, true
		}
	}
	return Port{}, false
}

// Lookup returns the result of resolving name, and false if it was not tried.
func (f Facts) Lookup(name string) (Lookup, bool) {
	for _, l := range f.Lookups {
		if l.Name == name {
			return l, true
		}
	}
	return Lookup{}, false
}

// Unit returns the state of the systemd unit name, and false if systemd does not know
// it.
func (f Facts) Unit(name string) (Unit, bool) {
	for _, u := range f.Units {
		if u.Name == name {
			return u, true
		}
	}
	return Unit{}, false
}

// OS is the operating system, from /etc/os-release, and the architecture.
type OS struct {
	ID      string `json:"id"`                // debian, ubuntu, rhel, …
	Like    string `json:"like"`              // ID_LIKE, space separated
	Version string `json:"version"`           // VERSION_ID: 12, 24.04, 9.6
	Release string `json:"release,omitempty"` // version in the distribution's own release file, which may be more exact: 12.5, 2023.6.20241010
	Name    string `json:"name"`              // PRETTY_NAME
	Arch    string `json:"arch"`              // as in GOARCH: amd64, arm64
}

// CPU is the processors that this host can use.
type CPU struct {
	Count int      `json:"count"`           // online processors
	Cores int      `json:"cores,omitempty"` // physical cores of them; 0 if the kernel does not report it
	Flags []string `json:"flags,omitempty"` // features, in the kernel's names
	Model string   `json:"model,omitempty"` // empty if the kernel does not report it
	Level int      `json:"level,omitempty"` // x86-64 micro-architecture level 1 to 4 (x86-64 psABI); 0 on other architectures
}

// Memory is the memory of the host, in bytes.
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

// Disk is the file system of one requested path.
type Disk struct {
	Path       string   `json:"path"`              // as requested
	Exists     string   `json:"exists"`            // the path itself, or its nearest existing parent, with links resolved
	Symlink    string   `json:"symlink,omitempty"` // first symbolic link in Path
	Target     string   `json:"target,omitempty"`  // absolute path that Symlink contains
	Mount      string   `json:"mount"`             // mount point
	Number     string   `json:"number,omitempty"`  // major:minor; the same for every mount of one file system
	Device     string   `json:"device"`
	FSType     string   `json:"fsType"`
	Options    []string `json:"options"`   // of the mount and of its file system: rw, noexec, nosuid, …
	Size       uint64   `json:"size"`      // whole file system
	Free       uint64   `json:"free"`      // free for root
	Available  uint64   `json:"available"` // free for all users; the value that kubelet uses
	Inodes     uint64   `json:"inodes"`    // 0 if the file system has no fixed number
	InodesFree uint64   `json:"inodesFree"`
	FType      string   `json:"ftype,omitempty"`  // XFS only: 1 if directory entries contain the file type, else 0
	Closed     string   `json:"closed,omitempty"` // first parent directory of Path, with links resolved, that not every user can enter
}

// FileSystem returns an identifier that is the same for every mount of one file system
// (bind mounts, btrfs subvolumes) and for all datasets of one ZFS pool, which share
// their space.
func (d Disk) FileSystem() string {
	switch {
	case d.FSType == "zfs":
		pool, _, _ := strings.Cut(d.Device, "/")
		return "pool " + pool
	case d.Number != "":
		return d.Number
	}
	return d.Mount // facts of an older version
}

// Lookup is one name lookup as programs on this host do it: /etc/hosts, then DNS.
type Lookup struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	TookMS    int64        `json:"tookMs"`
	Error     string       `json:"error,omitempty"`
}

// Clock is the time on the host and where it comes from.
type Clock struct {
	Now    time.Time `json:"now"`
	Synced bool      `json:"synced"`           // the kernel reports its clock as synchronized
	Source string    `json:"source,omitempty"` // current clock source: tsc, kvm-clock, …
	RTC    time.Time `json:"rtc,omitzero"`     // time of the hardware clock at Now; zero if there is none
	Zone   string    `json:"zone,omitempty"`   // zone of /etc/localtime; "" if it is not valid
}

// Privilege is the privileges of this process.
type Privilege struct {
	UID           int      `json:"uid"`                     // effective user id
	Missing       []string `json:"missing,omitempty"`       // capabilities (man 7 capabilities, lower case) of CAP_CHOWN…CAP_AUDIT_READ that are not effective
	UserNamespace bool     `json:"userNamespace,omitempty"` // user ids are mapped: root and its capabilities are limited to a container
}

// Systemd is the service manager.
type Systemd struct {
	Booted  bool   `json:"booted"`            // the host runs under systemd
	Version string `json:"version,omitempty"` // as reported by systemd: "252.39-1~deb12u1"
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
	Version string `json:"version"` // in the format of the package manager
}

// Security is the security software of the host.
type Security struct {
	SELinux  string `json:"selinux"`            // enforcing, permissive, or disabled
	AppArmor bool   `json:"apparmor"`           // the kernel enforces AppArmor profiles
	UFW      bool   `json:"ufw"`                // ufw is enabled
	SudoPath string `json:"sudoPath,omitempty"` // secure_path of sudo; "" if it is not set

	// FapolicydAllows is the files and directories, these with a slash at the end, from which fapolicyd
	// lets every user run every program.
	FapolicydAllows []string `json:"fapolicydAllows,omitempty"`
	FapolicydLogs   bool     `json:"fapolicydLogs,omitempty"` // fapolicyd only logs (permissive = 1)
}

// Trace is one sign that some software is, or was, on this host.
type Trace struct {
	Software Software `json:"of"`
	Kind     string   `json:"kind"` // file, data (a directory with files), socket (that a program listens on), cni-config, link, iptables, mount
	Path     string   `json:"path,omitempty"`
	Detail   string   `json:"detail,omitempty"` // address of a link, number of rules
}

// Software is the name of software that leaves traces.
type Software string

// The software that internal/probe looks for.
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
	Podman          Software = "podman"
	Nerdctl         Software = "nerdctl"
)
