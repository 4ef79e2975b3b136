package cleanup

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/plinthdev/plinth/internal/host/hosttest"
)

func TestFromCluster_SeparatesChangesOfClusterAndOwner(t *testing.T) {
	c := DefaultScope(netip.MustParsePrefix("10.244.0.0/16"))
	before := Snapshot{"links": {"eth0 UP"}, "units": {"ssh.service enabled enabled"}, "files": {"/etc/cni drwxr-xr-x 0:0"}, "ports": {}, "programs": {"/usr/bin/sleep"},
		"packet rules": {}, "routes": {"default via 10.0.0.1"}, "modules": {"ext4"}, "users": {"passwd root 0 /root"}, "addresses": {"eth0 UP 10.0.0.2/24"}, "mounts": {"/ ext4"}}
	after := Snapshot{"links": {"eth0 UP", "kube-bridge UP", "wg0 UP"}, "units": {"k0scontroller.service enabled", "nginx.service enabled", "ssh.service enabled enabled"},
		"files": {"/etc/cni drwxr-xr-x 0:0", "/opt/cni/bin/bridge -rwxr-xr-x 0:0", "/usr/local/bin/theirs -rwxr-xr-x 0:0"}, "ports": {"tcp *:80"},
		"programs":     {"/usr/sbin/nginx", "/var/lib/k0s/bin/kubelet"},
		"packet rules": {"iptables-nft filter DOCKER -j ACCEPT", "iptables-nft nat OUTPUT -j KUBE-SERVICES"}, "routes": {"10.244.1.0/24 via 10.0.0.3 proto 17", "default via 10.0.0.1"},
		"modules": {"ext4", "overlay"}, "users": {"passwd etcd 990 /var/lib/k0s", "passwd root 0 /root"}, "addresses": {"eth0 UP 10.0.0.9/24"},
		"mounts": {"/ ext4", "/var/lib/kubelet/pods/x tmpfs"}}
	var ours, others []string
	for _, d := range DiffSnapshots(before, after) {
		if d.FromCluster(c) {
			ours = append(ours, d.String())
		} else {
			others = append(others, d.String())
		}
	}
	want := []string{"files: + /opt/cni/bin/bridge -rwxr-xr-x 0:0", "links: + kube-bridge UP", "mounts: + /var/lib/kubelet/pods/x tmpfs", "packet rules: + iptables-nft nat OUTPUT -j KUBE-SERVICES",
		"programs: + /var/lib/k0s/bin/kubelet", "routes: + 10.244.1.0/24 via 10.0.0.3 proto 17", "units: + k0scontroller.service enabled", "users: + passwd etcd 990 /var/lib/k0s"}
	if !reflect.DeepEqual(ours, want) {
		t.Errorf("changes of the cluster are %q", ours)
	}
	want = []string{"addresses: + eth0 UP 10.0.0.9/24", "addresses: - eth0 UP 10.0.0.2/24", "files: + /usr/local/bin/theirs -rwxr-xr-x 0:0", "links: + wg0 UP", "modules: + overlay",
		"packet rules: + iptables-nft filter DOCKER -j ACCEPT", "programs: + /usr/sbin/nginx", "programs: - /usr/bin/sleep", "units: + nginx.service enabled"}
	if !reflect.DeepEqual(others, want) {
		t.Errorf("other changes are %q", others)
	}
}

func TestDiffSnapshots_EmptyForUnchangedHost(t *testing.T) {
	f := hosttest.New(t)
	for _, tool := range []string{"ip ", "systemctl list-unit-files", "ss -Hltnu"} {
		f.Expect(tool).Return("a b c d e\n", nil).AnyTimes()
	}
	c := DefaultScope()
	if d := DiffSnapshots(TakeSnapshot(t.Context(), f.Host(), c), TakeSnapshot(t.Context(), f.Host(), c)); len(d) > 0 {
		t.Errorf("the snapshots differ: %v", d)
	}
}
