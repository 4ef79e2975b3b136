package checks

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	hp "github.com/plinthdev/plinth/hostpreflight"
	"github.com/plinthdev/plinth/internal/facts"
)

// diskChecks returns the checks of every path in Requirements.WritePaths. The sizes
// are those of the caller, not estimates.
func diskChecks() []hp.Check {
	return []hp.Check{
		{ID: "disk-space", Group: "Disk", Title: "Free space", Severity: hp.Fail,
			Expected:  "enough space on each file system for everything that will be written there, according to the bundle's index",
			Rationale: "an install that runs out of space halfway leaves a broken host.",
			Run:       checkEachVolume(facts.Disk.FileSystem, checkDiskSpace)},
		{ID: "disk-eviction", Group: "Disk", Title: "Free space for kubelet", Severity: hp.Fail,
			Expected:  "at least 15 % free after the install on the file systems of images and pods (or kubelet's configured threshold); warns below 5 points more",
			Rationale: "kubelet evicts pods and deletes images when less than 15 % of the image file system is free (the Kubernetes default).",
			Run:       checkEachVolume(facts.Disk.FileSystem, checkEviction)},
		{ID: "disk-inodes", Group: "Disk", Title: "Free inodes", Severity: hp.Fail,
			Expected:  "at least 5 % free on the file systems of images and pods; warns below 10 %",
			Rationale: "kubelet evicts pods when less than 5 % is free (the Kubernetes default).",
			Run:       checkEachVolume(facts.Disk.FileSystem, checkInodes)},
		{ID: "disk-mount-options", Group: "Disk", Title: "Mount options", Severity: hp.Fail,
			Expected:  "writable, and not noexec where programs are run from",
			Rationale: "k0s unpacks its programs below its data directory and runs them there.",
			Run:       checkEachVolume(mountPoint, checkMountOptions)},
		{ID: "disk-filesystem", Group: "Disk", Title: "File system type", Severity: hp.Fail,
			Expected:  "ext4, xfs or btrfs for images and pods",
			Rationale: "overlayfs does not work on network, memory, FAT and other overlay file systems; other types are rarely used.",
			Run:       checkEachVolume(facts.Disk.FileSystem, checkFilesystem)},
		{ID: "disk-ftype", Group: "Disk", Title: "XFS ftype", Severity: hp.Fail,
			Expected:  "XFS created with ftype=1 for images and pods",
			Rationale: "overlayfs does not work on XFS without ftype (kernel's overlayfs page); XFS file systems created before 2016 do not have it.",
			Run:       checkEachVolume(facts.Disk.FileSystem, checkFType)},
		{ID: "disk-permissions", Group: "Disk", Title: "Parent directory permissions", Severity: hp.Fail,
			Expected:  "directories above k0s's data that every user can enter (mode o+x)",
			Rationale: "etcd and the API server run as their own users and cannot reach their files otherwise (Embedded Cluster requires it).",
			Run:       checkEachPath(checkDirPermissions)},
		{ID: "disk-symlink", Group: "Disk", Title: "Symbolic links", Severity: hp.Fail, Strict: true,
			Expected:  "no symbolic link in the path of images and pods; a disk that is mounted there, also as a bind mount",
			Rationale: "the kernel lists mounts and programs by their real path, so kubelet, containerd and `plinth reset` would not recognize their own (Embedded Cluster does not allow it either).",
			Run:       checkEachPath(checkSymlink)},
		{ID: "backup-schedule", Group: "Disk", Title: "Schedule of backups", Severity: hp.Fail, Roles: []hp.Role{hp.Controller},
			Expected:  "spec.backup of the Installer: a schedule that this systemd understands, and a folder outside of Plinth's; warns if the folder, or the file with the settings of the object store, does not exist",
			Rationale: "the timer of systemd would not start, or every backup would fail; Plinth does not create the folder, which may be the mount point of a share.",
			Run:       checkBackupSchedule},
		{ID: "snapshot-folder", Group: "Disk", Title: "Folder of snapshots", Severity: hp.Fail, Roles: []hp.Role{hp.Controller}, Verbs: []hp.Verb{hp.Install, hp.Upgrade},
			Expected:  "spec.velero.objectStore.folder of the Installer, or the folder of plinth restore --from: a folder to which only root and its group can write, or none yet",
			Rationale: "users who can write to it could replace what is in it, and snapshots contain the secrets of the cluster.",
			Run:       checkSnapshotFolder},
	}
}

