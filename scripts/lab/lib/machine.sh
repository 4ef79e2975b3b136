# shellcheck shell=bash
# The machine that runs the lab: tools, the lab's state folder, locks and cgroups.

die() { # MESSAGE [EXIT]
	echo "lab: $1" >&2
	exit "${2:-1}"
}

check_name() { # WHAT NAME: a short DNS label, so that it fits cgroups, namespaces and host names
	[[ $2 =~ ^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$ ]] ||
		die "$1 name '$2' must have 1 to 30 letters a-z, digits and dashes" 2
}

use_lab() { # LAB: sets the globals that every command uses
	[ "$(id -u)" = 0 ] || die "must run as root" 2
	check_name lab "$1"
	lab=$1
	cache=${PLINTH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/plinth}/lab
	lab_dir=$cache/labs/$lab
	# The names of cgroups and namespaces also depend on the state folder, because two state folders can
	# contain labs with the same name.
	id=lab-$lab-$(printf %s "$lab_dir" | sha256sum | cut -c1-4)
}

use_host() { # NAME: sets the globals of one host
	check_name host "${1:-}"
	name=$1
	dir=$lab_dir/hosts/$name
	cgroup=$id-$name
}

known_host() { # NAME: use_host, for commands that require an existing host
	use_host "${1:-}"
	[ -e "$dir/ip" ] || die "no host '$name' in lab '$lab'"
}

# lock locks a name on this machine until the (sub)shell ends. Background processes
# must close $lock_fd. Lock files are never removed, because that would be a race.
lock() { # NAME
	mkdir -p /run/lock/plinth-lab
	exec {lock_fd}>"/run/lock/plinth-lab/$1"
	flock "$lock_fd"
}

need_machine_packages() {
	local wanted missing=()
	while read -r wanted package; do
		case $wanted in '#'* | '') continue ;; esac
		command -v "$wanted" >/dev/null || [ -e "$wanted" ] || missing+=("$package")
	done <"$here/packages-machine"
	[ ${#missing[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "install these first: ${missing[*]}"
	echo "lab: installing ${missing[*]}" >&2
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends "${missing[@]}"; } >&2 </dev/null || die "cannot install ${missing[*]}"
}

# Several systemds, kubelets and containerds need more than the kernel's default of 128 instances,
# which all root processes of a machine share. This is the only setting of the machine that the lab changes.
need_inotify() {
	local f=/proc/sys/fs/inotify/max_user_instances
	[ "$(cat $f)" -ge 1024 ] || echo 1024 >$f
}

cgroup_mounts() { findmnt -rno TARGET -t cgroup,cgroup2 | sort -u; }

# cgroup_enter moves the calling process to the host's cgroup in every hierarchy,
# v1 and v2. nspawn boots the host below it, so that the host sees only its own cgroups.
cgroup_enter() {
	local mount
	for mount in $(cgroup_mounts); do
		mkdir -p "$mount/$cgroup"
		if [ -e "$mount/cgroup.subtree_control" ]; then
			cgroup2_delegate "$mount"
		elif [ -e "$mount/cpuset.cpus" ]; then # v1: a new cpuset is empty and accepts no process
			cat "$mount/cpuset.cpus" >"$mount/$cgroup/cpuset.cpus"
			cat "$mount/cpuset.mems" >"$mount/$cgroup/cpuset.mems"
		fi
		cgroup_limit "$mount/$cgroup"
		echo "$BASHPID" >"$mount/$cgroup/cgroup.procs"
	done
}

cgroup2_delegate() { # MOUNT
	local controller
	for controller in $(cat "$1/cgroup.controllers"); do
		echo "+$controller" >"$1/cgroup.subtree_control" 2>/dev/null || true
	done
}

# cgroup_limit sets the limits of `up --cpus` and `--memory`, and the CPU weight of several
# processes. With the weight of a single process, a host would starve during a build.
cgroup_limit() { # FOLDER
	local file
	[ ! -e "$1/cpu.shares" ] || echo 8192 >"$1/cpu.shares"
	[ ! -e "$1/cpu.weight" ] || echo 800 >"$1/cpu.weight"
	if [ -e "$dir/cpus" ] && [ -e "$1/cpuset.cpus" ]; then
		echo "0-$(($(cat "$dir/cpus") - 1))" >"$1/cpuset.cpus"
	fi
	for file in memory.limit_in_bytes memory.max; do
		[ ! -e "$dir/memory" ] || [ ! -e "$1/$file" ] || cat "$dir/memory" >"$1/$file"
	done
}

cgroup_pids() {
	local mount
	for mount in $(cgroup_mounts); do
		find "$mount/$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null || true
	done | sort -un
}

# cgroup_remove kills all processes of a host and removes its cgroups. It finds the
# processes by cgroup and not by a stored pid, so it never kills another process.
cgroup_remove() {
	local mount pids tries
	for ((tries = 0; tries < 100; tries++)); do
		pids=$(cgroup_pids)
		# shellcheck disable=SC2086
		[ -z "$pids" ] || kill -KILL $pids 2>/dev/null || true
		for mount in $(cgroup_mounts); do
			find "$mount/$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
		done
		compgen -G "/sys/fs/cgroup/*/$cgroup" >/dev/null || [ -e "/sys/fs/cgroup/$cgroup" ] || return 0
		sleep 0.1
	done
	die "cannot remove the cgroups $cgroup: remaining processes: $(cgroup_pids | tr '\n' ' ')"
}
