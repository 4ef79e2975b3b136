# shellcheck shell=bash
# The cached roots: a Debian server as one small ext4 image that every new host's disk is a copy of.

use_os() { # OS: sets the global release, the code name
	case $1 in
	debian-11) release=bullseye ;;
	debian-12) release=bookworm ;;
	debian-13) release=trixie ;;
	*) die "unknown operating system '$1': choose debian-11, debian-12 or debian-13" 2 ;;
	esac
}

cmd_root() {
	local os=debian-12
	while [ $# -gt 0 ]; do
		case $1 in
		--os) os=${2:?--os needs a value}; shift 2 ;;
		*) die "root: unknown argument $1" 2 ;;
		esac
	done
	use_os "$os"
	need_machine_packages
	build_root
	root_image
}

# root_image prints the path of the image, which contains a hash of all its inputs, so that an outdated root is never used.
root_image() {
	local key
	key=$({
		echo "$release"
		cat "$here/packages-root" "$here"/rootfs/etc/systemd/system/*
		declare -f make_tree settle_units
	} | sha256sum)
	echo "$cache/roots/${key:0:16}.img"
}

build_root() {
	local image started=$EPOCHREALTIME
	image=$(root_image)
	[ ! -e "$image" ] || return 0
	(
		mkdir -p "$cache/roots/mnt"
		lock "root-$(basename "$image")"
		[ ! -e "$image" ] || exit 0
		echo "lab: building the root of $release (once, a minute or more)" >&2
		# 1 GB is enough for the base system, and resizing it to any size takes 0.1 s.
		rm -f "$image.tmp"
		truncate -s 1G "$image.tmp"
		# No journal, because a host's disk is unmounted even if the host is killed.
		mkfs.ext4 -q -F -m 0 -O ^has_journal -L lab "$image.tmp"
		# In its own mount namespace, so that nothing stays mounted after a failure.
		# Without barriers, the many syncs of dpkg take no time.
		unshare --mount --propagation private "$here/lab" _root "$image.tmp" "$cache/roots/mnt" "$release"
		# Without the unused blocks, which every `up` would copy.
		e2image -ra "$image.tmp" "$image.packed" >/dev/null 2>&1
		rm "$image.tmp"
		mv "$image.packed" "$image"
		echo "lab: root built in $(since "$started")" >&2
	)
}

cmd__root() { # IMAGE MOUNTPOINT RELEASE
	release=$3
	# The machine's mirror of its own release has the other releases too.
	LAB_MIRROR=${LAB_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' \
		'Label: Debian' 2>/dev/null | head -n 1)}
	mount -o loop,barrier=0 "$1" "$2"
	make_tree "$2"
}

since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }'; } # STARTED

make_tree() { # FOLDER
	local mirror include
	# The machine's own mirror. debootstrap has a default for machines without one.
	mirror=${LAB_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' \
		'Origin: Debian' "Codename: $release" 2>/dev/null | head -n 1)}
	include=$(grep -v '^#' "$here/packages-root" | paste -sd,)
	debootstrap --include="$include" "$release" "$1" ${mirror:+"$mirror"} >"$cache/roots/debootstrap.log" 2>&1 </dev/null || {
		tail -n 5 "$cache/roots/debootstrap.log" >&2
		die "cannot build the root, see $cache/roots/debootstrap.log"
	}
	cp -a "$here/rootfs/." "$1/"
	chown -R root:root "$1/etc/systemd/system/lab-host.service"
	rm -rf "$1"/usr/share/{doc,man,locale}/* "$1"/var/cache/apt/*.bin "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1/etc/machine-id" "$1/var/lib/dbus/machine-id"
	echo LANG=C.UTF-8 >"$1/etc/default/locale"
	mkdir -p "$1/var/log/journal"
	settle_units "$1"
}

# settle_units enables lab-host and disables the units that manage hardware, because
# the devices, terminals and clock belong to the machine.
settle_units() { # FOLDER
	systemctl --root="$1" enable lab-host.service 2>/dev/null
	systemctl --root="$1" mask systemd-udevd.service systemd-udev-trigger.service systemd-udevd-kernel.socket \
		systemd-udevd-control.socket console-getty.service getty.target systemd-modules-load.service 2>/dev/null
}