// Programs whose results checkBackupSchedule reads, by their names in the facts.
const (
	runCalendar     = "plinth-backup-calendar"
	runBackupFolder = "plinth-backup-folder"
	runBackupEnv    = "plinth-backup-env"
)

// backupRuns returns the programs for checkBackupSchedule.
func backupRuns(req hp.Requirements) (runs []facts.CommandKey) {
	const limit = 5 * time.Second // a share may not answer
	b := req.Backup
	if b.Calendar == "" || req.IsWorker() {
		return nil
	}
	runs = append(runs, facts.CommandKey{Name: runCalendar, Argv: []string{"systemd-analyze", "calendar", b.Calendar}, Timeout: limit})
	if b.Folder != "" {
		runs = append(runs, facts.CommandKey{Name: runBackupFolder, Argv: []string{"test", "-d", b.Folder}, Timeout: limit})
	}
	if b.EnvFile != "" {
		runs = append(runs, facts.CommandKey{Name: runBackupEnv, Argv: []string{"test", "-f", b.EnvFile}, Timeout: limit})
	}
	return runs
}

func checkBackupSchedule(f facts.Facts, req hp.Requirements) hp.Result {
	b := req.Backup
	if b.Calendar == "" {
		return hp.Skip("install", "the Installer has no schedule")
	}
	if b.Folder == b.DataDir || strings.HasPrefix(b.Folder, b.DataDir+"/") {
		return hp.Failed("change spec.backup.to in the Installer, or --data-dir", "%s is in %s, which a reset removes", b.Folder, b.DataDir)
	}
	result := func(name string) (facts.CommandResult, string) {
		i := slices.IndexFunc(f.Runs, func(r facts.CommandResult) bool { return r.Name == name })
		if i < 0 {
			return facts.CommandResult{}, cmp.Or(f.UnknownReason(facts.FactRun+":"+name), "it was not checked")
		}
		return f.Runs[i], ""
	}
	calendar, why := result(runCalendar)
	switch {
	case why != "":
		return hp.Undetermined("systemd-analyze: " + why)
	case calendar.Code != 0 && !strings.Contains(calendar.Error, "calendar specification"): // an older one does not know the command
		return hp.Undetermined("systemd-analyze: " + calendar.Error)
	case calendar.Code != 0:
		return hp.Failed("change spec.backup.schedule in the Installer", "systemd does not accept the schedule %q: %s", b.Calendar, calendar.Error)
	}
	if b.Folder != "" {
		folder, why := result(runBackupFolder)
		if why != "" {
			return hp.Undetermined(b.Folder + ": " + why)
		}
		if folder.Code != 0 {
			return hp.Warned("sudo mkdir -p "+b.Folder+"; for a share, mount it first, and create the folder in it", "%s is not a folder, or does not answer: backups will fail", b.Folder)
		}
	}
	if b.EnvFile != "" {
		file, why := result(runBackupEnv)
		if why != "" {
			return hp.Undetermined(b.EnvFile + ": " + why)
		}
		if file.Code != 0 {
			return hp.Warned("write it, with mode 0600: AWS_ENDPOINT_URL=…, AWS_ACCESS_KEY_ID=…, AWS_SECRET_ACCESS_KEY=…", "%s with the settings of the object store is missing: backups will fail", b.EnvFile)
		}
	}
	return hp.Passed("%s", b.Calendar)
}

// volume is one file system, or one mount of it, and the paths on it that the install
// writes to.
type volume struct {
	facts.Disk
	paths []hp.WritePath
}

// requiredBytes returns the sum of all that will be written to v.
func (v volume) requiredBytes() (sum uint64) {
	for _, d := range v.paths {
		sum += d.Bytes
	}
	return sum
}

func (v volume) anyPath(is func(hp.WritePath) bool) bool { return slices.ContainsFunc(v.paths, is) }

func holdsPods(d hp.WritePath) bool { return d.Pods }

func (v volume) String() string { return fmt.Sprintf("%s (%s)", v.Mount, v.FSType) }

// mountPoint identifies one mount: the options of two mounts of one file system may
// differ.
func mountPoint(d facts.Disk) string { return d.Mount }

