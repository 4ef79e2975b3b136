package printer

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/plinthdev/plinth/internal/action/reset"
	"github.com/plinthdev/plinth/internal/step"
	"github.com/plinthdev/plinth/internal/testkit"
)

// foundObjects returns what a dry run finds on a host with a few pods.
func foundObjects() []step.Planned {
	some := func(n int, format string) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf(format, i))
		}
		return all
	}
	processes := append(some(14, "1%02d /pause"), some(14, "2%02d /var/lib/k0s/bin/containerd-shim-runc-v2")...)
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "containerd"} {
		processes = append(processes, "300 /var/lib/k0s/bin/"+name)
	}
	rules := append(some(37, "iptables-nft nat: chain KUBE-SVC-%02d"), "iptables-nft nat: chain KUBE-ROUTER-SERVICES",
		"iptables-nft nat: rule in PREROUTING: -j KUBE-SERVICES", "iptables-nft nat: rule in OUTPUT: -j KUBE-SERVICES", "iptables-nft filter: chain KUBE-FORWARD")
	rules = append(rules, some(9, "iptables-nft filter: chain KUBE-POD-FW-%02d")...)
	return []step.Planned{
		{Step: "units", Title: "Stop k0s", State: "needed", Affects: []string{"k0scontroller.service", "plinth-agent.service"}},
		{Step: "processes", Title: "End the cluster's processes", State: "needed", Affects: processes},
		{Step: "mounts", Title: "Unmount what the cluster mounted", State: "needed", Affects: append(some(30, "/var/lib/kubelet/pods/%d/volumes"), some(12, "/run/k0s/containerd/io.containerd.runtime.v2.task/%d")...)},
		{Step: "routes", Title: "Remove routes to pods", State: "done"},
		{Step: "links", Title: "Remove network links", State: "needed", Affects: append(some(12, "veth%08x"), "kube-bridge")},
		{Step: "firewall-rules", Title: "Remove iptables rules", State: "needed", Affects: rules},
		{Step: "files", Title: "Remove files", State: "needed", Bytes: 2100e6, Affects: []string{"/var/lib/k0s (2.0 GB)", "/var/lib/kubelet (12 MB)", "/etc/k0s", "/usr/local/bin/k0s (233 MB)", "/etc/cni/net.d/10-kuberouter.conflist"}},
		{Step: "users", Title: "Remove users", State: "done"},
	}
}

func TestWriteResetResult_MatchesGoldens(t *testing.T) {
	volumes := []string{"/var/lib/plinth/volumes: data of 2 volumes, 8 B; --delete-data removes it"}
	left := reset.Result{Changed: true, Node: "b", Cluster: "my-app", Log: "/var/log/plinth/reset-1.log"}
	untold := left
	untold.FollowUp = []string{"sudo plinth node remove b"}
	for name, c := range map[string]struct {
		result reset.Result
		failed bool
	}{
		"plan":                {result: reset.Result{Plan: foundObjects(), Retained: volumes}},
		"plan-one-of-several": {result: reset.Result{Plan: foundObjects(), IsOneOfSeveral: true}},
		"data-only":           {result: reset.Result{Changed: true, Log: "/var/log/plinth/reset-1.log", DataOnly: true, DeletedVolumes: 3}},
		"pieces-only":         {result: reset.Result{Changed: true, Log: "/var/log/plinth/reset-1.log", DataOnly: true}},
		"done-data":           {result: reset.Result{Changed: true, Log: "/var/log/plinth/reset-1.log", DeletedVolumes: 1}},
		"plan-done":           {result: reset.Result{Plan: []step.Planned{{Step: "units", Title: "Stop k0s", State: "done"}}}},
		"done": {result: reset.Result{Changed: true, Log: "/var/log/plinth/reset-1.log", Retained: volumes,
			Comparison: &reset.Comparison{Compared: 1203, OtherChanges: []string{"modules: + overlay"}}}},
		"node-program": {result: reset.Result{Changed: true, Node: "b", Cluster: "my-app", Log: "/var/log/plinth/reset-1.log", Program: "/usr/local/bin/plinth"}},
		"done-program": {result: reset.Result{Changed: true, Log: "/var/log/plinth/reset-1.log", Program: "/usr/local/bin/plinth"}},
		"left":         {result: reset.Result{Changed: true, Leftovers: []string{"mount /run/x", "process 12"}}, failed: true},
		"nothing":      {result: reset.Result{}},
		"node":         {result: left},
		"node-only":    {result: untold},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			WriteResetResult(&b, c.result, "plinth reset cluster", c.failed)
			testkit.Golden(t, "testdata/reset-"+name+".txt", b.Bytes())
		})
	}
}
