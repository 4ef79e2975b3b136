package sim

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/host"
)

// RulesKey is the key of the object that contains the packet rules, as iptables-save prints them.
const RulesKey = "rules iptables"

// Run has the effect of the program that cmd names. An unknown command fails the test.
func (m *Machine) Run(_ context.Context, cmd host.Cmd) ([]byte, error) {
	args := cmd.Argv[1:]
	line := path.Base(cmd.Argv[0]) + " " + strings.Join(args, " ")
	if !cmd.ReadOnly {
		m.reportChange("%s", line)
	}
	has := func(prefix string) bool { return strings.HasPrefix(line, prefix) }
	last := args[len(args)-1]
	switch {
	case has("ip ") && cmd.ReadOnly:
		return m.queryIP(line)
	case has("ss -Hltnu"): // the machine has no listening sockets
	case has("nft -j list ruleset"):
		return m.queryNFT()
	case has("xtables-nft-multi iptables-save"):
		return []byte(m.State[RulesKey].Data), nil
	case has("xtables-nft-multi ip6tables-save"):
		return nil, nil
	case has("xtables-nft-multi iptables-restore --noflush"):
		script, err := io.ReadAll(cmd.Stdin)
		if err != nil {
			return nil, err
		}
		return nil, m.restoreRules(string(script))
	case has("nft delete table "):
		delete(m.State, "nft "+args[2]+" "+args[3])
	case has("ip link delete "):
		delete(m.State, "link "+last)
	case has("ip -4 route delete "):
		delete(m.State, "route "+args[3])
	case has("ip -4 rule delete from "):
		delete(m.State, "rule "+args[4])
	case has("modprobe "):
		m.loadModule(last)
	case has("sysctl -q -w "):
		return nil, m.setSysctl(last)
	case has("systemctl "): // daemon-reload, kill, stop of a slice: no effect
	case has("umount "):
		return nil, m.removeMount(last)
	case has("rmdir "):
		return nil, m.removeDirs(args)
	case has("k0s install "):
		m.installK0s(args[1], args[2:])
	case has("k0s restore "):
		return nil, m.restoreEtcd(cmd.Stdin)
	case has("userdel "):
		m.dropLine("/etc/passwd", last)
	case has("groupdel "):
		m.dropLine("/etc/group", last)
	default:
		m.t.Errorf("unknown command: %s", line)
		return nil, fmt.Errorf("unknown command: %s", line)
	}
	return nil, nil
}

// queryIP returns the output of `ip -j link`, `route` or `rule`.
func (m *Machine) queryIP(line string) ([]byte, error) {
	list := []map[string]any{}
	switch {
	case strings.Contains(line, "link show"):
		for _, name := range m.State.ListNames("link") {
			kind, master, _ := strings.Cut(m.State["link "+name].Data, " ")
			list = append(list, map[string]any{"ifname": name, "master": master, "linkinfo": map[string]any{"info_kind": kind}})
		}
	case strings.Contains(line, "-4 -j route"):
		for _, dst := range m.State.ListNames("route") {
			list = append(list, map[string]any{"dst": dst})
		}
	case strings.Contains(line, "-4 -j rule"):
		for _, src := range m.State.ListNames("rule") {
			list = append(list, map[string]any{"src": src, "table": m.State["rule "+src].Data})
		}
	}
	return json.Marshal(list)
}

// queryNFT returns the output of `nft -j list ruleset`.
func (m *Machine) queryNFT() ([]byte, error) {
	list := []map[string]any{}
	for _, name := range m.State.ListNames("nft") {
		family, table, _ := strings.Cut(name, " ")
		list = append(list, map[string]any{"table": map[string]any{"family": family, "name": table}})
	}
	return json.Marshal(map[string]any{"nftables": list})
}

// restoreRules has the effect of iptables-restore --noflush: each table changes completely or not
// at all.
func (m *Machine) restoreRules(script string) error {
	lines := strings.Split(strings.TrimSuffix(m.State[RulesKey].Data, "\n"), "\n")
	drop := func(which func(string) bool) { lines = slices.DeleteFunc(lines, which) }
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, ":"):
			drop(func(l string) bool { return strings.HasPrefix(l, "-A "+verb[1:]+" ") })
		case verb == "-D":
			i := slices.Index(lines, "-A "+rest)
			if i < 0 {
				return fmt.Errorf("no such rule: %s", rest)
			}
			lines = slices.Delete(lines, i, i+1)
		case verb == "-X":
			drop(func(l string) bool { return strings.HasPrefix(l, ":"+rest+" ") })
		}
	}
	m.State[RulesKey] = Object{Data: strings.Join(lines, "\n") + "\n"}
	return nil
}

func (m *Machine) loadModule(name string) {
	m.State.PutFile("/proc/modules", m.State["/proc/modules"].Data+name+" 1 0 - Live 0x0\n", 0o444)
	m.State.PutFile("/sys/module/"+name+"/refcnt", "0\n", 0o444)
	if name == "br_netfilter" {
		m.State.PutFile("/proc/sys/net/bridge/bridge-nf-call-iptables", "1\n", 0o644)
		m.State.PutFile("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "1\n", 0o644)
	}
}

// dropLine removes the lines of name from /etc/passwd or /etc/group.
func (m *Machine) dropLine(file, name string) {
	lines := strings.SplitAfter(m.State[file].Data, "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
	m.State.PutFile(file, strings.Join(lines, ""), 0o644)
}

// installK0s writes the unit of a role. For a controller it first adds the users of k0s, one after
// the other.
func (m *Machine) installK0s(role string, args []string) {
	for i, user := range []string{"etcd", "kube-apiserver", "konnectivity-server", "kube-scheduler"} {
		if role == "controller" && !strings.Contains(m.State["/etc/passwd"].Data, "\n"+user+":") {
			m.reportChange("useradd %s", user)
			m.State.PutFile("/etc/passwd", m.State["/etc/passwd"].Data+fmt.Sprintf("%s:x:%d:%d::/var/lib/k0s:/sbin/nologin\n", user, 900+i, 900+i), 0o644)
			m.dropLine("/etc/group", user)
			m.State.PutFile("/etc/group", m.State["/etc/group"].Data+fmt.Sprintf("%s:x:%d:\n", user, 900+i), 0o644)
		}
	}
	m.reportChange("write the unit")
	m.State.PutFile("/etc/systemd/system/k0s"+role+".service", "[Service]\nExecStart=/usr/local/bin/k0s "+role+" "+strings.Join(args, " ")+"\n", 0o644)
}

// restoreEtcd has the effect of `k0s restore`: it creates the data of etcd from the snapshot in a backup.
func (m *Machine) restoreEtcd(archive io.Reader) error {
	if _, ok := m.State["running "+controllerUnit]; ok {
		return errors.New("k0s seems to be running")
	}
	const dir = "/var/lib/k0s/etcd"
	if len(m.State.pathsBelow(dir)) > 0 {
		return errors.New(dir + " is not empty")
	}
	packed, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	in := tar.NewReader(packed)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		if h.Name != "etcd-snapshot.db" {
			continue
		}
		m.reportChange("write the database of etcd")
		m.State.PutFile(dir+"/member/snap/db", string(content), 0o600)
		m.reportChange("write the log of etcd")
		m.State.PutFile(dir+"/member/wal/0.wal", "data", 0o600)
	}
}