// checkEachVolume returns a check that calls check for every volume that the install
// writes to and returns the worst result. Paths with the same identity are one volume:
// two paths on one file system need the sum of their sizes. check returns false when it
// does not apply.
func checkEachVolume(identity func(facts.Disk) string, check func(volume, hp.Requirements) (hp.Result, bool)) func(facts.Facts, hp.Requirements) hp.Result {
	return func(f facts.Facts, req hp.Requirements) hp.Result {
		var all []hp.Result
		var volumes []volume
		for _, d := range req.WritePaths {
			have, ok := f.Disk(d.Path)
			if !ok {
				all = append(all, hp.Undetermined(d.Path+": "+unknownDiskReason(f, d.Path)))
				continue
			}
			i := slices.IndexFunc(volumes, func(v volume) bool { return identity(v.Disk) == identity(have) })
			if i < 0 {
				i, volumes = len(volumes), append(volumes, volume{Disk: have})
			}
			volumes[i].paths = append(volumes[i].paths, d)
		}
		for _, v := range volumes {
			if r, ok := check(v, req); ok {
				all = append(all, r)
			}
		}
		return worstOrPassed(all)
	}
}

// checkEachPath returns a check that calls check for every path that the install
// writes to and returns the worst result. check returns false when it does not apply.
func checkEachPath(check func(facts.Disk, hp.WritePath, hp.Requirements) (hp.Result, bool)) func(facts.Facts, hp.Requirements) hp.Result {
	return func(f facts.Facts, req hp.Requirements) hp.Result {
		var all []hp.Result
		for _, d := range req.WritePaths {
			have, ok := f.Disk(d.Path)
			if !ok {
				all = append(all, hp.Undetermined(d.Path+": "+unknownDiskReason(f, d.Path)))
			} else if r, ok := check(have, d, req); ok {
				all = append(all, r)
			}
		}
		return worstOrPassed(all)
	}
}

// unknownDiskReason returns why f contains no facts about the disk of path.
func unknownDiskReason(f facts.Facts, path string) string {
	if why := f.UnknownReason(facts.FactDisk + ":" + path); why != "" {
		return why
	}
	return "it was not checked"
}

// worstOrPassed returns the worst result, or a pass when all is empty.
func worstOrPassed(all []hp.Result) hp.Result {
	if len(all) == 0 {
		return hp.Passed("no path that this check applies to")
	}
	return hp.WorstResult(all)
}

func checkDiskSpace(v volume, _ hp.Requirements) (hp.Result, bool) {
	need := v.requiredBytes()
	if v.Available >= need {
		return hp.Passed("%s: %s free, %s needed", v, hp.FormatBytes(v.Available), hp.FormatBytes(need)), true
	}
	var parts []string
	for _, d := range v.paths {
		if d.Bytes > 0 {
			parts = append(parts, fmt.Sprintf("%s for %s (%s)", hp.FormatBytes(d.Bytes), d.Path, d.Purpose))
		}
	}
	return hp.Failed(freeSpaceFix(v), "%s: %s free, %s needed: %s", v, hp.FormatBytes(v.Available), hp.FormatBytes(need), strings.Join(parts, ", ")), true
}

// freeSpaceFix returns how to find what uses the space of v.
func freeSpaceFix(v volume) string {
	return fmt.Sprintf("free space (sudo du -xh -d2 %s | sort -h | tail shows what uses it) or use a larger disk", v.Mount)
}

func checkEviction(v volume, req hp.Requirements) (hp.Result, bool) {
	if !v.anyPath(holdsPods) || v.Size == 0 {
		return hp.Result{}, false
	}
	limit := float64(req.EvictBelow)
	if req.EvictBelow == 0 {
		limit = 15
	}
	after := float64(v.Available) - float64(v.requiredBytes())
	share := max(0, after*100/float64(v.Size))
	found := fmt.Sprintf("%s: %.1f %% of %s will be free", v, share, hp.FormatBytes(v.Size))
	switch {
	case share < limit:
		return hp.Failed(freeSpaceFix(v), "%s", found).WithExpected("at least %.0f %%, or kubelet evicts pods and deletes images", limit), true
	case share < limit+5:
		return hp.Warned(freeSpaceFix(v), "%s, close to the %.0f %% below which kubelet evicts pods", found, limit), true
	}
	return hp.Passed("%s", found), true
}

