package support

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/plinthdev/plinth/internal/action"
	"github.com/plinthdev/plinth/internal/action/status"
	"github.com/plinthdev/plinth/internal/diagnosis"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/host"
	"github.com/plinthdev/plinth/internal/journal"
	"github.com/plinthdev/plinth/internal/k0s"
	"github.com/plinthdev/plinth/internal/node"
	"github.com/plinthdev/plinth/internal/wait"
)

// Folders of a bundle, as troubleshoot.sh names them (v0.133.0, pkg/collect). What it has no collector for is in
// folderPlinth.
const (
	folderRun     = "host-collectors/run-host/"
	folderSystem  = "host-collectors/system/"
	folderDisks   = "host-collectors/diskUsage/"
	folderJournal = "host-collectors/journald/"
	folderPlinth  = "host-collectors/plinth/"

	diagnosisFile = "diagnosis.json" // in folderPlinth
)

// Limits of items.
const (
	itemTimeout    = 10 * time.Second
	logTimeout     = 25 * time.Second
	maxItemBytes   = 4 << 20  // of a file or the output of a command
	maxLogBytes    = 12 << 20 // of a log: several copies of it are in memory
	maxRunLogs     = 20       // newest logs of Plinth's runs
	mainLogLines   = 100_000  // of k0s
	otherLogLines  = 20_000   // of other units
	maxConcurrency = 2        // items at once: the host has other work to do
)

// item is one file of a bundle.
type item struct {
	name    string
	timeout time.Duration // 0 for itemTimeout
	limit   int           // bytes; of more the end is kept, or nothing of JSON and YAML; 0 for maxItemBytes
	collect func(ctx context.Context) ([]byte, error)
}

// run returns the content of the item, within its limits. A panic of a collector must not lose the bundle, and neither
// must a file that does not answer.
func (i item) run(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(i.timeout, itemTimeout))
	defer cancel()
	content, err := wait.ForReply(ctx, grace, func(ctx context.Context) (content []byte, err error) {
		defer func() {
			if p := recover(); p != nil {
				content, err = nil, fmt.Errorf("the collector failed: %v", p)
			}
		}()
		return i.collect(ctx)
	})
	if limit := cmp.Or(i.limit, maxItemBytes); len(content) > limit {
		if slices.Contains([]string{".json", ".yaml", ".yml"}, path.Ext(i.name)) { // secrets in a part of it would not be found by their keys
			return nil, fmt.Errorf("it has more than %d MiB", limit>>20)
		}
		content = content[len(content)-limit:]
		if end := bytes.IndexByte(content, '\n'); end >= 0 {
			content = content[end+1:]
		}
	}
	return content, err
}

// hostItems returns what is collected of the host, without the logs of its units.
func (c *collector) hostItems(ctx context.Context, s diagnosis.Snapshot) []item {
	return slices.Concat(c.recordItems(s), systemItems(s), c.commandItems(), c.fileItems(ctx), c.runLogItems(ctx))
}

// jsonItem is an item with the JSON of a value.
func jsonItem(name string, v any) item {
	return item{name: name, limit: maxLogBytes, collect: func(context.Context) ([]byte, error) { return json.MarshalIndent(v, "", "  ") }}
}

