# shellcheck shell=bash
# The life cycle of a host: up, stop, snapshot, restore, down. Its folder in the lab's state contains
#   disks/      disk.img, its whole disk, a sparse ext4 image (so kubelet sees a disk of its
#               own), and snapshot-NAME.img; a link if $LAB_DISKS is set
#   ip cpus memory dns   settings with which it was created
#   ready       exists after the first boot; without it `up` creates the host again
#   run         locked while the host runs
#   pid         systemd-nspawn's process id; console.log its console

cmd_up() {
	local started=$EPOCHREALTIME host='' os=debian-12 disk=40G cpus='' memory='' dns=''
	while [ $# -gt 0 ]; do
		case $1 in
		--os) os=${2:?--os needs a value}; shift 2 ;;
		--disk) disk=${2:?--disk needs a value}; shift 2 ;;
		--cpus) cpus=${2:?--cpus needs a value}; shift 2 ;;
		--memory) memory=${2:?--memory needs a value}; shift 2 ;;
		--dns) dns=${2:?--dns needs a value}; shift 2 ;;
		-*) die "up: unknown flag $1" 2 ;;
		*) host=$1; shift ;;
		esac
	done
	use_host "$host"
	use_os "$os"
	need_machine_packages
	need_inotify
	[ -e "$dir/ready" ] || build_root
	lock "$cgroup"
	if is_running; then
		echo "$name $(cat "$dir/ip") already up"
		return 0
	fi
	cgroup_remove
	[ -e "$dir/ready" ] || create_host "$disk" "$cpus" "$memory" "$dns"
	start_host
	touch "$dir/ready"
	echo "$name $(cat "$dir/ip") up in $(since "$started")"
}

create_host() { # DISK CPUS MEMORY DNS
	throw_away_host
	mkdir -p "$dir/mnt"
	if [ -n "${LAB_DISKS:-}" ]; then
		mkdir -p "$LAB_DISKS/$cgroup"
		ln -s "$LAB_DISKS/$cgroup" "$dir/disks"
	else
		mkdir "$dir/disks"
	fi
	(
		lock "$id"
		net_up
		pick_ip >"$dir/ip"
	)
	[ -z "$2" ] || echo "$2" >"$dir/cpus"
	[ -z "$3" ] || numfmt --from=iec "$3" >"$dir/memory"
	echo "${4:-$(subnet).1}" >"$dir/dns"
	cp --sparse=always "$(root_image)" "$dir/disks/disk.img"
	truncate -s "$1" "$dir/disks/disk.img"
	resize2fs -f "$dir/disks/disk.img" >/dev/null 2>&1
	touch "$dir/new"
}

start_host() {
	(
		lock "$id"
		net_up
	)
	setsid --fork flock --nonblock --close "$dir/run" "$here/lab" --lab "$lab" _supervise "$name" \
		{lock_fd}>&- </dev/null >>"$dir/console.log" 2>&1
	wait_booted
	write_hosts
}

# A reboot gives the host new mounts, links and firewall rules, as on a real machine.
# systemd-nspawn exits with 133 for a reboot.
cmd__supervise() {
	local code
	use_host "$1"
	while :; do
		code=0
		unshare --mount --net --propagation private "$here/lab" --lab "$lab" _boot "$name" || code=$?
		cgroup_remove
		[ "$code" = 133 ] || exit "$code"
	done
}

# _boot runs in mount and network namespaces of its own. So the loop device, the
# mount and the interface disappear with the host's last process, even after kill -9.
cmd__boot() {
	use_host "$1"
	cgroup_enter
	# No barriers, because a disposable disk need not survive a power failure of the machine.
	mount -o loop,discard,barrier=0 "$dir/disks/disk.img" "$dir/mnt"
	[ ! -e "$dir/new" ] || provision "$dir/mnt"
	rm -f "$dir/new"
	net_attach
	local binds=(--bind=/dev/kmsg --bind=/dev/fuse)
	if [ -e "$dir/memory" ]; then
		fake_meminfo >"$dir/meminfo"
		binds+=("--bind-ro=$dir/meminfo:/run/lab-meminfo")
	fi
	echo $$ >"$dir/pid"
	# As on a real host, /proc/sys and /sys are writable and /tmp is on the disk.
	SYSTEMD_NSPAWN_API_VFS_WRITABLE=1 SYSTEMD_NSPAWN_TMPFS_TMP=0 exec systemd-nspawn --quiet --boot --directory="$dir/mnt" \
		--machine="$lab-$name" --hostname="$name" --network-namespace-path=/proc/self/ns/net \
		--register=no --keep-unit --link-journal=no --resolv-conf=off --timezone=off --console=pipe \
		--capability=all --system-call-filter='add_key keyctl bpf' "${binds[@]}"
}

