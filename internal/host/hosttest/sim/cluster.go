package sim

import (
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"strings"
)

// Process ids of the main processes of the units.
const (
	k0sPID   = 1000
	agentPID = 1100
)

// Units of a cluster.
const (
	controllerUnit = "k0scontroller.service"
	workerUnit     = "k0sworker.service"
	agentUnit      = "plinth-agent.service"
	backupTimer    = "plinth-backup.timer"
)

// NewHost returns the state of a host without a cluster. It has objects of other software that
// resemble those of a cluster.
func NewHost() State {
	s := State{}
	for _, dir := range []string{"/etc/systemd/system/multi-user.target.wants", "/usr/local/bin", "/var/lib", "/run", "/var/log", "/usr/libexec", "/lib/modules"} {
		s.PutFile(dir, "", fs.ModeDir|0o755)
	}
	for p, data := range map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "/etc/group": "root:x:0:\n", "/etc/fstab": "",
		"/etc/resolv.conf":  "nameserver 192.0.2.53\n",
		"/proc/filesystems": "nodev overlay\next4\n", "/proc/modules": "nf_conntrack 1 0 - Live 0x0\n",
		"/proc/1/cgroup":             "0::/init.scope\n",
		"/proc/sys/kernel/osrelease": "6.1.0", "/sys/module/nf_conntrack/refcnt": "1",
		"/usr/sbin/xtables-nft-multi": "", "/usr/sbin/nft": "", "/usr/sbin/userdel": "",
	} {
		s.PutFile(p, data, 0o644)
	}
	for key, value := range map[string]string{"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/forwarding": "0", "net/netfilter/nf_conntrack_max": "65536",
		"fs/inotify/max_user_instances": "128", "fs/inotify/max_user_watches": "1000000", "vm/overcommit_memory": "0", "kernel/panic": "0", "kernel/panic_on_oops": "0"} {
		s.PutFile("/proc/sys/"+key, value+"\n", 0o644)
	}
	s.PutFile(MountInfoPath, "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 20 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", 0o444)
	s.PutFile("/sys/fs/cgroup/system.slice/ssh.service", "", fs.ModeDir|0o755)
	s[RulesKey] = Object{Data: "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\nCOMMIT\n"}
	s.addForeignObjects()
	return s
}

// addForeignObjects adds the objects of other software.
func (s State) addForeignObjects() {
	s.AddProcess(300, 1, "system.slice/containerd.service", "/usr/bin/containerd-shim-runc-v2", "-address", "/run/containerd/containerd.sock")
	s.AddProcess(301, 300, "docker/abc", "/usr/bin/nginx")
	s.AddMount("/var/lib/docker/overlay2/abc/merged", "overlay")
	s["link docker0"], s["link veth-docker"] = Object{Data: "bridge "}, Object{Data: "veth docker0"}
	s["set foreign"], s["route 172.20.0.0/16"], s["rule 172.20.0.0/16"] = Object{}, Object{}, Object{Data: "100"}
	s[RulesKey] = Object{Data: strings.NewReplacer(
		"*nat\n:PREROUTING ACCEPT [0:0]\n", "*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n",
		":FORWARD ACCEPT [0:0]\n", ":FORWARD ACCEPT [0:0]\n:MINE - [0:0]\n-A FORWARD -s 10.1.0.0/16 -j MINE\n-A MINE -j ACCEPT\n").Replace(s[RulesKey].Data)}
	for p, data := range map[string]string{"/etc/cni/net.d/99-mine.conf": "{}", "/opt/cni/bin/mine": "mine", "/etc/systemd/system/mine.service": "[Service]\n",
		"/etc/sysctl.d/10-mine.conf": "vm.swappiness = 1\n", "/etc/modules-load.d/mine.conf": "dummy\n", "/usr/local/bin/mine": "mine", "/usr/local/bin/kubectl-kots": "an older one", "/run/netns/blue": "",
		"/var/lib/cni/results/mine-1-eth0": "{}"} {
		s.PutFile(p, data, 0o644)
	}
}