// recordItems returns what Plinth knows of the host.
func (c *collector) recordItems(s diagnosis.Snapshot) []item {
	items := []item{
		jsonItem(folderPlinth+diagnosisFile, newReport(s)),
		jsonItem(folderPlinth+"snapshot.json", s),
		jsonItem(folderPlinth+"facts.json", s.Host),
		jsonItem(folderPlinth+"preflights.json", s.Preflights),
		jsonItem(folderPlinth+"certificates.json", s.Certificates),
		jsonItem(folderPlinth+"listening.json", s.Listeners),
		jsonItem(folderPlinth+"etcd.json", map[string]any{"etcd": s.Etcd, "error": s.EtcdError}),
		jsonItem(folderPlinth+"units.json", append([]diagnosis.Unit{s.K0s}, s.Units...)),
		{name: folderPlinth + "version.txt", collect: func(context.Context) ([]byte, error) { return []byte(c.env.Version + "\n"), nil }},
		{name: folderPlinth + "status.json", collect: func(ctx context.Context) ([]byte, error) {
			st, err := status.Inspect(ctx, c.env.Host, c.env.DataDir, c.env.Now)
			if err != nil {
				return nil, err
			}
			return json.MarshalIndent(st, "", "  ")
		}},
		{name: folderPlinth + "processes.txt", collect: func(context.Context) ([]byte, error) { return c.listProcesses() }},
	}
	for name, source := range map[string]string{"journal.json": journal.File, "receipt.json": journal.ReceiptFile, "facts-of-install.json": "facts.json"} {
		items = append(items, c.fileItem(folderPlinth+name, path.Join(c.env.DataDir, source)))
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return items
}

// listProcesses returns the processes of the host, without their arguments, which may have secrets.
func (c *collector) listProcesses() ([]byte, error) {
	all, err := c.env.Host.ListProcesses()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, "PID\tPPID\tRSS-KB\tPROGRAM")
	for _, p := range all {
		program := p.Exe
		if program == "" { // of the kernel
			comm, _ := c.env.Host.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID)) // the process may have ended
			program = "[" + strings.TrimSpace(string(comm)) + "]"
		}
		state, _ := c.env.Host.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		fmt.Fprintf(&b, "%d\t%d\t%s\t%s\n", p.PID, p.PPID, residentMemory(string(state)), program)
	}
	return b.Bytes(), nil
}

// residentMemory returns VmRSS in the content of /proc/PID/status, in kB; "0" if there is none.
func residentMemory(state string) string {
	for line := range strings.Lines(state) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "VmRSS:" {
			return f[1]
		}
	}
	return "0"
}

// systemItems returns the facts in the files and formats of troubleshoot.sh's host collectors, so that its analyzers
// read them (v0.133.0, pkg/collect/host_*.go).
func systemItems(s diagnosis.Snapshot) []item {
	f := s.Host
	items := []item{
		jsonItem(folderSystem+"cpu.json", map[string]any{"logicalCount": f.CPU.Count, "physicalCount": f.CPU.Cores, "flags": f.CPU.Flags, "machineArch": machineArch(f.OS.Arch)}),
		jsonItem(folderSystem+"memory.json", map[string]any{"total": f.Memory.Total}),
		jsonItem(folderSystem+"time.json", map[string]any{"timezone": f.Clock.Zone, "ntp_synchronized": f.Clock.Synced, "ntp_active": f.Clock.Synced}),
		jsonItem(folderSystem+"hostos_info.json", map[string]any{"name": f.Hostname, "kernelVersion": f.Kernel.Release, "platform": f.OS.ID,
			"platformVersion": f.OS.Version, "platformFamily": f.OS.Like}),
		jsonItem(folderSystem+"sysctl.json", f.Settings.Sysctls),
	}
	for _, d := range f.Disks {
		items = append(items, diskItem(cmp.Or(strings.Trim(strings.ReplaceAll(d.Path, "/", "-"), "-"), "root"), d))
	}
	return items
}

// diskItem returns the usage of a disk.
func diskItem(name string, d facts.Disk) item {
	return jsonItem(folderDisks+name+".json", map[string]any{"total_bytes": d.Size, "used_bytes": d.Size - min(d.Free, d.Size)})
}

// machineArch returns the kernel's name of an architecture.
func machineArch(arch string) string {
	if arch == "amd64" {
		return "x86_64"
	}
	if arch == "arm64" {
		return "aarch64"
	}
	return arch
}

// commands are programs that only read, with the name of their output. Those that the host lacks are left out.
var commands = map[string][]string{
	"ip-address": {"ip", "-s", "address"}, "ip-route": {"ip", "route", "show", "table", "all"}, "ip-rule": {"ip", "rule"}, "ip-neigh": {"ip", "neigh"},
	"sockets": {"ss", "-tunap"}, "socket-summary": {"ss", "-s"}, "nft-ruleset": {"nft", "list", "ruleset"},
	"df": {"df", "-hT"}, "df-inodes": {"df", "-i"}, "lsblk": {"lsblk", "-f"}, "free": {"free", "-m"}, "uptime": {"uptime"},
	"resolvectl": {"resolvectl", "status"}, "timedatectl": {"timedatectl"}, "chronyc": {"chronyc", "-n", "tracking"},
	"sestatus": {"sestatus"}, "aa-status": {"aa-status"}, "firewall-cmd": {"firewall-cmd", "--list-all-zones"},
	"boots": {"journalctl", "--no-pager", "--list-boots"}, "failed-units": {"systemctl", "--no-pager", "--failed"},
	"k0s-version": {k0s.BinaryPath, "version"}, "k0s-status": {k0s.BinaryPath, "status", "components"},
	"containers": {k0s.BinaryPath, "ctr", "--namespace", "k8s.io", "containers", "list"}, "images": {k0s.BinaryPath, "ctr", "--namespace", "k8s.io", "images", "list"},
}

