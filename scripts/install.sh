#!/usr/bin/env bash
# Installs @NAME@ on this host: downloads the installer for this CPU architecture, verifies it, and runs
#   plinth install --source @URL@/linux-ARCH [FLAGS]
# Usage: curl -fsSL @URL@/install.sh | sudo bash -s -- [flags of plinth install]
#
# The whole script is one command in braces. bash runs nothing before it has read the last brace, so
# a truncated download does nothing.
{
set -euo pipefail

# Filled in by `plinth publish`.
base='@URL@'      # where this script comes from
sums='@SUMS@'     # SHA-256 and name of the installer for each CPU architecture
public_key='@KEY@'  # PEM; empty if the release is not signed

target=${PLINTH_INSTALL_DIR:-/usr/local/bin}/plinth
staged= # temporary path of the installer
work=   # temporary folder for the other downloads
dry=    # set if the flags ask for no change

main() {
	local arch file want
	case " $* " in *" --plan "* | *" --plan="* | *" --help "* | *" -h "*) dry=yes ;; esac
	[ "$(uname -s)" = Linux ] || die 2 "it requires Linux, this is $(uname -s)" "run it on a Linux host"
	[ "$(id -u)" = 0 ] || die 2 "it must run as root" "run it again with sudo: curl -fsSL $base/install.sh | sudo bash -s --"
	case $(uname -m) in
	x86_64 | amd64) arch=amd64 ;;
	aarch64 | arm64) arch=arm64 ;;
	*) arch=$(uname -m) ;;
	esac
	file=plinth-linux-$arch
	want=$(sum_of "$file" <<<"$sums")
	[ -n "$want" ] || die 6 "$base has no installer for $arch" "ask the vendor for one; available: $(names <<<"$sums")"
	case $base in
	https://*) ;;
	http://127.0.0.1[:/]* | http://localhost[:/]*) ;; # this host
	*) die 6 "$base does not use https" "ask the vendor for an https URL" ;;
	esac

	# Downloaded to its final folder, because it runs from there and /tmp may be mounted noexec.
	mkdir -p "$(dirname "$target")"
	staged=$(mktemp "$target.XXXXXX")
	if [ -n "$public_key" ]; then check_signature "$file" "$want"; fi
	if [ "$(sum_of_file "$target")" = "$want" ]; then
		cp "$target" "$staged"
	else
		download "$file" "$want"
	fi
	chmod 0755 "$staged"
	export PLINTH_INSTALL_COMMAND="curl -fsSL $base/install.sh | sudo bash -s --" # shown as the next command after --plan
	run install --source "$base/linux-$arch" "$@"
}

# download downloads the installer. It resumes after a broken connection, and fails if the content is wrong twice.
download() { # FILE SHA256
	local try wrong=0 got failed
	for try in 1 2 3 4 5; do
		failed=0
		get "$base/$1" "$staged" || failed=$?
		if [ "$failed" = 33 ]; then # curl: the server does not support ranges
			: >"$staged"
		elif [ "$failed" = 0 ]; then
			got=$(sum_of_file "$staged")
			[ "$got" != "$2" ] || return 0
			wrong=$((wrong + 1))
			[ "$wrong" -lt 2 ] || die 6 "$base/$1 has the SHA-256 $got, expected is $2" "tell the vendor; nothing on this host was changed"
			: >"$staged"
		fi
		[ "$try" = 5 ] || sleep "$try"
	done
	die 6 "$base/$1 cannot be fetched" "check the network and proxy settings, then run the same command again"
}

# get downloads URL to OUT and resumes after the content that OUT already has.
get() { # URL OUT
	local tls=(--proto '=https' --proto-redir '=https' --tlsv1.2)
	case $1 in http://*) tls=(--proto '=http' --proto-redir '=https') ;; esac
	if command -v curl >/dev/null; then
		curl -fsSL "${tls[@]}" --connect-timeout 20 --speed-limit 1024 --speed-time 30 -C - -o "$2" "$1"
	elif command -v wget >/dev/null; then
		# Without --no-config, the wgetrc of the user could disable the certificate checks.
		wget -q --no-config --tries=1 --timeout=30 -c -O "$2" "$1"
	else
		die 2 "neither curl nor wget is installed" "install one of them"
	fi
}

# get_small is get for a file of up to 1 MiB: the download ends where it is longer.
get_small() ( # URL OUT
	ulimit -f 1024
	get "$@"
)

# check_signature verifies that the checksum of the installer is signed with the vendor's key.
check_signature() { # FILE SHA256
	local ok=
	command -v openssl >/dev/null || die 6 "the signature cannot be verified: openssl is not installed" "install openssl, then run the same command again"
	work=$(mktemp -d)
	printf '%s\n' "$public_key" >"$work/key.pem"
	if get_small "$base/SHA256SUMS" "$work/sums" && get_small "$base/SHA256SUMS.sig" "$work/sig"; then
		if openssl dgst -sha256 -verify "$work/key.pem" -signature "$work/sig" "$work/sums" >/dev/null 2>&1 &&
			[ "$(sum_of "$1" <"$work/sums")" = "$2" ]; then ok=yes; else ok=no; fi
	fi
	case $ok in
	yes) ;;
	no) die 6 "$base/SHA256SUMS is not signed by the vendor's key, or has another checksum of $1" "tell the vendor; nothing on this host was changed" ;;
	*) die 6 "$base/SHA256SUMS and its signature cannot be fetched" "check the network and proxy settings, then run the same command again" ;;
	esac
}

# run starts the installer with the terminal as standard input, if there is one: the standard input of bash is this script.
run() {
	if [ -t 2 ] && { : </dev/tty; } 2>/dev/null; then
		"$staged" "$@" </dev/tty
	else
		"$staged" "$@" </dev/null
	fi
}

# finish removes the temporary files. It keeps the installer only if it changed this host, where it is
# needed to resume or reset.
# shellcheck disable=SC2317 # a trap calls it
finish() {
	local code=$?
	[ -z "$work" ] || rm -rf "$work"
	[ -n "$staged" ] || return 0
	if [ -s "$staged" ] && [ -x "$staged" ] && changed "$code"; then
		mv -f "$staged" "$target"
	else
		rm -f "$staged"
	fi
}

# changed reports whether an install that ended with CODE changed this host. After an interrupt or an internal
# error that is not known: the installer then only fills the place of a missing one.
# shellcheck disable=SC2317 # a trap calls it
changed() { # CODE
	local installed=/etc/systemd/system/k0scontroller.service
	case $1 in
	7) ;;
	0) [ -z "$dry" ] && [ -e "$installed" ] ;;
	[2-9]) false ;;
	*) [ ! -e "$target" ] && [ -e "$installed" ] ;;
	esac
}

sum_of() { # FILE; checksums on standard input
	local sum name
	while read -r sum name; do
		if [ "$name" = "$1" ]; then echo "$sum"; fi
	done
}

names() { # checksums on standard input
	local sum name
	while read -r sum name; do
		case $name in plinth-*) printf '%s ' "${name#plinth-linux-}" ;; esac
	done
}

sum_of_file() { # FILE; prints nothing if it does not exist
	if [ -f "$1" ]; then sha256sum <"$1" | { read -r sum _ && echo "$sum"; }; fi
}

die() { # CODE CAUSE HINT
	printf 'cannot install @NAME@: %s\n→ %s\n' "$2" "$3" >&2
	exit "$1"
}

trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
main "$@"
exit
}
