package cleanup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/plinthdev/plinth/internal/firewall"
	"github.com/plinthdev/plinth/internal/host"
)

// Files that load the kernel's modules and settings at boot.
const (
	ModulesFile = "/etc/modules-load.d/plinth.conf"
	SysctlFile  = "/etc/sysctl.d/90-plinth.conf"
)

// NetnsDir is the folder of named network namespaces.
const NetnsDir = "/run/netns"

const unitDir = "/etc/systemd/system"

// AgentUnit is the systemd unit of Plinth's agent.
const AgentUnit = "plinth-agent.service"

// The systemd units that back the control plane up on a schedule, and the file in which systemd stores when it has last done so.
const (
	BackupTimer   = "plinth-backup.timer"
	BackupService = "plinth-backup.service"
	BackupStamp   = "/var/lib/systemd/timers/stamp-" + BackupTimer
)

// FirewallUnit adds the cluster's rules to the packet filter at boot, on hosts whose rules no program manages. It is the last to
// stop: until then, the cluster needs them.
const FirewallUnit = "plinth-firewall.service"

// UnitNames returns the names of the units that `k0s install` creates and of those of Plinth.
func UnitNames() []string {
	return append(append([]string{BackupTimer, BackupService, AgentUnit}, K0sUnitNames()...), FirewallUnit)
}

// K0sUnitNames returns the names of the units that `k0s install` creates.
func K0sUnitNames() []string { return []string{"k0scontroller.service", "k0sworker.service"} }

// ownPaths returns every file and folder that belongs to the cluster as a whole, except for what
// existed in it before the install.
func (f Finder) ownPaths() []string {
	all := []string{f.ConfigDir, f.DataDir, f.KubeletDir, f.RunDir,
		"/etc/cni/net.d/10-kuberouter.conflist", "/etc/cni/net.d/.tmp-kuberouter-cfg", // kube-router's init container
		"/var/lib/cni/networks/" + f.CNINetwork, "/usr/libexec/k0s", ModulesFile, SysctlFile, BackupStamp, firewall.ScriptPath}
	for _, unit := range UnitNames() {
		all = append(all, path.Join(unitDir, unit), path.Join(unitDir, unit+".d"))
	}
	if f.Cautious {
		return append(all, f.ExtraPaths...)
	}
	all = append(all, "/var/log/pods", "/var/log/containers", "/run/xtables.lock")
	for _, plugin := range []string{"bandwidth", "bridge", "host-local", "loopback", "portmap"} { // k0s's cni-node image
		all = append(all, path.Join("/opt/cni/bin", plugin))
	}
	return append(all, f.ExtraPaths...)
}

// sharedDirs returns the cluster's configuration folders, in which an administrator may put files
// too. Only files that are known to belong to the cluster are removed from them.
func (f Finder) sharedDirs() []string {
	all := []string{f.ConfigDir}
	for _, unit := range UnitNames() {
		all = append(all, path.Join(unitDir, unit+".d"))
	}
	return all
}

// parentDirs returns the folders that other software uses too. The cluster's entries in them are
// removed by name; the folder is removed if the cluster created it and it is empty. Each folder is
// listed after the folders in it.
func (f Finder) parentDirs() []string {
	return []string{"/etc/cni/net.d", "/etc/cni", "/opt/cni/bin", "/opt/cni",
		"/var/lib/cni/networks", "/var/lib/cni/results", "/var/lib/cni", "/usr/libexec", NetnsDir,
		"/run/containerd/runc/k8s.io", "/run/containerd/runc", "/run/containerd/s", "/run/containerd",
		"/opt/containerd/bin", "/opt/containerd/lib", "/opt/containerd",
		"/lib/modules"} // mounted into kube-router, created if missing
}

// InspectedPaths returns every file and folder that the search inspects.
func (f Finder) InspectedPaths() []string {
	return append(append(f.ownPaths(), f.parentDirs()...), unitDir, path.Dir(ModulesFile), path.Dir(SysctlFile))
}

// OwnsPath reports whether p is, or is in, a file or folder that belongs to the cluster, and did
// not exist before the install.
func (f Finder) OwnsPath(p string) bool {
	if f.Before.HadPath(p) || slices.Contains(f.sharedDirs(), path.Dir(p)) || slices.Contains(f.sharedDirs(), p) {
		return false
	}
	return slices.ContainsFunc(f.ownPaths(), func(root string) bool { return IsWithin(p, root) })
}