// privilegedCommands need capabilities that the unit of a node's part does not have.
var privilegedCommands = []string{"aa-status"} // CAP_MAC_ADMIN

// commandItems returns the outputs of commands.
func (c *collector) commandItems() []item {
	units := []string{c.unit(), node.AgentUnit}
	all := map[string][]string{
		"unit-files":  append([]string{"systemctl", "--no-pager", "cat"}, units...),
		"unit-status": append([]string{"systemctl", "--no-pager", "--full", "--lines=0", "status"}, units...),
	}
	maps.Copy(all, commands)
	items := []item{{name: folderRun + "iptables.txt", collect: func(ctx context.Context) ([]byte, error) { return c.runCommand(ctx, c.iptablesSave()) }}}
	for name, argv := range all {
		if !c.restricted || !slices.Contains(privilegedCommands, name) {
			items = append(items, item{name: folderRun + name + ".txt", collect: func(ctx context.Context) ([]byte, error) { return c.runCommand(ctx, argv) }})
		}
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return items
}

// runCommand returns the output of a command. One that ends with an error has said why, such as that its service does not
// run, and nothing is missing. The error is fs.ErrNotExist if the host lacks the program.
func (c *collector) runCommand(ctx context.Context, argv []string) ([]byte, error) {
	if !c.hasProgram(argv[0]) {
		return nil, fs.ErrNotExist
	}
	out, err := c.env.Host.Run(ctx, host.Cmd{Argv: argv, ReadOnly: true, MaxOutput: maxItemBytes + 1})
	var failed *host.CommandError
	if errors.As(err, &failed) && failed.Code > 0 {
		return describeExit(out, failed), nil
	}
	return out, err
}

// describeExit returns the output of a command that has ended with an error, its last lines, and its exit code.
func describeExit(out []byte, failed *host.CommandError) []byte {
	text := strings.TrimSpace(string(out))
	if tail := strings.TrimSpace(failed.Tail); !strings.HasSuffix(text, tail) {
		text = strings.TrimSpace(text + "\n" + tail)
	}
	return []byte(strings.TrimLeft(fmt.Sprintf("%s\n(exit code %d)\n", text, failed.Code), "\n"))
}

// iptablesSave returns the command that prints the rules of iptables: of the legacy variant only if its modules are
// loaded, because it would load them.
func (c *collector) iptablesSave() []string {
	if tables, err := c.env.Host.ReadFile("/proc/net/ip_tables_names"); err == nil && len(tables) > 0 && !c.hasProgram("iptables-nft-save") {
		return []string{"iptables-save"}
	}
	return []string{"iptables-nft-save"}
}

// hasProgram reports whether the host has a program: a path, or a name in one of the usual folders.
func (c *collector) hasProgram(name string) bool {
	if path.IsAbs(name) {
		_, err := c.env.Host.Lstat(name)
		return err == nil
	}
	return slices.ContainsFunc([]string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"}, func(dir string) bool {
		_, err := c.env.Host.Lstat(path.Join(dir, name))
		return err == nil
	})
}

// files are copied with the name of their path.
var files = []string{"/etc/os-release", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/fstab", k0s.ConfigPath, k0s.ContainerdConfigPath,
	k0s.DataDir + "/kubelet-config.yaml", "/proc/mounts", "/proc/meminfo", "/proc/loadavg", "/proc/modules", "/proc/cmdline", "/proc/swaps", "/proc/diskstats",
	"/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory", "/proc/net/snmp", "/proc/net/sockstat", "/proc/sys/net/netfilter/nf_conntrack_count"}