provision() { # ROOT: gives a copy of the root the identity of this host
	echo "$name" >"$1/etc/hostname"
	tr -d - </proc/sys/kernel/random/uuid >"$1/etc/machine-id"
	echo "nameserver $(cat "$dir/dns")" >"$1/etc/resolv.conf"
	printf '%s\n' '127.0.0.1 localhost' "127.0.1.1 $name" '::1 localhost ip6-localhost ip6-loopback' >"$1/etc/hosts"
	if ((0x$(sed -n 's/^CapBnd:\t*//p' /proc/self/status) >> 24 & 1)); then return 0; fi
	# Without CAP_SYS_RESOURCE runc cannot lower oom_score_adj, and pods that request it fail.
	mkdir -p "$1/etc/k0s/containerd.d"
	printf '%s\n' 'version = 2' '[plugins."io.containerd.grpc.v1.cri"]' 'restrict_oom_score_adj = true' \
		>"$1/etc/k0s/containerd.d/lab-oom.toml"
}

fake_meminfo() { # the machine's, with its sizes scaled down to the requested memory
	awk -v total="$(($(cat "$dir/memory") / 1024))" '
		/^MemTotal:/ { scale = total / $2; $2 = total; print; next }
		/^(Swap|Commit|Vmalloc|Huge)/ || $2 == 0 { print; next }
		{ $2 = int($2 * scale); print }' /proc/meminfo
}