// removalPlan is the changes that remove the files of the cluster.
type removalPlan struct {
	remove  []string // removed completely; links are not followed
	restore []string // restored from Before
	prune   []string // folders that are empty after the removal
	foreign []string // files of other owners in a shared folder; not removed
}

// planRemoval returns what there is to remove and to restore. It changes nothing.
func (f Finder) planRemoval() (removalPlan, error) {
	var s removalPlan
	table, err := f.MountTable()
	if err != nil {
		return s, err
	}
	var points []string
	for i, m := range table {
		if f.isHostMount(table[:i], m) {
			points = append(points, m.Point)
		}
	}
	for _, p := range append(f.ownPaths(), f.findCNIResults()...) {
		if err := f.planPath(&s, points, p); err != nil {
			return s, err
		}
	}
	s.remove = append(f.findRuncState(), s.remove...) // first: the run folder is needed to find them
	if f.Before == nil {
		return s, nil
	}
	for p := range f.Before.Paths {
		if f.mayRestore(p) && f.hasChanged(p) {
			s.restore = append(s.restore, p)
		}
	}
	slices.Sort(s.restore)
	for _, dir := range f.parentDirs() {
		list, err := f.ReadDir(dir)
		if err != nil || f.Before.HadPath(dir) {
			continue
		}
		isRemoved := func(e fs.DirEntry) bool {
			p := path.Join(dir, e.Name())
			return slices.Contains(s.remove, p) || slices.Contains(s.prune, p)
		}
		mounted := slices.ContainsFunc(table, func(m Mount) bool { return m.Point == dir })
		if !mounted && !slices.ContainsFunc(list, func(e fs.DirEntry) bool { return !isRemoved(e) }) {
			s.prune = append(s.prune, dir)
		}
	}
	return s, nil
}

