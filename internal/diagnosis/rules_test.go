package diagnosis

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
	"github.com/plinthdev/plinth/internal/testkit"
)

var now = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

// healthy returns the snapshot of a controller without problems.
func healthy() Snapshot {
	s := Snapshot{
		Schema: Schema, Time: now,
		Recorded: facts.Identity{Node: "c1", MachineID: "0123", Address: netip.MustParseAddr("10.0.0.1"), Unit: "k0scontroller.service"},
		Install:  Install{Installed: true, DataDir: "/var/lib/plinth", UpdatedAt: now.Add(-24 * time.Hour)},
		K0s:      Unit{Name: "k0scontroller.service", Load: "loaded", Active: "active", Sub: "running", Enabled: "enabled", Since: now.Add(-2 * time.Hour)},
		Units: []Unit{{Name: "plinth-agent.service", Load: "loaded", Active: "active", Since: now.Add(-2 * time.Hour)},
			{Name: "nftables.service", Load: "loaded", Active: "active", Since: now.Add(-3 * time.Hour)}},
		Logs:         map[string][]Line{LogK0s: {line(`time="2026-01-02 11:59:00" level=info msg="all is well" component=k0s`)}, LogKernel: {line("usb 1-1: new device")}},
		Certificates: []Certificate{{Name: "admin", Path: "/var/lib/k0s/pki/admin.conf", Begins: now.Add(-24 * time.Hour), Ends: now.Add(300 * 24 * time.Hour)}},
		Etcd:         &Etcd{Members: []EtcdMember{{Name: "c1", Address: "10.0.0.1", Leader: true}}, DBSize: 20e6, InUse: 10e6},
	}
	s.Host = facts.Facts{
		Hostname: "c1", MachineID: "0123",
		Clock:    facts.Clock{Now: now, Synced: true, RTC: now},
		Memory:   facts.Memory{Total: 8e9, Available: 4e9},
		Cgroup:   facts.Cgroup{Version: 2, Controllers: []string{"cpu", "memory", "pids"}},
		Disks:    []facts.Disk{{Path: "/var/lib/k0s", Mount: "/", Number: "8:1", Size: 100e9, Available: 50e9, Inodes: 1e6, InodesFree: 9e5, Options: []string{"rw"}}},
		Lookups:  []facts.Lookup{{Name: "localhost", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}},
		Settings: facts.Settings{Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "net.netfilter.nf_conntrack_count": "100", "net.netfilter.nf_conntrack_max": "1000"}},
		Traces:   []facts.Trace{{Software: facts.KubeProxy, Kind: "iptables"}},
		Network: facts.Network{
			NodeAddress: netip.MustParseAddr("10.0.0.1"),
			Interfaces: []facts.Interface{{Name: "eth0", Up: true, MTU: 1500, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
				{Name: podBridge, Kind: "bridge", Up: true, MTU: 1500}},
			Routes:  []facts.Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.0.254"), Interface: "eth0"}},
			Servers: []facts.NameServer{{Address: netip.MustParseAddr("10.0.0.53")}},
		},
	}
	ready := func(n corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: n, Status: status}
	}
	s.Cluster = &Cluster{
		Nodes: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "c1"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			ready(corev1.NodeReady, corev1.ConditionTrue), ready(corev1.NodeDiskPressure, corev1.ConditionFalse)}}}},
		Namespaces: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "app"}}},
		Pods:       []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "good", CreationTimestamp: ago(time.Hour)}, Status: readyStatus()}},
		Claims: []corev1.PersistentVolumeClaim{{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "data"},
			Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound}}},
		StorageClasses: []storagev1.StorageClass{{ObjectMeta: metav1.ObjectMeta{Name: "local", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}}}},
		Budgets:        []policyv1.PodDisruptionBudget{{Status: policyv1.PodDisruptionBudgetStatus{ExpectedPods: 3, CurrentHealthy: 3, DesiredHealthy: 2, DisruptionsAllowed: 1}}},
		EndpointSlices: []discoveryv1.EndpointSlice{{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Labels: map[string]string{"kubernetes.io/service-name": "hook"}},
			Endpoints: []discoveryv1.Endpoint{{Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}}}},
		Webhooks:    []Webhook{{Config: "ValidatingWebhookConfiguration check", Name: "check.example.com", Mandatory: true, Namespace: "app", Service: "hook"}},
		APIServices: []APIService{{Name: "v1.apps", Available: true}},
		Releases:    []Release{{Name: "app", Namespace: "app", Status: "deployed", Revision: "2", Changed: now.Add(-time.Hour)}},
	}
	return s
}

func readyStatus() corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
}

func line(text string) Line { return Line{Time: now.Add(-time.Minute), Text: text} }

// logs returns an edit that adds n lines to a log, while k0s does not run.
func logs(name string, n int, text string) func(*Snapshot) {
	return func(s *Snapshot) {
		for range n {
			s.Logs[name] = append(s.Logs[name], line(text))
		}
	}
}