// addUnitEffects adds the changes that a unit makes to a host within seconds of its start. k0s is a
// member of its cluster by then.
func (s State) addUnitEffects(unit string) {
	slice := "system.slice/" + unit
	switch unit {
	case backupTimer: // a timer is no process
		return
	case agentUnit:
		s.AddProcess(agentPID, 1, slice, "/usr/local/bin/plinth-agent", "agent")
		return
	case controllerUnit:
		s.AddProcess(k0sPID+1, k0sPID, slice, "/var/lib/k0s/bin/etcd")
		s.PutFile("/var/lib/k0s/bin/etcd", "elf", 0o755)
		s.PutFile("/var/lib/k0s/etcd/member/wal/0.wal", "data", 0o600)
	}
	s.AddProcess(k0sPID, 1, slice, "/usr/local/bin/k0s", strings.TrimSuffix(strings.TrimPrefix(unit, "k0s"), ".service"))
	s.AddProcess(k0sPID+2, k0sPID, slice, "/var/lib/k0s/bin/containerd")
	for p, data := range map[string]string{"/var/lib/k0s/bin/containerd": "elf", "/run/k0s/containerd.sock": "",
		"/var/lib/kubelet/config.yaml": "kubelet", "/etc/cni/net.d/10-kuberouter.conflist": `{"name":"mynet"}`, "/opt/cni/bin/bridge": "elf",
		"/usr/libexec/k0s/kubelet-plugins/x": "", "/var/log/pods/a/0.log": "log", "/run/xtables.lock": ""} {
		s.PutFile(p, data, 0o644)
	}
	s.AddMount("/var/lib/kubelet", "bind")
	s["link kube-bridge"], s["set kube-router-pod-subnets"] = Object{Data: "bridge "}, Object{}
	s["nft ip filter"], s["nft ip nat"] = Object{}, Object{}
	s["rule 10.244.0.0/16"] = Object{Data: "77"}
	if !strings.Contains(s[RulesKey].Data, "KUBE-") {
		s[RulesKey] = Object{Data: strings.NewReplacer(
			"*nat\n:PREROUTING ACCEPT [0:0]\n", "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n",
			":FORWARD ACCEPT [0:0]\n", ":FORWARD ACCEPT [0:0]\n:KUBE-ROUTER-FORWARD - [0:0]\n-A FORWARD -j KUBE-ROUTER-FORWARD\n").Replace(s[RulesKey].Data)}
	}
	for key, value := range map[string]string{"net/ipv4/conf/all/forwarding": "1", "vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1", "net/netfilter/nf_conntrack_max": "131072"} {
		s.PutFile("/proc/sys/"+key, value+"\n", 0o644)
	}
}

// StartPod adds the parts of the pod called name, one change after the other.
func (m *Machine) StartPod(name string) {
	for _, add := range podChanges(name) {
		m.reportChange("start pod %s", name)
		add(m.State)
	}
}

// HasPod reports whether all parts of the pod called name exist.
func (m *Machine) HasPod(name string) bool {
	want := maps.Clone(m.State)
	for _, add := range podChanges(name) {
		add(want)
	}
	return maps.Equal(want, m.State)
}

// podChanges returns the changes that add the parts of the pod called name.
func podChanges(name string) []func(State) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(name))
	id, n := fmt.Sprintf("%08x", hash.Sum32()), int(hash.Sum32()%100000)
	return []func(State){
		func(s State) { s.AddMount("/var/lib/kubelet/pods/"+name+"/volumes", "tmpfs") },
		func(s State) { s.AddMount("/run/netns/cni-"+id+"-0000-0000-0000-000000000000", "nsfs") },
		func(s State) { s["link veth"+id] = Object{Data: "veth kube-bridge"} },
		func(s State) { s.PutFile("/var/lib/cni/results/mynet-"+id+"-eth0", "{}", 0o600) },
		func(s State) { s.PutFile("/sys/fs/cgroup/kubepods/pod"+id, "", fs.ModeDir|0o755) },
		func(s State) {
			unit := controllerUnit
			if _, ok := s["running "+workerUnit]; ok {
				unit = workerUnit
			}
			s.AddProcess(200000+n, 1, "system.slice/"+unit, "/var/lib/k0s/bin/containerd-shim-runc-v2", "-address", "/run/k0s/containerd.sock")
		},
		func(s State) { s.AddProcess(300000+n, 200000+n, "kubepods/pod"+id, "/app") },
	}
}
