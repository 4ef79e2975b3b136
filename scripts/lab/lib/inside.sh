# shellcheck shell=bash
# Commands, files and ports of a host.

# enter_command sets the array enter to the command prefix that runs a command in the host like
# a login of root: in the host's namespaces and without the caller's environment.
# The death signals ensure that no command outlives the caller.
enter_command() {
	local pid
	pid=$(leader) || die "host '$name' is not running"
	enter=(setpriv --pdeathsig KILL nsenter -t "$pid" -m -u -i -n -p -C -- setpriv --pdeathsig KILL
		env -i -C /root --default-signal HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
	[ -z "${TERM:-}" ] || enter+=("TERM=$TERM")
}

# join_leader moves the calling process to the cgroups of the host's systemd, so that the limits of the host
# apply and the process ends with the host. Entering the namespaces does not do that.
join_leader() {
	local id controllers path mount mounts pid
	pid=$(leader) || return 0
	mounts=$(cgroup_mounts)
	while IFS=: read -r id controllers path; do
		for mount in $mounts; do
			if [ "${mount##*/}" = "${controllers#name=}" ] ||
				{ [ -z "$controllers" ] && [ -e "$mount/cgroup.controllers" ]; }; then
				echo "$BASHPID" >"$mount$path/cgroup.procs"
			fi
		done
	done <"/proc/$pid/cgroup"
}

in_host() { # NAME CMD…
	(
		use_host "$1"
		enter_command
		join_leader
		exec "${enter[@]}" "${@:2}"
	)
}

cmd_exec() {
	local tty=''
	known_host "${1:-}"
	shift
	if [ "${1:-}" = -t ]; then tty=1; shift; fi
	if [ "${1:-}" = -- ]; then shift; fi
	[ $# -gt 0 ] || die "exec: missing command" 2
	enter_command
	if [ -n "$tty" ]; then
		join_leader
		exec "${enter[@]}" script -qefc "$(printf '%q ' "$@")" /dev/null
	fi
	forward_signals "$@"
}

# forward_signals runs a command in the host, forwards the signals that this process receives,
# and exits with the command's exit code.
forward_signals() {
	local child code=0 signal watch
	(
		join_leader
		exec "${enter[@]}" "$@"
	) <&0 &
	child=$!
	for signal in INT TERM HUP QUIT USR1 USR2; do
		# shellcheck disable=SC2064
		trap "pkill -$signal -P $child || true" "$signal"
	done
	continue_after_end "$child" >/dev/null 2>&1 &
	watch=$!
	# A signal ends `wait` early. A second `wait` after the end of the child still returns its exit code.
	while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
	wait "$child" || code=$?
	kill "$watch" 2>/dev/null || true
	exit "$code"
}

# continue_after_end continues an nsenter that has stopped itself together with its command, once the command has
# ended. A host that shuts down stops all processes before it kills them.
continue_after_end() { # PID
	while sleep 2 && kill -0 "$1"; do
		if [ "$(ps -o state= -p "$1")" = T ] && ! ps -o state= --ppid "$1" | grep -qv Z; then kill -CONT "$1"; fi
	done
}

cmd_shell() {
	cmd_exec "${1:-}" -t -- bash -l
}

cmd_cp() {
	local from=${1:-} to=${2:-} source target
	[ -n "$from" ] && [ -n "$to" ] || die "cp: usage: cp SRC DST, one of them NAME:PATH" 2
	source=$(path_of "$from") target=$(path_of "$to")
	at "$from" test -e "$source" || die "cp: $from does not exist"
	if at "$from" test -d "$source"; then
		if at "$to" test -d "$target"; then target=$target/$(basename "$source"); fi
		at "$from" tar -C "$source" -cSf - . | at "$to" sh -c 'mkdir -p "$1" && tar -C "$1" -xf -' sh "$target"
	else
		at "$from" tar -C "$(dirname "$source")" -cSf - -- "$(basename "$source")" |
			at "$to" sh -c "$receive_file" sh "$target" "$(basename "$source")"
	fi
}

# A file is copied next to its target and renamed, so that a running program can be replaced.
# shellcheck disable=SC2016
receive_file='set -e
if [ -d "$1" ]; then set -- "$1/$2" "$2"; fi
tmp=$(mktemp -d "$(dirname "$1")/.lab-cp.XXXXXX")
trap "rm -rf \"$tmp\"" EXIT
tar -C "$tmp" --no-same-owner -xf -
mv -fT "$tmp/$2" "$1"'

# As with scp, NAME:PATH is a path in a host, unless there is a slash before the colon.
is_remote() { [[ $1 =~ ^[^/]+: ]]; }                                      # NAME:PATH|PATH
path_of() { if is_remote "$1"; then echo "${1#*:}"; else echo "$1"; fi; } # NAME:PATH|PATH

at() { # NAME:PATH|PATH CMD…: runs CMD on the side that the first argument names
	if is_remote "$1"; then
		(known_host "${1%%:*}") && in_host "${1%%:*}" "${@:2}"
	else
		"${@:2}"
	fi
}

cmd_ip() {
	known_host "${1:-}"
	cat "$dir/ip"
}

cmd_forward() {
	local port=${2:?forward: missing port} local_port pid
	local_port=${3:-$port}
	known_host "${1:-}"
	mkdir -p "$dir/forwards"
	setsid socat "TCP4-LISTEN:$local_port,bind=127.0.0.1,fork,reuseaddr" "TCP4:$(cat "$dir/ip"):$port" \
		</dev/null >>"$dir/console.log" 2>&1 &
	pid=$!
	sleep 0.2
	kill -0 "$pid" 2>/dev/null || die "cannot listen on 127.0.0.1:$local_port: $(tail -n 1 "$dir/console.log")"
	echo "$pid" >"$dir/forwards/$local_port"
	echo "127.0.0.1:$local_port"
}

stop_forwards() {
	local file pid
	for file in "$dir"/forwards/*; do
		[ -e "$file" ] || continue
		pid=$(cat "$file")
		if grep -qsz "TCP4-LISTEN:$(basename "$file")," "/proc/$pid/cmdline"; then kill "$pid" || true; fi
	done
}