// pod returns an edit that adds the pod app/web, which is an hour old, with a status.
func pod(status corev1.PodStatus, events ...corev1.Event) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Cluster.Pods = append(s.Cluster.Pods, corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "web", CreationTimestamp: ago(time.Hour)},
			Status: status})
		s.Cluster.Events = append(s.Cluster.Events, events...)
	}
}

// event returns a warning about the pod app/web.
func event(reason, message string) corev1.Event {
	return corev1.Event{Type: corev1.EventTypeWarning, Reason: reason, Message: message, LastTimestamp: ago(time.Minute),
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "app", Name: "web"}}
}

func waiting(reason, message string) corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{Name: "web", Image: "r/web:1",
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}}}
}

func ended(reason string, code int32) corev1.PodStatus {
	p := waiting("CrashLoopBackOff", "back-off 5m0s restarting failed container")
	p.ContainerStatuses[0].RestartCount = 7
	p.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code}
	return p
}

func unscheduled(message string) corev1.PodStatus {
	return corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled,
		Status: corev1.ConditionFalse, Message: message}}}
}

func nodeNotReady(status corev1.ConditionStatus, reason, message string) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Cluster.Nodes[0].Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: status, Reason: reason, Message: message}
	}
}

func claim(class *string, events ...corev1.Event) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Cluster.Claims = append(s.Cluster.Claims, corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "web", CreationTimestamp: ago(time.Hour)},
			Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: class}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}})
		s.Cluster.Events = append(s.Cluster.Events, events...)
	}
}

func preflight(id string) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Preflights.Results = append(s.Preflights.Results, hostpreflight.Entry{ID: id, Result: hostpreflight.Failed("fix it", "it is bad")})
	}
}

func stop(s *Snapshot) { s.K0s.Active, s.K0s.Sub, s.K0s.Since = "failed", "failed", time.Time{} }

// fault is a snapshot that shows a rule, and one like it that does not.
type fault struct {
	rule  string
	shows func(*Snapshot)
	near  func(*Snapshot) // similar, but without the cause
}

// logFault returns the fault of a rule that a line shows; near is a line that is not one.
func logFault(rule, name, shows, near string) fault {
	return fault{rule, logs(name, 25, shows), logs(name, 25, near)}
}

func faults() []fault {
	return slices.Concat(hostFaults(), kernelFaults(), networkFaults(), k0sFaults(), etcdFaults(), clusterFaults(), podFaults())
}

func hostFaults() []fault {
	disk := func(edit func(*facts.Disk)) func(*Snapshot) { return func(s *Snapshot) { edit(&s.Host.Disks[0]) } }
	return []fault{
		{"filesystem-read-only", disk(func(d *facts.Disk) { d.Options = []string{"ro"} }), disk(func(d *facts.Disk) { d.Options = []string{"rw", "errors=remount-ro"} })},
		logFault("filesystem-read-only", LogKernel, "EXT4-fs (sda1): Remounting filesystem read-only", "EXT4-fs (sda1): mounted filesystem with ordered data mode"),
		logFault("disk-errors", LogKernel, "blk_update_request: I/O error, dev sdb, sector 2048", "sdb: sdb1 sdb2"),
		{"disk-full", disk(func(d *facts.Disk) { d.Available = 1e6 }), disk(func(d *facts.Disk) { d.Available = 2e9 })},
		logFault("disk-full", LogK0s, "write /var/lib/k0s/db: no space left on device", "failed to create inotify watch: no space left on device"),
		{"inodes-used-up", disk(func(d *facts.Disk) { d.InodesFree = 10 }), disk(func(d *facts.Disk) { d.Inodes, d.InodesFree = 0, 0 })},
		{"disk-pressure", func(s *Snapshot) { s.Cluster.Nodes[0].Status.Conditions[1].Status = corev1.ConditionTrue }, disk(func(d *facts.Disk) { d.Available = 20e9 })},
		logFault("disk-pressure", LogK0s, `time="2026-01-02 11:59:00" level=info msg="I0102 11:59:00.000000     812 eviction_manager.go:388] `+
			`\"Eviction manager: must evict pod(s) to reclaim\" resourceName=\"ephemeral-storage\"" component=kubelet stream=stderr`, lineNoImageFS),
		logFault("disk-hangs", LogKernel, "INFO: task etcd:123 blocked for more than 120 seconds.", "INFO: rcu_sched is fine"),
		logFault("out-of-memory", LogKernel, "Out of memory: Killed process 812 (etcd) total-vm:1kB", "Memory cgroup out of memory: OOM victim 812 (web) is already exiting"),
		{"out-of-memory", func(s *Snapshot) { s.K0s.Result = "oom-kill" }, func(s *Snapshot) { s.K0s.Result = "success" }},
		{"memory-pressure", func(s *Snapshot) { s.Host.Memory.Available = 1e8 }, func(s *Snapshot) { s.Host.Memory.Available = 1e9 }},
		logFault("swap-on", LogK0s, "running with swap on is not supported, please disable swap", "swap is off"),
		logFault("process-limit", LogK0s, "fork/exec /usr/bin/mount: resource temporarily unavailable", "read: resource temporarily unavailable"),
		{"clock-wrong", func(s *Snapshot) { s.Install.UpdatedAt = now.Add(time.Hour) }, func(s *Snapshot) { s.Install.UpdatedAt = now.Add(time.Minute) }},
		{"clock-wrong", func(s *Snapshot) { s.Certificates[0].Begins = now.Add(time.Hour) }, func(s *Snapshot) { s.Host.Clock.RTC = now.Add(time.Minute) }},
		logFault("clock-jumped", LogTime, "chronyd[1]: Forward time jump detected!", "chronyd[1]: Selected source 10.0.0.1"),
		{"clock-not-synchronized", func(s *Snapshot) { s.Host.Clock.Synced = false }, func(s *Snapshot) {
			s.Host.Clock.Synced, s.Host.Unknown = false, []facts.Unknown{{Fact: facts.FactClockSync, Reason: "not permitted"}}
		}},
		{"node-removed", func(s *Snapshot) { s.Install.Removed = "this host was removed from the cluster"; stop(s) }, stop},
		{"host-renamed", func(s *Snapshot) { s.Host.Hostname = "c2" }, func(s *Snapshot) { s.Host.Hostname = "C1" }},
		{"machine-id-changed", func(s *Snapshot) { s.Host.MachineID = "4567" }, func(s *Snapshot) { s.Host.Hostname = "c2" }},
		{"address-changed", func(s *Snapshot) {
			s.Host.Network.Interfaces[0].Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.9/24")}
		}, func(s *Snapshot) {
			s.Host.Network.Interfaces[0].Addresses = append(s.Host.Network.Interfaces[0].Addresses, netip.MustParsePrefix("10.0.0.9/24"))
		}},
	}
}