// planPath adds p to s, or those parts of it that belong to the cluster. A folder that existed
// before, a mount point of the host's owner, and a folder that contains one are emptied but not
// removed.
func (f Finder) planPath(s *removalPlan, points []string, p string) error {
	info, err := f.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if slices.Contains(f.sharedDirs(), p) && len(f.WrittenPaths) > 0 {
		f.planSharedDir(s, p)
		return nil
	}
	stays := slices.ContainsFunc(points, func(m string) bool { return IsWithin(m, p) }) || f.Before.HadPath(p)
	if !stays {
		s.remove = append(s.remove, p)
		return nil
	}
	if !info.IsDir() {
		return nil
	}
	for _, e := range readEntries(f, p) {
		// Every ext file system has this folder; it does not belong to the cluster.
		if e.Name() == "lost+found" && slices.Contains(points, p) {
			continue
		}
		if err := f.planPath(s, points, path.Join(p, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// planSharedDir adds to s those entries of a shared folder that belong to the cluster: what steps
// wrote, the temporary files of interrupted writes, and the folder itself if it contains nothing
// else. It reports whether the folder is removed.
func (f Finder) planSharedDir(s *removalPlan, dir string) (removed bool) {
	removed = !f.Before.HadPath(dir)
	var inside []string
	for _, e := range readEntries(f, dir) {
		p := path.Join(dir, e.Name())
		isWritten := func(m string) bool { return IsWithin(p, m) || p == host.TempPath(m) }
		isParent := func(m string) bool { return IsWithin(m, p) }
		switch {
		case f.Before.HadPath(p) && !e.IsDir():
			removed = false
		case !f.Before.HadPath(p) && slices.ContainsFunc(f.WrittenPaths, isWritten):
			inside = append(inside, p)
		case e.IsDir() && (f.Before.HadPath(p) || slices.ContainsFunc(f.WrittenPaths, isParent)):
			sub := removalPlan{}
			if f.planSharedDir(&sub, p) {
				inside = append(inside, p)
				continue
			}
			removed = false
			inside = append(inside, sub.remove...)
			s.foreign = append(s.foreign, sub.foreign...)
		default:
			removed = false
			s.foreign = append(s.foreign, p)
		}
	}
	if removed {
		inside = []string{dir}
	}
	s.remove = append(s.remove, inside...)
	return removed
}

// ForeignFiles returns the files that were added to the configuration folders since the install and
// do not belong to the cluster. They are not removed.
func (f Finder) ForeignFiles() ([]string, error) {
	s, err := f.planRemoval()
	return slices.DeleteFunc(s.foreign, f.Before.HadPath), err
}

// findCNIResults returns the CNI library's records of pods in the cluster's network,
// "<network>-<container>-<interface>", and containerd's records of loopback interfaces.
func (f Finder) findCNIResults() []string {
	const dir = "/var/lib/cni/results"
	var all []string
	for _, e := range readEntries(f, dir) {
		if strings.HasPrefix(e.Name(), f.CNINetwork+"-") || strings.HasPrefix(e.Name(), "cni-loopback-") {
			all = append(all, path.Join(dir, e.Name()))
		}
	}
	return all
}

// findRuncState returns the files of runc and of the shims of this cluster's containerd in folders
// that all containerds on a host share. The state of runc contains the path of the container's
// bundle; if runc ended before it wrote the state, the bundle itself exists. The socket of a shim
// is named by the hash of the address of its containerd, the namespace and the pod (containerd 1.7,
// runtime/v2/shim).
func (f Finder) findRuncState() []string {
	const states, sockets, namespace = "/run/containerd/runc/k8s.io", "/run/containerd/s", "k8s.io"
	bundles := path.Join(f.RunDir, "containerd/io.containerd.runtime.v2.task", namespace)
	var ids []string
	for _, e := range readEntries(f, bundles) {
		ids = append(ids, e.Name())
	}
	for _, e := range readEntries(f, states) {
		state, err := f.ReadFile(path.Join(states, e.Name(), "state.json"))
		if err == nil && (bytes.Contains(state, []byte(`"`+f.RunDir+"/")) || bytes.Contains(state, []byte("="+f.RunDir+"/"))) {
			ids = append(ids, e.Name())
		}
	}
	slices.Sort(ids)
	var all []string
	for _, id := range slices.Compact(ids) {
		hash := sha256.Sum256([]byte(path.Join(f.RunDir, "containerd.sock", namespace, id)))
		// The socket, one per pod, not per container, is removed first: the state is needed to find it.
		for _, p := range []string{path.Join(sockets, hex.EncodeToString(hash[:])), path.Join(states, id)} {
			if _, err := f.Lstat(p); err == nil {
				all = append(all, p)
			}
		}
	}
	return all
}

// readEntries returns the entries of a folder, or nil if the folder cannot be read; in that case
// its removal fails later.
func readEntries(files host.Files, dir string) []fs.DirEntry {
	list, _ := files.ReadDir(dir)
	return list
}

// mayRestore reports whether the cluster changes or removes p: its own files, and CNI
// configurations, which kube-router's init container deletes when its own is missing. Any other
// path that changed since the install was changed by others.
func (f Finder) mayRestore(p string) bool {
	was := f.Before.Paths[p]
	if !was.HasContent && was.BackupPath == "" && !was.Mode.IsDir() {
		return false
	}
	return path.Dir(p) == "/etc/cni/net.d" && path.Ext(p) == ".conf" ||
		slices.ContainsFunc(f.ownPaths(), func(root string) bool { return IsWithin(p, root) })
}

// FilesID is the id of the kind FilesKind.
const FilesID = "files"

// FilesKind returns the cluster's files and folders.
func FilesKind(f Finder) Kind { return Kind{FilesID, "Remove files", f.findFiles, f.removeFiles} }

func (f Finder) findFiles(context.Context) ([]string, error) {
	s, err := f.planRemoval()
	all := slices.Concat(s.remove, s.prune)
	for _, p := range s.restore {
		all = append(all, p+" (restore the previous version)")
	}
	return all, err
}

// removeEmptyDir removes the folder dir, unless something was put into it since the search.
func (f Finder) removeEmptyDir(dir string) error {
	if list, err := f.ReadDir(dir); err != nil || len(list) > 0 {
		return err
	}
	return f.RemoveAll(dir)
}

// removeFiles removes and restores the files. It does not remove a folder in which something that
// the cluster mounted is still mounted, because the mounted files may be user data.
func (f Finder) removeFiles(ctx context.Context) error {
	s, err := f.planRemoval()
	if err != nil {
		return err
	}
	mounted, err := f.ClusterMounts()
	if err != nil {
		return err
	}
	units := false
	err = ForEach(s.remove, func(p string) error {
		if i := slices.IndexFunc(mounted, func(m string) bool { return IsWithin(m, p) }); i >= 0 {
			return errors.New("cannot remove " + p + ": " + mounted[i] + " is still mounted")
		}
		units = units || IsWithin(p, unitDir)
		return f.RemoveAll(p)
	})
	errs := []error{err,
		ForEach(s.restore, func(p string) error { return f.restorePath(ctx, p) }),
		ForEach(s.prune, f.removeEmptyDir)}
	if units {
		errs = append(errs, f.Execute(ctx, "systemctl", "daemon-reload"))
	}
	return errors.Join(errs...)
}
