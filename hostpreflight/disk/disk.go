// Package disk owns the checks of every path that an install writes to. It
// refuses rules of thumb: what will be written is told by the caller.
package disk

import (
	"fmt"
	"slices"
	"strings"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// Checks are those of all paths in Want.Disks.
func Checks() []hp.Check {
	return []hp.Check{
		{ID: "disk-space", Group: "Disk", Title: "Free space", Severity: hp.Fail,
			Wants: "room on each file system for all that will be written there, by the bundle's own index",
			Why:   "an install that runs out of space half-way leaves a broken host.",
			Run:   perMount(space)},
		{ID: "disk-eviction", Group: "Disk", Title: "Free share", Severity: hp.Fail,
			Wants: "after the install at least 15 % free where images and pods live (or what kubelet is configured to), warns below 5 points more",
			Why:   "kubelet evicts pods and deletes images when less than 15 % of the image file system is free (Kubernetes's default).",
			Run:   perMount(eviction)},
		{ID: "disk-inodes", Group: "Disk", Title: "Free inodes", Severity: hp.Fail,
			Wants: "at least 5 % free where images and pods live, warns below 10 %",
			Why:   "kubelet evicts pods when less than 5 % is free (Kubernetes's default).",
			Run:   perMount(inodes)},
		{ID: "disk-mount-options", Group: "Disk", Title: "Mount options", Severity: hp.Fail,
			Wants: "writable, and no noexec where programs run from",
			Why:   "k0s unpacks its programs below its data folder and runs them there.",
			Run:   perMount(mountOptions)},
		{ID: "disk-filesystem", Group: "Disk", Title: "File system type", Severity: hp.Fail,
			Wants: "ext4, xfs or btrfs where images and pods live",
			Why:   "overlay cannot stand on network, memory, FAT and other overlay file systems; others are rare.",
			Run:   perMount(filesystem)},
		{ID: "disk-ftype", Group: "Disk", Title: "Types in folders", Severity: hp.Fail,
			Wants: "an XFS that was made with ftype=1, where images and pods live",
			Why:   "overlay does not work on one without (kernel's overlayfs page); those made before 2016 have none.",
			Run:   perMount(ftype)},
		{ID: "disk-permissions", Group: "Disk", Title: "Folders on the way", Severity: hp.Fail,
			Wants: "folders above k0s's data that every user may pass",
			Why:   "etcd and the API server run as users of their own and do not reach their files otherwise (Embedded Cluster asks for it).",
			Run:   perPath(permissions)},
		{ID: "disk-symlink", Group: "Disk", Title: "Symbolic links", Severity: hp.Warn,
			Wants: "no symbolic link on the way to where images and pods live",
			Why:   "kubelet and containerd see different paths for the same file; Embedded Cluster refuses it.",
			Run:   perPath(symlink)},
	}
}

// volume is one file system and the wanted paths that lie on it.
type volume struct {
	facts.Disk
	wants []hp.Disk
}

func (v volume) need() (sum uint64) {
	for _, d := range v.wants {
		sum += d.Bytes
	}
	return sum
}

func (v volume) any(is func(hp.Disk) bool) bool { return slices.ContainsFunc(v.wants, is) }

func pods(d hp.Disk) bool { return d.Pods }

func (v volume) String() string { return fmt.Sprintf("%s (%s)", v.Mount, v.FSType) }

// perMount asks about every file system that wanted paths lie on: two folders
// on one disk need the sum.
func perMount(ask func(volume, hp.Want) (hp.Result, bool)) func(facts.Facts, hp.Want) hp.Result {
	return func(f facts.Facts, w hp.Want) hp.Result {
		var all []hp.Result
		var volumes []volume
		for _, d := range w.Disks {
			have, ok := f.Disk(d.Path)
			if !ok {
				all = append(all, hp.CannotTell(d.Path+": "+whyNot(f, d.Path)))
				continue
			}
			i := slices.IndexFunc(volumes, func(v volume) bool { return v.Mount == have.Mount })
			if i < 0 {
				i, volumes = len(volumes), append(volumes, volume{Disk: have})
			}
			volumes[i].wants = append(volumes[i].wants, d)
		}
		for _, v := range volumes {
			if r, ok := ask(v, w); ok {
				all = append(all, r)
			}
		}
		return orNothing(all)
	}
}

// perPath asks about every wanted path.
func perPath(ask func(facts.Disk, hp.Disk) (hp.Result, bool)) func(facts.Facts, hp.Want) hp.Result {
	return func(f facts.Facts, w hp.Want) hp.Result {
		var all []hp.Result
		for _, d := range w.Disks {
			have, ok := f.Disk(d.Path)
			if !ok {
				all = append(all, hp.CannotTell(d.Path+": "+whyNot(f, d.Path)))
			} else if r, ok := ask(have, d); ok {
				all = append(all, r)
			}
		}
		return orNothing(all)
	}
}

func whyNot(f facts.Facts, path string) string {
	if why := f.Why(facts.FactDisk + ":" + path); why != "" {
		return why
	}
	return "it was not looked at"
}

func orNothing(all []hp.Result) hp.Result {
	if len(all) == 0 {
		return hp.Passed("nothing is written where it matters")
	}
	return hp.Worst(all)
}

func space(v volume, _ hp.Want) (hp.Result, bool) {
	need := v.need()
	if v.Available >= need {
		return hp.Passed("%s: %s free, %s needed", v, hp.Bytes(v.Available), hp.Bytes(need)), true
	}
	var parts []string
	for _, d := range v.wants {
		if d.Bytes > 0 {
			parts = append(parts, fmt.Sprintf("%s for %s (%s)", hp.Bytes(d.Bytes), d.Path, d.Use))
		}
	}
	return hp.Failed(roomFix(v), "%s: %s free, %s needed: %s", v, hp.Bytes(v.Available), hp.Bytes(need), strings.Join(parts, ", ")), true
}

// roomFix is how to find what fills a disk.
func roomFix(v volume) string {
	return fmt.Sprintf("make room (sudo du -xh -d2 %s | sort -h | tail shows what takes it) or put a larger disk there", v.Mount)
}

func eviction(v volume, w hp.Want) (hp.Result, bool) {
	if !v.any(pods) || v.Size == 0 {
		return hp.Result{}, false
	}
	limit := float64(w.EvictBelow)
	if w.EvictBelow == 0 {
		limit = 15
	}
	after := float64(v.Available) - float64(v.need())
	share := max(0, after*100/float64(v.Size))
	found := fmt.Sprintf("%s: %.1f %% of %s will be free", v, share, hp.Bytes(v.Size))
	switch {
	case share < limit:
		return hp.Failed(roomFix(v), "%s", found).Wanting("at least %.0f %%, or kubelet evicts pods and deletes images", limit), true
	case share < limit+5:
		return hp.Warned(roomFix(v), "%s, close to the %.0f %% below which kubelet evicts pods", found, limit), true
	}
	return hp.Passed("%s", found), true
}

func inodes(v volume, _ hp.Want) (hp.Result, bool) {
	if !v.any(pods) || v.Inodes == 0 { // btrfs and others have no fixed number
		return hp.Result{}, false
	}
	share := float64(v.InodesFree) * 100 / float64(v.Inodes)
	found := fmt.Sprintf("%s: %.0f %% free", v, share)
	const fix = "delete small files that nobody needs, or use a file system with more inodes"
	switch {
	case share < 5:
		return hp.Failed(fix, "%s", found), true
	case share < 10:
		return hp.Warned(fix, "%s", found), true
	}
	return hp.Passed("%s", found), true
}

func mountOptions(v volume, _ hp.Want) (hp.Result, bool) {
	has := func(o string) bool { return slices.Contains(v.Options, o) }
	switch {
	case has("ro"):
		return hp.Failed("sudo mount -o remount,rw "+v.Mount, "%s is mounted read-only", v), true
	case has("noexec") && v.any(func(d hp.Disk) bool { return d.Exec }):
		return hp.Failed("sudo mount -o remount,exec "+v.Mount+", and take noexec out of /etc/fstab", "%s is mounted noexec", v), true
	}
	return hp.Passed("%s writable", v.Mount), true
}

func filesystem(v volume, _ hp.Want) (hp.Result, bool) {
	if !v.any(pods) {
		return hp.Result{}, false
	}
	const fix = "put a disk with ext4 or xfs there"
	switch t := v.FSType; {
	case slices.Contains([]string{"ext4", "xfs", "btrfs"}, t):
		return hp.Passed("%s", v), true
	case strings.HasPrefix(t, "nfs"), strings.HasPrefix(t, "fuse"), slices.Contains(
		[]string{"cifs", "smb3", "9p", "overlay", "tmpfs", "ramfs", "vfat", "exfat", "ntfs", "ntfs3", "squashfs", "erofs"}, t):
		return hp.Failed(fix, "%s cannot hold container images", v), true
	}
	return hp.Warned(fix, "%s is not known to hold container images", v), true
}

func ftype(v volume, _ hp.Want) (hp.Result, bool) {
	switch {
	case !v.any(pods):
		return hp.Result{}, false
	case v.FSType != "xfs":
		return hp.Passed("%s needs none", v), true
	case v.FType == "":
		return hp.CannotTell(v.String() + " does not say"), true
	case v.FType == "0":
		return hp.Failed("put a disk there that is made with: mkfs.xfs -n ftype=1 (it cannot be changed afterwards)", "%s has ftype=0", v), true
	}
	return hp.Passed("%s has ftype=1", v), true
}

func permissions(have facts.Disk, d hp.Disk) (hp.Result, bool) {
	switch {
	case !d.Pods:
		return hp.Result{}, false
	case have.Closed != "":
		return hp.Failed("sudo chmod o+x "+have.Closed, "%s, on the way to %s, is closed to others than its owner and group", have.Closed, d.Path), true
	}
	return hp.Passed("open on the way to %s", d.Path), true
}

func symlink(have facts.Disk, d hp.Disk) (hp.Result, bool) {
	switch {
	case !d.Pods:
		return hp.Result{}, false
	case have.Symlink != "":
		return hp.Warned("mount the disk at the folder itself, instead of the link "+have.Symlink, "%s is a symbolic link", have.Symlink), true
	}
	return hp.Passed("none on the way to %s", d.Path), true
}