func kernelFaults() []fault {
	return []fault{
		logFault("selinux-denial", LogKernel, `audit: type=1400 avc:  denied  { write } for pid=9 comm="containerd" name="x" scontext=system_u:system_r:init_t:s0`,
			`audit: type=1400 avc:  denied  { read } for pid=9 comm="httpd" scontext=system_u:system_r:httpd_t:s0`),
		logFault("apparmor-denial", LogKernel, `audit: apparmor="DENIED" operation="mount" profile="cri-containerd.apparmor.d" comm="web"`, `audit: apparmor="DENIED" profile="snap.x" comm="x"`),
		logFault("program-forbidden", LogK0s, "fork/exec /var/lib/k0s/bin/kubelet: operation not permitted", "fork/exec /var/lib/k0s/bin/kubelet: no such file or directory"),
		{"program-forbidden", func(s *Snapshot) { s.Host.Disks[0].Options = []string{"rw", "noexec"} }, func(s *Snapshot) {
			s.Host.Disks = append(s.Host.Disks, facts.Disk{Path: "/tmp", Mount: "/tmp", Size: 1e9, Available: 9e8, Options: []string{"rw", "noexec"}})
		}},
		logFault("kernel-module-missing", LogK0s, "modprobe: FATAL: Module ip_vs not found in directory /lib/modules/6.1", "module ip_vs loaded"),
		{"cgroup-controllers", func(s *Snapshot) { s.Host.Cgroup.Controllers = []string{"cpu", "pids"} }, func(s *Snapshot) { s.Host.Cgroup = facts.Cgroup{} }},
		logFault("cgroup-driver", LogK0s, `expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups`, "using the systemd cgroup driver"),
		logFault("inotify-limit", LogPods+"app/web/web", "failed to create fsnotify watcher: too many open files", "open /data/x: too many open files"),
		logFault("open-files-limit", LogK0s, "accept4: too many open files", "fsnotify: too many open files"),
		logFault("host-stalls", LogKernel, "watchdog: BUG: soft lockup - CPU#1 stuck for 26s!", "watchdog: enabled"),
	}
}