// folders are those whose files are copied, too.
var folders = []string{"/etc/k0s/containerd.d", "/etc/sysctl.d", "/etc/modules-load.d", "/etc/cni/net.d"}

// fileItem is an item with the content of a file; it is left out if the file does not exist.
func (c *collector) fileItem(name, source string) item {
	return item{name: name, collect: func(context.Context) ([]byte, error) { return host.ReadTail(c.env.Host, source, maxItemBytes+1) }}
}

// fileItems returns the files of the host: files, and those in folders.
func (c *collector) fileItems(ctx context.Context) []item {
	all := slices.Clone(files)
	var items []item
	for _, dir := range folders {
		infos, err := c.listFolder(ctx, dir)
		if err != nil {
			items = append(items, failedItem(folderPlinth+"files"+dir, err))
		}
		for _, info := range infos {
			if info.Mode().IsRegular() || info.Mode().Type() == fs.ModeSymlink {
				all = append(all, path.Join(dir, info.Name()))
			}
		}
	}
	for _, p := range all {
		items = append(items, c.fileItem(folderPlinth+"files"+p, p))
	}
	return items
}

// failedItem is an item that cannot be collected because of err.
func failedItem(name string, err error) item {
	return item{name: name, collect: func(context.Context) ([]byte, error) { return nil, err }}
}

// listFolder returns the entries of a folder; none if it does not exist.
func (c *collector) listFolder(ctx context.Context, dir string) ([]fs.FileInfo, error) {
	return readInTime(ctx, func() (all []fs.FileInfo, err error) {
		entries, err := c.env.Host.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil { // it may have been removed
				all = append(all, info)
			}
		}
		return all, err
	})
}

// runLogItems returns the newest logs of runs of Plinth, newest first.
func (c *collector) runLogItems(ctx context.Context) []item {
	logs, err := c.listFolder(ctx, action.LogDir)
	if err != nil {
		return []item{failedItem(folderPlinth+"logs", err)}
	}
	logs = slices.DeleteFunc(logs, func(l fs.FileInfo) bool { return !l.Mode().IsRegular() })
	slices.SortFunc(logs, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	var items []item
	for _, l := range logs[:min(maxRunLogs, len(logs))] {
		it := c.fileItem(folderPlinth+"logs/"+l.Name(), path.Join(action.LogDir, l.Name()))
		read := it.collect
		it.collect = func(ctx context.Context) ([]byte, error) { // after a power cut, a log may end with NUL bytes
			content, err := read(ctx)
			return bytes.ReplaceAll(content, []byte{0}, nil), err
		}
		items = append(items, it)
	}
	return items
}

// journalItems returns the logs of systemd's journal, the most important first.
func (c *collector) journalItems(since time.Duration) []item {
	start := strconv.FormatInt(c.env.Now().Add(-since).Unix(), 10)
	var items []item
	for _, l := range []struct {
		name      string
		lines     int
		selection []string
	}{
		{"k0s", mainLogLines, []string{"--unit=" + c.unit()}},
		{"plinth-agent", otherLogLines, []string{"--unit=" + node.AgentUnit}},
		{"kernel", otherLogLines, []string{"_TRANSPORT=kernel", "+", "_TRANSPORT=audit"}},
		{"network", otherLogLines, []string{"--unit=NetworkManager", "--unit=systemd-networkd", "--unit=systemd-resolved", "--unit=firewalld", "--unit=nftables", "--unit=ufw"}},
		{"time", otherLogLines, []string{"--unit=chronyd", "--unit=chrony", "--unit=systemd-timesyncd"}},
	} {
		argv := append([]string{"journalctl", "--no-pager", "--quiet", "--utc", "--output=short-iso", "--since=@" + start, "--lines=" + strconv.Itoa(l.lines)}, l.selection...)
		items = append(items, item{name: folderJournal + l.name + ".txt", timeout: logTimeout, limit: maxLogBytes, collect: func(ctx context.Context) ([]byte, error) {
			return c.env.Host.Run(ctx, host.Cmd{Argv: argv, ReadOnly: true, MaxOutput: maxLogBytes + 1})
		}})
	}
	return items
}
