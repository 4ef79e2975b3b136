//go:build e2e

package e2e

import (
	"strconv"
	"strings"
)

// hostFaults returns hosts on which an install fails, or works only with a warning.
// Each fault is created on a real host, and the output must name it.
func hostFaults() []refusal {
	typed := strings.Fields
	refused := typed(installArgs + bundle)
	look := typed("preflight --quick")
	return []refusal{
		{name: "disk nearly full", prepare: "fallocate -l $(($(df --output=avail -B1 / | tail -n1)-2000000000)) /srv/full", args: refused, code: 5, want: "/ (ext4): 2.0 GB free, ", undo: "rm /srv/full"},
		{name: "no default route", prepare: "ip route show default >/srv/route; ip route del default", args: refused, code: 5,
			want: "FAIL     default-route                 none", undo: "ip route add $(cat /srv/route); rm /srv/route"},
		{name: "only an IPv6 default route", prepare: "ip route show default >/srv/route; ip route del default; " + addSecondNIC + "; sysctl -qw net.ipv6.conf.eth1.disable_ipv6=0; ip -6 route add default via fe80::1 dev eth1", args: refused, code: 5,
			want: "only an IPv6 default route, on eth1", undo: removeSecondNIC + "; ip route add $(cat /srv/route); rm /srv/route"},
		{name: "a blackhole instead of a default route", prepare: "ip route show default >/srv/route; ip route del default; ip route add blackhole default", args: refused, code: 5,
			want: "the IPv4 default route refuses all packets", undo: "ip route del default; ip route add $(cat /srv/route); rm /srv/route"},
		{name: "preflight alone, a second network", prepare: addSecondNIC, args: look, code: 0, want: "other addresses: 192.0.2.10 on eth1", undo: removeSecondNIC},
		{name: "preflight alone, the second network", prepare: addSecondNIC, args: typed("preflight --quick --network-interface eth1"), code: 0, want: "192.0.2.10 on eth1, as requested", undo: removeSecondNIC},
		{name: "an address of another host", args: typed(installArgs + bundle + " --address 192.0.2.77"), code: 5, want: "192.0.2.77 is not an address of this host"},
		{name: "no address at all", args: typed(installArgs + bundle + " --address node1"), code: 2, want: "is not an IPv4 address"},
		{name: "host name with upper case", prepare: "hostname >/srv/name; hostname Node-A", args: refused, code: 5,
			want: "Node-A has upper-case letters", undo: "hostname $(cat /srv/name); rm /srv/name"},
		{name: "pods in the host's network", prepare: "ip address add 10.244.7.7/16 dev eth0", args: refused, code: 5,
			want: "10.244.0.0/16 overlaps with route 10.244.0.0/16 on eth0, address 10.244.7.7 on eth0", undo: "ip address del 10.244.7.7/16 dev eth0"},
		{name: "network configuration of an earlier cluster", prepare: "mkdir -p /etc/cni/net.d; echo '{}' >/etc/cni/net.d/10-flannel.conflist", args: refused, code: 5,
			want: "/etc/cni/net.d/10-flannel.conflist", undo: "rm -r /etc/cni"},
		{name: "read-only /etc", prepare: "mount --bind /etc /etc; mount -o remount,ro,bind /etc", args: refused, code: 5,
			want: "/etc (ext4) is mounted read-only", undo: "umount /etc"},
		{name: "folder on the way closed", prepare: "chmod o-x /var/lib", args: refused, code: 5, want: "sudo chmod o+x /var/lib", undo: "chmod o+x /var/lib"},
		{name: "a table of iptables with rules of nft", prepare: "nft add table ip filter; nft 'add chain ip filter INPUT { type filter hook input priority 0; policy accept; }'; nft add rule ip filter INPUT ct state invalid drop", args: refused, code: 5,
			want: "FAIL     iptables-tables               ip filter", undo: "nft delete table ip filter"},
		{name: "a chain that drops by default", prepare: "nft add table inet host; nft 'add chain inet host forward { type filter hook forward priority 0; policy drop; }'", args: look, code: 0,
			want: "inet host forward drops (policy drop)", undo: "nft delete table inet host"},
		{name: "preflight alone, port taken", prepare: occupyPort(6443), args: look, code: 5, want: "is in use by socat, pid", undo: releasePort},
		{name: "preflight alone, ignored", prepare: occupyPort(6443), args: typed("preflight --quick --ignore-host-preflight port-kube-apiserver"), code: 0,
			want: "(ignored by --ignore-host-preflight)", undo: releasePort},
		{name: "preflight alone, a worker has no etcd", prepare: occupyPort(2380), args: typed("preflight --quick --role worker"), code: 0, want: "checks passed", undo: releasePort},
		{name: "preflight alone, a worker's load balancer", prepare: occupyPort(6443), args: typed("preflight --quick --role worker"), code: 5, want: "127.0.0.1:6443/tcp (api-loadbalancer) is in use by socat, pid", undo: releasePort},
		{name: "preflight without root", user: true, args: look, code: 5, want: "sudo " + binary + " preflight"},
		{name: "DNS that drops packets", prepare: "cp -P /etc/resolv.conf /srv/resolv; rm /etc/resolv.conf; echo 'nameserver 192.0.2.53' >/etc/resolv.conf", args: look, code: 0,
			want: "192.0.2.53: no answer within 1.5s", undo: "rm /etc/resolv.conf; mv /srv/resolv /etc/resolv.conf"},
		{name: "another containerd", prepare: "mkdir -p /run/containerd; systemd-run -q --unit=containerd socat UNIX-LISTEN:/run/containerd/containerd.sock,fork /dev/null; sleep .3", args: look, code: 0,
			want: "unit containerd (active)", undo: "systemctl stop containerd; systemctl reset-failed containerd 2>/dev/null; rm -rf /run/containerd"},
		{name: "swap on", prepare: "printf 'Filename Type Size Used Priority\\n/swap.img file 2097148 0 -2\\n' >/srv/swaps; mount --bind /srv/swaps /proc/swaps", args: look, code: 0,
			want: "on: /swap.img (2.1 GB)", undo: "umount /proc/swaps; rm /srv/swaps"},
		{name: "killed while it measures", prepare: "timeout -s KILL 0.6 " + binary + " preflight >/dev/null 2>&1; true", args: typed("preflight"), code: 0, want: "99 % below"},
		{name: "two unknown ids", args: typed("preflight --quick --ignore-host-preflight memry,disk-latncy"), code: 2, want: "did you mean disk-latency?"},
	}
}

// addSecondNIC is a script that adds the interface eth1 with an address.
const (
	addSecondNIC    = "ip link add eth1 type veth peer name peth1; ip link set peth1 up; ip link set eth1 up; ip address add 192.0.2.10/24 dev eth1"
	removeSecondNIC = "ip link del eth1"
)

// occupyPort returns a script that makes another program listen on a port;
// releasePort ends that program.
func occupyPort(port int) string {
	return strings.ReplaceAll("systemd-run -q --unit=taker socat TCP-LISTEN:PORT,fork /dev/null; for i in 1 2 3 4 5 6 7 8 9; do ss -ltn | grep -q :PORT && break; sleep .2; done", "PORT", strconv.Itoa(port))
}

const releasePort = "systemctl stop taker; systemctl reset-failed taker 2>/dev/null || true"