func networkFaults() []fault {
	sysctl := func(key, value string) func(*Snapshot) {
		return func(s *Snapshot) { s.Host.Settings.Sysctls[key] = value }
	}
	return []fault{
		{"link-down", func(s *Snapshot) { s.Host.Network.Interfaces[0].Up = false }, func(s *Snapshot) { s.Host.Network.Interfaces[1].Up = false }},
		{"no-default-route", func(s *Snapshot) { s.Host.Network.Routes = nil }, func(s *Snapshot) {
			s.Host.Network.Routes, s.Host.Unknown = nil, []facts.Unknown{{Fact: facts.FactNetwork, Reason: "no answer within 3s"}}
		}},
		{"forwarding-off", sysctl("net.ipv4.ip_forward", "0"), sysctl("net.ipv4.ip_forward", "")},
		{"mtu-mismatch", func(s *Snapshot) { s.Host.Network.Interfaces[0].MTU = 1400 }, func(s *Snapshot) { s.Host.Network.Interfaces[1].MTU = 1400 }},
		logFault("peer-unreachable", LogK0s, "dial tcp 10.0.0.2:2380: connect: no route to host", "dial tcp 10.0.0.2:443: connect: no route to host"),
		logFault("proxy-in-the-way", LogK0s, `Post "https://10.96.0.1:443/api": proxyconnect tcp: dial tcp 10.0.0.9:3128: i/o timeout`, `Get "https://r.example.com/v2/": proxyconnect tcp: i/o timeout`),
		logFault("proxy-not-answering", LogK0s, `Get "https://r.example.com/v2/": proxyconnect tcp: dial tcp 10.0.0.9:3128: i/o timeout`, `Get "http://a.b.svc/": proxyconnect tcp: i/o timeout`),
		logFault("kubelet-unreachable", LogK0s, "error dialing backend: dial tcp 10.0.0.2:10250: i/o timeout", "error dialing backend: dial tcp 10.0.0.2:10250: operation was canceled"),
		{"packet-filter-flushed", func(s *Snapshot) { s.Host.Traces = nil }, func(s *Snapshot) { s.Host.Traces, s.K0s.Since = nil, now.Add(-time.Minute) }},
		{"packet-filter-reloaded", func(s *Snapshot) { s.Units[1].Since = now.Add(-time.Hour) }, func(s *Snapshot) { s.Units[1].Active, s.Units[1].Since = "inactive", now.Add(-time.Hour) }},
		{"packet-filter-drops", preflight("packet-filter"), preflight("cpu")},
		logFault("conntrack-full", LogKernel, "nf_conntrack: nf_conntrack: table full, dropping packet", "nf_conntrack: automatic helper assignment"),
		{"conntrack-full", sysctl("net.netfilter.nf_conntrack_count", "990"), sysctl("net.netfilter.nf_conntrack_max", "0")},
		logFault("neighbor-table-full", LogKernel, "neighbour: arp_cache: neighbor table overflow!", "neighbour: added"),
		logFault("dns-loop", LogPods+"kube-system/coredns/coredns", `[FATAL] plugin/loop: Loop (127.0.0.1:57 -> :53) detected for zone "."`, "[INFO] plugin/loop: ready"),
		{"name-servers-silent", func(s *Snapshot) { s.Host.Network.Servers[0].Error = "no answer in time" }, func(s *Snapshot) {
			s.Host.Network.Servers = append(s.Host.Network.Servers, facts.NameServer{Error: "no answer in time"})
		}},
		logFault("dns-upstream-slow", LogPods+"kube-system/coredns/coredns", "[ERROR] plugin/errors: 2 a. A: read udp 10.244.0.2:1->10.0.0.53:53: i/o timeout", "[INFO] 10.244.0.2:1 A a. NOERROR"),
		{"localhost-not-resolved", func(s *Snapshot) { s.Host.Lookups[0].Addresses = nil }, func(s *Snapshot) { s.Host.Lookups = nil }},
	}
}

func k0sFaults() []fault {
	taken := logs(LogK0s, 1, `level=error msg="listen tcp 0.0.0.0:6443: bind: address already in use"`)
	return []fault{
		{"port-taken", func(s *Snapshot) {
			stop(s)
			taken(s)
			s.Listeners = []facts.Port{{PortKey: facts.PortKey{Number: 6443, Protocol: "tcp"}, Owner: &facts.Owner{PID: 9, Program: "/usr/sbin/haproxy", Unit: "haproxy"}}}
		}, logs(LogK0s, 1, "listen tcp 0.0.0.0:6443: bind: cannot assign requested address")},
		logFault("k0s-config-invalid", LogK0s, `Error: failed to load config: invalid node configuration`, `level=info msg="loaded config"`),
		logFault("containerd-config-invalid", LogK0s, "failed to load TOML: /etc/k0s/containerd.d/a.toml: expected newline", "loaded /etc/k0s/containerd.d/a.toml"),
		logFault("containerd-data-damaged", LogK0s, "panic: invalid freelist page: 66, page type is leaf", "level=info msg=\"metadata opened\""),
		logFault("containerd-stopped", LogK0s, "dial unix /run/k0s/containerd.sock: connect: connection refused", "dial unix /run/other.sock: connect: connection refused"),
		{"k0s-restarts", func(s *Snapshot) { s.K0s.Restarts, s.K0s.Since = 7, now.Add(-time.Minute) }, func(s *Snapshot) { s.K0s.Restarts = 1 }},
		{"k0s-not-running", stop, func(s *Snapshot) { s.K0s.Active, s.K0s.Sub = "activating", "start" }},
		{"k0s-not-enabled", func(s *Snapshot) { s.K0s.Enabled = "disabled" }, func(s *Snapshot) { s.K0s.Enabled = "" }},
		{"agent-not-running", func(s *Snapshot) { s.Units[0].Active = "failed" }, func(s *Snapshot) { s.Units = s.Units[1:] }},
		{"certificate-ended", func(s *Snapshot) { s.Certificates[0].Ends = now.Add(-time.Hour) }, func(s *Snapshot) { s.Certificates[0].Ends = time.Time{} }},
		{"certificate-ends-soon", func(s *Snapshot) { s.Certificates[0].Overdue = "admin ends in 3 days" }, func(s *Snapshot) { s.Certificates[0].Ends = now.Add(72 * time.Hour) }},
		logFault("certificate-of-another-name", LogK0s, "x509: certificate is valid for 10.0.0.1, 127.0.0.1, not 10.0.0.9", "certificate is valid"),
		logFault("authority-unknown", LogK0s, "x509: certificate signed by unknown authority", "pull r/a: x509: certificate signed by unknown authority"),
		{"preflight-fails", func(s *Snapshot) { preflight("cpu")(s) }, preflight("disk-space")},
		{"run-unfinished", func(s *Snapshot) {
			s.Install.Verb, s.Install.Step, s.Install.Failed = "install", "node-ready", "no answer"
		}, func(s *Snapshot) { s.Install.Step = "x" }},
	}
}