host_names() { # of this lab
	local file
	for file in "$lab_dir"/hosts/*/ip; do
		[ ! -e "$file" ] || basename "$(dirname "$file")"
	done
}

# write_hosts writes the names of all hosts to every running host, because there is no other name service.
write_hosts() {
	local host pid file entries
	(
		lock "$id"
		entries=$(for host in $(host_names); do echo "$(cat "$lab_dir/hosts/$host/ip") $host"; done)
		for host in $(host_names); do
			use_host "$host"
			pid=$(leader) || continue
			file=/proc/$pid/root/etc/hosts
			[ -f "$file" ] || continue
			entries_for "$file" "$entries" >"$dir/hosts"
			cmp -s "$dir/hosts" "$file" || cat "$dir/hosts" >"$file"
		done
	)
}

entries_for() { # FILE ENTRIES: prints the file with the updated block of lab hosts
	sed '/^# lab hosts$/,/^# end of lab hosts$/d' "$1"
	printf '%s\n' '# lab hosts' "$2" "$(subnet).254 machine" '# end of lab hosts'
}

# leader prints the process id of the host's systemd. It fails if the host does not run.
leader() {
	local pid
	pid=$(cat "$dir/pid" 2>/dev/null) || return 1
	grep -qs "/$cgroup\(/\|$\)" "/proc/$pid/cgroup" || return 1
	pgrep -P "$pid" -o
}

is_running() { [ -e "$dir/ready" ] && [ -e "$dir/run" ] && ! flock -n "$dir/run" true && leader >/dev/null; }

wait_booted() {
	local state tries
	for ((tries = 0; tries < 300; tries++)); do
		sleep 0.1
		leader >/dev/null || continue
		state=$(in_host "$name" systemctl is-system-running --wait 2>/dev/null) || true
		case $state in
		running) return 0 ;;
		degraded)
			echo "lab: $name is up but units failed:" >&2
			in_host "$name" systemctl --failed --no-legend --plain >&2
			return 0
			;;
		esac
	done
	tail -n 5 "$dir/console.log" >&2
	die "$name did not boot within 30 s, see $dir/console.log"
}

cmd_stop() {
	known_host "${1:-}"
	lock "$cgroup"
	case ${2:-} in
	'') shut_down ;;
	--now) cgroup_remove ;;
	*) die "stop: unknown flag $2" 2 ;;
	esac
}

shut_down() { # regularly, but for at most 30 s
	if leader >/dev/null; then
		in_host "$name" systemctl poweroff >/dev/null 2>&1 || true
		flock -w 30 "$dir/run" true || true
	fi
	cgroup_remove
}

copy_disk() { # FROM TO: shares blocks if the file system supports it, else copies without holes
	cp --reflink=auto --sparse=always "$dir/disks/$1.img" "$dir/disks/$2.tmp"
	mv "$dir/disks/$2.tmp" "$dir/disks/$2.img"
}

cmd_snapshot() {
	local started=$EPOCHREALTIME was_running=''
	known_host "${1:-}"
	check_name snapshot "${2:-}"
	lock "$cgroup"
	! is_running || was_running=1
	shut_down
	copy_disk disk "snapshot-$2"
	[ -z "$was_running" ] || start_host
	echo "$name saved as $2 in $(since "$started")"
}

cmd_restore() {
	local started=$EPOCHREALTIME
	known_host "${1:-}"
	[ -e "$dir/disks/snapshot-${2:-}.img" ] || die "host '$name' has no snapshot '${2:-}'"
	lock "$cgroup"
	cgroup_remove
	copy_disk "snapshot-$2" disk
	start_host
	echo "$name restored to $2 in $(since "$started")"
}

cmd_down() {
	local host
	[ -n "${1:-}" ] || die "down: missing name of the host, or --all" 2
	if [ "$1" != --all ]; then
		[ -d "$lab_dir" ] || return 0
		(down_host "$1")
	else
		for host in $(ls "$lab_dir/hosts" 2>/dev/null); do
			(down_host "$host") || exit
		done
	fi
	down_lab "$1"
}

down_host() { # NAME
	use_host "$1"
	lock "$cgroup"
	stop_forwards
	cgroup_remove
	flock -w 10 "$dir/run" true 2>/dev/null || true
	throw_away_host
	write_hosts
}

# throw_away_host moves the host's folder away at once and deletes it in the
# background, because freeing the blocks of a large disk image takes seconds on a busy disk.
throw_away_host() {
	[ -d "$dir" ] || return 0
	[ ! -L "$dir/disks" ] || rm -rf "$(readlink "$dir/disks")"
	mkdir -p "$cache/trash"
	mv "$dir" "$(mktemp -d "$cache/trash/XXXXXX")"
	setsid --fork rm -rf "$cache/trash" {lock_fd}>&- </dev/null >/dev/null 2>&1
}

down_lab() { # NAME|--all: removes the network with the last host
	[ -d "$lab_dir" ] || return 0
	lock "$id"
	if [ "$1" = --all ] || [ -z "$(ls -A "$lab_dir/hosts" 2>/dev/null)" ]; then
		net_down
		rm -rf "$lab_dir"
	fi
}

cmd_list() {
	local host sep='' json=${1:-}
	[ "$json" != --json ] || printf '['
	for host in $(host_names); do
		use_host "$host"
		if [ "$json" = --json ]; then
			printf '%s{"name":"%s","state":"%s","ip":"%s","pid":%s,"diskBytes":%s,"snapshots":[%s]}' "$sep" "$name" \
				"$(state)" "$(cat "$dir/ip")" "$(leader || echo 0)" "$(disk_bytes)" "$(snapshots '"' ,)"
			sep=,
		else
			printf '%-16s %-8s %-14s %6s %s\n' "$name" "$(state)" "$(cat "$dir/ip")" \
				"$(numfmt --to=iec "$(disk_bytes)")" "$(snapshots '' ' ')"
		fi
	done
	[ "$json" != --json ] || echo ']'
}

state() { if is_running; then echo running; elif [ -e "$dir/ready" ]; then echo stopped; else echo broken; fi; }
disk_bytes() { echo $(($(stat -c '%b * %B' "$dir/disks/disk.img" 2>/dev/null || echo 0))); }

snapshots() { # QUOTE SEPARATOR
	local file sep=''
	for file in "$dir"/disks/snapshot-*.img; do
		[ -e "$file" ] || continue
		file=$(basename "$file" .img)
		printf '%s%s%s%s' "$sep" "$1" "${file#snapshot-}" "$1"
		sep=$2
	done
}
