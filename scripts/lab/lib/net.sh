# shellcheck shell=bash
# The lab's network: a bridge in its own network namespace, which forwards nothing.
#   .1    the bridge and default route of the hosts, which leads nowhere: a host has a route but cannot reach other networks
#   .10-  the hosts
#   .254  the machine
# The machine's firewall and forwarding are neither changed nor needed.

uplink() { echo "lab$(cat "$lab_dir/subnet")"; }
subnet() { echo "10.77.$(cat "$lab_dir/subnet")"; }

# pick_subnet chooses a 10.77.N.0/24 that neither the machine nor another lab uses, starting
# at an N derived from the lab's name.
pick_subnet() {
	local n i
	[ ! -e "$lab_dir/subnet" ] || return 0
	n=$(($(printf %s "$lab" | cksum | cut -d' ' -f1) % 256))
	for ((i = 0; i < 256; i++, n = (n + 1) % 256)); do
		if ! grep -qsx "$n" "$cache"/labs/*/subnet && subnet_is_free "10.77.$n.0/24"; then
			echo "$n" >"$lab_dir/subnet"
			return 0
		fi
	done
	die "no free subnet in 10.77.0.0/16"
}

subnet_is_free() { # CIDR: no route of the machine contains it or is part of it
	[ -z "$(ip -4 route show table all to match "$1" | grep -v '^default')" ] &&
		[ -z "$(ip -4 route show table all to root "$1")" ]
}

net_up() {
	local ns=$id
	(
		lock subnets
		pick_subnet
	)
	! ip -n "$ns" link show br0 >/dev/null 2>&1 || return 0
	net_down
	ip netns add "$ns"
	ip netns exec "$ns" sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward
		echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
		echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables' 2>/dev/null || true
	ip link add "$(uplink)" type veth peer name up0 netns "$ns"
	echo 1 >"/proc/sys/net/ipv6/conf/$(uplink)/disable_ipv6" 2>/dev/null || true
	echo 0 >"/proc/sys/net/ipv4/conf/$(uplink)/forwarding"
	ip addr add "$(subnet).254/24" dev "$(uplink)"
	ip link set "$(uplink)" up
	ip -n "$ns" link set lo up
	ip -n "$ns" link set up0 up
	ip -n "$ns" link add br0 type bridge
	ip -n "$ns" addr add "$(subnet).1/24" dev br0
	ip -n "$ns" link set up0 master br0
	ip -n "$ns" link set br0 up
}

net_down() {
	if [ -e "/run/netns/$id" ]; then ip netns del "$id"; fi
	if [ -e "$lab_dir/subnet" ]; then ip link del "$(uplink)" 2>/dev/null || true; fi
}

pick_ip() { # prints the first address that no host of the lab uses
	local n
	for ((n = 10; n < 250; n++)); do
		grep -qsx "$(subnet).$n" "$lab_dir"/hosts/*/ip || { echo "$(subnet).$n"; return 0; }
	done
	die "lab '$lab' is full"
}

# net_attach creates the interface of the calling process's new network namespace. The
# namespace has no name, so it always ends with the host.
net_attach() {
	local ns=$id ip port
	ip=$(cat "$dir/ip")
	port=h${ip##*.}
	ip -n "$ns" link del "$port" 2>/dev/null || true
	ip link set lo up
	# The same hardware address after each boot, as on a real host.
	ip link add eth0 address "$(printf '02:00:%02x:%02x:%02x:%02x' ${ip//./ })" type veth peer name "$port" netns "$ns"
	ip -n "$ns" link set "$port" master br0 up
	ip addr add "$ip/24" dev eth0
	ip link set eth0 up
	ip route add default via "$(subnet).1"
}