func etcdFaults() []fault {
	return []fault{
		logFault("etcd-data-damaged", LogK0s, "walpb: crc mismatch", "wal: sync took 1s"),
		logFault("etcd-member-unknown", LogK0s, "the member has been permanently removed from the cluster", "member added"),
		{"etcd-space-used-up", func(s *Snapshot) { s.Etcd.Alarms = []string{"NOSPACE"} }, func(s *Snapshot) { s.Etcd.DBSize = 3e9 }},
		logFault("etcd-slow", LogK0s, "slow fdatasync", "fdatasync done"),
		{"etcd-without-leader", func(s *Snapshot) { s.Etcd.Members[0].Leader = false }, func(s *Snapshot) { s.Etcd.Members = nil }},
		{"etcd-join-unfinished", func(s *Snapshot) { s.Etcd.Members = append(s.Etcd.Members, EtcdMember{Address: "10.0.0.2"}) },
			func(s *Snapshot) {
				s.Etcd.Members = append(s.Etcd.Members, EtcdMember{Name: "c2", Address: "10.0.0.2"})
			}},
		{"etcd-not-answering", func(s *Snapshot) { s.Etcd, s.EtcdError = nil, "connection refused" }, func(s *Snapshot) { s.Etcd = nil }},
		{"api-not-answering", func(s *Snapshot) { s.Cluster, s.ClusterError = nil, "connection refused" }, func(s *Snapshot) { s.Cluster = nil }},
	}
}