func checkInodes(v volume, _ hp.Requirements) (hp.Result, bool) {
	if !v.anyPath(holdsPods) || v.Inodes == 0 { // btrfs and some others have no fixed number
		return hp.Result{}, false
	}
	share := float64(v.InodesFree) * 100 / float64(v.Inodes)
	found := fmt.Sprintf("%s: %.0f %% free", v, share)
	const fix = "delete small files that are not needed, or use a file system with more inodes"
	switch {
	case share < 5:
		return hp.Failed(fix, "%s", found), true
	case share < 10:
		return hp.Warned(fix, "%s", found), true
	}
	return hp.Passed("%s", found), true
}

func checkMountOptions(v volume, _ hp.Requirements) (hp.Result, bool) {
	has := func(o string) bool { return slices.Contains(v.Options, o) }
	switch {
	case has("ro"):
		return hp.Failed("sudo mount -o remount,rw "+v.Mount, "%s is mounted read-only", v), true
	case has("noexec") && v.anyPath(func(d hp.WritePath) bool { return d.Exec }):
		return hp.Failed("sudo mount -o remount,exec "+v.Mount+", and remove noexec from /etc/fstab", "%s is mounted noexec", v), true
	}
	return hp.Passed("%s writable", v.Mount), true
}

func checkFilesystem(v volume, _ hp.Requirements) (hp.Result, bool) {
	if !v.anyPath(holdsPods) {
		return hp.Result{}, false
	}
	const fix = "use a disk with ext4 or xfs"
	switch t := v.FSType; {
	case slices.Contains([]string{"ext4", "xfs", "btrfs"}, t):
		return hp.Passed("%s", v), true
	case strings.HasPrefix(t, "nfs"), strings.HasPrefix(t, "fuse"), slices.Contains(
		[]string{"cifs", "smb3", "9p", "overlay", "tmpfs", "ramfs", "vfat", "exfat", "ntfs", "ntfs3", "squashfs", "erofs"}, t):
		return hp.Failed(fix, "%s cannot hold container images", v), true
	}
	return hp.Warned(fix, "%s is not known to work for container images", v), true
}

func checkFType(v volume, _ hp.Requirements) (hp.Result, bool) {
	switch {
	case !v.anyPath(holdsPods):
		return hp.Result{}, false
	case v.FSType != "xfs":
		return hp.Passed("%s does not need it", v), true
	case v.FType == "":
		return hp.Undetermined(v.String() + " does not report its ftype"), true
	case v.FType == "0":
		return hp.Failed("use a disk formatted with: mkfs.xfs -n ftype=1 (ftype cannot be changed later)", "%s has ftype=0", v), true
	}
	return hp.Passed("%s has ftype=1", v), true
}

func checkDirPermissions(have facts.Disk, d hp.WritePath, _ hp.Requirements) (hp.Result, bool) {
	switch {
	case !d.Pods:
		return hp.Result{}, false
	case have.Closed != "":
		return hp.Failed("sudo chmod o+x "+have.Closed, "%s, a parent directory of %s, can be entered only by its owner and group", have.Closed, d.Path), true
	}
	return hp.Passed("all parent directories of %s can be entered", d.Path), true
}

func checkSymlink(have facts.Disk, d hp.WritePath, req hp.Requirements) (hp.Result, bool) {
	switch {
	case !d.Pods:
		return hp.Result{}, false
	case have.Symlink == "":
		return hp.Passed("none in the path of %s", d.Path), true
	}
	line := fmt.Sprintf("echo '%s %s none bind 0 0' | sudo tee -a /etc/fstab", have.Target, have.Symlink)
	fix := fmt.Sprintf("mount the disk at %s itself, or replace the link with a bind mount: %s, then in a rescue system remove the link and create a folder in its place", have.Symlink, line)
	if slices.ContainsFunc(req.WritePaths, func(w hp.WritePath) bool { return w.Pods && w.Path == have.Symlink }) { // nothing else uses it
		fix = fmt.Sprintf("sudo rm %[1]s && sudo mkdir -p %[1]s %[2]s\n%[3]s\nsudo mount %[1]s", have.Symlink, have.Target, line)
	}
	return hp.Failed(fix, "%s is a symbolic link to %s", have.Symlink, have.Target), true
}