func clusterFaults() []fault {
	object := func(age time.Duration) metav1.ObjectMeta {
		at := ago(age)
		return metav1.ObjectMeta{Name: "old", DeletionTimestamp: &at, Finalizers: []string{"example.com/x"}}
	}
	other := "fast"
	return []fault{
		{"node-not-reporting", nodeNotReady(corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."), nodeNotReady(corev1.ConditionFalse, "KubeletNotReady", "x")},
		{"pod-network-missing", nodeNotReady(corev1.ConditionFalse, "KubeletNotReady", "NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized"),
			nodeNotReady(corev1.ConditionFalse, "KubeletNotReady", "x")},
		{"node-not-ready", nodeNotReady(corev1.ConditionFalse, "KubeletNotReady", "PLEG is not healthy"), nodeNotReady(corev1.ConditionUnknown, "NodeStatusUnknown", "x")},
		{"node-cordoned", func(s *Snapshot) { s.Cluster.Nodes[0].Spec.Unschedulable = true }, func(s *Snapshot) { s.Cluster.Nodes = nil }},
		{"storage-class-missing", claim(&other), claim(nil)},
		{"claim-unbound", claim(nil), claim(nil, corev1.Event{Type: "Normal", Reason: "WaitForFirstConsumer", LastTimestamp: ago(time.Minute), InvolvedObject: corev1.ObjectReference{Namespace: "app", Name: "web"}})},
		{"volume-on-another-node", pod(unscheduled("0/2 nodes are available: 1 node(s) had volume node affinity conflict.")), pod(unscheduled("0/2 nodes are available: x"))},
		{"volume-not-mounted", pod(waiting("ContainerCreating", ""), event("FailedMount", `MountVolume.SetUp failed for volume "a" : secret "b" not found`)), pod(readyStatus(), event("FailedMount", "once"))},
		logFault("volume-full", LogPods+"app/web/web", "could not write: No space left on device", "there is space left on device"),
		{"webhook-without-server", func(s *Snapshot) { s.Cluster.EndpointSlices = nil }, func(s *Snapshot) { s.Cluster.EndpointSlices, s.Cluster.Webhooks[0].Mandatory = nil, false }},
		{"api-service-down", func(s *Snapshot) { s.Cluster.APIServices[0].Available = false }, func(s *Snapshot) { s.Cluster.APIServices = nil }},
		{"stuck-terminating", func(s *Snapshot) { s.Cluster.Namespaces[0].ObjectMeta = object(time.Hour) }, func(s *Snapshot) { s.Cluster.Namespaces[0].ObjectMeta = object(time.Minute) }},
		{"budget-blocks-drain", func(s *Snapshot) {
			s.Cluster.Nodes, s.Cluster.Budgets[0].Status.DisruptionsAllowed = append(s.Cluster.Nodes, s.Cluster.Nodes[0]), 0
		}, func(s *Snapshot) { s.Cluster.Budgets[0].Status = policyv1.PodDisruptionBudgetStatus{} }},
		{"release-pending", func(s *Snapshot) { s.Cluster.Releases[0].Status = "pending-upgrade" }, func(s *Snapshot) {
			s.Cluster.Releases[0].Status, s.Cluster.Releases[0].Changed = "pending-upgrade", now.Add(-time.Minute)
		}},
		{"release-failed", func(s *Snapshot) { s.Cluster.Releases[0].Status = "failed" }, func(s *Snapshot) { s.Cluster.Releases[0].Status = "superseded" }},
	}
}

func podFaults() []fault {
	pull := func(message string) func(*Snapshot) {
		return pod(waiting("ImagePullBackOff", `Back-off pulling image "r/web:1"`), event("Failed", message))
	}
	init := func(since time.Duration) func(*Snapshot) {
		return pod(corev1.PodStatus{Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{{Name: "wait-for-db",
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: ago(since)}}}}})
	}
	create := func(message string) func(*Snapshot) {
		return func(s *Snapshot) {
			e := event("FailedCreate", message)
			e.InvolvedObject = corev1.ObjectReference{Kind: "ReplicaSet", Namespace: "app", Name: "web-1"}
			s.Cluster.Events = append(s.Cluster.Events, e)
		}
	}
	denied := pull(`failed to pull image "r/web:1": unexpected status: 401 Unauthorized`)
	away := pull(`failed to pull image "r/web:1": dial tcp: lookup r: no such host`)
	missing := pull(`failed to pull image "r/web:1": r/web:1: not found`)
	crash := pod(ended("Error", 1))
	return []fault{
		{"resources-insufficient", pod(unscheduled("0/1 nodes are available: 1 Insufficient memory.")), pod(unscheduled("0/1 nodes are available: 1 Too many pods."))},
		{"too-many-pods", pod(unscheduled("0/1 nodes are available: 1 Too many pods.")), pod(unscheduled("0/1 nodes are available: 1 Insufficient cpu."))},
		{"no-node-matches", pod(unscheduled("0/1 nodes are available: 1 node(s) had untolerated taint {a: b}.")), pod(unscheduled("0/1 nodes are available: 1 Insufficient cpu."))},
		{"image-name-invalid", pod(waiting("InvalidImageName", `couldn't parse image name "R/Web"`)), crash},
		{"image-not-on-node", pod(waiting("ErrImageNeverPull", `Container image "r/web:1" is not present with pull policy of Never`)), missing},
		{"image-pull-denied", denied, away}, {"image-registry-unreachable", away, missing}, {"image-missing", missing, denied},
		logFault("image-wrong-architecture", LogPods+"app/web/web", "exec /web: exec format error", "exec /web: no such file or directory"),
		{"pod-sandbox", pod(waiting("ContainerCreating", ""), event("FailedCreatePodSandBox", "failed to setup network for sandbox")), pod(waiting("ContainerCreating", ""))},
		{"pod-addresses-used-up", pod(waiting("ContainerCreating", ""), event("FailedCreatePodSandBox", "no IP addresses available in range set: 10.244.0.1-10.244.0.254")),
			pod(waiting("ContainerCreating", ""), event("FailedCreatePodSandBox", "failed to setup network"))},
		{"pod-config-missing", pod(waiting("CreateContainerConfigError", `secret "db" not found`)), crash},
		{"pod-out-of-memory", pod(ended("OOMKilled", 137)), crash}, {"pod-crashes", crash, pod(ended("OOMKilled", 137))},
		{"pod-init-waits", init(20 * time.Minute), init(time.Minute)},
		{"pod-probe-fails", pod(corev1.PodStatus{Phase: corev1.PodRunning}, event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")), pod(readyStatus(), event("Unhealthy", "once"))},
		{"pods-evicted", pod(corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: ephemeral-storage."}), pod(corev1.PodStatus{Phase: corev1.PodFailed})},
		{"quota-exceeded", create(`pods "web" is forbidden: exceeded quota: small`), create("x")},
		{"pod-forbidden", create(`pods "web" is forbidden: violates PodSecurity "restricted:latest"`), create("x")},
		{"cgroup-driver", pod(waiting("ContainerCreating", ""), event("FailedCreatePodSandBox", `expected cgroupsPath to be of format "slice:prefix:name"`)), crash},
	}
}

func TestDiagnose_FindsNothingOnAHealthyHost(t *testing.T) {
	if found := Diagnose(healthy()); len(found) > 0 {
		t.Errorf("%+v", found)
	}
	if found := Diagnose(Snapshot{}); len(found) > 0 {
		t.Errorf("an empty snapshot: %+v", found)
	}
}

// effects are rules that name what another fault does, and may come with it.
var effects = []string{"k0s-not-running", "api-not-answering"}

func TestDiagnose_NamesEachFaultFirst(t *testing.T) {
	for i, f := range faults() {
		t.Run(fmt.Sprintf("%s %d", f.rule, i), func(t *testing.T) {
			s := healthy()
			f.shows(&s)
			found := Diagnose(s)
			if len(found) == 0 || found[0].Rule != f.rule {
				t.Fatalf("%+v", found)
			}
			for _, more := range found[1:] {
				if !slices.Contains(effects, more.Rule) && more.Severity == Error {
					t.Errorf("also %+v", more)
				}
			}
			if first := found[0]; first.Culprit == "" || first.Fix == "" || len(first.Evidence) == 0 {
				t.Errorf("%+v", first)
			}
			s = healthy()
			f.near(&s)
			if found := Diagnose(s); slices.ContainsFunc(found, func(d Finding) bool { return d.Rule == f.rule }) {
				t.Errorf("without the cause: %+v", found)
			}
		})
	}
}

func TestDiagnose_PutsTheCauseBeforeItsEffects(t *testing.T) {
	s := healthy()
	stop(&s)
	s.Cluster, s.ClusterError, s.Etcd, s.EtcdError = nil, "connection refused", nil, "connection refused"
	s.Host.Disks[0].Available = 1e6
	s.Host.Clock.Synced = false
	logs(LogK0s, 30, "mvcc: write /var/lib/k0s/etcd/member/wal: no space left on device")(&s)
	var order []string
	for _, f := range Diagnose(s) {
		order = append(order, f.Rule)
	}
	if want := []string{"disk-full", "k0s-not-running", "api-not-answering", "disk-pressure", "clock-not-synchronized"}; !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
}

func TestDiagnose_TracesOfWhatIsOverAreWarnings(t *testing.T) {
	s := healthy()
	logs(LogKernel, 1, "Out of memory: Killed process 812 (java)")(&s)
	if found := Diagnose(s); len(found) != 1 || found[0].Severity != Warning {
		t.Errorf("%+v", found)
	}
	stop(&s)
	if found := Diagnose(s); found[0].Rule != "out-of-memory" || found[0].Severity != Error {
		t.Errorf("%+v", found)
	}
	s.Time = now.Add(20 * time.Hour)
	if found := Diagnose(s); found[0].Rule != "out-of-memory" || found[0].Severity != Error {
		t.Errorf("k0s has not run since then: %+v", found)
	}
	s = healthy()
	s.Logs[LogTime] = []Line{{Time: now.Add(-20 * time.Hour), Text: "System clock wrong by 12.345678 seconds"}} // at boot
	pod(ended("Error", 1))(&s)
	if found := Diagnose(s); found[0].Rule != "pod-crashes" || found[len(found)-1].Severity != Warning {
		t.Errorf("long before the fault: %+v", found)
	}
}

func TestDiagnose_LinesOfK0sDoNotExplainPods(t *testing.T) {
	s := healthy()
	logs(LogK0s, 30, "dial unix /run/k0s/containerd.sock: connect: connection refused")(&s)
	pod(ended("Error", 1))(&s)
	if found := Diagnose(s); found[0].Rule != "pod-crashes" || found[len(found)-1].Rule != "containerd-stopped" || found[len(found)-1].Severity != Warning {
		t.Errorf("%+v", found)
	}
	nodeNotReady(corev1.ConditionFalse, "KubeletNotReady", "container runtime is down")(&s)
	if found := Diagnose(s); found[0].Rule != "containerd-stopped" || found[0].Severity != Error {
		t.Errorf("the node is not Ready: %+v", found)
	}
	s.Logs[LogK0s] = append(s.Logs[LogK0s], Line{Time: now.Add(time.Hour), Text: "later"})
	if found := Diagnose(s); found[0].Rule != "node-not-ready" {
		t.Errorf("old lines: %+v", found)
	}
}

func TestDiagnose_EventsOfAnEarlierPodAreNoEvidence(t *testing.T) {
	invalid := event("Failed", `Failed to apply default image tag "R/Web": couldn't parse image name "R/Web": invalid reference format`)
	unmounted := event("FailedMount", `MountVolume.SetUp failed for volume "a" : secret "b" not found`)
	away := event("Failed", `failed to pull image "r/web:1": dial tcp: lookup r: no such host`)
	invalid.InvolvedObject.UID, unmounted.InvolvedObject.UID, away.InvolvedObject.UID = "1", "1", "2"
	s := healthy()
	pod(waiting("ImagePullBackOff", `Back-off pulling image "r/web:1"`), invalid, unmounted, away)(&s)
	s.Cluster.Pods[1].UID = "2"
	found := Diagnose(s)
	if len(found) != 1 || found[0].Rule != "image-registry-unreachable" || !strings.Contains(found[0].Evidence[0], "no such host") {
		t.Errorf("%+v", found)
	}
}

func TestDiagnose_ARollbackStopsTheAgentItself(t *testing.T) {
	s := healthy()
	s.Units[0].Active = "inactive"
	s.Install.Verb, s.Install.Step, s.Install.Failed = "rollback", "system-pods", "no answer"
	if i := slices.IndexFunc(Diagnose(s), func(f Finding) bool { return f.Rule == "agent-not-running" }); i >= 0 {
		t.Errorf("finding %d blames the agent", i)
	}
}

func TestDiagnose_LimitsEvidence(t *testing.T) {
	s := healthy()
	for i := range 9 {
		pod(waiting("InvalidImageName", strings.Repeat("x", 1000)))(&s)
		s.Cluster.Pods[i+1].Name = fmt.Sprint("web-", i)
	}
	found := Diagnose(s)[0]
	if len(found.Evidence) != maxEvidence+1 || found.Evidence[maxEvidence] != "and 5 more" || len(found.Evidence[0]) > 2*maxLineLength {
		t.Errorf("%+v", found)
	}
}

func TestDescribeLine_ShowsTheTextOfK0s(t *testing.T) {
	got := describeLine(LogK0s, line(`time="2026-01-02 11:59:00" level=error msg="cannot read \"a\"" component=etcd`), 3)
	if want := `k0s at 2026-01-02 11:59:00Z: cannot read "a" (3 such lines)`; got != want {
		t.Errorf("%q", got)
	}
}

func TestRules_AreComplete(t *testing.T) {
	ids := map[string]bool{}
	shown := map[string]bool{}
	for _, f := range faults() {
		shown[f.rule] = true
	}
	all := Rules()
	if len(all) < 40 {
		t.Errorf("%d rules", len(all))
	}
	for _, r := range all {
		t.Run(r.ID, func(t *testing.T) {
			if ids[r.ID] || !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(r.ID) {
				t.Error("the id is not unique or not kebab-case")
			}
			ids[r.ID] = true
			if r.Area == "" || r.Culprit == "" || r.Symptom == "" || r.Fix == "" || r.Logs == nil && r.Find == nil {
				t.Errorf("%+v", r)
			}
			if !shown[r.ID] {
				t.Error("no fault shows it")
			}
			if strings.Contains(r.Fix, "docs/") {
				t.Error("users without internet have no docs: write commands")
			}
			for _, p := range r.Logs {
				if regexp.MustCompile(p.Match).MatchString("") || p.Unless != "" && regexp.MustCompile(p.Unless).MatchString("") {
					t.Errorf("%q matches every line", p.Match)
				}
			}
		})
	}
}

const guide = "../../docs/guide/troubleshooting.md"

// TestGuide_ListsEveryRule compares the table in the guide with the rules; `go test ./internal/diagnosis -update` writes it.
func TestGuide_ListsEveryRule(t *testing.T) {
	text, err := os.ReadFile(guide)
	testkit.Must(t, err)
	const begin, end = "<!-- Generated from the rules by \"go test ./internal/diagnosis -update\"; do not edit. -->\n", "<!-- End of the generated part. -->"
	before, rest, ok1 := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("the guide has no place for the rules")
	}
	testkit.Golden(t, guide, []byte(before+begin+ruleTables()+"\n"+end+after))
}

// ruleTables returns the rules as a table for each area.
func ruleTables() string {
	var b strings.Builder
	area := ""
	escape := strings.NewReplacer("\n", "<br>", "|", "\\|")
	for _, r := range Rules() {
		if r.Area != area {
			area = r.Area
			fmt.Fprintf(&b, "\n### %s\n\n| finding | what is wrong | how it shows | what to do |\n|---|---|---|---|\n", area)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.ID, escape.Replace(r.Culprit), escape.Replace(r.Symptom), escape.Replace(r.Fix))
	}
	return b.String()
}

func BenchmarkDiagnose(b *testing.B) {
	s := healthy()
	for range 2000 {
		s.Logs[LogK0s] = append(s.Logs[LogK0s], line(`time="2026-01-02 11:59:00" level=info msg="{\"level\":\"warn\",\"ts\":\"2026-01-02T11:59:00Z\",\"caller\":\"txn/util.go:93\",\"msg\":\"range\"}" component=etcd stream=stderr`))
	}
	for b.Loop() {
		Diagnose(s)
	}
}
